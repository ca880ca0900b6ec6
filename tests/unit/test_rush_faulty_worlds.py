"""The checker in a world with faults: what is excused there, and what is still broken."""

from dataclasses import replace

import pytest

from coupons.rush.checker import check
from tests.rush_kit import DATABASE, HISTORY, broken, coupon, failed, read, said, silence, sold_out


def numbers(promise, history, database, **options):
    (found,) = (one for one in check(history, database, **options) if one.promise == promise)
    return found.numbers


# Unknown --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, 500, 502, 503])
def test_an_unknown_answer_breaks_nothing_whether_or_not_it_took_effect(status):
    taken = replace(DATABASE, coupons=[coupon(1, 1), coupon(2, 2), coupon(6, 3)])
    asked = said(6, at=15, status=status)
    assert broken([*HISTORY[:2], asked, *HISTORY[4:]], taken) == []
    assert broken([*HISTORY, asked], DATABASE) == []


def test_a_coupon_issued_at_once_is_a_claim_like_any_other():
    at_once = said(3, 3, at=20, status=201)
    assert broken([*HISTORY[:2], at_once, *HISTORY[4:]], DATABASE) == []
    assert broken([*HISTORY[:2], at_once, *HISTORY[4:]], replace(DATABASE, coupons=DATABASE.coupons[:2])) != []


# P3: a claim that Redis lost altogether -------------------------------------------------------------------------------

ONE_LOST = DATABASE  # the three others have theirs


@pytest.mark.parametrize("reason", ["lost", "outage"])
def test_a_rejection_without_a_row_is_an_end_when_its_owner_has_read_the_reason(reason):
    history = [*HISTORY[:3], said(6, 4, at=25), read(6, 4, "rejected", reason)]
    assert broken(history, ONE_LOST) == []
    assert numbers("P3", history, ONE_LOST)["rejected"] == 1
    assert numbers("P3", history, ONE_LOST)["lost"] == (reason == "lost")


@pytest.mark.parametrize("look", [read(6, 4, "rejected"), read(6, 4, "pending"), read(5, 4, "rejected", "lost")])
def test_a_lost_claim_whose_owner_was_not_told_why_breaks_p3(look):
    assert broken([*HISTORY[:3], said(6, 4, at=25), look], ONE_LOST) == ["P3"]


def test_a_claim_that_is_issued_after_its_owner_was_told_of_a_rejection_breaks_p3_only():
    assert broken([*HISTORY, read(3, 3, "rejected", "lost")], DATABASE) == ["P3"]


# P5: a new claim after the end of the first ---------------------------------------------------------------------------

LOST = read(1, 1, "rejected", "lost")
AGAIN = [said(1, 1, at=0), said(2, 2, at=10), said(3, 3, at=20), LOST, said(1, 4, at=600)]
ISSUED_AGAIN = replace(DATABASE, coupons=[coupon(2, 2), coupon(3, 3), coupon(1, 4)])


def test_who_lost_a_claim_may_be_told_of_another():
    assert broken(AGAIN, ISSUED_AGAIN) == []
    row = replace(ISSUED_AGAIN, failed=[failed(1, 1, "lost")])
    assert broken(AGAIN, row) == []


def test_the_second_may_come_before_the_first_is_told_to_be_lost():
    """Redis forgets a claim at once; its owner asks again, and only then looks at the first."""
    history = [said(1, 1, at=0), said(1, 1, at=50, epoch=2), LOST, said(2, 2, at=10), said(3, 3, at=20)]
    database = replace(DATABASE, coupons=[coupon(2, 2), coupon(3, 3), coupon(1, 1, 2)], loads=1)
    assert broken(history, database) == []


def test_a_second_claim_without_the_end_of_the_first_breaks_p5():
    assert "P5" in broken([one for one in AGAIN if one is not LOST], ISSUED_AGAIN)


def test_another_s_rejection_does_not_end_the_claim():
    assert "P5" in broken([read(2, 1, "rejected", "lost") if one is LOST else one for one in AGAIN], ISSUED_AGAIN)


def test_the_first_claim_named_again_after_the_second_breaks_p5_only():
    assert broken([*AGAIN, said(1, 1, at=700)], ISSUED_AGAIN) == ["P5"]


def test_who_lost_a_claim_may_be_told_that_all_is_sold():
    history = [said(1, 1, at=0), *HISTORY[1:3], said(4, 4, at=30), LOST, sold_out(1, at=600)]
    database = replace(DATABASE, coupons=[coupon(2, 2), coupon(3, 3), coupon(4, 4)])
    assert broken(history, database) == []
    assert "P5" in broken([one for one in history if one is not LOST], database)


def test_one_claim_of_two_users_is_broken_even_where_one_of_them_lost_it():
    """A Redis that was rolled back gives a number again: the name is then no name."""
    history = [*HISTORY[:3], said(6, 3, at=30), read(3, 3, "rejected", "lost"), *HISTORY[4:]]
    assert broken(history, replace(DATABASE, coupons=[coupon(1, 1), coupon(2, 2), coupon(6, 3)])) == ["P5"]


# P7: units that came back ---------------------------------------------------------------------------------------------


