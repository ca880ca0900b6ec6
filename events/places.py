"""Places for what waits for the database: who comes beyond them is refused at once, and the database stays alive."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import Error as DatabaseError

from events.errors import Unavailable


class Places:
    """So many at once of this process, in whichever thread; the others are told to come again after `retry_after()`."""

    def __init__(self, number: int, *, retry_after: Callable[[], float] = lambda: 1.0) -> None:
        self._free = threading.BoundedSemaphore(number)
        self._retry_after = retry_after

    @contextmanager
    def one(self, *, patience: float = 0) -> Iterator[None]:
        """Take one. `Unavailable` where none is free for `patience` seconds, and where the database fails meanwhile."""
        if not self._free.acquire(timeout=patience):
            raise Unavailable(retry_after=self._retry_after())
        try:
            yield
        except DatabaseError as error:
            raise Unavailable from error
        finally:
            self._free.release()
