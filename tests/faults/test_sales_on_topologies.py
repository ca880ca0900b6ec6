"""The whole product on Sentinels and on a cluster: the primary of a sale is lost while it is rushed for.

The promoted replica is another run of the server, so it sells nothing until a worker has loaded a new epoch on it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from coupons.models import Coupon, Reconciliation
from events.models import Event
from tests.faults.faults import Fault, Scene
from tests.faults.parts import until
from tests.faults.playing import play
from tests.faults.scenarios import ABUNDANT, Load, Scenario
from tests.faults.system import System
from tests.faults.table import Table
from tests.topologies import Node, SentinelSet, cluster_of_six, sentinel_set

pytestmark = [
    pytest.mark.faults,
    pytest.mark.parametrize(
        "_running_system", [sentinel_set, cluster_of_six], ids=["sentinel", "cluster"], indirect=True
    ),
]

Kind = Reconciliation.Kind
Mode = Event.StockMode


def killed(scene: Scene) -> Iterator[None]:
    """It is started again when its replica has been promoted, and follows it."""
    with replaced(scene) as primary:
        primary.kill()
    yield


def frozen(scene: Scene) -> Iterator[None]:
    """When it goes on, it takes itself for the primary still."""
    with replaced(scene) as primary:
        primary.freeze()
    primary.thaw()
    yield


def failed_over(scene: Scene) -> Iterator[None]:
    """As planned, with both there."""
    with replaced(scene):
        scene.system.topology.fail_over(scene.event_id)
    yield


def killed_and_given_up(scene: Scene) -> Iterator[None]:
    """The sale goes on from the database; it has come back when the fault is over."""
    with replaced(scene) as primary:
        primary.kill()
    until(lambda: mode_of(scene.event_id) == Mode.DATABASE, "the sale has given Redis up")
    yield
    until(lambda: mode_of(scene.event_id) == Mode.REDIS, "the sale is back on Redis")


@contextmanager
def replaced(scene: Scene) -> Iterator[Node]:
    """The primary of the event, and afterwards wait until another is in its place."""
    topology = scene.system.topology
    primary = topology.primary(scene.event_id)
    yield primary
    until(lambda: topology.primary(scene.event_id) is not primary, "the replica is promoted")


def mode_of(event_id: int) -> str:
    """Where the sale takes its units from."""
    mode: str = Event.objects.values_list("stock_mode", flat=True).get(pk=event_id)
    return mode


def stock_of(system: System) -> str:
    return "Sentinel" if isinstance(system.topology, SentinelSet) else "Cluster"


def kinds_mended(event: Event) -> set[str]:
    """What the reconciler found and mended."""
    return set(Reconciliation.objects.filter(event=event, mended_at__isnull=False).values_list("kind", flat=True))


def epochs_of_coupons(event: Event) -> set[int]:
    return set(Coupon.objects.filter(event=event).values_list("epoch", flat=True))


LOST = {
    "primary killed (-9)": killed,
    "primary frozen, and thawed when it has been replaced": frozen,
    "planned failover": failed_over,
}


@pytest.mark.parametrize("name", LOST)
def test_every_promise_is_kept_though_the_primary_is_lost(
    system: System, table: Table, seed: int, refused_within: float, name: str
) -> None:
    """Claims that were lost with it are told to be (P3), and no name of a claim has two owners (P5)."""
    fault = Fault(name, "stock", contextmanager(LOST[name]), lasts=(2.0, 2.5), quick=True)
    scenario = Scenario(f"{stock_of(system)}: {name}", [fault], ABUNDANT)
    with system.telling():
        played = play(system, scenario, seed=seed, refused_within=refused_within)
        table.add(played)
        assert played.kept, played.told()
        event = Event.objects.latest("id")
        assert kinds_mended(event) == {Kind.OTHER_RUN}, played.told()
        assert played.toll.rejected == 0, "lost with the primary, or issued"
        assert epochs_of_coupons(event) == set(range(1, event.epoch + 1)), "it was sold before, and afterwards"


def test_a_sale_that_gives_the_primary_up_comes_back_to_the_promoted_replica(
    system: System, table: Table, seed: int, refused_within: float
) -> None:
    name = "primary killed (-9), and given up after a second"
    fault = Fault(name, "stock", contextmanager(killed_and_given_up), lasts=(2.0, 2.5), quick=True)
    load = Load(coupons=2000, over=8.0)
    scenario = Scenario(f"{stock_of(system)}: {name}", [fault], load, redis_lost_after=1)
    with system.telling():
        played = play(system, scenario, seed=seed, refused_within=refused_within)
        table.add(played)
        assert played.kept, played.told()
        event = Event.objects.latest("id")
        assert kinds_mended(event) == {Kind.OUTAGE}, played.told()
        assert epochs_of_coupons(event) == {1, 2, 3}, "it was sold from Redis, the database, and Redis again"
