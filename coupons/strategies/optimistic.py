"""A version column: change the row only if nobody has since it was read, and otherwise begin anew."""

from coupons import at_once
from coupons.direct import Sale
from coupons.selectors import ClaimView, as_written
from coupons.strategies.database import DatabaseStrategy
from events.models import Event


class Optimistic(DatabaseStrategy):
    """Compare and set: of all who read the same version one wins, the others look again after a short random pause.

    For: no lock while one thinks, which may take as long as it likes; it needs no more of a database than any has.
    Against: in a rush nearly all tries are lost, the more the more people come, and a try that is lost has cost its
    transaction. They are bounded: who loses them all is told to come again, although units are left.
    """

    name = Event.Strategy.OPTIMISTIC

    def issue(self, sale: Sale, user_id: int, request: str) -> ClaimView:
        """Compare and set. Operators' changes raise the version, too, and so are never overlooked."""
        event = sale.event
        coupon = at_once.issue(event, user_id, request, sale.now, ordinal=sale.free_ordinal, version=event.version)
        return as_written(coupon)
