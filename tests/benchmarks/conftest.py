"""What the benchmarks share: processes on the test's servers, and a table in the terminal."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent.parent

Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def spawn(transactional_db: None) -> Iterator[Spawn]:
    """Start a process that works on the test database; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, cores: set[int] | None = None, **environment: str) -> subprocess.Popen[bytes]:
        name = connection.settings_dict["NAME"]
        url = os.environ["DATABASE_URL"].replace("/seonchak?", f"/{name}?")
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url, **environment},
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
