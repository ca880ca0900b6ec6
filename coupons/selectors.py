"""Reads of claims and coupons. All of them see only what belongs to the user they are given."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from redis.exceptions import RedisError

from coupons.bulkhead import Bulkhead
from coupons.errors import ClaimNotFound
from coupons.models import ClaimId, Coupon, FailedClaim
from coupons.stock.records import HeldClaim, IssuedCoupon, Standing, instant
from coupons.stock.store import hot_store
from events.catalogue import KnownEvent, catalogue
from events.errors import EventNotFound, Unavailable
from events.models import Event

Status = Literal["pending", "held", "issued", "rejected"]

_polls = Bulkhead(settings.DATABASE_CLAIMS)


class ClaimView(NamedTuple):
    """A claim as its owner sees it. `coupons` where it is issued, one a unit; `reason` where it is rejected.

    `hold_expires_at` is until when it can be confirmed, where it is held.
    """

    id: ClaimId
    status: Status
    claimed_at: datetime
    quantity: int = 1
    coupons: Sequence[Coupon] = ()
    reason: str | None = None
    hold_expires_at: datetime | None = None

    @property
    def coupon(self) -> Coupon | None:
        """The first of them."""
        return self.coupons[0] if self.coupons else None

    def as_json(self) -> dict[str, Any]:
        """The claim as the API gives it, without what it became."""
        body = {
            "id": str(self.id),
            "event_id": self.id.event_id,
            "status": self.status,
            "sequence": self.id.sequence,
            "claimed_at": self.claimed_at,
        }
        if self.quantity > 1:
            body["quantity"] = self.quantity
        return body


def claim_of(*, event_id: int, user_id: int, claim_id: str) -> ClaimView:
    """One claim of the user. It costs one round trip to Redis, and no query while it is pending or was issued just now.

    A claim of an older load that nobody knows any more was lost with the Redis that had it, and is told as rejected.
    Raises `EventNotFound`, `ClaimNotFound` for a claim that is unknown or another's, `Unavailable` where that cannot be
    told. The gate takes the same steps, and asks Redis for many at once (`coupons.gate`).
    """
    event, name = named(event_id, claim_id)
    (standing,) = standings(event_id, [(user_id, name)]) if event.logs_claims else (None,)
    return told_by_redis(event, user_id, name, standing) or told_by_database(event, user_id, name, standing)


def named(event_id: int, claim_id: str) -> tuple[KnownEvent, ClaimId]:
    """The event and the claim that are named; `EventNotFound`, or `ClaimNotFound` where no claim can be named so."""
    event, name = catalogue.get(event_id), ClaimId.parse(claim_id)
    if event is None:
        raise EventNotFound
    if name is None or name.event_id != event_id or str(name) != claim_id:
        raise ClaimNotFound
    return event, name


def standings(event_id: int, asked: Sequence[tuple[int, ClaimId | None]]) -> Sequence[Standing | None]:
    """What Redis knows of each user's claims, and of the one claim that is asked for; None where it cannot be asked."""
    try:
        return hot_store().standings(event_id, [(user_id, name and name.entry_id) for user_id, name in asked])
    except RedisError:
        return [None] * len(asked)


async def astandings(event_id: int, asked: Sequence[tuple[int, ClaimId | None]]) -> Sequence[Standing | None]:
    """As `standings`, from the event loop."""
    try:
        return await hot_store().astandings(event_id, [(user_id, name and name.entry_id) for user_id, name in asked])
    except RedisError:
        return [None] * len(asked)


def told_by_redis(event: KnownEvent, user_id: int, name: ClaimId, standing: Standing | None) -> ClaimView | None:
    """What Redis alone can tell of a claim: that it waits, or was issued just now. None: the database must be asked."""
    mine = _mine(name, standing)
    if standing is None or mine is None:
        return None
    if standing.coupon is not None:
        return as_written(noted(event, user_id, mine, standing.coupon))
    # Of a sale that issues before it answers the watermark says nothing: nearly all is in the database.
    says_all = event.strategy != Event.Strategy.LUA_SYNC
    if says_all and mine.epoch == standing.epoch and mine.sequence > standing.drained:
        return pending(event.id, mine)
    return None


def told_by_database(event: KnownEvent, user_id: int, name: ClaimId, standing: Standing | None) -> ClaimView:
    """What `told_by_redis` could not tell, by two queries; raises as `claim_of` does."""
    found = _in_database(event.id, user_id, epoch=name.epoch, sequence=name.sequence)
    if found:
        return found[0]
    mine = _mine(name, standing)
    if mine is not None:
        return pending(event.id, mine)
    if not event.logs_claims:
        raise ClaimNotFound
    all_in_sight = (standing is not None and standing.epoch == event.epoch) or (
        event.sells_from_database and name.epoch == event.epoch
    )
    if name.epoch > event.epoch or (all_in_sight and name.epoch == event.epoch):
        raise ClaimNotFound
    if standing is None or not (all_in_sight or event.is_over(timezone.now())):
        raise Unavailable  # it may wait in a claim log that cannot be read now, or in a load that is under way
    if _is_known(name):
        raise ClaimNotFound  # another's
    return ClaimView(name, "rejected", timezone.now(), reason=FailedClaim.Reason.LOST)


