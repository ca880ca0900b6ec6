"""Holds: claims of a sale that asks for confirmation. A hold is confirmed in time, and so issued, or its units go back.

What becomes of a hold is decided in the database, behind the lock of the event's row: of a confirmation, a
cancellation and the end of its time one is first, and the others find it done. In Redis the units are on sale again
right after the commit. A crash between the two leaves them marked as `to_return`; the sweep finds them within a second
and finishes it, and the script gives a unit once only, to whomever asks it. The reconciler, which may not take units
on their way for drift, finishes it before it looks.
"""

from collections.abc import Sequence
from typing import Literal

import structlog
from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from redis.exceptions import RedisError

from coupons import direct, failures, metrics, rows
from coupons.errors import AlreadyConfirmed, ClaimNotFound, HoldCancelled, HoldExpired, NotHeld
from coupons.locks import PAGE, take_drain_lock
from coupons.models import ClaimId, Coupon, FailedClaim
from coupons.selectors import ClaimView, as_failed, as_written
from coupons.stock.store import StockStore, hot_store
from events.errors import Unavailable
from events.models import Event

log = structlog.get_logger(__name__)

BATCH = 200  # claims that are released in one transaction

Reason = FailedClaim.Reason
Cancellation = Literal["cancelled", "payment_failed"]


def confirm(*, event_id: int, claim_id: str) -> ClaimView:
    """Issue what is held. Confirmed already: the same answer again.

    Raises `ClaimNotFound`, `HoldExpired` for one that comes too late, swept or not, `HoldCancelled` for one that was
    cancelled, `NotHeld` for one that is no hold (yet).
    """
    name = _parse(event_id, claim_id)
    units = _units(name)
    if not units or units[0].status == Coupon.Status.ISSUED:  # told without the lock, for which others wait
        return _decided(name, units)
    now = timezone.now()
    with transaction.atomic():
        direct.wait_briefly()
        is_confirmed = rows.confirm(event_id, units, now)
        transaction.set_rollback(not is_confirmed)
    if not is_confirmed:
        return _decided(name, _units(name))
    for one in units:
        one.status, one.held_until, one.issued_at = Coupon.Status.ISSUED, None, now
    metrics.ISSUED.inc(len(units))
    log.info("hold_confirmed", claim_id=claim_id)
    return as_written(*units)


def _decided(name: ClaimId, units: Sequence[Coupon]) -> ClaimView:
    """What a confirmation is told that finds the hold decided on."""
    if not units:
        raise _ended(name)
    if units[0].status != Coupon.Status.ISSUED:
        raise HoldExpired
    return as_written(*units)


def cancel(
    *, event_id: int, claim_id: str, reason: Cancellation = "cancelled", user_id: int | None = None
) -> ClaimView:
    """Give back what is held; with `user_id` only if it is that user's. Ended already: how it did.

    Raises `ClaimNotFound`, `AlreadyConfirmed`, and `NotHeld` for what is no hold (yet).
    """
    name = _parse(event_id, claim_id)
    seen = _units(name)  # as in `confirm`: whoever is told no needs no lock
    if seen and user_id not in (None, seen[0].user_id):
        raise ClaimNotFound
    if seen and _cancelled(name, Reason(reason)):
        log.info("hold_cancelled", claim_id=claim_id, reason=reason)
        _give_back_now(event_id)
    failed = _failed(name)
    if failed is None or user_id not in (None, failed.user_id):
        raise _unknown(name, user_id)
    return as_failed(failed)


def _cancelled(name: ClaimId, reason: FailedClaim.Reason) -> bool:
    """Release the hold; False where it has ended meanwhile. Raises `AlreadyConfirmed`."""
    with transaction.atomic():
        direct.wait_briefly()
        units = _locked(name)
        if units and units[0].status == Coupon.Status.ISSUED:
            raise AlreadyConfirmed(as_written(*units))
        if units:
            _release(units[0].event, units, reason)
        return bool(units)


def due() -> set[int]:
    """The events that have holds whose time is over, or units on their way back. Two looks at small indexes."""
    over = Coupon.objects.filter(status=Coupon.Status.HELD, held_until__lte=Now())
    to_return = FailedClaim.objects.filter(to_return=True)
    return {
        *over.order_by().values_list("event_id", flat=True).distinct(),
        *to_return.order_by().values_list("event_id", flat=True).distinct(),
    }


