"""Each promise with its guard, and broken as soon as the guard is taken away: else the tests would prove nothing.

The guards are taken away here, never in the product: a script is built from the real one by replacing a text that must
be found, a constraint is dropped in the test's database, a function is put in the place of another.
"""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection, transaction
from django.db.models import F
from redis.exceptions import ResponseError

from coupons import issuing, reconciling, rows
from coupons.issuing import issue_claims
from coupons.models import Coupon, FailedClaim
from coupons.stock import keys
from coupons.stock.codes import ReserveCode
from coupons.stock.records import Snapshot
from coupons.stock.store import StockStore
from events.models import Event
from tests.factories import make_users
from tests.sales import assert_sum, load_too_high, reserve
from tests.stock_kit import EVENT, UnguardedStore, put_stock, without_guard

Sale = Callable[..., Event]
ACCEPTED = ReserveCode.ACCEPTED


@contextmanager
def without_constraint(table: str, name: str) -> Iterator[None]:
    """The test's database without a constraint; what broke it is deleted before it is restored."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s", [name])
        (definition,) = cursor.fetchone()
        cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
    try:
        yield
    finally:
        Coupon.objects.all().delete()
        FailedClaim.objects.all().delete()
        Event.objects.update(issued=0)
        with connection.cursor() as cursor:
            cursor.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}')


def rebuilt(function: Any, old: str, new: str) -> Any:
    """A function with a piece of its source replaced, in its own module."""
    text = inspect.getsource(function)
    assert text.count(old) == 1, f"{function.__name__} does not have once: {old}"
    scope = dict(vars(inspect.getmodule(function)))
    exec(text.replace(old, new), scope)  # noqa: S102 - the control is the real source
    return scope[function.__name__]


# P1: issued <= quantity -----------------------------------------------------------------------------------------------


def oversell(event: Event, store: StockStore) -> int:
    """Redis lost data and has five to sell where the database has three; how many coupons come of it."""
    load_too_high(store, event, 2)
    reserve(store, event, *make_users(5))
    issue_claims(event.id, store)
    return Coupon.objects.filter(event=event).count()


def test_p1_holds_when_redis_has_too_much(sale: Sale, store: StockStore) -> None:
    assert oversell(sale(quantity=3), store) == 3


def test_p1_holds_by_the_counter_alone(sale: Sale, store: StockStore) -> None:
    """Without the look at what is left, the guarded update still refuses, and nothing is written."""
    careless = rebuilt(issuing._write, "event.quantity - event.issued)", "len(pending))")
    with patch.object(issuing, "_write", careless), pytest.raises(issuing.NothingLeft):
        oversell(sale(quantity=3), store)
    assert Coupon.objects.count() == 0


def test_p1_breaks_without_its_guards(sale: Sale, store: StockStore) -> None:
    careless = rebuilt(issuing._write, "event.quantity - event.issued)", "len(pending))")

    def unguarded(event_id: int, number: int, **_: bool) -> None:
        Event.objects.filter(pk=event_id).update(issued=F("issued") + number)

    with (
        without_constraint("events_event", "event_issued_within_quantity"),
        patch.object(issuing, "_write", careless),
        patch.object(issuing, "count_issued", unguarded),
    ):
        assert oversell(sale(quantity=3), store) == 5


def test_p1_the_script_gives_out_no_more_than_there_are_and_does_without_its_check(store: StockStore) -> None:
    claims = [(user, "") for user in range(1, 6)]
    put_stock(store, 3)
    answers = store.reserve(EVENT, epoch=1, claims=claims).reservations
    assert [one.code for one in answers].count(ACCEPTED) == 3

    store.client.flushdb()
    put_stock(store, 3)
    text = without_guard("reserve", ("if stock < quantity then return {SOLD_OUT} end", ""))
    answers = UnguardedStore(store.client, "reserve", text).reserve(EVENT, epoch=1, claims=claims).reservations
    assert [one.code for one in answers].count(ACCEPTED) == 5
    assert store.snapshot(EVENT).stock == -2


class CheckThenAct:
    """A stock as it is often written: look, then take. The barrier makes both look before either takes."""

    def __init__(self, store: StockStore, barrier: threading.Barrier) -> None:
        self.store, self.barrier = store, barrier

    def take(self) -> bool:
        """Take a unit if one is left."""
        left = int(self.store.client.hget(keys.state(EVENT), "stock") or 0)
        self.barrier.wait(10)
        if left < 1:
            return False
        self.store.client.hincrby(keys.state(EVENT), "stock", -1)
        return True


def two_at_once(take: Callable[[int], bool]) -> int:
    """How many of two threads say they have a unit."""
    taken: list[bool] = []
    threads = [threading.Thread(target=lambda user=user: taken.append(take(user))) for user in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(taken) == 2
    return taken.count(True)


def test_p1_the_last_unit_goes_to_one_of_two_and_to_both_when_looked_at_first(store: StockStore) -> None:
    put_stock(store, 1)
    barrier = threading.Barrier(2)

    def reserved(user: int) -> bool:
        barrier.wait(10)
        return store.reserve(EVENT, epoch=1, claims=[(user, "")]).reservations[0].code is ACCEPTED

    assert two_at_once(reserved) == 1

    store.client.flushdb()
    put_stock(store, 1)
    stock = CheckThenAct(store, threading.Barrier(2))
    assert two_at_once(lambda _: stock.take()) == 2
    assert store.snapshot(EVENT).stock == -1


# P2: one each ---------------------------------------------------------------------------------------------------------


def claim_twice(store: StockStore) -> list[ReserveCode]:
    put_stock(store, 5)
    return [store.reserve(EVENT, epoch=1, claims=[(1, "")]).reservations[0].code for _ in range(2)]


def test_p2_the_script_gives_one_each_and_two_without_its_check(store: StockStore) -> None:
    assert claim_twice(store) == [ACCEPTED, ReserveCode.ALREADY_CLAIMED]
    store.client.flushdb()
    text = without_guard("reserve", ("if #units + quantity > limit then", "if false then"))
    assert claim_twice(UnguardedStore(store.client, "reserve", text)) == [ACCEPTED, ACCEPTED]


def claim_again_after_a_rollback(event: Event, store: StockStore) -> int:
    """Redis forgets a claim that is issued, but not its number, and its owner claims again; the owner's coupons."""
    (user,) = make_users(1)
    reserve(store, event, user)
    issue_claims(event.id, store)
    store.client.hdel(keys.claimants(event.id), str(user))
    reserve(store, event, user)
    issue_claims(event.id, store)
    return Coupon.objects.filter(event=event, user_id=user).count()


