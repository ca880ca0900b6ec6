"""What a user who looks at an event hears of their ticket: where they stand, and that their turn has come.

It is told as `GET …/queue` answers it, and by the same call: hearing of it is a visit, and takes the pass.
"""

from collections.abc import Sequence

from events.catalogue import KnownEvent
from events.tokens import LAST_LANE
from events.waiting_room.gate import QueueEndpoints
from notifications.models import Notification
from notifications.sockets import Frame


class TicketPart:
    """The ticket in what a user hears of an event."""

    def __init__(self, endpoints: QueueEndpoints) -> None:
        self._endpoints = endpoints

    async def now(self, event: KnownEvent, user_id: int) -> Sequence[bytes]:
        """Where the user stands; nothing where the event has no waiting room. `NoTicket` for who has not joined."""
        if not event.waiting_room:
            return []
        view = await self._endpoints.ticket_of(event, user_id, LAST_LANE, "ask")
        return [b'{"type":"ticket",' + view.as_answer().body[1:]]

    async def after(self, event: KnownEvent, user_id: int, frame: Frame) -> Sequence[bytes]:
        """The pass, when the turn has come."""
        told = frame.get("notification")
        if told is None or told["kind"] != Notification.Kind.ADMITTED:
            return []
        return await self.now(event, user_id)
