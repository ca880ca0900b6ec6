"""A key of a waiting room that is of another type than ours: it is seen, and the room put back by the database."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from coupons import modes, services
from coupons.models import Reconciliation
from coupons.reconciling import look, reconcile
from coupons.stock.store import StockStore
from events import services as sales
from events.catalogue import catalogue
from events.errors import Closed, NoTicket, Unavailable
from events.models import Event, Ticket
from events.waiting_room import checkpoint, keys, service
from events.waiting_room.store import RoomStore, bulk_room_store
from tests.factories import make_users
from tests.sales import assert_sum

Sale = Callable[..., Event]
KEYS = range(len(keys.own(0)))
LOG = KEYS[-1]


@pytest.fixture
def room(sale: Sale) -> Event:
    """One is let in at a time; the turn of who is away is kept for long."""
    return sale(waiting_room=True, quantity=100, admission_rate=1, max_active=1, grace=600)


def standing(event: Event, user: int) -> Any:
    return service.visit(event.id, user, 1, "ask")


def join(event: Event, *users: int, lane: int = 1) -> list[int]:
    """The numbers."""
    return [service.visit(event.id, user, lane, "join").number for user in users]


def damage(event: Event, key: int) -> str:
    """Have something else in its place."""
    name, client = keys.own(event.id)[key], bulk_room_store().client
    client.delete(name)
    client.set(name, "not what it should be")
    return name


def line_up(event: Event) -> list[int]:
    """Six in line, the last of the first lane; one before them has claimed. The database knows of all of it."""
    gone, *users = make_users(7)
    join(event, gone, *users[:-1])
    services.claim(event_id=event.id, user_id=gone)
    join(event, users[-1], lane=0)
    checkpoint.checkpoint_all(bulk_room_store())
    return users


def places(event: Event) -> list[str]:
    """The users who are in one of the sets, once for each."""
    client = bulk_room_store().client
    return sorted(user for key in keys.own(event.id)[2:7] for user in map(str, client.zrange(key, 0, -1)))


@pytest.mark.parametrize("wrong", KEYS)
def test_the_room_is_put_back_with_everybody_in_their_place(room: Event, store: StockStore, wrong: int) -> None:
    users = line_up(room)
    name = damage(room, wrong)
    with pytest.raises(Unavailable):
        standing(room, users[1])
    assert look(store).reconcile == [room.id], "within a second"
    (row,) = reconcile(room.id, store)
    assert (row.kind, row.mended_at is not None) == ("damaged", True)
    assert name in row.detail["keys"]
    catalogue.refresh()
    assert places(room) == sorted(map(str, users))
    vip = service.visit(room.id, users[-1], 0, "ask")
    assert (vip.number, vip.ahead) == (7, 0)
    line = [standing(room, user) for user in users[:-1]]
    assert [one.number for one in line] == [2, 3, 4, 5, 6]
    assert [one.ahead for one in line] == sorted(one.ahead for one in line)
    (late,) = make_users(1)
    assert join(room, late)[0] > 7, "no number is given twice"
    checkpoint.checkpoint_all(bulk_room_store())
    assert Ticket.objects.filter(gone_at=None).count() == 7
    assert not look(store).reconcile
    assert not reconcile(room.id, store)
    assert_sum(store, room)


def test_what_is_left_of_a_room_does_not_stay_beside_what_comes_back(room: Event, store: StockStore) -> None:
    """The negative control: with the damaged key alone removed, those who stood in it have tickets and no place."""
    users = line_up(room)
    name = damage(room, 3)
    with patch.object(RoomStore, "damaged", lambda *_: [name]):
        reconcile(room.id, store)
    catalogue.refresh()
    with pytest.raises(NoTicket):
        standing(room, users[1])
    assert places(room) != sorted(map(str, users))


def test_with_all_of_it_gone_the_database_puts_everybody_back_once(room: Event, store: StockStore) -> None:
    users = line_up(room)
    for wrong in KEYS:
        damage(room, wrong)
    reconcile(room.id, store)
    catalogue.refresh()
    assert places(room) == sorted(map(str, users))


def test_a_dry_run_only_tells_of_it(room: Event, store: StockStore) -> None:
    name = damage(room, LOG)
    (row,) = reconcile(room.id, store, dry_run=True)
    assert (row.kind, row.detail["keys"]) == ("damaged", [name])
    assert not Reconciliation.objects.exists()
    assert store.client.type(name) == "string"


def test_a_room_that_cannot_be_written_down_keeps_no_other_from_it(room: Event, sale: Sale) -> None:
    other, (user,) = sale(waiting_room=True), make_users(1)
    damage(room, LOG)
    join(other, user)
    checkpoint.checkpoint_all(bulk_room_store())
    assert Ticket.objects.get().event_id == other.id


def test_it_is_removed_when_a_sale_is_over_and_when_one_comes_back_from_the_database(
    room: Event, sale: Sale, store: StockStore
) -> None:
    over = sale(waiting_room=True)
    users = line_up(room)
    modes.fall_back(room.id, epoch=1)
    damage(room, 1)
    modes.sell_from_redis(room.id, store)
    damage(over, 1)
    sales.close(event_id=over.id)
    (row,) = reconcile(over.id, store)
    assert row.kind == "damaged"
    catalogue.refresh()
    assert standing(room, users[0]).number == 2
    with pytest.raises(Closed):
        standing(over, users[0])
