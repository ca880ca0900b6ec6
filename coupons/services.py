"""What users and operators do with claims: make one; retry or abandon one that failed."""

import base64
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from operator import attrgetter

import structlog
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from redis.exceptions import RedisError

from coupons import direct, metrics, modes, rows, strategies
from coupons.errors import too_many
from coupons.issuing import count_issued
from coupons.locks import locked_event
from coupons.models import FailedClaim
from coupons.selectors import pending
from coupons.stock.codes import AdjustCode
from coupons.stock.store import bulk_store, hot_store
from coupons.strategies import ClaimResult
from events import outage
from events.catalogue import KnownEvent, catalogue
from events.errors import (
    Closed,
    EventNotFound,
    InvalidChange,
    Refusal,
    Unavailable,
)
from events.models import SCRIPT_WAYS, Event
from events.redis.servers import NotAsked

log = structlog.get_logger(__name__)


def claim(*, event_id: int, user_id: int, idempotency_key: str = "", quantity: object = 1) -> ClaimResult:
    """Take units of the event for the user, in the way of the event (`coupons.strategies`).

    All of the `quantity` or none; what is no whole number from 1 to what the event allows is `Invalid`.
    The same `idempotency_key` gets the first answer again. Raises the `Refusal` that says why not. The gate takes the
    same steps, and reserves for many at once (`coupons.gate`).
    """
    try:
        event = known_event(event_id)
        claimed = claim_by_strategy(event, user_id, digest(idempotency_key), units_of(event, quantity))
    except Refusal as refusal:
        count(refusal.code)
        raise
    count(claimed.result)
    return claimed


def most_of(event: KnownEvent) -> int:
    """The units that one claim of the event may be of at most."""
    return event.per_user_limit if strategies.of(event).several else 1


def units_of(event: KnownEvent, quantity: object) -> int:
    """The units that are asked for, as a caller wrote it; `Invalid` for what nobody may claim of the event."""
    if type(quantity) is int and (quantity == 1 or 1 < quantity <= most_of(event)):  # True is no number here
        return quantity
    raise too_many(most_of(event))


def known_event(event_id: int) -> KnownEvent:
    """The event from the process's memory; `EventNotFound` for a draft or an unknown one."""
    event = catalogue.get(event_id)
    if event is None:
        raise EventNotFound
    return event


def is_claimed_in_groups(event: KnownEvent) -> bool:
    """Whether a claim is decided by the script in Redis, and by it alone: then many can be asked for in one call."""
    return time.time() < event.by_script_until


def claim_by_strategy(event: KnownEvent, user_id: int, request: str, quantity: int = 1) -> ClaimResult:
    """Claim in the way of the event; after the end of the sale the first answer. It may wait for the database.

    Raises the `Refusal` that says why not.
    """
    if event.is_over(timezone.now()):
        return _first_answer(event, user_id, request)
    try:
        return strategies.of(event).claim_several(event, user_id, request, quantity)
    except RedisError as error:
        note_failure(event.id, error)
        if not outage.is_lost(event):
            raise Unavailable from error
    return claim_without_redis(event, user_id, request, quantity)


def note_failure(event_id: int, error: RedisError) -> None:
    """Log that a call of Redis failed: once, however many claims were in it."""
    if not isinstance(error, NotAsked):  # a breaker says once that it opened
        log.warning("claim_without_redis", event_id=event_id, error=type(error).__name__)


def claim_without_redis(event: KnownEvent, user_id: int, request: str, quantity: int = 1) -> ClaimResult:
    """Move a sale that has lost Redis to the database, and claim there. Raises the `Refusal` that says why not."""
    with direct.slot():
        modes.fall_back(event.id, epoch=event.epoch)
    return strategies.WITHOUT_REDIS.claim_several(event, user_id, request, quantity)


def _first_answer(event: KnownEvent, user_id: int, request: str) -> ClaimResult:
    """The claim that this request made before the sale ended, or `Closed`. It only reads, and so claims nothing."""
    if request and (event.sells_from_database or strategies.of(event).at_once):
        issued = direct.first_answer(event_id=event.id, user_id=user_id, request=request)
        if issued:
            return ClaimResult(issued, "repeated")
    if request and event.logs_claims:
        try:
            held, _, _ = hot_store().held_by(event.id, user_id)
        except RedisError as error:
            raise Unavailable from error
        for one in held:
            if one.request == request:
                return ClaimResult(pending(event.id, one), "repeated")
    raise Closed(opens_at=event.opens_at)


