"""Who holds a unit, as a set in Redis: built from the coupons, and held beside them.

For the strategies that know no more than this of who claimed. A holder without a coupon is a claim under way, or one
whose process died between Redis and the database; who is seen to be one twice, a minute apart, is the latter.
"""

from collections.abc import Iterator
from itertools import islice

from coupons import drift
from coupons.locks import PAGE, locked_event
from coupons.models import Coupon, Reconciliation
from coupons.stock.store import StockStore
from coupons.stock.ways import WayStore, bulk_ways
from events.models import Event

Kind = Reconciliation.Kind
AT_ONCE = 1000  # holders that one look mends; the next look goes on


def load(event_id: int) -> None:
    """Let Redis know all owners of coupons, and nobody else."""
    ways = bulk_ways()
    ways.forget_holders(event_id)
    for owners in _owners(event_id):
        ways.hold(event_id, owners)


def reconcile(event: Event, *, dry_run: bool) -> list[Reconciliation]:
    """Add the owners of coupons whom Redis misses, and let the holders without one go; the differences seen."""
    ways, found = bulk_ways(), []
    for kind, look in ((Kind.MISSING_CLAIMANT, _missing), (Kind.GHOST_CLAIMANT, _ghosts)):
        users = sorted(islice(look(event.pk, ways), AT_ONCE))
        expected, seen_now = (len(users), 0) if kind == Kind.MISSING_CLAIMANT else (0, len(users))
        detail = {"users": users[:100]} if users else {}
        if dry_run:
            if users:
                found.append(drift.unsaved(event.pk, kind, expected=expected, found=seen_now, detail=detail))
            continue
        seen = drift.see(event.pk, kind, expected=expected, found=seen_now, detail=detail)
        if seen is None:
            continue
        if seen.twice:
            _mend(event.pk, kind, users, ways)
            drift.mend(seen.row)
        found.append(seen.row)
    return found


def reconcile_counter(event: Event, store: StockStore, *, dry_run: bool) -> list[Reconciliation]:
    """Hold the counter beside the set: each holder has one of the units. The caller holds the drain lock."""
    seen_now = bulk_ways().look(event.pk, 0)
    expected = max(0, event.quantity - seen_now.holders)
    return drift.hold_stock(event, store, expected=expected, found=seen_now.stock, dry_run=dry_run)


def _mend(event_id: int, kind: Reconciliation.Kind, users: list[int], ways: WayStore) -> None:
    with locked_event(event_id):
        owners = set(Coupon.objects.filter(event_id=event_id, user_id__in=users).values_list("user_id", flat=True))
    if kind == Kind.MISSING_CLAIMANT:
        ways.hold(event_id, owners)
    elif gone := set(users) - owners:
        ways.remove(event_id, gone)  # of a counter their units come back when it is held beside the set


def _missing(event_id: int, ways: WayStore) -> Iterator[int]:
    for owners in _owners(event_id):
        yield from set(owners) - ways.hold_among(event_id, owners)


def _ghosts(event_id: int, ways: WayStore) -> Iterator[int]:
    for users in ways.holders(event_id):
        owners = Coupon.objects.filter(event_id=event_id, user_id__in=users)
        yield from set(users) - set(owners.values_list("user_id", flat=True))


def _owners(event_id: int) -> Iterator[list[int]]:
    after = 0
    while True:
        rows = Coupon.objects.filter(event_id=event_id, id__gt=after).order_by("id").values_list("id", "user_id")[:PAGE]
        page = list(rows)
        if not page:
            return
        after = page[-1][0]
        yield [user_id for _, user_id in page]
