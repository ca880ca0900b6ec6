"""Where a sale takes its units from: Redis, or the database while Redis is lost or an operator wants it so.

The mode is in PostgreSQL, so that all processes agree, and each change of it is a new epoch: a process that still
reaches the old Redis asks it for an epoch that it does not have, and a Redis that is reached has its stock taken down.
"""

import time
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext
from redis.exceptions import RedisError

from coupons import drift
from coupons.direct import wait_briefly
from coupons.issuing import issue_claims
from coupons.loading import load
from coupons.locks import locked_event, try_drain_lock
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.stock.store import StockStore
from events.errors import InvalidChange
from events.models import Event
from events.waiting_room.store import bulk_room_store

log = structlog.get_logger(__name__)

Kind = Reconciliation.Kind
Mode = Event.StockMode

# A sale goes back to Redis after so long, and twice as long for each time it was lost again of late: a Redis that
# comes and goes, or that only the workers reach, must not take the sale to and fro.
BACK_AFTER = timedelta(seconds=5)
BACK_AFTER_MAX = timedelta(minutes=5)
OF_LATE = timedelta(minutes=15)
# How long an operator's switch waits for the claims of the log to be issued first, and how often it looks.
DRAIN_WITHIN = 10.0  # seconds
LOOK_EVERY = 0.2  # seconds


def fall_back(event_id: int, *, epoch: int) -> bool:
    """Give Redis up for lost: the sale goes on from the database. False where another process was first.

    `epoch` is the one that the caller could not reach: should the sale have been loaded anew meanwhile, nothing
    happens.
    """
    now = timezone.now()
    with transaction.atomic():
        wait_briefly()
        sales = Event.objects.filter(pk=event_id, epoch=epoch, stock_mode=Mode.REDIS, status=Event.Status.PUBLISHED)
        if not sales.update(stock_mode=Mode.DATABASE, epoch=F("epoch") + 1, fell_back_at=now):
            return False
        drift.suspect(event_id, Kind.OUTAGE, expected=epoch + 1, found=epoch)
    return True


def sell_from_database(event_id: int, store: StockStore) -> Event:
    """Move the sale to the database because an operator says so; it stays there until one says otherwise.

    Where Redis answers, its claims are issued first; where not, they are when it is back, as long as units last.
    """
    deadline = time.monotonic() + DRAIN_WITHIN
    while True:
        with locked_event(event_id) as event:
            _require_live(event)
            backlog = _take_down(event, store)
            if not backlog or time.monotonic() > deadline:
                if event.stock_mode != Mode.DATABASE:
                    event.stock_mode, event.epoch = Mode.DATABASE, event.epoch + 1
                event.fell_back_at = None
                event.save(update_fields=["stock_mode", "epoch", "fell_back_at", "updated_at"])
                return event
        issue_claims(event_id, store)
        time.sleep(LOOK_EVERY)  # for another drainer, or for claims that are tried again


def sell_from_redis(event_id: int, store: StockStore) -> Event:
    """Move the sale back: issue what the old epochs had accepted, load, and let claims come to Redis again.

    Claims in the log for which no unit is left are rejected, and their owners told. Raises `RedisError` where Redis
    does not answer; the sale then stays where it is.
    """
    store.damaged(event_id)  # a Redis that does not answer is met here, before a lock is taken that others wait for
    with locked_event(event_id) as event:
        _require_live(event)
        if event.stock_mode == Mode.REDIS:
            return event  # another worker was first
        store.unload(event_id)  # whatever came back sells nothing
        store.remove([*store.damaged(event_id), *bulk_room_store().damaged(event_id)])
    issue_claims(event_id, store)
    with locked_event(event_id) as event:
        _require_live(event)
        if event.stock_mode == Mode.REDIS:
            return event
        since, event.stock_mode, event.fell_back_at = event.fell_back_at, Mode.REDIS, None
        loaded = load(event, store)
        outage = Reconciliation.objects.filter(event=event, kind=Kind.OUTAGE, mended_at=None).order_by("id").last()
        if outage is not None:
            outage.detail = {"stock": loaded.stock, "epoch": event.epoch, "lost": loaded.lost, **_ended(event, since)}
            drift.mend(outage)
    return event


def take_down(event_id: int, store: StockStore) -> None:
    """Let nothing be sold from a Redis that a sale has left, by a process that has not heard of it.

    Nothing is done while somebody is at work on the event: it may be coming back.
    """
    with transaction.atomic():
        if try_drain_lock(event_id) and Event.objects.filter(pk=event_id, stock_mode=Mode.DATABASE).exists():
            store.unload(event_id)


def due_back(event: Event) -> bool:
    """Whether a sale that lost Redis may try it again. One that was closed meanwhile has nothing to try it for."""
    if event.fell_back_at is None or event.status == Event.Status.CLOSED:
        return False
    now = timezone.now()
    outages = Reconciliation.objects.filter(event=event, kind=Kind.OUTAGE, seen_at__gt=now - OF_LATE).count()
    wait: timedelta = min(BACK_AFTER_MAX, BACK_AFTER * 2 ** max(0, outages - 1))
    return event.fell_back_at + wait <= now


def _take_down(event: Event, store: StockStore) -> int:
    """Take the stock down, so that nothing more is claimed from it; how many claims wait in its log."""
    try:
        store.unload(event.id)
        return store.backlogs([event.id])[event.id]
    except RedisError as error:
        log.warning("switched_without_redis", event_id=event.id, error=type(error).__name__)
        return 0


def _ended(event: Event, since: datetime | None) -> dict[str, int]:
    """What became of the claims that an outage had left in the log."""
    if since is None:
        return {}
    older = event.epoch - 1  # the epoch before this load is that of the outage
    return {
        "honoured": Coupon.objects.filter(event=event, epoch__lt=older, issued_at__gte=since).count(),
        "rejected": FailedClaim.objects.filter(event=event, reason="outage", updated_at__gte=since).count(),
    }


def _require_live(event: Event) -> None:
    if event.status not in (Event.Status.PUBLISHED, Event.Status.PAUSED):
        told = gettext("The sale is %(status)s: it sells nothing.")
        raise InvalidChange(told % {"status": event.get_status_display().lower()})
