"""The system that is to be broken: each part can be, is seen to be, and comes back."""

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.faults.parts import until
from tests.faults.system import System

pytestmark = pytest.mark.faults


def answers(system: System) -> bool:
    try:
        with urllib.request.urlopen(f"{system.url}/livez", timeout=1):  # noqa: S310 - our own URL
            return True
    except (urllib.error.URLError, OSError):
        return False


def missed_by_web(system: System) -> list[str]:
    """The servers that web cannot reach."""
    with urllib.request.urlopen(f"{system.url}/readyz", timeout=10) as answer:  # noqa: S310 - our own URL
        return list(json.load(answer)["down"])


def postgresql_answers(system: System) -> bool:
    """A connection that waits for a frozen server waits for a bounded time."""
    try:
        with system.postgresql.connect():
            return True
    except psycopg.OperationalError:
        return False


def stock_answers(system: System) -> bool:
    try:
        with Redis.from_url(system.stock.url, socket_timeout=0.5) as client:
            return bool(client.ping())
    except RedisError:
        return False


@pytest.mark.parametrize(("how", "back"), [("kill", "restart"), ("stop", "cont")])
@pytest.mark.parametrize(
    ("name", "works"), [("web", answers), ("postgresql", postgresql_answers), ("stock", stock_answers)]
)
def test_a_part_can_be_killed_and_frozen_and_brought_back(system: System, name, works, how, back) -> None:
    assert works(system)
    getattr(system, how)(name)
    assert not works(system)
    if (name, back) == ("postgresql", "restart"):
        system.postgresql.start()
    else:
        getattr(system, back)(name)
    until(lambda: works(system), f"{name} works again")


def test_a_frozen_postgresql_freezes_its_backends_too(system: System) -> None:
    with system.postgresql.connect() as before:
        asking = threading.Thread(target=before.execute, args=("SELECT 1",))
        system.stop("postgresql")
        asking.start()
        asking.join(0.5)
        assert asking.is_alive(), "its backend is frozen with it"
        system.cont("postgresql")
        asking.join(10)
        assert not asking.is_alive()


def test_healing_brings_everything_back_and_says_what_had_ended(system: System) -> None:
    for name in ("web", "worker", "stock", "postgresql"):
        system.kill(name)
    for name in ("beat", "cache"):
        system.stop(name)
    for line in system.lines("broker"):
        line.black_hole()
    assert sorted(system.heal()) == ["postgresql", "stock", "web", "worker"]
    until(lambda: missed_by_web(system) == [], "web has all its servers")
    assert system.heal() == []


def test_the_child_of_a_worker_can_be_killed_alone(system: System) -> None:
    system.process("worker").kill_child(0)
    assert system.process("worker").running


def test_a_line_can_be_cut_for_web_alone(system: System) -> None:
    (line,) = system.lines("stock", "web")
    line.refuse()
    assert stock_answers(system)
    until(lambda: missed_by_web(system) == ["stock"], "web has lost the stock", seconds=10)
    line.pass_on()
    until(lambda: missed_by_web(system) == [], "web has the stock again", seconds=30)


def test_the_users_are_made_once(system: System) -> None:
    first = system.customers(20)
    assert [one.user_id for one in system.customers(10)] == [one.user_id for one in first[:10]]


def fail_after_a_line(system: System, log: Path) -> None:
    with system.telling():
        with log.open("a") as file:
            file.write("after\n")
        raise RuntimeError


def test_what_a_log_says_meanwhile_is_shown_where_it_ends_badly(system: System, capsys) -> None:
    log = system.process("web").log
    with log.open("a") as file:
        file.write("before\n")
    with pytest.raises(RuntimeError):
        fail_after_a_line(system, log)
    told = capsys.readouterr().out
    assert "after" in told
    assert "before" not in told
    with system.telling():
        pass
    assert capsys.readouterr().out == ""
