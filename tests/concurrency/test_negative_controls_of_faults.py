"""The guards against a Redis that lost data, and against a look at the wrong moment: each holds, and breaks without.

As in `test_negative_controls`, the guards are taken away here and never in the product.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection, transaction
from redis.exceptions import ResponseError

from coupons import drift, modes, reconciling, services
from coupons.errors import ClaimNotFound
from coupons.issuing import issue_claims
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.selectors import claim_of
from coupons.stock import keys
from coupons.stock.codes import ReserveCode
from coupons.stock.records import Snapshot
from coupons.stock.store import StockStore
from events.catalogue import catalogue
from events.models import Event
from tests.factories import make_users
from tests.sales import assert_sum, back_up, reserve, roll_back
from tests.stock_kit import EVENT, UnguardedStore, put_stock, without_guard

Sale = Callable[..., Event]

EPOCH = "if state[1] ~= epoch then return all_alike(stock, drained, {WRONG_EPOCH, tonumber(state[1])}) end"
WRITES = "if #accepted > 0 then\n"
RUN = "if state[12] ~= run then return all_alike(stock, drained, {OTHER_RUN}) end"


# The epoch: nobody sells from a stock that the database has given up --------------------------------------------------


def claim_from_both(event: Event, store: StockStore) -> tuple[str, str]:
    """One user claims in the database, another from the old Redis; the names of their claims, "" for none."""
    here, there = make_users(2)
    modes.fall_back(event.id, epoch=1)
    event.refresh_from_db()
    catalogue.refresh()
    issued = services.claim(event_id=event.id, user_id=here).claim
    (answer,) = store.reserve(event.id, epoch=event.epoch, claims=[(there, "")]).reservations
    taken = f"{event.id}-{answer.epoch}-{answer.sequence}" if answer.code is ReserveCode.ACCEPTED else ""
    return str(issued.id), taken


def test_the_epoch_keeps_an_old_stock_from_being_sold(sale: Sale, store: StockStore) -> None:
    name, taken = claim_from_both(sale(quantity=5), store)
    assert name
    assert not taken


def test_without_the_epoch_two_users_have_claims_of_one_name(sale: Sale, store: StockStore) -> None:
    unguarded = UnguardedStore(store.client, "reserve", without_guard("reserve", (EPOCH, "")))
    name, taken = claim_from_both(sale(quantity=5), unguarded)
    assert name == taken, "P5: one name, two owners"


# The run: a server that may have forgotten claims gives out no numbers ------------------------------------------------


def claim_after_a_restart(event: Event, store: StockStore) -> tuple[str, str]:
    """Redis forgets a claim and comes up as another run; the names of that claim and of the next, "" for none."""
    early, late = make_users(2)
    back_up(store, event)
    (before,) = reserve(store, event, early)
    roll_back(store, event)
    store.client.hset(keys.state(event.id), "run", "0" * 40)  # what was loaded on another server looks like this
    (answer,) = store.reserve(event.id, epoch=1, claims=[(late, "")]).reservations
    taken = f"{answer.epoch}-{answer.sequence}" if answer.code is ReserveCode.ACCEPTED else ""
    return before.entry_id, taken


def test_the_run_keeps_numbers_from_being_given_twice(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5)
    _, taken = claim_after_a_restart(event, store)
    assert not taken
    (row,) = reconciling.reconcile(event.id, store)
    assert row.kind == Reconciliation.Kind.OTHER_RUN
    assert reserve(store, event, *make_users(1))[0].epoch == 2
    assert_sum(store, event)


def test_without_the_run_a_number_is_given_twice(sale: Sale, store: StockStore) -> None:
    unguarded = UnguardedStore(store.client, "reserve", without_guard("reserve", (RUN, "")))
    before, taken = claim_after_a_restart(sale(quantity=5), unguarded)
    assert before == taken, "P5: one name, two owners"


# All checks before the first write ------------------------------------------------------------------------------------


def claim_with_a_broken_log(store: StockStore) -> int:
    """A claim that meets a log of a wrong type; the units that are left of five."""
    put_stock(store, 5)
    store.client.rpush(keys.log(EVENT), "not what it should be")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.reserve(EVENT, epoch=1, claims=[(1, "")])
    store.client.delete(keys.log(EVENT))
    return store.snapshot(EVENT).stock


def test_a_script_that_fails_has_taken_nothing(store: StockStore) -> None:
    assert claim_with_a_broken_log(store) == 5


def test_without_the_check_before_the_writes_a_unit_is_gone(store: StockStore) -> None:
    text = without_guard(
        "reserve",
        ("redis.call('XLEN', log_key)\n", "1\n"),
        (
            "if #accepted > 0 then\n",
            "if #accepted > 0 then\n  redis.call('HSET', state_key, 'stock', integer(stock))\n",
        ),
    )
    assert claim_with_a_broken_log(UnguardedStore(store.client, "reserve", text)) == 4, "P7: neither issued nor left"


# Drift is mended when it is seen twice --------------------------------------------------------------------------------


class DrainedOnce(StockStore):
    """A drain comes in between the reconciler's look at the database and its look at Redis, once."""

    def __init__(self, store: StockStore) -> None:
        super().__init__(store.client)
        self.store = store
        self.looks = 0

    def snapshot(self, event_id: int) -> Snapshot:
        """The stock, the second time after somebody else has issued a claim."""
        self.looks += 1
        if self.looks == 2:
            other = threading.Thread(target=self._drain, args=(event_id,))
            other.start()
            other.join(30)
        return super().snapshot(event_id)

    def _drain(self, event_id: int) -> None:
        try:
            issue_claims(event_id, self.store)
        finally:
            connection.close()


