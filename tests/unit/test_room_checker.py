"""The checker of the waiting room, fed forged histories: each broken promise turns its own line red."""

from dataclasses import replace

import pytest

from coupons.rush.room import check_room
from coupons.rush.stays import Room
from tests.rush_kit import let_in, limited, no_ticket, not_admitted, said, visited, waits

S = 1_000_000_000  # nanoseconds in a second
MS = 1_000_000
ROOM = Room(rate=2, max_active=2, pass_ttl=10, quantity=3)

HISTORY = [
    let_in(1, 1, kind="join", at=0),
    waits(2, 2, 0, kind="join", at=100 * MS),
    waits(3, 3, 1, kind="join", at=200 * MS),
    waits(4, 4, 2, kind="join", at=300 * MS),
    not_admitted(5, at=400 * MS),
    said(1, 1, at=1 * S),
    let_in(2, 2, at=1200 * MS),
    waits(3, 3, 0, at=1300 * MS),
    waits(4, 4, 1, at=1400 * MS),
    said(2, 2, at=2 * S),
    let_in(3, 3, at=2400 * MS),
    waits(4, 4, 0, at=2500 * MS),
    said(3, 3, at=3 * S),
    visited(4, status=409, code="sold_out", at=3600 * MS),
]


def broken(*more, history=(), room=ROOM):
    """The promises that are broken in the honest history, or in the one given, and with what came in addition."""
    return [one.promise for one in check_room([*(history or HISTORY), *more], room) if not one.kept]


def numbers(promise, *more, history=(), room=ROOM):
    (found,) = (one for one in check_room([*(history or HISTORY), *more], room) if one.promise == promise)
    return found.numbers


def without(*users):
    return [one for one in HISTORY if one.user_id not in users]


def test_an_honest_room_keeps_all_seven():
    verdicts = check_room(HISTORY, ROOM)
    assert [one.promise for one in verdicts] == [f"W{number}" for number in range(1, 8)]
    assert all(one.kept for one in verdicts)


def test_a_room_that_nobody_came_to_keeps_all_seven():
    assert all(one.kept for one in check_room([], ROOM))


# W1 -------------------------------------------------------------------------------------------------------------------


def test_a_number_that_two_have_breaks_w1_only():
    assert broken(waits(6, 4, 3, kind="join", at=300 * MS)) == ["W1"]
    assert numbers("W1", waits(6, 4, 3, kind="join", at=300 * MS))["twice"] == 1


def test_a_lower_number_for_who_joined_later_breaks_w1_only():
    assert broken(waits(6, 9, 7, kind="join", at=4 * S), waits(7, 8, 6, kind="join", at=5 * S)) == ["W1"]


def test_numbers_of_joins_that_were_under_way_together_may_be_in_any_order():
    together = [waits(6, 9, 7, kind="join", at=4 * S, took=50), waits(7, 8, 6, kind="join", at=4 * S + 50)]
    assert broken(*together) == []


def test_a_number_may_have_been_given_by_a_join_that_was_not_answered():
    lost = visited(7, kind="join", status=None, at=4 * S - MS)
    assert broken(lost, waits(6, 9, 7, kind="join", at=4 * S), waits(7, 8, 6, kind="join", at=5 * S)) == []


# W2 -------------------------------------------------------------------------------------------------------------------


def test_more_people_ahead_than_before_break_w2_only():
    assert broken(waits(6, 6, 3, kind="join", at=4 * S), waits(6, 6, 4, at=6 * S)) == ["W2"]


def test_two_tabs_may_hear_of_it_in_any_order():
    assert broken(waits(6, 6, 3, kind="join", at=4 * S), waits(6, 6, 4, kind="join", at=4 * S + 2)) == []


def test_to_wait_after_having_been_admitted_breaks_w2_only():
    assert broken(waits(2, 2, 0, at=3 * S), history=without(3)) == ["W2"]


