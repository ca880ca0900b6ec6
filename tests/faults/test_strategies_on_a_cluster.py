"""Every way of Redis on a cluster: all keys of a sale are in one slot, and who waits for a lock is woken there too."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from coupons.reconciling import reconcile
from coupons.stock.store import bulk_store
from coupons.stock.ways import bulk_ways
from coupons.strategies import STRATEGIES
from events.errors import SoldOut
from events.models import Event
from tests.factories import make_users
from tests.outages import stock_at
from tests.strategies.kit import assert_exactly, claim, settle
from tests.topologies import cluster_of_six

pytestmark = pytest.mark.faults


def test_every_way_of_redis_sells_exactly_what_there_is(sale: Callable[..., Event], tmp_path: Path) -> None:
    with cluster_of_six(tmp_path / "cluster") as topology, stock_at(topology.url):
        sold = 0
        for strategy in [one for one in STRATEGIES.values() if one.needs_redis]:
            event, users = sale(strategy=strategy.name, quantity=3), make_users(4)
            for user in users[:3]:
                assert claim(event, user).result == "accepted"
            settle(event)
            with pytest.raises(SoldOut):
                claim(event, users[3])
            for _ in range(2):
                assert reconcile(event.pk, bulk_store()) == []
            sold += 3
            assert_exactly(event, 3, told=sold)


def test_who_waits_for_a_lock_is_woken(sale: Callable[..., Event], tmp_path: Path) -> None:
    with cluster_of_six(tmp_path / "cluster") as topology, stock_at(topology.url):
        event, user = sale(strategy="distributed_lock", quantity=1), make_users(1)[0]
        ways = bulk_ways()
        ways.lock(event.pk, epoch=1, token="another", ttl=60_000)
        results = []

        def wait() -> None:
            results.append(claim(event, user).result)
            connection.close()

        waiting = threading.Thread(target=wait)
        waiting.start()
        ways.unlock(event.pk, token="another")
        waiting.join(20)
        assert results == ["accepted"]
