"""The others in line."""

from events.models import Event
from events.waiting_room.records import Visit
from events.waiting_room.service import visits
from tests.factories import make_users


def join_others(event: Event, number: int) -> int:
    """So many stand in line already, and will not come again; who is the last of them."""
    users = make_users(number)
    for user in users:
        visits(event.id, [Visit("join", user, 1)])
    return users[-1]
