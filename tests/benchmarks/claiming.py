"""Claims from a process of their own, a hundred a call as the gate groups them, as fast as Redis takes them.

Run as `python -m tests.benchmarks.claiming EVENT FIRST_USER LAST_USER`.
"""

import sys

import django

django.setup()

from coupons.nudging import nudger  # noqa: E402 - Django first
from coupons.stock.store import bulk_store  # noqa: E402
from events.models import Event  # noqa: E402

GROUP = 100


def main(event_id: int, first: int, last: int) -> None:
    """Have each of the users claim; the worker is nudged when the script says so."""
    store, epoch = bulk_store(), Event.objects.get(pk=event_id).epoch
    for start in range(first, last + 1, GROUP):
        users = range(start, min(start + GROUP, last + 1))
        if store.reserve(event_id, epoch=epoch, claims=[(user, "") for user in users]).nudge:
            nudger.nudge(event_id)


main(*map(int, sys.argv[1:]))
