"""What operators do to a sale. Each change takes effect in the database and in the stock, or in neither.

The stock is changed inside the transaction, just before it commits. Should the commit fail, Redis alone has the
change: the reconciler applies the database's window again each minute and mends the units. Where Redis does not answer
a change of the quantity nobody knows whether it was made, so the stock is taken down: a worker loads it anew.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from events import stock
from events.errors import EventNotFound, InvalidChange
from events.models import HOLDER_WAYS, Event

Status = Event.Status
LIVE = (Status.PUBLISHED, Status.PAUSED)


def publish(*, event_id: int) -> Event:
    """Show the sale and load its stock. Only a draft that has not closed yet can be published."""
    with _changing(event_id) as event:
        _require(event, Status.DRAFT, otherwise=gettext_noop("The sale is %(status)s: it cannot be published."))
        if event.closes_at <= timezone.now():
            raise InvalidChange(_("The sale cannot be published: its closing time has passed. Set a later one."))
        event.status = Status.PUBLISHED
        if event.waiting_room and event.entry_order == Event.EntryOrder.SHUFFLE:
            event.seed = secrets.token_hex(32)
        stock.keeper().load(event)
        return event


def pause(*, event_id: int) -> Event:
    """Stop claims until `resume`. What was claimed already is issued."""
    with _changing(event_id) as event:
        _require(event, Status.PUBLISHED, otherwise=gettext_noop("The sale is %(status)s: it cannot be paused."))
        return _apply(event, Status.PAUSED)


def resume(*, event_id: int) -> Event:
    """Let claims go on."""
    with _changing(event_id) as event:
        _require(event, Status.PAUSED, otherwise=gettext_noop("The sale is %(status)s: it cannot go on."))
        return _apply(event, Status.PUBLISHED)


def close(*, event_id: int) -> Event:
    """End the sale for good. What was claimed already is issued."""
    with _changing(event_id) as event:
        _require(event, *LIVE, otherwise=gettext_noop("The sale is %(status)s: it cannot be closed."))
        return _apply(event, Status.CLOSED)


def choose_strategy(*, event_id: int, strategy: str, hold_seconds: int | None = None) -> Event:
    """Have a draft hand out its units in another way, or hold them for another time (unless None, as long as before).

    Once it is published the way is fixed.
    """
    with _changing(event_id) as event:
        _require(event, Status.DRAFT, otherwise=gettext_noop("The sale is %(status)s: its strategy is fixed."))
        event.strategy = strategy
        if hold_seconds is not None:
            event.hold_seconds = hold_seconds
        return event


def sell_from(*, event_id: int, mode: str) -> Event:
    """Have a live sale sell from Redis, or from the database: by hand, and until it is changed by hand.

    Back to Redis needs a Redis that answers; `Unavailable` otherwise, and the sale goes on as it was.
    """
    event = Event.objects.filter(pk=event_id).first()
    if event is None:
        raise EventNotFound
    if event.status not in LIVE:
        raise InvalidChange(
            _("The sale is %(status)s: it sells nothing.") % {"status": event.get_status_display().lower()}
        )
    if not event.needs_redis:
        raise InvalidChange(_("The strategy of this sale is one of the database: it sells from nowhere else."))
    return stock.keeper().sell_from(event_id, mode)


def change(
    *,
    event_id: int,
    quantity: int,
    opens_at: datetime,
    closes_at: datetime,
    per_user_limit: int,
    rate_per_second: int,
    burst: int,
) -> Event:
    """Change the terms of a sale that is not closed.

    The quantity can fall only by units that nobody has claimed; `InvalidChange` says how far it may.
    """
    with _changing(event_id) as event:
        if event.status == Status.CLOSED:
            raise InvalidChange(_("The sale is closed, and closed is final: it cannot be changed."))
        if opens_at >= closes_at:
            raise InvalidChange(_("The sale must close after it opens."))
        delta = quantity - event.quantity
        event.quantity, event.opens_at, event.closes_at = quantity, opens_at, closes_at
        event.per_user_limit, event.rate_per_second, event.burst = per_user_limit, rate_per_second, burst
        if quantity < max(1, event.issued):
            told = _("The quantity cannot fall below %(number)s: so many are issued already.")
            raise InvalidChange(told % {"number": max(1, event.issued)})
        if per_user_limit > 1 and event.strategy in HOLDER_WAYS:
            raise InvalidChange(_("This strategy gives each user one coupon only."))
        if event.status != Status.DRAFT:
            if delta:
                stock.keeper().resize(event, delta=delta)
            stock.keeper().apply(event)
        return event


@contextmanager
def _changing(event_id: int) -> Iterator[Event]:
    with transaction.atomic():
        stock.keeper().lock(event_id)
        event = Event.objects.select_for_update(no_key=True).filter(pk=event_id).first()
        if event is None:
            raise EventNotFound
        yield event
        event.version += 1  # whoever compares and sets has looked at another sale
        event.save()


def _require(event: Event, *allowed: Event.Status, otherwise: str) -> None:
    if event.status == Status.CLOSED:
        raise InvalidChange(_("The sale is closed, and closed is final: it cannot be changed."))
    if event.status not in allowed:
        raise InvalidChange(_(otherwise) % {"status": event.get_status_display().lower()})


def _apply(event: Event, status: Event.Status) -> Event:
    event.status = status
    stock.keeper().apply(event)
    return event
