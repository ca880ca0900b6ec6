"""The record of drift: seen once it is suspected, seen twice it is real."""

from dataclasses import dataclass
from typing import Any

import structlog
from django.utils import timezone

from coupons import metrics
from coupons.models import Reconciliation
from coupons.stock.codes import AdjustCode
from coupons.stock.store import StockStore
from events.models import Event

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """A difference that is there now, and whether the look before had found the same."""

    row: Reconciliation
    twice: bool


def see(
    event_id: int,
    kind: Reconciliation.Kind,
    *,
    expected: int,
    found: int,
    detail: dict[str, Any] | None = None,
) -> Seen | None:
    """Record what a look found. None where both agree; an earlier suspicion is then closed as gone."""
    suspected = Reconciliation.objects.filter(
        event_id=event_id, kind=kind, mended_at__isnull=True, gone_at__isnull=True
    ).first()
    if suspected is not None and expected != found and _difference(suspected) == (expected - found, detail or {}):
        return Seen(suspected, twice=True)
    if suspected is not None:
        suspected.gone_at = timezone.now()
        suspected.save()
        metrics.DRIFT.labels(kind=kind, outcome="gone").inc()
    if expected == found:
        return None
    return Seen(suspect(event_id, kind, expected=expected, found=found, detail=detail), twice=False)


def suspect(
    event_id: int,
    kind: Reconciliation.Kind,
    *,
    expected: int,
    found: int,
    detail: dict[str, Any] | None = None,
) -> Reconciliation:
    """Record a difference that is not mended yet."""
    row = unsaved(event_id, kind, expected=expected, found=found, detail=detail)
    row.save()
    metrics.DRIFT.labels(kind=kind, outcome="suspected").inc()
    log.warning("drift_suspected", event_id=event_id, kind=kind, expected=expected, found=found)
    return row


def mend(row: Reconciliation) -> None:
    """Note that the difference was mended."""
    row.mended_at = timezone.now()
    row.save()
    metrics.DRIFT.labels(kind=row.kind, outcome="mended").inc()
    log.warning("drift_mended", event_id=row.event_id, kind=row.kind, expected=row.expected, found=row.found)


def hold_stock(event: Event, store: StockStore, *, expected: int, found: int, dry_run: bool) -> list[Reconciliation]:
    """Hold the units that Redis found beside those that the database implies, and mend what was seen twice, by a delta.

    The drift that was found, if any; nothing is written with `dry_run`.
    """
    if dry_run:
        if found == expected:
            return []
        return [unsaved(event.pk, Reconciliation.Kind.STOCK, expected=expected, found=found)]
    seen = see(event.pk, Reconciliation.Kind.STOCK, expected=expected, found=found)
    if seen is None:
        return []
    if seen.twice:
        # Claims may have taken units since the look: what is not there any more cannot be taken away.
        code, _ = store.adjust(event.pk, epoch=event.epoch, delta=expected - found)
        if code is AdjustCode.ADJUSTED:
            mend(seen.row)
    return [seen.row]


def unsaved(
    event_id: int,
    kind: Reconciliation.Kind,
    *,
    expected: int,
    found: int,
    detail: dict[str, Any] | None = None,
) -> Reconciliation:
    """The record of a difference seen now."""
    return Reconciliation(
        event_id=event_id, kind=kind, expected=expected, found=found, detail=detail or {}, seen_at=timezone.now()
    )


def _difference(row: Reconciliation) -> tuple[int, Any]:
    return (row.expected or 0) - (row.found or 0), row.detail
