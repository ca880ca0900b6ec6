"""Counting on an event loop: Prometheus' counters are told ten times a second, and not for each of 20,000 requests."""

import asyncio

from prometheus_client import Counter

EVERY = 0.1  # seconds


class Tally:
    """Adds up what counters are to be told. For one event loop; what is not told yet goes with a process that dies."""

    def __init__(self) -> None:
        self._counts: dict[Counter, int] = {}

    def add(self, counter: Counter) -> None:
        """Count one more."""
        counts = self._counts
        if not counts:
            asyncio.get_running_loop().call_later(EVERY, self.tell)
        counts[counter] = counts.get(counter, 0) + 1

    def tell(self) -> None:
        """Tell now, as at the end."""
        counts, self._counts = self._counts, {}
        for counter, number in counts.items():
            counter.inc(number)
