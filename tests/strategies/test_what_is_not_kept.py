"""What some ways cannot promise is shown, so that nobody has to believe it: each step by step, at the worst moment."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

import pytest
from django.db import IntegrityError, connection
from django.utils import timezone

from coupons import at_once
from coupons.direct import Overtaken
from coupons.models import Coupon, Unit
from coupons.reconciling import reconcile
from coupons.services import known_event
from coupons.stock.store import StockStore
from coupons.stock.ways import Taken, WayStore, bulk_ways
from coupons.strategies import STRATEGIES
from coupons.strategies.distributed_lock import DistributedLock
from events.errors import Refusal, Unavailable
from events.models import Event
from tests.factories import make_users
from tests.strategies.conftest import Forks
from tests.strategies.kit import assert_exactly, assert_in_order, claim, settle
from tests.strategies.points import STEPS, at

Sale = Callable[..., Event]


def code_of(event: Event, user: int) -> str:
    """What a claim comes to."""
    try:
        return claim(event, user).result
    except Refusal as refusal:
        return refusal.code
    finally:
        connection.close()


# Somebody is refused although a unit is left --------------------------------------------------------------------------


def test_who_joins_a_set_together_may_all_be_refused_although_a_unit_is_left(sale: Sale) -> None:
    assert not STRATEGIES["redis_set"].refuses_truly
    event, (*pair, third) = sale(strategy="redis_set", quantity=1), make_users(3)
    both = threading.Barrier(2, timeout=10)

    def add(ways: WayStore, event_id: int, user: int) -> Taken:
        """The three commands as two connections may have them done: both SADD, then both SCARD."""
        key = f"sc:{{{event_id}}}:holders"
        both.wait()  # until both have looked
        new = ways.client.sadd(key, user)
        both.wait()
        members: Any = ways.client.scard(key)
        both.wait()
        return Taken(bool(new), members, 1)

    with patch.object(WayStore, "add", add), ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda user: code_of(event, user), pair)) == ["sold_out", "sold_out"]
    assert Coupon.objects.count() == 0
    assert claim(event, third).result == "accepted"


def test_a_counter_below_zero_for_a_moment_refuses_for_others_too(sale: Sale) -> None:
    assert not STRATEGIES["redis_counter"].refuses_truly
    event, (holder, late, other) = sale(strategy="redis_counter", quantity=1), make_users(3)
    claim(event, holder)
    bulk_ways().count_down(event.pk, late)  # too late by one, and about to put it back
    bulk_ways().count_up(event.pk)  # one more is there to be sold
    Event.objects.update(quantity=2)
    assert code_of(event, other) == "sold_out"
    bulk_ways().count_up(event.pk)
    bulk_ways().remove(event.pk, [late])
    assert claim(event, other).result == "accepted"


# A unit is lost for a while -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "step"), [("redis_set", "after the set"), ("redis_counter", "after the counter")])
def test_a_process_that_dies_between_redis_and_the_database_takes_a_unit_until_it_was_seen_twice(
    sale: Sale, forks: Forks, store: StockStore, name: str, step: str
) -> None:
    assert not STRATEGIES[name].leaks_nothing
    event, (dead, *users) = sale(strategy=name, quantity=3), make_users(4)
    forks.kill(event, step, dead)
    assert [code_of(event, user) for user in users] == ["accepted", "accepted", "sold_out"]
    assert_exactly(event, 2)
    looks = [{(row.kind, row.mended_at is not None) for row in reconcile(event.pk, store)} for _ in range(4)]
    assert looks[:2] == [{("ghost_claimant", False)}, {("ghost_claimant", True)}]
    assert claim(event, users[2]).result == "accepted"
    assert_exactly(event, 3)
    assert reconcile(event.pk, store) == []


@pytest.mark.parametrize("strategy", [one for one in STRATEGIES.values() if one.leaks_nothing and one.needs_redis])
def test_the_other_ways_of_redis_lose_none(sale: Sale, forks: Forks, strategy: Any) -> None:
    event, (dead, *users) = sale(strategy=strategy.name, quantity=3), make_users(4)
    forks.kill(event, STEPS[strategy.name][0], dead)
    for user in users:
        code_of(event, user)
    settle(event)
    assert_exactly(event, 3)


def test_a_counter_that_has_come_away_from_its_set_is_mended_when_seen_twice(sale: Sale, store: StockStore) -> None:
    event, user = sale(strategy="redis_counter", quantity=3), make_users(1)[0]
    bulk_ways().client.hincrby(f"sc:{{{event.pk}}}:state", "stock", -3)
    assert code_of(event, user) == "sold_out"
    looks = [[(row.kind, row.mended_at is not None) for row in reconcile(event.pk, store)] for _ in range(2)]
    assert looks == [[("stock", False)], [("stock", True)]]
    assert code_of(event, user) == "accepted"


# The order is not kept ------------------------------------------------------------------------------------------------


def test_with_a_row_a_unit_who_comes_later_may_have_the_lower_number(sale: Sale) -> None:
    assert not STRATEGIES["skip_locked"].ordered
    event, (first, second) = sale(strategy="skip_locked", quantity=2), make_users(2)
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:  # somebody has the first unit in hand, and puts it back
        cursor.execute("SELECT id FROM coupons_unit WHERE event_id = %s ORDER BY number LIMIT 1 FOR UPDATE", [event.pk])
        earlier = claim(event, first).claim.id.sequence
    other.rollback()
    other.close()
    assert (earlier, claim(event, second).claim.id.sequence) == (2, 1)
    assert not Unit.objects.exists()


def test_the_check_of_the_order_can_fail() -> None:
    told = [{"sequence": 2, "began": 0.0, "ended": 1.0}, {"sequence": 1, "began": 2.0, "ended": 3.0}]
    with pytest.raises(AssertionError):
        assert_in_order(told)


# A lock lets in who has lost it ---------------------------------------------------------------------------------------


def late_holder(event: Event, late: int, quick: int) -> str:
    """Who has the lock hangs until it is another's, who claims; then the first goes on: what it comes to."""

    def hang() -> None:
        bulk_ways().client.delete(f"sc:{{{event.pk}}}:lock")  # its time to live is over
        assert code_of(event, quick) == "accepted"

    with at("after the lock", hang):
        try:
            return STRATEGIES["distributed_lock"].claim(known_event(event.pk), late, "").result
        except Unavailable as refusal:
            return refusal.code


