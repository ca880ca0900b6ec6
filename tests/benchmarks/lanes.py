"""The lanes that are measured beside each other: ours, the textbook's, and the ceilings."""

import math
import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import jwt
import psutil
from django.conf import settings
from django.utils import timezone

from config.embedded import free_port
from config.serve import let_threads_finish
from events.models import Event
from tests.benchmarks.host import UNDISTURBED, Host, stolen_since
from tests.benchmarks.kit import OTHER_CORE, SERVER_CORE, Spawn
from tests.benchmarks.load import Load, fire

STARTS_WITHIN = 30.0  # seconds
COUNT = 1 / 3  # of the rounds: those in which the cores were quickest
CONNECTIONS = 512  # with fewer the gate waits for its callers, who share a core with Redis

HOST = Host([core for core in (SERVER_CORE, OTHER_CORE) if core < (os.cpu_count() or 1)])

WSGI = ("--interface", "wsgi", "--blocking-threads", "4")
ASGI = ("--interface", "asgi", "--loop", "uvloop")


@dataclass(frozen=True, slots=True)
class Lane:
    """A way to serve, as granian is started for it."""

    name: str
    application: str
    options: tuple[str, ...]
    settings: str = "config.settings"


GATE = Lane("gate", "config.asgi:application", ASGI)
WEB = Lane("DRF", "config.wsgi:application", WSGI)
TEXTBOOK = Lane("textbook", "config.wsgi:application", WSGI, "tests.benchmarks.textbook_settings")
ASGI_NOOP = Lane("ASGI no-op", "tests.benchmarks.noop:asgi", ASGI)
DJANGO_NOOP = Lane("Django no-op", "config.wsgi:application", WSGI, "tests.benchmarks.noop_settings")


@dataclass
class Measured:
    """A load, and what it cost whom. CPU in microseconds a request; shares are of one core."""

    load: Load
    server_cpu: float
    redis_cpu: float
    server_busy: float
    other_busy: float  # the core of load and Redis: below 1, or they were the limit
    stolen: float  # of all cores: what the host gave to its other guests meanwhile
    work: float  # seconds of the host's work, just before or just after, whichever took longer

    @property
    def is_undisturbed(self) -> bool:
        """Whether the host left the cores to us."""
        return self.stolen <= UNDISTURBED

    def was_answered(self, statuses: set[int]) -> bool:
        """Whether all were, and none otherwise than so."""
        return set(self.load.statuses) <= statuses


@dataclass
class Running:
    """A lane that serves."""

    lane: Lane
    port: int
    process: subprocess.Popen[bytes]
    redis: int  # its process

    def measure(self, requests: list[bytes], *, connections: int, rate: float | None = None) -> Measured:
        """Send the requests. What it costs to make the connections does not count."""
        used: list[tuple[float, float]] = []

        def look() -> None:
            used.append((cpu_seconds(self.process.pid), cpu_seconds(self.redis)))

        work, before = HOST.seconds_of_work(), psutil.cpu_times()
        load = fire(self.port, requests, connections=connections, rate=rate, at_the_start=look, at_the_end=look)
        stolen, work = stolen_since(before), max(work, HOST.seconds_of_work())
        server, redis = (after - before for before, after in zip(*used, strict=True))
        return Measured(
            load,
            server / len(requests) * 1e6,
            redis / len(requests) * 1e6,
            server / load.seconds,
            (redis + load.cpu) / load.seconds,
            stolen,
            work,
        )

    def memory(self) -> float:
        """Resident memory of the process that serves, in MiB."""
        return float(max(each.memory_info().rss for each in family(self.process.pid)) / 2**20)


def start(lane: Lane, spawn: Spawn, *, redis: int, **environment: str) -> Running:
    """Start a lane on the server's core, as `config.serve` would, and wait until it listens."""
    port = free_port()
    process = spawn(
        *("granian", lane.application, *lane.options, "--no-log", "--backlog", "16384", "--port", str(port)),
        cores={SERVER_CORE},
        DJANGO_SETTINGS_MODULE=lane.settings,
        **environment,
    )
    let_threads_finish(process.pid)
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"{lane.name} did not start"
            time.sleep(0.05)
        else:
            return Running(lane, port, process, redis)


def that_count(rounds: Sequence[Measured], statuses: set[int]) -> Sequence[Measured]:
    """Of the rounds in which all were answered so the third that the host disturbed least.

    Which those are is told by what it took away, and how long the same work took beside them; not by what they brought.
    Raises `AssertionError` where less than half of the rounds were answered so.
    """
    answered = [one for one in rounds if one.was_answered(statuses)]
    assert 2 * len(answered) >= len(rounds), [one.load.statuses for one in rounds]
    by_disturbance = sorted(answered, key=lambda one: (not one.is_undisturbed, one.work))
    return by_disturbance[: math.ceil(len(answered) * COUNT)]


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """What a process and all that it started have used."""
    times = [each.cpu_times() for each in family(pid)]
    return float(sum(each.user + each.system for each in times))


def tokens(users: Sequence[int], name: str) -> list[str]:
    """A token of each user that was never sent before."""
    key, algorithm = settings.SIMPLE_JWT["SIGNING_KEY"], settings.SIMPLE_JWT["ALGORITHM"]
    fields = {"token_type": "access", "exp": int(time.time()) + 3600, "iat": int(time.time())}
    return [
        jwt.encode({**fields, "jti": f"{name}-{user}", "user_id": str(user)}, key, algorithm=algorithm)
        for user in users
    ]


def claims_of_a_new_sale(one: Running, sale: Callable[..., Event], users: Sequence[int], name: str) -> list[bytes]:
    """A claim of each user, all of which can be accepted; the lane knows the sale, as it does before a rush."""
    _end_all_sales()
    event = sale(quantity=len(users))
    fire(one.port, states(event.id, 1), connections=1)
    return claims(event.id, tokens(users, name + one.lane.name))


def _end_all_sales() -> None:
    """Days ago, so that no process reads them again and again beside the one that is measured."""
    now = timezone.now()
    Event.objects.update(opens_at=now - timedelta(days=3), closes_at=now - timedelta(days=2))


def claims(event_id: int, tokens: list[str], **headers: str) -> list[bytes]:
    """A claim request of each token."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return [
        f"POST /api/v1/events/{event_id}/claims HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"{more}Content-Length: 0\r\n\r\n".encode()
        for token in tokens
    ]


def states(event_id: int, number: int) -> list[bytes]:
    """So many requests for the state."""
    return [f"GET /api/v1/events/{event_id}/state HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()] * number
