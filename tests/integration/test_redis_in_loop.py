"""Redis asked from an event loop: the same answers as from a thread, and the same patience."""

import asyncio
import gc
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop
from django.conf import settings
from django.test import override_settings
from redis import asyncio as aio
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from coupons.stock.store import HotStore, StockStore
from events.models import Event
from events.redis import in_loop, servers
from events.redis.breaker import State
from events.redis.in_loop import LoopClient
from events.redis.line import Line
from events.redis.script import Script
from events.redis.servers import Hot, NotAsked
from tests.faults.parts import Valkey
from tests.gate_kit import frozen, own_stock
from tests.outages import no_redis, silent_server, stock_at
from tests.receivers import certificate

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
            hot._loop_client.close()

    return run(scenario())


def ping(hot: Hot, event_id: int = 7) -> Awaitable[Any]:
    """The shortest question there is."""
    return hot.ask(event_id, lambda client: client.ask("PING"))


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
        return await hot.ask(7, lambda client: client.ask("ECHO", word))

    assert await echo("before") == "before"
    with frozen(stock), pytest.raises(RedisTimeoutError):
        await echo("lost")
    assert await echo("after") == "after"  # on a connection of its own, not the answer to the question before


def test_an_answer_that_says_no_is_an_answer() -> None:
    async def ask(hot: Hot) -> None:
        for _ in range(4):
            with pytest.raises(ResponseError):
                await hot.ask(7, lambda client: client.ask("NONSENSE"))
        assert hot.breaker(7).state() is State.CLOSED

    in_one_loop(ask)


def test_calls_share_a_connection_and_each_gets_its_own_answer(store: StockStore) -> None:
    def connections() -> int:
        return int(store.client.info("stats")["total_connections_received"])

    async def ask(hot: Hot) -> list[Any]:
        def echo(word: str) -> Awaitable[Any]:
            return hot.ask(7, lambda client: client.ask("ECHO", word))

        several = hot.ask(7, lambda client: client.ask_all([("ECHO", "c"), ("TYPE", "nothing")]))
        error = hot.ask(7, lambda client: client.ask("NONSENSE"))
        return await asyncio.gather(*map(echo, ("a", "b" * 100_000, "ü")), several, error, return_exceptions=True)

    before = connections()
    *words, several, error = in_one_loop(ask)
    assert words == ["a", "b" * 100_000, "ü"]
    assert several == ["c", "none"]
    assert isinstance(error, ResponseError)
    assert connections() == before + 1


def with_a_client(question: Callable[[LoopClient], Awaitable[Any]], url: str | None = None) -> Any:
    """Ask in a loop of its own, with all the time in the world."""

    async def scenario() -> Any:
        client = in_loop.connect(url or settings.STOCK_REDIS_URL)
        assert client is not None
        try:
            return await asyncio.wait_for(question(client), 20)
        finally:
            client.close()

    return run(scenario())


def test_when_the_connection_ends_all_who_wait_are_told_and_the_next_is_answered(store: StockStore) -> None:
    async def ask(client: LoopClient) -> list[Any]:
        line = await client.ask("CLIENT", "ID")
        waiting = [asyncio.ensure_future(one) for one in (client.ask("BLPOP", "sc:test", 0), client.ask("PING"))]
        await asyncio.sleep(0)  # both are sent
        store.client.client_kill_filter(_id=line)
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert await client.ask("CLIENT", "ID") > line
        return told

    assert [type(one) for one in with_a_client(ask)] == [RedisConnectionError] * 2


@pytest.mark.parametrize("scheme", ["rediss", "unix"])
def test_it_goes_over_tls_and_over_a_unix_socket(scheme: str, tmp_path: Path) -> None:
    address, certificate_file = urlsplit(settings.STOCK_REDIS_URL), certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate_file)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def scenario() -> list[Any]:
        relayed = asyncio.Event()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            from_server, to_server = await asyncio.open_connection(address.hostname, address.port)
            await asyncio.gather(carry(reader, to_server), carry(from_server, writer))
            relayed.set()

        if scheme == "unix":
            server = await asyncio.start_unix_server(relay, tmp_path / "socket")
            url = f"unix://{tmp_path}/socket?db=3"
        else:
            server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=tls)
            url = f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}/3?ssl_ca_certs={certificate_file}"
        client = in_loop.connect(url)
        assert client is not None
        async with server:
            answers = await client.ask_all([("ECHO", "a" * 300_000), ("CLIENT", "INFO")])
            client.close()
            await asyncio.wait_for(relayed.wait(), 10)
        return answers

    echo, told = run(scenario())
    assert echo == "a" * 300_000
    assert " db=3 " in told


