"""The units of a sale as rows, for the one way that takes them so (`strategies.skip_locked`).

As many rows as units: that is the guard of the first promise. A claim does not touch the event's row, for that would be
a line again: `Event.issued` is counted afterwards, by whoever needs it (`count`).
"""

from collections.abc import Sequence

from django.db import connection
from django.db.models import Max

from coupons import at_once
from coupons.loading import highest_sequence
from coupons.models import Unit
from events.models import Event

FILL = """
INSERT INTO coupons_unit (event_id, number)
SELECT %(event)s, generate_series(%(first)s::bigint, %(last)s::bigint)
"""
# The lowest that nobody else has in hand, as long as the event sells as it did at the look.
TAKE = """
    DELETE FROM coupons_unit WHERE id = (
        SELECT id FROM coupons_unit
        WHERE event_id = (
            SELECT id FROM events_event
            WHERE id = %(event)s AND status = 'published' AND stock_mode = %(mode)s AND epoch = %(epoch)s
        )
        ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
    ) RETURNING number
"""
# An operator's change waits for claims under way, and they for it: those behind one that waits do not pass it, as they
# would with a shared lock of the row. A statement of its own, so that the next one sees what was changed meanwhile.
ISSUE = "SELECT pg_advisory_xact_lock_shared(%(drain_lock)s);" + at_once.ISSUE.format(take=TAKE)
# Coupons are never taken back here: a count that is late is too low, and never brings `issued` down.
COUNT = """
WITH counted AS MATERIALIZED (
    SELECT id, (SELECT count(*) FROM coupons_coupon WHERE event_id = event.id) AS number
    FROM events_event AS event WHERE id = ANY(%(events)s) AND strategy = 'skip_locked'
), behind AS (
    SELECT id, number FROM events_event AS event JOIN counted USING (id) WHERE issued < number
    FOR NO KEY UPDATE OF event {busy}
)
UPDATE events_event AS event SET issued = number FROM behind WHERE event.id = behind.id
RETURNING event.id, event.issued
"""


def fill(event_id: int, *, first: int, last: int) -> None:
    """Make the units of these numbers, in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(FILL, {"event": event_id, "first": first, "last": last})


def count(event_ids: Sequence[int], *, skip_busy: bool = False) -> dict[int, int]:
    """Bring `issued` of those of the events up to date whose units are rows: what it is now of each that was behind.

    It waits for who has the row of an event, or with `skip_busy` leaves that event to them.
    """
    with connection.cursor() as cursor:
        cursor.execute(COUNT.format(busy="SKIP LOCKED" if skip_busy else ""), {"events": list(event_ids)})
        return dict(cursor.fetchall())


def resize(event: Event, *, delta: int) -> None:
    """Add units behind the last number that there ever was, or take the last ones.

    The caller has the drain lock, so that no unit is in anybody's hand, and has seen that so many are left.
    """
    units = Unit.objects.filter(event=event)
    if delta > 0:
        last = max(units.aggregate(last=Max("number"))["last"] or 0, highest_sequence(event.pk))
        fill(event.pk, first=last + 1, last=last + delta)
    else:
        units.filter(pk__in=units.order_by("-number").values("pk")[:-delta]).delete()
