"""`make run` and `make demo`: set everything up, start gate, workers and beat, and stop them all again.

    python -m config.launch run            serve until Ctrl-C
    python -m config.launch demo           the same, after a rush of 10,000 users on a sale of 100 coupons; some tens of
                                           others queue in a second sale, for whoever wants to join them
    python -m config.launch demo --once    stop after the verdict, with its exit status
    python -m config.launch compare …      no servers of ours but the embedded ones, and on them
                                           `manage.py compare_strategies …`, with its exit status

The gate serves all of it here, with Django behind it; in production `web` is a process of its own (deploy/README.md).
It runs before Django has settings: it makes them, and every process it starts gets them from the environment.
"""

import argparse
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from config.embedded import EmbeddedServers, is_free, push_key, secret_key

ROOT = Path(__file__).resolve().parent.parent
LOCAL = Path(os.environ.get("SEONCHAK_DIR") or ROOT / ".seonchak").resolve()
OTHERS_LOG = LOCAL / "logs" / "queue.log"
SERVER_SETTINGS = ("DATABASE_URL", "STOCK_REDIS_URL", "CACHE_URL", "BROKER_URL")
# A thread a channel, and more to fan out and to remind: one channel that hangs keeps none from the others.
NOTIFIER = ("--queues", "notifications", "--pool", "threads", "--concurrency", "8", "--hostname", "notifier@%h")
READY_WITHIN = 60  # seconds
STOP_WITHIN = 10  # seconds that a process has to end by itself

# The sale with a waiting room that a newcomer can join: so slow that one sees the line move, and has time to claim.
QUEUE = {"quantity": 500, "admission_rate": 1, "max_active": 10, "pass_ttl": 60, "grace": 30}
IN_LINE = 50  # others who are there at once
OTHERS = 600  # of them altogether: for about ten minutes


class CannotStart(Exception):  # noqa: N818 - one line for the user, no traceback
    """Something the user can mend stands in the way; the message says what."""


