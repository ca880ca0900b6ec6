"""The rows of a batch, written in one statement each: a thousand coupons cost little more than one."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from coupons.codes import new_code
from coupons.models import Coupon
from coupons.stock.records import LogEntry

# The part of a statement in which the users of `issued` are told, once a claim, with its first coupon.
TELL = """told AS (
    INSERT INTO notifications_notification (user_id, kind, key, data, created_at)
    SELECT user_id, %(kind)s::text, %(kind)s::text || ':' || claim_id,
        jsonb_build_object('event_id', %(event_id)s::bigint, 'claim_id', claim_id, {told}), %(now)s
    FROM issued WHERE place = 1
    ON CONFLICT (key) DO NOTHING
    RETURNING id
), outbox AS (
    INSERT INTO notifications_outbox (notifications) SELECT array_agg(id) FROM told HAVING count(*) > 0
)"""
# What they are told besides: the code, or until when it is held.
TELL_CODE = TELL.format(told="'code', code")
TELL_HELD = TELL.format(told="'expires_at', %(told_until)s::text")

ISSUE = """
WITH issued AS (
    INSERT INTO coupons_coupon (
        event_id, user_id, ordinal, code, status, held_until, epoch, sequence, place, units, request, claimed_at,
        issued_at
    )
    SELECT %(event_id)s, unit.user_id, unit.ordinal, unit.code, %(status)s::text, %(held_until)s::timestamptz,
        unit.epoch, unit.sequence, unit.place, unit.units, unit.request,
        to_timestamp(unit.claimed_ms / 1000::float8), %(now)s
    FROM unnest(
        %(users)s::bigint[], %(ordinals)s::int[], %(codes)s::text[], %(epochs)s::int[], %(sequences)s::bigint[],
        %(places)s::int[], %(units)s::int[], %(requests)s::text[], %(claimed)s::bigint[]
    ) WITH ORDINALITY AS unit (user_id, ordinal, code, epoch, sequence, place, units, request, claimed_ms, nth)
    ORDER BY unit.nth
    ON CONFLICT (event_id, user_id, ordinal) DO NOTHING
    RETURNING user_id, epoch, sequence, place, code, event_id || '-' || epoch || '-' || sequence AS claim_id
), {tell}
SELECT epoch, sequence FROM issued
"""
# The conflict target is named: a bare DO NOTHING would also hide a collision of codes or of sequence numbers.
# One statement: the notifications are fed with the coupons as they are written, and look for none.

COUNT = """
UPDATE events_event SET issued = issued + %(number)s, held = held + %(held)s
WHERE id = %(event_id)s AND issued + %(number)s <= quantity
"""

CONFIRM = """
WITH event AS (
    UPDATE events_event SET held = held - %(units)s WHERE id = %(event_id)s AND held >= %(units)s RETURNING id
), issued AS (
    UPDATE coupons_coupon AS coupon SET status = 'issued', held_until = NULL, issued_at = %(now)s
    FROM event
    WHERE coupon.event_id = event.id AND coupon.id = ANY(%(ids)s::bigint[])
        AND coupon.status = 'held' AND coupon.held_until > clock_timestamp()
    RETURNING user_id, place, code, event_id || '-' || epoch || '-' || sequence AS claim_id
), {tell}
SELECT count(*) FROM issued
"""
# The event's row comes first: whoever decides on a hold has its lock. The clock is read behind it.

EXISTING = """
SELECT claim.place FROM coupons_coupon AS coupon
JOIN unnest(%(epochs)s::int[], %(sequences)s::bigint[], %(users)s::bigint[])
    WITH ORDINALITY AS claim (epoch, sequence, user_id, place)
    ON coupon.epoch = claim.epoch AND coupon.sequence = claim.sequence AND coupon.user_id = claim.user_id
WHERE coupon.event_id = %(event_id)s
"""
# The user is part of it: a Redis that was rolled back may have given a number again, to somebody else.

REJECT = """
INSERT INTO coupons_failedclaim (
    event_id, user_id, ordinal, epoch, sequence, place, units, request, claimed_at, status, reason, error, attempts,
    to_return, created_at, updated_at
)
SELECT %(event_id)s, unit.user_id, unit.ordinal, unit.epoch, unit.sequence, unit.place, unit.units, unit.request,
    to_timestamp(unit.claimed_ms / 1000::float8), 'rejected', %(reason)s, '', 0, %(to_return)s, %(now)s, %(now)s
