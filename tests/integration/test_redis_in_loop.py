"""Redis asked from an event loop: the same answers as from a thread, and the same patience."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from django.conf import settings
from django.test import override_settings
from redis import asyncio as aio
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from coupons.stock.store import HotStore, StockStore
from events.models import Event
from events.redis import in_loop, servers
from events.redis.breaker import State
from events.redis.script import Script
from events.redis.servers import Hot, NotAsked
from tests.faults.parts import Valkey
from tests.gate_kit import frozen, own_stock
from tests.outages import no_redis, silent_server, stock_at

PATIENCE = 0.1  # seconds

ANSWER_LATE = "for i = 1, 3000000 do end return 'here'"  # some 20 ms: a script's clock stands still


@pytest.fixture(autouse=True, params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def _loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of the gate, and the one of a server that was told of no other."""
    monkeypatch.setitem(LOOP, "factory", request.param)


LOOP: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {}


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    """In a loop of its own."""
    with asyncio.Runner(loop_factory=LOOP["factory"]) as runner:
        return runner.run(scenario)


def in_one_loop(question: Callable[[Hot], Awaitable[Any]]) -> Any:
    """Ask in a loop of its own, with what this process asks Redis by, made anew."""

    async def scenario() -> Any:
        hot = servers._connect_hot()
        try:
            return await question(hot)
        finally:
            assert hot._loop_client is not None
            await hot._loop_client.aclose()

    return run(scenario())


def ping(hot: Hot, event_id: int = 7) -> Awaitable[Any]:
    """The shortest question there is."""
    return hot.ask(event_id, lambda client: client.ping())


def test_claims_and_standings_are_those_that_a_thread_gets(sale: Callable[..., Event], store: StockStore) -> None:
    event = sale(quantity=3)
    event.refresh_from_db()

    async def claim_and_look(hot: Hot) -> Any:
        hot_store = HotStore(hot)
        reply = await hot_store.areserve(event.id, epoch=event.epoch, claims=[(1, "a"), (2, "")])
        return reply, await hot_store.astandings(event.id, [(1, None), (2, f"{event.epoch}-2"), (3, None)])

    reply, standings = in_one_loop(claim_and_look)
    assert [one.sequence for one in reply.reservations] == [1, 2]
    assert (reply.stock, store.snapshot(event.id).stock) == (1, 1)
    assert standings == store.standings(event.id, [(1, None), (2, f"{event.epoch}-2"), (3, None)])
    assert [len(one.held) for one in standings] == [1, 1, 0]


def test_a_script_that_the_server_does_not_know_is_sent_in_full_and_run_once(store: StockStore) -> None:
    store.client.script_flush()
    script = Script(store.client, "return redis.call('INCR', KEYS[1])")

    answer = in_one_loop(lambda hot: hot.ask(7, lambda client: script.acall(client, ["sc:{7}:test"])))

    assert answer == 1
    assert store.client.get("sc:{7}:test") == "1"


@override_settings(STOCK_REDIS_TIMEOUT=PATIENCE)
def test_a_silent_server_is_given_up_in_time_and_the_breaker_opens() -> None:
    with silent_server() as listener, stock_at(f"redis://127.0.0.1:{listener.getsockname()[1]}/0"):

        async def ask(hot: Hot) -> None:
            began = time.monotonic()
            for _ in range(3):
                with pytest.raises(RedisTimeoutError, match="no answer within"):
                    await ping(hot)
            assert time.monotonic() - began < 10 * PATIENCE
            assert hot.breaker(7).state() is State.OPEN
            with pytest.raises(NotAsked):
                await ping(hot)

        in_one_loop(ask)


def test_nobody_there_is_an_outage() -> None:
    with no_redis():

        async def ask(hot: Hot) -> None:
            for _ in range(3):
                with pytest.raises(RedisError):
                    await ping(hot)
            assert hot.breaker(7).state() is State.OPEN

        in_one_loop(ask)


def test_it_answers_again_when_the_server_is_back_and_answers_nobody_with_what_came_late(tmp_path: Any) -> None:
    with own_stock(tmp_path) as stock:
        in_one_loop(lambda hot: _freeze_between(hot, stock))


