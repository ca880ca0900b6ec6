"""Claims in the database: the checks, the writing, and the few places, which all ways of the database share.

A claim here is one transaction, and issued at once. Each process lets few in at a time and tells the rest to come
again: a refusal stays quick, and the database alive.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count, islice
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection, transaction
from django.db.models import Max, QuerySet
from django.db.models.functions import Now

from coupons import issuing, rows
from coupons.errors import AlreadyClaimed, NotAdmitted, UnknownUser, too_many
from coupons.loading import highest_sequence
from coupons.models import Coupon, FailedClaim
from coupons.selectors import ClaimView, as_written, claims_in
from coupons.stock.records import LogEntry, instant, milliseconds
from events.errors import Closed, NotOpen, Paused, SoldOut, Unavailable
from events.models import Event
from events.places import Places
from events.waiting_room import past_redis

# A claim waits this long for the event's row, in milliseconds; whoever waits longer is told to come again.
LOCK_TIMEOUT = 300

slot = Places(settings.DATABASE_CLAIMS).one  # one of the few of this process to claim in the database
glance = Places(settings.DATABASE_POOL_SIZE).one  # for a look beforehand: of most it is all they cost


class Overtaken(Exception):  # noqa: N818 - caught where it is tried again
    """Somebody else was quicker: what was looked at is not so any more. Look again."""


class Sale(NamedTuple):
    """What a look found: the sale as it stood, the user's coupons of it, and the moment by the database's clock."""

    event: Event
    held: list[Coupon]
    now: datetime
    quantity: int = 1  # that is asked for

    @property
    def free_ordinal(self) -> int:
        """Which of the user's coupons the next is."""
        return next(self.free_ordinals())

    def free_ordinals(self) -> Iterator[int]:
        """The numbers that no coupon of the user has."""
        taken = {coupon.ordinal for coupon in self.held}
        return (one for one in count(1) if one not in taken)


def first_answer(*, event_id: int, user_id: int, request: str) -> ClaimView | None:
    """The claim that this request made before, None where it made none."""
    if not request:
        return None
    held = Coupon.objects.filter(event_id=event_id, user_id=user_id, request=request).select_related("event")
    return next(iter(claims_in(held)), None)


@contextmanager
def writing(user_id: int) -> Iterator[None]:
    """The transaction of a claim. A user who is gone is told so (`UnknownUser`)."""
    try:
        with transaction.atomic():
            wait_briefly()
            yield
    except IntegrityError:
        if not get_user_model().objects.filter(pk=user_id).exists():
            raise UnknownUser from None
        raise


def wait_briefly() -> None:
    """Let no statement of this transaction wait long for a lock, and a user who is gone show himself at once."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}; SET CONSTRAINTS ALL IMMEDIATE")


def look(events: QuerySet[Event], event_id: int, user_id: int, request: str, quantity: int = 1) -> ClaimView | Sale:
    """The checks of `reserve.lua`, in its order: the first answer again, or what is needed to issue; or a refusal."""
    event, now = read(events, event_id)
    if event.stock_mode != Event.StockMode.DATABASE:
        raise Unavailable  # Redis is back, and this process has not heard of it: it will within a second
    return check(event, now, user_id, request, quantity)


def read(events: QuerySet[Event], event_id: int) -> tuple[Event, datetime]:
    """The event, and the moment by the database's clock."""
    event = events.annotate(now=Now()).get(pk=event_id)
    return event, event.now


def check(event: Event, now: datetime, user_id: int, request: str, quantity: int = 1) -> ClaimView | Sale:
    """`look`, for an event that was read already, wherever it sells from."""
    held = list(Coupon.objects.filter(event=event, user_id=user_id).select_related("event").order_by("id"))
    if request and (first := claims_in(one for one in held if one.request == request)):
        return first[0]
    refuse_if_shut(event.status, event.opens_at, event.closes_at, now)
    if len(held) + quantity > event.per_user_limit:
        raise AlreadyClaimed(claims_in(held)[-1]) if held else too_many(event.per_user_limit)
    if event.quantity - event.issued < quantity:
        raise SoldOut
    if event.waiting_room and not past_redis.is_admitted(event, user_id, now):
        raise NotAdmitted(event_id=event.id)
    return Sale(event, held, now, quantity)


def refuse_if_shut(status: str, opens_at: datetime, closes_at: datetime, now: datetime) -> None:
    """Raise what everybody is told who does not merely ask again, unless the sale is on."""
    if status == Event.Status.CLOSED or now >= closes_at:
        raise Closed(opens_at=opens_at)
    if status == Event.Status.PAUSED:
        raise Paused(opens_at=opens_at)
    if now < opens_at:
        raise NotOpen(opens_at=opens_at)


def next_number(event: Event) -> int:
    """The number that follows the last one; the caller has the lock of the event's row."""
    if not event.needs_redis:
        return event.last_number + 1
    of_epoch = {"event": event, "epoch": event.epoch}
    in_epoch = [
        model.objects.filter(**of_epoch).aggregate(last=Max("sequence"))["last"] for model in (Coupon, FailedClaim)
    ]
    return (max(filter(None, in_epoch), default=0) or highest_sequence(event.id)) + 1


def write(sale: Sale, user_id: int, request: str, number: int) -> ClaimView:
    """Write the coupons of units that are taken; `Overtaken` where another request of the user was quicker."""
    event = sale.event
    at = milliseconds(sale.now)
    entries = [
        LogEntry(event.epoch, number + nth, user_id, ordinal, at, request, nth + 1, sale.quantity)
        for nth, ordinal in enumerate(islice(sale.free_ordinals(), sale.quantity))
    ]
    held_until = issuing.held_until(event, sale.now)
    codes = rows.issue(event.id, entries, sale.now, held_until=held_until)
    if len(codes) < sale.quantity:
        raise Overtaken
    if event.waiting_room:
        past_redis.forget(event.id, user_id)
    return as_written(*(_coupon(event, entry, codes[entry], sale.now, held_until) for entry in entries))


def _coupon(event: Event, entry: LogEntry, code: str, now: datetime, held_until: datetime | None) -> Coupon:
    """The row as it was written: it is not read again while others wait for the lock."""
    return Coupon(
        event=event,
        user_id=entry.user_id,
        ordinal=entry.ordinal,
        code=code,
        status=Coupon.Status.HELD if held_until else Coupon.Status.ISSUED,
        held_until=held_until,
        epoch=entry.epoch,
        sequence=entry.sequence,
        place=entry.place,
        units=entry.units,
        request=entry.request,
        claimed_at=instant(entry.claimed_ms),
        issued_at=now,
    )
