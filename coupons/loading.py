"""Load: build an event's stock in Redis from the database. Only here, and never by a claim."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter

from django.db.models import Count, Max

from coupons import claimants, failures, holders
from coupons.issuing import settle_leftovers
from coupons.locks import PAGE
from coupons.models import Coupon, FailedClaim
from coupons.stock.codes import LoadCode
from coupons.stock.records import HeldClaim, LogEntry, Window, milliseconds
from coupons.stock.store import StockStore
from events.models import HOLDER_WAYS, Event
from events.waiting_room import checkpoint
from events.waiting_room.store import bulk_room_store


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load put in place."""

    stock: int  # units
    lost: int  # accepted claims that were neither in the database nor in the log: rejected, their owners told


def window_of(event: Event) -> Window:
    """The part of the stock's state that operators set."""
    return Window(
        status=event.status,
        opens_ms=milliseconds(event.opens_at),
        closes_ms=milliseconds(event.closes_at),
        per_user_limit=event.per_user_limit,
        rate=event.rate_per_second,
        burst=event.burst,
        room=event.waiting_room,
    )


def load(event: Event, store: StockStore) -> Loaded:
    """Build the stock in a new epoch and save the epoch.

    The caller holds the drain lock and the event's row, in a transaction. Claims in the log from an older load stay
    there and are honoured: they are counted out of the stock and drained as ever. A claim that only its claimant's
    entry still tells of is lost.
    """
    store.unload(event.id)
    settle_leftovers(event.id, store)
    logged = set(_logged(event.id, store))
    lost = _reject_ghosts(event.id, store) + failures.reject_lost(event.id, logged)
    event.epoch += 1
    event.save(update_fields=["epoch", "status", "stock_mode", "fell_back_at", "updated_at"])
    if event.waiting_room:
        # Before the stock: nobody may join a room that is not whole.
        checkpoint.restore(event, bulk_room_store(), served=_served(event, logged))
    if event.strategy in HOLDER_WAYS:
        holders.load(event.id)
    code, stock = store.load(
        event.id,
        epoch=event.epoch,
        available=event.quantity - event.issued,
        sequence=max(highest_sequence(event.id), *(entry.sequence for entry in logged), 0),
        window=window_of(event),
        claimants=_held(event.id, logged) if event.logs_claims else (),
    )
    if code is not LoadCode.LOADED:
        raise RuntimeError(f"event {event.id}: epoch {event.epoch} was in Redis before it was loaded")
    return Loaded(stock, lost)


def open_in_database(event: Event) -> None:
    """Let a sale whose strategy is one of the database sell there, and for good: Redis never hears of it."""
    event.stock_mode = Event.StockMode.DATABASE
    event.epoch += 1
    event.save(update_fields=["epoch", "status", "stock_mode", "updated_at"])


def highest_sequence(event_id: int) -> int:
    """The highest sequence number that the database knows of the event, 0 for none."""
    numbers = [
        model.objects.filter(event_id=event_id).aggregate(highest=Max("sequence"))["highest"] or 0
        for model in (Coupon, FailedClaim)
    ]
    return max(numbers)


def _reject_ghosts(event_id: int, store: StockStore) -> int:
    """End the claims that only their claimants' entries tell of, and tell their owners; how many they were."""
    number = 0
    ghosts = (one.entry for one in claimants.ghosts(event_id, store))
    while page := list(dict.fromkeys(islice(ghosts, PAGE))):  # Redis may name one twice while its hash grows
        failed = failures.of(event_id, page)
        lost = [entry for entry in page if entry not in failed]
        failures.reject(event_id, lost, FailedClaim.Reason.LOST)
        number += len(lost)
    return number


def _logged(event_id: int, store: StockStore) -> Iterator[LogEntry]:
    after = None
    while entries := store.read_log(event_id, after=after, count=PAGE):
        yield from entries
        after = entries[-1].entry_id


def _served(event: Event, logged: set[LogEntry]) -> set[int]:
    """Who holds as many units as one may, by the coupons and the claim log together."""
    units = Counter(entry.user_id for entry in logged)
    units.update(dict(Coupon.objects.filter(event=event).values_list("user_id").annotate(Count("pk"))))
    return {user_id for user_id, number in units.items() if number >= event.per_user_limit}


def _held(event_id: int, logged: set[LogEntry]) -> Iterator[tuple[int, list[HeldClaim]]]:
    """Who holds what, by the coupons and the claim log together: each user once, the oldest claim first.

    The coupons are read as they are handed on, however many there are: the transaction is never idle for long.
    """
    waiting: dict[int, list[HeldClaim]] = {}
    for entry in logged:
        waiting.setdefault(entry.user_id, []).append(entry.held)
    coupons = Coupon.objects.filter(event_id=event_id).order_by("user_id", "ordinal").iterator(chunk_size=PAGE)
    for user_id, issued in groupby(coupons, key=attrgetter("user_id")):
        yield user_id, _in_order([one.entry.held for one in issued] + waiting.pop(user_id, []))
    for user_id, held in waiting.items():
        yield user_id, _in_order(held)


def _in_order(held: list[HeldClaim]) -> list[HeldClaim]:
    return sorted(held, key=lambda one: (one.epoch, one.sequence))
