"""The machinery itself: a round can be played again, whatever breaks is healed, and a broken promise is found out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import pytest

from coupons.keeper import RedisStockKeeper
from coupons.rush.visitors import Role
from coupons.stock import keys
from tests.faults import playing
from tests.faults.faults import FAULTS, Fault, Scene
from tests.faults.playing import Played
from tests.faults.scenarios import SCENARIOS, Load, Room, Scenario, at_random
from tests.faults.system import System
from tests.faults.table import Table
from tests.postgres import until
from tests.sales import change

pytestmark = pytest.mark.faults

Play = Callable[[Scenario], Played]

SMALL = Load(users=400, coupons=200, over=1.5, double_clicks=0)


def deed(breaking, *, lasts=(0.2, 0.2)) -> Scenario:
    """A small sale in which this is done."""
    one = Fault(breaking.__name__, "sale", contextmanager(breaking), lasts, quick=True)
    return Scenario(breaking.__name__, [one], SMALL)


@pytest.fixture
def play(system: System, refused_within: float) -> Play:
    """Plays on the system, with the same seed always."""
    return partial(playing.play, system, seed=1, refused_within=refused_within)


def test_each_fault_has_a_scenario() -> None:
    played = {one.name for each in SCENARIOS.values() for one in each.faults}
    assert played == set(FAULTS)


def test_a_seed_always_means_the_same_round() -> None:
    assert at_random(7) == at_random(7)
    rounds = [at_random(seed) for seed in range(50)]
    assert len({one.name for one in rounds}) > 40
    assert {len(one.faults) for one in rounds} == {1, 2, 3}
    for one in rounds:
        assert len({fault.part for fault in one.faults}) == len(one.faults), "two faults of one part undo each other"


def test_a_sale_without_a_fault_keeps_every_promise_and_its_row_says_so(system: System, play: Play) -> None:
    # A machine that stands still for a third of a second is a fault, though not one of ours: a request waits for it.
    with system.process("web").running_with(STOCK_REDIS_TIMEOUT="10"):
        played = play(Scenario("nothing", load=SMALL))
    assert played.kept, played.told()
    table = Table()
    table.add(played)
    head, _, row = table.markdown().splitlines()
    assert head.startswith("| fault | load | issued |")
    assert row.startswith("| nothing | 400 users in 1.5 s, 200 coupons | 200 | 0 | 0 | 0 | 0 | 0 |")
    assert row.endswith("| kept |")


def test_a_coupon_that_vanishes_is_found_out(play: Play) -> None:
    def coupon_deleted(scene: Scene) -> Iterator[None]:
        yield
        with scene.system.postgresql.connect() as database:
            delete = "DELETE FROM coupons_coupon WHERE id = (SELECT min(id) FROM coupons_coupon WHERE event_id = %s)"
            until(lambda: database.execute(delete, [scene.event_id]).rowcount == 1)

    played = play(deed(coupon_deleted))
    assert {"P1", "P3"} <= set(played.broken)
    assert not played.kept
    assert played.toll.lost == 1


def test_units_out_of_nothing_are_found_out(play: Play) -> None:
    def units_added(scene: Scene) -> Iterator[None]:
        with scene.system.stock.client() as client:
            client.hincrby(keys.state(scene.event_id), "stock", 7)
        yield

    played = play(deed(units_added))
    # They are claimed, and the database has nothing left for them: its guard holds, and each of the seven is told.
    assert "P1" not in played.broken
    assert played.toll.rejected == 7


def test_units_that_are_taken_away_are_found_out(play: Play) -> None:
    def units_taken(scene: Scene) -> Iterator[None]:
        with scene.system.stock.client() as client:
            client.hincrby(keys.state(scene.event_id), "stock", -7)
        yield

    played = play(deed(units_taken))
    assert played.broken == ["P7"]
    assert played.issued == 193


def test_a_product_that_grows_in_the_database_alone_is_found_out(play: Play) -> None:
    def grown(scene: Scene) -> Iterator[None]:
        with patch.object(RedisStockKeeper, "resize"):
            change(scene.event_id, quantity=SMALL.coupons + 30)
        yield

    played = play(deed(grown))
    assert played.broken == ["P7"]
    assert played.unsold == 30


def test_a_waiting_room_that_nobody_needs_a_pass_of_is_found_out(play: Play) -> None:
    def room_opened_wide(scene: Scene) -> Iterator[None]:
        with scene.system.stock.client() as client:
            client.hset(keys.state(scene.event_id), "room", "0")
        yield

    outside = Room(shares={Role.PATIENT: 50, Role.OUTSIDE: 50}, patience=5.0)
    played = play(replace(deed(room_opened_wide), room=outside))
    assert "W5" in played.broken


def test_a_sale_that_should_have_moved_to_the_database_and_did_not_is_found_out(play: Play) -> None:
    played = play(Scenario("nothing", load=SMALL, outages=1))
    assert (played.broken, played.kept) == ([], False)


def test_a_fault_that_breaks_off_leaves_the_system_whole(play: Play) -> None:
    def broken_off(scene: Scene) -> Iterator[None]:
        scene.system.stop("worker")
        scene.system.kill("web")
        yield from iter(())  # it has no end

    with pytest.raises(RuntimeError, match="generator didn't yield"):
        play(deed(broken_off))
    assert play(Scenario("afterwards", load=SMALL)).kept
