"""The two server processes as production starts them: what they serve, what they bear, and how they stop."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import psutil
import pytest
from django.conf import settings
from django.contrib.auth import get_user_model

from config.serve import OTHER_FILES
from coupons.stock.store import StockStore
from events.models import Event
from tests.benchmarks.lanes import claims, tokens
from tests.benchmarks.load import CUT_OFF, fire
from tests.factories import make_users
from tests.servers import ROOT
from tests.web import Server

Serve = Callable[..., Server]
Sale = Callable[..., Event]
PASSWORD = "a-long-one-for-the-test"
LANES = ["gate", "web"]


class Browser:
    """What a person uses: it keeps cookies, and follows redirections."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opener = build_opener(HTTPCookieProcessor())

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and content."""
        with self._opener.open(Request(self.url + path, headers=headers), timeout=10) as answer:  # noqa: S310 - our own URL
            return answer.status, answer.read()

    def sign_in(self, name: str, *, then: str) -> str:
        """Fill in the form; where it leads to."""
        path = f"/accounts/login?next={then}"
        token = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', self.get(path)[1])
        assert token
        form = {"username": name, "password": PASSWORD, "next": then, "csrfmiddlewaretoken": token[1].decode()}
        with self._opener.open(Request(self.url + path, urlencode(form).encode()), timeout=10) as answer:  # noqa: S310
            return str(answer.url).removeprefix(self.url)


@pytest.mark.parametrize("lane", LANES)
def test_each_of_them_serves_pages_admin_and_files_and_warns_of_nothing(sale: Sale, serving: Serve, lane: str) -> None:
    event = sale()
    get_user_model().objects.create_superuser("boss", password=PASSWORD)
    server = serving(lane, LOG_LEVEL="INFO", PYTHONWARNINGS="always", DATABASE_REQUEST_TIMEOUT="5")  # a busy machine
    browser = Browser(server.url)
    paths = ("/", f"/events/{event.slug}", "/api/docs", "/api/schema", "/readyz", "/metrics")
    pages = {path: browser.get(path) for path in paths}
    assert {status for status, _ in pages.values()} == {200}

    files = re.findall('(?:href|src)="(/static/[^"]+)"', pages[f"/events/{event.slug}"][1].decode())
    assert files
    for file in files:
        content = (ROOT / file[1:]).read_bytes()
        assert browser.get(file) == (200, content)
        assert browser.get(file, Range="bytes=2-5") == (206, content[2:6])

    assert browser.sign_in("boss", then="/admin/") == "/admin/"
    status, change = browser.get(f"/admin/events/event/{event.id}/change/")
    assert status == 200
    assert event.title.encode() in change
    told = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {line["event"] for line in told} == {"request"}


@pytest.mark.parametrize("lane", LANES)
def test_who_is_being_served_when_it_stops_is_answered(
    sale: Sale, store: StockStore, serving: Serve, lane: str
) -> None:
    event, users = sale(quantity=8_000), make_users(8_000)
    server, waiting = serving(lane), claims(event.id, tokens(users, "stop"))
    taken = threading.Event()

    def stop() -> None:
        while store.snapshot(event.id).sequence < 500:
            assert not taken.wait(0.002)
        server.process.send_signal(signal.SIGTERM)

    stopping = threading.Thread(target=stop)
    stopping.start()
    load = fire(server.port, waiting, connections=100)
    taken.set()
    stopping.join()
    assert server.process.wait(settings.SERVER_STOP_TIMEOUT) == 0
    accepted = store.snapshot(event.id).sequence
    assert 500 <= accepted < 8_000, "it stopped in the midst of the rush"
    # Whoever was cut off had not been read yet: what was taken was answered, all of it.
    assert load.statuses[202] == accepted
    assert set(load.statuses) <= {202, CUT_OFF}


def test_a_connection_that_is_idle_is_closed_in_time(serving: Serve) -> None:
    server = serving("gate", SERVER_KEEP_ALIVE="1")
    with connect(server) as connection:
        assert ask(connection) == b"HTTP/1.1 200"
        asked = time.monotonic()
        assert connection.recv(4096) == b""
        assert 0.5 < time.monotonic() - asked < 5


def test_a_limit_of_files_that_is_too_low_is_told_and_kept_to(serving: Serve) -> None:
    server = serving("gate", files=OTHER_FILES + 20)
    assert "the limit of open files leaves a process 20 connections, not the 12,000" in server.log.read_text()
    with ExitStack() as stack:
        held = [stack.enter_context(connect(server)) for _ in range(21)]
        answered = [ask(one) for one in held[:20]]
        assert answered == [b"HTTP/1.1 200"] * 20
        held[20].settimeout(0.5)
        with pytest.raises(TimeoutError):
            ask(held[20])
        held[0].close()
        held[20].settimeout(10)
        assert held[20].recv(4096)[:12] == b"HTTP/1.1 200", "it had to wait, and that was all"


@pytest.mark.skipif(sys.platform != "linux", reason="the ways of scheduling are Linux's")
@pytest.mark.parametrize("lane", LANES)
def test_its_threads_do_not_cut_in_on_each_other(serving: Serve, lane: str) -> None:
    server = serving(lane)
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    threads = [int(task.name) for one in family for task in Path(f"/proc/{one.pid}/task").iterdir()]
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_BATCH}


@pytest.mark.skipif(sys.platform != "linux", reason="the ways of scheduling are Linux's")
@pytest.mark.parametrize(("started", "priority"), [("SCHED_IDLE", 0), ("SCHED_RR", 1)])
def test_who_started_it_in_another_way_of_scheduling_has_chosen(started: str, priority: int) -> None:
    script = f"""
import os
from config.serve import let_threads_finish
os.sched_setscheduler(0, os.{started}, os.sched_param({priority}))
let_threads_finish()
assert os.sched_getscheduler(0) == os.{started}, os.sched_getscheduler(0)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    if "PermissionError" in ended.stderr:
        pytest.skip(f"{started} is not allowed here")
    assert ended.returncode == 0, ended.stderr


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def ask(connection: socket.socket) -> bytes:
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection.recv(4096)[:12]
