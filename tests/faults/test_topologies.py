"""The stock behind Sentinels and on a cluster: its operations, its primary killed mid-sale, its servers frozen."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisError
from redis.retry import Retry

from coupons.issuing import issue_claims
from coupons.stock import keys
from coupons.stock.codes import AdjustCode, LoadCode, ReserveCode
from coupons.stock.records import HeldClaim, IssuedCoupon, instant
from coupons.stock.store import StockStore, bulk_store, hot_store
from events.models import Event
from events.redis.client import Client, connect
from tests.factories import make_users
from tests.faults.stocks import (
    EVENTS,
    Rush,
    all_of_log,
    claim,
    follows,
    forget_scripts,
    joined_hot_store,
    put_stocks,
    reload,
)
from tests.outages import stock_at
from tests.sales import assert_sum
from tests.stock_kit import UnguardedStore, entry, source, window
from tests.topologies import (
    HOST,
    PRIMARY,
    ClusterOfSix,
    SentinelSet,
    Topology,
    cluster_of_six,
    sentinel_set,
    until,
)

pytestmark = pytest.mark.faults

Sale = Callable[..., Event]

TIMEOUT = 0.25  # seconds


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[SentinelSet]:
    with sentinel_set(tmp_path / "sentinels") as topology, stock_at(topology.url):
        yield topology


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterOfSix]:
    with cluster_of_six(tmp_path / "cluster") as topology, stock_at(topology.url):
        yield topology


@pytest.fixture(params=["sentinels", "cluster"])
def topology(request: pytest.FixtureRequest) -> Topology:
    """Both, one after the other. The stock is there."""
    found: Topology = request.getfixturevalue(request.param)
    return found


# Operations -----------------------------------------------------------------------------------------------------------


def test_every_operation_of_the_stock_works(topology: Topology) -> None:
    store = bulk_store()
    put_stocks(store)
    for event_id in EVENTS:
        assert claim(store, event_id, 1, 2, 3) == [ReserveCode.ACCEPTED] * 3
        assert claim(store, event_id, 1) == [ReserveCode.ALREADY_CLAIMED]
        assert [entry.user_id for entry in store.read_log(event_id, after="1-1", count=9)] == [2, 3]
        coupon = IssuedCoupon("A-CODE", instant(1_795_234_234_123))
        assert store.settle(event_id, epoch=1, drained=1, entries=["1-1"], issued=[(entry(1, 1), coupon)]) == 1
        assert store.standing(event_id, 1, "1-1").coupon == coupon
        assert store.release(event_id, [entry(2, 2)]) == 1
        assert store.adjust(event_id, epoch=1, delta=5) == (AdjustCode.ADJUSTED, 13)
        assert store.in_log(event_id, ["1-2", "1-3"]) == {"1-3"}
        (held,), epoch, drained = store.held_by(event_id, 3)
        assert (held.sequence, epoch, drained) == (3, 1, 1)
        assert {user: len(claims) for user, claims in store.held_by_each(event_id, [1, 2]).items()} == {1: 1, 2: 0}
        assert sorted(user for page in store.claimants(event_id) for user, _ in page) == [1, 3]
    assert store.backlogs(EVENTS) == dict.fromkeys(EVENTS, 1)
    snapshots = store.snapshots(EVENTS)
    assert list(snapshots) == list(EVENTS)
    found = {one and (one.stock, one.sequence, one.backlog, one.claimants) for one in snapshots.values()}
    assert found == {(13, 3, 1, 2)}
    many = [(user, [HeldClaim(1, 1, user, 1)]) for user in range(1, 2502)]
    loaded = store.load(7, epoch=2, available=4000, sequence=9, window=window(), claimants=many)
    assert loaded == (LoadCode.LOADED, 3999), "the claim in the log is counted out"
    assert store.snapshot(7).claimants == 2501
    store.retire(7)
    assert 0 < int(store.client.ttl(keys.log(7))) <= keys.RETIRED_TTL
    store.unload(7)
    assert not store.snapshot(7).loaded


def test_servers_that_have_forgotten_the_scripts_are_told_them_again(topology: Topology) -> None:
    store = bulk_store()
    put_stocks(store)
    for user in range(3):
        forget_scripts(topology)
        assert {code for event_id in EVENTS for code in claim(store, event_id, user)} == {ReserveCode.ACCEPTED}
        forget_scripts(topology)
        assert {one and one.sequence for one in store.snapshots(EVENTS).values()} == {user + 1}


def test_an_event_of_a_wrong_type_hides_none_of_the_others(topology: Topology) -> None:
    store = bulk_store()
    put_stocks(store)
    store.client.delete(keys.state(7))
    store.client.set(keys.state(7), "not a hash")
    assert {event_id for event_id, one in store.snapshots(EVENTS).items() if one is None} == {7}


# The primary is lost --------------------------------------------------------------------------------------------------


def test_claims_come_again_after_the_primary_was_killed(topology: Topology, sale: Sale) -> None:
    """Nothing of ours is started anew. What the replica had not heard is lost; nothing is sold twice for it."""
    event = sale(quantity=100_000)
    users = make_users(60_000)
    with Rush(event, users) as rush:
        rush.wait_for_claims(300)
        primary = topology.primary(event.id)
        killed = time.monotonic()
        primary.kill()
        until(lambda: topology.primary(event.id) is not primary, "the replica is promoted")
        promoted = time.monotonic() - killed
        before = len(rush.accepted)

        def sells() -> bool:
            rush.reload()
            return len(rush.accepted) > before + 100

        until(sells, "claims are accepted again")
        again = time.monotonic() - killed
        rush.wait_for_claims(300)
    assert rush.unanswered, "claims were under way when the primary died"
    assert rush.longest < 3, "nobody waited for the failover"
    store = bulk_store()
    snapshot = store.snapshot(event.id)
    logged = {entry.user_id for page in all_of_log(store, event.id) for entry in page}
    lost = [user for user, _, _ in rush.accepted if user not in logged]
    assert len(logged) == snapshot.backlog, "one claim each"
    assert snapshot.stock + snapshot.backlog == event.quantity
    assert snapshot.backlog <= len(rush.accepted) + len(rush.unanswered), "no call took two units"
    issue_claims(event.id, store)
    assert_sum(store, event)
    print(
        f"\npromoted after {promoted:.1f} s, claims again after {again:.1f} s, accepted {len(rush.accepted)},"
        f" without an answer {len(rush.unanswered)}, lost {len(lost)}, longest call {rush.longest:.2f} s"
    )


def test_a_sale_across_a_failover_sells_no_unit_too_many(topology: Topology, sale: Sale) -> None:
    event = sale(quantity=4000)
    first, *rest = [make_users(100), *make_users(20_000)]
    assert set(claim(bulk_store(), event.id, *first)) == {ReserveCode.ACCEPTED}
    assert issue_claims(event.id, bulk_store()) == 100
    with Rush(event, rest) as rush:
        rush.wait_for_claims(100)
        primary = topology.primary(event.id)
        primary.kill()
        until(lambda: topology.primary(event.id) is not primary, "the replica is promoted")

        def sold_out() -> bool:
            rush.reload()
            return rush.refused[-1:] == [ReserveCode.SOLD_OUT]

        until(sold_out, "it is sold out")
    store = bulk_store()
    issue_claims(event.id, store)
    event.refresh_from_db()
    assert event.issued == event.quantity, "nothing is left unsold either"
    assert_sum(store, event)


def test_a_planned_failover_is_followed_though_no_connection_breaks(sentinels: SentinelSet) -> None:
    """For ten seconds more the old primary takes claims, which it forgets when it is demoted: it must not be asked."""
    store = bulk_store()
    put_stocks(store, units=100_000)
    users = itertools.count(1)
    old = sentinels.primary()
    sentinels.sentinels[0].client.execute_command("SENTINEL", "FAILOVER", PRIMARY)
    until(lambda: sentinels.primary() is not old, "the replica is promoted")
    until(lambda: claim(store, 7, next(users)) == [ReserveCode.OTHER_RUN], "claims go to the new primary", seconds=5)
    assert old.client.info("replication")["role"] == "master", "nobody had to tell the store by a broken connection"
    assert reload(store, 7) == LoadCode.LOADED
    assert claim(store, 7, 1_000_000, epoch=2) == [ReserveCode.ACCEPTED]
    assert sentinels.primary().client.hget(keys.state(7), "epoch") == "2"


def test_a_primary_that_may_not_write_any_more_is_left(sentinels: SentinelSet) -> None:
    """READONLY: its connection is given up, and with the next one the Sentinels are asked."""
    store = bulk_store()
    put_stocks(store)
    primary, replica = sentinels.servers
    primary.client.replicaof(HOST, str(replica.port))
    with pytest.raises(exceptions.ConnectionError, match="now a slave"):
        claim(store, 7, 1)
    primary.client.replicaof("NO", "ONE")
    assert claim(store, 7, 1) == [ReserveCode.ACCEPTED]


def test_a_planned_failover_of_a_cluster_takes_no_unit_twice(cluster: ClusterOfSix) -> None:
    """The demoted primary says where the slot went. What it passed on was not run, and is sent there."""
    store = bulk_store()
    put_stocks(store, units=100_000, per_user_limit=100_000)
    old = cluster.primary(7)
    replica = next(node for node in cluster.nodes if follows(node, old.port))
    replica.client.execute_command("CLUSTER FAILOVER")
    calls = 0
    while (codes := claim(store, 7, 1)) == [ReserveCode.ACCEPTED]:
        assert store.held_by(7, 1)[0], "pipelines are passed on, too"
        calls += 1
        assert calls < 20_000
    assert codes == [ReserveCode.OTHER_RUN]
    assert cluster.primary(7) is not old
    assert store.snapshot(7).sequence == calls, "no claim was lost, and none taken twice"
    assert reload(store, 7) == LoadCode.LOADED
    assert claim(store, 7, 2, epoch=2) == [ReserveCode.ACCEPTED]


def test_a_slot_that_moves_is_followed(cluster: ClusterOfSix) -> None:
    """Commands on single keys are followed while it moves, and scripts when it has moved."""
    store = bulk_store()
    put_stocks(store)
    assert claim(store, 7, 1) == [ReserveCode.ACCEPTED]
    assert isinstance(store.client, RedisCluster)
    slot = store.client.keyslot(keys.state(7))
    source_node = cluster.primary(7)
    target = next(cluster.primary(event_id) for event_id in EVENTS if cluster.primary(event_id) is not source_node)
    ids = {node: node.client.execute_command("CLUSTER MYID") for node in (source_node, target)}
    store.client.nodes_manager.nodes_cache.pop(target.name)  # as a node that joined after the client
    target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source_node])
    source_node.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    for key in source_node.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
        source_node.client.migrate(HOST, target.port, key, 0, 5000)
    assert [one.sequence for one in store.held_by(7, 1)[0]] == [1]
    assert store.client.hget(keys.state(7), "sequence") == "1"
    with pytest.raises(RedisError):  # the bucket of a new user is on neither side: TRYAGAIN until it has moved
        claim(store, 7, 2)
    for node in (target, source_node):
        node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    assert claim(store, 7, 2) == [ReserveCode.OTHER_RUN]
    assert reload(store, 7) == LoadCode.LOADED
    assert claim(store, 7, 2, epoch=2) == [ReserveCode.ACCEPTED]
    assert store.snapshot(7).sequence == 2


# Nothing is sent twice ------------------------------------------------------------------------------------------------

SECONDS = 0.25  # that the slow script takes
PATIENCE = 0.2  # seconds that its caller waits: the connection of a second attempt is not kept waiting so long
SLOW = f"do local till = os.clock() + {SECONDS} while os.clock() < till do end end\n"


def ours(topology: Topology) -> Client:
    return connect(topology.url, timeout=PATIENCE)


def redis_py_s(topology: Topology) -> Client:
    """With the retries that redis-py has unless it is told otherwise."""
    patience: dict[str, Any] = {
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "decode_responses": True,
    }
    if isinstance(topology, SentinelSet):
        return Redis(port=topology.primary().port, **patience)
    return RedisCluster(port=topology.nodes[0].port, host=HOST, **patience)


def runs(topology: Topology, client: Client, calls: int) -> int:
    """How often a script runs that takes longer than its caller waits, when it is called so often."""
    primary = topology.primary(7)
    put_stocks(bulk_store(), units=1000, per_user_limit=1000)
    slow = UnguardedStore(client, "reserve", SLOW + source("reserve"))
    primary.client.script_load(SLOW + source("reserve"))  # so that it is called by its digest, as ever
    client.ping()
    for _ in range(calls):
        with pytest.raises((exceptions.TimeoutError, exceptions.ConnectionError)):
            claim(slow, 7, 1)
        until(primary.client.ping, "the script has ended")
    return int(primary.client.hget(keys.state(7), "sequence") or 0)  # there, should it be replaced for being so slow


def test_a_script_that_timed_out_is_not_run_again(topology: Topology) -> None:
    assert 1 <= runs(topology, ours(topology), calls=3) <= 3


def test_control_with_redis_py_s_retry_it_is_run_again(topology: Topology) -> None:
    assert runs(topology, redis_py_s(topology), calls=1) > 1


def test_a_pipeline_that_timed_out_is_not_run_again(cluster: ClusterOfSix) -> None:
    primary = cluster.primary(7)
    with pytest.raises((exceptions.TimeoutError, exceptions.ConnectionError)):
        _slow(cluster, ours(cluster)).execute()
    until(primary.client.ping, "the script has ended")
    assert primary.client.get(keys.state(7)) == "1"


def test_control_redis_py_runs_a_cluster_s_pipeline_again_whatever_its_retry_says(cluster: ClusterOfSix) -> None:
    client = RedisCluster(
        startup_nodes=[ClusterNode(HOST, node.port) for node in cluster.nodes],
        socket_timeout=10,
        retry=Retry(NoBackoff(), 0),
    )
    pool = client.get_redis_connection(client.get_node_from_key(keys.state(7))).connection_pool
    connection: Any = pool.get_connection()
    connection._sock.settimeout(PATIENCE)  # this one only: that of the second attempt waits for the answer
    pool.release(connection)
    assert _slow(cluster, client).execute() == [2]


def _slow(cluster: ClusterOfSix, client: Client) -> Any:
    """A pipeline that counts how often it is run, and takes its time."""
    text = SLOW + "return redis.call('INCR', KEYS[1])"
    pipe = client.pipeline(transaction=False)
    pipe.execute_command("EVALSHA", cluster.primary(7).client.script_load(text), 1, keys.state(7))
    return pipe


# Frozen servers -------------------------------------------------------------------------------------------------------


def test_one_frozen_sentinel_costs_its_timeout_once(sentinels: SentinelSet) -> None:
    put_stocks(bulk_store())
    sentinels.sentinels[0].freeze()
    fresh = StockStore(connect(sentinels.url, timeout=TIMEOUT))
    started = time.monotonic()
    assert claim(fresh, 7, 1) == [ReserveCode.ACCEPTED]
    assert time.monotonic() - started < 4 * TIMEOUT
    assert isinstance(fresh.client, Redis)
    fresh.client.connection_pool.disconnect()
    started = time.monotonic()
    assert claim(fresh, 7, 2) == [ReserveCode.ACCEPTED]
    assert time.monotonic() - started < TIMEOUT, "it is not asked first any more"


def test_with_all_servers_frozen_everybody_is_refused_soon_and_served_again_later(topology: Topology) -> None:
    event_id = 7
    put_stocks(bulk_store(), units=1000, per_user_limit=1000)
    assert settings.STOCK_REDIS_TIMEOUT == TIMEOUT
    assert claim(joined_hot_store(), event_id, 1) == [ReserveCode.ACCEPTED]
    everybody = topology.nodes if isinstance(topology, ClusterOfSix) else [*topology.servers, *topology.sentinels]
    took: list[float] = []

    def ask() -> None:
        for _ in range(3):
            started = time.monotonic()
            with suppress(RedisError):
                claim(hot_store(), event_id, 2)
            took.append(time.monotonic() - started)

    for node in everybody:
        node.freeze()
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with stock_at(topology.url):  # a process that starts now
        started = time.monotonic()
        with pytest.raises(RedisError):
            claim(hot_store(), event_id, 2)
        took.append(time.monotonic() - started)
        for node in everybody:
            node.thaw()
        until(lambda: claim(hot_store(), event_id, 3) == [ReserveCode.ACCEPTED], "it has found the stock")
    until(lambda: claim(hot_store(), event_id, 3) == [ReserveCode.ACCEPTED], "claims are accepted again")
    assert len(took) == 25
    assert max(took) < 1.5
    assert sorted(took)[len(took) // 2] < 1


def test_one_frozen_primary_of_a_cluster_stops_its_own_events_only(cluster: ClusterOfSix) -> None:
    store = joined_hot_store()
    put_stocks(store)
    frozen = cluster.primary(7)
    others = [event_id for event_id in EVENTS if cluster.primary(event_id) is not frozen]
    frozen.freeze()
    with pytest.raises(RedisError):
        claim(store, 7, 1)
    assert {code for event_id in others for code in claim(store, event_id, 1)} == {ReserveCode.ACCEPTED}
    assert list(store.snapshots(EVENTS)) == others
    until(lambda: claim(store, 7, 1) == [ReserveCode.OTHER_RUN], "its replica has taken over")


def test_a_process_that_starts_beside_a_frozen_node_joins_the_others(cluster: ClusterOfSix) -> None:
    """Whichever of the primaries it is. None of them has a replica that could take over."""
    put_stocks(bulk_store())
    first_of = {cluster.primary(event_id): event_id for event_id in reversed(EVENTS)}
    assert len(first_of) == 3
    for node in cluster.nodes:
        if node not in first_of:
            node.kill()
    for user, frozen in enumerate(first_of, 1):
        other = next(event_id for node, event_id in first_of.items() if node is not frozen)
        claims = partial(claim, StockStore(connect(cluster.url, timeout=TIMEOUT)), other, user)
        frozen.freeze()
        until(claims, "it joins", seconds=10)
        frozen.thaw()
