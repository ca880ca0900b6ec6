"""A child of a test that kills itself at a point: no handler runs, nothing is tidied up, as with `kill -9`.

Run as `python -m tests.concurrency.crashing POINT EVENT [USER]`. The points are patched in here; the product has none.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import django

django.setup()

from django.db import connection  # noqa: E402 - Django first

from coupons import issuing, services  # noqa: E402
from coupons.stock.store import StockStore, bulk_store  # noqa: E402
from events import services as sales  # noqa: E402
from events.catalogue import catalogue  # noqa: E402


def die(*_: object, **__: object) -> None:
    """End here, now."""
    os.kill(os.getpid(), signal.SIGKILL)


def then_die(function: Callable[..., Any]) -> Callable[..., Any]:
    """Do it, and end before anybody learns of it."""

    def done(*arguments: Any, **options: Any) -> None:
        function(*arguments, **options)
        die()

    return done


# Where, and what is put there.
POINTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "after reserve": (StockStore, "reserve", then_die(StockStore.reserve)),
    "after the read of the log": (StockStore, "read_log", then_die(StockStore.read_log)),
    "after the insert": (issuing, "_write", then_die(issuing._write)),
    "before commit": (connection, "commit", die),
    "after commit": (connection, "commit", then_die(connection.commit)),
    "before settle": (issuing, "_settle", die),
    "after settle": (StockStore, "settle", then_die(StockStore.settle)),
    "before release": (StockStore, "release", die),
    "after the load": (StockStore, "load", then_die(StockStore.load)),
}


def main(point: str, event_id: int, *users: int) -> None:
    """Claim for the user, where one is given; publish, where the load is to be cut off; else drain."""
    if users:
        catalogue.get(event_id)
    owner, name, instead = POINTS[point]
    with patch.object(owner, name, instead):
        if users:
            services.claim(event_id=event_id, user_id=users[0], idempotency_key="key")
        elif point == "after the load":
            sales.publish(event_id=event_id)
        else:
            issuing.issue_claims(event_id, bulk_store(), batch=3)


main(sys.argv[1], *map(int, sys.argv[2:]))
