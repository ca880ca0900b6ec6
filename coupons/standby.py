"""The worker's own sweep, for when none comes: the broker hangs, is cut off, or there is no beat.

A worker that loses its broker without a word may be deaf for half a minute, whatever is set. What it has to do does not
depend on messages, so each of its processes has a thread that looks by itself once no sweep has come for a while.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from django.db import connection

from coupons import holds, issuing, modes, reconciling
from coupons.stock.store import StockStore, bulk_store

log = structlog.get_logger(__name__)

Act = Callable[[int, StockStore], object]

SILENCE = 3.0  # seconds without a sweep, and a process does its own
EVERY = 1.0  # seconds between two of them


class Standby:
    """One a worker process."""

    def __init__(self) -> None:
        self._heard = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def heard(self) -> None:
        """Note that a sweep came."""
        self._heard = time.monotonic()

    def start(self, **_: Any) -> None:
        """Celery's signal `worker_process_init`: begin to listen for the silence."""
        self._stop.clear()
        # No daemon: it may wait for the database as long as a task may.
        self._thread = threading.Thread(target=self._run, name="standby", daemon=False)
        self._thread.start()

    def stop(self, **_: Any) -> None:
        """Celery's signal `worker_process_shutdown`: end, when what is under way is done."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            if time.monotonic() - self._heard < SILENCE:
                continue
            try:
                sweep()
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever a sweep meets
                log.warning("standby_failed", error=type(error).__name__)
            finally:
                connection.close()


def sweep() -> None:
    """See to every event that needs it, here and now. One that fails stops no other."""
    store = bulk_store()
    _each(holds.release_due, holds.due(), store)  # before Redis is asked: the database alone knows whose time is over
    due = reconciling.look(store)
    acts: list[tuple[Act, list[int]]] = [
        (issuing.issue_claims, due.drain),
        (reconciling.reconcile, due.reconcile),
        (modes.sell_from_redis, due.bring_back),
    ]
    for act, events in acts:
        _each(act, events, store)


def _each(act: Act, events: Iterable[int], store: StockStore) -> None:
    for event_id in events:
        try:
            act(event_id, store)
        except Exception as error:  # noqa: BLE001 - the next event must still have its turn
            log.warning("standby_failed", event_id=event_id, error=type(error).__name__)


standby = Standby()
