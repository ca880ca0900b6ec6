"""The drain lock: one drainer, reconciler or operator an event, in PostgreSQL, until the transaction ends.

It is not in Redis, because it guards the database and must not be lost with Redis. It ends with the transaction, so a
worker that dies holds up nobody; one that hangs is cut off by `idle_in_transaction_session_timeout`. Claims that take a
unit's row share it (`units.ISSUE`): side by side, but never beside an operator's change.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from events.models import Event

# Keeps our keys apart from any other advisory lock in the same database.
NAMESPACE = 0x5EC0 << 48
# Rows that one answer under the lock may have. PostgreSQL counts a session that it still sends to as busy, so a process
# that is stopped meanwhile keeps the lock past its time-out. A thousand coupons fit the socket's buffer, two did not.
PAGE = 500


def drain_lock(event_id: int) -> int:
    """The key of the event's lock."""
    return NAMESPACE + event_id


def take_drain_lock(event_id: int) -> None:
    """Wait for the lock of the event; `OperationalError` when `lock_timeout` runs out first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [drain_lock(event_id)])


def try_drain_lock(event_id: int) -> bool:
    """Take the lock of the event if it is free."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [drain_lock(event_id)])
        return bool(cursor.fetchone()[0])


def is_free(event_id: int) -> bool:
    """Whether nobody holds the lock of the event now. It may be taken the moment after."""
    with transaction.atomic():
        return try_drain_lock(event_id)


@contextmanager
def locked_event(event_id: int) -> Iterator[Event]:
    """The event, in a transaction that holds the drain lock and the row: nobody drains, loads or changes it meanwhile.

    Raises `Event.DoesNotExist`.
    """
    with transaction.atomic():
        take_drain_lock(event_id)
        yield Event.objects.select_for_update(no_key=True).get(pk=event_id)
