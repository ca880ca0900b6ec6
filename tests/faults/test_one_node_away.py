"""A cluster of which one node is away and nobody takes its place: the sales on the others are seen to all the same."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone
from redis.exceptions import RedisError

from coupons.keeper import RedisStockKeeper
from coupons.reconciling import look
from coupons.stock import keys
from coupons.stock.store import bulk_store
from events.models import Event
from tests.factories import make_users
from tests.faults.stocks import follows, joined_hot_store
from tests.outages import stock_at
from tests.sales import reserve
from tests.topologies import ClusterOfSix, Node, cluster_of_six

pytestmark = pytest.mark.faults

Sale = Callable[..., Event]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterOfSix]:
    with (
        cluster_of_six(tmp_path / "cluster") as topology,
        stock_at(topology.url),
        override_settings(STOCK_REDIS_BULK_TIMEOUT=0.5),
    ):
        yield topology


def sales_on_all(cluster: ClusterOfSix, sale: Sale) -> tuple[Node, Event, list[Event]]:
    """A primary, a sale on it, and four on the others; the primary's replica is gone."""
    here = sale()
    node = cluster.primary(here.id)
    replica = next(one for one in cluster.nodes if follows(one, node.port))
    elsewhere: list[Event] = []
    while len(elsewhere) < 4:
        event = sale()
        if cluster.primary(event.id) is not node:
            elsewhere.append(event)
        else:
            Event.objects.filter(pk=event.id).delete()
    replica.kill()
    return node, here, elsewhere


@pytest.mark.parametrize("away", [Node.kill, Node.freeze])
def test_the_sales_on_the_other_nodes_are_drained_loaded_and_brought_back(
    cluster: ClusterOfSix, sale: Sale, away: Callable[[Node], None]
) -> None:
    store = bulk_store()
    node, here, (waiting, lost, damaged, outage) = sales_on_all(cluster, sale)
    user, *_ = make_users(1)
    reserve(store, here, user)
    reserve(store, waiting, user)
    store.unload(lost.id)
    store.client.delete(keys.state(damaged.id))
    store.client.set(keys.state(damaged.id), "not a hash")
    since = timezone.now() - timedelta(minutes=1)
    Event.objects.filter(pk=outage.id).update(stock_mode=Event.StockMode.DATABASE, fell_back_at=since)
    joined_hot_store()
    away(node)
    for _ in range(3):  # with connections that break in it, without any, and with the topology read anew
        due = look(store)
        assert (due.drain, due.reconcile, due.bring_back) == ([waiting.id], [lost.id, damaged.id], [outage.id])
        assert due.away == [here.id], "it is neither lost nor damaged, for all that is known"
    levels = RedisStockKeeper().levels([here.id, waiting.id, damaged.id])
    assert {event_id: one.backlog for event_id, one in levels.items()} == {waiting.id: 1}


@pytest.mark.parametrize("away", [Node.kill, Node.freeze])
def test_where_nobody_answers_that_is_an_error_and_not_nothing(
    cluster: ClusterOfSix, sale: Sale, away: Callable[[Node], None]
) -> None:
    event = sale()
    for node in cluster.nodes:
        away(node)
    with pytest.raises(RedisError):
        look(bulk_store())
    with pytest.raises(RedisError):
        bulk_store().snapshots([event.id])


def test_claims_are_issued_by_hand_where_they_can_be_and_it_is_said_where_not(
    cluster: ClusterOfSix, sale: Sale
) -> None:
    node, here, (waiting, *_) = sales_on_all(cluster, sale)
    reserve(bulk_store(), waiting, *make_users(1))
    node.kill()
    out = StringIO()
    with pytest.raises(CommandError, match="1 left out") as raised:
        call_command("issue_claims", stdout=out)
    assert raised.value.returncode == 2
    assert out.getvalue().splitlines() == [
        f"event {here.id}: its node of the cluster does not answer.",
        f"event {waiting.id}: 1 claims issued.",
    ]
