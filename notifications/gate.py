"""The gate's part of notifications: `/ws/me`, where users hear what they are told as it happens.

It begins with nothing: what was told before, and how much of it is unread, is the REST API's to answer.
"""

from notifications.sockets import Frame, Message, Socket


class OwnVisit:
    """A user who listens."""

    private = True

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    def identify(self, user_id: int) -> None:
        """Nothing is theirs but what is to come."""

    def forget(self) -> None:
        """Whoever decides so closes the socket."""

    def hear(self, frame: Frame, message: Message) -> None:
        """Pass on the notifications."""
        if frame["type"] == "notification":
            self._socket.tell(message)

    def resume(self) -> None:
        """What was missed is among the user's notifications."""

    def leave(self) -> None:
        """Nothing was taken that must be given back."""


class OwnFeed:
    """What `/ws/me` serves."""

    async def visit(self, socket: Socket, event_id: int) -> OwnVisit:  # noqa: ARG002 - as all feeds have it
        """Let a client in."""
        return OwnVisit(socket)
