"""Redis lost or rolled back: the stock is loaded anew from the database, and sells no more than there are."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

from django.db import OperationalError, connection
from django.utils import timezone

from coupons import failures, issuing, loading, modes, reconciling
from coupons.locks import locked_event
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.reconciling import look, reconcile, reconcile_all
from coupons.stock import keys
from coupons.stock.codes import ReserveCode
from coupons.stock.store import StockStore
from events import services as sales
from events.models import Event
from notifications.models import Notification
from tests.factories import make_event, make_user, make_users
from tests.sales import (
    NOBODY,
    assert_sold_out_exactly,
    assert_sum,
    back_up,
    lose,
    make_due,
    reserve,
    roll_back,
)

Sale = Callable[..., Event]
Kind = Reconciliation.Kind


# Missing and rolled back ----------------------------------------------------------------------------------------------


def test_a_sale_that_redis_lost_is_loaded_again_in_a_new_epoch(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(3)
    reserve(store, event, *users[:2])
    issuing.issue_claims(event.id, store)
    lose(store)
    (row,) = reconcile(event.id, store)
    event.refresh_from_db()
    assert (row.kind, row.expected, row.found) == (Kind.MISSING_EVENT, 1, 0)
    assert row.mended_at is not None
    assert row.detail == {"stock": 8, "epoch": 2, "lost": 0, "sequence_found": 0}
    snapshot = store.snapshot(event.id)
    assert (event.epoch, snapshot.epoch, snapshot.stock, snapshot.sequence) == (2, 2, 8, 2)
    answer = store.reserve(event.id, epoch=2, claims=[(users[0], "")]).reservations[0]
    assert (answer.code, answer.epoch, answer.sequence) == (ReserveCode.ALREADY_CLAIMED, 1, 1)
    assert reserve(store, event, users[2])[0].entry_id == "2-3"
    assert_sum(store, event)


def test_the_live_sales_that_redis_lost_are_all_loaded_and_no_others(sale: Sale, store: StockStore) -> None:
    published, paused, closed, over = sale(), sale(), sale(), sale()
    sales.pause(event_id=paused.id)
    sales.close(event_id=closed.id)
    Event.objects.filter(pk=over.id).update(closes_at=timezone.now())
    lose(store)
    assert look(store).reconcile == [published.id, paused.id]
    reconcile_all(store)
    assert store.snapshot(paused.id).status == "paused"
    assert not store.snapshot(closed.id).loaded
    assert not store.snapshot(over.id).loaded
    assert look(store).reconcile == []


def test_a_sale_that_cannot_be_loaded_does_not_keep_the_others_from_it(sale: Sale, store: StockStore) -> None:
    bad, good = sale(), sale()
    lose(store)
    load = loading.load

    def refused(event: Event, store: StockStore) -> loading.Loaded:
        if event.id == bad.id:
            raise OperationalError
        return load(event, store)

    with patch.object(reconciling, "load", refused):
        reconcile_all(store)
    assert store.snapshot(good.id).loaded
    assert look(store).reconcile == [bad.id]
    reconcile_all(store)
    assert_sum(store, good)
    assert_sum(store, bad)


def test_a_sale_that_is_being_loaded_is_not_asked_for_again(sale: Sale, store: StockStore) -> None:
    event = sale()
    lose(store)
    with ThreadPoolExecutor(1) as elsewhere, locked_event(event.id):
        assert elsewhere.submit(look_and_leave, store).result(10).reconcile == []
    assert look(store).reconcile == [event.id]


def test_a_redis_that_can_be_read_and_not_written_stops_no_other_sale(sale: Sale, store: StockStore) -> None:
    from_database, waiting = sale(), sale()
    reserve(store, waiting, *make_users(1))
    assert modes.fall_back(from_database.id, epoch=1)
    store.client.config_set("min-replicas-to-write", 1)
    try:
        due = look(store)
    finally:
        store.client.config_set("min-replicas-to-write", 0)
    assert (due.away, due.drain) == ([from_database.id], [waiting.id])
    look(store)
    assert not store.snapshot(from_database.id).loaded


def look_and_leave(store: StockStore) -> reconciling.Due:
    try:
        return look(store)
    finally:
        connection.close()


def test_a_redis_that_was_rolled_back_is_loaded_again_at_once(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(5)
    reserve(store, event, users[0])
    issuing.issue_claims(event.id, store)
    back_up(store, event)
    reserve(store, event, *users[1:4])
    issuing.issue_claims(event.id, store)
    roll_back(store, event)
    assert store.snapshot(event.id).stock == 9
    (row,) = reconcile(event.id, store)
    assert (row.kind, row.detail["sequence_found"]) == (Kind.ROLLED_BACK, 1)
    assert_sum(store, event)
    assert store.snapshot(event.id).claimants == 4
    assert reserve(store, event, users[4])[0].entry_id == "2-5"


def test_a_rolled_back_redis_sells_no_more_than_there_are(sale: Sale, store: StockStore) -> None:
    """P1 and P2, with nobody reconciling until all has been claimed again."""
    event, users = sale(quantity=4), make_users(8)
    back_up(store, event)
    reserve(store, event, *users[:4])
    issuing.issue_claims(event.id, store)
    roll_back(store, event)
    reserve(store, event, *users[2:6])
    for _ in range(4):
        issuing.issue_claims(event.id, store)
        make_due(event)
    assert Coupon.objects.count() == 4
    assert Coupon.objects.values("user").distinct().count() == 4
    reconcile(event.id, store)
    for _ in range(2):
        reconcile(event.id, store)
    assert_sum(store, event)


def test_a_claim_to_be_tried_again_is_rejected_when_redis_lost_its_log_entry(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    reserve(store, event, NOBODY)
    issuing.issue_claims(event.id, store)
    lose(store)
    reconcile(event.id, store)
    failed = FailedClaim.objects.get()
    assert (failed.status, failed.reason, failed.next_attempt_at) == ("rejected", "lost", None)
    assert_sum(store, event)


def test_a_claim_to_be_tried_again_lives_through_a_load_that_finds_its_log_entry(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    reserve(store, event, NOBODY)
    issuing.issue_claims(event.id, store)
    store.unload(event.id)
    reconcile(event.id, store)
    assert FailedClaim.objects.get().status == "retrying"
    assert store.snapshot(event.id).backlog == 1
    assert_sum(store, event)


def test_however_many_claims_were_lost_each_is_told_once_page_by_page(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=12), make_users(5)
    retried = [entry.sequence for entry in reserve(store, event, *range(NOBODY - 5, NOBODY))]
    issuing.issue_claims(event.id, store)
    ghosts = [entry.sequence for entry in reserve(store, event, *users)]
    store.client.delete(keys.log(event.id), keys.state(event.id))
    with patch.object(loading, "PAGE", 2), patch.object(failures, "PAGE", 2):
        (row,) = reconcile(event.id, store)
    assert row.detail["lost"] == 10
    told = FailedClaim.objects.order_by("sequence").values_list("sequence", "status", "reason")
    assert list(told) == [(one, "rejected", "lost") for one in (*retried, *ghosts)]
    assert Notification.objects.filter(kind="claim_rejected").count() == 5, "the users who exist"
    assert_sum(store, event)


def test_a_load_that_redis_has_and_the_database_does_not_is_done_again(sale: Sale, store: StockStore) -> None:
    """The process ended between the load and its commit."""
    event, user = sale(quantity=10), make_user()
    reserve(store, event, user.pk)
    store.client.hset(keys.state(event.id), "epoch", 2)
    (row,) = reconcile(event.id, store)
    assert row.kind == Kind.ROLLED_BACK
    event.refresh_from_db()
    assert (event.epoch, store.snapshot(event.id).epoch) == (3, 3)  # behind both, for the claim log's sake
    assert_sum(store, event)


def test_a_database_restored_to_an_older_load_goes_on_behind_the_claim_log(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5)
    for _ in range(2):  # two loads that the database is about to forget
        store.unload(event.id)
        reconcile(event.id, store)
    later = Event.objects.get(pk=event.id).epoch
    store.reserve(event.id, epoch=later, claims=[(make_user().id, "")])
    Event.objects.filter(pk=event.id).update(epoch=event.epoch)

    reconcile(event.id, store)

    now = Event.objects.get(pk=event.id).epoch
    assert now == later + 1
    reply = store.reserve(event.id, epoch=now, claims=[(make_user().id, "")])
    assert reply.reservations[0].code is ReserveCode.ACCEPTED
    assert issuing.issue_claims(event.id, store) == 2


def test_a_draft_has_no_stock_and_gets_none(store: StockStore, transactional_db: None) -> None:
    draft = make_event()
    assert reconcile(draft.id, store) == []
    assert not store.snapshot(draft.id).loaded


def test_claims_of_an_older_load_are_honoured(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=3), make_users(4)
    reserve(store, event, *users[:2])
    store.unload(event.id)
    reconcile(event.id, store)
    assert store.snapshot(event.id).stock == 1
    reserve(store, event, users[2])
    assert [entry.entry_id for entry in store.read_log(event.id, count=9)] == ["1-1", "1-2", "2-3"]
    assert issuing.issue_claims(event.id, store) == 3
    assert_sold_out_exactly(store, event)
