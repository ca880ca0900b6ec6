"""The faults. Each is a function of a scene: what comes before its `yield` breaks something, what comes after heals it.

To add one, write it and name it:

    @fault("the stock is flushed", part="stock")
    def stock_flushed(scene: Scene) -> Iterator[None]:
        with scene.system.stock.client() as client:
            client.flushall()
        yield

`lasts` is how many seconds lie between the two, from … to; the seed chooses. Faults that come at once break different
parts. Where nobody can answer quickly (`quick=False`: the web process itself is away, or every answer takes its time
and is a good one), P8 is not asked for.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import psycopg
from django.db import Error as DatabaseError
from django.db import connection
from redis import Redis
from redis.exceptions import RedisError

from coupons.rush.client import Crowd
from coupons.stock import keys
from events import services
from events.errors import Unavailable
from events.models import Event
from tests.faults.proxy import Proxy
from tests.faults.system import System

Breaking = Callable[..., Iterator[None]]
PERSISTENCE = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault is given: the system, the sale that is under way in it, who came, and what the seed chooses by."""

    system: System
    event_id: int
    crowd: Crowd
    random: Random


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and how long it lasts, in seconds."""

    name: str
    part: str
    breaking: Callable[[Scene], AbstractContextManager[None]]
    lasts: tuple[float, float]
    quick: bool


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, *, part: str, lasts: tuple[float, float] = (1.0, 2.5), quick: bool = True, **options: Any
) -> Callable[[Breaking], Breaking]:
    """Add a fault; `options` are passed on to the function, so that one can serve several."""

    def add(function: Breaking) -> Breaking:
        assert name not in FAULTS
        breaking: Callable[[Scene], AbstractContextManager[None]] = contextmanager(partial(function, **options))
        FAULTS[name] = Fault(name, part, breaking, lasts, quick)
        return function

    return add


@contextmanager
def repeatedly(act: Callable[[], object], *, every: float) -> Iterator[None]:
    """Do it again and again in a thread. A server that does not take it at the moment is asked the next time."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every):
            with suppress(RedisError, psycopg.OperationalError):
                act()

    thread = threading.Thread(target=run, name="fault")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def persistently(act: Callable[[], object]) -> None:
    """Do it, and try again where another fault of the same round has taken away what it needs."""
    deadline = time.monotonic() + PERSISTENCE
    while True:
        try:
            act()
        except (RedisError, DatabaseError, Unavailable):
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


# Processes of ours ----------------------------------------------------------------------------------------------------


@fault("web killed (-9)", part="web", victim="web", quick=False)
@fault("worker killed (-9)", part="worker", victim="worker")
@fault("beat killed (-9)", part="beat", victim="beat")
@fault("stock killed (-9), back with its file", part="stock", victim="stock")
@fault("broker killed (-9)", part="broker", victim="broker")
def killed(scene: Scene, *, victim: str) -> Iterator[None]:
    scene.system.kill(victim)
    yield
    scene.system.restart(victim)


@fault("web frozen", part="web", victim="web", quick=False)
@fault("worker frozen", part="worker", victim="worker")
@fault("beat frozen", part="beat", victim="beat")
@fault("PostgreSQL frozen", part="postgresql", victim="postgresql", lasts=(2.0, 3.5))
@fault("stock frozen", part="stock", victim="stock", lasts=(3.0, 3.0))
@fault("broker frozen", part="broker", victim="broker", lasts=(2.0, 3.5))
def frozen(scene: Scene, *, victim: str) -> Iterator[None]:
    """SIGSTOP."""
    scene.system.stop(victim)
    yield
    scene.system.cont(victim)


@fault("worker's children killed, one after the other", part="worker")
def children_killed(scene: Scene) -> Iterator[None]:
    worker, random = scene.system.process("worker"), scene.random
    with repeatedly(lambda: worker.kill_child(random.randrange(2)), every=0.3):
        yield


# Lines between processes and servers ----------------------------------------------------------------------------------


@fault("stock reset", part="stock", server="stock", order=Proxy.reset)
@fault("stock black-holed", part="stock", server="stock", order=Proxy.black_hole)
@fault("stock's answers dropped", part="stock", server="stock", order=Proxy.drop_replies)
@fault("stock half-open", part="stock", server="stock", order=Proxy.half_open)
@fault("stock refused", part="stock", server="stock", order=Proxy.refuse)
@fault("broker reset", part="broker", server="broker", order=Proxy.reset)
@fault("broker black-holed", part="broker", server="broker", order=Proxy.black_hole)
@fault("broker half-open", part="broker", server="broker", order=Proxy.half_open)
@fault("PostgreSQL reset", part="postgresql", server="postgresql", order=Proxy.reset)
@fault("PostgreSQL black-holed", part="postgresql", server="postgresql", order=Proxy.black_hole)
@fault("PostgreSQL's answers dropped", part="postgresql", server="postgresql", order=Proxy.drop_replies)
def cut(scene: Scene, *, server: str, order: Callable[[Proxy], None]) -> Iterator[None]:
    lines = scene.system.lines(server)
    for line in lines:
        order(line)
    yield
    for line in lines:
        line.pass_on()


