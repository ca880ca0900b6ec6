"""What users and operators do with claims: make one; retry or abandon one that failed."""

import base64
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Literal, NamedTuple

import structlog
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext
from redis.exceptions import RedisError

from coupons import direct, metrics, modes, rows
from coupons.errors import AlreadyClaimed, NotAdmitted
from coupons.issuing import count_issued
from coupons.locks import locked_event
from coupons.models import ClaimId, FailedClaim
from coupons.nudging import nudger
from coupons.selectors import ClaimView, pending
from coupons.stock.codes import AdjustCode, ReserveCode
from coupons.stock.records import Reply, Reservation, instant
from coupons.stock.store import bulk_store, hot_store
from events.catalogue import KnownEvent, catalogue
from events.errors import (
    Closed,
    EventNotFound,
    InvalidChange,
    NotOpen,
    Paused,
    RateLimited,
    Refusal,
    SoldOut,
    Unavailable,
)
from events.models import Event
from events.redis.servers import NotAsked

log = structlog.get_logger(__name__)

Result = Literal["accepted", "repeated"]


class Claimed(NamedTuple):
    """The answer to an accepted claim."""

    claim: ClaimView
    result: Result


def claim(*, event_id: int, user_id: int, idempotency_key: str = "") -> Claimed:
    """Take a unit of the event for the user: no query, one round trip to Redis; one transaction while Redis is lost.

    The same `idempotency_key` gets the first answer again. Raises the `Refusal` that says why not. The gate takes the
    same steps, and reserves for many at once (`coupons.gate`).
    """
    try:
        claimed = _claim(event_id, user_id, digest(idempotency_key))
    except Refusal as refusal:
        count(refusal.code)
        raise
    count(claimed.result)
    return claimed


def _claim(event_id: int, user_id: int, request: str) -> Claimed:
    event = known_event(event_id)
    if not sells_from_redis(event):
        return claim_past_redis(event, user_id, request)
    try:
        reply, reservation = reserve(event_id, [(user_id, request)])[0]
    except RedisError as error:
        if not redis_is_lost(event, error):
            raise Unavailable from error
        return claim_past_redis(event, user_id, request)
    return answer(event, reply, reservation)


def known_event(event_id: int) -> KnownEvent:
    """The event from the process's memory; `EventNotFound` for a draft or an unknown one."""
    event = catalogue.get(event_id)
    if event is None:
        raise EventNotFound
    return event


def sells_from_redis(event: KnownEvent) -> bool:
    """Whether a claim is decided by the script in Redis, and by it alone."""
    return not event.sells_from_database and not event.is_over(datetime.now(UTC))


def reserve(event_id: int, claims: Sequence[tuple[int, str]]) -> list[tuple[Reply, Reservation]]:
    """Ask the script for a unit for each of `claims`, users and request digests: its answers, each with the whole.

    One round trip. Raises `RedisError` where Redis does not answer; what it did then, its next answer tells.
    """
    started = time.perf_counter()
    reply = hot_store().reserve(event_id, epoch=known_event(event_id).epoch, claims=claims)
    return _reserved(event_id, reply, since=started)


async def areserve(event_id: int, claims: Sequence[tuple[int, str]]) -> list[tuple[Reply, Reservation]]:
    """As `reserve`, from the event loop, where events are only looked for in memory."""
    started = time.perf_counter()
    event = catalogue.at_hand(event_id)
    if event is None:
        raise Unavailable
    reply = await hot_store().areserve(event_id, epoch=event.epoch, claims=claims)
    return _reserved(event_id, reply, since=started)


def _reserved(event_id: int, reply: Reply, *, since: float) -> list[tuple[Reply, Reservation]]:
    metrics.SCRIPT_SECONDS.observe(time.perf_counter() - since)
    metrics.GROUP_CLAIMS.observe(len(reply.reservations))
    if reply.nudge:
        nudger.nudge(event_id)
    return [(reply, reservation) for reservation in reply.reservations]


def redis_is_lost(event: KnownEvent, error: RedisError) -> bool:
    """Whether Redis has been silent for as long as the event bears. A sale that nobody can claim from has time.

    Only what failed since this process heard of the event's epoch counts: a breaker may still be open from an outage
    that is over, and the sale back.
    """
    failing_for = hot_store().breaker(event.id).failing_for(since=event.heard_at)
    is_open = event.status == Event.Status.PUBLISHED and event.opens_at <= timezone.now()
    if is_open and failing_for > 0 and failing_for >= event.redis_lost_after:
        return True
    if not isinstance(error, NotAsked):  # a breaker says once that it opened
        log.warning("claim_without_redis", event_id=event.id, error=type(error).__name__)
    return False


def claim_past_redis(event: KnownEvent, user_id: int, request: str) -> Claimed:
    """Claim in the database, and move the event there first if it is still on Redis. After the end: the first answer.

    It may wait for the database. Raises the `Refusal` that says why not.
    """
    if event.is_over(timezone.now()):
        return _first_answer(event, user_id, request)
    with direct.slot():
        if not event.sells_from_database:
            modes.fall_back(event.id, epoch=event.epoch)
        claim, new = direct.claim(event_id=event.id, user_id=user_id, request=request)
    if new:
        metrics.ISSUED.inc()
    return Claimed(claim, "accepted" if new else "repeated")


