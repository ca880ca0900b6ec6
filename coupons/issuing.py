"""Issuing: drain the claim log of an event into the database, in batches, exactly once.

A batch is one transaction: read the log, write the coupons, count them, write the notifications. What is drained
leaves the log only after the commit, so a crash anywhere means that the next run meets rows that exist, and passes
over them. What cannot be issued becomes a `FailedClaim`, and its unit goes back.

A claim of several units has an entry for each, one behind the other, and they are issued together or not at all.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Self

import structlog
from django.db import DataError, IntegrityError, connection, transaction
from django.utils import timezone

from coupons import failures, metrics, rows
from coupons.claim_log import Pages, page
from coupons.locks import try_drain_lock
from coupons.models import FailedClaim
from coupons.stock.records import IssuedCoupon, LogEntry
from coupons.stock.store import StockStore
from events.models import Event

log = structlog.get_logger(__name__)

BATCH = 1000

Reason = FailedClaim.Reason


class NothingLeft(Exception):  # noqa: N818 - the guard's answer, caught where the guard is called
    """The guarded update refused: the event has fewer coupons left than were written."""


class NotWhole(Exception):  # noqa: N818 - likewise
    """Of a claim of several units the user has some already: it cannot be issued as a whole."""


@dataclass
class Outcome:
    """What became of a batch, entry by entry. An entry in none of the lists stays in the log."""

    issued: dict[LogEntry, IssuedCoupon] = field(default_factory=dict)  # written now
    settled: list[LogEntry] = field(default_factory=list)  # in the database: to be taken out of the log
    released: list[LogEntry] = field(default_factory=list)  # to be undone: their units go back
    surplus: list[LogEntry] = field(default_factory=list)  # to be undone: they never had one
    held: bool = False  # what was issued is held only, and its codes are told nobody

    @property
    def rejected(self) -> int:
        """How many entries ended without a coupon."""
        return len(self.released) + len(self.surplus)


def issue_claims(
    event_id: int, store: StockStore, *, batch: int = BATCH, tell: Callable[[int], object] = lambda _: None
) -> int:
    """Drain the event's claim log until it is empty; the number of coupons written.

    `tell` hears of each batch how many claims have left the log.
    Returns at once where another drainer is at work. Errors of Redis and of the database pass through; what was
    not settled then is met again by the next run.
    """
    issued = 0
    after: str | None = None
    with ThreadPoolExecutor(1, "beside") as thread, _Settling(event_id, store, tell, thread) as settling:
        pages = Pages(event_id, store, thread)
        # Whether the log is empty is asked of Redis: the database does not hear of nudges that come too late, and
        # after an outage those are tried again by the hundred.
        while settling.pending or store.backlogs([event_id]).get(event_id) != 0:
            started = time.perf_counter()
            with transaction.atomic():
                if not try_drain_lock(event_id):
                    break
                entries = pages.read(after=after, count=batch)
                if entries:
                    event, failed = _locked(event_id), failures.of(event_id, entries)
                    with settling.beside():
                        if len(entries) >= BATCH:
                            pages.read_ahead(after=entries[-1].entry_id, count=batch)
                        outcome = _write(event, entries, failed)
            if entries:
                settling.add(entries, outcome, started)
                issued += len(outcome.issued)
                after = entries[-1].entry_id
            elif settling.pending:
                # Not the end: claims that came meanwhile found some in the log, and so nudged nobody.
                settling.settle()
            else:
                break
    return issued


class _Settling:
    """Settles what is committed: a full batch while PostgreSQL writes the next, a smaller one at once.

    A context manager: at its end all is settled, or the error raised that was met. One batch at a time, in order.
    """

    def __init__(self, event_id: int, store: StockStore, tell: Callable[[int], object], thread: Executor) -> None:
        self._event_id, self._store, self._tell, self._thread = event_id, store, tell, thread
        self._batch: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()

    @property
    def pending(self) -> bool:
        """Whether a batch is to be settled still."""
        return self._batch is not None

    def add(self, entries: Sequence[LogEntry], outcome: Outcome, started: float) -> None:
        """Settle this batch, too; its transaction began when `perf_counter` said `started`."""
        self._batch = partial(self._do, entries, outcome, started)
        if len(entries) < BATCH:  # to hand it over would take longer
            self.settle()

    def settle(self) -> None:
        """Settle now what is pending."""
        batch, self._batch = self._batch, None
        if batch:
            batch()

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Settle what is pending meanwhile, in a thread. An error of Redis comes at the end."""
        batch, self._batch = self._batch, None
        settled = self._thread.submit(copy_context().run, batch) if batch else None
        yield
        if settled:
            settled.result()

    def _do(self, entries: Sequence[LogEntry], outcome: Outcome, started: float) -> None:
        _settle(self._event_id, self._store, entries, outcome)
        self._tell(len(outcome.settled) + outcome.rejected)
        metrics.DRAIN_BATCHES.inc()
        metrics.DRAIN_SECONDS.observe(time.perf_counter() - started)
        (metrics.HELD if outcome.held else metrics.ISSUED).inc(len(outcome.issued))
        log.info(
            "batch_issued",
            event_id=self._event_id,
            first=entries[0].entry_id,
            last=entries[-1].entry_id,
            issued=len(outcome.issued),
            rejected=outcome.rejected,
        )