def test_nothing_is_compared_where_nobody_knows_how_many_are_ahead():
    told = [waits(6, 6, None, kind="join", at=4 * S), waits(6, 6, 4, at=6 * S), waits(6, 6, None, at=8 * S)]
    assert broken(*told) == []


# W3 -------------------------------------------------------------------------------------------------------------------


def test_somebody_ahead_after_one_behind_has_come_in_breaks_w3_only():
    assert broken(
        let_in(6, 6, kind="join", at=4 * S), waits(7, 5, 1, kind="join", at=4 * S), waits(7, 5, 1, at=6 * S)
    ) == ["W3"]


def test_an_answer_that_was_under_way_when_one_behind_came_in_breaks_nothing():
    under_way = [let_in(6, 6, kind="join", at=4 * S, took=500), waits(7, 5, 1, kind="join", at=4 * S + 400)]
    assert broken(*under_way) == []


def test_who_is_called_and_comes_later_than_one_behind_breaks_nothing():
    called = [waits(7, 5, 1, kind="join", at=4 * S), let_in(6, 6, kind="join", at=5 * S), let_in(7, 5, at=6 * S)]
    assert broken(*called) == []


def test_the_lanes_have_orders_of_their_own():
    history = [waits(7, 5, 1, kind="join", at=4 * S), let_in(6, 6, lane=0, kind="join", at=4 * S)]
    assert broken(*history, waits(7, 5, 1, at=6 * S)) == []


VIP_IN_LINE = [waits(6, 6, 1, lane=0, kind="join", at=4 * S), waits(6, 6, 1, lane=0, at=9 * S)]


def test_to_be_called_from_lane_1_while_somebody_of_lane_0_is_in_line_breaks_w3_only():
    joined_late = let_in(7, 7, kind="join", at=6 * S)
    was_in_line = [waits(7, 7, 1, kind="join", at=5 * S), waits(7, 7, 1, at=6 * S), let_in(7, 7, at=7 * S)]
    assert broken(*VIP_IN_LINE, joined_late) == ["W3"]
    assert broken(*VIP_IN_LINE, *was_in_line) == ["W3"]
    assert numbers("W3", *VIP_IN_LINE, joined_late)["before_lane_0"] == 1


def test_who_may_have_been_called_before_lane_0_had_anybody_in_line_breaks_nothing():
    called_before = [waits(7, 5, 1, kind="join", at=3900 * MS), let_in(7, 5, at=6 * S)]
    assert broken(*VIP_IN_LINE, *called_before) == []


def test_a_place_that_is_lost_by_who_came_as_told_breaks_w3_only():
    assert broken(waits(6, 6, 3, kind="join", at=4 * S), no_ticket(6, at=5100 * MS)) == ["W3"]


@pytest.mark.parametrize(
    "more",
    [
        [no_ticket(6, at=20 * S)],
        [visited(6, kind="leave", status=204, at=4500 * MS), no_ticket(6, at=5100 * MS)],
        [visited(6, status=None, at=4500 * MS), no_ticket(6, at=5100 * MS)],
    ],
    ids=["absent", "left", "let in perhaps"],
)
def test_a_place_may_be_lost_by_who_was(more):
    assert broken(waits(6, 6, 3, kind="join", at=4 * S), *more) == []


# W4 -------------------------------------------------------------------------------------------------------------------


def test_one_pass_too_many_breaks_w4_only():
    three = [let_in(user, user, kind="join", at=4 * S + user) for user in (6, 7, 8)]
    assert broken(*three) == ["W4"]
    assert broken(*three, room=replace(ROOM, max_active=3)) == []
    assert numbers("W4", *three)["most"] == 3


def test_a_pass_whose_owner_has_asked_to_claim_or_leave_or_that_ran_out_is_not_counted():
    for end in (
        said(6, 9, at=5 * S, status=None),
        visited(6, kind="leave", status=None, at=5 * S),
    ):
        gone = [let_in(user, user, kind="join", at=at * S) for user, at in ((6, 4), (7, 4), (8, 6))]
        assert broken(*gone, end) == []
    run_out = [let_in(user, user, kind="join", at=at * S) for user, at in ((6, 4), (7, 4), (8, 15))]
    assert broken(*run_out) == []


