"""Our claim path against the textbook's, over HTTP: server on one core, load and Redis on the other."""

import os
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import psutil
import pytest
from django.contrib.auth import get_user_model
from rest_framework_simplejwt.tokens import AccessToken

from config.embedded import free_port
from coupons.stock.store import StockStore
from events.models import Event
from tests.benchmarks.conftest import Spawn
from tests.benchmarks.load import Load, fire
from tests.benchmarks.test_drain import _users

pytestmark = pytest.mark.benchmark

USERS, CONNECTIONS, ROUNDS = 4_000, 32, 3
LANES = {"ours": "config.settings", "textbook": "tests.benchmarks.textbook_settings"}


@pytest.fixture
def _two_cores(store: StockStore) -> Iterator[None]:
    """Load and Redis on the second core; the servers are put on the first."""
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        second = {sorted(cores)[1]}
        os.sched_setaffinity(0, second)
        os.sched_setaffinity(int(store.client.info("server")["process_id"]), second)
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("_two_cores")
def test_claims_a_second_against_the_textbook(
    sale: Callable[..., Event], spawn: Spawn, report: Callable[..., None]
) -> None:
    tokens = [str(AccessToken.for_user(get_user_model()(id=user_id))) for user_id in _users(USERS)]
    ports, processes = {}, {}
    for lane, settings_module in LANES.items():
        ports[lane] = free_port()
        processes[lane] = spawn(
            *("granian", "config.wsgi:application", "--interface", "wsgi", "--no-log", "--blocking-threads", "4"),
            *("--port", str(ports[lane])),
            cores={0},
            DJANGO_SETTINGS_MODULE=settings_module,
        )
        _wait_for(ports[lane])

    loads: dict[str, list[Load]] = {lane: [] for lane in LANES}
    cpu: dict[str, list[float]] = {lane: [] for lane in LANES}
    for _ in range(ROUNDS + 1):  # the first warms up
        for lane in LANES:  # interleaved, so that both meet the same noise
            requests = _requests(sale(quantity=USERS).id, tokens)
            before = _cpu_seconds(processes[lane].pid)
            load = fire(ports[lane], requests, connections=CONNECTIONS)
            assert load.statuses == {202: USERS}
            loads[lane].append(load)
            cpu[lane].append((_cpu_seconds(processes[lane].pid) - before) / USERS * 1e6)

    figures: dict[str, object] = {}
    for lane in LANES:
        figures[f"{lane}: claims a second"] = round(statistics.median(load.rate for load in loads[lane][1:]))
        figures[f"{lane}: server CPU, µs a claim"] = round(statistics.median(cpu[lane][1:]))
        figures[f"{lane}: p50, p99 ms"] = ", ".join(
            f"{statistics.median(load.percentile(share) for load in loads[lane][1:]):.1f}" for share in (0.5, 0.99)
        )
    pairs = list(zip(loads["ours"], loads["textbook"], strict=True))[1:]
    rate = [ours_now.rate / textbook_now.rate for ours_now, textbook_now in pairs]
    figures["ratio of claims a second"] = round(statistics.median(rate), 2)
    figures["ratio of CPU a claim"] = round(
        statistics.median(cpu["textbook"][1:]) / statistics.median(cpu["ours"][1:]), 2
    )
    figures["asked for"] = "≥ 3"
    report(figures)


def _requests(event_id: int, tokens: list[str]) -> list[bytes]:
    return [
        f"POST /api/v1/events/{event_id}/claims HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        "Content-Length: 0\r\n\r\n".encode()
        for token in tokens
    ]


def _cpu_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=2)
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)
        else:
            return