def test_it_says_who_it_is(store: StockStore) -> None:
    address = urlsplit(settings.STOCK_REDIS_URL)

    def whoever_says(password: str) -> Any:
        url = f"redis://tester:{password}@{address.hostname}:{address.port}/0"
        return with_a_client(lambda client: client.ask("ACL", "WHOAMI"), url)

    store.client.acl_setuser("tester", enabled=True, passwords="+right", commands=["+@all"], keys="*")
    try:
        assert whoever_says("right") == "tester"
        with pytest.raises(AuthenticationError):
            whoever_says("wrong")
    finally:
        store.client.acl_deluser("tester")


async def give_one_up(client: LoopClient, store: StockStore) -> tuple[str, str]:
    """What the calls after and before it are answered: it is waited for in vain, until something is pushed."""
    line = await client.ask("CLIENT", "ID")
    given_up = asyncio.ensure_future(in_loop.within(PATIENCE, client.ask("BLPOP", "sc:test", 0)))
    before = asyncio.ensure_future(client.ask("ECHO", "before"))
    with pytest.raises(RedisTimeoutError):
        await given_up
    after = await in_loop.within(PATIENCE, client.ask("ECHO", "after"))
    store.client.rpush("sc:test", "something")
    answered = await before
    assert await client.ask("PING") == "PONG"
    while any(int(one["id"]) == line for one in store.client.client_list()):
        await asyncio.sleep(0.01)
    return answered, after


def test_a_call_that_is_given_up_takes_nobody_along(store: StockStore) -> None:
    assert with_a_client(lambda client: give_one_up(client, store)) == ("before", "after")


@pytest.mark.parametrize(
    ("instead", "error"),
    [(Line.close, RedisConnectionError), (lambda _: None, RedisTimeoutError)],
    ids=["closed at once", "used further"],
)
def test_where_its_connection_is_not_retired_others_are_let_down(
    instead: Callable[[Line], None], error: type[RedisError], monkeypatch: pytest.MonkeyPatch, store: StockStore
) -> None:
    monkeypatch.setattr(Line, "retire", instead)
    with pytest.raises(error):
        with_a_client(lambda client: give_one_up(client, store))


def asked_in_a_busy_loop(patience: Callable[[float, Awaitable[Any]], Awaitable[Any]]) -> Any:
    """Ask, and keep the loop busy for longer than the answer is waited for, which comes meanwhile."""

    def be_busy() -> None:
        until = time.monotonic() + 2 * PATIENCE
        while time.monotonic() < until:
            pass

    async def ask(client: LoopClient) -> Any:
        await client.ask("PING")
        asyncio.get_running_loop().call_later(0, be_busy)
        return await patience(PATIENCE, client.ask("EVAL", ANSWER_LATE, 0))

    return with_a_client(ask)


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
        ("redis://user:secret@localhost:6379/3?max_connections=2", aio.Connection),
        ("rediss://localhost:6379/0", aio.SSLConnection),
        ("unix:///run/valkey.sock?db=2", aio.UnixDomainSocketConnection),
    ],
)
def test_a_url_means_the_same_as_to_the_client_of_threads(url: str, kind: type) -> None:
    client = in_loop.connect(url)
    assert client is not None
    connection = client.connection()
    assert type(connection) is kind
    assert connection.socket_timeout is None
    assert connection.retry.get_retries() == 0
    assert {
        name: getattr(connection, name) for name in ("username", "password", "db", "path") if hasattr(connection, name)
    } == {
        "redis": {"username": "user", "password": "secret", "db": 3},
        "rediss": {"username": None, "password": None, "db": 0},
        "unix": {"username": None, "password": None, "path": "/run/valkey.sock", "db": 2},
    }[url.partition(":")[0]]
