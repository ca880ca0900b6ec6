"""The points of a claim's way, a drain's and a load's, at which a test can have something happen.

They are patched in here; the product has none.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any
from unittest.mock import patch

from django.db import connection

from coupons import direct, drift, failures, issuing, loading, modes, reconciling, rows
from coupons.stock.store import StockStore, bulk_store


class When(Enum):
    """Before the function is called, or after it has returned."""

    BEFORE = auto()
    AFTER = auto()


BEFORE, AFTER = When.BEFORE, When.AFTER


def points() -> dict[str, tuple[Any, str, When]]:
    """Each point: whose function, which one, and on which side of it."""
    return {
        "after reserve": (StockStore, "reserve", AFTER),
        # A drain.
        "before the drain lock": (issuing, "try_drain_lock", BEFORE),
        "with the drain lock": (issuing, "try_drain_lock", AFTER),
        "after the read of the log": (StockStore, "read_log", AFTER),
        "after the coupons": (rows, "issue", AFTER),
        "after the insert": (issuing, "_write", AFTER),
        "before commit": (connection, "commit", BEFORE),
        "after commit": (connection, "commit", AFTER),
        "before settle": (issuing, "_settle", BEFORE),
        "after settle": (StockStore, "settle", AFTER),
        "before release": (StockStore, "release", BEFORE),
        # A reconciliation.
        "before the look at damage": (StockStore, "damaged", BEFORE),
        "before the snapshot": (StockStore, "snapshot", BEFORE),
        "before settling leftovers": (reconciling, "settle_leftovers", BEFORE),
        "after settling leftovers": (reconciling, "settle_leftovers", AFTER),
        "before the difference is noted": (drift, "see", BEFORE),
        # A load.
        "before the stock is taken down": (StockStore, "unload", BEFORE),
        "after the stock is taken down": (StockStore, "unload", AFTER),
        "before a load settles leftovers": (loading, "settle_leftovers", BEFORE),
        "before the epoch is saved": (failures, "reject_lost", AFTER),
        "before the load": (StockStore, "load", BEFORE),
        "with the claimants prepared": (bulk_store(), "_load", BEFORE),
        "after the load": (StockStore, "load", AFTER),
        # A sale that comes back to Redis, and one that is sold from the database.
        "before the drain of a sale that comes back": (modes, "issue_claims", BEFORE),
        "after the drain of a sale that comes back": (modes, "issue_claims", AFTER),
        "before the row of the event": (direct, "wait_briefly", AFTER),
        "with the row of the event": (direct, "write", BEFORE),
        "after the direct issue": (direct, "write", AFTER),
    }


@contextmanager
def at(point: str, act: Callable[[], None]) -> Iterator[None]:
    """Have it done when the point is come to for the first time."""
    with beside(*points()[point], act):
        yield


@contextmanager
def beside(owner: Any, name: str, when: When, act: Callable[[], None]) -> Iterator[None]:
    """Have it done when that function of the owner is called for the first time, on that side of it."""
    function = getattr(owner, name)
    to_do = [act]

    def instead(*arguments: Any, **options: Any) -> Any:
        if when is BEFORE and to_do:
            to_do.pop()()
        answer = function(*arguments, **options)
        if when is AFTER and to_do:
            to_do.pop()()
        return answer

    with patch.object(owner, name, instead):
        yield
