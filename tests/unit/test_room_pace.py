"""W7 of the waiting room: nobody too late, and people come in at the rate; on forged histories."""

from dataclasses import replace

import pytest

from coupons.rush.room import check_room
from coupons.rush.stays import Room
from tests.rush_kit import let_in, said, visited, waits

S = 1_000_000_000  # nanoseconds in a second
ROOM = Room(rate=50, max_active=1000, pass_ttl=20, quantity=5000)
PEOPLE = 2000
EVERY = S // 50


def flow(*, every=EVERY, gap=0, claims_after=2 * S, people=PEOPLE):
    """So many join at once, and one after the other comes in; after the first third nobody does for a while."""
    history = []
    for user in range(1, people + 1):
        at = S + user * every + (gap if user > people // 3 else 0)
        history += [
            waits(user, user, user, kind="join", at=user, poll=(at - S // 2) // 1_000_000),
            waits(user, user, 1, at=at - S // 2, poll=500),
            let_in(user, user, at=at),
            said(user, user, at=at + claims_after),
        ]
    return history


def w7(history, room=ROOM):
    (found,) = (one for one in check_room(history, room) if one.promise == "W7")
    return found


def test_people_who_come_in_at_the_rate_keep_w7():
    found = w7(flow())
    assert found.kept
    assert found.numbers["windows"] > 20
    assert found.numbers["lowest_permille"] == found.numbers["highest_permille"] == 1000


@pytest.mark.parametrize(
    "wrong", [{"every": int(EVERY / 0.9)}, {"every": int(EVERY / 1.1)}, {"gap": 3 * S}], ids=["slow", "fast", "a gap"]
)
def test_a_pace_that_is_off_by_a_tenth_or_stops_for_seconds_breaks_w7_only(wrong):
    found = [one for one in check_room(flow(**wrong), ROOM) if not one.kept]
    assert [one.promise for one in found] == ["W7"]
    assert found[0].numbers["off"] > 0
    assert found[0].numbers["late"] == 0


@pytest.mark.parametrize("scarce", [{"max_active": 300}, {"quantity": 2000}])
def test_the_pace_is_not_judged_where_passes_or_units_may_have_been_scarce(scarce):
    plenty, few = w7(flow(gap=3 * S)), w7(flow(gap=3 * S, claims_after=10 * S), replace(ROOM, **scarce))
    assert few.numbers["windows"] < plenty.numbers["windows"]


def test_a_slow_room_is_measured_over_longer():
    assert Room(rate=5, max_active=1, pass_ttl=1, quantity=1).window_ns == 100 * S
    assert Room(rate=500, max_active=1, pass_ttl=1, quantity=1).window_ns == 10 * S


# Too late -------------------------------------------------------------------------------------------------------------

SMALL = Room(rate=1, max_active=13, pass_ttl=20, quantity=1000)  # 0.2 a second at the worst: 13 places, 65 s each


def patient(*, until, every=5):
    """Somebody with nobody before them, who comes every few seconds as they are told, and is told to wait."""
    moments = range(0, until, every)
    return [waits(1, 1, 0, kind="ask" if at else "join", at=at * S, poll=every * 1000 - 100) for at in moments]


def test_who_is_there_all_the_time_and_waits_longer_than_they_have_to_breaks_w7_only():
    assert w7(patient(until=50), SMALL).kept
    found = [one for one in check_room(patient(until=70), SMALL) if not one.kept]
    assert [(one.promise, one.numbers["late"]) for one in found] == [("W7", 1)]


def test_who_was_away_meanwhile_is_not_held_up_by_others():
    history = [one for one in patient(until=70) if not 20 * S < one.asked_ns < 30 * S]
    assert w7(history, SMALL).kept


def test_people_of_the_first_lane_who_come_later_may_go_before():
    vips = [waits(user, user, 0, lane=0, kind="join", at=user * S) for user in range(2, 12)]
    assert w7([*patient(until=70), *vips], SMALL).kept
    assert not w7([*patient(until=120), *vips], SMALL).kept


def test_nobody_waits_too_long_for_units_that_others_have_passes_for():
    few = replace(SMALL, quantity=14)
    claims = [said(user, user, at=user) for user in (2, 3)]
    assert not w7(patient(until=70), few).kept
    assert w7([*patient(until=70), *claims], few).kept


def test_the_pace_is_not_judged_where_requests_went_wrong():
    outage = [visited(1, status=status, at=14 * S, took=3 * S) for status in (503, None)]
    history = flow(gap=3 * S)
    assert not w7(history).kept
    for one in outage:
        found = w7([*history, one])
        assert found.kept
        assert found.numbers["windows"] > 0


def test_neither_is_the_pace_judged_before_the_opening_nor_is_anybody_late():
    assert w7(flow(), replace(ROOM, opens_ns=10 * S)).numbers["windows"] < w7(flow()).numbers["windows"]
    assert w7(patient(until=70), replace(SMALL, opens_ns=20 * S)).kept
    assert not w7(patient(until=100), replace(SMALL, opens_ns=20 * S)).kept
