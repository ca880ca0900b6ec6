"""The gate's part of coupons: claims in groups, and what became of them.

The steps are those of `services.claim` and `selectors.claim_of`; only their calls of Redis are shared with whoever
else is asking at the moment, and what may wait for the database is done away from the event loop.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from django.conf import settings
from redis.exceptions import RedisError

from coupons import answers, selectors, services
from coupons.api.requests import idempotency_key
from coupons.models import ClaimId
from coupons.stock.codes import ReserveCode
from coupons.stock.records import Reply, Standing
from coupons.stock.store import Asked
from coupons.strategies import ClaimResult, lua_async
from events import outage
from events.answers import Answer
from events.catalogue import KnownEvent, catalogue
from events.errors import Refusal, Unavailable
from events.gate import Call, Events, Route, Threads, Told
from events.grouping import Grouped


class CouponEndpoints:
    """What the gate answers of claims."""

    def __init__(self, events: Events, threads: Threads) -> None:
        self._events = events
        self._threads = threads
        bounds = {"at_most": settings.GATE_GROUP, "waiting": settings.GATE_WAITING}
        self._claims: Grouped[Asked, Told] = Grouped(
            partial(_claim_all, threads.asking_redis(lua_async.reserve, lua_async.areserve)), **bounds
        )
        self._standings: Grouped[tuple[int, ClaimId], Standing | None] = Grouped(
            threads.asking_redis(selectors.standings, selectors.astandings), **bounds
        )

    def routes(self) -> list[Route]:
        """All of them."""
        return [Route("POST", "claims", self.claim), Route("GET", "claims", self.claim_of, argument=True)]

    async def claim(self, call: Call) -> Told:
        """Take one of the event's coupons."""
        try:
            request = services.digest(idempotency_key(call.header(b"idempotency-key")))
            event = catalogue.at_hand(call.event_id) or await self._events.known(call.event_id)
            asked = (call.user_id, request, services.units_of(event, call.body.get("quantity", 1)))
            if not services.is_claimed_in_groups(event):
                return await self._claim_alone(services.claim_by_strategy, event, asked)
            try:
                return await self._claims.ask(event.id, asked)
            except RedisError as error:
                if not outage.is_lost(event):
                    raise Unavailable from error
                return await self._claim_alone(services.claim_without_redis, event, asked)
        except Refusal as refusal:
            services.count(refusal.code)
            raise

    async def _claim_alone(
        self, claim: Callable[..., ClaimResult], event: KnownEvent, asked: tuple[int, str, int]
    ) -> Answer:
        claimed: ClaimResult = await self._threads.database(claim, event, *asked)
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


async def _claim_all(
    call: Callable[[int, Sequence[Asked]], Awaitable[Reply]], event_id: int, claims: Sequence[Asked]
) -> Sequence[Told]:
    """The call; that it failed is logged here, once for all whose claims are in it."""
    event = catalogue.at_hand(event_id)
    if event is None:
        raise Unavailable
    try:
        reply = await call(event_id, claims)
    except RedisError as error:
        services.note_failure(event_id, error)
        raise
    return _told(event, reply)


def _told(event: KnownEvent, reply: Reply) -> Sequence[Told]:
    """What each in a call is told. All in one go: worked out in the coroutine of each it takes twice the time."""
    told: list[Told] = []
    accepted, results = 0, list[str]()
    together: Callable[[int], Answer] | None = None
    for one in reply.reservations:
        if one.code is ReserveCode.ACCEPTED and one.quantity == 1:
            together = together or answers.claimed_together(event.id, one.epoch, one.claimed_ms)
            told.append(together(one.sequence))
            accepted += 1
            continue
        outcome = lua_async.outcome(event, one, drained=reply.drained)
        if isinstance(outcome, Refusal):
            told.append(outcome)
            results.append(outcome.code)
        else:
            told.append(answers.claimed(outcome.claim))
            results.append(outcome.result)
    if accepted:
        services.count("accepted", accepted)
    for result, number in Counter(results).items() if results else ():
        services.count(result, number)
    return told