def settle_leftovers(event_id: int, store: StockStore) -> int:
    """Take out of the log what a crashed run wrote but did not settle; the number of entries.

    The caller holds the drain lock, so nobody is about to write more. Every run starts at the head of the log and
    goes on in its order: behind the first claim that the database does not know, it knows none.
    """
    settled = 0
    after: str | None = None
    while entries := page(event_id, store, after=after, count=BATCH):
        outcome = Outcome()
        all_known = _pass_over_known(event_id, entries, outcome)
        _settle(event_id, store, entries, outcome, move_watermark=False)
        settled += len(outcome.settled) + outcome.rejected
        if not all_known:
            break
        after = entries[-1].entry_id
    return settled


def _claims(entries: Sequence[LogEntry]) -> list[list[LogEntry]]:
    """The entries of each claim."""
    return [list(units) for _, units in groupby(entries, key=_claim)]


def _claim(entry: LogEntry) -> tuple[int, int, int]:
    return entry.epoch, entry.first, entry.user_id


def _locked(event_id: int) -> Event:
    """The event, whose row is ours until the batch's transaction ends."""
    with connection.cursor() as cursor:
        # Foreign keys are deferred to the commit by Django; a bad row must show itself before.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return Event.objects.select_for_update(no_key=True).get(pk=event_id)


def _write(event: Event, entries: Sequence[LogEntry], failed: Mapping[LogEntry, FailedClaim]) -> Outcome:
    """Issue what can be issued, in the batch's transaction; `failed` are the entries that failed before."""
    now = timezone.now()
    outcome = Outcome(held=event.hold_seconds > 0)
    pending = _without_failed(entries, failed, outcome, now)
    while pending:
        # Redis never hands out more than is left, unless it lost data: the database decides, in the log's order.
        part, pending = _that_fit(pending, event.quantity - event.issued)
        if part:
            event.issued += _insert_or_isolate(event, part, outcome, now)
        elif event.issued == event.quantity:
            _reject_surplus(event, pending, outcome)
            break
        else:
            too_many, pending = _next_claim(pending)
            _reject_surplus(event, too_many, outcome)
    failures.mark_issued(one for entry, one in failed.items() if entry in outcome.issued)
    return outcome


def _that_fit(pending: list[LogEntry], left: int) -> tuple[list[LogEntry], list[LogEntry]]:
    """The first claims that `left` units are enough for, and the others."""
    end = min(left, len(pending))
    if 0 < end < len(pending) and pending[end].place > 1:  # it would part a claim
        while end and pending[end].place > 1:
            end -= 1
    return pending[:end], pending[end:]


def _next_claim(pending: list[LogEntry]) -> tuple[list[LogEntry], list[LogEntry]]:
    end = next((at for at, entry in enumerate(pending) if _claim(entry) != _claim(pending[0])), len(pending))
    return pending[:end], pending[end:]


def _without_failed(
    entries: Sequence[LogEntry], failed: Mapping[LogEntry, FailedClaim], outcome: Outcome, now: datetime
) -> list[LogEntry]:
    """The entries to write now: not those that failed for good, nor those whose next attempt is not due."""
    pending = []
    for entry in entries:
        earlier = failed.get(entry)
        if earlier is None:
            pending.append(entry)
        elif earlier.status != FailedClaim.Status.RETRYING:
            _finish_failed(entry, earlier, outcome)
        elif earlier.next_attempt_at is not None and earlier.next_attempt_at <= now:
            pending.append(entry)
    return pending


