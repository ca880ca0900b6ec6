"""One guarded `UPDATE`: the check and the decrement are one statement, and the database sees to the rest."""

from django.db import connection

from coupons.direct import Overtaken, Sale
from coupons.strategies.database import DatabaseStrategy
from events.models import Event

TAKE = """
UPDATE events_event SET issued = issued + 1, last_number = last_number + 1
WHERE id = %(event)s AND status = 'published' AND stock_mode = %(mode)s AND epoch = %(epoch)s AND issued < quantity
RETURNING last_number
"""


class ConditionalUpdate(DatabaseStrategy):
    """`UPDATE … SET issued = issued + 1 WHERE issued < quantity AND …`: a row changed is a unit taken.

    For: no lock is held while anything is looked at, and no claim is ever in vain as long as units last. The best of
    those without Redis. Against: the row is locked from the update to the commit, so one transaction at a time passes
    there, as fast as the disk takes commits; and under `REPEATABLE READ` it would fail instead of waiting.
    """

    name = Event.Strategy.CONDITIONAL_UPDATE

    def take(self, sale: Sale, user_id: int, request: str) -> tuple[Sale, int]:  # noqa: ARG002 - the contract's
        """The update. No row: the sale has changed, and another look says how."""
        event = sale.event
        with connection.cursor() as cursor:
            cursor.execute(TAKE, {"event": event.pk, "mode": event.stock_mode, "epoch": event.epoch})
            row = cursor.fetchone()
        if row is None:
            raise Overtaken
        return sale, row[0]
