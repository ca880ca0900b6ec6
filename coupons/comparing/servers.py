"""What the servers have counted, before a round and after it."""

import time
from typing import Any, NamedTuple

from django.db import connection

from coupons.stock.store import bulk_store

TOLD_WITHIN = 3.0  # seconds: a session of PostgreSQL that has ended tells of its transactions about now
# What this process asks itself, and the servers among themselves.
NOT_OURS = {"info", "ping", "config|get", "client|setinfo", "hello", "select", "auth", "command"}


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


def _transactions() -> int:
    deadline, before = time.monotonic() + TOLD_WITHIN, -1
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT xact_commit + xact_rollback,"
                " (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())"
                " FROM pg_stat_database WHERE datname = current_database()"
            )
            now, sessions = cursor.fetchone()
        # Our own look is two transactions.
        if (sessions <= 1 and now - before <= 2) or time.monotonic() > deadline:  # noqa: PLR2004
            return int(now)
        before = now
        time.sleep(0.1)