def test_a_fence_keeps_out_who_has_lost_the_lock(sale: Sale) -> None:
    event, (late, quick) = sale(strategy="distributed_lock", quantity=2), make_users(2)
    assert late_holder(event, late, quick) == "unavailable"
    assert_exactly(event, 1)
    assert code_of(event, late) == "accepted"


def test_without_the_fence_who_has_lost_the_lock_writes_all_the_same(sale: Sale) -> None:
    """Two were in a section that is for one. What they do there is right only because the database guards it."""
    event, (late, quick) = sale(strategy="distributed_lock", quantity=2), make_users(2)
    with patch.object(STRATEGIES["distributed_lock"], "fenced", False):
        assert late_holder(event, late, quick) == "accepted"
    assert_exactly(event, 2)


def test_locks_of_users_bar_only_the_same_user(sale: Sale) -> None:
    event, (one, other) = sale(strategy="distributed_lock", quantity=2), make_users(2)
    per_user = DistributedLock(per_user=True)
    bulk_ways().lock(event.pk, epoch=1, token="another process", ttl=60_000, of=str(one))
    with pytest.raises(Unavailable):
        per_user.claim(known_event(event.pk), one, "")
    assert per_user.claim(known_event(event.pk), other, "").result == "accepted"
    bulk_ways().unlock(event.pk, token="another process", of=str(one))
    assert per_user.claim(known_event(event.pk), one, "").result == "accepted"
    assert_exactly(event, 2)


def test_who_waits_for_the_lock_is_woken_and_asks_no_more_than_twice(sale: Sale) -> None:
    event, user = sale(strategy="distributed_lock", quantity=1), make_users(1)[0]
    ways = bulk_ways()
    ways.lock(event.pk, epoch=1, token="another process", ttl=60_000)
    asked = []
    lock = WayStore.lock

    def ask(*arguments: Any, **options: Any) -> tuple[int, int]:
        answer = lock(*arguments, **options)
        asked.append(answer)
        if options.get("place"):  # it stands in line, and listens already
            ways.unlock(event.pk, token="another process")
        return answer

    with patch.object(WayStore, "lock", ask):
        assert claim(event, user).result == "accepted"
    assert [fence for fence, _ in asked] == [0, 0, 2]


# The negative controls ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compares", [True, False])
def test_of_two_who_read_the_same_version_one_must_look_again(sale: Sale, compares: bool) -> None:
    event, users = sale(strategy="optimistic", quantity=2), make_users(2)
    both, overtaken, met = threading.Barrier(2, timeout=10), list[int](), set[int]()
    issue = at_once.issue

    def meet(*arguments: Any, **options: Any) -> Coupon:
        user = arguments[1]
        if user not in met:
            met.add(user)
            both.wait()
        try:
            return issue(*arguments, **(options if compares else {**options, "version": None}))
        except Overtaken:
            overtaken.append(user)
            raise

    with patch.object(at_once, "issue", meet), ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda user: code_of(event, user), users)) == ["accepted", "accepted"]
    assert len(overtaken) == (1 if compares else 0)


def test_without_the_guard_the_last_unit_is_given_twice_but_for_the_constraint_of_the_database(sale: Sale) -> None:
    event, users = sale(strategy="conditional_update", quantity=1), make_users(2)
    guarded = at_once.ISSUE.format(take=at_once.TAKE)
    text = guarded.replace(" AND issued < quantity", "")
    assert text != guarded
    claim(event, users[0])
    row = Event.objects.get()
    with pytest.raises(IntegrityError, match="event_issued_within_quantity"):
        at_once.issue(row, users[1], "", timezone.now(), statements=text)
    with pytest.raises(Overtaken):
        at_once.issue(row, users[1], "", timezone.now())