def test_p2_holds_when_redis_forgets(sale: Sale, store: StockStore) -> None:
    assert claim_again_after_a_rollback(sale(), store) == 1


def test_p2_breaks_without_the_constraint(sale: Sale, store: StockStore) -> None:
    named = "ON CONFLICT (event_id, user_id, ordinal) DO NOTHING"
    assert rows.ISSUE.count(named) == 1
    with (
        without_constraint("coupons_coupon", "coupon_once_a_user"),
        patch.object(rows, "ISSUE", rows.ISSUE.replace(named, "")),
    ):
        assert claim_again_after_a_rollback(sale(), store) == 2


# P3: none vanishes ----------------------------------------------------------------------------------------------------


def ends_of_two_with_one_code(event: Event, store: StockStore) -> int:
    """Two claims are written under one code; how many of them can be accounted for."""
    reserve(store, event, *make_users(2))
    with patch.object(rows, "new_code", return_value="AAAA-AAAA-AAAA-AAAA"):
        issue_claims(event.id, store)
    return Coupon.objects.count() + FailedClaim.objects.filter(reason="error").count()


def test_p3_a_collision_of_codes_is_a_failed_claim(sale: Sale, store: StockStore) -> None:
    assert ends_of_two_with_one_code(sale(), store) == 2


def test_p3_breaks_where_the_conflict_is_not_named(sale: Sale, store: StockStore) -> None:
    """The second claim is taken for a coupon its owner has: rejected with a reason that is not true."""
    bare = rows.ISSUE.replace("ON CONFLICT (event_id, user_id, ordinal) DO NOTHING", "ON CONFLICT DO NOTHING")
    assert bare != rows.ISSUE
    with patch.object(rows, "ISSUE", bare):
        assert ends_of_two_with_one_code(sale(), store) == 1


