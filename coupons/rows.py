"""The rows of a batch, written in one statement each: a thousand coupons cost little more than one."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.contrib.auth import get_user_model
from django.db import connection

from coupons.codes import new_code
from coupons.models import ClaimId
from coupons.stock.records import LogEntry, instant
from notifications.models import Notification

Claim = tuple[int, int]  # epoch, sequence

INSERT_COUPONS = """
INSERT INTO coupons_coupon (event_id, user_id, ordinal, code, epoch, sequence, claimed_at, issued_at)
SELECT %(event_id)s, claim.user_id, claim.ordinal, claim.code, claim.epoch, claim.sequence, claim.claimed_at, %(now)s
FROM unnest(
    %(users)s::bigint[], %(ordinals)s::int[], %(codes)s::text[], %(epochs)s::int[], %(sequences)s::bigint[],
    %(claimed)s::timestamptz[]
) WITH ORDINALITY AS claim (user_id, ordinal, code, epoch, sequence, claimed_at, place)
ORDER BY claim.place
ON CONFLICT (event_id, user_id, ordinal) DO NOTHING
RETURNING epoch, sequence
"""
# The conflict target is named: a bare DO NOTHING would also hide a collision of codes or of sequence numbers.

NOTIFY_ISSUED = """
INSERT INTO notifications_notification (user_id, kind, key, data, created_at)
SELECT coupon.user_id, 'coupon_issued',
    format('coupon_issued:%%s-%%s-%%s', coupon.event_id, coupon.epoch, coupon.sequence),
    jsonb_build_object(
        'event_id', coupon.event_id,
        'claim_id', format('%%s-%%s-%%s', coupon.event_id, coupon.epoch, coupon.sequence),
        'code', coupon.code
    ),
    %(now)s
FROM coupons_coupon AS coupon
JOIN unnest(%(epochs)s::int[], %(sequences)s::bigint[]) AS claim (epoch, sequence)
    ON coupon.epoch = claim.epoch AND coupon.sequence = claim.sequence
WHERE coupon.event_id = %(event_id)s
ON CONFLICT (key) DO NOTHING
"""

EXISTING = """
SELECT claim.place FROM coupons_coupon AS coupon
JOIN unnest(%(epochs)s::int[], %(sequences)s::bigint[], %(users)s::bigint[])
    WITH ORDINALITY AS claim (epoch, sequence, user_id, place)
    ON coupon.epoch = claim.epoch AND coupon.sequence = claim.sequence AND coupon.user_id = claim.user_id
WHERE coupon.event_id = %(event_id)s
"""
# The user is part of it: a Redis that was rolled back gives a number again, to somebody else.


def insert_coupons(event_id: int, entries: Sequence[LogEntry], now: datetime) -> list[Claim]:
    """Write a coupon for each entry whose user does not have it; the claims that were written."""
    with connection.cursor() as cursor:
        cursor.execute(
            INSERT_COUPONS,
            {
                "event_id": event_id,
                "now": now,
                "users": [entry.user_id for entry in entries],
                "ordinals": [entry.ordinal for entry in entries],
                "codes": [new_code() for _ in entries],
                "epochs": [entry.epoch for entry in entries],
                "sequences": [entry.sequence for entry in entries],
                "claimed": [instant(entry.claimed_ms) for entry in entries],
            },
        )
        written: list[Claim] = cursor.fetchall()
        return written


def existing(event_id: int, entries: Sequence[LogEntry]) -> set[LogEntry]:
    """Which of the entries have their coupon."""
    if not entries:
        return set()
    users = [entry.user_id for entry in entries]
    with connection.cursor() as cursor:
        cursor.execute(
            EXISTING,
            {"event_id": event_id, "users": users, **_columns((entry.epoch, entry.sequence) for entry in entries)},
        )
        return {entries[place - 1] for (place,) in cursor.fetchall()}


def notify_issued(event_id: int, claims: Sequence[Claim], now: datetime) -> None:
    """Write the notification of each coupon."""
    if claims:
        with connection.cursor() as cursor:
            cursor.execute(NOTIFY_ISSUED, {"event_id": event_id, "now": now, **_columns(claims)})


def notify_rejected(event_id: int, entry: LogEntry, reason: str, now: datetime) -> None:
    """Write the notification of a rejected claim. A user who is gone is not told."""
    if not get_user_model().objects.filter(pk=entry.user_id).exists():
        return
    claim_id = str(ClaimId(event_id, entry.epoch, entry.sequence))
    Notification.objects.get_or_create(
        key=f"claim_rejected:{claim_id}",
        defaults={
            "user_id": entry.user_id,
            "kind": Notification.Kind.CLAIM_REJECTED,
            "data": {"event_id": event_id, "claim_id": claim_id, "reason": reason},
            "created_at": now,
        },
    )


def _columns(claims: Iterable[Claim]) -> dict[str, list[int]]:
    pairs = list(claims)
    return {"epochs": [epoch for epoch, _ in pairs], "sequences": [sequence for _, sequence in pairs]}
