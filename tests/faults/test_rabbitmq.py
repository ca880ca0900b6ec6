"""RabbitMQ as the broker, by its URL alone: a real one, where `rabbitmq-server` is installed."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kombu.connection import Connection

from config.embedded import free_port
from coupons.stock.store import StockStore
from events.models import Event
from tests.celery_kit import Processes, drained
from tests.factories import make_users
from tests.sales import assert_sold_out_exactly

if TYPE_CHECKING:
    from tests.web import Server

Sale = Callable[..., Event]


# Debian's command of that name asks for a user of its own and its own folders; the real one is beside it.
PATH = os.pathsep.join(["/usr/lib/rabbitmq/bin", os.environ["PATH"]])
PROGRAM = shutil.which("rabbitmq-server", path=PATH)
EPMD = shutil.which("epmd", path=PATH)
STARTS_WITHIN = 60  # seconds

pytestmark = [
    pytest.mark.faults,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not (PROGRAM and EPMD), reason="no rabbitmq-server on the PATH: RabbitMQ is not tested here"),
]


class RabbitMQ:
    """A node of its own below `folder`, on the loopback address alone, and the ways to lose it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port, distribution, names = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"
        self._environment = {
            "PATH": PATH,
            "HOME": str(folder),  # of Erlang's cookie
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(names),
            "RABBITMQ_NODENAME": f"seonchak{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        }
        # Erlang's register of names: a node that finds none starts one, which outlives it.
        self._names = self._run(str(EPMD), "-address", "127.0.0.1", "-port", str(names))
        self._node = self._run(str(PROGRAM))

    @contextmanager
    def hung(self) -> Iterator[None]:
        """It takes connections and never answers."""
        os.killpg(self._node.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._node.pid, signal.SIGCONT)

    @contextmanager
    def down(self) -> Iterator[None]:
        """It is killed, and started again."""
        self._kill(self._node)
        yield
        self._node = self._run(str(PROGRAM))
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + STARTS_WITHIN
        while not self._answers():
            assert self._node.poll() is None, self._told()
            assert time.monotonic() < deadline, self._told()
            time.sleep(0.1)

    def end(self) -> None:
        """Kill the node and its register."""
        self._kill(self._node)
        self._kill(self._names)

    def _answers(self) -> bool:
        with Connection(self.url, connect_timeout=1) as connection:
            try:
                connection.connect()
            except connection.connection_errors:
                return False
            return True

    def _run(self, *command: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "out").open("ab") as out:
            return subprocess.Popen(
                command, env=self._environment, cwd=self.folder, stdout=out, stderr=out, start_new_session=True
            )

    @staticmethod
    def _kill(process: "subprocess.Popen[bytes]") -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def _told(self) -> str:
        return (self.folder / "out").read_text()


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    node = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        node.wait()
        yield node
    finally:
        node.end()


@pytest.fixture
def processes(transactional_db: None, rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path, BROKER_URL=rabbitmq.url)
    yield started
    started.end()


@pytest.fixture(params=["hung", "down"])
def fault(request: pytest.FixtureRequest, rabbitmq: RabbitMQ) -> AbstractContextManager[None]:
    """The broker, lost in one of the ways, for as long as the context lasts."""
    lost: AbstractContextManager[None] = getattr(rabbitmq, request.param)()
    return lost


@pytest.fixture
def web(rabbitmq: RabbitMQ, server: Callable[..., "Server"]) -> "Server":
    return server(BROKER_URL=rabbitmq.url)


def test_a_sale_is_issued_by_nudges_and_by_the_sweep(
    sale: Sale, store: StockStore, processes: Processes, web: "Server"
) -> None:
    event, users = sale(quantity=101), make_users(101)
    processes.start("worker")
    assert web.claim_all(event, users[:1]) == {202}
    processes.until(drained(event, store, 1))  # by the nudge alone: beat does not run yet
    processes.start("beat")
    assert web.claim_all(event, users[1:]) == {202}
    processes.until(drained(event, store, 101))
    assert_sold_out_exactly(store, event)


def test_claims_go_on_and_the_sweep_issues_all_once_it_is_back(
    sale: Sale, store: StockStore, processes: Processes, web: "Server", fault: AbstractContextManager[None]
) -> None:
    event, users = sale(quantity=300), make_users(300)
    processes.start("worker")
    processes.start("beat")
    assert web.claim_all(event, users[:100]) == {202}
    processes.until(drained(event, store, 100))
    with fault:
        assert web.claim_all(event, users[100:]) == {202}
        os.killpg(web.process.pid, signal.SIGKILL)  # and with it the nudges that it might still have sent
    processes.until(drained(event, store, 300))
    assert_sold_out_exactly(store, event)