# P5: a repeated request gets the first answer -------------------------------------------------------------------------

REPEATED = "if unit.request == request then return {REPEATED, unpack(unit.claim)} end"


def same_request_twice(store: StockStore) -> tuple[int, int]:
    """The numbers that two sendings of one request get, of a user who may hold two."""
    put_stock(store, 5, per_user_limit=2)
    first, again = (store.reserve(EVENT, epoch=1, claims=[(1, "key")]).reservations[0] for _ in range(2))
    return first.sequence, again.sequence


def test_p5_a_repeated_request_gets_its_number_again_and_another_without_the_look(store: StockStore) -> None:
    assert same_request_twice(store) == (1, 1)
    store.client.flushdb()
    text = without_guard("reserve", (REPEATED, ""))
    assert same_request_twice(UnguardedStore(store.client, "reserve", text)) == (1, 2)
    assert store.snapshot(EVENT).stock == 3, "a lost answer has cost a second unit"


# P6: answered before asked, lower number ------------------------------------------------------------------------------


def numbers_in_turn(store: StockStore) -> list[int]:
    """The numbers of three users, each asking after the one before was answered."""
    put_stock(store, 5, sequence=10)
    return [store.reserve(EVENT, epoch=1, claims=[(user, "")]).reservations[0].sequence for user in (1, 2, 3)]


def test_p6_numbers_rise_in_the_order_of_the_answers(store: StockStore) -> None:
    assert numbers_in_turn(store) == [11, 12, 13]


def test_p6_is_guarded_by_the_log_too_which_takes_no_lower_number(store: StockStore) -> None:
    text = without_guard("reserve", ("sequence = sequence + quantity", "sequence = sequence - quantity"))
    with pytest.raises(ResponseError, match="equal or smaller"):
        numbers_in_turn(UnguardedStore(store.client, "reserve", text))


def test_p6_breaks_without_the_counter_and_the_log(store: StockStore) -> None:
    text = without_guard(
        "reserve",
        ("sequence = sequence + quantity", "sequence = sequence - quantity"),
        ("epoch .. '-' .. integer(first + place - 1)", "'*'"),
    )
    assert numbers_in_turn(UnguardedStore(store.client, "reserve", text)) == [11, 10, 9]


# P9: reconciling adds nothing that is not there -----------------------------------------------------------------------


class DrainedBetween(StockStore):
    """A drain comes in between the reconciler's look at the database and its look at Redis, each time."""

    def __init__(self, store: StockStore) -> None:
        super().__init__(store.client)
        self.store = store
        self.issued: list[int] = []

    def snapshot(self, event_id: int) -> Snapshot:
        """The stock, after somebody else has issued a claim."""

        def drain() -> None:
            self.issued.append(issue_claims(event_id, self.store))
            connection.close()

        other = threading.Thread(target=drain)
        other.start()
        other.join(30)
        return super().snapshot(event_id)


def reconcile_twice_while_draining(event: Event, store: StockStore) -> DrainedBetween:
    between = DrainedBetween(store)
    for user in make_users(2):
        reserve(store, event, user)
        reconciling.reconcile(event.id, between)
    issue_claims(event.id, store)
    return between


def test_p9_a_drain_cannot_come_between_the_two_looks(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    between = reconcile_twice_while_draining(event, store)
    assert set(between.issued) == {0}, "the drainer found the lock taken"
    assert_sum(store, event)


def test_p9_breaks_without_the_locks(sale: Sale, store: StockStore) -> None:
    @contextmanager
    def unlocked(event_id: int) -> Iterator[Event]:
        with transaction.atomic():
            yield Event.objects.get(pk=event_id)

    event = sale(quantity=10)
    with patch.object(reconciling, "locked_event", unlocked):
        reconcile_twice_while_draining(event, store)
    event.refresh_from_db()
    snapshot = store.snapshot(event.id)
    assert event.issued + snapshot.backlog + snapshot.stock > event.quantity, "units out of nothing"
