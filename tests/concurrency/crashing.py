"""A child of a test that sends itself a signal at a point, and does not know of it beforehand.

With SIGKILL no handler runs and nothing is tidied up; after SIGSTOP it goes on when the test says so. Run as
`python -m tests.concurrency.crashing SIGNAL POINT WORK EVENT [USER]`.
"""

import os
import signal
import sys
from functools import partial

import django

django.setup()

from coupons import issuing, modes, reconciling, services  # noqa: E402 - Django first
from coupons.stock.store import bulk_store  # noqa: E402
from events import services as sales  # noqa: E402
from tests.concurrency.points import at  # noqa: E402


def main(number: signal.Signals, point: str, work: str, event_id: int, *users: int) -> None:
    """Do the work, with the signal at the point."""
    store = bulk_store()
    with at(point, partial(os.kill, os.getpid(), number)):
        match work:
            case "claim":
                services.claim(event_id=event_id, user_id=users[0], idempotency_key="key")
            case "publish":
                sales.publish(event_id=event_id)
            case "reconcile":
                reconciling.reconcile(event_id, store)
            case "bring back":
                modes.sell_from_redis(event_id, store)
            case "drain":
                issuing.issue_claims(event_id, store, batch=3)
            case "drain full batches":
                issuing.BATCH = 3  # so that each is settled while the next is written
                issuing.issue_claims(event_id, store, batch=3)


main(signal.Signals[sys.argv[1]], sys.argv[2], sys.argv[3], *map(int, sys.argv[4:]))
