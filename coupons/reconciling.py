"""Reconcile: hold Redis beside the database, event by event, and mend what differs.

Under the drain lock nothing moves from the log into the database, and one script reads Redis at one moment. So
`quantity = issued + backlog + stock` must hold exactly, however many claims are in flight. A difference is mended only
when it is seen twice, by a delta, so that units claimed between look and mending stay claimed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from coupons import claimants, drift
from coupons.issuing import settle_leftovers
from coupons.loading import highest_sequence, load, window_of
from coupons.locks import take_drain_lock
from coupons.models import Reconciliation
from coupons.stock.codes import AdjustCode
from coupons.stock.records import Snapshot
from coupons.stock.store import StockStore
from events.models import Event

log = structlog.get_logger(__name__)

Kind = Reconciliation.Kind
# Sales that ended this long ago have no claims left to drain, nor keys.
FORGET_AFTER = timedelta(days=30)


def events_with_backlog(store: StockStore) -> list[int]:
    """The events whose claim log holds something."""
    return [event_id for event_id, backlog in store.backlogs(_recent()).items() if backlog]


def reconcile_all(store: StockStore) -> list[Reconciliation]:
    """Reconcile every event that is live, and retire those that are over. One that fails stops no other."""
    found = []
    for event_id in _recent():
        try:
            found += reconcile(event_id, store)
        except Exception:  # the next event must still have its turn
            log.exception("reconcile_failed", event_id=event_id)
    return found


def load_missing(store: StockStore) -> list[int]:
    """Load the live events that Redis does not have; their ids. One that fails does not stop the others."""
    missing = [event_id for event_id, one in store.snapshots(list(_live())).items() if not one.loaded]
    loaded = []
    for event_id in missing:
        try:
            with _locked(event_id) as event:
                snapshot = store.snapshot(event_id)
                if event.status in (Event.Status.PUBLISHED, Event.Status.PAUSED) and not snapshot.loaded:
                    _reload(event, snapshot, Kind.MISSING_EVENT, store)
                    loaded.append(event_id)
        except Exception:  # the next event must still have its turn
            log.exception("load_failed", event_id=event_id)
    return loaded


def reconcile(event_id: int, store: StockStore, *, dry_run: bool = False) -> list[Reconciliation]:
    """Look at one event once; the differences seen, each with what became of it.

    With `dry_run` nothing is changed: the differences are returned unsaved.
    """
    with _locked(event_id) as event:
        if event.status == Event.Status.DRAFT:
            return []
        snapshot = store.snapshot(event_id)
        if event.status == Event.Status.CLOSED or event.closes_at <= timezone.now():
            if not dry_run and snapshot.loaded and not snapshot.backlog:
                store.retire(event_id)
            return []
        kind = _not_the_database_s(event, snapshot)
        if kind:
            if dry_run:
                return [drift.unsaved(event_id, kind, expected=event.epoch, found=snapshot.epoch)]
            return [_reload(event, snapshot, kind, store)]
        found = _reconcile_stock(event, store, dry_run=dry_run)
    return found + claimants.reconcile(event_id, store, dry_run=dry_run)


def _reconcile_stock(event: Event, store: StockStore, *, dry_run: bool) -> list[Reconciliation]:
    if not dry_run:
        settle_leftovers(event.id, store)
        store.adjust(event.id, epoch=event.epoch, window=window_of(event))
    snapshot = store.snapshot(event.id)
    unsettled = claimants.unsettled(event.id, store) if dry_run else 0
    expected = max(0, event.quantity - event.issued - (snapshot.backlog - unsettled))
    if dry_run:
        if snapshot.stock == expected:
            return []
        return [drift.unsaved(event.id, Kind.STOCK, expected=expected, found=snapshot.stock)]

    seen = drift.see(event.id, Kind.STOCK, expected=expected, found=snapshot.stock)
    if seen is None:
        return []
    if seen.twice:
        delta = expected - snapshot.stock
        # Claims may have taken units since the look: what is not there any more cannot be taken away.
        code, _ = store.adjust(event.id, epoch=event.epoch, delta=delta)
        if code is AdjustCode.ADJUSTED:
            drift.mend(seen.row)
    return [seen.row]


def _not_the_database_s(event: Event, snapshot: Snapshot) -> Reconciliation.Kind | None:
    """Whether the stock in Redis is missing, or is an older one than the database has seen."""
    if not snapshot.loaded:
        return Kind.MISSING_EVENT
    if snapshot.epoch != event.epoch or snapshot.sequence < highest_sequence(event.id):
        return Kind.ROLLED_BACK
    return None


def _reload(event: Event, snapshot: Snapshot, kind: Reconciliation.Kind, store: StockStore) -> Reconciliation:
    """Build the stock anew. This needs no second look: nothing can be sold from what is not there or too old."""
    row = drift.unsaved(event.id, kind, expected=event.epoch, found=snapshot.epoch)
    # A database that was restored may have forgotten loads: the claim log takes no entry of an epoch it has passed.
    event.epoch = max(event.epoch, snapshot.epoch)
    row.detail = {"stock": load(event, store), "epoch": event.epoch, "sequence_found": snapshot.sequence}
    row.save()
    drift.mend(row)
    return row


def _live() -> Iterator[int]:
    now = timezone.now()
    yield from Event.objects.live().filter(closes_at__gt=now).values_list("id", flat=True)


def _recent() -> list[int]:
    since = timezone.now() - FORGET_AFTER
    return list(Event.objects.public().filter(epoch__gte=1, closes_at__gt=since).values_list("id", flat=True))


@contextmanager
def _locked(event_id: int) -> Iterator[Event]:
    with transaction.atomic():
        take_drain_lock(event_id)
        yield Event.objects.select_for_update(no_key=True).get(pk=event_id)