def digest(idempotency_key: str) -> str:
    """64 bits of the key, without the signs that part a user's claims in Redis; "" for no key."""
    if not idempotency_key:
        return ""
    return base64.urlsafe_b64encode(blake2b(idempotency_key.encode(), digest_size=8).digest()).rstrip(b"=").decode()


def count(result: str, number: int = 1) -> None:
    """Count claims by what came of them: a `Result`, or the code of the refusal."""
    metrics.claims(result).inc(number)


def retry_failed_claim(*, failed_id: int) -> FailedClaim:
    """Issue a rejected claim after all: an operator has mended what stood in its way.

    Its units went back when it was rejected, so it needs as many that are left. Raises `InvalidChange` where there are
    none or the claim is not rejected, and the database's error where a row is still refused.
    """
    store = bulk_store()
    with _rejected(failed_id) as (units, event):
        entries = [failed.entry for failed in units]
        _take_units(units, event)
        try:
            with transaction.atomic():
                now = timezone.now()
                written = rows.issue(event.id, entries, now)
                if len(written) < len(entries):
                    raise InvalidChange(
                        gettext("The user holds this coupon already: there is nothing to retry. Abandon it.")
                    )
                count_issued(event.id, len(entries))
                _save(units, FailedClaim.Status.ISSUED)
        except Exception:
            if event.stock_mode == Event.StockMode.REDIS and event.strategy in SCRIPT_WAYS:
                store.adjust(event.id, epoch=event.epoch, delta=len(entries))
            raise
        if event.stock_mode == Event.StockMode.REDIS:
            claimants = [(entry.user_id, entry.held) for entry in entries]
            store.adjust(event.id, epoch=event.epoch, claimants=claimants)
        return units[0]


def abandon_failed_claim(*, failed_id: int) -> FailedClaim:
    """Leave a rejected claim as it is and out of the operators' list."""
    with _rejected(failed_id) as (units, _):
        _save(units, FailedClaim.Status.ABANDONED)
        return units[0]


@contextmanager
def _rejected(failed_id: int) -> Iterator[tuple[list[FailedClaim], Event]]:
    """The units of the claim that the row is of, all of them rejected."""
    event_id = FailedClaim.objects.values_list("event_id", flat=True).get(pk=failed_id)
    with locked_event(event_id) as event:
        failed = FailedClaim.objects.get(pk=failed_id)
        entry = failed.entry
        units = FailedClaim.objects.filter(
            event=event, epoch=entry.epoch, user_id=entry.user_id, sequence__range=(entry.first, entry.last)
        ).select_for_update()
        for one in units:
            if one.reason in FailedClaim.ENDED_HOLD:
                told = gettext("The hold of claim %(claim)s has ended; its user may claim again.")
                raise InvalidChange(told % {"claim": one.claim_id})
            if one.status != FailedClaim.Status.REJECTED:
                told = gettext("Claim %(claim)s is not rejected but %(status)s.")
                raise InvalidChange(told % {"claim": one.claim_id, "status": one.get_status_display().lower()})
        yield sorted(units, key=attrgetter("sequence")), event


def _save(units: Sequence[FailedClaim], status: FailedClaim.Status) -> None:
    for failed in units:
        failed.status = status
        failed.save()


def _take_units(units: Sequence[FailedClaim], event: Event) -> None:
    """Take the claim's units of Redis' stock; where that is not the stock, see that the database has them."""
    if event.stock_mode == Event.StockMode.DATABASE or event.strategy not in SCRIPT_WAYS:
        if event.quantity - event.issued < len(units):
            raise _too_few(units)
        return
    try:
        code, _ = bulk_store().adjust(event.id, epoch=event.epoch, delta=-len(units))
    except RedisError as error:
        raise Unavailable(
            gettext("Redis cannot be reached, and so no unit taken. Try again when it is back.")
        ) from error
    if code is AdjustCode.INSUFFICIENT:
        raise _too_few(units)
    if code is not AdjustCode.ADJUSTED and event.status != Event.Status.CLOSED:
        raise Unavailable(gettext("The stock of this sale is not loaded. Run `manage.py reconcile`, then try again."))


def _too_few(units: Sequence[FailedClaim]) -> InvalidChange:
    told = ngettext(
        "No unit is left for claim %(claim)s: raise the quantity of the sale by one first.",
        "No %(number)s units are left for claim %(claim)s: raise the quantity of the sale first.",
        len(units),
    )
    return InvalidChange(told % {"claim": units[0].claim_id, "number": len(units)})
