"""A lock in Redis around a read and a write in the database."""

from coupons import at_once, direct, metrics
from coupons.direct import Overtaken, Sale
from coupons.models import Coupon
from coupons.selectors import ClaimView, as_written
from coupons.stock.ways import hot_ways
from coupons.strategies.base import ClaimResult, Strategy
from coupons.strategies.database import PATIENCE
from coupons.strategies.lock import locked
from events.catalogue import KnownEvent
from events.errors import Unavailable
from events.models import Event


class DistributedLock(Strategy):
    """One claim of the event at a time, whichever machine it comes to; the database is told by a fence who is late.

    For: what is locked need not be a row, nor in one database; who waits does so in Redis, and is woken in turn.
    Against: it is the row lock with two more round trips, to a server that may forget it; what keeps the promises is
    the guard in the database, which would have been enough. The fence is the claim's number: who comes with a lower
    one than was written last is late. `per_user` locks the claims of one user against each other only: double clicks
    meet, and nobody else waits; such locks have no common order, and so no fence.
    """

    name = Event.Strategy.DISTRIBUTED_LOCK

    def __init__(self, *, per_user: bool = False) -> None:
        self.per_user = per_user
        self.fenced = not per_user

    def claim(self, event: KnownEvent, user_id: int, request: str) -> ClaimResult:
        """As in the contract."""
        of = str(user_id) if self.per_user else ""
        # Most come too late: they are told so without the lock.
        with direct.glance(patience=PATIENCE):
            found = _look(event, user_id, request)
        if isinstance(found, ClaimView):
            return ClaimResult(found, "repeated")
        with (
            direct.slot(patience=PATIENCE),
            locked(hot_ways(), event.id, epoch=event.epoch, patience=PATIENCE, of=of) as held,
        ):
            found = _look(event, user_id, request)
            if isinstance(found, ClaimView):
                return ClaimResult(found, "repeated")
            if not held.keep():
                raise Unavailable
            coupon = self._issue(found, user_id, request, held.fence)
        metrics.ISSUED.inc()
        return ClaimResult(as_written(coupon), "accepted")

    def _issue(self, sale: Sale, user_id: int, request: str, fence: int) -> Coupon:
        try:
            return at_once.issue(
                sale.event,
                user_id,
                request,
                sale.now,
                ordinal=sale.free_ordinal,
                number=fence,
                fence=fence if self.fenced else None,
            )
        except Overtaken:  # by who has the lock now, or by an operator
            raise Unavailable from None


def _look(event: KnownEvent, user_id: int, request: str) -> ClaimView | Sale:
    row, now = direct.read(Event.objects.all(), event.id)
    if row.epoch != event.epoch:
        raise Unavailable  # this process has not heard of a load: it will within a second
    return direct.check(row, now, user_id, request)
