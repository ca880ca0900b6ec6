"""Writing notifications, and what users do with theirs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.utils import timezone

from notifications.models import Notification

COUNTED = 100  # notifications that are looked at for a number
BATCH = 1000  # rows a statement

NOTIFY = """
WITH told AS (
    INSERT INTO notifications_notification (user_id, kind, key, data, created_at)
    SELECT fact.user_id, %(kind)s, %(kind)s || ':' || fact.key, fact.data, %(now)s
    FROM unnest(%(users)s::bigint[], %(keys)s::text[], %(data)s::jsonb[]) AS fact (user_id, key, data)
    JOIN {users} AS owner ON owner.id = fact.user_id
    ON CONFLICT (key) DO NOTHING
    RETURNING id
), outbox AS (
    INSERT INTO notifications_outbox (notifications) SELECT array_agg(id) FROM told HAVING count(*) > 0
)
SELECT count(*) FROM told
"""
# A user who is gone is not told.


@dataclass(frozen=True, slots=True)
class Fact:
    """Something to tell a user. `key` names it among those of its kind: told again it is the same row.

    `data` is JSON. By `event_id` the event is named to the user; `expires_at` (ISO 8601) is when it is worth nothing
    any more, and is not delivered after it.
    """

    user_id: int
    key: str
    data: dict[str, Any] = field(default_factory=dict)


def notify(kind: Notification.Kind, facts: Iterable[Fact]) -> int:
    """Write a notification of each fact that is not told yet, a thousand in a statement; how many were.

    All or none, in the caller's transaction if there is one; what is written is delivered after the commit.
    """
    written = 0
    now = timezone.now()
    statement = NOTIFY.format(users=get_user_model()._meta.db_table)
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        for batch in _batches(facts):
            told: dict[str, Any] = {
                "kind": kind.value,
                "now": now,
                "users": [fact.user_id for fact in batch],
                "keys": [fact.key for fact in batch],
                "data": [orjson.dumps(fact.data).decode() for fact in batch],
            }
            cursor.execute(statement, told)
            written += cursor.fetchone()[0]
    return written


def mark_read(*, notification_id: int, user_id: int) -> Notification | None:
    """Note when the user read it, the first time; None where the user has no such notification."""
    mine = Notification.objects.filter(pk=notification_id, user_id=user_id)
    mine.filter(read_at__isnull=True).update(read_at=timezone.now())
    return mine.first()


def mark_all_read(*, user_id: int) -> None:
    """The same of all that the user has not read."""
    Notification.objects.filter(user_id=user_id, read_at__isnull=True).update(read_at=timezone.now())


def unread_of(user_id: int) -> int:
    """How many the user has not read, of the newest `COUNTED`."""
    newest = Notification.objects.filter(user_id=user_id).values_list("read_at", flat=True)[:COUNTED]
    return sum(read_at is None for read_at in newest)


def _batches(facts: Iterable[Fact]) -> Iterator[list[Fact]]:
    rest = iter(facts)
    while batch := list(islice(rest, BATCH)):
        yield batch
