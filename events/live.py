"""`/ws/events/{id}`: where an event stands, as it changes, to all who look at it; and to each user what is theirs.

A client is shown the whole state first, so that one who comes back after a break has missed nothing.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Protocol

import structlog
from redis.exceptions import RedisError

from events import state
from events.catalogue import KnownEvent, catalogue
from events.errors import Refusal
from events.gate import Events
from events.state import Document
from notifications.sockets import TOGETHER, Frame, Message, Socket, written

log = structlog.get_logger(__name__)

AT_MOST_EVERY = 1.0  # seconds, frames of an event
LOOKED_AT_EVERY = 0.25  # seconds, so that a change after a pause is told soon


class OwnPart(Protocol):
    """What an app above has for a user who looks at an event. It may wait for Redis, and away from the event loop."""

    async def now(self, event: KnownEvent, user_id: int) -> Sequence[bytes]:
        """How things are, as frames in JSON."""

    async def after(self, event: KnownEvent, user_id: int, frame: Frame) -> Sequence[bytes]:
        """The frames that follow from one that was published to the user and concerns the event."""


class Publisher:
    """Shows one event to those who look at it. It is at work while there is anybody."""

    def __init__(self, event: KnownEvent) -> None:
        self.event = event
        self._sockets: set[Socket] = set()
        self._shown = ""  # the digest of what all of them have
        self._document = self._look()
        self._message = self._written()
        self._work: asyncio.Task[None] | None = None

    def add(self, socket: Socket) -> None:
        """Show it the state at once, by the clock of now, and then what changes."""
        document = self._look()
        if document is not self._document:
            self._document = document
            self._message = self._written()
        if self._work is None:
            self._shown = document.digest
            self._work = asyncio.create_task(self._go_on())
        self._sockets.add(socket)
        socket.show(self._message)

    def remove(self, socket: Socket) -> bool:
        """Let it go; whether it was the last."""
        self._sockets.discard(socket)
        if not self._sockets and self._work is not None:
            self._work.cancel()
            self._work = None
        return not self._sockets

    def _look(self) -> Document:
        """The state, from memory. One that is not there any more, an old event's, stays as it was."""
        self.event = catalogue.at_hand(self.event.id) or self.event
        return state.document_of(self.event)

    def _written(self) -> Message:
        return written(b'{"type":"state",' + self._document.answer.body[1:])

    async def _go_on(self) -> None:
        showed = time.monotonic()
        while True:
            await asyncio.sleep(max(LOOKED_AT_EVERY, showed + AT_MOST_EVERY - time.monotonic()))
            try:
                document = self._look()
                if document.digest != self._shown:
                    self._document, self._shown = document, document.digest
                    self._message = self._written()
                    showed = time.monotonic()
                    await self._show()
            except Exception:  # the next look may succeed
                log.exception("state_not_shown", event_id=self.event.id)

    async def _show(self) -> None:
        message = self._message
        for number, socket in enumerate(list(self._sockets), 1):
            socket.show(message)
            if number % TOGETHER == 0:
                await asyncio.sleep(0)


class EventVisit:
    """A client who looks at an event."""

    private = False

    def __init__(self, feed: "EventFeed", publisher: Publisher, socket: Socket) -> None:
        self._feed = feed
        self._publisher = publisher
        self._socket = socket
        self._user_id = 0
        self._asking: set[asyncio.Task[None]] = set()

    def identify(self, user_id: int) -> None:
        """Tell the user how things are for them."""
        self.forget()
        self._user_id = user_id
        self.resume()

    def forget(self) -> None:
        """What is being asked for a user is told to nobody."""
        self._user_id = 0
        for asking in self._asking:
            asking.cancel()

    def hear(self, frame: Frame, message: Message) -> None:
        """Pass it on, and what follows from it. What concerns another event is passed on if it is a notification."""
        told = frame.get("notification")
        concerned = told["data"].get("event_id") if told else frame.get("event_id")
        if told or concerned == self._publisher.event.id:
            self._socket.tell(message)
        if concerned == self._publisher.event.id:
            event, user_id = self._publisher.event, self._user_id
            self._ask(part.after(event, user_id, frame) for part in self._feed.parts)

    def resume(self) -> None:
        """Tell anew how things are."""
        event, user_id = self._publisher.event, self._user_id
        self._ask(part.now(event, user_id) for part in self._feed.parts)

    def leave(self) -> None:
        """Be gone."""
        self.forget()
        self._feed.leave(self._publisher, self._socket)

    def _ask(self, questions: Iterable[Coroutine[Any, Any, Sequence[bytes]]]) -> None:
        for question in questions:
            asking = asyncio.create_task(self._tell(question))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    async def _tell(self, question: Coroutine[Any, Any, Sequence[bytes]]) -> None:
        try:
            frames = await question
        except (Refusal, RedisError):
            return  # who waits for it polls: the REST API says why
        except Exception:
            log.exception("own_part_not_told", event_id=self._publisher.event.id)
            return
        for frame in frames:
            self._socket.tell(written(frame))


class EventFeed:
    """What `/ws/events/{id}` serves. `parts` are what the apps above have for each user."""

    def __init__(self, events: Events, parts: Sequence[OwnPart]) -> None:
        self._events = events
        self._publishers: dict[int, Publisher] = {}
        self.parts = parts

    async def visit(self, socket: Socket, event_id: int) -> EventVisit:
        """Let a client look at an event; `EventNotFound` for a draft or an unknown one."""
        event = await self._events.known(event_id)
        publisher = self._publishers.get(event_id)
        if publisher is None:
            publisher = self._publishers[event_id] = Publisher(event)
        publisher.add(socket)
        return EventVisit(self, publisher, socket)

    def leave(self, publisher: Publisher, socket: Socket) -> None:
        """Let it go."""
        if publisher.remove(socket):
            self._publishers.pop(publisher.event.id, None)
