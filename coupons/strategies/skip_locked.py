"""One row a unit: take the first that nobody else has in hand, and wait for nobody."""

from coupons import at_once, units
from coupons.direct import Overtaken, Sale
from coupons.selectors import ClaimView, as_written
from coupons.strategies.database import DatabaseStrategy
from events.models import Event


class SkipLocked(DatabaseStrategy):
    """`DELETE … (SELECT … FOR UPDATE SKIP LOCKED LIMIT 1)`: whoever comes takes another unit than the one before.

    For: no claim waits for another; they do their work side by side, commits included. Right for units that differ,
    such as seats. Against: a row a unit, made beforehand. All begin at the lowest number: rows that are gone cost
    nothing to pass, unless a long transaction keeps them from being marked so. The order is not kept all the same: who
    gets a unit that another had in hand and put back has a lower number than those who came in between. And what is
    issued stands nowhere: it is counted afterwards, twice a second by each process that knows the sale, before each
    change of an operator, and by whoever finds nothing free, so that those behind are refused by a look.
    """

    name = Event.Strategy.SKIP_LOCKED
    ordered = False

    def issue(self, sale: Sale, user_id: int, request: str) -> ClaimView:
        """All in one. No row: the sale has changed, all that are left are in somebody's hand, or none is left."""
        try:
            coupon = at_once.issue(
                sale.event, user_id, request, sale.now, ordinal=sale.free_ordinal, statements=units.ISSUE
            )
        except Overtaken:
            units.count([sale.event.pk])  # another look says which
            raise
        return as_written(coupon)
