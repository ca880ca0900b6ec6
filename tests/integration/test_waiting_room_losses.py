"""The waiting room without its Redis: what the database knows, how it is put back, and what must not come back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection
from django.utils import timezone

from coupons import modes, reconciling, services
from coupons.errors import AlreadyClaimed, NotAdmitted
from coupons.issuing import issue_claims
from coupons.stock.store import StockStore
from events import services as sales
from events.catalogue import catalogue
from events.errors import NoTicket, Unavailable
from events.models import Event, Ticket
from events.waiting_room import checkpoint, keys, past_redis, service
from events.waiting_room.store import RoomStore, bulk_room_store
from tests.factories import make_users
from tests.sales import Crash

Sale = Callable[..., Event]


@pytest.fixture
def room(sale: Sale) -> Event:
    """One is let in at a time."""
    return sale(waiting_room=True, quantity=100, admission_rate=1, max_active=1, redis_lost_after=0)


@pytest.fixture
def store() -> RoomStore:
    return bulk_room_store()


def join(event: Event, *users: int, lane: int = 1) -> list[int]:
    """The numbers."""
    return [service.visit(event.id, user, lane, "join").number for user in users]


def standing(event: Event, user: int) -> Any:
    return service.visit(event.id, user, 1, "ask")


def save(event: Event) -> int:
    return checkpoint.checkpoint(event.id, bulk_room_store())


def known() -> list[tuple[int, int]]:
    return list(Ticket.objects.filter(gone_at=None).order_by("number").values_list("user_id", "number"))


def lose(event: Event, store: RoomStore) -> None:
    """Redis comes up empty, and the reconciler loads it."""
    store.client.flushdb()
    reconciling.reconcile(event.id, StockStore(store.client))
    catalogue.refresh()


def copy(store: RoomStore) -> None:
    for key in map(str, store.client.scan_iter("sc:*")):
        store.client.copy(key, f"old:{key}")


def roll_back(event: Event, store: RoomStore) -> None:
    """Redis as it was at `copy`, on another run; the reconciler loads it."""
    for key in list(store.client.scan_iter("sc:*")):
        store.client.delete(key)
    for key in list(store.client.scan_iter("old:*")):
        store.client.rename(key, str(key).removeprefix("old:"))
    for key in (keys.room(event.id), f"sc:{{{event.id}}}:state"):
        store.client.hset(key, "run", "0" * 40)
    reconciling.reconcile(event.id, StockStore(store.client))
    catalogue.refresh()


def test_who_joins_leaves_and_claims_is_known_to_the_database(room: Event, store: RoomStore) -> None:
    one, two, three = make_users(3)
    join(room, one, two, three)
    assert save(room) == 4, "three have joined, and one was called"
    assert known() == [(one, 1), (two, 2), (three, 3)]
    service.leave(room.id, two, 1)
    services.claim(event_id=room.id, user_id=one)
    save(room)
    assert known() == [(three, 3)]
    assert store.read_log(room.id, count=10) == []
    assert save(room) == 0


def test_a_crash_before_the_log_is_trimmed_writes_the_same_once_more(room: Event) -> None:
    one, two = make_users(2)
    join(room, one, two)
    with patch.object(RoomStore, "settle_log", side_effect=Crash), pytest.raises(Crash):
        save(room)
    assert known() == [(one, 1), (two, 2)]
    service.leave(room.id, two, 1)
    save(room)
    assert known() == [(one, 1)]


def test_an_older_entry_that_is_written_again_changes_nothing(room: Event, store: RoomStore) -> None:
    one, two = make_users(2)
    join(room, one, two)
    service.leave(room.id, two, 1)
    entries = store.read_log(room.id, count=10)
    save(room)
    store.client.delete(f"sc:{{{room.id}}}:left:{two}")
    join(room, two)
    save(room)
    checkpoint._write(room.id, entries)
    assert known() == [(one, 1), (two, 3)]


def test_one_worker_is_at_a_room_at_a_time(room: Event) -> None:
    join(room, *make_users(2))
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", [checkpoint.LOCK, room.id])
        assert save(room) == 0
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")
    finally:
        other.close()
    assert save(room) == 3


def test_after_a_loss_the_order_is_kept_and_who_joins_stands_behind(room: Event, store: RoomStore) -> None:
    users = make_users(5)
    join(room, *users)
    vip, late = make_users(2)
    join(room, vip, lane=0)
    save(room)
    lose(room, store)
    assert [standing(room, user).number for user in users] == [1, 2, 3, 4, 5]
    assert [standing(room, user).ahead for user in users] == [0, 1, 2, 3, 4], "who had a pass is first again"
    assert service.visit(room.id, vip, 0, "ask").status == "admitted"
    assert join(room, late)[0] > 10_000, "far behind what may have been given"
    assert standing(room, late).ahead == 5


def test_no_number_is_given_twice_though_all_who_had_one_are_gone(room: Event, store: RoomStore) -> None:
    one, two = make_users(2)
    join(room, one)
    services.claim(event_id=room.id, user_id=one)
    save(room)
    lose(room, store)
    assert join(room, two)[0] > 10_000


def test_no_number_is_given_twice_though_the_database_has_heard_of_none(room: Event, store: RoomStore) -> None:
    one, two, three = make_users(3)
    assert join(room, one) == [1]
    lose(room, store)
    assert join(room, two, three) == [10_001, 10_002]


def test_a_ticket_that_is_gone_does_not_come_back_though_the_database_has_not_heard(
    room: Event, store: RoomStore
) -> None:
    one, two = make_users(2)
    join(room, one, two)
    save(room)
    service.leave(room.id, two, 1)
    room.refresh_from_db()
    store.client.delete(f"sc:{{{room.id}}}:state")  # the stock alone is lost, and loaded anew
    reconciling.reconcile(room.id, StockStore(store.client))
    catalogue.refresh()
    with pytest.raises(NoTicket):
        standing(room, two)
    assert save(room) == 1, "the log is still there, should the load have failed"
    assert known() == [(one, 1)]


def test_who_has_a_coupon_is_not_waited_for_though_the_database_has_not_heard_that_they_left_the_line(
    room: Event, store: RoomStore
) -> None:
    one, two = make_users(2)
    join(room, one, two)
    save(room)
    services.claim(event_id=room.id, user_id=one)
    issue_claims(room.id, StockStore(store.client))
    assert known() == [(one, 1), (two, 2)], "as it was before the claim"
    lose(room, store)
    assert standing(room, two).status == "admitted", "and not behind a turn that nobody comes for"
    with pytest.raises(AlreadyClaimed):
        standing(room, one)


def test_a_redis_that_was_rolled_back_brings_nobody_back(room: Event, store: RoomStore) -> None:
    gone, again, stays, new = make_users(4)
    join(room, gone, again, stays)
    copy(store)
    service.leave(room.id, gone, 1)
    service.leave(room.id, again, 1)
    store.client.delete(f"sc:{{{room.id}}}:left:{again}")
    assert join(room, again) == [4]
    assert join(room, new) == [5]
    save(room)
    roll_back(room, store)
    with pytest.raises(NoTicket):
        standing(room, gone)
    assert [standing(room, user).number for user in (stays, again, new)] == [3, 4, 5]
    store.client.delete(f"sc:{{{room.id}}}:left:{gone}")
    assert join(room, gone)[0] > 10_000
    save(room)
    assert [number for _, number in known()][:3] == [3, 4, 5]


def test_while_redis_is_lost_people_claim_by_rank_and_nobody_joins(room: Event, store: RoomStore) -> None:
    first, second, third, stranger = make_users(4)
    join(room, first, second, third)
    save(room)
    modes.sell_from_database(room.id, StockStore(store.client))
    Event.objects.filter(pk=room.id).update(fell_back_at=timezone.now() + timedelta(hours=1))  # no time passes
    catalogue.refresh()
    assert [standing(room, user).status for user in (first, second)] == ["admitted", "waiting"]
    assert [standing(room, user).ahead for user in (second, third)] == [0, 1]
    with pytest.raises(Unavailable):
        join(room, stranger)
    for user in (second, stranger):
        with pytest.raises(NotAdmitted):
            services.claim(event_id=room.id, user_id=user)
    Event.objects.filter(pk=room.id).update(fell_back_at=timezone.now())
    services.claim(event_id=room.id, user_id=first)
    for visit in (standing, join):
        with pytest.raises(AlreadyClaimed):
            visit(room, first)
    room.refresh_from_db()
    ticket = Ticket.objects.get(event=room, user=third)
    assert past_redis._ahead(room, ticket) == 2, "who has claimed has come before all the same"
    service.leave(room.id, second, 1)
    Event.objects.filter(pk=room.id).update(fell_back_at=None)
    modes.sell_from_redis(room.id, StockStore(store.client))
    catalogue.refresh()
    with pytest.raises(AlreadyClaimed):
        standing(room, first)
    with pytest.raises(NoTicket):
        standing(room, second)
    assert standing(room, third).number == 3
    assert join(room, stranger) == [4]


def test_nobody_leaves_a_room_that_is_being_put_back(room: Event, store: RoomStore) -> None:
    (one,) = make_users(1)
    join(room, one)
    StockStore(store.client).unload(room.id)
    with pytest.raises(Unavailable):
        service.leave(room.id, one, 1)


def test_the_tickets_of_a_sale_go_a_week_after_its_end(sale: Sale) -> None:
    now = timezone.now()
    over, lately = (sale(waiting_room=True) for _ in range(2))
    for event in (over, lately):
        join(event, *make_users(2))
        save(event)
        sales.close(event_id=event.id)
    Event.objects.filter(pk=over.id).update(updated_at=now - timedelta(days=8))
    assert checkpoint.sweep() == 2
    assert set(Ticket.objects.values_list("event_id", flat=True)) == {lately.id}


def test_the_keys_of_a_closed_room_go_with_those_of_the_stock(room: Event, store: RoomStore) -> None:
    users = make_users(3)
    join(room, *users)
    save(room)
    sales.close(event_id=room.id)
    reconciling.reconcile(room.id, StockStore(store.client))
    catalogue.refresh()
    service.leave(room.id, users[1], 1)
    keys_ = [key for key in map(str, store.client.scan_iter("sc:*")) if ":bucket:" not in key]
    assert f"sc:{{{room.id}}}:tickets" in keys_
    assert [key for key in keys_ if int(store.client.ttl(key)) < 0] == []
