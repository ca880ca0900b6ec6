"""What the checker needs from the database, and from the stock where it is loaded."""

import time
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max, Min
from django.utils import timezone

from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.rush.checker import Claim, CouponRow, Database, FailedRow
from coupons.rush.client import clock
from coupons.rush.history import BILLION
from coupons.rush.stays import FOREVER, Period, Room
from coupons.strategies import STRATEGIES
from events import stock
from events.errors import Unavailable
from events.models import SCRIPT_WAYS, Event
from events.stock import Level

LOOK_EVERY = 0.2  # seconds
# Each row of these tells of a loss, after which the waiting room was put back by what the database knew.
Kind = Reconciliation.Kind
LOSSES = [Kind.MISSING_EVENT, Kind.ROLLED_BACK, Kind.OTHER_RUN, Kind.DAMAGED, Kind.OUTAGE]
NEAR_NS = BILLION  # to the moments that a row names, all processes have heard of it


@dataclass(frozen=True, slots=True)
class Before:
    """What there was before the rush."""

    at: datetime
    epoch: int
    claims: frozenset[Claim]  # those that had their coupon


def before(event_id: int) -> Before:
    """The event as it is now, for `read` to tell apart what came of the rush."""
    claims = Coupon.objects.filter(event_id=event_id).values_list("epoch", "sequence")
    return Before(
        at=timezone.now(),
        epoch=Event.objects.values_list("epoch", flat=True).get(pk=event_id),
        claims=frozenset(Claim(*one) for one in claims),
    )


def read(event_id: int, *, before: Before) -> Database:
    """The event as it is now, after the rush that began at `before`."""
    stock.keeper().count([event_id])
    event = Event.objects.get(pk=event_id)
    coupons = Coupon.objects.filter(event_id=event_id).order_by("epoch", "sequence")
    failed = FailedClaim.objects.filter(event_id=event_id).order_by("epoch", "sequence")
    mended = Reconciliation.objects.filter(
        event_id=event_id, kind=Reconciliation.Kind.STOCK, mended_at__gte=before.at
    ).order_by("mended_at")
    level = level_of(event_id)
    return Database(
        quantity=event.quantity,
        issued=event.issued,
        per_user_limit=event.per_user_limit,
        coupons=[
            CouponRow(user_id, Claim(epoch, sequence), status == Coupon.Status.HELD)
            for user_id, epoch, sequence, status in coupons.values_list("user_id", "epoch", "sequence", "status")
        ],
        failed=[
            FailedRow(user_id, Claim(epoch, sequence), status, reason)
            for user_id, epoch, sequence, status, reason in failed.values_list(
                "user_id", "epoch", "sequence", "status", "reason"
            )
        ],
        before=before.claims,
        ordered=STRATEGIES[event.strategy].ordered,
        loads=event.epoch - before.epoch,
        mended=[(expected or 0) - (found or 0) for expected, found in mended.values_list("expected", "found")],
        # Other strategies have no stock in Redis, or none that is told by the same number.
        stock=level.stock if level and level.epoch and event.strategy in SCRIPT_WAYS else None,
        backlog=level.backlog if level else 0,
    )


def room(event_id: int, *, before: Before) -> Room:
    """The waiting room of the rush that began at `before`, on the clock of the history."""
    event = Event.objects.get(pk=event_id)
    return Room(
        rate=event.admission_rate,
        max_active=event.max_active,
        pass_ttl=event.pass_ttl,
        quantity=event.quantity,
        opens_ns=_on_the_clock(event.opens_at),
        seed=event.seed if event.entry_order == Event.EntryOrder.SHUFFLE else "",
        periods=_periods(event_id, before.at),
    )


def _periods(event_id: int, since: datetime) -> list[Period]:
    """The times between two losses of the room."""
    found, start, by_rank = [], -FOREVER, False
    losses = Reconciliation.objects.filter(event_id=event_id, kind__in=LOSSES, seen_at__gte=since)
    for row in losses.order_by("seen_at", "id"):
        seen = _on_the_clock(row.seen_at)
        found.append(Period(start, seen - NEAR_NS, by_rank))
        start, by_rank = seen + NEAR_NS, row.kind == Kind.OUTAGE
        if row.mended_at:
            mended = _on_the_clock(row.mended_at)
            found.append(Period(start, mended - NEAR_NS, by_rank))
            start, by_rank = mended + NEAR_NS, False
    found.append(Period(start, FOREVER, by_rank))
    return [one for one in found if one.since_ns < one.until_ns]


def outages(event_id: int) -> int:
    """How often the sale lost Redis, moved to the database and came back."""
    return Reconciliation.objects.filter(event_id=event_id, kind=Kind.OUTAGE, mended_at__isnull=False).count()


def _on_the_clock(moment: datetime) -> int:
    """A moment on the clock of the history."""
    return clock() + int((moment - timezone.now()).total_seconds() * BILLION)


def level_of(event_id: int) -> Level | None:
    """The stock of the event now; None where it cannot be asked or read."""
    try:
        return stock.keeper().levels([event_id]).get(event_id)
    except Unavailable:
        return None


def wait_until_drained(event_id: int, *, seconds: float) -> bool:
    """Wait until nothing is left in the event's claim log, nor held; at most `seconds`; whether it is so."""
    deadline = time.monotonic() + seconds
    while True:
        level = level_of(event_id)
        if level is not None and not level.backlog and not Event.objects.filter(pk=event_id, held__gt=0).exists():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_EVERY)


def last_issued_at(event_id: int, *, since: datetime) -> datetime | None:
    """When the last coupon was issued; None where there is none from after `since`."""
    issued = Coupon.objects.filter(event_id=event_id, issued_at__gte=since)
    last: datetime | None = issued.aggregate(last=Max("issued_at"))["last"]
    return last


def first_issued_at(event_id: int, *, since: datetime) -> datetime | None:
    """When the first coupon from `since` on was issued; None where there is none."""
    issued = Coupon.objects.filter(event_id=event_id, issued_at__gte=since)
    first: datetime | None = issued.aggregate(first=Min("issued_at"))["first"]
    return first
