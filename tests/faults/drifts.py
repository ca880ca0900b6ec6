"""Faults of what the stock knows: drift of each kind, planted in a sale, and a reconciler that runs all along.

Every minute is what the product looks at; here it looks ten times a second, so that it meets claims in every state.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection
from redis.exceptions import RedisError

from coupons import rows
from coupons.locks import locked_event
from coupons.models import Coupon
from coupons.reconciling import reconcile
from coupons.stock import keys
from coupons.stock.records import HeldClaim
from coupons.stock.store import StockStore, bulk_store
from events.models import Event
from tests.faults.faults import Scene, fault, persistently
from tests.faults.parts import until
from tests.sales import NOBODY

EVERY = 0.1  # seconds


@contextmanager
def reconciled(event_id: int) -> Iterator[None]:
    """Have the event reconciled ten times a second. A server that is away is asked the next time."""
    stop = threading.Event()

    def run() -> None:
        try:
            while not stop.wait(EVERY):
                try:
                    reconcile(event_id, bulk_store())
                except (RedisError, OperationalError):
                    connection.close()
        finally:
            connection.close()

    thread = threading.Thread(target=run, name="reconciler")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@fault("reconciled ten times a second", part="reconciler", lasts=(4.0, 5.0))
def reconciled_all_along(scene: Scene) -> Iterator[None]:
    with reconciled(scene.event_id):
        yield


def too_high(store: StockStore, event: Event) -> None:
    store.adjust(event.id, epoch=event.epoch, delta=50)


def too_low(store: StockStore, event: Event) -> None:
    store.adjust(event.id, epoch=event.epoch, delta=-50)


def ghost_claimants(store: StockStore, event: Event) -> None:
    """Users who hold claims that were never made."""
    for number in range(1, 6):
        held = HeldClaim(1, event.epoch, number, store.snapshot(event.id).now_ms)
        store.client.hset(keys.claimants(event.id), str(NOBODY - number), str(held))


def missing_claimants(store: StockStore, event: Event) -> None:
    """Owners of coupons whom Redis does not know."""
    owners = Coupon.objects.filter(event=event).order_by("-sequence").values_list("user_id", flat=True)[:20]
    for user in owners:
        store.client.hdel(keys.claimants(event.id), str(user))


LOSE_THE_LAST = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 5)
for _, entry in ipairs(last) do redis.call('XDEL', KEYS[1], entry[1]) end
return #last
"""


def lost_log_entries(store: StockStore, event: Event) -> None:
    """Accepted claims that are gone from the log before anybody has drained them: a drain is kept off meanwhile."""
    with locked_event(event.id):
        # Not one that was issued before the lock, and is only to be settled still: to lose that is no loss.
        until(lambda: is_last_unissued(store, event), "a claim is in the log that nobody has drained")
        store.client.eval(LOSE_THE_LAST, 1, keys.log(event.id))


def is_last_unissued(store: StockStore, event: Event) -> bool:
    """Whether the log's last claim is not in the database."""
    entries = store.read_log(event.id, count=10_000)
    return bool(entries) and not rows.existing(event.id, entries[-1:])


def missing_event(store: StockStore, event: Event) -> None:
    store.unload(event.id)


@fault("drift planted: stock too high", part="stock", plant=too_high)
@fault("drift planted: stock too low", part="stock", plant=too_low)
@fault("drift planted: ghost claimants", part="stock", plant=ghost_claimants)
@fault("drift planted: missing claimants", part="stock", plant=missing_claimants)
@fault("drift planted: lost log entries", part="stock", plant=lost_log_entries)
@fault("drift planted: missing event", part="stock", plant=missing_event)
def planted(scene: Scene, *, plant: Callable[[StockStore, Event], None]) -> Iterator[None]:
    persistently(lambda: plant(bulk_store(), Event.objects.get(pk=scene.event_id)))
    with reconciled(scene.event_id):
        yield
