"""The events in process memory: what is known without asking, and what stays known when nobody answers."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from coupons.stock import keys
from coupons.stock.store import StockStore
from events import services
from events.catalogue import Catalogue
from events.errors import Unavailable
from events.models import Event, Phase
from tests.factories import make_event
from tests.outages import no_database, no_redis

Sale = Callable[..., Event]


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    """One that reads only when it is told to, so that no test waits for a clock."""
    one = Catalogue(interval=3600)
    yield one
    one.clear()


def test_an_event_is_known_with_its_stock(sale: Sale, catalogue: Catalogue) -> None:
    event = sale(quantity=5)
    known = catalogue.get(event.id)
    assert known is not None
    assert (known.id, known.epoch, known.status, known.quantity, known.remaining) == (event.id, 1, "published", 5, 5)
    assert known.phase(timezone.now()) is Phase.OPEN


def test_who_asks_again_causes_no_query(sale: Sale, catalogue: Catalogue) -> None:
    event = sale()
    catalogue.get(event.id)
    with CaptureQueriesContext(connection) as queries:
        for _ in range(100):
            catalogue.get(event.id)
    assert len(queries) == 0


def test_a_draft_and_an_unknown_event_are_none_and_asked_for_once(transactional_db: None, catalogue: Catalogue) -> None:
    draft = make_event()
    assert catalogue.get(draft.id) is None
    assert catalogue.get(404) is None
    with CaptureQueriesContext(connection) as queries:
        assert catalogue.get(draft.id) is None
        assert catalogue.get(404) is None
    assert len(queries) == 0, "made-up ids must not reach the database again and again"


def test_a_draft_that_is_published_is_known_at_the_next_reading(transactional_db: None, catalogue: Catalogue) -> None:
    draft = make_event()
    assert catalogue.get(draft.id) is None
    services.publish(event_id=draft.id)
    catalogue.refresh()
    assert catalogue.get(draft.id) is not None


def test_an_event_published_since_the_last_reading_is_looked_up(sale: Sale, catalogue: Catalogue) -> None:
    catalogue.get(404)
    event = sale()
    known = catalogue.get(event.id)
    assert known is not None
    assert known.remaining is None


def test_a_reading_brings_the_stock_and_the_status_of_now(sale: Sale, catalogue: Catalogue, store: StockStore) -> None:
    event = sale(quantity=1)
    catalogue.get(event.id)
    store.reserve(event.id, epoch=1, claims=[(1, "")])
    services.pause(event_id=event.id)
    catalogue.refresh()
    known = catalogue.get(event.id)
    assert known is not None
    assert (known.remaining, known.status) == (0, "paused")


def test_without_redis_the_last_stock_stays_known(sale: Sale, catalogue: Catalogue, store: StockStore) -> None:
    event = sale(quantity=1)
    store.reserve(event.id, epoch=1, claims=[(1, "")])
    catalogue.get(event.id)
    with no_redis():
        catalogue.refresh()
        known = catalogue.get(event.id)
    assert known is not None
    assert known.phase(timezone.now()) is Phase.SOLD_OUT


def test_a_stock_that_is_not_loaded_does_not_count_as_sold_out(
    sale: Sale, catalogue: Catalogue, store: StockStore
) -> None:
    event = sale(quantity=5)
    store.client.delete(keys.state(event.id))
    known = catalogue.get(event.id)
    assert known is not None
    assert (known.remaining, known.phase(timezone.now())) == (None, Phase.OPEN)


def test_without_the_database_what_is_known_stays_and_the_stock_goes_on(
    sale: Sale, catalogue: Catalogue, store: StockStore
) -> None:
    event = sale(quantity=5)
    catalogue.get(event.id)
    store.reserve(event.id, epoch=1, claims=[(1, "")])
    with no_database():
        catalogue.refresh()
    known = catalogue.get(event.id)
    assert known is not None
    assert known.remaining == 4


def test_without_the_database_an_event_that_nobody_knows_is_unavailable_and_not_unknown(
    transactional_db: None, catalogue: Catalogue
) -> None:
    with no_database(), pytest.raises(Unavailable):
        catalogue.get(1)


def test_the_thread_reads_while_somebody_asks_and_ends_when_nobody_does(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5)
    catalogue = Catalogue(interval=0.001, idle_after=0.05)
    read = threading.Event()
    refresh = catalogue.refresh

    def counted() -> None:
        refresh()
        if threading.current_thread().name == "catalogue":
            read.set()

    catalogue.refresh = counted  # type: ignore[method-assign]
    catalogue.get(event.id)
    thread = catalogue._thread
    assert thread is not None
    assert read.wait(10), "the thread reads by itself"
    thread.join(10)
    assert not thread.is_alive(), "nobody asked any more"
    store.reserve(event.id, epoch=1, claims=[(1, "")])
    known = catalogue.get(event.id)
    assert known is not None
    assert known.remaining == 4, "the first to ask after a pause reads anew"
    catalogue.clear()


def test_one_that_is_told_to_stay_reads_on_though_nobody_asks(sale: Sale) -> None:
    catalogue = Catalogue(interval=0.001, idle_after=0.01)
    catalogue.stay()
    thread = catalogue._thread
    assert thread is not None
    read = threading.Semaphore(0)
    refresh = catalogue.refresh

    def counted() -> None:
        refresh()
        read.release()

    catalogue.refresh = counted  # type: ignore[method-assign]
    started = time.monotonic()
    while time.monotonic() < started + 5 * 0.01:
        assert read.acquire(timeout=10)
    assert thread.is_alive()
    event = sale()
    while catalogue.at_hand(event.id) is None:
        assert time.monotonic() < started + 10
        assert read.acquire(timeout=10)
    catalogue.clear()


def test_a_reading_that_fails_unexpectedly_does_not_end_the_thread(sale: Sale, catalogue: Catalogue) -> None:
    event = sale()
    one = Catalogue(interval=0.001)
    refresh, failed, read_after = one.refresh, threading.Event(), threading.Event()

    def fail_once() -> None:
        if threading.current_thread().name == "catalogue" and not failed.is_set():
            failed.set()
            raise RuntimeError
        refresh()
        if failed.is_set():
            read_after.set()

    one.refresh = fail_once  # type: ignore[method-assign]
    one.get(event.id)
    assert read_after.wait(10)
    one.clear()
