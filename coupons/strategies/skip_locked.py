"""One row a unit: take the first that nobody else has in hand, and wait for nobody."""

from django.db.models import F

from coupons import direct, units
from coupons.direct import Overtaken, Sale
from coupons.models import Unit
from coupons.strategies.database import DatabaseStrategy
from events.errors import SoldOut
from events.models import Event


class SkipLocked(DatabaseStrategy):
    """`DELETE … (SELECT … FOR UPDATE SKIP LOCKED LIMIT 1)`: whoever comes takes another unit than the one before.

    For: claims do their work side by side. Right for units that differ, such as seats. Against: a row a unit, made
    beforehand; in a rush the first pages fill with rows that are gone, until they are vacuumed. The order is not kept:
    who gets a unit that another had in hand and put back has a lower number than those who came in between. And what
    is issued must be counted somewhere: here on the event's row, which is taken last and for the commit only, and yet
    brings most of the line back that the units were to avoid.
    """

    name = Event.Strategy.SKIP_LOCKED
    ordered = False

    def take(self, sale: Sale, user_id: int, request: str) -> tuple[Sale, int]:  # noqa: ARG002 - the contract's
        """The unit's row now; the count of the event after the coupon."""
        number = units.take(sale.event.pk)
        if number is None:
            if Unit.objects.filter(event=sale.event).exists():
                raise Overtaken  # all that are left are in somebody's hand, and may be put back
            raise SoldOut
        return sale, number

    def finish(self, sale: Sale, number: int) -> None:  # noqa: ARG002 - the contract's
        """Count it: the row of the event is locked for the commit only."""
        if not direct.as_it_stood(sale.event).update(issued=F("issued") + 1):
            raise Overtaken
