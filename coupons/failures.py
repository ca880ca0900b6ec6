"""Claims that could not be issued: noted, tried again, given up, told to their owner."""

from collections.abc import Iterable, Sequence, Set
from datetime import datetime, timedelta

import structlog
from django.db import Error as DatabaseError
from django.db.models.expressions import RawSQL
from django.utils import timezone

from coupons import metrics, rows
from coupons.locks import PAGE
from coupons.models import ClaimId, FailedClaim
from coupons.stock.records import LogEntry, instant
from notifications.models import Notification
from notifications.services import Fact, notify

log = structlog.get_logger(__name__)

# A claim that the database refuses is tried again after so many seconds, and then given up.
RETRY_AFTER = (1, 2, 4)

Reason = FailedClaim.Reason
Status = FailedClaim.Status


def of(event_id: int, entries: Sequence[LogEntry]) -> dict[LogEntry, FailedClaim]:
    """The failed claims among the entries."""
    # Most sales have none, and to look for a thousand takes a hundred times as long.
    if not entries or not FailedClaim.objects.filter(event_id=event_id).exists():
        return {}
    # One array: to put a thousand parameters together took a tenth of a drain.
    sequences = RawSQL("SELECT unnest(%s::bigint[])", [rows.numbers(entry.sequence for entry in entries)])
    found = list(FailedClaim.objects.filter(event_id=event_id, sequence__in=sequences))
    wanted = {_name(entry): entry for entry in entries} if found else {}
    return {wanted[_name(one)]: one for one in found if _name(one) in wanted}


def note(event_id: int, claim: Sequence[LogEntry], error: DatabaseError, now: datetime) -> bool:
    """Note that the database refused the claim; True when that was the last attempt and it is rejected."""
    noted = of(event_id, claim)
    last = any(failed.attempts >= len(RETRY_AFTER) for failed in noted.values())
    for entry in claim:
        failed = noted.get(entry) or _unsaved(event_id, entry)
        failed.reason = Reason.ERROR
        failed.error = _what_it_said(error)
        if not last:
            failed.next_attempt_at = now + timedelta(seconds=RETRY_AFTER[failed.attempts])
            failed.attempts += 1
            failed.status = Status.RETRYING
            log.warning("claim_failed", claim_id=str(failed.claim_id), attempt=failed.attempts, error=failed.error)
        failed.save()
    if last:
        reject(event_id, claim, Reason.ERROR)
    return last


def _unsaved(event_id: int, entry: LogEntry) -> FailedClaim:
    return FailedClaim(
        event_id=event_id,
        epoch=entry.epoch,
        sequence=entry.sequence,
        place=entry.place,
        units=entry.units,
        user_id=entry.user_id,
        ordinal=entry.ordinal,
        request=entry.request,
        claimed_at=instant(entry.claimed_ms),
    )


def reject(event_id: int, entries: Sequence[LogEntry], reason: FailedClaim.Reason, *, to_return: bool = False) -> None:
    """End the claims that the entries are the units of, without a coupon, and tell their owners why.

    `to_return`: their units are on sale again in the database, and Redis is to have them back.
    """
    if not entries:
        return
    now = timezone.now()
    rows.reject(event_id, entries, reason, now, to_return=to_return)
    claims = list({(entry.epoch, entry.first, entry.user_id): entry for entry in entries}.values())
    notify(Notification.Kind.CLAIM_REJECTED, [_told(event_id, entry, reason) for entry in claims])
    metrics.REJECTED.labels(reason=reason).inc(len(entries))
    for entry in claims:
        log.warning("claim_rejected", claim_id=str(ClaimId(event_id, entry.epoch, entry.first)), reason=reason)


def reject_lost(event_id: int, logged: Set[LogEntry]) -> int:
    """End the claims that were to be tried again and are not in the claim log any more: nobody would try them."""
    retrying = FailedClaim.objects.filter(event_id=event_id, status=Status.RETRYING)
    lost = [failed.entry for failed in retrying.iterator(chunk_size=PAGE) if failed.entry not in logged]
    reject(event_id, lost, Reason.LOST)
    return len(lost)


def mark_issued(failed: Iterable[FailedClaim]) -> None:
    """Note of claims that failed before that they are issued after all."""
    for one in failed:
        one.status, one.next_attempt_at = Status.ISSUED, None
        one.save()


def _name(claim: LogEntry | FailedClaim) -> tuple[int, int, int]:
    """A claim, and whose it is: a Redis that was rolled back may have given a number again, to somebody else."""
    return claim.epoch, claim.sequence, claim.user_id


def _told(event_id: int, entry: LogEntry, reason: FailedClaim.Reason) -> Fact:
    claim_id = str(ClaimId(event_id, entry.epoch, entry.first))
    return Fact(entry.user_id, claim_id, {"event_id": event_id, "claim_id": claim_id, "reason": reason.value})


def _what_it_said(error: DatabaseError) -> str:
    """The kind of the error and the constraint it met: the full text may quote the row."""
    cause = error.__cause__
    diagnostics = getattr(cause, "diag", None)
    constraint = getattr(diagnostics, "constraint_name", None)
    name = type(cause or error).__name__
    return f"{name}: {constraint}" if constraint else name
