"""The claim log of an event, read page by page in its order. No page ends within a claim."""

from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial

from coupons.stock.records import LogEntry
from coupons.stock.store import StockStore


def page(event_id: int, store: StockStore, *, after: str | None, count: int) -> list[LogEntry]:
    """The `count` entries behind the entry `after`, and the rest of the last claim among them."""
    entries = store.read_log(event_id, after=after, count=count)
    if entries and (rest := entries[-1].last - entries[-1].sequence):
        entries += store.read_log(event_id, after=entries[-1].entry_id, count=rest)
    return entries


class Pages:
    """The pages as a drain takes them, the next one read in a thread while PostgreSQL writes the one before.

    That is without the drain lock at times, and whoever has it meanwhile may give a claim's unit to somebody else. So
    what was read ahead counts only if, under the lock, all of it is in the log still.
    """

    def __init__(self, event_id: int, store: StockStore, thread: Executor) -> None:
        self._event_id, self._store, self._thread = event_id, store, thread
        self._ahead: Future[list[LogEntry]] | None = None

    def read(self, *, after: str | None, count: int) -> list[LogEntry]:
        """The page behind `after`, which is where `read_ahead` was to begin if it was called since.

        The caller has the drain lock.
        """
        ahead, self._ahead = self._ahead, None
        # Not where an error was met, which may be over, nor where the page is not full: there may be more by now.
        entries = ahead.result() if ahead and not ahead.exception() else []
        if len(entries) >= count and self._store.is_whole(self._event_id, entries):
            return entries
        return page(self._event_id, self._store, after=after, count=count)

    def read_ahead(self, *, after: str, count: int) -> None:
        """Begin to read it."""
        read = partial(page, self._event_id, self._store, after=after, count=count)
        self._ahead = self._thread.submit(copy_context().run, read)