def _mine(name: ClaimId, standing: Standing | None) -> HeldClaim | None:
    held = standing.held if standing is not None else []
    return next((one for one in held if (one.epoch, one.sequence, one.place) == (name.epoch, name.sequence, 1)), None)


def claims_of(*, event_id: int, user_id: int) -> list[ClaimView]:
    """All claims of the user on the event, newest first; while Redis is lost those that the database has."""
    event = catalogue.get(event_id)
    if event is None:
        raise EventNotFound
    (standing,) = standings(event_id, [(user_id, None)]) if event.logs_claims else (None,)
    if standing is None and event.logs_claims and not event.sells_from_database:
        raise Unavailable
    views = {view.id: view for view in _in_database(event_id, user_id)}
    for one in standing.held if standing is not None else ():
        views.setdefault(ClaimId(event_id, one.epoch, one.first), pending(event_id, one))
    return sorted(views.values(), key=lambda view: view.id, reverse=True)


def coupons_of(user_id: int) -> QuerySet[Coupon]:
    """The user's coupons, newest first. What is held only is none of them."""
    return Coupon.objects.filter(user_id=user_id, status=Coupon.Status.ISSUED).select_related("event")


def holds_of(user_id: int) -> QuerySet[Coupon]:
    """The first unit of each claim of the user that is held, those first that end first. Their codes are for nobody."""
    held = Coupon.objects.filter(user_id=user_id, status=Coupon.Status.HELD, place=1)
    return held.select_related("event").defer("code").order_by("held_until")


def noted(event: KnownEvent, user_id: int, held: HeldClaim, coupon: IssuedCoupon) -> Coupon:
    """A coupon as the database has it, as far as its owner sees it; put together without asking there."""
    return Coupon(
        event=Event(id=event.id, title=event.title, benefit=event.benefit),
        user_id=user_id,
        ordinal=held.ordinal,
        code=coupon.code,
        epoch=held.epoch,
        sequence=held.sequence,
        request=held.request,
        claimed_at=instant(held.claimed_ms),
        issued_at=coupon.issued_at,
    )


def _is_known(name: ClaimId) -> bool:
    """Whether anybody has or had this claim."""
    named = {"event_id": name.event_id, "epoch": name.epoch, "sequence": name.sequence}
    if Coupon.objects.filter(**named).exists() or FailedClaim.objects.filter(**named).exists():
        return True
    try:
        return bool(hot_store().in_log(name.event_id, [name.entry_id]))
    except RedisError as error:
        raise Unavailable from error


def as_written(*coupons: Coupon) -> ClaimView:
    """A claim that is issued, or held, as its owner sees it, from the first of its coupons on."""
    first = coupons[0]
    if first.status == Coupon.Status.HELD:
        return ClaimView(first.claim_id, "held", first.claimed_at, first.units, hold_expires_at=first.held_until)
    return ClaimView(first.claim_id, "issued", first.claimed_at, first.units, coupons)


def as_failed(failed: FailedClaim) -> ClaimView:
    """A claim that was not issued, as its owner sees it, by the row of its first unit."""
    if failed.status == FailedClaim.Status.RETRYING:
        return ClaimView(failed.claim_id, "pending", failed.claimed_at, failed.units)
    return ClaimView(failed.claim_id, "rejected", failed.claimed_at, failed.units, reason=failed.reason)


def claims_in(coupons: Iterable[Coupon]) -> list[ClaimView]:
    """The claims that the user's coupons of an event belong to, the oldest first."""
    ordered = sorted(coupons, key=lambda one: (one.epoch, one.sequence))
    return [as_written(*units) for _, units in groupby(ordered, key=attrgetter("claim_id"))]


def issued_claim(event_id: int, user_id: int, epoch: int, sequence: int) -> ClaimView | None:
    """One claim of the user, if it has its coupon. `Unavailable` where too many wait for the database."""
    found = _in_database(event_id, user_id, epoch=epoch, sequence=sequence)
    return next((view for view in found if view.status == "issued"), None)


def pending(event_id: int, held: HeldClaim) -> ClaimView:
    """A claim that waits in the log, as its owner sees it."""
    return ClaimView(ClaimId(event_id, held.epoch, held.first), "pending", instant(held.claimed_ms), held.units)


def _in_database(event_id: int, user_id: int, **claim: int) -> list[ClaimView]:
    with _polls.place():
        mine = Coupon.objects.filter(event_id=event_id, user_id=user_id).select_related("event")
        coupons = list(_units(mine, **claim) if claim else mine)
        if claim and coupons:
            return claims_in(coupons)
        failed = FailedClaim.objects.filter(event_id=event_id, user_id=user_id, place=1, **claim)
        return claims_in(coupons) + [as_failed(one) for one in failed.exclude(status=FailedClaim.Status.ISSUED)]


def _units(mine: QuerySet[Coupon], *, epoch: int, sequence: int) -> Iterator[Coupon]:
    """The coupons of the claim that begins there."""
    first = mine.filter(epoch=epoch, sequence=sequence, place=1).first()
    if first is not None:
        yield first
        if first.units > 1:
            yield from mine.filter(epoch=epoch, sequence__range=(sequence + 1, first.entry.last))
