"""Confirmations, cancellations and the end of the time at once: exactly one of them wins, and no unit is lost."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from unittest.mock import Mock, patch

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from coupons import claimants, holds, reconciling, services
from coupons.errors import AlreadyConfirmed, HoldCancelled, HoldExpired
from coupons.issuing import issue_claims
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.stock.store import StockStore
from events.errors import Refusal
from events.models import Event
from tests.concurrency.test_negative_controls import rebuilt
from tests.concurrency.test_rush_on_one_event import at_once
from tests.factories import make_users
from tests.sales import assert_sum
from tests.stock_kit import UnguardedStore, without_guard

Sale = Callable[..., Event]
ENDED = (AlreadyConfirmed, HoldCancelled, HoldExpired)
BUSY = OperationalError  # there are fewer connections than threads


def hold_all(event: Event, users: list[int], store: StockStore) -> list[str]:
    names = [str(services.claim(event_id=event.id, user_id=user).claim.id) for user in users]
    issue_claims(event.id, store)
    return names


def assert_accounted(event: Event, store: StockStore) -> None:
    assert_sum(store, event)
    assert event.held == Coupon.objects.filter(event=event, status="held").count()
    assert not FailedClaim.objects.filter(to_return=True).exists()


def race(event: Event, name: str, store: StockStore) -> list[str]:
    """Fifty who would decide what becomes of one hold; who of them say that they did."""
    won: list[str] = []

    def confirm() -> None:
        with suppress(*ENDED, BUSY):
            holds.confirm(event_id=event.id, claim_id=name)
            won.append("confirmed")

    def cancel(reason: holds.Cancellation) -> Callable[[], None]:
        def run() -> None:
            with suppress(*ENDED, BUSY):
                won.append(str(holds.cancel(event_id=event.id, claim_id=name, reason=reason).reason))

        return run

    def expire() -> None:
        with suppress(BUSY):
            holds.release_due(event.id, store)

    works = [confirm] * 20 + [cancel("cancelled")] * 10 + [cancel("payment_failed")] * 10 + [expire] * 10
    random.Random(name).shuffle(works)
    at_once(works)
    return won


def test_of_fifty_who_decide_on_one_hold_exactly_one_wins(sale: Sale, store: StockStore) -> None:
    event, (user,) = sale(hold_seconds=60, quantity=1), make_users(1)
    (name,) = hold_all(event, [user], store)
    # It runs out while they race.
    Coupon.objects.update(held_until=timezone.now() + timedelta(seconds=0.03))
    won = race(event, name, store)
    holds.release_due(event.id, store)
    ends = set(won)
    assert len(ends) <= 1, Counter(won)
    issued = Coupon.objects.filter(status="issued").count()
    reasons = list(FailedClaim.objects.values_list("reason", flat=True))
    assert issued + len(reasons) == 1, "one end, whichever"
    assert ends <= ({"confirmed"} if issued else set(reasons))
    assert_accounted(event, store)
    assert store.snapshot(event.id).stock == len(reasons)


def test_without_the_lock_and_its_guard_a_unit_is_both_issued_and_on_sale(sale: Sale, store: StockStore) -> None:
    """The control: a confirmation that has looked before the cancellation, and writes after it."""
    event, (user,) = sale(hold_seconds=60, quantity=1), make_users(1)
    (name,) = hold_all(event, [user], store)
    looked = holds._units(holds._parse(event.id, name))
    holds.cancel(event_id=event.id, claim_id=name)
    with (
        patch.object(holds, "_units", return_value=looked),
        pytest.raises(HoldExpired),
    ):
        holds.confirm(event_id=event.id, claim_id=name)  # its one statement finds it gone
    Coupon.objects.bulk_create([Coupon(**values) for values in _values(looked)])
    event.refresh_from_db()
    assert (event.issued, Coupon.objects.count(), store.snapshot(event.id).stock) == (0, 1, 1)


def _values(coupons: list[Coupon]) -> list[dict[str, object]]:
    """What a confirmation without any guard would write."""
    names = ("event_id", "user_id", "ordinal", "code", "epoch", "sequence", "claimed_at", "issued_at")
    return [{name: getattr(one, name) for name in names} for one in coupons]


def test_a_rush_on_few_units_that_come_and_go_ends_with_all_of_them_confirmed(sale: Sale, store: StockStore) -> None:
    """Everybody claims until they have one or all are gone for good; half of the holds end otherwise."""
    event, users = sale(hold_seconds=60, quantity=10, rate_per_second=1000, burst=1000), make_users(25)
    done = threading.Event()
    ends: Counter[str] = Counter()

    def customer(user: int) -> Callable[[], None]:
        chance = random.Random(user)

        def run() -> None:
            name = ""
            while not done.wait(0.02):
                with suppress(Refusal, BUSY):
                    name = name or str(services.claim(event_id=event.id, user_id=user).claim.id)
                    if chance.random() < 0.5:
                        ends[str(holds.cancel(event_id=event.id, claim_id=name).reason)] += 1
                        name = ""
                    else:
                        holds.confirm(event_id=event.id, claim_id=name)
                        ends["confirmed"] += 1
                        return
                connection.close()  # there are fewer than customers

        return run

    def worker() -> None:
        for _ in range(1000):
            with suppress(BUSY):
                issue_claims(event.id, store)
                holds.release_due(event.id, store)
                reconciling.reconcile(event.id, store)
            if Coupon.objects.filter(event=event, status="issued").count() == event.quantity:
                break
        done.set()

    at_once([worker, *(customer(user) for user in users)])
    assert ends["confirmed"] == event.quantity
    assert FailedClaim.objects.filter(reason="cancelled").count() == ends["cancelled"] > 0
    assert_accounted(event, store)
    assert (event.issued, event.held, store.snapshot(event.id).stock) == (10, 0, 0)
    mended = Reconciliation.objects.exclude(mended_at=None)
    assert not mended.exists(), "what is under way is no drift"


# P9, and its controls -------------------------------------------------------------------------------------------------


def cancelled_and_not_given_back(event: Event, store: StockStore) -> None:
    """A crash between the database and Redis."""
    (name,) = hold_all(event, make_users(1), store)
    with patch.object(holds, "_give_back_now"):
        holds.cancel(event_id=event.id, claim_id=name)


def reconcile_twice(event: Event, store: StockStore) -> None:
    for _ in range(2):
        reconciling.reconcile(event.id, store)


def test_p9_a_reconciler_that_does_not_know_of_units_on_their_way_adds_them_a_second_time(
    sale: Sale, store: StockStore
) -> None:
    event = sale(hold_seconds=60, quantity=1)
    cancelled_and_not_given_back(event, store)
    careless = rebuilt(reconciling._reconcile_stock, " - to_return)", ")")
    with (
        patch.dict(careless.__globals__, {"holds": Mock()}),
        patch.object(reconciling, "_reconcile_stock", careless),
        patch.object(claimants, "reconcile", return_value=[]),
    ):
        reconcile_twice(event, store)
    holds.give_back(event.id, store)
    assert store.snapshot(event.id).stock == 2


def test_p9_it_gives_each_of_them_back_once(sale: Sale, store: StockStore) -> None:
    event = sale(hold_seconds=60, quantity=1)
    cancelled_and_not_given_back(event, store)
    reconcile_twice(event, store)
    holds.give_back(event.id, store)
    assert_accounted(event, store)
    assert store.snapshot(event.id).stock == 1


def test_a_script_that_does_not_look_whether_the_owner_has_the_unit_gives_it_twice(
    sale: Sale, store: StockStore
) -> None:
    event = sale(hold_seconds=60, quantity=1)
    cancelled_and_not_given_back(event, store)
    careless = UnguardedStore(
        store.client, "release", without_guard("release", ("back == 'owner' and known or logged", "1"))
    )
    for _ in range(2):  # a crash after the script, before its mark is taken away
        FailedClaim.objects.update(to_return=True)
        holds.give_back(event.id, careless)
    assert store.snapshot(event.id).stock == 2