def _first_answer(event: KnownEvent, user_id: int, request: str) -> Claimed:
    """The claim that this request made before the sale ended, or `Closed`. It only reads, and so claims nothing."""
    if request:
        if event.sells_from_database:
            issued = direct.first_answer(event_id=event.id, user_id=user_id, request=request)
            if issued:
                return Claimed(issued, "repeated")
        try:
            held, _, _ = hot_store().held_by(event.id, user_id)
        except RedisError as error:
            raise Unavailable from error
        for one in held:
            if one.request == request:
                return Claimed(pending(event.id, one), "repeated")
    raise Closed(opens_at=event.opens_at)


def answer(event: KnownEvent, reply: Reply, reservation: Reservation) -> Claimed:
    """What the script's answer means to the user; raises the `Refusal` where it is one."""
    match reservation.code:
        case ReserveCode.ACCEPTED:
            return Claimed(_view(event.id, reservation, drained=0), "accepted")
        case ReserveCode.REPEATED:
            return Claimed(_view(event.id, reservation, drained=0), "repeated")
        case ReserveCode.ALREADY_CLAIMED:
            raise AlreadyClaimed(_view(event.id, reservation, drained=reply.drained))
        case ReserveCode.SOLD_OUT:
            raise SoldOut
        case ReserveCode.NOT_OPEN:
            raise NotOpen(opens_at=instant(reservation.opens_ms))
        case ReserveCode.CLOSED:
            raise Closed(opens_at=event.opens_at)
        case ReserveCode.PAUSED:
            raise Paused(opens_at=event.opens_at)
        case ReserveCode.RATE_LIMITED:
            raise RateLimited(retry_after=reservation.retry_ms / 1000)
        case ReserveCode.NOT_ADMITTED:
            raise NotAdmitted(event_id=event.id)
        case ReserveCode.NOT_LOADED | ReserveCode.WRONG_EPOCH | ReserveCode.OTHER_RUN:
            # A load is due or under way, or this process has not heard of it: it will within a second.
            raise Unavailable


def _view(event_id: int, reservation: Reservation, *, drained: int) -> ClaimView:
    return ClaimView(
        ClaimId(event_id, reservation.epoch, reservation.sequence),
        "issued" if reservation.sequence <= drained else "pending",
        instant(reservation.claimed_ms),
    )


def digest(idempotency_key: str) -> str:
    """64 bits of the key, without the signs that part a user's claims in Redis; "" for no key."""
    if not idempotency_key:
        return ""
    return base64.urlsafe_b64encode(blake2b(idempotency_key.encode(), digest_size=8).digest()).rstrip(b"=").decode()


def count(result: str) -> None:
    """Count a claim by what came of it: a `Result`, or the code of the refusal."""
    metrics.claims(result).inc()


def retry_failed_claim(*, failed_id: int) -> FailedClaim:
    """Issue a rejected claim after all: an operator has mended what stood in its way.

    Its unit went back when it was rejected, so it needs one that is left. Raises `InvalidChange` where there is
    none or the claim is not rejected, and the database's error where the row is still refused.
    """
    store = bulk_store()
    with _rejected(failed_id) as (failed, event):
        entry = failed.entry
        _take_unit(failed, event)
        try:
            with transaction.atomic():
                now = timezone.now()
                written = rows.issue(event.id, [entry], now)
                if not written:
                    raise InvalidChange(
                        gettext("The user holds this coupon already: there is nothing to retry. Abandon it.")
                    )
                count_issued(event.id, 1)
                failed.status = FailedClaim.Status.ISSUED
                failed.save()
        except Exception:
            if event.stock_mode == Event.StockMode.REDIS:
                store.adjust(event.id, epoch=event.epoch, delta=1)
            raise
        if event.stock_mode == Event.StockMode.REDIS:
            store.adjust(event.id, epoch=event.epoch, claimants=[(failed.user_id, entry.held)])
        return failed


def abandon_failed_claim(*, failed_id: int) -> FailedClaim:
    """Leave a rejected claim as it is and out of the operators' list."""
    with _rejected(failed_id) as (failed, _):
        failed.status = FailedClaim.Status.ABANDONED
        failed.save()
        return failed


@contextmanager
def _rejected(failed_id: int) -> Iterator[tuple[FailedClaim, Event]]:
    event_id = FailedClaim.objects.values_list("event_id", flat=True).get(pk=failed_id)
    with locked_event(event_id) as event:
        failed = FailedClaim.objects.select_for_update().get(pk=failed_id)
        if failed.status != FailedClaim.Status.REJECTED:
            told = gettext("Claim %(claim)s is not rejected but %(status)s.")
            raise InvalidChange(told % {"claim": failed.claim_id, "status": failed.get_status_display().lower()})
        yield failed, event


def _take_unit(failed: FailedClaim, event: Event) -> None:
    """Take a unit of Redis' stock; of a sale from the database the guarded update takes it."""
    if event.stock_mode == Event.StockMode.DATABASE:
        return
    try:
        code, _ = bulk_store().adjust(event.id, epoch=event.epoch, delta=-1)
    except RedisError as error:
        raise Unavailable(
            gettext("Redis cannot be reached, and so no unit taken. Try again when it is back.")
        ) from error
    if code is AdjustCode.INSUFFICIENT:
        told = gettext("No unit is left for claim %(claim)s: raise the quantity of the sale by one first.")
        raise InvalidChange(told % {"claim": failed.claim_id})
    if code is not AdjustCode.ADJUSTED and event.status != Event.Status.CLOSED:
        raise Unavailable(gettext("The stock of this sale is not loaded. Run `manage.py reconcile`, then try again."))