def release_due(event_id: int, store: StockStore, *, batch: int = BATCH) -> int:
    """Give back the holds whose time is over, and whatever is on its way back; the number of units released."""
    released = 0
    while True:
        with transaction.atomic():
            event = Event.objects.select_for_update(no_key=True).get(pk=event_id)
            over = Coupon.objects.filter(event=event, status=Coupon.Status.HELD, held_until__lte=Now())
            first = list(over.filter(place=1).order_by("held_until", "id")[:batch])
            units = [unit for one in first for unit in ([one] if one.units == 1 else _units(one.claim_id))]
            _release(event, units, Reason.HOLD_EXPIRED)
        released += len(units)
        give_back(event_id, store)
        if len(first) < batch:
            break
    if released:
        log.info("holds_expired", event_id=event_id, units=released)
    return released


def give_back(event_id: int, store: StockStore) -> int:
    """Have Redis sell again what the database does already; how many units it had not on sale. Raises `RedisError`.

    Under the drain lock: a reconciler must see all of it or nothing.
    """
    with transaction.atomic():
        take_drain_lock(event_id)
        return give_back_locked(event_id, store)


def give_back_locked(event_id: int, store: StockStore) -> int:
    """`give_back`, for who has the lock."""
    given = 0
    while to_return := list(FailedClaim.objects.filter(event_id=event_id, to_return=True)[:PAGE]):
        given += store.release(event_id, [one.entry for one in to_return], back="owner")
        FailedClaim.objects.filter(pk__in=[one.pk for one in to_return]).update(to_return=False)
    return given


def _give_back_now(event_id: int) -> None:
    """`give_back`, of which the sweep does in a second what cannot be done now."""
    try:
        give_back(event_id, hot_store())
    except (RedisError, DatabaseError) as error:
        log.warning("given_back_later", event_id=event_id, error=type(error).__name__)


def _release(event: Event, units: Sequence[Coupon], reason: FailedClaim.Reason) -> None:
    """End the holds, in the database. The event's row is locked."""
    if not units:
        return
    Coupon.objects.filter(pk__in=[one.pk for one in units]).delete()
    Event.objects.filter(pk=event.pk).update(issued=F("issued") - len(units), held=F("held") - len(units))
    from_redis = event.stock_mode == Event.StockMode.REDIS
    failures.reject(event.pk, [one.entry for one in units], reason, to_return=from_redis)


def _parse(event_id: int, claim_id: str) -> ClaimId:
    name = ClaimId.parse(claim_id)
    if name is None or name.event_id != event_id or str(name) != claim_id:
        raise ClaimNotFound
    return name


def _locked(name: ClaimId) -> list[Coupon]:
    """The units of the claim, behind the lock of the event's row; nobody else decides on it meanwhile."""
    event = Event.objects.select_for_update(no_key=True).filter(pk=name.event_id).first()
    units = _units(name)
    for one in units:
        one.event = event or one.event
    return units


def _units(name: ClaimId) -> list[Coupon]:
    of_epoch = Coupon.objects.filter(event_id=name.event_id, epoch=name.epoch).select_related("event")
    first = of_epoch.filter(sequence=name.sequence, place=1).first()
    if first is None:
        return []
    rest = of_epoch.filter(sequence__range=(name.sequence + 1, first.entry.last)) if first.units > 1 else []
    return [first, *sorted(rest, key=lambda one: one.sequence)]


def _failed(name: ClaimId) -> FailedClaim | None:
    """What the claim failed by. Of several who had its number, after a loss of Redis, the last one."""
    named = FailedClaim.objects.filter(event_id=name.event_id, epoch=name.epoch, sequence=name.sequence, place=1)
    return named.exclude(status=FailedClaim.Status.RETRYING).order_by("id").last()


def _ended(name: ClaimId) -> Exception:
    failed = _failed(name)
    match failed and failed.reason:
        case Reason.HOLD_EXPIRED:
            return HoldExpired()
        case Reason.CANCELLED | Reason.PAYMENT_FAILED:
            return HoldCancelled()
    return NotHeld() if failed else _unknown(name, None)


def _unknown(name: ClaimId, user_id: int | None) -> Exception:
    """A claim that waits in the log, the user's own if there is one, is no hold yet; of another nobody knows."""
    try:
        waiting = name.entry_id in hot_store().in_log(name.event_id, [name.entry_id])
        if waiting and user_id is not None:
            held, _, _ = hot_store().held_by(name.event_id, user_id)
            waiting = any((one.epoch, one.sequence) == (name.epoch, name.sequence) for one in held)
    except RedisError as error:
        raise Unavailable from error
    return NotHeld() if waiting else ClaimNotFound()
