"""Claims that could not be issued: noted, tried again, given up, told to their owner."""

from collections.abc import Sequence, Set
from datetime import datetime, timedelta

import structlog
from django.db import Error as DatabaseError
from django.utils import timezone

from coupons import metrics, rows
from coupons.models import FailedClaim
from coupons.stock.records import LogEntry, instant, milliseconds

log = structlog.get_logger(__name__)

# A claim that the database refuses is tried again after so many seconds, and then given up.
RETRY_AFTER = (1, 2, 4)

Status = FailedClaim.Status


def of(event_id: int, entries: Sequence[LogEntry]) -> dict[LogEntry, FailedClaim]:
    """The failed claims among the entries."""
    wanted = {_name(entry): entry for entry in entries}
    found = FailedClaim.objects.filter(event_id=event_id, sequence__in={entry.sequence for entry in entries})
    return {wanted[_name(one)]: one for one in found if _name(one) in wanted}


def note(event_id: int, entry: LogEntry, error: DatabaseError, now: datetime) -> bool:
    """Note that the database refused the entry; True when that was the last attempt and the claim is rejected."""
    failed = _get_or_new(event_id, entry)
    failed.reason = FailedClaim.Reason.ERROR
    failed.error = _what_it_said(error)
    if failed.attempts < len(RETRY_AFTER):
        failed.next_attempt_at = now + timedelta(seconds=RETRY_AFTER[failed.attempts])
        failed.attempts += 1
        failed.status = Status.RETRYING
        failed.save()
        log.warning("claim_failed", claim_id=str(failed.claim_id), attempt=failed.attempts, error=failed.error)
        return False
    _reject(failed, entry, now)
    return True


def reject(event_id: int, entry: LogEntry, reason: FailedClaim.Reason) -> None:
    """End the claim without a coupon, and tell its owner why."""
    failed = _get_or_new(event_id, entry)
    failed.reason = reason
    _reject(failed, entry, timezone.now())


def reject_lost(event_id: int, logged: Set[LogEntry]) -> None:
    """End the claims that were to be tried again and are not in the claim log any more: nobody would try them."""
    for failed in FailedClaim.objects.filter(event_id=event_id, status=Status.RETRYING):
        entry = LogEntry(failed.epoch, failed.sequence, failed.user_id, failed.ordinal, milliseconds(failed.claimed_at))
        if entry not in logged:
            reject(event_id, entry, FailedClaim.Reason.LOST)


def mark_issued(event_id: int, entries: Sequence[LogEntry]) -> None:
    """Note of those that failed before that they are issued after all."""
    for failed in of(event_id, entries).values():
        failed.status, failed.next_attempt_at = Status.ISSUED, None
        failed.save()


def _get_or_new(event_id: int, entry: LogEntry) -> FailedClaim:
    return of(event_id, [entry]).get(entry) or FailedClaim(
        event_id=event_id,
        epoch=entry.epoch,
        sequence=entry.sequence,
        user_id=entry.user_id,
        ordinal=entry.ordinal,
        claimed_at=instant(entry.claimed_ms),
    )


def _name(claim: LogEntry | FailedClaim) -> tuple[int, int, int]:
    """A claim, and whose it is: a Redis that was rolled back gives a number again, to somebody else."""
    return claim.epoch, claim.sequence, claim.user_id


def _reject(failed: FailedClaim, entry: LogEntry, now: datetime) -> None:
    failed.status, failed.next_attempt_at = Status.REJECTED, None
    failed.save()
    rows.notify_rejected(failed.event_id, entry, failed.reason, now)
    metrics.REJECTED.labels(reason=failed.reason).inc()
    log.warning("claim_rejected", claim_id=str(failed.claim_id), reason=failed.reason)


def _what_it_said(error: DatabaseError) -> str:
    """The kind of the error and the constraint it met: the full text may quote the row."""
    cause = error.__cause__
    diagnostics = getattr(cause, "diag", None)
    constraint = getattr(diagnostics, "constraint_name", None)
    name = type(cause or error).__name__
    return f"{name}: {constraint}" if constraint else name
