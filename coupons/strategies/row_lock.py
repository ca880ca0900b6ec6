"""`SELECT … FOR UPDATE`: one claim after another, each behind the lock of the event's row."""

from contextlib import AbstractContextManager, nullcontext

from django.db.models import F

from coupons import direct
from coupons.direct import Overtaken, Sale
from coupons.issuing import NothingLeft
from coupons.selectors import ClaimView
from coupons.strategies.base import ClaimResult
from coupons.strategies.database import DatabaseStrategy
from events.catalogue import KnownEvent
from events.models import Event


class RowLock(DatabaseStrategy):
    """The simplest that is right: whoever has the row decides alone, and all others wait for it in line.

    For: nothing is ever tried again, numbers have no gap, every check is made on what is true then. Against: a claim
    keeps the row through five round trips to the database, so few pass in a second, and the line is as long as the
    rush. A sale that lost its Redis goes on in this way.
    """

    name = Event.Strategy.ROW_LOCK
    several = True

    def claim_several(self, event: KnownEvent, user_id: int, request: str, quantity: int) -> ClaimResult:
        """As in the contract."""
        return self._claim(event, user_id, request, quantity)

    def issue(self, sale: Sale, user_id: int, request: str) -> ClaimView:
        """Take the row, look again, for what the first look found may be old by now; write, and count."""
        with direct.writing(user_id):
            events = Event.objects.select_for_update(no_key=True)
            found = direct.look(events, sale.event.pk, user_id, request, sale.quantity)
            if isinstance(found, ClaimView):
                raise Overtaken  # by the same request
            number = direct.next_number(found.event)
            claim = direct.write(found, user_id, request, number)
            _count(found, number)
            return claim


class RowLockInstead(RowLock):
    """The same for a sale that has lost its Redis. It waits for no place, and asks nothing before it has one.

    In the rush that lost it, threads are worth more than a claim, and PostgreSQL more than both.
    """

    def _claim(self, event: KnownEvent, user_id: int, request: str, quantity: int) -> ClaimResult:
        with direct.slot():
            return super()._claim(event, user_id, request, quantity)

    def place(self) -> AbstractContextManager[None]:
        """It has one already."""
        return nullcontext()


def _count(sale: Sale, number: int) -> None:
    units = sale.quantity
    enough = Event.objects.filter(pk=sale.event.pk, issued__lte=F("quantity") - units)
    if not enough.update(
        issued=F("issued") + units,
        held=F("held") + (units if sale.event.hold_seconds else 0),
        last_number=number + units - 1,
    ):
        raise NothingLeft
