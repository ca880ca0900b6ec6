"""Whose turn has come is told so, wherever they are."""

from collections.abc import Callable

from events.models import Event
from events.waiting_room.checkpoint import checkpoint
from events.waiting_room.records import Visit
from events.waiting_room.service import visits
from events.waiting_room.store import bulk_room_store
from notifications.models import Notification
from tests.factories import make_users

Sale = Callable[..., Event]


def test_who_is_called_is_told_once_and_who_waits_is_not(sale: Sale) -> None:
    event = sale(waiting_room=True, admission_rate=1, max_active=1)
    first, second = make_users(2)
    visits(event.id, [Visit("join", first, 1), Visit("join", second, 1)])
    log = bulk_room_store().client.lrange(f"sc:{{{event.id}}}:room_log", 0, -1)
    checkpoint(event.id, bulk_room_store())
    told = Notification.objects.get()
    assert (told.user_id, told.kind, told.data["event_id"]) == (first, "admitted", event.id)
    bulk_room_store().client.rpush(f"sc:{{{event.id}}}:room_log", *log)  # as after a crash before it was settled
    checkpoint(event.id, bulk_room_store())
    assert Notification.objects.count() == 1