@contextmanager
def unlocked(event_id: int) -> Iterator[Event]:
    """A reconciler without its locks: what it reads in the two places is not of one moment."""
    with transaction.atomic():
        yield Event.objects.get(pk=event_id)


def reconcile_beside_a_drain(event: Event, store: StockStore, *, looks: int) -> int:
    """So many looks, a drain in the midst of the first; issued, waiting and left together."""
    reserve(store, event, *make_users(1))
    between = DrainedOnce(store)
    with patch.object(reconciling, "locked_event", unlocked):
        for _ in range(looks):
            reconciling.reconcile(event.id, between)
    event.refresh_from_db()
    snapshot = store.snapshot(event.id)
    return event.issued + snapshot.backlog + snapshot.stock


def test_a_difference_that_passes_is_left_alone(sale: Sale, store: StockStore) -> None:
    assert reconcile_beside_a_drain(sale(quantity=10), store, looks=2) == 10
    row = Reconciliation.objects.get()
    assert (row.kind, row.mended_at) == ("stock", None)
    assert row.gone_at is not None


def test_mended_at_the_first_sight_it_makes_a_unit_out_of_nothing(sale: Sale, store: StockStore) -> None:
    see = drift.see

    def at_once(event_id: int, kind: Reconciliation.Kind, **numbers: Any) -> drift.Seen | None:
        seen = see(event_id, kind, **numbers)
        return drift.Seen(seen.row, twice=True) if seen else None

    with patch.object(drift, "see", at_once):
        assert reconcile_beside_a_drain(sale(quantity=10), store, looks=1) == 11, "P9"


# A lost claim is told -------------------------------------------------------------------------------------------------


def test_a_claim_that_redis_forgot_is_told_as_lost_and_not_as_unknown(sale: Sale, store: StockStore) -> None:
    event, (early, late, third) = sale(quantity=5), make_users(3)
    catalogue.refresh()
    kept = services.claim(event_id=event.id, user_id=early).claim.id
    issue_claims(event.id, store)
    back_up(store, event)
    forgotten = services.claim(event_id=event.id, user_id=late).claim.id
    roll_back(store, event)
    store.client.hset(keys.state(event.id), "run", "0" * 40)
    reconciling.reconcile(event.id, store)
    catalogue.refresh()

    def state(user: int, name: object) -> tuple[str, str | None]:
        view = claim_of(event_id=event.id, user_id=user, claim_id=str(name))
        return view.status, view.reason

    assert state(late, forgotten) == ("rejected", "lost")
    assert state(early, kept) == ("issued", None)
    with pytest.raises(ClaimNotFound):
        state(third, kept)  # another's stays unknown
    assert services.claim(event_id=event.id, user_id=late).result == "accepted"
    assert Coupon.objects.count() == 1
    assert not FailedClaim.objects.exists()
