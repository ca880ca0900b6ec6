"""A circuit breaker: who was let down a few times in a row is not asked for a while, so that nobody waits for nothing.

Closed, calls go through. After `failures` of them failed in a row it is open, and calls are refused at once. A second
later it is half-open: one call is let through as a probe, the others are still refused; its end closes the breaker or
opens it anew. The lock is held to read and to change the state, never during a call: ten calls that hang for 0.1 s
take 0.1 s together. (M. Nygard, *Release It!*, 2007.)

Own code, because pybreaker holds its lock during the call and circuitbreaker lets every caller probe at once.
"""

import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import TracebackType
from weakref import WeakValueDictionary

import structlog
from prometheus_client import Counter, Gauge

log = structlog.get_logger(__name__)

BREAKER_OPEN = Gauge(
    "seonchak_breaker_open",
    "Processes that do not ask a server at the moment, because it did not answer them.",
    ["server"],
    multiprocess_mode="livesum",
)
BREAKER_CHANGES = Counter(
    "seonchak_breaker_changes_total", "Changes of the circuit breakers, by server and new state.", ["server", "state"]
)


class State(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerOpen(Exception):  # noqa: N818 - an answer: not now
    """The server did not answer the calls before this one, and is not asked now. `retry_after`: seconds to the next."""

    def __init__(self, name: str, retry_after: float) -> None:
        super().__init__(f"{name} is not asked for another {retry_after:.1f} s: it did not answer")
        self.retry_after = retry_after


class Breaker:
    """One a process and server. Use it as a context around the call, or say `admit`, then `succeeded` or `failed`.

    `counts` tells which exceptions mean that the server is away; any other end of a call is an answer. `refusal` is
    what is raised at once, so that the callers of a server meet an error of the kind they know. Times in seconds on a
    monotonic clock.
    """

    def __init__(
        self,
        name: str,
        *,
        counts: Callable[[BaseException], bool] = lambda _: True,
        refusal: type[BreakerOpen] = BreakerOpen,
        failures: int = 3,
        pause: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._counts = counts
        self._refusal = refusal
        self._limit = failures
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._state = State.CLOSED
        self._failures = 0
        self._failing_since: float | None = None
        self._failed_at = 0.0  # the last time
        self._asked_again_at = 0.0  # when open: the time of the probe; when half-open: when the probe counts as lost
        BREAKER_OPEN.labels(server=name).set(0)
        _breakers[name] = self

    def state(self) -> State:
        """Where it stands now."""
        return self._state

    def is_closed(self) -> bool:
        """Whether calls go through."""
        return self._state is State.CLOSED

    def failing_for(self, *, since: float = 0.0) -> float:
        """Seconds since the first failure that no success has followed, 0 where there is none.

        What failed before `since`, on the same clock, does not count.
        """
        first = self._failing_since
        if first is None or self._failed_at < since:
            return 0.0
        return self._clock() - max(first, since)

    def admit(self) -> None:
        """Let a call through, or raise `BreakerOpen`."""
        if self.is_closed():
            return
        with self._lock:
            if self.is_closed():
                return
            now = self._clock()
            if now < self._asked_again_at:
                raise self._refusal(self.name, self._asked_again_at - now)
            # A probe whose end nobody tells, because its thread is gone, must not shut the way for good.
            self._asked_again_at = now + self._pause
            self._change(State.HALF_OPEN)

    def succeeded(self) -> None:
        """Note that a call got its answer."""
        if self.is_closed() and not self._failures:
            return
        with self._lock:
            self._failures = 0
            self._failing_since = None
            self._change(State.CLOSED)

    def failed(self) -> None:
        """Note that a call got none."""
        with self._lock:
            now = self._clock()
            self._failures += 1
            self._failed_at = now
            if self._failing_since is None:
                self._failing_since = now
            # When open already, this call began before: it tells nothing new, and must not put the probe off.
            if self._state is State.HALF_OPEN or (self.is_closed() and self._failures >= self._limit):
                self._asked_again_at = now + self._pause
                self._change(State.OPEN)

    def __enter__(self) -> None:
        self.admit()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._counts(error):
            self.failed()
        else:
            self.succeeded()

    def _change(self, state: State) -> None:
        if state is self._state:
            return
        before, self._state = self._state, state
        BREAKER_OPEN.labels(server=self.name).set(0 if state is State.CLOSED else 1)
        BREAKER_CHANGES.labels(server=self.name, state=state).inc()
        if State.CLOSED in (before, state):  # not each probe of a long outage
            log.warning("breaker", server=self.name, state=state)


_breakers: WeakValueDictionary[str, Breaker] = WeakValueDictionary()


def breakers() -> Mapping[str, Breaker]:
    """Those of this process, by name."""
    return dict(_breakers)
