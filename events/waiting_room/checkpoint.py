"""Waiting rooms in the database: what a worker writes there about once a second, and how it comes back.

Redis has the order; the database has it a second late. It is what a sale goes on by while Redis is lost, and what a
room is restored from afterwards. Whose turn has come is told so in the same transaction.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice

from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from events.models import Event, Ticket
from events.waiting_room.records import LogEntry
from events.waiting_room.store import RoomStore
from notifications.models import Notification
from notifications.services import Fact, notify

BATCH = 1000  # entries of a transaction
BATCHES = 50  # of one room at a time: another one may wait
LOCK = 7_265_001  # the first half of the advisory locks; the second is the event


def checkpoint_all(store: RoomStore) -> int:
    """Write what is new in all live rooms; how many entries."""
    return sum(checkpoint(event_id, store) for event_id in _with_rooms())


def checkpoint(event_id: int, store: RoomStore) -> int:
    """Write what is new in a room, in batches; how many entries. Nothing while another process is at it."""
    written = 0
    with _alone(event_id) as mine:
        while mine and written < BATCH * BATCHES and (entries := store.read_log(event_id, count=BATCH)):
            with transaction.atomic():
                _write(event_id, entries)
                _tell(event_id, entries)
            store.settle_log(event_id, len(entries))  # a crash before it writes the same once more
            written += len(entries)
    return written


def restore(event: Event, store: RoomStore) -> int:
    """Put the tickets back that Redis has lost; how many. Whoever was in line longest is in front again."""
    tickets = Ticket.objects.filter(event=event)
    highest: int = tickets.aggregate(highest=Max("number"))["highest"] or 0
    opened = event.opens_at <= timezone.now()
    rows = tickets.order_by("lane", "rank").values_list("user_id", "lane", "number", "rank").iterator(chunk_size=BATCH)
    restored = store.restore(event.pk, number=highest, opened=opened, tickets=list(islice(rows, BATCH)))
    while page := list(islice(rows, BATCH)):
        restored += store.restore(event.pk, number=highest, opened=opened, tickets=page)
    return restored


def _with_rooms() -> list[int]:
    return list(Event.objects.live().filter(waiting_room=True).values_list("pk", flat=True))


def _write(event_id: int, entries: Sequence[LogEntry]) -> None:
    """Write what became of each user who is named: the last thing that happened to them counts."""
    joined: dict[int, LogEntry] = {}
    gone: set[int] = set()
    for entry in entries:
        if entry.what == "j":
            joined[entry.user_id] = entry
            gone.discard(entry.user_id)
        elif entry.what == "g":
            joined.pop(entry.user_id, None)
            gone.add(entry.user_id)
    Ticket.objects.filter(event_id=event_id, user_id__in=gone).delete()
    Ticket.objects.bulk_create(
        [_row(event_id, entry) for entry in joined.values()],
        update_conflicts=True,
        unique_fields=["event", "user"],
        update_fields=["number", "lane", "rank", "joined_at"],
    )


def _tell(event_id: int, entries: Sequence[LogEntry]) -> None:
    """Tell those whose turn it is, as long as it is kept: once, however often it is written."""
    called = [entry for entry in entries if entry.what == "c"]
    if not called:
        return
    until = timezone.now() + timedelta(seconds=Event.objects.values_list("grace", flat=True).get(pk=event_id))
    data = {"event_id": event_id, "expires_at": until.isoformat()}
    facts = [Fact(entry.user_id, f"{event_id}:{entry.number}", data) for entry in called]
    notify(Notification.Kind.ADMITTED, facts)


def _row(event_id: int, entry: LogEntry) -> Ticket:
    return Ticket(
        event_id=event_id,
        user_id=entry.user_id,
        number=entry.number,
        lane=entry.lane,
        rank=entry.rank,
        joined_at=datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=entry.joined_ms),
    )


@contextmanager
def _alone(event_id: int) -> Iterator[bool]:
    """Whether nobody else is at this room; so until the end of the context, or of the connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK, event_id])
        (mine,) = cursor.fetchone()
        try:
            yield mine
        finally:
            if mine:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK, event_id])