FROM unnest(
    %(users)s::bigint[], %(ordinals)s::int[], %(epochs)s::int[], %(sequences)s::bigint[], %(places)s::int[],
    %(units)s::int[], %(requests)s::text[], %(claimed)s::bigint[]
) AS unit (user_id, ordinal, epoch, sequence, place, units, request, claimed_ms)
ON CONFLICT (event_id, epoch, sequence, user_id)
DO UPDATE SET status = 'rejected', reason = %(reason)s, next_attempt_at = NULL, to_return = %(to_return)s,
    updated_at = %(now)s
"""


def issue(
    event_id: int, entries: Sequence[LogEntry], now: datetime, *, held_until: datetime | None = None
) -> dict[LogEntry, str]:
    """Write a coupon for each entry whose user does not have it, and tell the user; those entries with their codes.

    With `held_until` they are held until then, and their codes are told nobody.
    """
    codes = [new_code() for _ in entries]
    about: dict[str, Any] = {
        "event_id": event_id,
        "now": now,
        "codes": _texts(codes),
        "status": "held" if held_until else "issued",
        "kind": "claim_held" if held_until else "coupon_issued",
        "held_until": held_until,
        "told_until": held_until and held_until.isoformat(),
    }
    with connection.cursor() as cursor:
        cursor.execute(ISSUE.format(tell=TELL_HELD if held_until else TELL_CODE), {**about, **_claims(entries)})
        written = set(cursor.fetchall())
    return {entry: code for entry, code in zip(entries, codes, strict=True) if (entry.epoch, entry.sequence) in written}


def count(event_id: int, number: int, *, held: int = 0) -> bool:
    """Count so many coupons as issued, and of these so many as held; False, and nothing done, if too few are left."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT, {"event_id": event_id, "number": number, "held": held})
        return bool(cursor.rowcount)


def confirm(event_id: int, units: Sequence[Coupon], now: datetime) -> bool:
    """Issue the units of a claim that are held, and tell their owner; whether all of them were held still.

    If not, the caller's transaction must be rolled back.
    """
    about: dict[str, Any] = {
        "event_id": event_id,
        "units": len(units),
        "ids": numbers(one.pk for one in units),
        "now": now,
        "kind": "coupon_issued",
    }
    with connection.cursor() as cursor:
        cursor.execute(CONFIRM.format(tell=TELL_CODE), about)
        return bool(cursor.fetchone()[0] == len(units))


def existing(event_id: int, entries: Sequence[LogEntry]) -> set[LogEntry]:
    """Which of the entries have their coupon."""
    if not entries:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            EXISTING,
            {
                "event_id": event_id,
                "users": numbers(entry.user_id for entry in entries),
                "epochs": numbers(entry.epoch for entry in entries),
                "sequences": numbers(entry.sequence for entry in entries),
            },
        )
        return {entries[place - 1] for (place,) in cursor.fetchall()}


def reject(event_id: int, entries: Sequence[LogEntry], reason: str, now: datetime, *, to_return: bool = False) -> None:
    """Write of each entry that it is rejected, and why; `to_return`: Redis is to have its unit back."""
    about: dict[str, Any] = {"event_id": event_id, "reason": reason, "now": now, "to_return": to_return}
    with connection.cursor() as cursor:
        cursor.execute(REJECT, {**about, **_claims(entries)})


def _claims(entries: Sequence[LogEntry]) -> dict[str, str]:
    return {
        "users": numbers(entry.user_id for entry in entries),
        "ordinals": numbers(entry.ordinal for entry in entries),
        "epochs": numbers(entry.epoch for entry in entries),
        "sequences": numbers(entry.sequence for entry in entries),
        "places": numbers(entry.place for entry in entries),
        "units": numbers(entry.units for entry in entries),
        "requests": _texts(entry.request for entry in entries),
        "claimed": numbers(entry.claimed_ms for entry in entries),
    }


def numbers(values: Iterable[int]) -> str:
    """An array as PostgreSQL writes it: psycopg asks of each element how to, which took a tenth of a drain."""
    return f"{{{','.join(map(str, values))}}}"


def _texts(values: Iterable[str]) -> str:
    """The same of codes and digests: neither has a quote or a backslash. One that had would make the statement fail."""
    return f"""{{"{'","'.join(values)}"}}"""
