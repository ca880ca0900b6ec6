"""A connection that waits for PostgreSQL so long and no longer, and tells the breaker how each wait ended.

The server's own timeouts do not run in a server that is stopped, and libpq waits for ever. So the client counts: every
wait on the socket is charged to somebody's patience, and where that is at its end the connection is closed, because
what it was asked may still be answered some day.
"""

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import psycopg
from django.conf import settings
from psycopg import errors
from psycopg.abc import RV, PQGen
from psycopg.rows import Row

from events.redis.breaker import Breaker

INTERVAL = 0.1  # seconds between two looks for Ctrl-C during a wait: psycopg's own
MARGIN = 2.0  # seconds that the server is given to tell that its statement timeout has run out

# A probe may wait as long as a request: with a shorter pause several threads would hang in one each.
breaker = Breaker("postgresql", pause=max(1.0, settings.DATABASE_REQUEST_TIMEOUT))


class Patience:
    """The seconds that somebody is still willing to wait for PostgreSQL, all waits together."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """The longest that may be waited now, which is taken off; `psycopg.OperationalError` where nothing is left."""
        if self.left <= 0:
            raise psycopg.OperationalError("PostgreSQL is not asked: the time to wait for it is used up")
        started = time.monotonic()
        try:
            # While nobody is answered a call is a probe, whoever makes it: an operator must not hang in one either.
            yield self.left if breaker.is_closed() else min(self.left, settings.DATABASE_REQUEST_TIMEOUT)
        finally:
            self.left -= time.monotonic() - started


_patience: ContextVar[Patience | None] = ContextVar("patience", default=None)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Everything inside waits for PostgreSQL this long, all together; `OperationalError` where that is not enough."""
    token = _patience.set(Patience(seconds))
    try:
        yield
    finally:
        _patience.reset(token)


def longest() -> float:
    """Seconds that a statement can take by the server's timeout, and a little more."""
    return settings.DATABASE_STATEMENT_TIMEOUT + MARGIN


def current_patience() -> Patience:
    """That of the request. Outside of one, each wait has its own.

    It is the `longest` for workers and commands, and a request's for a daemon thread: what requests are answered from
    must not be stale for longer than they wait.
    """
    given = _patience.get()
    if given is not None:
        return given
    return Patience(settings.DATABASE_REQUEST_TIMEOUT if threading.current_thread().daemon else longest())


def telling(gen: PQGen[RV]) -> PQGen[RV]:
    """The same exchange, but the breaker is told of its answer. What asks nothing (autocommit) tells nothing."""
    asked = False
    try:
        wanted = next(gen)
        while True:
            asked = True
            wanted = gen.send((yield wanted))
    except StopIteration as done:
        if asked:
            breaker.succeeded()
        answer: RV = done.value
        return answer


class BoundedConnection(psycopg.Connection[Row]):
    """A connection whose every wait ends. One that was given up, or that the server ended, is closed for good."""

    def wait(self, gen: PQGen[RV], interval: float = INTERVAL, timeout: float | None = None) -> RV:
        """Let the server answer; `OperationalError` where it does not in time, or where the connection is lost."""
        if self.closed or timeout is not None:  # has been told already, or counts for itself
            return super().wait(gen, interval, timeout)
        with current_patience().waiting() as seconds:
            try:
                return super().wait(telling(gen), interval, seconds)
            except errors._WaitTimeout:
                self.pgconn.finish()
                breaker.failed()
                raise psycopg.OperationalError(
                    f"PostgreSQL did not answer within {seconds:.2f} s; the connection is closed"
                ) from None
            except psycopg.Error as error:
                if not self.broken:
                    if error.sqlstate:  # the server says no, for a statement or lock timeout as well: an answer
                        breaker.succeeded()
                    raise
                breaker.failed()
                if isinstance(error, psycopg.OperationalError):
                    raise
                # Some ends are errors of another kind, being idle in a transaction for instance; to us all are one.
                raise psycopg.OperationalError(f"PostgreSQL ended the connection: {error}") from error

    def is_lost(self) -> bool:
        """Whether the server has ended it since it was last used, so far as can be told without asking."""
        ready = select.poll()
        ready.register(self.fileno(), select.POLLIN)
        try:
            while ready.poll(0):
                self.pgconn.consume_input()
        except psycopg.OperationalError:
            return True
        return False
