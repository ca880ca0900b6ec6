"""The two commands of the README, as their user runs them (installing is the Makefile's part)."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from config.embedded import free_port
from events.models import Event
from tests.concurrency.children import environment

ROOT = Path(__file__).resolve().parent.parent.parent
SERVERS = ("DATABASE_URL", "STOCK_REDIS_URL", "CACHE_URL", "BROKER_URL", "SECRET_KEY")
USERS, COUPONS = 300, 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of its own for the servers."""
    with place(tmp_path) as folder:
        yield folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Demo"]:
    """A demo that has ended, and its folder, where nothing had been before."""
    with place(tmp_path_factory.mktemp("first")) as folder:
        users, coupons = f"--users={USERS}", f"--coupons={COUPONS}"
        demo = launch(folder, "demo", "--once", f"--port={free_port()}", users, coupons)
        told, _ = demo.communicate(timeout=120)
        yield Demo(folder, demo.returncode, told, working_in(folder))


@dataclass(frozen=True)
class Demo:
    """One that has ended."""

    folder: Path
    status: int
    told: str
    left: list[psutil.Process]  # that still work in the folder


@contextmanager
def place(above: Path) -> Iterator[Path]:
    """A folder for servers; whoever still works in it afterwards is ended."""
    yield above / "local"
    for process in working_in(above / "local"):
        process.kill()


def working_in(folder: Path) -> list[psutil.Process]:
    """The processes whose command line or environment names the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            named = [*process.cmdline(), process.environ().get("SEONCHAK_DIR", "")]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(str(folder) in one for one in named):
            found.append(process)
    return found


def launch(folder: Path, what: str, *options: str, inside: str = "", **environment: str) -> subprocess.Popen[str]:
    """Start it, or a program `inside` which it is to be started."""
    own = {name: value for name, value in os.environ.items() if name not in SERVERS}
    command = [sys.executable, "-m", "config.launch", what, *options]
    return subprocess.Popen(
        [sys.executable, "-c", inside, *command] if inside else command,
        cwd=ROOT,
        env={**own, "SEONCHAK_DIR": str(folder), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], sign: str) -> str:
    assert process.stdout is not None
    text = ""
    while sign not in text:
        line = process.stdout.readline()
        assert line, f"it ended without saying {sign!r}:\n{text}"
        text += line
    return text


# A terminal: what comes in on its standard input is typed, what is shown goes to its standard output.
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
CTRL_C = "\x03"


def press(process: subprocess.Popen[str], key: str) -> None:
    assert process.stdin is not None
    process.stdin.write(key)
    process.stdin.flush()


def test_the_demo_keeps_its_promises_and_ends(first: Demo) -> None:
    assert first.status == 0, first.told
    assert f"VERDICT: kept — {COUPONS} of {COUPONS} issued, one each, in order, none lost" in first.told
    assert first.left == []


def test_the_next_demo_finds_its_data_and_has_others_queue_for_whoever_wants_to_join_them(first: Demo) -> None:
    folder, port = first.folder, str(free_port())
    demo = launch(folder, "demo", f"--port={port}", "--users=60", "--coupons=5", inside=TERMINAL)
    told = read_until(demo, "  customer ")
    assert "VERDICT: kept — 5 of 5 issued" in told
    slug = re.search(r"/events/(demo-room\S*) — 50 others wait there", told)
    assert slug
    api = f"http://localhost:{port}/api/v1"
    password = (folder / "demo-password").read_text()
    signed_in = requests.post(f"{api}/auth/token", json={"username": "customer", "password": password}, timeout=5)
    headers = {"Authorization": f"Bearer {signed_in.json()['access']}"}
    events = requests.get(f"{api}/events", timeout=5).json()["results"]
    assert [(one["phase"], one["quantity"]) for one in events].count(("sold_out", COUPONS)) == 1, "that of the first"
    (sale,) = (one for one in events if one["slug"] == slug[1])

    deadline = time.monotonic() + 20
    while requests.get(f"{api}/events/{sale['id']}/state", timeout=5).json()["queue"]["waiting"] < 20:
        assert time.monotonic() < deadline, (folder / "logs" / "queue.log").read_text()
        time.sleep(0.2)
    ticket = requests.post(f"{api}/events/{sale['id']}/queue", headers=headers, timeout=5).json()
    assert ticket["status"] == "waiting"
    assert ticket["ahead"] >= 10

    again, _ = launch(folder, "run", f"--port={free_port()}").communicate(timeout=60)
    assert re.fullmatch(r"\[ *[\d.]+ s\] ✘ .*running in this folder already\n", again)
    other, _ = launch(folder.parent / "local2", "run", f"--port={port}").communicate(timeout=60)
    assert f"port {port} is in use" in other
    assert other.count("\n") == 1
    assert_ends_when_told(demo, folder)


def test_servers_of_the_user_are_used_instead(folder: Path, sale: Callable[..., Event]) -> None:
    event, port = sale(), free_port()
    theirs = {name: value for name, value in environment().items() if name in SERVERS and name.endswith("_URL")}
    run = launch(folder, "run", f"--port={port}", **theirs)
    told = read_until(run, "until Ctrl-C")
    assert "using yours: DATABASE_URL, STOCK_REDIS_URL, CACHE_URL, BROKER_URL" in told
    assert not (folder / "servers").exists()
    state = requests.get(f"http://localhost:{port}/api/v1/events/{event.id}/state", timeout=5).json()
    assert (state["phase"], state["remaining"]) == ("open", event.quantity)
    run.terminate()
    run.communicate(timeout=60)
    assert run.returncode == 130
    assert working_in(folder) == []


@pytest.mark.parametrize("sign", ["Valkey starts", "migrations"])
def test_ctrl_c_typed_into_the_terminal_ends_a_start_too(folder: Path, sign: str) -> None:
    run = launch(folder, "run", "--port", str(free_port()), inside=TERMINAL)
    read_until(run, sign)
    assert_ends_when_told(run, folder)


def assert_ends_when_told(run: subprocess.Popen[str], folder: Path) -> None:
    """Ctrl-C typed into its terminal ends everything, and it says so."""
    press(run, CTRL_C)
    told, _ = run.communicate(timeout=60)
    assert "stopped; the data stays in local for the next start" in told
    assert "Traceback" not in told
    assert run.returncode == 130
    assert working_in(folder) == []