def _pass_over_known(event_id: int, entries: Sequence[LogEntry], outcome: Outcome) -> bool:
    """Sort out what the database has finished; whether it knows all of the entries, be it to try them again."""
    issued = rows.existing(event_id, entries)
    failed = failures.of(event_id, entries)
    for entry in entries:
        if entry in issued:
            outcome.settled.append(entry)
        elif entry in failed and failed[entry].status != FailedClaim.Status.RETRYING:
            _finish_failed(entry, failed[entry], outcome)
    return all(entry in issued or entry in failed for entry in entries)


def _finish_failed(entry: LogEntry, failed: FailedClaim, outcome: Outcome) -> None:
    if failed.status == FailedClaim.Status.ISSUED:
        outcome.settled.append(entry)
    elif failed.had_unit:
        outcome.released.append(entry)
    else:
        outcome.surplus.append(entry)


def _reject_surplus(event: Event, pending: Sequence[LogEntry], outcome: Outcome) -> None:
    issued = rows.existing(event.id, pending)
    surplus = [entry for entry in pending if entry not in issued]
    from_outage = event.stock_mode == Event.StockMode.DATABASE
    queued = event.strategy == Event.Strategy.LIST_QUEUE
    reason = Reason.OUTAGE if from_outage else Reason.SOLD_OUT if queued else Reason.STOCK_EXHAUSTED
    failures.reject(event.id, surplus, reason)
    outcome.settled += issued
    outcome.surplus += surplus


def _insert_or_isolate(event: Event, entries: Sequence[LogEntry], outcome: Outcome, now: datetime) -> int:
    """Write the entries; where a claim is bad, halve until it is found. The number of coupons written."""
    try:
        with transaction.atomic():
            return _insert(event, entries, outcome, now)
    except (IntegrityError, DataError, NotWhole) as error:
        claims = _claims(entries)
        if len(claims) > 1:
            half = sum(map(len, claims[: len(claims) // 2]))
            return _insert_or_isolate(event, entries[:half], outcome, now) + _insert_or_isolate(
                event, entries[half:], outcome, now
            )
        # Refused as a row, but the claim is issued: an earlier run wrote it and did not come to settle it.
        if rows.existing(event.id, entries):
            outcome.settled += entries
        elif isinstance(error, NotWhole):
            failures.reject(event.id, entries, Reason.ALREADY_CLAIMED)
            outcome.released += entries
        elif failures.note(event.id, entries, error, now):
            outcome.released += entries
        return 0


def _insert(event: Event, entries: Sequence[LogEntry], outcome: Outcome, now: datetime) -> int:
    written = rows.issue(event.id, entries, now, held_until=held_until(event, now))
    count_issued(event.id, len(written), held=outcome.held)
    rest = [entry for entry in entries if entry not in written]
    known = rows.existing(event.id, rest)  # an earlier run wrote them and did not come to settle them
    refused = [entry for entry in rest if entry not in known]
    if any(entry.units > 1 for entry in refused) and any(entry.units > 1 for entry in written):
        _require_whole(entries, written)
    failures.reject(event.id, refused, Reason.ALREADY_CLAIMED)
    # Last, so that a batch that is rolled back leaves no trace in the outcome.
    outcome.issued |= {entry: IssuedCoupon(code, now) for entry, code in written.items()}
    outcome.settled += [*written, *known]
    outcome.released += refused
    return len(written)


def _require_whole(entries: Sequence[LogEntry], written: Mapping[LogEntry, str]) -> None:
    for claim in _claims(entries):
        if 0 < sum(entry in written for entry in claim) < len(claim):
            raise NotWhole


def held_until(event: Event, now: datetime) -> datetime | None:
    """Until when what is written now is held; None where it is issued at once."""
    return now + timedelta(seconds=event.hold_seconds) if event.hold_seconds else None


def count_issued(event_id: int, number: int, *, held: bool = False) -> None:
    """The guard of the first promise: never more issued, or held, than there are. Raises `NothingLeft`."""
    if number and not rows.count(event_id, number, held=number if held else 0):
        raise NothingLeft(f"event {event_id}: {number} more coupons are not left")


def _settle(
    event_id: int,
    store: StockStore,
    entries: Sequence[LogEntry],
    outcome: Outcome,
    *,
    move_watermark: bool = True,
) -> None:
    """After the commit: out of the log with what the database has, and let those who wait be told."""
    last = entries[-1]
    store.settle(
        event_id,
        epoch=last.epoch,
        drained=last.sequence if move_watermark else 0,
        entries=[entry.entry_id for entry in outcome.settled],
        issued=() if outcome.held else outcome.issued.items(),
    )
    store.release(event_id, outcome.released)
    store.release(event_id, outcome.surplus, back="none")
