"""The gate's part of coupons: claims in groups, and what became of them.

The steps are those of `services.claim` and `selectors.claim_of`; only their calls of Redis are shared with whoever
else is asking at the moment, and what may wait for the database is done away from the event loop.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from django.conf import settings
from redis.exceptions import RedisError

from coupons import answers, selectors, services
from coupons.api.requests import idempotency_key
from coupons.models import ClaimId
from coupons.stock.records import Reply, Reservation, Standing
from coupons.stock.store import Asked
from coupons.strategies import ClaimResult, lua_async
from events import outage
from events.answers import Answer
from events.catalogue import catalogue
from events.errors import Refusal, Unavailable
from events.gate import Call, Events, Route, Threads
from events.grouping import Grouped


class CouponEndpoints:
    """What the gate answers of claims."""

    def __init__(self, events: Events, threads: Threads) -> None:
        self._events = events
        self._threads = threads
        bounds = {"at_most": settings.GATE_GROUP, "waiting": settings.GATE_WAITING}
        self._reservations: Grouped[Asked, tuple[Reply, Reservation]] = Grouped(
            partial(_reserve, threads.asking_redis(lua_async.reserve, lua_async.areserve)), **bounds
        )
        self._standings: Grouped[tuple[int, ClaimId], Standing | None] = Grouped(
            threads.asking_redis(selectors.standings, selectors.astandings), **bounds
        )

    def routes(self) -> list[Route]:
        """All of them."""
        return [Route("POST", "claims", self.claim), Route("GET", "claims", self.claim_of, argument=True)]

    async def claim(self, call: Call) -> Answer:
        """Take one of the event's coupons."""
        claimed: ClaimResult
        try:
            request = services.digest(idempotency_key(call.header("idempotency-key")))
            event = catalogue.at_hand(call.event_id) or await self._events.known(call.event_id)
            quantity = services.units_of(event, call.body.get("quantity", 1))
            asked = (event, call.user_id, request, quantity)
            if services.is_claimed_in_groups(event):
                try:
                    reply, reservation = await self._reservations.ask(event.id, (call.user_id, request, quantity))
                    claimed = lua_async.answer(event, reply, reservation)
                except RedisError as error:
                    if not outage.is_lost(event):
                        raise Unavailable from error
                    claimed = await self._threads.database(services.claim_without_redis, *asked)
            else:
                claimed = await self._threads.database(services.claim_by_strategy, *asked)
        except Refusal as refusal:
            services.count(refusal.code)
            raise
        services.count(claimed.result)
        return answers.claimed(claimed.claim)

    async def claim_of(self, call: Call) -> Answer:
        """What became of a claim."""
        await self._events.known(call.event_id)
        event, name = selectors.named(call.event_id, call.argument)
        standing = await self._standings.ask(event.id, (call.user_id, name)) if event.logs_claims else None
        view = selectors.told_by_redis(event, call.user_id, name, standing)
        if view is None:
            view = await self._threads.database(selectors.told_by_database, event, call.user_id, name, standing)
        return answers.claim(view)


async def _reserve(
    call: Callable[[int, Sequence[Asked]], Awaitable[Sequence[tuple[Reply, Reservation]]]],
    event_id: int,
    claims: Sequence[Asked],
) -> Sequence[tuple[Reply, Reservation]]:
    """The call; that it failed is told here, for all whose claims are in it."""
    try:
        return await call(event_id, claims)
    except RedisError as error:
        services.note_failure(event_id, error)
        raise