async def _freeze_between(hot: Hot, stock: Valkey) -> None:
    async def echo(word: str) -> Any:
        return await hot.ask(7, lambda client: client.echo(word))

    assert await echo("before") == "before"
    with frozen(stock), pytest.raises(RedisTimeoutError):
        await echo("lost")
    assert await echo("after") == "after"  # on a connection of its own, not the answer to the question before


def test_an_answer_that_says_no_is_an_answer() -> None:
    async def ask(hot: Hot) -> None:
        for _ in range(4):
            with pytest.raises(ResponseError):
                await hot.ask(7, lambda client: client.execute_command("NONSENSE"))
        assert hot.breaker(7).state() is State.CLOSED

    in_one_loop(ask)


def test_more_calls_than_connections_are_refused_and_tell_nothing_of_the_server() -> None:
    with stock_at(f"{settings.STOCK_REDIS_URL}?max_connections=2"):

        async def ask(hot: Hot) -> list[Any]:
            answers = await asyncio.gather(*(ping(hot) for _ in range(8)), return_exceptions=True)
            assert hot.breaker(7).state() is State.CLOSED
            return answers

        answers = in_one_loop(ask)
    assert answers.count(True) == 2
    assert all(isinstance(one, RedisError) for one in answers if one is not True)


def asked_in_a_busy_loop(patience: Callable[[float, Awaitable[Any]], Awaitable[Any]]) -> Any:
    """Ask, and keep the loop busy for longer than the answer is waited for, which comes meanwhile."""

    async def scenario() -> Any:
        client = in_loop.connect(settings.STOCK_REDIS_URL)
        assert client is not None
        await client.ping()

        def be_busy() -> None:
            until = time.monotonic() + 2 * PATIENCE
            while time.monotonic() < until:
                pass

        asyncio.get_running_loop().call_later(0, be_busy)
        try:
            return await patience(PATIENCE, client.eval(ANSWER_LATE, 0))
        finally:
            await client.aclose()

    return run(scenario())


def test_a_loop_that_was_busy_takes_the_answer_that_has_come_meanwhile() -> None:
    assert asked_in_a_busy_loop(in_loop.within) == "here"


def test_with_the_librarys_timeout_that_test_fails() -> None:
    async def librarys(seconds: float, call: Awaitable[Any]) -> Any:
        async with asyncio.timeout(seconds):
            return await call

    with pytest.raises(TimeoutError):
        asked_in_a_busy_loop(librarys)


def test_a_call_leaves_nothing_to_the_garbage_collector() -> None:
    async def often(hot: Hot) -> int:
        await ping(hot)
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                await ping(hot)
            return gc.collect()
        finally:
            gc.enable()

    assert in_one_loop(often) < 100, "objects that were left: less than one a call"


@pytest.mark.parametrize(
    "url", ["redis+sentinel://localhost:26379/primary", "redis+cluster://localhost:6379"], ids=["sentinel", "cluster"]
)
def test_what_is_not_one_server_is_left_to_threads(url: str) -> None:
    assert in_loop.connect(url) is None
    with stock_at(url):
        assert not servers.hot().answers_in_loop


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://user:secret@localhost:6379/3", aio.Connection),
        ("rediss://localhost:6379/0", aio.SSLConnection),
        ("unix:///run/valkey.sock?db=2", aio.UnixDomainSocketConnection),
    ],
)
def test_a_url_means_the_same_as_to_the_client_of_threads(url: str, kind: type) -> None:
    client = in_loop.connect(url)
    assert client is not None
    assert issubclass(client.connection_pool.connection_class, kind)
    options = client.connection_pool.connection_kwargs
    assert options["socket_timeout"] is None
    assert options["retry"]._retries == 0
    assert {name: options[name] for name in ("username", "password", "db", "path") if name in options} == {
        "redis": {"username": "user", "password": "secret", "db": 3},
        "rediss": {"db": 0},
        "unix": {"path": "/run/valkey.sock", "db": 2},
    }[url.partition(":")[0]]
