"""One system for all scenarios of a run."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.test.utils import setup_databases, teardown_databases
from pytest_django import DjangoDbBlocker

from tests.faults.system import System
from tests.outages import stock_at


@pytest.fixture(scope="session")
def _running_system(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Started with the first scenario. What they write stays until the last: users are made once."""
    with django_db_blocker.unblock():
        made = _make_database()
        system = System(tmp_path_factory.mktemp("system"))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is ended, too
    try:
        with system:
            yield system
    finally:
        signal.signal(signal.SIGTERM, before)
    with django_db_blocker.unblock():
        call_command("flush", interactive=False, verbosity=0)
        teardown_databases(made, verbosity=0)


def _make_database() -> list[tuple[Any, str, bool]]:
    """The database of the tests where there is none yet: pytest-django makes it for those that ask for `db` by name."""
    if connection.settings_dict["NAME"].startswith(TEST_DATABASE_PREFIX):
        return []
    return setup_databases(verbosity=0, interactive=False, aliases={"default": None})


@pytest.fixture
def system(_running_system: System, django_db_blocker: DjangoDbBlocker) -> Iterator[System]:
    """The system, whole: for a test without a transaction of its own, as the processes must see what it writes."""
    with django_db_blocker.unblock(), stock_at(_running_system.stock.url):
        _running_system.mark()
        yield _running_system
        _running_system.heal()
