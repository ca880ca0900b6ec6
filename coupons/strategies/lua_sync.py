"""The script of `lua_async`, and the coupon written before the answer instead of by a worker."""

from contextlib import suppress

from django.db import Error as DatabaseError
from django.utils import timezone
from redis.exceptions import RedisError

from coupons import at_once, direct, metrics, selectors
from coupons.direct import Overtaken
from coupons.errors import AlreadyClaimed, UnknownUser
from coupons.models import Coupon
from coupons.selectors import ClaimView
from coupons.stock.codes import ReserveCode
from coupons.stock.records import IssuedCoupon, LogEntry, Reservation, instant
from coupons.stock.store import hot_store
from coupons.strategies import lua_async
from coupons.strategies.base import ClaimResult, Strategy
from coupons.strategies.database import PATIENCE
from events.catalogue import KnownEvent
from events.errors import Unavailable
from events.models import Event

HELD = {ReserveCode.ACCEPTED, ReserveCode.REPEATED, ReserveCode.ALREADY_CLAIMED}


class LuaSync(Strategy):
    """All checks and the unit in one script, and then at once the transaction that a worker would do for a thousand.

    For: the answer is the coupon (201); who comes too late is told so by Redis alone, however many they are; and what
    is taken is in the claim log, so a crash before the commit only leaves it to the worker. Against: winners come as
    fast as single transactions do, all behind one row. Where the database is slow or away the claim is accepted all
    the same (202), and issued by the worker.
    """

    name = Event.Strategy.LUA_SYNC
    limits_requests = True

    def claim(self, event: KnownEvent, user_id: int, request: str) -> ClaimResult:
        """As in the contract."""
        store = hot_store()
        reply = store.reserve(event.id, epoch=event.epoch, claims=[(user_id, request)])
        reservation = reply.reservations[0]
        if reservation.code is ReserveCode.ACCEPTED:
            claim = self._issue(event, reservation)
            if claim is not None:
                return ClaimResult(claim, "accepted")
        elif reservation.code in HELD and (known := _known(event.id, user_id, reservation)):
            if reservation.code is ReserveCode.REPEATED:
                return ClaimResult(known, "repeated")
            raise AlreadyClaimed(known)
        told = lua_async.outcome(event, reservation, drained=reply.drained)
        return lua_async.unless_refused(told)

    def _issue(self, event: KnownEvent, reservation: Reservation) -> ClaimView | None:
        """Write the coupon of a claim that is in the log; None where that is left to the worker."""
        store, name = hot_store(), f"{reservation.epoch}-{reservation.sequence}"
        try:
            with direct.slot(patience=PATIENCE):
                entry = store.entry(event.id, name)
                if entry is None:
                    return None  # a worker was quicker
                coupon = _write(event, entry)
        except (Unavailable, Overtaken, UnknownUser, RedisError):
            return None
        metrics.ISSUED.inc()
        with suppress(RedisError):  # the worker finds it issued, and does the same
            noted = (entry, IssuedCoupon(coupon.code, coupon.issued_at))
            store.settle(event.id, epoch=entry.epoch, drained=0, entries=[name], issued=[noted])
        return selectors.as_written(coupon)


def _write(event: KnownEvent, entry: LogEntry) -> Coupon:
    known = Event(id=event.id, title=event.title, benefit=event.benefit, epoch=entry.epoch)
    return at_once.issue(
        known,
        entry.user_id,
        entry.request,
        timezone.now(),
        ordinal=entry.ordinal,
        number=entry.sequence,
        claimed_at=instant(entry.claimed_ms),
        accepted=True,
    )


def _known(event_id: int, user_id: int, reservation: Reservation) -> ClaimView | None:
    """The claim that the script names, if it has its coupon."""
    try:
        return selectors.issued_claim(event_id, user_id, reservation.epoch, reservation.sequence)
    except (DatabaseError, Unavailable):
        return None
