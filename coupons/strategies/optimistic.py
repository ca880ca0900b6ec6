"""A version column: change the row only if nobody has since it was read, and otherwise begin anew."""

from coupons import direct
from coupons.direct import Overtaken, Sale
from coupons.strategies.database import DatabaseStrategy
from events.models import Event


class Optimistic(DatabaseStrategy):
    """Compare and set: of all who read the same version one wins, the others look again after a short random pause.

    For: no lock while one thinks, which may take as long as it likes; it needs no more of a database than any has.
    Against: in a rush nearly all tries are lost, the more the more people come, and a try that is lost has cost its
    transaction. They are bounded: who loses them all is told to come again, although units are left.
    """

    name = Event.Strategy.OPTIMISTIC

    def take(self, sale: Sale, user_id: int, request: str) -> tuple[Sale, int]:  # noqa: ARG002 - the contract's
        """Compare and set. Operators' changes raise the version, too, and so are never overlooked."""
        event = sale.event
        as_it_was = direct.as_it_stood(event).filter(version=event.version)
        number = event.last_number + 1
        if not as_it_was.update(issued=event.issued + 1, version=event.version + 1, last_number=number):
            raise Overtaken
        return sale, number
