"""What the servers have counted, before a round and after it."""

import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django.db import connection

from coupons.stock.store import bulk_store

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper

TOLD_WITHIN = 3.0  # seconds: a session of PostgreSQL that has ended tells of its transactions about now
LOOK_EVERY = 0.1  # seconds
QUIET_FOR = 3  # looks without anything new
OUR_OWN = 2  # transactions of a look
# What this process asks itself, and the servers among themselves.
NOT_OURS = {"info", "ping", "config|get", "client|setinfo", "hello", "select", "auth", "command"}


TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"


class Counts(NamedTuple):
    """Transactions of the database; commands that Redis has done, those in scripts too; and messages it has read."""

    transactions: int
    commands: int
    messages: int

    def since(self, earlier: "Counts") -> "Counts":
        """What has come to it."""
        return Counts(*(now - before for now, before in zip(self, earlier, strict=True)))


def counts() -> Counts:
    """Both servers, now; as soon as PostgreSQL tells no more than a moment before."""
    stats: Any = bulk_store().client.info("commandstats")
    commands = sum(one["calls"] for name, one in stats.items() if name.removeprefix("cmdstat_") not in NOT_OURS)
    traffic: Any = bulk_store().client.info("stats")
    return Counts(_transactions(), commands, traffic["total_reads_processed"])


def end_sessions() -> None:
    """Let go of all connections of this process: a session of PostgreSQL that ends tells of its transactions."""
    connection.close()
    cast("DatabaseWrapper", connection).close_pool()


def _transactions() -> int:
    deadline, before, quiet = time.monotonic() + TOLD_WITHIN, -1, 0
    while quiet < QUIET_FOR and time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
            )
            now = int(cursor.fetchone()[0])
        quiet = quiet + 1 if now - before <= OUR_OWN else 0
        before = now
        time.sleep(LOOK_EVERY)
    return before
