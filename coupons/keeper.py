"""The stock as `events` asks for it (`events.stock.StockKeeper`), in Redis or in the database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from django.utils.translation import gettext
from redis.exceptions import RedisError

from coupons import loading, modes, selectors, units
from coupons.errors import AlreadyClaimed
from coupons.locks import take_drain_lock
from coupons.models import ClaimId, Coupon
from coupons.selectors import ClaimView
from coupons.stock.codes import AdjustCode
from coupons.stock.records import instant
from coupons.stock.store import bulk_store, hot_store
from events.catalogue import catalogue
from events.errors import InvalidChange, Unavailable
from events.models import Event
from events.stock import LastClaim, Level


class RedisStockKeeper:
    """See the protocol for what each method promises."""

    def lock(self, event_id: int) -> None:
        """Take the drain lock until the transaction ends, and count what was issued until now."""
        take_drain_lock(event_id)
        units.count([event_id])

    def count(self, event_ids: Sequence[int]) -> dict[int, int]:
        """What is issued now, where that was not known."""
        return units.count(event_ids, skip_busy=True)

    def load(self, event: Event) -> None:
        """Build the stock in a new epoch, in Redis unless the strategy is one of the database."""
        if not event.needs_redis:
            loading.open_in_database(event)
            if event.strategy == Event.Strategy.SKIP_LOCKED:
                units.fill(event.pk, first=1, last=event.quantity)
            return
        with _redis():
            loading.load(event, bulk_store())

    def apply(self, event: Event) -> None:
        """Take over status, window and limits."""
        self._adjust(event, delta=0)

    def resize(self, event: Event, *, delta: int) -> None:
        """Add or take units."""
        if event.strategy == Event.Strategy.SKIP_LOCKED:
            units.resize(event, delta=delta)
        self._adjust(event, delta=delta)

    def sell_from(self, event_id: int, mode: str) -> Event:
        """Move the sale to Redis or to the database."""
        if mode == Event.StockMode.DATABASE:
            return modes.sell_from_database(event_id, bulk_store())
        with _redis():
            return modes.sell_from_redis(event_id, bulk_store())

    def fall_back(self, event_id: int, *, epoch: int) -> None:
        """Move the sale to the database, as a claim does that cannot reach Redis."""
        modes.fall_back(event_id, epoch=epoch)

    def already_claimed(self, event_id: int, claim: LastClaim) -> AlreadyClaimed:
        """The refusal that names the claim."""
        known = catalogue.get(event_id)
        # Of a sale with holds the watermark does not tell whether it is confirmed.
        is_issued = claim.sequence <= claim.drained and known is not None and not known.hold_seconds
        status: selectors.Status = "issued" if is_issued else "pending"
        name = ClaimId(event_id, claim.epoch, claim.sequence)
        return AlreadyClaimed(ClaimView(name, status, instant(claim.claimed_ms), claim.quantity))

    def claimed_already(self, event: Event, user_id: int) -> AlreadyClaimed | None:
        """The refusal that names the last claim, where the user has as many as they may."""
        held = Coupon.objects.filter(event=event, user_id=user_id).select_related("event")
        return AlreadyClaimed(selectors.claims_in(held)[-1]) if len(held) >= event.per_user_limit else None

    def levels(self, event_ids: Sequence[int]) -> dict[int, Level]:
        """The stock of each event."""
        if not event_ids:
            return {}
        with _redis():
            snapshots = hot_store().snapshots(event_ids)
        return {
            event_id: Level(one.epoch, one.stock, one.backlog, one.oldest_age, one.sequence, one.claimants)
            for event_id, one in snapshots.items()
            if one is not None
        }

    @staticmethod
    def _adjust(event: Event, *, delta: int) -> None:
        if event.stock_mode == Event.StockMode.DATABASE:
            return  # the row says it all
        try:
            code, stock = bulk_store().adjust(event.id, epoch=event.epoch, delta=delta, window=loading.window_of(event))
        except RedisError as error:
            if delta:
                _doubt(event.id)
            raise _away() from error
        if code is AdjustCode.INSUFFICIENT:
            least = event.quantity - delta - stock
            told = gettext(
                "The quantity cannot fall below %(least)s: so many are claimed already (%(issued)s of them issued)."
            )
            raise InvalidChange(told % {"least": least, "issued": event.issued})
        if code is not AdjustCode.ADJUSTED and event.status != Event.Status.CLOSED:
            raise Unavailable(
                gettext(
                    "The stock of this sale is not in Redis at the moment. A worker loads it within seconds: try "
                    "again. Where no worker runs, `manage.py reconcile` loads it."
                )
            )


@contextmanager
def _redis() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise _away() from error


def _away() -> Unavailable:
    return Unavailable(gettext("Redis cannot be reached. Nothing was changed; try again when it is back."))


def _doubt(event_id: int) -> None:
    """Take down a stock that may have been resized although no answer came: a worker loads it anew within seconds.

    Else the next try would add the units a second time, or take them.
    """
    with suppress(RedisError):
        hot_store().unload(event_id)
