"""A full batch is settled, and the page behind the next one read, while PostgreSQL writes the next."""

import threading
from collections.abc import Callable, Iterator, Sequence
from threading import Event as Moment
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from coupons import claim_log, issuing
from coupons.issuing import issue_claims
from coupons.models import Coupon
from coupons.stock.store import StockStore
from events.models import Event
from tests.factories import make_users
from tests.sales import assert_sold_out_exactly, assert_sum, reserve

Sale = Callable[..., Event]


@pytest.fixture(autouse=True)
def _full_of_four() -> Iterator[None]:
    with patch.object(issuing, "BATCH", 4):
        yield


# Settled --------------------------------------------------------------------------------------------------------------


def test_a_full_batch_is_settled_while_the_next_is_written(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users)
    settle, write = issuing._settle, issuing._write
    writing, settled = Moment(), Moment()
    beside = []

    def settled_meanwhile(event_id: int, store: StockStore, entries: Sequence[Any], outcome: issuing.Outcome) -> None:
        assert len(entries) < 4 or writing.wait(10), "the next is not written before this is settled"
        settle(event_id, store, entries, outcome)
        settled.set()

    def written_meanwhile(*arguments: Any) -> issuing.Outcome:
        if Coupon.objects.exists():
            writing.set()
            assert settled.wait(10), "what is committed is not settled before the next is written"
            beside.append(store.snapshot(event.id).backlog)
            writing.clear()
            settled.clear()
        return write(*arguments)

    with patch.object(issuing, "_settle", settled_meanwhile), patch.object(issuing, "_write", written_meanwhile):
        assert issue_claims(event.id, store, batch=4) == 10
    assert beside == [6, 2]
    assert list(Coupon.objects.order_by("id").values_list("user_id", flat=True)) == users
    assert_sold_out_exactly(store, event)


def test_redis_going_away_while_the_next_batch_is_written_loses_nothing(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users)
    with patch.object(StockStore, "settle", side_effect=RedisConnectionError), pytest.raises(RedisConnectionError):
        issue_claims(event.id, store, batch=4)
    assert (Coupon.objects.count(), store.snapshot(event.id).backlog) == (4, 10), "no batch is two ahead"
    assert issue_claims(event.id, store, batch=4) == 6
    assert_sold_out_exactly(store, event)


@pytest.mark.parametrize("away", [(issuing, "try_drain_lock"), (claim_log, "page"), (issuing, "_write")])
def test_a_batch_is_settled_though_the_next_fails(sale: Sale, store: StockStore, away: tuple[Any, str]) -> None:
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users)
    once_only = [getattr(*away)]

    def once(*arguments: Any, **options: Any) -> Any:
        if not once_only:
            raise OperationalError
        return once_only.pop()(*arguments, **options)

    with patch.object(*away, once), pytest.raises(OperationalError):
        issue_claims(event.id, store, batch=4)
    assert (Coupon.objects.count(), store.snapshot(event.id).backlog) == (4, 6)
    assert store.snapshot(event.id).drained == 4


def test_a_batch_is_settled_though_another_drains_the_next(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(10)
    reserve(store, event, *users)
    with patch.object(issuing, "try_drain_lock", side_effect=[True, False]):
        assert issue_claims(event.id, store, batch=4) == 4
    assert store.snapshot(event.id).backlog == 6


def test_a_claim_that_comes_before_the_last_batch_is_settled_is_issued_by_the_same_run(
    sale: Sale, store: StockStore
) -> None:
    """It finds claims in the log, and so nudges nobody."""
    event, users = sale(quantity=5), make_users(5)
    reserve(store, event, *users[:4])
    read, late = StockStore.read_log, [users[4]]

    def found(*arguments: Any, **options: Any) -> Any:
        entries = read(*arguments, **options)
        if not entries and late and threading.current_thread() is threading.main_thread():
            reserve(store, event, late.pop())
        return entries

    with patch.object(StockStore, "read_log", found):
        assert issue_claims(event.id, store, batch=4) == 5
    assert_sold_out_exactly(store, event)


# Read ahead -----------------------------------------------------------------------------------------------------------


def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def test_the_next_page_is_read_while_a_full_batch_is_written(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=12), make_users(12)
    reserve(store, event, *users)
    read_log, write = StockStore.read_log, issuing._write
    asked: dict[bool, list[str | None]] = {True: [], False: []}
    read = Moment()

    def read_beside(store: StockStore, event_id: int, *, after: str | None, count: int) -> Any:
        entries = read_log(store, event_id, after=after, count=count)
        asked[in_main_thread()].append(after)
        if not in_main_thread():
            read.set()
        return entries

    def written_meanwhile(*arguments: Any) -> issuing.Outcome:
        assert read.wait(10), "the next page is not read before this one is written"
        read.clear()
        return write(*arguments)

    with patch.object(StockStore, "read_log", read_beside), patch.object(issuing, "_write", written_meanwhile):
        assert issue_claims(event.id, store, batch=4) == 12
    assert asked[False] == ["1-4", "1-8", "1-12"]
    assert set(asked[True]) == {None, "1-12"}, "what was read ahead is not read again, but where it was not full"
    assert_sold_out_exactly(store, event)


def test_claims_of_several_units_are_read_ahead_as_a_whole(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=21, per_user_limit=3), make_users(7)
    store.reserve(event.id, epoch=1, claims=[(user, "", 3) for user in users])
    assert issue_claims(event.id, store, batch=4) == 21
    assert list(Coupon.objects.order_by("id").values_list("user_id", flat=True)) == [
        user for user in users for _ in range(3)
    ]
    assert_sum(store, event)


def test_redis_going_away_while_it_is_read_ahead_undoes_nothing(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=12), make_users(12)
    reserve(store, event, *users)
    read_log = StockStore.read_log

    def read(*arguments: Any, **options: Any) -> Any:
        if not in_main_thread():
            raise RedisConnectionError
        return read_log(*arguments, **options)

    with patch.object(StockStore, "read_log", read):
        assert issue_claims(event.id, store, batch=4) == 12
    assert_sold_out_exactly(store, event)


def drain_while_a_unit_changes_hands(sale: Sale, store: StockStore, place: int) -> None:
    """A page has been read ahead, and one of its claims is released, and somebody else takes the unit."""
    event, users = sale(quantity=12), make_users(13)
    entries = reserve(store, event, *users[:12])
    page, released = claim_log.page, Moment()

    def read(*arguments: Any, **options: Any) -> Any:
        found = page(*arguments, **options)
        if not in_main_thread() and not released.is_set():
            assert store.release(event.id, [entries[place]]) == 1
            store.reserve(event.id, epoch=1, claims=[(users[12], "")])
            released.set()
        return found

    with patch.object(claim_log, "page", read):
        issue_claims(event.id, store, batch=4)
    assert released.is_set()
    assert list(Coupon.objects.order_by("id").values_list("user_id", flat=True)) == [
        user for user in users if user != entries[place].user_id
    ]
    assert_sum(store, event)


@pytest.mark.parametrize("place", [4, 5, 7])
def test_what_was_taken_out_of_the_log_since_it_was_read_ahead_is_not_issued(
    sale: Sale, store: StockStore, place: int
) -> None:
    drain_while_a_unit_changes_hands(sale, store, place)


def test_without_the_second_look_the_unit_of_another_is_issued(sale: Sale, store: StockStore) -> None:
    """The negative control."""
    with patch.object(StockStore, "is_whole", return_value=True), pytest.raises(AssertionError):
        drain_while_a_unit_changes_hands(sale, store, 5)
