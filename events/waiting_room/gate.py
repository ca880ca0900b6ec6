"""The gate's part of the waiting room: visits in groups. The steps are those of `service`."""

from functools import partial
from typing import Literal

from django.conf import settings
from redis.exceptions import RedisError

from events.answers import Answer
from events.catalogue import KnownEvent, catalogue
from events.gate import Call, Events, Route, Threads
from events.grouping import Grouped
from events.waiting_room import past_redis, service
from events.waiting_room.records import Reply, Visit, Visited
from events.waiting_room.views import LEFT, TicketView


class QueueEndpoints:
    """What the gate answers of tickets."""

    def __init__(self, events: Events, threads: Threads) -> None:
        self._events = events
        self._threads = threads
        self._visits: Grouped[Visit, tuple[Reply, Visited]] = Grouped(
            threads.asking_redis(service.visits, service.avisits),
            at_most=settings.GATE_GROUP,
            waiting=settings.GATE_WAITING,
        )

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("POST", "queue", self.join),
            Route("GET", "queue", self.ask),
            Route("DELETE", "queue", self.leave),
        ]

    async def join(self, call: Call) -> Answer:
        """Take a place."""
        return (await self._visit(call, "join")).as_answer()

    async def ask(self, call: Call) -> Answer:
        """Where the caller stands."""
        return (await self._visit(call, "ask")).as_answer()

    async def leave(self, call: Call) -> Answer:
        """Give the place up."""
        event = await self._event(call)
        told = await self._ask_redis(event, Visit("leave", call.user_id, call.lane))
        if told is not None:
            service.left(event, told[1])
        else:
            with past_redis.place():
                await self._threads.database(past_redis.leave, event, call.user_id)
        return LEFT

    async def ticket_of(self, event: KnownEvent, user_id: int, lane: int, act: Literal["join", "ask"]) -> TicketView:
        """A user's ticket, after the visit. Raises the `Refusal` that says no."""
        told = await self._ask_redis(event, Visit(act, user_id, lane))
        if told is not None:
            return service.answer(event, *told)
        with past_redis.place():  # taken here: who is refused must not wait for a thread
            ask = partial(past_redis.visit, event, user_id, joins=act == "join")
            view: TicketView = await self._threads.database(ask)
            return view

    async def _visit(self, call: Call, act: Literal["join", "ask"]) -> TicketView:
        return await self.ticket_of(await self._event(call), call.user_id, call.lane, act)

    async def _event(self, call: Call) -> KnownEvent:
        return service.with_room(catalogue.at_hand(call.event_id) or await self._events.known(call.event_id))

    async def _ask_redis(self, event: KnownEvent, visit: Visit) -> tuple[Reply, Visited] | None:
        """What the script answers; None where the sale does without Redis."""
        if event.sells_from_database:
            return None
        try:
            return await self._visits.ask(event.id, visit)
        except RedisError as error:
            service.require_lost(event, error)
            return None
