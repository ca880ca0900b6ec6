"""PostgreSQL that hangs, restarts or ends our connections: a real one, stopped by SIGSTOP, and real web processes."""

import copy
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import IntegrityError, OperationalError, connection, transaction
from django.http import HttpResponse
from django.test import RequestFactory

from config.embedded import free_port
from config.middleware import DatabasePatienceMiddleware
from config.postgresql.base import DatabaseWrapper
from config.postgresql.connection import BoundedConnection, breaker, current_patience, patience
from coupons.locks import take_drain_lock
from events.redis.breaker import State
from tests.api_kit import token_of
from tests.concurrency.children import environment
from tests.factories import make_user
from tests.postgres import Postgres, slow_at_first, until
from tests.servers import ROOT

SOON = 5  # seconds: without a bound it is for ever, and the machine of the tests may be slow
COUPONS = "/api/v1/coupons"


def query(sql: str = "SELECT pg_backend_pid()") -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def within(setting: str, milliseconds: int, sql: str) -> None:
    """Ask within a transaction that has its own time-out."""
    with transaction.atomic():
        query(f"SELECT set_config('{setting}', '{milliseconds}', true)")
        query(sql)


def fill_the_pool(size: int) -> set[int]:
    """Have so many connections lie in the pool; their backends."""
    together = threading.Barrier(size, timeout=SOON)

    def use(_: int) -> int:
        backend: int = query()
        together.wait()
        connection.close()
        return backend

    with ThreadPoolExecutor(size) as threads:
        return set(threads.map(use, range(size)))


@pytest.fixture
def postgres(transactional_db: None) -> Iterator[Postgres]:
    """The run's server, for a test that leaves the breaker as it was."""
    yield Postgres(Path(query("SHOW data_directory")))
    connection.close()
    breaker.succeeded()


