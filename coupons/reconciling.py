"""Reconcile: hold Redis beside the database, event by event, and mend what differs.

Under the drain lock nothing moves from the log into the database, and one script reads Redis at one moment. So
`quantity = issued + backlog + stock` must hold exactly, however many claims are in flight. A difference is mended only
when it is seen twice, by a delta, so that units claimed between look and mending stay claimed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from django.utils import timezone
from redis.exceptions import RedisError

from coupons import claimants, drift, holders, holds, modes
from coupons.issuing import settle_leftovers
from coupons.loading import highest_sequence, load, window_of
from coupons.locks import is_free, locked_event
from coupons.models import FailedClaim, Reconciliation
from coupons.stock.records import Snapshot
from coupons.stock.store import StockStore
from events.models import DATABASE_WAYS, HOLDER_WAYS, SCRIPT_WAYS, Event
from events.waiting_room.store import bulk_room_store

log = structlog.get_logger(__name__)

Kind = Reconciliation.Kind
# Sales that ended this long ago have no claims left to drain, nor keys.
FORGET_AFTER = timedelta(days=30)
# Seconds. Where claims are issued before they are answered, one that is older was left behind.
SYNC_PATIENCE = 2.0


@dataclass
class Due:
    """What a look at all events found to be done, by event id."""

    drain: list[int] = field(default_factory=list)  # claims wait in the log
    reconcile: list[int] = field(default_factory=list)  # Redis lacks the stock, or cannot be trusted with what it has
    bring_back: list[int] = field(default_factory=list)  # sold from the database, and Redis answers again
    away: list[int] = field(default_factory=list)  # nobody can say, or change it: their node does not answer


def look(store: StockStore) -> Due:
    """One query and one look at Redis for all events, and one at each waiting room: what is due.

    Raises `RedisError` where Redis does not answer.
    """
    due = Due()
    events = list(_recent())
    snapshots = store.snapshots([event.id for event in events])
    for event in events:
        if event.id not in snapshots:
            due.away.append(event.id)
            continue
        found = snapshots[event.id]  # None: it could not be read, which is for the reconciler to see
        if found is not None and found.backlog and found.oldest_age >= _patience(event):
            due.drain.append(event.id)
        if event.stock_mode == Event.StockMode.DATABASE:
            if found is None or found.loaded:
                try:
                    modes.take_down(event.id, store)
                except RedisError:
                    due.away.append(event.id)  # it can be read and not be written, and so sells nothing
                    continue
            if modes.due_back(event) and is_free(event.id):
                due.bring_back.append(event.id)
        elif _is_live(event) and _is_broken(event, found) and is_free(event.id):
            due.reconcile.append(event.id)
    return due


def reconcile_all(store: StockStore) -> list[Reconciliation]:
    """Reconcile every event that is live, and retire those that are over. One that fails stops no other."""
    found = []
    for event in list(_recent()):
        try:
            found += reconcile(event.id, store)
        except Exception:  # the next event must still have its turn
            log.exception("reconcile_failed", event_id=event.id)
    return found


def reconcile(event_id: int, store: StockStore, *, dry_run: bool = False) -> list[Reconciliation]:
    """Look at one event once; the differences seen, each with what became of it.

    With `dry_run` nothing is changed: the differences are returned unsaved.
    """
    # Also so that a Redis that does not answer is met here, before a lock is taken that others wait for.
    of_stock, of_room = store.damaged(event_id), bulk_room_store().damaged(event_id)
    with locked_event(event_id) as event:
        if event.status == Event.Status.DRAFT or event.stock_mode == Event.StockMode.DATABASE:
            return []
        if of_stock or of_room:
            return [_damage(event_id, of_stock, of_room) if dry_run else _repair(event, of_stock, of_room, store)]
        snapshot = store.snapshot(event_id)
        live = _is_live(event)
        if live:
            kind = _why_reload(event, snapshot) or _is_behind(event, snapshot)
            if kind and dry_run:
                return [drift.unsaved(event_id, kind, expected=event.epoch, found=snapshot.epoch)]
            if kind:
                return [_reload(event, snapshot, kind, store)]
        elif not snapshot.loaded or snapshot.backlog or store.is_retired(event_id):
            return []
        found = _reconcile_stock(event, store, dry_run=dry_run) if live else []
    if event.logs_claims:
        found += claimants.reconcile(event_id, store, dry_run=dry_run)
    elif event.strategy in HOLDER_WAYS:
        found += holders.reconcile(event, dry_run=dry_run)
    if not live and not found and not dry_run:
        store.retire(event_id)
    return found


def _reconcile_stock(event: Event, store: StockStore, *, dry_run: bool) -> list[Reconciliation]:
    if not dry_run:
        holds.give_back_locked(event.id, store)
        settle_leftovers(event.id, store)
        store.adjust(event.id, epoch=event.epoch, window=window_of(event))
    if event.strategy == Event.Strategy.REDIS_COUNTER:
        return holders.reconcile_counter(event, store, dry_run=dry_run)
    if event.strategy not in SCRIPT_WAYS:
        return []  # there is no stock in Redis: it has who holds a unit, or nothing at all
    snapshot = store.snapshot(event.id)
    unsettled = claimants.unsettled(event.id, store) if dry_run else 0
    to_return = FailedClaim.objects.filter(event=event, to_return=True).count()
    expected = max(0, event.quantity - event.issued - (snapshot.backlog - unsettled) - to_return)
    return drift.hold_stock(event, store, expected=expected, found=snapshot.stock, dry_run=dry_run)


def _why_reload(event: Event, snapshot: Snapshot) -> Reconciliation.Kind | None:
    """Whether the stock in Redis is missing, is not the one that the database knows, or was there before Redis was."""
    if not snapshot.loaded:
        return Kind.MISSING_EVENT
    if snapshot.epoch != event.epoch:
        return Kind.ROLLED_BACK
    if not snapshot.same_run:
        return Kind.OTHER_RUN
    return None


def _is_behind(event: Event, snapshot: Snapshot) -> Reconciliation.Kind | None:
    """Whether the database has claims that Redis does not know to have given."""
    return Kind.ROLLED_BACK if snapshot.sequence < highest_sequence(event.id) else None


def _reload(event: Event, snapshot: Snapshot, kind: Reconciliation.Kind, store: StockStore) -> Reconciliation:
    """Build the stock anew. This needs no second look: nothing can be sold from what is not there or too old."""
    row = drift.unsaved(event.id, kind, expected=event.epoch, found=snapshot.epoch)
    # A database that was restored may have forgotten loads: the claim log takes no entry of an epoch it has passed.
    event.epoch = max(event.epoch, snapshot.epoch)
    loaded = load(event, store)
    row.detail = {
        "stock": loaded.stock,
        "epoch": event.epoch,
        "lost": loaded.lost,
        "sequence_found": snapshot.sequence,
    }
    row.save()
    drift.mend(row)
    return row


def _repair(event: Event, of_stock: list[str], of_room: list[str], store: StockStore) -> Reconciliation:
    """Remove what cannot be read, and build the stock of a live sale anew, and its waiting room with it."""
    row = _damage(event.id, of_stock, of_room)
    store.remove(of_stock)
    if not _is_live(event):
        store.remove(of_room)
    else:
        event.epoch = max(event.epoch, store.snapshot(event.id).epoch)
        store.unload(event.id)  # first: whoever comes into a room that is half gone gets another's turn
        store.remove(of_room)
        loaded = load(event, store)
        row.detail |= {"stock": loaded.stock, "epoch": event.epoch, "lost": loaded.lost}
    row.save()
    drift.mend(row)
    return row


def _patience(event: Event) -> float:
    """Seconds that a claim may wait in the log before a worker sees to it: who claims may be about to."""
    return SYNC_PATIENCE if event.strategy == Event.Strategy.LUA_SYNC else 0


def _damage(event_id: int, of_stock: list[str], of_room: list[str]) -> Reconciliation:
    damaged = [*of_stock, *of_room]
    return drift.unsaved(event_id, Kind.DAMAGED, expected=0, found=len(damaged), detail={"keys": damaged})


def _is_broken(event: Event, found: Snapshot | None) -> bool:
    """Whether nothing can be sold: there is no stock that is good, or its waiting room cannot be read."""
    if found is None or _why_reload(event, found) is not None:
        return True
    try:
        return event.waiting_room and bool(bulk_room_store().damaged(event.id))
    except RedisError:
        return False  # its node has gone this very moment: the next look tells


def _is_live(event: Event) -> bool:
    on = event.status in (Event.Status.PUBLISHED, Event.Status.PAUSED)
    return on and event.closes_at > timezone.now()


def _recent() -> Iterator[Event]:
    since = timezone.now() - FORGET_AFTER
    events = Event.objects.public().exclude(strategy__in=DATABASE_WAYS)
    yield from events.filter(epoch__gte=1, closes_at__gt=since).order_by("id")
