"""What the tests of the WebSockets share: a client that reads frames, and what is published to users."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from coupons.issuing import issue_claims
from coupons.models import ClaimId
from coupons.stock.store import bulk_store
from notifications.models import Notification
from tests.api_kit import forge

Frame = dict[str, Any]

SOON = 5  # seconds in which whatever is to come has come, on a machine that is busy with other things


class Client:
    """One end of a WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    @property
    def subprotocol(self) -> str | None:
        """The one that the server chose."""
        return self.connection.subprotocol

    def say(self, message: Frame | str) -> None:
        """Send it."""
        self.connection.send(message if isinstance(message, str) else json.dumps(message))

    def identify(self, user_id: int, **claims: Any) -> None:
        """Say who it is."""
        self.say({"type": "auth", "token": forge(user_id=user_id, **claims)})

    def hear(self, kind: str) -> Frame:
        """The next frame but for pings, which is of this type."""
        frame = self._next(SOON)
        assert frame["type"] == kind, frame
        return frame

    def hear_until(self, kind: str, **fields: Any) -> Frame:
        """The next frame of this type that says so, whatever comes before."""
        while not ((frame := self._next(SOON))["type"] == kind and fields.items() <= frame.items()):
            pass
        return frame

    def hears_nothing(self, seconds: float) -> bool:
        """Whether nothing comes in so long."""
        try:
            frame = self._next(seconds)
        except TimeoutError:
            return True
        raise AssertionError(frame)

    def answers_pings(self, seconds: float) -> None:
        """Do nothing else for so long."""
        with suppress(TimeoutError):
            self._next(seconds)

    def end(self) -> int | None:
        """The code that it is closed with, whatever comes before; None where it is cut off without a word.

        No ping is answered: it would keep alive who is to be dropped.
        """
        code = None
        try:
            while True:
                self.connection.recv(timeout=SOON)
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else None
        return code

    def _next(self, seconds: float) -> Frame:
        while (frame := json.loads(self.connection.recv(timeout=seconds)))["type"] == "ping":
            self.say({"type": "pong"})
        assert isinstance(frame, dict)
        return frame


@contextmanager
def socket(port: int, path: str, *, subprotocols: Sequence[str] = (), origin: str | None = None) -> Iterator[Client]:
    """Connect to it. `InvalidStatus` where it is refused."""
    with connect(
        f"ws://127.0.0.1:{port}{path}",
        subprotocols=[Subprotocol(one) for one in subprotocols] or None,
        origin=Origin(origin) if origin else None,
        proxy=None,
        close_timeout=0.2,  # whoever only listens is not answered
        max_size=2**24,
    ) as connection:
        yield Client(connection)


def issue(event_id: int) -> list[tuple[int, Frame]]:
    """Issue what was claimed; the frames of the notifications, as they are published."""
    issue_claims(event_id, bulk_store())
    return [
        (one.user_id, notification(one.kind, id=one.pk, data=one.data))
        for one in Notification.objects.filter(data__event_id=event_id)
    ]


def notification(kind: str, *, data: Frame, id: int = 1) -> Frame:  # noqa: A002 - its name in the frame
    """The frame of a notification."""
    told = {"id": id, "kind": kind, "data": data, "created_at": "2026-01-01T00:00:00.000Z", "read_at": None}
    return {"type": "notification", "notification": told}


def claim_name(event_id: int, sequence: int) -> str:
    """What a claim of the first load is called."""
    return str(ClaimId(event_id, 1, sequence))
