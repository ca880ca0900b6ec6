"""The steps of each strategy at which a test can have something happen. They are patched in here; the product has none.

A name of a step is `<before or after> <what>`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from coupons import at_once, rows
from coupons.stock.store import HotStore, StockStore
from coupons.stock.ways import WayStore
from tests.concurrency.points import When, beside

WRITING = ("after the coupon", "before the commit", "after the commit")
STATEMENT = ("before the statement", "after the statement")
STEPS: dict[str, tuple[str, ...]] = {
    "optimistic": STATEMENT,
    "row_lock": WRITING,
    "conditional_update": STATEMENT,
    "skip_locked": STATEMENT,
    "redis_set": ("after the set", "after the statement"),
    "redis_counter": ("after the counter", "after the statement"),
    "distributed_lock": ("after the lock", "after the statement", "before the release"),
    "list_queue": ("after the push",),
    "lua_sync": ("after the script", "after the statement", "after the settling"),
    "lua_async": ("after the script",),
}
OF_A_DRAIN = ("after the take", *WRITING, "after the settling")


def owner_of(step: str) -> tuple[Any, str]:
    """Whose function it is, and which."""
    return {
        "the statement": (at_once, "issue"),
        "the coupon": (rows, "issue"),
        "the commit": (connection, "commit"),
        "the set": (WayStore, "add"),
        "the counter": (WayStore, "count_down"),
        "the lock": (WayStore, "lock"),
        "the release": (WayStore, "unlock"),
        "the push": (WayStore, "push"),
        "the take": (StockStore, "take"),
        "the script": (HotStore, "reserve"),
        "the settling": (StockStore, "settle"),
    }[step]


@contextmanager
def at(name: str, act: Callable[[], None]) -> Iterator[None]:
    """Have it done when the step is come to for the first time."""
    when, _, step = name.partition(" ")
    with beside(*owner_of(step), When[when.upper()], act):
        yield
