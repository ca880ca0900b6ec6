"""Reconciling who holds what: coupons whose owners Redis does not know, and claimants who have nothing.

Both looks run without the drain lock, which they would hold for long; what they find is suspected, and is looked at
again under the lock before anything is changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from coupons import drift, failures, rows
from coupons.locks import locked_event
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.stock.records import HeldClaim, LogEntry
from coupons.stock.store import CHUNK, StockStore

Kind = Reconciliation.Kind
# So many claims one look mends; the next look goes on.
AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Holding:
    """A claim and the user who holds it, or should."""

    user_id: int
    claim: HeldClaim

    @property
    def entry(self) -> LogEntry:
        """The claim as the log would have it."""
        one = self.claim
        return LogEntry(
            one.epoch, one.sequence, self.user_id, one.ordinal, one.claimed_ms, one.request, one.place, one.units
        )


def reconcile(event_id: int, store: StockStore, *, dry_run: bool) -> list[Reconciliation]:
    """Add the claimants Redis misses, release those that have nothing; the differences seen."""
    found = []
    for kind, look in ((Kind.MISSING_CLAIMANT, missing), (Kind.GHOST_CLAIMANT, ghosts)):
        suspects = list(islice(look(event_id, store), AT_ONCE))
        if dry_run:
            if suspects:
                found.append(drift.unsaved(event_id, kind, **_numbers(kind, suspects)))
            continue
        seen = drift.see(event_id, kind, **_numbers(kind, suspects))
        if seen is None:
            continue
        if seen.twice:
            _mend(event_id, kind, suspects, store)
            drift.mend(seen.row)
        found.append(seen.row)
    return found


def missing(event_id: int, store: StockStore) -> Iterator[Holding]:
    """The coupons whose owner is not known to Redis as their holder."""
    for chunk in _coupons(event_id):
        held = store.held_by_each(event_id, list({one.user_id for one in chunk}))
        for one in chunk:
            if not any(_same(mine, one.claim) for mine in held[one.user_id]):
                yield one


def ghosts(event_id: int, store: StockStore) -> Iterator[Holding]:
    """The claimants whose claim is neither in the log nor in the database."""
    for chunk in store.claimants(event_id):
        suspects = _without_row(event_id, [Holding(user, one) for user, held in chunk for one in held])
        if suspects:
            # A claim goes from the log into the database, never back: not in the log means look there once more.
            logged = store.in_log(event_id, [one.entry.entry_id for one in suspects])
            yield from _without_row(event_id, [one for one in suspects if one.entry.entry_id not in logged])


def unsettled(event_id: int, store: StockStore) -> int:
    """How many entries at the head of the log are in the database already, for a look that may not settle them."""
    head = store.read_log(event_id, count=CHUNK)
    return len(rows.existing(event_id, head))


def _mend(event_id: int, kind: Reconciliation.Kind, suspects: list[Holding], store: StockStore) -> None:
    with locked_event(event_id) as event:
        if kind == Kind.MISSING_CLAIMANT:
            store.adjust(event_id, epoch=event.epoch, claimants=[(one.user_id, one.claim) for one in suspects])
            return
        entries = [one.entry for one in suspects]
        logged = store.in_log(event_id, [entry.entry_id for entry in entries])
        issued, failed = rows.existing(event_id, entries), failures.of(event_id, entries)
        gone = [entry for entry in entries if entry.entry_id not in logged and entry not in issued]
        untold = [one for one in gone if one not in failed or failed[one].status == FailedClaim.Status.RETRYING]
        failures.reject(event_id, untold, FailedClaim.Reason.LOST)
    # After the commit, as when draining: the database says why before Redis forgets.
    store.release(event_id, gone)


def _without_row(event_id: int, holdings: list[Holding]) -> list[Holding]:
    issued = rows.existing(event_id, [one.entry for one in holdings])
    return [one for one in holdings if one.entry not in issued]


def _coupons(event_id: int) -> Iterator[list[Holding]]:
    after = 0
    while True:
        page = list(Coupon.objects.filter(event_id=event_id, id__gt=after).order_by("id")[:CHUNK])
        if not page:
            return
        after = page[-1].id
        yield [Holding(one.user_id, one.entry.held) for one in page]


def _same(one: HeldClaim, other: HeldClaim) -> bool:
    return (one.epoch, one.sequence) == (other.epoch, other.sequence)


def _numbers(kind: Reconciliation.Kind, suspects: list[Holding]) -> dict[str, Any]:
    number = len(suspects)
    expected, found = (number, 0) if kind == Kind.MISSING_CLAIMANT else (0, number)
    detail = {"claims": [one.entry.entry_id for one in suspects[:100]]} if suspects else {}
    return {"expected": expected, "found": found, "detail": detail}
