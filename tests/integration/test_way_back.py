"""A sale that had lost Redis comes back from the database, with all that was accepted on either side."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from coupons import modes, services
from coupons.locks import locked_event
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.reconciling import look, reconcile
from coupons.stock.codes import ReserveCode
from coupons.stock.records import Snapshot
from coupons.stock.store import StockStore
from events import services as sales
from events.catalogue import catalogue
from events.errors import Unavailable
from events.models import Event
from notifications.models import Notification
from tests.api_kit import Caller
from tests.factories import make_user, make_users
from tests.outages import no_redis, redis_is_due
from tests.sales import assert_sum, reserve

Sale = Callable[..., Event]
Mode = Event.StockMode


def test_what_redis_had_accepted_is_issued_when_it_is_back(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(6)
    reserve(store, event, *users[:3])
    modes.fall_back(event.id, epoch=1)
    catalogue.refresh()
    for user in users[3:5]:
        services.claim(event_id=event.id, user_id=user)
    redis_is_due(event)
    assert look(store).bring_back == [event.id]
    modes.sell_from_redis(event.id, store)
    event.refresh_from_db()
    assert (event.stock_mode, event.fell_back_at, event.epoch, event.issued) == (Mode.REDIS, None, 3, 5)
    assert_sum(store, event)
    row = Reconciliation.objects.get()
    assert row.mended_at is not None
    assert row.detail == {"stock": 5, "epoch": 3, "lost": 0, "honoured": 3, "rejected": 0}
    assert reserve(store, event, users[5])[0].epoch == 3
    assert look(store).bring_back == []


class BroughtBackMeanwhile(StockStore):
    """The sale is brought back after the look has read its mode, and before it looks at Redis."""

    def snapshots(self, event_ids: Sequence[int]) -> dict[int, Snapshot | None]:
        """The stock, as it is by then."""
        for event_id in event_ids:
            modes.sell_from_redis(event_id, self)
        return super().snapshots(event_ids)


def test_a_look_that_has_not_heard_that_a_sale_is_back_leaves_its_stock(
    fallen: Callable[..., Event], store: StockStore
) -> None:
    event = fallen(quantity=5)
    look(BroughtBackMeanwhile(store.client))
    event.refresh_from_db()
    snapshot = store.snapshot(event.id)
    assert (event.stock_mode, snapshot.epoch, snapshot.stock) == (Mode.REDIS, event.epoch, 5)


def test_a_look_leaves_the_stock_to_who_holds_the_lock(fallen: Callable[..., Event], store: StockStore) -> None:
    event = fallen()

    def look_elsewhere() -> None:
        try:
            look(store)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as elsewhere, locked_event(event.id):
        elsewhere.submit(look_elsewhere).result(10)
    assert store.snapshot(event.id).loaded, "it may be one that was loaded just now"
    look(store)
    assert not store.snapshot(event.id).loaded


def test_a_sale_that_is_brought_back_twice_keeps_its_stock(fallen: Callable[..., Event], store: StockStore) -> None:
    """The sweep comes every second, and asks again while the first worker is on the way."""
    event = fallen(quantity=5)
    for _ in range(2):
        modes.sell_from_redis(event.id, store)
    assert_sum(store, event)
    assert (event.epoch, store.snapshot(event.id).epoch) == (3, 3)


def test_a_sale_that_was_closed_in_an_outage_is_not_brought_back(
    fallen: Callable[..., Event], store: StockStore
) -> None:
    event = fallen(quantity=5)
    assert store.reserve(event.id, epoch=1, claims=[(make_user().pk, "")]).reservations[0].code is ReserveCode.ACCEPTED
    redis_is_due(event)
    sales.close(event_id=event.id)
    found = look(store)
    assert (found.bring_back, found.drain) == ([], [event.id])


def test_what_redis_had_accepted_and_the_database_sold_to_others_is_rejected_and_told(
    sale: Sale, store: StockStore
) -> None:
    event, users = sale(quantity=4), make_users(7)
    early, late = users[:3], users[3:]
    reserve(store, event, *early)
    modes.fall_back(event.id, epoch=1)
    catalogue.refresh()
    for user in late[:3]:
        services.claim(event_id=event.id, user_id=user)
    modes.sell_from_redis(event.id, store)
    event.refresh_from_db()
    assert event.issued == Coupon.objects.count() == 4
    failed = FailedClaim.objects.order_by("sequence")
    assert [(one.user_id, one.status, one.reason) for one in failed] == [
        (early[1], "rejected", "outage"),
        (early[2], "rejected", "outage"),
    ]
    assert Notification.objects.filter(kind="claim_rejected").count() == 2
    assert Reconciliation.objects.get().detail["rejected"] == 2
    snapshot = store.snapshot(event.id)
    assert (snapshot.stock, snapshot.backlog, snapshot.claimants) == (0, 0, 4)
    assert reconcile(event.id, store) == []


def test_a_user_who_claimed_in_both_has_one_coupon(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=5), make_user()
    reserve(store, event, user.pk)
    modes.fall_back(event.id, epoch=1)
    catalogue.refresh()
    services.claim(event_id=event.id, user_id=user.pk)
    modes.sell_from_redis(event.id, store)
    assert Coupon.objects.get().epoch == 2
    assert FailedClaim.objects.get().reason == "already_claimed"
    assert_sum(store, event)


def test_a_request_of_the_outage_gets_its_first_answer_from_redis_afterwards(
    fallen: Callable[..., Event], store: StockStore
) -> None:
    event, caller = fallen(quantity=5), Caller(make_user())
    first = caller.claim(event.id, key="a").json()
    modes.sell_from_redis(event.id, store)
    catalogue.refresh()
    again = caller.claim(event.id, key="a").json()
    assert (again["id"], again["sequence"]) == (first["id"], first["sequence"])


def test_a_sale_stays_in_the_database_while_redis_does_not_answer(
    fallen: Callable[..., Event], store: StockStore
) -> None:
    event = fallen()
    redis_is_due(event)
    with no_redis(), pytest.raises(Unavailable):
        sales.sell_from(event_id=event.id, mode=Mode.REDIS)
    event.refresh_from_db()
    assert event.stock_mode == Mode.DATABASE
    assert reconcile(event.id, store) == [], "a sale from the database has nothing in Redis to compare"


def test_a_redis_that_comes_and_goes_is_tried_ever_more_seldom(fallen: Callable[..., Event]) -> None:
    event = fallen()
    for outages, seconds in ((1, 5), (2, 10), (4, 40), (12, 300)):
        Reconciliation.objects.all().delete()
        for _ in range(outages):
            Reconciliation.objects.create(event=event, kind="outage", seen_at=timezone.now())
        event.fell_back_at = timezone.now() - timedelta(seconds=seconds - 1)
        assert not modes.due_back(event)
        event.fell_back_at = timezone.now() - timedelta(seconds=seconds)
        assert modes.due_back(event)
