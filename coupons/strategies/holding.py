"""What the ways share in which Redis decides by plain commands, and the coupon is written before the answer."""

from abc import abstractmethod
from contextlib import suppress

from django.utils import timezone
from redis.exceptions import RedisError

from coupons import at_once, direct, metrics
from coupons.direct import Overtaken
from coupons.errors import AlreadyClaimed, UnknownUser
from coupons.selectors import ClaimView, as_written
from coupons.stock.records import instant
from coupons.stock.ways import HotWayStore, Seen, Taken, hot_ways
from coupons.strategies.base import ClaimResult, Strategy
from coupons.strategies.database import PATIENCE
from events.catalogue import KnownEvent
from events.errors import Refusal, SoldOut, Unavailable
from events.models import Event


class HoldingStrategy(Strategy):
    """Redis has the users who hold a unit, one each, and refuses the others without the database being asked.

    A holder without a coupon was let down before the coupon was written: on asking again it is written after all.
    """

    refuses_truly = False
    leaks_nothing = False

    def claim(self, event: KnownEvent, user_id: int, request: str) -> ClaimResult:
        """As in the contract."""
        ways = hot_ways()
        with ways.breaker(event.id):
            seen = ways.look(event.id, user_id)
        if seen.epoch != event.epoch:
            raise Unavailable  # a load is due or under way, or this process has not heard of it
        if not seen.holds:
            direct.refuse_if_shut(seen.status, instant(seen.opens_ms), instant(seen.closes_ms), timezone.now())
            if self.is_sold_out(event, seen):
                raise SoldOut
        else:
            with direct.glance(patience=PATIENCE):
                known = _known(event.id, user_id, request)
            if known is not None:
                return ClaimResult(known, "repeated")
        with direct.slot(patience=PATIENCE):
            with ways.breaker(event.id):
                taken = self.take(event, user_id, ways)
            try:
                claim = _write(event, user_id, request, taken.number)
            except Overtaken:
                return self._explain(event, user_id, request, taken)
            except UnknownUser:
                self._give_back(event, user_id, taken)
                raise
        metrics.ISSUED.inc()
        return ClaimResult(claim, "accepted")

    @abstractmethod
    def is_sold_out(self, event: KnownEvent, seen: Seen) -> bool:
        """Whether no unit is left, as far as the look tells."""

    @abstractmethod
    def take(self, event: KnownEvent, user_id: int, ways: HotWayStore) -> Taken:
        """Take a unit for the user, who may hold one already; raises `SoldOut`."""

    @abstractmethod
    def give_back(self, event: KnownEvent, user_id: int, ways: HotWayStore) -> None:
        """Undo `take`."""

    def _explain(self, event: KnownEvent, user_id: int, request: str, taken: Taken) -> ClaimResult:
        """Why no coupon was written although Redis had a unit. Who has one already stays among the holders."""
        try:
            if known := _known(event.id, user_id, request):
                return ClaimResult(known, "repeated")
        except AlreadyClaimed:
            raise
        except Refusal:
            self._give_back(event, user_id, taken)
            raise
        self._give_back(event, user_id, taken)
        raise Unavailable

    def _give_back(self, event: KnownEvent, user_id: int, taken: Taken) -> None:
        if taken.new:
            with suppress(RedisError):  # the reconciler does it
                self.give_back(event, user_id, hot_ways())


def _write(event: KnownEvent, user_id: int, request: str, number: int) -> ClaimView:
    """Count the unit and write its coupon. `DatabaseError` where nobody knows whether that came to pass."""
    known = {name: getattr(event, name) for name in ("id", "title", "benefit", "epoch", "stock_mode")}
    return as_written(at_once.issue(Event(**known), user_id, request, timezone.now(), number=number))


def _known(event_id: int, user_id: int, request: str) -> ClaimView | None:
    """The first answer to this request; None where the user has no coupon and could have one. Raises the `Refusal`."""
    found = direct.check(*direct.read(Event.objects.all(), event_id), user_id, request)
    return found if isinstance(found, ClaimView) else None
