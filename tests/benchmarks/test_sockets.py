"""One frame of an event's state to ten thousand sockets: when the last has it, and what each costs.

The server has one core, those who look on share the other with Redis. A frame's CPU is what the server uses in a while
with one less what it uses in as long a while without; the sockets' memory is what it grows by when they come.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from config.serve import ALLOCATOR
from events.models import Event
from tests.benchmarks.kit import Spawn
from tests.benchmarks.lanes import GATE, cpu_seconds, start
from tests.benchmarks.load import need_files
from tests.benchmarks.watching import Crowd
from tests.servers import ROOT

pytestmark = pytest.mark.benchmark

SOCKETS = 10_000
READ = 1_000  # sockets that do not say that they only listen
FRAMES = 7
WHILE = 2.5  # seconds
SERVED = replace(GATE, options=(*GATE.options, "--http", "1", "--runtime-threads", "1"))  # as by config.serve
FOLDER = ROOT / "docs" / "performance"


def test_sockets(sale: Callable[..., Event], redis: int, spawn: Spawn, report: Callable[..., None]) -> None:
    need_files(SOCKETS + READ + 500)
    event = sale(quantity=100_000)
    settings = {"_RJEM_MALLOC_CONF": ALLOCATOR, "LIVE_PING": "50", "LIVE_SOCKETS": str(SOCKETS + READ)}
    server = start(SERVED, spawn, redis=redis, **settings)
    path = f"/ws/events/{event.id}"
    with Crowd(server.port, path, 100, header=b""):  # what is made once is made now
        pass
    empty, began = server.memory(), time.perf_counter()
    last, cpu = [], []
    with Crowd(server.port, path, SOCKETS) as crowd:
        connecting = time.perf_counter() - began
        assert crowd.is_left_alone(WHILE)
        full = server.memory()
        idle = _cpu_of(server.process.pid, lambda: crowd.is_left_alone(WHILE))
        for number in range(1, FRAMES + 1):
            Event.objects.filter(pk=event.id).update(quantity=100_000 + number)
            moments: list[float] = []
            cpu.append(_cpu_of(server.process.pid, partial(_a_while, crowd, moments)) - idle)
            last.append(max(moments) - min(moments))
        after = server.memory()
        with Crowd(server.port, path, READ, header=b""):
            read = server.memory() - after
    figures = {
        "sockets": SOCKETS,
        "connected in, s": round(connecting, 2),
        "the last after the first, s": round(statistics.median(last), 3),
        "the last after the first, s, worst": round(max(last), 3),
        "CPU a socket, µs": round(statistics.median(cpu) / SOCKETS * 1e6, 1),
        "memory a socket, KiB": round((full - empty) * 1024 / SOCKETS, 1),
        "memory a socket after the frames, KiB": round((after - empty) * 1024 / SOCKETS, 1),
        "memory a socket that is read, KiB": round(read * 1024 / READ, 1),
        "idle, share of a core": round(idle / WHILE, 4),
    }
    (FOLDER / "sockets.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    report(figures)


def _a_while(crowd: Crowd, moments: list[float]) -> None:
    until = time.perf_counter() + WHILE
    moments += crowd.await_frame()
    assert crowd.is_left_alone(max(0, until - time.perf_counter())), "one frame is all"


def _cpu_of(process: int, act: Callable[[], object]) -> float:
    used = cpu_seconds(process)
    act()
    return cpu_seconds(process) - used
