"""Both lanes, started once for all of their contract."""

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from coupons.stock.store import bulk_store
from events.catalogue import catalogue
from tests.contract.lanes import Lanes
from tests.databases import shared_database
from tests.web import LANES, running


@pytest.fixture(autouse=True)
def _clean_redis() -> None:
    """As for all tests, but once: see `lanes`."""


@pytest.fixture(scope="package")
def lanes(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lanes]:
    """A server of each lane, with the events that the corpus names."""
    folder = tmp_path_factory.mktemp("lanes")
    bulk_store().client.flushdb()
    with shared_database(django_db_blocker), django_db_blocker.unblock():
        web, gate = (running(folder, lane) for lane in LANES)
        with web as one, gate as other:
            yield Lanes({"web": one.port, "gate": other.port})
    catalogue.clear()
