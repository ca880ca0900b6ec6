"""A child of a test: claims for a range of users, and prints the sequence numbers it was given.

Run as `python -m tests.concurrency.claiming EVENT FIRST LAST`.
"""

import sys

import django

django.setup()

from coupons.stock.codes import ReserveCode  # noqa: E402 - Django first
from coupons.stock.store import hot_store  # noqa: E402


def main(event_id: int, first: int, last: int) -> None:
    """Wait for the word, then claim for each user."""
    store = hot_store()
    print("ready", flush=True)  # noqa: T201 - to the parent
    sys.stdin.readline()
    for user in range(first, last + 1):
        (one,) = store.reserve(event_id, epoch=1, claims=[(user, "")]).reservations
        if one.code is ReserveCode.ACCEPTED:
            print(one.sequence)  # noqa: T201 - to the parent


main(*map(int, sys.argv[1:]))