@pytest.fixture
def own(postgres: Postgres) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """A connection of a class, beside the pool's."""
    opened: list[psycopg.Connection[Any]] = []

    def connect(kind: type[psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
        opened.append(kind.connect(**connection.get_connection_params(), autocommit=True))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


# --- The web process --------------------------------------------------------------------------------------------------


def state_of(web: Any) -> dict[str, Any]:
    """What `/readyz` tells."""
    status, _, body = web.ask("GET", "/readyz")
    assert status == 200
    told: dict[str, Any] = json.loads(body)
    return told


def test_with_a_frozen_database_requests_are_refused_and_claims_go_on(postgres, server, sale):
    event, user = sale(), make_user()
    bearer = {"Authorization": f"Bearer {token_of(user)}"}
    web = server()
    assert web.ask("GET", COUPONS, **bearer)[0] == 200
    assert web.ask("GET", f"/api/v1/events/{event.id}/state")[0] == 200, "known from here on"

    with postgres.frozen():
        for _ in range(3):
            started = time.monotonic()
            status, headers, body = web.ask("GET", COUPONS, **bearer)
            assert (status, json.loads(body)["code"]) == (503, "unavailable")
            assert int(headers["Retry-After"]) >= 1
            assert time.monotonic() - started < SOON
        told = state_of(web)
        assert (told["status"], told["down"]) == ("degraded", ["postgresql"])
        assert told["breakers"]["postgresql"] != State.CLOSED

        # Thirty that waited would take 12 s on these two threads; one a second probes, the others are told at once.
        started = time.monotonic()
        with ThreadPoolExecutor(10) as threads:
            answers = list(threads.map(lambda _: web.ask("GET", COUPONS, **bearer)[0], range(30)))
        assert answers == [503] * 30
        assert time.monotonic() - started < SOON

        assert web.ask("POST", f"/api/v1/events/{event.id}/claims", **bearer)[0] == 202
        assert web.ask("GET", f"/events/{event.slug}")[0] == 503

    until(lambda: web.ask("GET", COUPONS, **bearer)[0] == 200)
    told = state_of(web)
    assert (told["status"], told["breakers"]["postgresql"]) == ("ok", State.CLOSED)


def test_after_an_outage_answers_come_again(postgres, server):
    bearer = {"Authorization": f"Bearer {token_of(make_user())}"}
    web = server()
    assert web.ask("GET", COUPONS, **bearer)[0] == 200
    connection.close()
    with postgres.stopped():
        for _ in range(4):
            assert web.ask("GET", COUPONS, **bearer)[0] == 503
        assert state_of(web)["down"] == ["postgresql"]
    until(lambda: web.ask("GET", COUPONS, **bearer)[0] == 200)
    assert state_of(web)["breakers"]["postgresql"] == State.CLOSED


# --- The bound --------------------------------------------------------------------------------------------------------


def asking(one: psycopg.Connection[Any]) -> threading.Thread:
    """A thread that asks it something, and ends with the answer or with the error."""

    def ask() -> None:
        with pytest.raises(psycopg.OperationalError, match="did not answer"), patience(0.2):
            one.execute("SELECT 1")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def test_a_bounded_connection_that_waits_too_long_is_closed_and_not_used_again(postgres, own):
    one = own(BoundedConnection)
    with postgres.frozen():
        thread = asking(one)
        thread.join(SOON)
        assert not thread.is_alive()
    assert one.closed
    with pytest.raises(psycopg.OperationalError):
        one.execute("SELECT 1")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is answered in the end
def test_without_the_bound_the_same_call_hangs(postgres, own):
    """The negative control: psycopg's own connection."""
    one = own(psycopg.Connection)
    with postgres.frozen():
        thread = asking(one)
        thread.join(1)  # five times as long as it was to have
        assert thread.is_alive()
    thread.join(SOON)
    assert not thread.is_alive()


def test_django_gets_an_operational_error_and_then_another_connection(postgres):
    before = query()
    with postgres.frozen(), patience(0.2), pytest.raises(OperationalError, match="did not answer"):
        query()
    connection.close()
    assert query() != before


def test_all_statements_of_a_request_share_its_patience(postgres):
    with patience(1):
        query("SELECT pg_sleep(0.6)")
        with pytest.raises(OperationalError, match="did not answer"):
            query("SELECT pg_sleep(0.6)")
        connection.close()
        with pytest.raises(OperationalError, match="used up"):
            query()
    query()


def test_a_statement_that_was_given_up_ends_in_the_server_too(postgres):
    query("SELECT set_config('statement_timeout', '0', false)")
    with patience(0.2), pytest.raises(OperationalError):
        query("SELECT pg_sleep(600)")
    connection.close()
    count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%(600)' AND {}"
    until(lambda: query(count.format("pid <> pg_backend_pid()")) == 0)


def test_the_admin_is_more_patient_than_customers_and_workers_more_than_daemon_threads(postgres):
    def patience_at(path: str) -> float:
        serve = DatabasePatienceMiddleware(lambda _: HttpResponse(str(current_patience().left)))
        return float(serve(RequestFactory().get(path)).content)

    longest = current_patience().left
    assert longest > settings.DATABASE_STATEMENT_TIMEOUT
    assert patience_at("/admin/events/event/") == longest
    assert patience_at("/api/v1/events") == patience_at("/") == settings.DATABASE_REQUEST_TIMEOUT < longest

    found: list[float] = []
    for daemon in (False, True):
        thread = threading.Thread(target=lambda: found.append(current_patience().left), daemon=daemon)
        thread.start()
        thread.join()
    assert found == [longest, settings.DATABASE_REQUEST_TIMEOUT]


# --- To be connected -------------------------------------------------------------------------------------------------


Connecting = Callable[[int], DatabaseWrapper]


@pytest.fixture
def through(postgres: Postgres) -> Iterator[Connecting]:
    """Django's connection to the same database through a port, with a pool of its own, in which nothing lies yet."""
    made: list[DatabaseWrapper] = []

    def make(port: int) -> DatabaseWrapper:
        elsewhere = copy.deepcopy(connection.settings_dict) | {"HOST": "127.0.0.1", "PORT": port}
        elsewhere["OPTIONS"].pop("host", None)
        made.append(DatabaseWrapper(elsewhere, alias=f"port {port}"))
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.close_pool()


def longer_than_a_request_waits(postgres: Postgres) -> AbstractContextManager[int]:
    params = connection.get_connection_params()
    return slow_at_first(f"{params['host']}/.s.PGSQL.{params['port']}", seconds=settings.DATABASE_REQUEST_TIMEOUT * 1.6)


def test_whoever_has_more_patience_than_a_request_waits_longer_to_be_connected(postgres, through):
    with longer_than_a_request_waits(postgres) as port:
        through(port).ensure_connection()
    assert breaker.failing_for() == 0


def test_a_request_gives_up_being_connected_when_its_time_is_over(postgres, through):
    """The negative control of the one above as well."""
    with longer_than_a_request_waits(postgres) as port:
        with patience(settings.DATABASE_REQUEST_TIMEOUT), pytest.raises(OperationalError, match="no connection to"):
            through(port).ensure_connection()
        assert breaker.failing_for() > 0


def test_nobody_spends_all_his_patience_on_a_server_that_is_not_there(postgres, through):
    with patience(30):
        with pytest.raises(OperationalError, match="no connection to"):
            through(free_port()).ensure_connection()
        assert current_patience().left > 0
    assert breaker.state() is State.OPEN


def test_unless_the_breaker_is_told_of_connections_refused(postgres, through):
    """The negative control."""
    untold = through(free_port())
    untold.settings_dict["OPTIONS"]["pool"]["reconnect_failed"] = None
    with patience(2):
        with pytest.raises(OperationalError, match="no connection to"):
            untold.ensure_connection()
        assert current_patience().left <= 0


# --- The breaker ------------------------------------------------------------------------------------------------------


def test_three_that_were_not_answered_open_it_however_many_connections_lie_in_the_pool(postgres):
    connection.close()
    fill_the_pool(4)
    with postgres.frozen():
        for _ in range(3):
            with patience(0.2), pytest.raises(OperationalError, match="did not answer"):
                query()
            connection.close()
        assert breaker.state() is State.OPEN


def test_while_the_breaker_is_open_no_connection_is_handed_out(postgres):
    connection.close()
    for _ in range(3):
        breaker.failed()
    with pytest.raises(OperationalError, match="is not asked"):
        query()
    until(lambda: answered("SELECT 1"))
    assert breaker.state() is State.CLOSED


def answered(sql: str) -> bool:
    try:
        query(sql)
    except OperationalError:
        return False
    return True


def test_what_the_server_refuses_is_an_answer(postgres):
    user = make_user()
    for _ in range(3):
        with pytest.raises(OperationalError, match="statement timeout"):
            within("statement_timeout", 10, "SELECT pg_sleep(60)")
        with pytest.raises(IntegrityError):
            make_user(username=user.username)
    assert breaker.failing_for() == 0


def test_a_lock_that_is_not_had_in_time_is_an_answer(postgres, own):
    own(BoundedConnection).execute("SELECT pg_advisory_lock(1)")
    for _ in range(3):
        with pytest.raises(OperationalError, match="lock timeout"):
            within("lock_timeout", 10, "SELECT pg_advisory_xact_lock(1)")
    assert breaker.failing_for() == 0


def test_the_probe_asks_the_server_and_nothing_that_may_take_long(postgres):
    """An operator who comes as the probe is not made to wait as long as operators are willing to."""
    connection.close()
    for _ in range(3):
        breaker.failed()
    errors: list[str] = []

    def refused() -> str:
        with pytest.raises(OperationalError) as refusal:
            query()
        errors.append(str(refusal.value))
        return errors[-1]

    started = time.monotonic()
    with postgres.frozen(), patience(30):
        until(lambda: "is not asked" not in refused())
    assert time.monotonic() - started < SOON
    assert "is not asked" in errors[0]
    assert breaker.state() is State.OPEN


def test_a_long_statement_that_comes_as_the_probe_is_not_cut_short(postgres):
    connection.close()
    for _ in range(3):
        breaker.failed()
    longer = settings.DATABASE_REQUEST_TIMEOUT + 0.5
    until(lambda: answered(f"SELECT pg_sleep({longer})"))


# --- Connections that the server ended --------------------------------------------------------------------------------


def test_after_a_restart_no_request_meets_a_connection_of_before(postgres):
    connection.close()
    before = fill_the_pool(4)
    postgres.restart()
    assert query() not in before
    assert not before & fill_the_pool(4)
    assert breaker.state() is State.CLOSED


def test_connections_that_were_terminated_in_the_pool_are_passed_over(postgres, own):
    connection.close()
    before = fill_the_pool(4)
    own(psycopg.Connection).execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s::int[]) pid", [list(before)])
    assert query() not in before
    assert breaker.failing_for() == 0


@pytest.mark.parametrize(
    "end",
    [
        "SELECT pg_terminate_backend(%s, 5000)",
        "SELECT pg_sleep(0.01) FROM pg_stat_activity WHERE pid = %s",  # until it was idle for too long
    ],
)
def test_a_transaction_that_the_server_ends_fails_once_and_may_be_tried_again(postgres, own, end):
    """Being idle for too long is an InternalError to psycopg, which no task would try again."""
    other = own(psycopg.Connection)
    transaction.set_autocommit(False)
    query("SELECT set_config('idle_in_transaction_session_timeout', '50', true)")
    backend = query()
    until(lambda: other.execute(end, [backend]).fetchone() in {None, (True,)})
    with pytest.raises(OperationalError, match="terminating connection"):
        query()
    connection.close()
    assert query() != backend


DRAINER = """
import django, sys, time
django.setup()
from django.db import transaction
from coupons.locks import take_drain_lock
with transaction.atomic():
    take_drain_lock(1)
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_drainer_that_is_stopped_in_its_transaction_frees_the_lock(postgres):
    command = [sys.executable, "-c", DRAINER]
    child = environment(DATABASE_IDLE_TIMEOUT="1")
    with subprocess.Popen(command, cwd=ROOT, env=child, stdout=subprocess.PIPE) as drainer:
        try:
            assert drainer.stdout is not None
            assert drainer.stdout.readline() == b"held\n"
            drainer.send_signal(signal.SIGSTOP)
            with transaction.atomic():
                take_drain_lock(1)  # or lock_timeout, after 15 s
        finally:
            drainer.kill()
