"""The checker of a waiting room that was lost and put back: what is held against it then, and what is not."""

from dataclasses import replace

import pytest

from coupons.rush.room import check_room
from coupons.rush.stays import Period, Room
from tests.rush_kit import let_in, limited, no_ticket, said, visited, waits
from tests.unit.test_room_pace import ROOM as BUSY
from tests.unit.test_room_pace import SMALL, flow, patient, w7

S = 1_000_000_000  # nanoseconds in a second
MS = 1_000_000
ONE = Room(rate=2, max_active=2, pass_ttl=10, quantity=3)
LOST = replace(ONE, periods=[Period(until_ns=10 * S), Period(since_ns=12 * S)])
# The same with the sale on the database in between.
AWAY = replace(ONE, periods=[Period(until_ns=10 * S), Period(12 * S, 20 * S, by_rank=True), Period(since_ns=22 * S)])


def broken(*history, room):
    return [one.promise for one in check_room(history, room) if not one.kept]


def test_a_place_may_be_worse_after_a_loss_and_not_thereafter():
    history = [waits(6, 6, 3, kind="join", at=4 * S), waits(6, 6, 5, at=13 * S)]
    assert broken(*history, room=ONE) == ["W2"]
    assert broken(*history, room=LOST) == []
    assert broken(*history, waits(6, 6, 6, at=14 * S), room=LOST) == ["W2"]


def test_what_was_under_way_at_the_loss_is_compared_with_nothing():
    history = [waits(6, 6, 3, kind="join", at=4 * S), waits(6, 6, 5, at=9 * S, took=2 * S)]
    assert broken(*history, room=ONE) == ["W2"]
    assert broken(*history, room=LOST) == []


def test_a_pass_that_was_lost_has_its_owner_wait_again_and_breaks_nothing():
    history = [let_in(6, 6, kind="join", at=4 * S), waits(6, 6, 1, at=13 * S)]
    assert broken(*history, room=ONE) == ["W2"]
    assert broken(*history, room=LOST) == []


def test_who_was_let_in_before_a_loss_has_passed_nobody_by_who_waits_after_it():
    history = [waits(5, 5, 1, kind="join", at=3 * S), let_in(6, 6, kind="join", at=4 * S), waits(5, 5, 1, at=13 * S)]
    assert broken(*history, room=ONE) == ["W3"]
    assert broken(*history, room=LOST) == []
    assert broken(*history, let_in(6, 6, at=14 * S), waits(5, 5, 1, at=15 * S), room=LOST) == ["W3"]


def test_lane_0_goes_first_again_after_a_loss():
    vip = [waits(6, 6, 1, lane=0, kind="join", at=4 * S), *(waits(6, 6, 1, lane=0, at=at * S) for at in (13, 18))]
    called_before = [waits(7, 5, 1, kind="join", at=3 * S), let_in(7, 5, at=15 * S)]
    called_after = [called_before[0], waits(7, 5, 1, at=14 * S), called_before[1]]
    assert broken(*vip, *called_before, room=LOST) == []
    assert broken(*vip, *called_after, room=LOST) == ["W3"]


def test_a_place_is_forgiven_that_the_database_had_not_heard_of_and_no_other():
    known, unheard = waits(6, 6, 3, kind="join", at=4 * S, poll=9000), waits(7, 7, 3, kind="join", at=9 * S, poll=4000)
    assert broken(unheard, no_ticket(7, at=13100 * MS), room=LOST) == []
    assert broken(unheard, no_ticket(7, at=13100 * MS), room=ONE) == ["W3"]
    assert broken(known, no_ticket(6, at=13100 * MS), room=LOST) == ["W3"]


def test_passes_from_before_and_after_a_loss_are_not_alive_together():
    before = [let_in(user, user, kind="join", at=8 * S) for user in (1, 2)]
    after = [let_in(user, user, kind="join", at=13 * S) for user in (3, 4)]
    assert broken(*before, *after, room=ONE) == ["W4"]
    assert broken(*before, *after, room=LOST) == []
    assert broken(*before, *after, let_in(5, 5, kind="join", at=14 * S), room=LOST) == ["W4"]


def test_without_redis_there_are_no_passes_to_be_counted_or_missed():
    by_rank = [waits(user, user, user, kind="join", at=user * MS) for user in (1, 2, 3)]
    by_rank += [let_in(user, user, at=13 * S) for user in (1, 2, 3)]
    claims = [said(user, user, at=15 * S, status=201, epoch=2) for user in (1, 4)]
    assert broken(*by_rank, *claims, room=LOST) == ["W4", "W5"]
    assert broken(*by_rank, *claims, room=AWAY) == []


def test_a_turn_that_was_told_without_redis_is_no_pass():
    history = [let_in(1, 1, kind="join", at=19 * S), said(1, 1, at=23 * S)]
    assert broken(*history, room=ONE) == []
    assert broken(*history, room=AWAY) == ["W5"]


@pytest.mark.parametrize("at", [11 * S, 19 * S + 999 * MS], ids=["when it was lost", "when it came back"])
def test_a_claim_that_may_have_been_taken_without_redis_needed_no_pass(at):
    assert broken(said(1, 1, at=at, took=2 * S), room=AWAY) == []
    assert broken(said(1, 1, at=at, took=2 * S), room=ONE) == ["W5"]


def test_numbers_are_one_each_and_who_is_patient_is_not_limited_whatever_was_lost():
    twice = [waits(6, 6, 3, kind="join", at=4 * S), waits(7, 6, 3, kind="join", at=13 * S)]
    assert broken(*twice, room=LOST) == ["W1"]
    assert broken(visited(6, kind="join", status=503, at=11 * S), limited(6, at=13 * S), room=LOST) == ["W6"]


def test_the_pace_is_not_judged_without_redis_nor_until_all_who_were_put_back_have_shown_themselves():
    gap = flow(gap=3 * S)
    assert not w7(gap, BUSY).kept
    lost = replace(BUSY, periods=[Period(until_ns=14 * S), Period(since_ns=16 * S)])
    assert w7(gap, lost).kept
    early = replace(BUSY, periods=[Period(until_ns=S), Period(since_ns=2 * S)])
    long = flow(people=3000)
    assert 0 < w7(long, early).numbers["windows"] < w7(long, BUSY).numbers["windows"]


def test_nobody_is_late_before_a_line_that_was_put_back_could_have_reached_them():
    assert not w7(patient(until=70), SMALL).kept
    lost = replace(SMALL, periods=[Period(until_ns=20 * S), Period(since_ns=22 * S)])
    assert w7(patient(until=70), lost).kept
    assert not w7(patient(until=100), lost).kept