def main() -> int:
    """Parse the command line and run; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m config.launch")
    parser.add_argument("what", choices=["run", "demo", "compare"])
    parser.add_argument("--once", action="store_true", help="stop after the verdict of the rush")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT") or 8000))
    parser.add_argument("--users", type=int, default=int(os.environ.get("USERS") or 10_000))
    parser.add_argument("--coupons", type=int, default=int(os.environ.get("COUPONS") or 100))
    # Whatever is asked of a comparison is for its command to read.
    mine, options = (sys.argv[1:2], sys.argv[2:]) if sys.argv[1:2] == ["compare"] else (sys.argv[1:], [])
    arguments = parser.parse_args(mine)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return _compare(arguments.port, options) if arguments.what == "compare" else _launch(arguments)
    except CannotStart as reason:
        tell(f"✘ {reason}")
        return 2
    except KeyboardInterrupt:
        tell(f"stopped; the data stays in {LOCAL.name} for the next start")
        return 130


def _launch(arguments: argparse.Namespace) -> int:
    with ExitStack() as stack:
        stack.enter_context(_only_one())
        if not is_free(arguments.port):
            raise CannotStart(
                f"port {arguments.port} is in use: choose another, e.g. `make {arguments.what} PORT=8001`"
            )
        environment = _settings(stack, arguments.port)
        tell("migrations")
        _manage(environment, "migrate", "--verbosity", "0")
        password = _password()
        demo = None
        if arguments.what == "demo":
            tell(f"a sale of {arguments.coupons:,} coupons, {arguments.users:,} users")
            demo = _demo_data(environment, password, users=arguments.users, quantity=arguments.coupons)
        processes = _start_all(stack, environment, arguments.port)
        url = f"http://localhost:{arguments.port}"
        _wait_until_ready(url, processes)
        status = 0
        if demo:
            status = _rush(environment, demo, arguments, url)
        if arguments.once:
            return status
        if demo:
            queue = _demo_data(environment, password, "--waiting-room", users=arguments.users, **QUEUE)
            others = _have_others_queue(stack, environment, queue["event_id"], min(OTHERS, arguments.users), url)
            _say_where(url, password, demo, queue)
            _watch(processes, others)
        else:
            _say_where(url, password)
            _watch(processes)
    return status


def _compare(port: int, options: Sequence[str]) -> int:
    with ExitStack() as stack:
        stack.enter_context(_only_one())
        environment = _settings(stack, port)
        tell("migrations")
        _manage(environment, "migrate", "--verbosity", "0")
        tell("every way to hand out coupons, in turn: a few minutes")
        command = [sys.executable, "manage.py", "compare_strategies", *options]
        environment.setdefault("LOG_LEVEL", "ERROR")  # a line for each who came too late would be all that is seen
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode  # noqa: S603


def _settings(stack: ExitStack, port: int) -> dict[str, str]:
    """The environment of all processes: what the user set, else servers of our own."""
    environment = dict(os.environ)
    environment.setdefault("SECRET_KEY", secret_key(LOCAL))
    environment.setdefault("VAPID_PRIVATE_KEY", push_key(LOCAL))
    environment.setdefault("PUBLIC_URL", f"http://localhost:{port}")
    given = [name for name in SERVER_SETTINGS if environment.get(name)]
    if len(given) < len(SERVER_SETTINGS):
        servers = EmbeddedServers(LOCAL / "servers", tell=tell)
        stack.callback(servers.stop)
        for name, value in servers.start().items():
            environment[name] = environment.get(name) or value
    if given:
        tell(f"using yours: {', '.join(given)}")
    metrics = LOCAL / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)  # counts of processes that are gone
    metrics.mkdir(parents=True)
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    _write_env({name: environment[name] for name in ("SECRET_KEY", "PROMETHEUS_MULTIPROC_DIR", *SERVER_SETTINGS)})
    return environment


def _write_env(values: Mapping[str, str]) -> None:
    """Leave the settings where `manage.py` in another terminal finds them."""
    path = LOCAL / "env"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())


def _demo_data(environment: Mapping[str, str], password: str, *flags: str, **numbers: int) -> dict[str, object]:
    options = [f"--{name.replace('_', '-')}={number}" for name, number in numbers.items()]
    answer = _manage({**environment, "DEMO_PASSWORD": password}, "demo_data", "--json", *flags, *options, captured=True)
    data: dict[str, object] = json.loads(answer.strip().splitlines()[-1])
    return data


def _rush(environment: Mapping[str, str], demo: Mapping[str, object], arguments: argparse.Namespace, url: str) -> int:
    tell(f"the rush: {arguments.users:,} users, {arguments.coupons:,} coupons")
    command = [sys.executable, "manage.py", "rush", f"--event={demo['event_id']}", f"--users={arguments.users}"]
    command += [f"--duplicates={arguments.users // 10}", f"--url={url}", f"--json={LOCAL / 'rush.json'}"]
    return subprocess.run(command, cwd=ROOT, env=dict(environment), check=False).returncode  # noqa: S603


def _have_others_queue(
    stack: ExitStack, environment: Mapping[str, str], event_id: object, users: int, url: str
) -> subprocess.Popen[bytes]:
    """Let others queue for a sale, some tens at a time; what they say of it is in the logs."""
    command = [sys.executable, "manage.py", "rush", "--waiting-room", "--guests", f"--event={event_id}"]
    command += [f"--users={users}", f"--in-line={IN_LINE}", f"--url={url}"]
    with OTHERS_LOG.open("wb") as log, _held_back():
        others = subprocess.Popen(  # noqa: S603
            command, cwd=ROOT, env=dict(environment), stdout=log, stderr=log, start_new_session=True
        )
        stack.callback(_stop_all, {"others": others})
    return others


def _start_all(stack: ExitStack, environment: Mapping[str, str], port: int) -> dict[str, subprocess.Popen[bytes]]:
    python = sys.executable
    celery = [python, "-m", "celery", "-A", "config"]
    commands = {
        "gate": [python, "-m", "config.serve", "gate", "--port", str(port)],
        "worker": [*celery, "worker", "--concurrency", "1", "--loglevel", "WARNING", "--without-mingle"],
        "notifier": [*celery, "worker", *NOTIFIER, "--loglevel", "WARNING", "--without-mingle"],
        "beat": [*celery, "beat", "--loglevel", "WARNING"],
    }
    tell("gate, worker, notifier and beat")
    logs = LOCAL / "logs"
    logs.mkdir(exist_ok=True)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    stack.callback(_stop_all, processes)
    for name, command in commands.items():
        with (logs / f"{name}.log").open("ab") as log, _held_back():
            # A session of its own: Ctrl-C reaches this process only, and this one ends the others in order.
            processes[name] = subprocess.Popen(  # noqa: S603
                command, cwd=ROOT, env=dict(environment), stdout=log, stderr=log, start_new_session=True
            )
    return processes


def _stop_all(processes: Mapping[str, subprocess.Popen[Any]]) -> None:
    for process in processes.values():
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + STOP_WITHIN
    for process in processes.values():
        try:
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(url: str, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while True:
        _raise_if_gone(processes)
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):  # noqa: S310 - our own http URL
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise CannotStart(f"{url}/readyz is not ready ({error}): see {LOCAL.name}/logs") from error
            time.sleep(0.1)


def _watch(processes: Mapping[str, subprocess.Popen[bytes]], others: subprocess.Popen[bytes] | None = None) -> None:
    """Wait for Ctrl-C, or for a process to end that should not; tell how it went for the `others` in the queue."""
    while True:
        _raise_if_gone(processes)
        if others and others.poll() is not None:
            last = OTHERS_LOG.read_text(errors="replace").strip().splitlines()[-1:]
            tell("the others in the queue are through: " + "".join(last))
            others = None
        time.sleep(0.5)


def _raise_if_gone(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            last = (LOCAL / "logs" / f"{name}.log").read_text(errors="replace").strip().splitlines()[-5:]
            told = "\n".join(["", *last])
            raise CannotStart(f"{name} ended with status {process.returncode}: {LOCAL.name}/logs/{name}.log says{told}")


def _manage(environment: Mapping[str, str], *arguments: str, captured: bool = False) -> str:
    with ExitStack() as stack:
        with _held_back():
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env=dict(environment),
                stdout=subprocess.PIPE if captured else None,
                text=True,
                start_new_session=True,  # or Ctrl-C would reach it too, and Python say where
            )
            stack.callback(_stop_all, {arguments[0]: process})
        output, _ = process.communicate()
    if process.returncode:
        raise CannotStart(f"manage.py {arguments[0]} failed")
    return output or ""


@contextmanager
def _held_back() -> Iterator[None]:
    """Have Ctrl-C wait for the end of the block, in which a process is started: nobody would know of it, nor end it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    held: list[int] = []
    before = [signal.signal(number, lambda number, _: held.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if held:
        raise KeyboardInterrupt


def _password() -> str:
    """The password of the demo accounts, made once for this folder."""
    path = LOCAL / "demo-password"
    if not path.exists():
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(9))
    return path.read_text()


def _say_where(
    url: str, password: str, demo: Mapping[str, object] | None = None, queue: Mapping[str, object] | None = None
) -> None:
    lines = ["", f"Seonchak serves at {url} until Ctrl-C", f"  API docs   {url}/api/docs", f"  admin      {url}/admin/"]
    if demo and queue:
        lines += [
            f"  the sale   {url}/events/{demo['slug']}",
            f"  a queue    {url}/events/{queue['slug']} — {IN_LINE} others wait there: sign in, and join them",
            f"  operator   {demo['operator']} / {password}",
            f"  customer   {demo['customer']} / {password}",
        ]
    else:
        lines.append("  no account yet? `make demo` makes some, or: .venv/bin/python manage.py createsuperuser")
    print("\n".join(lines), flush=True)  # noqa: T201


@contextmanager
def _only_one() -> Iterator[None]:
    """Hold the folder: two starts would fight over the same servers."""
    LOCAL.mkdir(parents=True, exist_ok=True)
    with (LOCAL / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStart("`make run` or `make demo` is running in this folder already") from None
        yield


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
    raise KeyboardInterrupt


_started = time.monotonic()


def tell(message: str) -> None:
    """One line of progress, with the seconds since the start."""
    print(f"[{time.monotonic() - _started:6.1f} s] {message}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
