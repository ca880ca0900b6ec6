"""`SADD`, `SCARD` again, and `SREM` for who came too late: as many members as there are units."""

from coupons.stock.ways import HotWayStore, Seen, Taken
from coupons.strategies.holding import HoldingStrategy
from events.catalogue import KnownEvent
from events.errors import SoldOut
from events.models import Event


class RedisSet(HoldingStrategy):
    """The set of holders is the stock: whoever finds it larger than the quantity after joining leaves again.

    For: two commands that everybody knows; the set answers who has one already, too, and the database is asked by
    winners only. Against: several who join together each see the others: all of them may leave, and be told
    `sold_out`, although a unit is left, which the next to come then gets. One coupon a user, and a process that dies
    before the coupon is written keeps its place in the set until the reconciler has seen it twice.
    """

    name = Event.Strategy.REDIS_SET

    def is_sold_out(self, event: KnownEvent, seen: Seen) -> bool:
        """`SCARD`."""
        return seen.holders >= event.quantity

    def take(self, event: KnownEvent, user_id: int, ways: HotWayStore) -> Taken:
        """`SADD`, and `SCARD` again."""
        taken = ways.add(event.id, user_id)
        if taken.new and taken.level > event.quantity:
            ways.remove(event.id, [user_id])
            raise SoldOut
        return taken

    def give_back(self, event: KnownEvent, user_id: int, ways: HotWayStore) -> None:
        """`SREM`."""
        ways.remove(event.id, [user_id])
