"""The others in line."""

from events.models import Event
from events.waiting_room.records import Visit
from events.waiting_room.service import visits
from tests.factories import make_users


def join_others(event: Event, number: int) -> None:
    """So many stand in line already, and will not come again."""
    for user in make_users(number):
        visits(event.id, [Visit("join", user, 1)])
