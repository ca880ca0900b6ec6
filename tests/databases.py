"""The database of the tests: made where there is none yet, and emptied after those that commit."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.test.utils import setup_databases, teardown_databases
from pytest_django import DjangoDbBlocker

KEPT = {model._meta.db_table for model in (ContentType, Permission)}  # what migrations leave there


def empty() -> None:
    """Take out all rows but those of the migrations, once nobody else writes any more.

    Django's `flush` truncates, and has the migrations' rows made again. For the few rows of a test that is fifty times
    the work of DELETE: truncating makes new files for each table and index.
    """
    tables = [
        connection.ops.quote_name(name)
        for name in connection.introspection.django_table_names(only_existing=True, include_views=False)
        if name not in KEPT
    ]
    statements = [
        f"LOCK TABLE {', '.join(tables)}",
        # Else each row's foreign keys would be looked up, although no row will be left.
        "SET LOCAL session_replication_role = replica",
        *(f"DELETE FROM {table}" for table in tables),  # noqa: S608 - the names are our models'
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("; ".join(statements))


@contextmanager
def shared_database(blocker: DjangoDbBlocker) -> Iterator[None]:
    """For those that share what is in it, and so ask for no transaction of their own. Empty afterwards.

    Made where there is none yet: pytest-django makes it for those that ask for `db` by name.
    """
    with blocker.unblock():
        there = connection.settings_dict["NAME"].startswith(TEST_DATABASE_PREFIX)
        made = [] if there else setup_databases(verbosity=0, interactive=False, aliases={"default": None})
    yield
    with blocker.unblock():
        empty()
        teardown_databases(made, verbosity=0)
