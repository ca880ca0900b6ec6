"""What tests of a whole sale share: claims straight from the stock, and the sums that must hold."""

from datetime import timedelta
from typing import Any

from django.db.models import F

from coupons.models import Coupon, FailedClaim
from coupons.stock.codes import ReserveCode
from coupons.stock.records import LogEntry
from coupons.stock.store import StockStore
from events import services
from events.admin import TERMS
from events.models import Event

NOBODY = 2**31 - 1  # no user has this id


class Crash(Exception):  # noqa: N818 - it stands for the end of the process
    """The process ends here."""


def reserve(store: StockStore, event: Event, *users: int) -> list[LogEntry]:
    """Have each of the users claim; their entries in the claim log."""
    event.refresh_from_db()
    reply = store.reserve(event.id, epoch=event.epoch, claims=[(user, "") for user in users])
    assert {one.code for one in reply.reservations} <= {ReserveCode.ACCEPTED}
    wanted = {f"{one.epoch}-{one.sequence}" for one in reply.reservations}
    return [entry for entry in store.read_log(event.id, count=10_000) if entry.entry_id in wanted]


def change(event_id: int, **changes: Any) -> Event:
    """Change some of the terms, and leave the others as they are: as the admin does, which sends all of them."""
    event = Event.objects.get(pk=event_id)
    return services.change(event_id=event_id, **{term: getattr(event, term) for term in TERMS} | changes)


def assert_sum(store: StockStore, event: Event) -> None:
    """Every unit is issued, waiting or in stock; and the counter is the number of coupons."""
    event.refresh_from_db()
    snapshot = store.snapshot(event.id)
    assert event.quantity == event.issued + snapshot.backlog + snapshot.stock
    assert event.issued == Coupon.objects.filter(event=event).count()


def assert_sold_out_exactly(store: StockStore, event: Event) -> None:
    """All units are issued, one each, to the numbers from the first on without a gap, and nothing is left over."""
    assert_sum(store, event)
    coupons = Coupon.objects.filter(event=event)
    assert event.issued == event.quantity
    assert coupons.values("user").distinct().count() == event.quantity
    sequences = list(coupons.order_by("id").values_list("sequence", flat=True))
    assert sequences == list(range(1, event.quantity + 1)), "in the order of the claims"
    assert store.snapshot(event.id).backlog == 0
    assert not FailedClaim.objects.filter(event=event).exists()


def make_due(event: Event) -> None:
    """Let the time of the next attempts come: the clock is moved by moving what it is compared with."""
    FailedClaim.objects.filter(event=event, next_attempt_at__isnull=False).update(
        next_attempt_at=F("next_attempt_at") - timedelta(hours=1)
    )


def load_too_high(store: StockStore, event: Event, units: int) -> None:
    """A Redis that lost data has more to sell than the database."""
    store.adjust(event.id, epoch=event.epoch, delta=units)


def back_up(store: StockStore, event: Event) -> None:
    """Keep the event's keys as they are, for `roll_back`."""
    for key in store._keys(event.id):
        store.client.copy(key, f"backup:{key}", replace=True)


def roll_back(store: StockStore, event: Event) -> None:
    """Redis as it was at `back_up`: it came up from an old file, or from a replica that lagged."""
    for key in store._keys(event.id):
        store.client.delete(key)
        store.client.copy(f"backup:{key}", key)


def lose(store: StockStore) -> None:
    """Redis comes up empty."""
    store.client.flushdb()
