"""`LPUSH` now; one worker per event takes the claims in their order and decides."""

from coupons.nudging import nudger
from coupons.stock.ways import hot_ways
from coupons.strategies import lua_async
from coupons.strategies.base import ClaimResult, Strategy
from events.catalogue import KnownEvent
from events.models import Event


class ListQueue(Strategy):
    """Everybody is let in, and told later: a worker moves the queue into the claim log and issues while units last.

    For: claiming never looks at the stock, so the rush and the selling are apart; who comes first is first. Against:
    accepted is not issued: the losers wait as long as the winners, hear of it by a poll or a notification
    (`sold_out`), and each of them costs a row. As soon as the database says that all is issued the rest is refused at
    the door. A Redis that loses its memory loses what was queued.
    """

    name = Event.Strategy.LIST_QUEUE
    at_once = False
    decides_at_once = False

    def claim(self, event: KnownEvent, user_id: int, request: str) -> ClaimResult:
        """As in the contract."""
        ways, sold_out = hot_ways(), event.remaining == 0
        with ways.breaker(event.id):
            reply = ways.push(event.id, epoch=event.epoch, user_id=user_id, request=request, sold_out=sold_out)
        if reply.nudge:
            nudger.nudge(event.id)
        told = lua_async.outcome(event, reply.reservations[0], drained=reply.drained)
        return lua_async.unless_refused(told)
