"""What the benchmarks share: processes on the test's servers, and a table in the terminal."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from django.conf import settings

from config.celery import app
from coupons.stock.store import StockStore
from tests.benchmarks.kit import Spawn, two_cores
from tests.concurrency import children
from tests.servers import ROOT

TAIL = 4000  # characters


@pytest.fixture
def folder() -> Path:
    """Where figures are kept, and what processes said."""
    folder: Path = settings.LOCAL_DIR / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _shown_on_failure(request: pytest.FixtureRequest, path: Path) -> Iterator[IO[bytes]]:
    """A file for what the test's processes say, which nobody could read between its figures."""
    failed = request.session.testsfailed
    with path.open("wb") as said:
        yield said
    if request.session.testsfailed > failed:
        print(f"\nThe end of {path}:\n{path.read_text(errors='replace')[-TAIL:]}")


@pytest.fixture
def spawn(transactional_db: None, request: pytest.FixtureRequest, folder: Path) -> Iterator[Spawn]:
    """Start a process that works on the test database; it ends with the test."""
    with _shown_on_failure(request, folder / f"{request.node.name}.log") as said:
        yield from _spawning(said)


def _spawning(said: IO[bytes]) -> Iterator[Spawn]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, cores: set[int] | None = None, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=children.environment(**environment),
            start_new_session=True,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, cores)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
    for process in started:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    app.control.purge()  # what the textbook has left in the queue would be work for the next test's worker


@pytest.fixture
def redis(store: StockStore) -> Iterator[int]:
    """The process of Redis, on the core of the load."""
    process = int(store.client.info("server")["process_id"])
    with two_cores(process):
        yield process


@pytest.fixture
def report(request: pytest.FixtureRequest, folder: Path) -> Callable[[dict[str, object]], None]:
    """Print figures, and keep them as JSON in the local folder."""

    def write(figures: dict[str, object]) -> None:
        name = request.node.name
        print(f"\n{name}")
        for key, value in figures.items():
            print(f"  {key:<46} {value}")
        (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")

    return write
