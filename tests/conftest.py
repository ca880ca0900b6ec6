"""Fixtures that all tests share: real servers, emptied between tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.conf import settings
from django.test import TransactionTestCase
from redis import Redis

from coupons.stock.store import StockStore, bulk_store
from events import services
from events.catalogue import catalogue
from events.models import Event
from tests.databases import empty
from tests.factories import make_event
from tests.web import STARTS_WITHIN, Server, running


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """pytest-django's database, emptied in our way after each test that commits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: empty())
        yield


@pytest.fixture(scope="session")
def _rate_limits() -> Iterator[Redis]:
    """Their Redis, with more patience than a request has: a machine that stood still for a moment is no failure."""
    with Redis.from_url(settings.CACHE_URL, socket_timeout=STARTS_WITHIN) as client:
        yield client


@pytest.fixture(autouse=True)
def _clean_redis(_rate_limits: Redis) -> Iterator[None]:
    """Every test begins with an empty Redis and a process that knows nothing."""
    _rate_limits.flushdb()
    bulk_store().client.flushdb()
    yield
    catalogue.clear()


@pytest.fixture
def store() -> StockStore:
    return bulk_store()


@pytest.fixture
def sale(transactional_db: None) -> Callable[..., Event]:
    """Make and publish a sale: `sale(quantity=5)`."""

    def make(**fields: object) -> Event:
        return services.publish(event_id=make_event(**fields).id)

    return make


@pytest.fixture(scope="module")
def lasting_server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """As `server`, for all tests of a module: each has events and users of its own."""
    with ExitStack() as stack:

        def start(lane: str, **settings: str) -> Server:
            return stack.enter_context(running(tmp_path_factory.mktemp(lane), lane, settings))

        yield start


@pytest.fixture
def server(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start one: `server("gate")`, or `server(LOG_LEVEL="DEBUG")` for the `web` process with more settings."""
    with ExitStack() as stack:

        def start(lane: str = "web", **settings: str) -> Server:
            return stack.enter_context(running(tmp_path, lane, settings))

        yield start
