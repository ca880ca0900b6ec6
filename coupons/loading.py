"""Load: build an event's stock in Redis from the database. Only here, and never by a claim."""

from collections.abc import Iterator

from django.db.models import Max

from coupons import failures
from coupons.issuing import settle_leftovers
from coupons.models import Coupon, FailedClaim
from coupons.stock.codes import LoadCode
from coupons.stock.records import HeldClaim, LogEntry, Window, milliseconds
from coupons.stock.store import StockStore
from events.models import Event

LOG_PAGE = 1000


def window_of(event: Event) -> Window:
    """The part of the stock's state that operators set."""
    return Window(
        status=event.status,
        opens_ms=milliseconds(event.opens_at),
        closes_ms=milliseconds(event.closes_at),
        per_user_limit=event.per_user_limit,
        rate=event.rate_per_second,
        burst=event.burst,
    )


def load(event: Event, store: StockStore) -> int:
    """Build the stock in a new epoch and save the epoch; the units in stock.

    The caller holds the drain lock and the event's row, in a transaction. Claims in the log from an older load stay
    there and are honoured: they are counted out of the stock and drained as ever.
    """
    store.unload(event.id)
    settle_leftovers(event.id, store)
    held, logged = _held(event, store)
    failures.reject_lost(event.id, logged)
    event.epoch += 1
    event.save(update_fields=["epoch", "status", "updated_at"])
    code, stock = store.load(
        event.id,
        epoch=event.epoch,
        available=event.quantity - event.issued,
        sequence=max(highest_sequence(event.id), *(entry.sequence for entry in logged), 0),
        window=window_of(event),
        claimants=held.items(),
    )
    if code is not LoadCode.LOADED:
        raise RuntimeError(f"event {event.id}: epoch {event.epoch} was in Redis before it was loaded")
    return stock


def highest_sequence(event_id: int) -> int:
    """The highest sequence number that the database knows of the event, 0 for none."""
    numbers = [
        model.objects.filter(event_id=event_id).aggregate(highest=Max("sequence"))["highest"] or 0
        for model in (Coupon, FailedClaim)
    ]
    return max(numbers)


def _held(event: Event, store: StockStore) -> tuple[dict[int, list[HeldClaim]], set[LogEntry]]:
    """Who holds what, by the coupons and the claim log together; and what is in the log."""
    held: dict[int, list[HeldClaim]] = {}
    logged: set[LogEntry] = set()
    for user_id, claim in _coupons(event.id):
        held.setdefault(user_id, []).append(claim)
    after = None
    while entries := store.read_log(event.id, after=after, count=LOG_PAGE):
        for entry in entries:
            held.setdefault(entry.user_id, []).append(
                HeldClaim(entry.ordinal, entry.epoch, entry.sequence, entry.claimed_ms)
            )
            logged.add(entry)
        after = entries[-1].entry_id
    return held, logged


def _coupons(event_id: int) -> Iterator[tuple[int, HeldClaim]]:
    rows = Coupon.objects.filter(event_id=event_id).order_by("epoch", "sequence")
    for user_id, ordinal, epoch, sequence, claimed_at in rows.values_list(
        "user_id", "ordinal", "epoch", "sequence", "claimed_at"
    ).iterator(chunk_size=LOG_PAGE):
        yield user_id, HeldClaim(ordinal, epoch, sequence, milliseconds(claimed_at))
