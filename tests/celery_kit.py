"""What tests with a broker share: Celery's real processes, a broker of their own, and the wait for what they do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import current_app

from coupons.models import Coupon
from coupons.stock.store import StockStore
from events.models import Event
from tests.concurrency.children import environment

PATIENCE = 40  # seconds: a worker takes a few to start on a busy machine


class Processes:
    """Celery's processes, as `make run` starts them; `end` ends all of them. `settings` go into their environment."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.settings = settings
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, **more: str) -> "subprocess.Popen[bytes]":
        """Start a worker, a notifier or a beat, with settings of its own."""
        number = len(self.started)
        lean = ["--without-mingle", "--without-gossip", "-n", f"{number}@%h"]
        command = {
            "worker": ["worker", "--concurrency", "1", *lean],
            "notifier": ["worker", "--queues", "notifications", "--pool", "threads", "--concurrency", "8", *lean],
            "beat": ["beat"],
        }[name]
        with (self.folder / f"{name}-{number}.log").open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "config", *command, "--loglevel", "WARNING"],
                env=environment(BEAT_SCHEDULE_FILE=str(self.folder / f"beat-{number}"), **(self.settings | more)),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the worker's children are killed with it
            )
        self.started.append(process)
        return process

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """`kill -9`, children and all."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)

    def end(self) -> None:
        """Kill all of them."""
        for process in self.started:
            self.kill(process)

    def until(self, condition: Callable[[], bool], *, patience: float = PATIENCE) -> float:
        """Wait for them to do it, and for how long (seconds); there is nothing to be told by."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() < started + patience, self.told()
            time.sleep(0.05)
        return time.monotonic() - started

    def told(self) -> str:
        """What they wrote, for a test that fails."""
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log")))


def drained(event: Event, store: StockStore, number: int) -> Callable[[], bool]:
    """So many coupons are there and the log is empty."""
    return lambda: Coupon.objects.filter(event=event).count() == number and not store.snapshot(event.id).backlog


@contextmanager
def broker_at(url: str) -> Iterator[None]:
    """The messages of this process go there."""
    before = current_app.conf.broker_url, current_app.conf.broker_write_url
    pools = current_app.amqp
    current_app.conf.update(broker_url=url, broker_write_url=url)
    current_app.set_default()
    pools._producer_pool = None
    try:
        yield
    finally:
        current_app.conf.update(broker_url=before[0], broker_write_url=before[1])
        pools._producer_pool = None
