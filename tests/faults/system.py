"""The whole product as real processes on the database of the tests, made to be broken.

Web, worker and beat reach PostgreSQL, the stock and the broker through proxies: one set for web, another for worker
and beat, so that one of them can lose a server that the other still has. The tests themselves go past the proxies.
"""

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from django.contrib.auth import get_user_model
from rest_framework_simplejwt.tokens import AccessToken

from config.embedded import free_port
from coupons.rush.client import Customer
from events.redis import servers
from events.tokens import FIRST_LANE, LAST_LANE
from tests.concurrency.children import environment
from tests.factories import make_users
from tests.faults.parts import Part, PostgreSQL, Process, Valkey
from tests.faults.proxy import Proxies, Proxy, Target
from tests.topologies import Topology

SIDES = ("web", "worker")  # whose lines to the servers these are; beat's are the worker's
TOLD = 60  # lines of each log that are shown, the last ones
WIDTH = 400  # of each of them
FIRST_OF = 50  # of so many users one is of the first lane of waiting rooms
# What granian is told of the lane that is the system's `web`.
LANES = {
    "web": ["config.wsgi:application", "--interface", "wsgi", "--blocking-threads", "4"],
    "gate": ["config.asgi:application", "--interface", "asgi"],
}


class System:
    """A context manager: started once, broken and healed many times, always ended.

    The parts are `web`, `worker`, `beat`, `postgresql`, `stock`, `cache` and `broker`. `web` is the process that
    answers, of whichever lane. Given a topology, that is the stock: without proxies, started and ended by who gave it,
    and no part.
    """

    def __init__(self, folder: Path, *, topology: Topology | None = None, lane: str = "web") -> None:
        self.folder = folder
        self.lane = lane
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._topology = topology
        self._stock = None if topology else Valkey(_made(folder / "stock"))
        self.cache, self.broker = (Valkey(_made(folder / name)) for name in ("cache", "broker"))
        self.postgresql = PostgreSQL()
        self._servers: dict[str, Part] = {
            "postgresql": self.postgresql,
            **({"stock": self._stock} if self._stock else {}),
            "cache": self.cache,
            "broker": self.broker,
        }
        self._processes: dict[str, Process] = {}
        self._lines: dict[tuple[str, str], Proxy] = {}
        self._stack = ExitStack()
        self._customers: list[Customer] = []

    def __enter__(self) -> "System":
        with ExitStack() as stack:
            for server in (self._stock, self.cache, self.broker):
                if server is not None:
                    server.start()
                    stack.callback(server.end)
            stack.callback(self.postgresql.end)
            proxies = stack.enter_context(Proxies())
            targets: dict[str, Target] = {
                "postgresql": self.postgresql.socket,
                "broker": ("127.0.0.1", self.broker.port),
            }
            if self._stock is not None:
                targets["stock"] = ("127.0.0.1", self._stock.port)
            self._lines = {(side, name): proxies.open(target) for side in SIDES for name, target in targets.items()}
            self._processes = self._made_processes()
            for process in self._processes.values():
                stack.callback(process.end)
                process.start()
            for process in self._processes.values():
                process.wait()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def stock(self) -> Valkey:
        """The one server of the stock."""
        assert self._stock is not None, "the stock is a topology"
        return self._stock

    @property
    def topology(self) -> Topology:
        """The servers of the stock."""
        assert self._topology is not None, "the stock is one server"
        return self._topology

    @property
    def stock_url(self) -> str:
        """Where the stock is, past all proxies."""
        return self._topology.url if self._topology else self.stock.url

    def part(self, name: str) -> Part:
        """Any part, by its name."""
        return self._servers.get(name) or self.process(name)

    def process(self, name: str) -> Process:
        """A process of ours: web, worker or beat."""
        return self._processes[name]

    def kill(self, name: str) -> None:
        """`kill -9`."""
        self.part(name).kill()

    def stop(self, name: str) -> None:
        """SIGSTOP."""
        self.part(name).stop()

    def cont(self, name: str) -> None:
        """SIGCONT."""
        self.part(name).cont()

    def restart(self, name: str) -> None:
        """Start it again, ended or not."""
        self.part(name).restart()

    def lines(self, server: str, *sides: str) -> list[Proxy]:
        """The proxies in front of a server: those of the sides named, or all."""
        return [self._lines[side, server] for side in sides or SIDES]

    def heal(self) -> list[str]:
        """Bring everything back and wait until it is ready; which parts had ended."""
        for line in self._lines.values():
            line.pass_on()
        if self._topology is not None:
            self._topology.heal()
            # The connections of the tests may be to a primary that is none any more.
            servers._kept.clear()
        ended = [name for name, server in self._servers.items() if server.heal()]
        return ended + [name for name, process in self._processes.items() if process.heal()]

    def customers(self, number: int) -> list[Customer]:
        """So many users, signed in; made where they are not there yet. Those who are known cost no query."""
        if len(self._customers) >= number:
            return self._customers[:number]
        users = get_user_model().objects.filter(is_active=True, is_staff=False).order_by("pk")
        if (missing := number - users.count()) > 0:
            make_users(missing)
        lanes = [FIRST_LANE if place % FIRST_OF == 0 else LAST_LANE for place in range(number)]
        self._customers = [_signed_in(user, lane) for user, lane in zip(users[:number], lanes, strict=True)]
        return self._customers

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Show what the processes wrote meanwhile, where it ends badly."""
        since = {path: path.stat().st_size for path in self._logs()}
        try:
            yield
        except BaseException:
            print(self._told(since))
            raise

    def _told(self, since: Mapping[Path, int]) -> str:
        parts = []
        for path in self._logs():
            text = path.read_bytes()[since.get(path, 0) :].decode(errors="replace")
            lines = [line[:WIDTH] for line in text.splitlines()[-TOLD:]]
            parts.append("\n".join([f"--- {path.name}", *lines]))
        return "\n".join(parts)

    def _logs(self) -> list[Path]:
        return sorted(self.folder.glob("*.log"))

    def _made_processes(self) -> dict[str, Process]:
        python, celery = [sys.executable, "-m"], [sys.executable, "-m", "celery", "-A", "config"]
        quiet = ["--loglevel", "WARNING"]
        web = [*python, "granian", *LANES[self.lane], "--host", "127.0.0.1", "--port", str(self.port)]
        web += ["--workers", "1", "--backlog", "4096", "--no-log"]
        worker = [*celery, "worker", *quiet, "--concurrency", "2", "--without-mingle", "--without-gossip"]
        beat = [*celery, "beat", *quiet]
        return {
            "web": self._process("web", "web", web),
            "worker": self._process("worker", "worker", worker),
            "beat": self._process("beat", "worker", beat),
        }

    def _process(self, name: str, side: str, command: list[str]) -> Process:
        ready = {
            "web": self._web_answers,
            "worker": self._worker_waits,
            "beat": lambda: self._processes["beat"].running,
        }
        port = {server: line.port for (whose, server), line in self._lines.items() if whose == side}
        options = f"application_name={name}&sslmode=disable&gssencmode=disable"
        return Process(
            name,
            command,
            folder=self.folder,
            ready=ready[name],
            environment=environment(
                DATABASE_URL=f"postgresql://postgres@127.0.0.1:{port['postgresql']}/{self.postgresql.database}?{options}",
                STOCK_REDIS_URL=self._topology.url if self._topology else f"redis://127.0.0.1:{port['stock']}/0",
                BROKER_URL=f"redis://127.0.0.1:{port['broker']}/0",
                CACHE_URL=self.cache.url,
                BEAT_SCHEDULE_FILE=str(self.folder / "beat-schedule"),
            ),
        )

    def _web_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/livez", timeout=5):  # noqa: S310 - our own URL
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _worker_waits(self) -> bool:
        """Whether it has asked the broker for messages: only then has it come up."""
        with self.broker.client() as client:
            return any(one["cmd"] == "brpop" for one in client.client_list())


def _signed_in(user: Any, lane: int) -> Customer:
    token = AccessToken.for_user(user)
    token["lane"] = lane
    return Customer(user.pk, str(token), lane)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
