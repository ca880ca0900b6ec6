"""A bulkhead: calls that wait for a slow server must not take all the threads of a process. (M. Nygard, *Release It!*)

The circuit breaker keeps callers from a server that does not answer. One that answers late gives it nothing to count,
and yet a few polls that wait for it half a second each would hold up every claim behind them.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from events.errors import Unavailable

SLOW = 0.1  # seconds


class Bulkhead:
    """Lets everybody in while calls are quick. With a slow one inside, or after one, no more than `places`."""

    def __init__(self, places: int, *, slow: float = SLOW, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._slow = slow
        self._clock = clock
        self._lock = threading.Lock()
        self._inside: dict[object, float] = {}  # when each came in, the first one first
        self._slow_lately = False

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place inside; `Unavailable` at once where there is none."""
        me = object()
        with self._lock:
            now = self._clock()
            if len(self._inside) >= self._places and (self._slow_lately or self._oldest(now) > self._slow):
                raise Unavailable
            self._inside[me] = now
        try:
            yield
        finally:
            with self._lock:
                self._slow_lately = self._clock() - self._inside.pop(me) > self._slow

    def _oldest(self, now: float) -> float:
        return now - next(iter(self._inside.values()), now)