# W5 -------------------------------------------------------------------------------------------------------------------


def test_a_claim_without_a_pass_breaks_w5_only():
    assert broken(said(5, 4, at=4 * S)) == ["W5"]
    assert broken(said(4, 4, at=4 * S)) == ["W5"]


def test_a_claim_by_a_pass_that_had_run_out_breaks_w5_only():
    late = [let_in(6, 6, kind="join", at=4 * S), said(6, 4, at=14 * S + 6)]
    assert broken(*late) == ["W5"]
    assert broken(late[0], said(6, 4, at=14 * S + 4)) == []


def test_a_claim_before_the_pass_breaks_w5_only():
    assert broken(waits(6, 6, 0, kind="join", at=4 * S), said(6, 4, at=5 * S), let_in(6, 6, at=6 * S)) == ["W5"]


def test_a_visit_without_an_answer_may_have_given_a_pass():
    assert broken(visited(6, kind="join", status=None, at=4 * S), said(6, 4, at=5 * S)) == []


def test_the_first_answer_once_more_is_no_claim_without_a_pass():
    assert broken(said(1, 1, at=60 * S)) == []


# W6 -------------------------------------------------------------------------------------------------------------------


def test_a_429_to_who_came_as_told_breaks_w6_only():
    assert broken(waits(6, 6, 3, kind="join", at=4 * S), limited(6, at=5100 * MS)) == ["W6"]
    assert broken(said(5, at=5 * S, status=429, code="rate_limited")) == ["W6"]


def test_a_429_to_who_is_hasty_or_has_left_breaks_nothing():
    joined = waits(6, 6, 3, kind="join", at=4 * S)
    assert broken(joined, waits(6, 6, 3, at=4500 * MS), limited(6, at=9 * S)) == []
    assert broken(joined, visited(6, kind="leave", status=204, at=5100 * MS), limited(6, kind="join", at=6 * S)) == []


# A shuffle ------------------------------------------------------------------------------------------------------------

# The lots of this seed: number 2 stands before number 1, and both before number 3, who joined after the opening.
SHUFFLED = replace(ROOM, opens_ns=10 * S, seed="seed 2")
BY_LOT = [
    waits(1, 1, None, kind="join", at=1 * S, poll=10_000),
    waits(2, 2, None, kind="join", at=2 * S, poll=9_000),
    waits(3, 3, 2, kind="join", at=11 * S),
]


def test_who_came_before_the_opening_of_a_shuffle_comes_in_by_lot():
    second_first = [let_in(2, 2, at=12 * S), waits(1, 1, 0, at=12500 * MS), let_in(1, 1, at=13 * S)]
    assert broken(history=[*BY_LOT, *second_first], room=SHUFFLED) == []
    first_first = [let_in(1, 1, at=12 * S), waits(2, 2, 1, at=12500 * MS)]
    assert broken(history=[*BY_LOT, *first_first], room=SHUFFLED) == ["W3"]
    assert broken(history=[*BY_LOT, *first_first], room=replace(SHUFFLED, seed="")) == []


def test_who_came_after_the_opening_of_a_shuffle_stands_behind():
    late_first = [let_in(3, 3, at=12 * S), waits(1, 1, 1, at=12500 * MS)]
    assert broken(history=[*BY_LOT, *late_first], room=SHUFFLED) == ["W3"]


def test_nothing_is_said_of_who_joined_a_shuffle_at_the_moment_of_the_opening():
    at_the_moment = [waits(4, 3, 2, kind="join", at=10 * S), waits(4, 3, 1, at=12500 * MS)]
    later = let_in(5, 4, kind="join", at=11 * S)
    assert broken(history=[*BY_LOT[:2], *at_the_moment, later], room=SHUFFLED) == []
    assert broken(history=[*BY_LOT[:2], *at_the_moment, later], room=replace(SHUFFLED, opens_ns=0)) == ["W3"]
