"""One row a unit: take the first that nobody else has in hand, and wait for nobody."""

from django.db.models import F

from coupons import direct, units
from coupons.direct import Overtaken, Sale
from coupons.models import Unit
from coupons.selectors import ClaimView
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

    def issue(self, sale: Sale, user_id: int, request: str) -> ClaimView:
        """The unit's row, the coupon, and at last the count of the event."""
        with direct.writing(user_id):
            claim = direct.write(sale, user_id, request, self.take(sale))
            if not direct.as_it_stood(sale.event).update(issued=F("issued") + 1):
                raise Overtaken
            return claim

    def take(self, sale: Sale) -> int:
        """Take a unit's row: its number."""
        number = units.take(sale.event.pk)
        if number is None:
            if Unit.objects.filter(event=sale.event).exists():
                raise Overtaken  # all that are left are in somebody's hand, and may be put back
            raise SoldOut
        return number
