"""What the benchmarks share: processes on the test's servers, and a table in the terminal."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings

from coupons.stock.store import StockStore
from tests.benchmarks.kit import Spawn, two_cores
from tests.concurrency import children
from tests.servers import ROOT


@pytest.fixture
def spawn(transactional_db: None) -> Iterator[Spawn]:
    """Start a process that works on the test database; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, cores: set[int] | None = None, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=children.environment(**environment),
            start_new_session=True,
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


@pytest.fixture
def redis(store: StockStore) -> Iterator[int]:
    """The process of Redis, on the core of the load."""
    process = int(store.client.info("server")["process_id"])
    with two_cores(process):
        yield process


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[dict[str, object]], None]:
    """Print figures, and keep them as JSON in the local folder."""

    def write(figures: dict[str, object]) -> None:
        name = request.node.name
        print(f"\n{name}")
        for key, value in figures.items():
            print(f"  {key:<46} {value}")
        folder = settings.LOCAL_DIR / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")

    return write