@fault("stock late by 60 ms", part="stock", server="stock", seconds=0.03, quick=False)
@fault("stock late by 400 ms", part="stock", server="stock", seconds=0.2)
@fault("PostgreSQL late by 200 ms", part="postgresql", server="postgresql", seconds=0.1)
def late(scene: Scene, *, server: str, seconds: float) -> Iterator[None]:
    """`seconds` each way. The second of them is more than the claim path waits for."""
    lines = scene.system.lines(server)
    for line in lines:
        line.delay(seconds)
    yield
    for line in lines:
        line.pass_on()


@fault("web alone cut off from the stock", part="stock", side="web", server="stock")
@fault("worker alone cut off from the stock", part="stock", side="worker", server="stock")
@fault("worker alone cut off from PostgreSQL", part="postgresql", side="worker", server="postgresql")
def one_side_cut(scene: Scene, *, side: str, server: str) -> Iterator[None]:
    (line,) = scene.system.lines(server, side)
    line.black_hole()
    yield
    line.pass_on()


# PostgreSQL -----------------------------------------------------------------------------------------------------------


@fault("PostgreSQL crashed", part="postgresql", how="immediate", lasts=(0.0, 0.0))
@fault("PostgreSQL restarted", part="postgresql", how="fast", lasts=(0.0, 0.0))
@fault("PostgreSQL down", part="postgresql", how="fast", lasts=(3.0, 5.0))
def postgresql_down(scene: Scene, *, how: str) -> Iterator[None]:
    scene.system.postgresql.shut_down(how)
    yield
    scene.system.postgresql.start()


@fault("all backends terminated, again and again", part="postgresql")
def backends_terminated(scene: Scene) -> Iterator[None]:
    terminate = scene.system.postgresql.terminate_backends
    with repeatedly(lambda: terminate("web", "worker", "beat"), every=0.05):
        yield


# Redis ----------------------------------------------------------------------------------------------------------------


@fault("broker wiped, again and again", part="broker", server="broker", order=Redis.flushall, every=0.2)
@fault("scripts flushed, again and again", part="stock", server="stock", order=Redis.script_flush, every=0.005)
def told_again_and_again(
    scene: Scene, *, server: str, order: Callable[["Redis"], object], every: float
) -> Iterator[None]:
    valkey = {"broker": scene.system.broker, "stock": scene.system.stock}[server]
    with valkey.client() as client, repeatedly(lambda: order(client), every=every):
        yield


@fault("stock out of memory", part="stock")
def out_of_memory(scene: Scene) -> Iterator[None]:
    with scene.system.stock.client() as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


# Put back what was there, unless the product has mended it meanwhile.
PUT_BACK = """
if redis.call('TYPE', KEYS[1])['ok'] == 'string' then
  redis.call('DEL', KEYS[1])
  if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end
end
"""


@fault("stock's state of a wrong type", part="stock", key=keys.state)
@fault("stock's claimants of a wrong type", part="stock", key=keys.claimants)
@fault("stock's claim log of a wrong type", part="stock", key=keys.log)
def wrong_type(scene: Scene, *, key: Callable[[int], str]) -> Iterator[None]:
    name = key(scene.event_id)
    kept = f"{name}:kept"
    with scene.system.stock.client() as client:
        pipe = client.pipeline(transaction=True)
        if client.exists(name):
            pipe.rename(name, kept)
        pipe.set(name, "not what it was")
        pipe.execute()
        yield
        client.eval(PUT_BACK, 2, name, kept)


@fault("users' buckets of a wrong type", part="stock")
def wrong_buckets(scene: Scene) -> Iterator[None]:
    users = [one.user_id for one in scene.system.customers(200)]
    with scene.system.stock.client() as client:
        for user in users:
            pipe = client.pipeline(transaction=True)
            pipe.delete(keys.bucket(scene.event_id, user))
            pipe.rpush(keys.bucket(scene.event_id, user), "not what it was")
            pipe.execute()
        yield
        client.delete(*(keys.bucket(scene.event_id, user) for user in users))


@fault("stock flushed", part="stock", lasts=(0.0, 0.0))
def flushed(scene: Scene) -> Iterator[None]:
    with scene.system.stock.client() as client:
        client.flushall()
    yield


@fault("stock rolled back by two seconds", part="stock", lasts=(2.0, 2.0))
def rolled_back(scene: Scene) -> Iterator[None]:
    scene.system.stock.keep()
    yield
    scene.system.stock.roll_back()


@fault("stock down for longer than redis_lost_after", part="stock", lasts=(13.0, 14.0))
def stock_down(scene: Scene) -> Iterator[None]:
    scene.system.kill("stock")
    yield
    scene.system.restart("stock")


@fault("a replica takes over that lags by a second", part="stock", lasts=(1.0, 1.0))
def replica_takes_over(scene: Scene) -> Iterator[None]:
    """It has not heard of the last second of claims when it takes the place of the primary."""
    with scene.system.stock.replica() as replica:
        replica.leave_behind()
        yield
        scene.system.stock.give_way_to(replica)


@fault("moved to the database by hand, and back", part="stock", lasts=(1.5, 2.0))
def moved_by_hand(scene: Scene) -> Iterator[None]:
    persistently(lambda: services.sell_from(event_id=scene.event_id, mode=Event.StockMode.DATABASE))
    yield
    persistently(lambda: services.sell_from(event_id=scene.event_id, mode=Event.StockMode.REDIS))