def test_the_unit_of_a_lost_claim_may_be_left_when_the_demand_has_gone():
    history = [*HISTORY, read(3, 3, "rejected", "lost")]
    database = replace(DATABASE, issued=2, coupons=DATABASE.coupons[:2], stock=1)
    assert broken(history, database) == []


def test_the_unit_of_a_claim_rejected_after_an_outage_was_another_s():
    history = [*HISTORY, read(3, 3, "rejected", "outage")]
    database = replace(DATABASE, issued=2, coupons=DATABASE.coupons[:2], stock=1)
    assert broken(history, database) == ["P7"]


def test_a_load_anew_may_bring_back_the_unit_of_a_claim_that_nobody_heard_of():
    history = [*HISTORY[:2], silence(3, at=20), *HISTORY[4:]]
    left = replace(DATABASE, issued=2, coupons=DATABASE.coupons[:2], stock=1)
    assert broken(history, replace(left, loads=1)) == []
    assert broken(history, left) == ["P7"], "without a load nothing is lost"
    two_left = replace(left, issued=1, coupons=DATABASE.coupons[:1], stock=2, loads=1)
    assert "P7" in broken([HISTORY[0], silence(3, at=20), *HISTORY[4:], sold_out(6, at=50)], two_left)


# P8: a refusal is quick -----------------------------------------------------------------------------------------------

MS = 1_000_000  # nanoseconds in a millisecond


def refusals(number, ms, **rest):
    return [sold_out(100 + n, at=0, took=ms * MS, **rest) for n in range(number)]


def test_p8_is_asked_for():
    assert "P8" not in [one.promise for one in check(HISTORY, DATABASE)]
    assert [one.promise for one in check(HISTORY, DATABASE, refused_within=1)][-1] == "P8"


def test_99_of_100_quick_refusals_keep_p8_and_98_do_not():
    assert broken([*HISTORY, *refusals(97, 10), *refusals(1, 2000)], DATABASE, refused_within=1) == []
    assert broken([*HISTORY, *refusals(98, 10), *refusals(2, 2000)], DATABASE, refused_within=1) == ["P8"]
    assert broken([*HISTORY, *refusals(98, 10), *refusals(2, 2000)], DATABASE, refused_within=3) == []


def test_slow_503s_are_not_hidden_by_quick_refusals():
    away = [said(1000 + n, took=2000 * MS, status=503, code="unavailable") for n in range(3)]
    assert broken([*HISTORY, *refusals(1000, 10), *away], DATABASE, refused_within=1) == ["P8"]
    measured = numbers("P8", [*HISTORY, *refusals(1000, 10), *away], DATABASE, refused_within=1)
    assert (measured["refused"], measured["unavailable"]) == (1005, 3)
    assert (measured["p99_ms"], measured["p100_ms"], measured["unavailable_p99_ms"]) == (10, 2000, 2000)


def test_slow_polls_that_are_refused_break_p8_too():
    polls = [replace(read(n, 1, ""), status=503, answered_ns=2000 * MS, claim_id="", sequence=0) for n in range(5)]
    assert broken([*HISTORY, *polls], DATABASE, refused_within=1) == ["P8"]


def test_neither_silence_nor_a_slow_acceptance_is_a_refusal():
    slow = [silence(6, took=5000 * MS), said(3, 3, at=20, took=5000 * MS)]
    assert broken([*HISTORY[:2], *slow, *HISTORY[3:]], DATABASE, refused_within=1) == []


# P9: reconciling adds nothing that is not there -----------------------------------------------------------------------


def test_p9_is_said_where_the_reconciliations_are_known():
    assert "P9" not in [one.promise for one in check(HISTORY, DATABASE)]
    assert [one.promise for one in check(HISTORY, replace(DATABASE, mended=[]))][-1] == "P9"
    assert broken(HISTORY, replace(DATABASE, mended=[])) == []


def test_a_unit_that_was_missing_may_be_added():
    assert broken(HISTORY, replace(DATABASE, mended=[1])) == []


def test_an_added_unit_that_is_too_many_at_the_end_breaks_p9():
    database = replace(DATABASE, stock=1, mended=[1])
    assert broken(HISTORY, database) == ["P7", "P9"]
    assert numbers("P9", HISTORY, database) == {"added": 1, "excess": 1, "exhausted": 0, "taken": 0}


def test_an_added_unit_that_was_sold_and_was_not_there_breaks_p9_only():
    history = [*HISTORY, said(6, 4, at=50), read(6, 4, "rejected", "stock_exhausted")]
    database = replace(DATABASE, failed=[failed(6, 4, "stock_exhausted")], mended=[1])
    assert broken(history, database) == ["P9"]
    assert broken(history, replace(database, mended=[])) == [], "a Redis that was rolled back sells too much, too"


def test_an_added_unit_that_had_to_be_taken_away_again_breaks_p9_only():
    assert broken(HISTORY, replace(DATABASE, mended=[1, -1])) == ["P9"]


def test_units_taken_away_that_were_too_many_keep_p9():
    assert broken(HISTORY, replace(DATABASE, mended=[-2])) == []
    assert broken(HISTORY, replace(DATABASE, mended=[-2, 1])) == []
