"""The units of a sale as rows, for the one way that takes them so (`strategies.skip_locked`)."""

from django.db import connection
from django.db.models import Max
from django.utils.translation import gettext

from coupons.loading import highest_sequence
from coupons.models import Unit
from events.errors import InvalidChange
from events.models import Event

FILL = """
INSERT INTO coupons_unit (event_id, number)
SELECT %(event)s, generate_series(%(first)s::bigint, %(last)s::bigint)
"""
# The lowest that nobody else has in hand.
TAKE = """
DELETE FROM coupons_unit WHERE id = (
    SELECT id FROM coupons_unit WHERE event_id = %(event)s ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING number
"""


def fill(event_id: int, *, first: int, last: int) -> None:
    """Make the units of these numbers, in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(FILL, {"event": event_id, "first": first, "last": last})


def take(event_id: int) -> int | None:
    """Take a unit until the transaction ends: its number. None where none is left that nobody has in hand."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE, {"event": event_id})
        row = cursor.fetchone()
        return None if row is None else int(row[0])


def resize(event: Event, *, delta: int) -> None:
    """Add units behind the last number that there ever was, or take the last ones; the caller has the event's row.

    Raises `InvalidChange` where so many are not left.
    """
    units = Unit.objects.filter(event=event)
    if delta > 0:
        last = max(units.aggregate(last=Max("number"))["last"] or 0, highest_sequence(event.pk))
        fill(event.pk, first=last + 1, last=last + delta)
        return
    doomed = [unit.pk for unit in units.order_by("-number").select_for_update(skip_locked=True)[:-delta]]
    if len(doomed) < -delta:
        raise InvalidChange(gettext("So many units are not left: some are being claimed at this moment. Try again."))
    units.filter(pk__in=doomed).delete()
