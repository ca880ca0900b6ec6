"""Waiting rooms in the database: what a worker writes there about once a second, and how it comes back.

Redis has the order; the database has it a second late. It is what a sale goes on by while Redis is lost, and what a
room is restored from afterwards. Whose turn has come is told so in the same transaction.

A ticket that is gone stays as a row until the room is swept. So nothing that is written twice, or that an older Redis
brings up again, gives it back, and no number is given out again.
"""

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import islice

import structlog
from django.db import connection, transaction
from django.db.models import Case, F, Max, Value, When
from django.utils import timezone
from redis.exceptions import RedisError

from events.models import Event, Ticket
from events.redis.keys import RETIRED_TTL
from events.waiting_room.records import LATE, LogEntry
from events.waiting_room.store import RoomStore
from notifications.models import Notification
from notifications.services import Fact, notify

log = structlog.get_logger(__name__)

BATCH = 1000  # entries of a transaction
BATCHES = 50  # of one room at a time: another one may wait
LOCK = 7_265_001  # the first half of the advisory locks; the second is the event
GONE = -1  # in the place of a lane, to `restore.lua`

JOIN = """
INSERT INTO events_ticket AS ticket (event_id, user_id, number, lane, rank, joined_at)
SELECT %(event_id)s, entry.user_id, entry.number, entry.lane, entry.rank, to_timestamp(entry.joined_ms / 1000::float8)
FROM unnest(%(users)s::bigint[], %(numbers)s::bigint[], %(lanes)s::int[], %(ranks)s::bigint[], %(joined)s::bigint[])
    AS entry (user_id, number, lane, rank, joined_ms)
ON CONFLICT (event_id, user_id) DO UPDATE SET number = excluded.number, lane = excluded.lane, rank = excluded.rank,
    joined_at = excluded.joined_at, gone_at = NULL
WHERE ticket.number < excluded.number
"""
GO = """
UPDATE events_ticket AS ticket SET gone_at = %(now)s
FROM unnest(%(users)s::bigint[], %(numbers)s::bigint[]) AS entry (user_id, number)
WHERE ticket.event_id = %(event_id)s AND ticket.user_id = entry.user_id AND ticket.number <= entry.number
    AND ticket.gone_at IS NULL
"""


def checkpoint_all(store: RoomStore) -> int:
    """Write what is new in all live rooms; how many entries. One that cannot be read stops no other."""
    written = 0
    for event_id in _with_rooms():
        try:
            written += checkpoint(event_id, store)
        except RedisError as error:
            log.warning("checkpoint_failed", event_id=event_id, error=type(error).__name__)  # until the next second
    return written


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


def restore(event: Event, store: RoomStore, *, served: Container[int]) -> int:
    """Put the tickets back that Redis has lost, and take those out that are gone; how many came back.

    Whoever was in line longest is in front again. The `served` users have all that one may have: their tickets are
    gone, whether or not the database has heard of it. The caller holds a transaction, and nobody can visit meanwhile;
    `event.epoch` is that of the load under way.
    """
    _write_all(event.pk, store)
    tickets = Ticket.objects.filter(event=event)
    highest: int = tickets.aggregate(highest=Max("number"))["highest"] or 0
    opened = event.opens_at <= timezone.now() or tickets.filter(rank__gte=LATE).exists()
    in_lane = Case(When(gone_at=None, then=F("lane")), default=Value(GONE))
    places = tickets.order_by("lane", "rank").values_list("user_id", in_lane, "number", "rank")
    rows = (
        (user_id, GONE if user_id in served else lane, number, rank)
        for user_id, lane, number, rank in places.iterator(chunk_size=BATCH)
    )
    put_back = partial(store.restore, event.pk, number=highest, opened=opened, again=event.epoch > 1)
    restored = put_back(tickets=list(islice(rows, BATCH)))
    while page := list(islice(rows, BATCH)):
        restored += put_back(tickets=page)
    return restored


def sweep() -> int:
    """Forget the tickets of sales that ended a week ago, as Redis does; how many."""
    ended = timezone.now() - timedelta(seconds=RETIRED_TTL)
    over = Event.objects.filter(closes_at__lt=ended) | Event.objects.filter(status="closed", updated_at__lt=ended)
    forgotten, _ = Ticket.objects.filter(event__in=over).delete()
    return forgotten


def _write_all(event_id: int, store: RoomStore) -> None:
    """Write the whole log, and leave it there: whether this transaction is committed is not known yet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK, event_id])
    start = 0
    while entries := store.read_log(event_id, start=start, count=BATCH):
        _write(event_id, entries)
        start += len(entries)


def _with_rooms() -> list[int]:
    return list(Event.objects.live().filter(waiting_room=True).values_list("pk", flat=True))


def _write(event_id: int, entries: Sequence[LogEntry]) -> None:
    """Write who has joined and who is gone. What is older than what is known, by its number, changes nothing."""
    joined = {entry.user_id: entry for entry in entries if entry.what == "j"}
    gone = {entry.user_id: entry.number for entry in entries if entry.what == "g"}
    with connection.cursor() as cursor:
        cursor.execute(
            JOIN,
            {
                "event_id": event_id,
                "users": list(joined),
                "numbers": [entry.number for entry in joined.values()],
                "lanes": [entry.lane for entry in joined.values()],
                "ranks": [entry.rank for entry in joined.values()],
                "joined": [entry.joined_ms for entry in joined.values()],
            },
        )
        cursor.execute(
            GO, {"event_id": event_id, "users": list(gone), "numbers": list(gone.values()), "now": timezone.now()}
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
