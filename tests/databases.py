"""The database of the tests for those that share what is in it, and so ask for no transaction of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command
from django.db import connection
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.test.utils import setup_databases, teardown_databases
from pytest_django import DjangoDbBlocker


@contextmanager
def shared_database(blocker: DjangoDbBlocker) -> Iterator[None]:
    """Made where there is none yet: pytest-django makes it for those that ask for `db` by name. Empty afterwards."""
    with blocker.unblock():
        there = connection.settings_dict["NAME"].startswith(TEST_DATABASE_PREFIX)
        made = [] if there else setup_databases(verbosity=0, interactive=False, aliases={"default": None})
    yield
    with blocker.unblock():
        call_command("flush", interactive=False, verbosity=0)
        teardown_databases(made, verbosity=0)
