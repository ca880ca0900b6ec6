"""The product's own way: one script takes the unit and appends to the claim log; a worker writes the coupons."""

import time
from collections.abc import Sequence

from coupons import metrics
from coupons.errors import AlreadyClaimed, NotAdmitted, too_many
from coupons.models import ClaimId
from coupons.nudging import nudger
from coupons.selectors import ClaimView
from coupons.stock.codes import ReserveCode
from coupons.stock.records import Reply, Reservation, instant
from coupons.stock.store import Asked, hot_store
from coupons.strategies.base import ClaimResult, Strategy
from events.catalogue import KnownEvent, catalogue
from events.errors import Closed, EventNotFound, NotOpen, Paused, RateLimited, Refusal, SoldOut, Unavailable
from events.models import Event

Outcome = ClaimResult | Refusal


class LuaAsync(Strategy):
    """`reserve.lua` checks and takes all at once, in one round trip; issuing follows in batches of a thousand.

    For: no claim waits for the database, and many claims are one call (the gate); a crash anywhere loses nothing, for
    what is taken is in the log from the same moment. The only way that a crowd fits through. Against: it has the most
    parts, a worker among them; the coupon is there a moment after the answer; and between the two a Redis that loses
    its memory loses claims that were accepted, whose owners are told.
    """

    name = Event.Strategy.LUA_ASYNC
    at_once = False
    several = True
    limits_requests = True

    def claim(self, event: KnownEvent, user_id: int, request: str) -> ClaimResult:
        """As in the contract; no query. The gate takes the same steps, and reserves for many at once."""
        return self.claim_several(event, user_id, request, 1)

    def claim_several(self, event: KnownEvent, user_id: int, request: str, quantity: int) -> ClaimResult:
        """The same, of so many units."""
        reply = reserve(event.id, [(user_id, request, quantity)])
        return unless_refused(outcome(event, reply.reservations[0], drained=reply.drained))


def reserve(event_id: int, claims: Sequence[Asked]) -> Reply:
    """Ask the script for the units of each of `claims`. One round trip.

    Raises `RedisError` where Redis does not answer; what it did then, its next answer tells.
    """
    started = time.perf_counter()
    event = catalogue.get(event_id)
    if event is None:
        raise EventNotFound
    return _noted(event_id, hot_store().reserve(event_id, epoch=event.epoch, claims=claims), since=started)


async def areserve(event_id: int, claims: Sequence[Asked]) -> Reply:
    """As `reserve`, from the event loop, where events are only looked for in memory."""
    started = time.perf_counter()
    event = catalogue.at_hand(event_id)
    if event is None:
        raise Unavailable
    return _noted(event_id, await hot_store().areserve(event_id, epoch=event.epoch, claims=claims), since=started)


def _noted(event_id: int, reply: Reply, *, since: float) -> Reply:
    metrics.SCRIPT_SECONDS.observe(time.perf_counter() - since)
    metrics.GROUP_CLAIMS.observe(len(reply.reservations))
    if reply.nudge:
        nudger.nudge(event_id)
    return reply


def outcome(event: KnownEvent, reservation: Reservation, *, drained: int) -> Outcome:  # noqa: PLR0911 - one a code
    """What the script's answer means to the user. `drained` is the watermark that came with it."""
    match reservation.code:
        case ReserveCode.ACCEPTED:
            return ClaimResult(_view(event, reservation, drained=0), "accepted")
        case ReserveCode.REPEATED:
            return ClaimResult(_view(event, reservation, drained=0), "repeated")
        case ReserveCode.ALREADY_CLAIMED:
            return AlreadyClaimed(_view(event, reservation, drained=drained))
        case ReserveCode.SOLD_OUT:
            return SoldOut()
        case ReserveCode.NOT_OPEN:
            return NotOpen(opens_at=instant(reservation.opens_ms))
        case ReserveCode.CLOSED:
            return Closed(opens_at=event.opens_at)
        case ReserveCode.PAUSED:
            return Paused(opens_at=event.opens_at)
        case ReserveCode.RATE_LIMITED:
            return RateLimited(retry_after=reservation.retry_ms / 1000)
        case ReserveCode.NOT_ADMITTED:
            return NotAdmitted(event_id=event.id)
        case ReserveCode.OVER_LIMIT:
            return too_many(reservation.limit)
        case ReserveCode.NOT_LOADED | ReserveCode.WRONG_EPOCH | ReserveCode.OTHER_RUN:
            # A load is due or under way, or this process has not heard of it: it will within a second.
            return Unavailable()


def unless_refused(told: Outcome) -> ClaimResult:
    """The result; a refusal is raised."""
    if not isinstance(told, Refusal):
        return told
    try:
        raise told
    finally:
        del told  # or the refusal and this frame hold each other, until the garbage collector comes


def _view(event: KnownEvent, reservation: Reservation, *, drained: int) -> ClaimView:
    # What is drained of a sale with holds may be held or confirmed by now: the database tells, to who asks for it.
    is_issued = reservation.sequence <= drained and not event.hold_seconds
    return ClaimView(
        ClaimId(event.id, reservation.epoch, reservation.sequence),
        "issued" if is_issued else "pending",
        instant(reservation.claimed_ms),
        reservation.quantity,
    )
