"""The gate's part of events, and what all its parts are made of.

The gate is an ASGI application beside Django's (`config.gate`). It knows the way of a request up to an endpoint and
back; the endpoints are in the apps, as coroutines that take a `Call` and return an `Answer`, or a `Refusal`. They may
raise it as well, which is dearer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from django.conf import settings

from events import state
from events.answers import Answer
from events.catalogue import KnownEvent, catalogue
from events.errors import EventNotFound, Refusal
from events.grouping import Grouped
from events.redis import servers

Q = TypeVar("Q")
A = TypeVar("A")


class Call(Protocol):
    """A request, as far as an endpoint needs it."""

    event_id: int
    argument: str  # what stands behind the endpoint's name in the path, "" for nothing
    user_id: int  # 0 where the endpoint is public
    lane: int  # of a waiting room: 0 is served before 1
    body: Mapping[str, Any]  # the JSON that was sent; empty for none

    def header(self, name: bytes) -> str | None:
        """A header's text, by its name in small letters; None where it was not sent."""


Told = Answer | Refusal
Endpoint = Callable[[Call], Awaitable[Told]]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint below `/api/v1/events/{id}/`. A GET answers HEAD as well."""

    method: str
    name: str
    endpoint: Endpoint
    argument: bool = False  # whether something stands behind the name
    public: bool = False  # whether no token is asked for


class Run(Protocol):
    """Runs a function that blocks, away from the event loop."""

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> "asyncio.Future[Any]":
        """Start it; its result, later."""


@dataclass(frozen=True, slots=True)
class Threads:
    """Where endpoints have done what blocks. Apart, so that one server that hangs takes nothing from the other."""

    redis: Run
    database: Run

    def asking_redis(
        self,
        blocking: Callable[[int, Sequence[Q]], A],
        awaited: Callable[[int, Sequence[Q]], Awaitable[A]],
    ) -> Callable[[int, Sequence[Q]], Awaitable[A]]:
        """The one of two ways to ask the same that this Redis can be asked in: in a thread, or in the event loop."""
        return awaited if servers.hot().answers_in_loop else partial(self.redis, blocking)


class Events:
    """The events as a coroutine gets them: from memory, and one that is not there by one look-up for all who ask."""

    def __init__(self, threads: Threads) -> None:
        self._look_ups: Grouped[None, KnownEvent | None] = Grouped(
            partial(threads.database, lambda event_id, askers: [catalogue.get(event_id)] * len(askers)),
            at_most=settings.GATE_WAITING,
            waiting=settings.GATE_WAITING,
        )

    async def known(self, event_id: int) -> KnownEvent:
        """The event; `EventNotFound` for a draft or an unknown one."""
        event = catalogue.at_hand(event_id)
        if event is None and not catalogue.is_known_to_be_missing(event_id):
            event = await self._look_ups.ask(event_id, None)
        if event is None:
            raise EventNotFound
        return event


class EventEndpoints:
    """What the gate answers of events."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def routes(self) -> list[Route]:
        """All of them."""
        return [Route("GET", "state", self.state, public=True)]

    async def state(self, call: Call) -> Answer:
        """Where the event stands, from memory."""
        event = await self._events.known(call.event_id)
        return state.state_of(event, if_none_match=call.header(b"if-none-match"))
