"""The store and its client on one server: what is asked at once, what one bad key does, what is sent how often."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from redis import exceptions

from coupons.rush.evidence import level_of
from coupons.stock import keys
from coupons.stock.store import StockStore, bulk_store, hot_store
from events.redis.breaker import State
from events.redis.client import MAX_CONNECTIONS, connect
from tests.outages import no_redis, stock_at
from tests.stock_kit import EVENT, put_stock, window

OTHER = 8


@pytest.fixture
def two_stocks(store: StockStore) -> StockStore:
    put_stock(store, 10)
    store.load(OTHER, epoch=1, available=5, sequence=0, window=window(), claimants=[])
    return store


@pytest.mark.parametrize("name", ["state", "claimants", "log"])
def test_a_key_of_a_wrong_type_hides_the_snapshot_of_no_other_event(two_stocks: StockStore, name: str) -> None:
    key = getattr(keys, name)(EVENT)
    two_stocks.client.delete(key)
    two_stocks.client.set(key, "neither hash nor stream")
    assert {event_id: one and one.stock for event_id, one in two_stocks.snapshots([EVENT, OTHER]).items()} == {
        EVENT: None,
        OTHER: 5,
    }
    with pytest.raises(exceptions.ResponseError):
        two_stocks.snapshot(EVENT)


def test_a_level_that_cannot_be_read_or_asked_for_is_none(two_stocks: StockStore) -> None:
    two_stocks.client.set(keys.log(EVENT), "no stream")
    found = level_of(OTHER)
    assert found is not None
    assert found.stock == 5
    assert level_of(EVENT) is None
    with no_redis():
        assert level_of(OTHER) is None


def test_a_key_of_a_wrong_type_hides_the_backlog_of_no_other_event(two_stocks: StockStore) -> None:
    two_stocks.client.set(keys.log(EVENT), "no stream")
    two_stocks.reserve(OTHER, epoch=1, claims=[(1, "")])
    assert two_stocks.backlogs([EVENT, OTHER]) == {EVENT: 0, OTHER: 1}


def test_snapshots_of_a_server_that_is_away_are_an_error_and_not_nothing() -> None:
    with no_redis():
        for read in (bulk_store().snapshots, bulk_store().backlogs):
            with pytest.raises(exceptions.ConnectionError):
                read([EVENT, OTHER])


def test_snapshots_are_asked_for_in_one_round_trip(two_stocks: StockStore) -> None:
    two_stocks.snapshots([EVENT, OTHER])
    assert _commands_of(two_stocks, lambda: two_stocks.snapshots([EVENT, OTHER])) == {"evalsha": 2}


def test_a_script_that_the_server_does_not_know_is_sent_in_full_once(two_stocks: StockStore) -> None:
    two_stocks.client.script_flush()
    assert _commands_of(two_stocks, lambda: two_stocks.snapshot(EVENT)) == {"evalsha": 1, "eval": 1}
    assert _commands_of(two_stocks, lambda: two_stocks.snapshot(EVENT)) == {"evalsha": 1}
    two_stocks.client.script_flush()
    assert len(two_stocks.snapshots([EVENT, OTHER])) == 2


def test_scripts_are_flushed_in_a_loop_and_every_call_is_answered(two_stocks: StockStore) -> None:
    ended = threading.Event()

    def flush() -> None:
        client = connect(settings.STOCK_REDIS_URL, timeout=5)
        while not ended.is_set():
            client.script_flush()
        client.close()

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        for user in range(300):
            two_stocks.reserve(OTHER, epoch=1, claims=[(user, "")])
            assert len(two_stocks.snapshots([EVENT, OTHER])) == 2
    finally:
        ended.set()
        thread.join(10)
    assert two_stocks.snapshot(OTHER).sequence == 5


def test_the_stores_have_the_patience_of_their_settings_and_share_one_stock(two_stocks: StockStore) -> None:
    assert hot_store() is hot_store()
    assert _timeout(hot_store()) == settings.STOCK_REDIS_TIMEOUT < _timeout(bulk_store())
    assert _timeout(bulk_store()) == settings.STOCK_REDIS_BULK_TIMEOUT
    assert hot_store().snapshot(EVENT).stock == bulk_store().snapshot(EVENT).stock == 10
    with stock_at(settings.STOCK_REDIS_URL):
        assert hot_store() is not two_stocks


def test_a_process_has_so_many_connections_and_no_more(store: StockStore) -> None:
    client: Any = connect(settings.STOCK_REDIS_URL, timeout=1)
    pool = client.connection_pool
    assert pool.max_connections == MAX_CONNECTIONS
    pool.max_connections = 2
    held = [pool.get_connection() for _ in range(2)]
    with pytest.raises(exceptions.ConnectionError, match="Too many"):
        client.ping()
    for connection in held:
        pool.release(connection)
    assert client.ping()
    client.close()


def _timeout(store: StockStore) -> float:
    client: Any = store.client
    return float(client.connection_pool.connection_kwargs["socket_timeout"])


def _commands_of(store: StockStore, work: Callable[[], object]) -> dict[str, int]:
    """What the server was sent meanwhile; what scripts do is not sent."""
    before = _calls(store)
    work()
    after = _calls(store)
    names = {"evalsha", "eval", "script|load", "script|exists"}
    sent = {name: after.get(name, 0) - before.get(name, 0) for name in names}
    return {name: number for name, number in sent.items() if number}


def _calls(store: StockStore) -> dict[str, int]:
    stats: Any = store.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}


def test_more_calls_than_connections_are_refused_and_tell_nothing_of_the_server() -> None:
    with stock_at(f"{settings.STOCK_REDIS_URL}?max_connections=1"):
        store = hot_store()
        pool: Any = store.client.connection_pool  # type: ignore[union-attr] # of one server here
        only = pool.get_connection()
        try:
            for _ in range(4):
                with pytest.raises(exceptions.MaxConnectionsError):
                    store.reserve(EVENT, epoch=1, claims=[(1, "")])
        finally:
            pool.release(only)
        assert store.breaker(EVENT).state() is State.CLOSED
