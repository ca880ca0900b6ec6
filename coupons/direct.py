"""Claims without Redis: each is one transaction under the lock of the event's row, and issued at once.

This is how a sale goes on while Redis is lost, and small sales need no more. It is slow beside the script in Redis, so
each process lets few in at a time and tells the rest to come again: a refusal stays quick, and the database alive.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import Error as DatabaseError
from django.db import IntegrityError, connection, transaction
from django.db.models import Max, QuerySet
from django.db.models.functions import Now

from coupons import rows
from coupons.errors import AlreadyClaimed, NotAdmitted, UnknownUser
from coupons.issuing import count_issued
from coupons.loading import highest_sequence
from coupons.models import Coupon
from coupons.selectors import ClaimView, issued
from coupons.stock.records import LogEntry, milliseconds
from events.errors import Closed, NotOpen, Paused, SoldOut, Unavailable
from events.models import Event
from events.waiting_room import past_redis

# A claim waits this long for the event's row, in milliseconds; whoever waits longer is told to come again.
LOCK_TIMEOUT = 300

_slots = threading.BoundedSemaphore(settings.DATABASE_CLAIMS)


@contextmanager
def slot() -> Iterator[None]:
    """One of the few places of this process to claim in the database; `Unavailable` at once where all are taken."""
    if not _slots.acquire(blocking=False):
        raise Unavailable
    try:
        yield
    except DatabaseError as error:
        raise Unavailable from error
    finally:
        _slots.release()


def claim(*, event_id: int, user_id: int, request: str) -> tuple[ClaimView, bool]:
    """Issue a coupon to the user: the claim, and whether it is new (False: the same request had it before).

    `request` is the digest of the Idempotency-Key, "" for none. The caller holds a `slot`. Raises the `Refusal` that
    says why not, `Unavailable` where the event has gone back to Redis or its row is locked for too long.
    """
    # Most come too late: they are told so without the lock.
    earlier = _look(Event.objects.all(), event_id, user_id, request)
    if isinstance(earlier, ClaimView):
        return earlier, False
    try:
        with transaction.atomic():
            wait_briefly()
            found = _look(Event.objects.select_for_update(no_key=True), event_id, user_id, request)
            if isinstance(found, ClaimView):
                return found, False
            event, held, now = found
            return issued(_issue(event, user_id, request, held, now)), True
    except IntegrityError:
        if not get_user_model().objects.filter(pk=user_id).exists():
            raise UnknownUser from None
        raise


def first_answer(*, event_id: int, user_id: int, request: str) -> ClaimView | None:
    """The claim that this request made before, None where it made none."""
    if not request:
        return None
    coupon = Coupon.objects.filter(event_id=event_id, user_id=user_id, request=request).select_related("event").first()
    return issued(coupon) if coupon else None


def wait_briefly() -> None:
    """Let no statement of this transaction wait long for a lock."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")


def _look(
    events: QuerySet[Event], event_id: int, user_id: int, request: str
) -> ClaimView | tuple[Event, list[Coupon], datetime]:
    """The checks of `reserve.lua`, in its order: the first answer again, or what is needed to issue; or a refusal."""
    event = events.annotate(now=Now()).get(pk=event_id)
    now: datetime = event.now
    if event.stock_mode != Event.StockMode.DATABASE:
        raise Unavailable  # Redis is back, and this process has not heard of it: it will within a second
    held = list(Coupon.objects.filter(event=event, user_id=user_id).select_related("event").order_by("id"))
    if request:
        for coupon in held:
            if coupon.request == request:
                return issued(coupon)
    if event.status == Event.Status.CLOSED or now >= event.closes_at:
        raise Closed(opens_at=event.opens_at)
    if event.status == Event.Status.PAUSED:
        raise Paused(opens_at=event.opens_at)
    if now < event.opens_at:
        raise NotOpen(opens_at=event.opens_at)
    if len(held) >= event.per_user_limit:
        raise AlreadyClaimed(issued(held[-1]))
    if event.issued >= event.quantity:
        raise SoldOut
    if event.waiting_room and not past_redis.is_admitted(event, user_id, now):
        raise NotAdmitted(event_id=event_id)
    return event, held, now


def _issue(event: Event, user_id: int, request: str, held: list[Coupon], now: datetime) -> Coupon:
    """Write the coupon; the event's row is locked, so its number is the next and the last unit is the last."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # a user who is gone must show himself here
    in_epoch = Coupon.objects.filter(event=event, epoch=event.epoch).aggregate(last=Max("sequence"))["last"]
    sequence = (in_epoch or highest_sequence(event.id)) + 1
    taken = {coupon.ordinal for coupon in held}
    ordinal = next(number for number in range(1, len(taken) + 2) if number not in taken)
    entry = LogEntry(event.epoch, sequence, user_id, ordinal, milliseconds(now), request)
    written = rows.issue(event.id, [entry], now)
    count_issued(event.id, len(written))
    if event.waiting_room:
        past_redis.forget(event.id, user_id)
    return Coupon.objects.select_related("event").get(event=event, epoch=entry.epoch, sequence=entry.sequence)
