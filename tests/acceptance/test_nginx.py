"""deploy/nginx.conf with a real nginx before a real gate and a real web. Skipped where no nginx is installed."""

import getpass
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from config.embedded import free_port
from coupons.stock.store import StockStore
from events.models import Event
from tests.api_kit import token_of
from tests.benchmarks.lanes import claims, tokens
from tests.benchmarks.load import fire
from tests.factories import make_user, make_users
from tests.servers import ROOT
from tests.web import Server, ask, until_answered

NGINX = shutil.which("nginx")
pytestmark = pytest.mark.skipif(not NGINX, reason="no nginx is installed here")
UNUSED = ("fastcgi", "scgi", "uwsgi")  # it makes folders for them all the same


@dataclass
class Site:
    """nginx, and what it stands before."""

    port: int
    gates: list[Server]
    web: Server

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Message, bytes]:
        return ask(self.port, method, path, body, **headers)


@pytest.fixture
def site_of(serving: Callable[..., Server], tmp_path: Path) -> Iterator[Callable[[int], Site]]:
    """Start nginx, with the configuration as it is but for names of hosts and folders, before so many gates."""
    with ExitStack() as stack:

        def start(gates: int) -> Site:
            trusting = {"TRUSTED_PROXIES": "1", "SIGN_IN_RATE_PER_ADDRESS": "2/m"}
            site = Site(free_port(), [serving("gate", **trusting) for _ in range(gates)], serving("web", **trusting))
            conf, log = tmp_path / "nginx.conf", tmp_path / "nginx.log"
            conf.write_text(_configuration(site, tmp_path, log))
            log.touch()
            process = stack.enter_context(subprocess.Popen([str(NGINX), "-c", str(conf), "-e", str(log)]))
            stack.callback(process.terminate)
            until_answered(site.port, lambda: process.poll() is None, log)
            return site

        yield start


def _configuration(site: Site, folder: Path, log: Path) -> str:
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for ours, here in {
        "server gate:8000 fail_timeout=2s;": "".join(
            f"server 127.0.0.1:{gate.port} fail_timeout=2s;" for gate in site.gates
        ),
        "web:8000": f"127.0.0.1:{site.web.port}",
        "listen 8000": f"listen 127.0.0.1:{site.port}",
        "include /etc/nginx/mime.types;": "".join(f"{one}_temp_path {folder};" for one in UNUSED),
        "/var/cache/nginx": str(folder),
        "/run/nginx.pid": str(folder / "pid"),
        "/dev/stderr": str(log),
        # How many files a process may have open is the machine's to say.
        "worker_rlimit_nofile 65536;": "",
        "worker_connections 32768;": "worker_connections 500;",
        "worker_processes auto;": f"user {getpass.getuser()}; worker_processes 1; daemon off;",
    }.items():
        assert ours in text
        text = text.replace(ours, here)
    return text


@pytest.fixture
def site(site_of: Callable[[int], Site]) -> Site:
    return site_of(1)


def test_the_rush_goes_to_the_gate_and_all_else_to_web(site: Site, sale: Callable[..., Event]) -> None:
    event, bearer = sale(quantity=2), f"Bearer {token_of(make_user())}"
    path = f"/api/v1/events/{event.id}"
    status, headers, _ = site.ask("POST", f"{path}/claims", b"", Authorization=bearer)
    assert status == 202
    assert site.ask("GET", f"{path}/claims", Authorization=bearer)[0] == 200
    assert site.ask("GET", f"/events/{event.slug}")[0] == 200

    site.web.kill()
    assert site.ask("GET", headers["Location"], Authorization=bearer)[0] == 200
    assert site.ask("POST", f"{path}/claims", b"", Authorization=bearer)[0] == 409
    assert site.ask("GET", f"{path}/state")[0] == 200
    assert_unavailable(*site.ask("GET", f"{path}/claims", Authorization=bearer))
    assert site.ask("GET", "/")[0] == 502


def test_the_pages_do_without_the_gate(site: Site, sale: Callable[..., Event]) -> None:
    event = sale()
    site.gates[0].kill()
    assert site.ask("GET", f"/events/{event.slug}")[0] == 200
    assert site.ask("GET", f"/api/v1/events/{event.id}")[0] == 200
    assert_unavailable(*site.ask("POST", f"/api/v1/events/{event.id}/claims", b""))


def assert_unavailable(status: int, headers: Message, body: bytes) -> None:
    assert status == 503
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Retry-After"] == "1"
    assert json.loads(body)["code"] == "unavailable"


def test_a_state_is_asked_for_once_a_second_and_nobody_gets_another_s_answer(
    site: Site, sale: Callable[..., Event]
) -> None:
    event = sale(quantity=5)
    path = f"/api/v1/events/{event.id}"
    answers = [site.ask("GET", f"{path}/state?n={number}") for number in range(20)]
    assert {status for status, _, _ in answers} == {200}
    assert len({headers["X-Request-ID"] for _, headers, _ in answers}) < 10, "the application answered few of them"
    etag = answers[-1][1]["ETag"]
    assert site.ask("GET", f"{path}/state", If_None_Match=etag)[0] in (200, 304)

    users = make_user(), make_user()
    taken = [site.ask("POST", f"{path}/claims", b"", Authorization=f"Bearer {token_of(user)}") for user in users]
    for user, (_, headers, _) in zip(users, taken, strict=True):
        for other in users:
            found = site.ask("GET", headers["Location"], Authorization=f"Bearer {token_of(other)}")[0]
            assert found == (200 if other is user else 404)


def test_bodies_that_are_too_large_and_metrics_stay_outside(site: Site, sale: Callable[..., Event]) -> None:
    event = sale()
    path = f"/api/v1/events/{event.id}/claims"
    status, headers, body = site.ask("POST", path, b"x" * (16 * 1024 + 1), Content_Type="application/json")
    assert (status, headers["Content-Type"]) == (413, "application/problem+json")
    assert json.loads(body)["code"] == "too_large"
    assert site.ask("POST", path, b"x" * 16 * 1024, Content_Type="application/json")[0] != 413
    assert site.ask("GET", "/metrics")[0] == 404


def test_who_asks_is_whom_nginx_saw_whatever_they_say(site: Site, db: None) -> None:
    form = json.dumps({"username": "nobody", "password": "wrong"}).encode()
    statuses = [
        site.ask(
            "POST", "/api/v1/auth/token", form, Content_Type="application/json", X_Forwarded_For=f"203.0.113.{number}"
        )[0]
        for number in range(4)
    ]
    assert statuses == [401, 401, 429, 429]


def test_a_gate_that_is_replaced_under_load_costs_nobody_an_answer(
    site_of: Callable[[int], Site], sale: Callable[..., Event], store: StockStore
) -> None:
    event, users = sale(quantity=6_000), make_users(6_000)
    site = site_of(2)

    def stop_one() -> None:
        while store.snapshot(event.id).sequence < 1_000:
            time.sleep(0.002)  # bounded by the load's own end
        site.gates[0].process.terminate()

    with ThreadPoolExecutor(1) as thread:
        stopping = thread.submit(stop_one)
        load = fire(site.port, claims(event.id, tokens(users, "stop")), connections=50)
        stopping.result(10)
    assert site.gates[0].process.wait(20) == 0
    assert load.statuses == {202: 6_000}
    assert store.snapshot(event.id).sequence == 6_000
