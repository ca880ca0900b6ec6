"""`DECR`, and `INCR` for who came too late; a set for the duplicates."""

from coupons.stock.store import hot_store
from coupons.stock.ways import HotWayStore, Seen, Taken
from coupons.strategies.holding import HoldingStrategy
from events.catalogue import KnownEvent
from events.errors import SoldOut
from events.models import Event


class RedisCounter(HoldingStrategy):
    """The units left are a number: whoever takes it below zero puts one back and goes. A set tells who has one.

    For: the counter costs the same however many units there are, and hands out each once. Against: it and the set are
    two things that each command changes one of: a process or a connection that dies in between leaves them apart,
    which the reconciler mends when it has seen it twice. Between a `DECR` too many and its `INCR` the number is too
    low, and others are refused for it. One coupon a user.
    """

    name = Event.Strategy.REDIS_COUNTER

    def is_sold_out(self, event: KnownEvent, seen: Seen) -> bool:  # noqa: ARG002 - the contract's
        """The counter."""
        return seen.stock < 1

    def take(self, event: KnownEvent, user_id: int, ways: HotWayStore) -> Taken:
        """`DECR`; back where the user holds one already, or where there was none to take."""
        taken = ways.count_down(event.id, user_id)
        if not taken.new:
            ways.count_up(event.id)
        elif taken.level < 0:
            ways.count_up(event.id)
            ways.remove(event.id, [user_id])
            raise SoldOut
        return taken

    def give_back(self, event: KnownEvent, user_id: int, ways: HotWayStore) -> None:
        """`INCR`, unless the stock was loaded anew meanwhile, which has counted the unit as left."""
        hot_store().adjust(event.id, epoch=event.epoch, delta=1)
        ways.remove(event.id, [user_id])
