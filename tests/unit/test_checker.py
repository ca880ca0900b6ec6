"""The checker, fed forged histories: each broken promise turns its own line red, and an honest rush none."""

from dataclasses import replace

import pytest

from coupons.rush.checker import Claim, Database, check
from coupons.rush.report import verdict_line
from tests.rush_kit import DATABASE, HISTORY, already, broken, coupon, failed, read, said, silence, sold_out


def test_an_honest_rush_keeps_all_seven():
    verdicts = check(HISTORY, DATABASE)
    assert [one.promise for one in verdicts] == ["P1", "P2", "P3", "P4", "P5", "P6", "P7"]
    assert all(one.kept for one in verdicts)


def test_a_rush_that_nobody_came_to_keeps_all_seven():
    assert broken([], Database(quantity=3, issued=0, per_user_limit=1, coupons=[], stock=3)) == []


# P1 -------------------------------------------------------------------------------------------------------------------


def test_one_coupon_too_many_breaks_p1_only():
    database = replace(DATABASE, issued=4, coupons=[*DATABASE.coupons, coupon(6, 4)])
    assert broken([*HISTORY, said(6, 4, at=50)], database) == ["P1"]


@pytest.mark.parametrize("counted", [2, 4])
def test_an_event_that_counts_otherwise_than_its_coupons_breaks_p1_only(counted):
    assert broken(HISTORY, replace(DATABASE, issued=counted)) == ["P1"]


# P2 -------------------------------------------------------------------------------------------------------------------


def test_two_coupons_of_one_user_break_p2_only():
    # The second came of a request whose answer was lost, so that it is not a coupon without a claim.
    history = [said(1, 1), silence(1, at=1), said(2, 2, at=10), sold_out(4, at=30)]
    database = replace(DATABASE, coupons=[coupon(1, 1), coupon(2, 2), coupon(1, 3)])
    assert broken(history, database) == ["P2"]


def test_as_many_coupons_as_the_limit_allows_keep_p2():
    history = [said(1, 1, key="a"), said(1, 2, at=10, key="b"), said(2, 3, at=20), sold_out(3, at=30)]
    coupons = [coupon(1, 1), coupon(1, 2), coupon(2, 3)]
    assert broken(history, replace(DATABASE, per_user_limit=2, coupons=coupons)) == []
    assert "P2" in broken(history, replace(DATABASE, per_user_limit=1, coupons=coupons))


# P3 -------------------------------------------------------------------------------------------------------------------


def test_an_accepted_claim_without_a_coupon_breaks_p3_only():
    # Its unit is in stock again and the demand is small, so nothing is unsold for want of it.
    history = [said(1, 1), said(2, 2, at=10)]
    database = replace(DATABASE, issued=1, coupons=[coupon(1, 1)], stock=2)
    assert broken(history, database) == ["P3"]


def test_a_claim_that_only_a_refusal_names_must_not_vanish_either():
    history = [said(1, 1), silence(2, at=10), already(2, 2, at=200)]
    assert broken(history, replace(DATABASE, issued=1, coupons=[coupon(1, 1)], stock=2)) == ["P3"]


def test_an_accepted_claim_without_a_name_breaks_p3():
    assert broken([*HISTORY, said(6, at=50)], DATABASE) == ["P3"]


def test_a_claim_that_is_still_retried_has_not_ended():
    history = [said(1, 1), said(2, 2, at=10)]
    database = replace(
        DATABASE, issued=1, coupons=[coupon(1, 1)], failed=[failed(2, 2, status="retrying")], stock=1, backlog=1
    )
    assert broken(history, database) == ["P3"]
    assert check(history, database)[2].numbers["vanished"] == 1


def test_a_rejected_claim_keeps_p3_when_its_owner_has_read_the_reason():
    history = [said(1, 1), said(2, 2, at=10), read(2, 2, "rejected", "error")]
    database = replace(DATABASE, issued=1, coupons=[coupon(1, 1)], failed=[failed(2, 2)], stock=2)
    assert broken(history, database) == []


@pytest.mark.parametrize("last_look", [[], [read(2, 2, "pending")], [read(2, 2, "rejected", "")]])
def test_a_rejected_claim_whose_owner_has_read_no_reason_breaks_p3_only(last_look):
    history = [said(1, 1), said(2, 2, at=10), *last_look]
    database = replace(DATABASE, issued=1, coupons=[coupon(1, 1)], failed=[failed(2, 2)], stock=2)
    assert broken(history, database) == ["P3"]


def test_the_reason_that_another_user_read_does_not_count():
    history = [said(1, 1), said(2, 2, at=10), read(1, 2, "rejected", "error")]
    database = replace(DATABASE, issued=1, coupons=[coupon(1, 1)], failed=[failed(2, 2)], stock=2)
    assert broken(history, database) == ["P3"]


# P4 -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [[], [sold_out(6, at=35)]], ids=["never asked", "was refused"])
def test_a_coupon_of_a_user_who_was_promised_none_breaks_p4_only(asked):
    database = replace(DATABASE, quantity=4, issued=4, coupons=[*DATABASE.coupons, coupon(6, 4)])
    assert broken([*HISTORY, *asked], database) == ["P4"]


@pytest.mark.parametrize("status", [None, 503, 500], ids=["no answer", "503", "500"])
def test_a_request_without_a_telling_answer_may_have_brought_a_coupon(status):
    database = replace(DATABASE, quantity=4, issued=4, coupons=[*DATABASE.coupons, coupon(6, 4)])
    assert broken([*HISTORY, said(6, at=25, status=status)], database) == []


def test_a_429_brings_no_coupon():
    database = replace(DATABASE, quantity=4, issued=4, coupons=[*DATABASE.coupons, coupon(6, 4)])
    assert broken([*HISTORY, said(6, at=25, status=429, code="rate_limited")], database) == ["P4"]


def test_a_coupon_from_before_the_rush_needs_no_request():
    database = replace(DATABASE, quantity=4, issued=4, coupons=[*DATABASE.coupons, coupon(9, 4)])
    assert broken(HISTORY, replace(database, before=frozenset({Claim(1, 4)}))) == []


def test_a_coupon_for_another_claim_than_the_promised_one_breaks_p3_and_p4():
    database = replace(DATABASE, coupons=[coupon(1, 1), coupon(2, 2), coupon(3, 4)])
    assert broken(HISTORY, database) == ["P3", "P4"]


# P5 -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["key-1", "another"])
def test_a_repeated_request_told_of_the_same_claim_keeps_p5(key):
    again = [said(1, 1, at=50, attempt=2), already(1, 1, at=60, key=key), sold_out(4, at=70)]
    assert broken([*HISTORY, *again], DATABASE) == []


@pytest.mark.parametrize("key", ["key-1", "another"])
def test_a_repeated_request_told_of_another_claim_breaks_p5_only(key):
    # Both claims end: the second is rejected, so neither vanishes and nobody holds two coupons.
    history = [*HISTORY, said(1, 4, at=50, key=key), read(1, 4, "rejected", "already_claimed")]
    assert broken(history, replace(DATABASE, failed=[failed(1, 4, "already_claimed")])) == ["P5"]


def test_a_winner_who_is_told_sold_out_when_asking_again_breaks_p5_only():
    assert broken([*HISTORY, sold_out(1, at=50)], DATABASE) == ["P5"]


def test_two_requests_under_way_at_once_may_be_told_differently():
    # The one told "sold out" may have been decided before a unit came back.
    assert broken([*HISTORY, sold_out(1, at=2)], DATABASE) == []


def test_one_claim_told_to_two_users_breaks_p5():
    assert "P5" in broken([*HISTORY, said(6, 3, at=21)], DATABASE)


def test_a_sequence_number_that_is_not_the_claim_s_breaks_p5_only():
    history = [HISTORY[0], replace(HISTORY[1], sequence=3), *HISTORY[2:]]
    assert broken(history, DATABASE) == ["P5"]


def test_a_name_that_is_none_is_no_claim():
    history = [replace(HISTORY[0], claim_id="7-1"), *HISTORY[1:]]
    assert {"P3", "P5"} <= set(broken(history, DATABASE))


def test_with_several_coupons_a_user_only_the_same_key_is_the_same_request():
    coupons = [coupon(1, 1), coupon(1, 2), coupon(2, 3)]
    database = replace(DATABASE, per_user_limit=2, coupons=coupons)
    other_key = [said(1, 1, key="a"), said(1, 2, at=10, key="b"), said(2, 3, at=20)]
    same_key = [said(1, 1, key="a"), said(1, 2, at=10, key="a"), said(2, 3, at=20)]
    assert broken(other_key, database) == []
    assert broken(same_key, database) == ["P5"]


# P6 -------------------------------------------------------------------------------------------------------------------


def test_a_lower_number_for_one_who_asked_after_the_answer_breaks_p6_only():
    history = [said(1, 2, at=0), said(2, 1, at=10), said(3, 3, at=20), *HISTORY[4:]]
    assert broken(history, replace(DATABASE, coupons=[coupon(1, 2), coupon(2, 1), coupon(3, 3)])) == ["P6"]


def test_requests_under_way_together_may_be_numbered_either_way():
    history = [said(1, 2, at=0, took=5), said(2, 1, at=4), said(3, 3, at=20), *HISTORY[4:]]
    assert broken(history, replace(DATABASE, coupons=[coupon(1, 2), coupon(2, 1), coupon(3, 3)])) == []


def test_asking_at_the_very_moment_of_an_answer_is_not_after_it():
    history = [said(1, 2, at=0, took=5), said(2, 1, at=5), said(3, 3, at=20), *HISTORY[4:]]
    assert broken(history, replace(DATABASE, coupons=[coupon(1, 2), coupon(2, 1), coupon(3, 3)])) == []


def test_the_overtaken_one_is_found_behind_many_that_are_in_order():
    number = 1000
    history = [said(n, n, at=10 * n) for n in range(1, number)] + [said(number, number + 1, at=10 * number)]
    history += [said(number + 1, number, at=10 * number + 10)]
    coupons = [coupon(n, n) for n in range(1, number)] + [coupon(number, number + 1), coupon(number + 1, number)]
    database = Database(quantity=number + 1, issued=number + 1, per_user_limit=1, coupons=coupons)
    verdict = check(history, database)[5]
    assert (verdict.kept, verdict.numbers) == (False, {"compared": number + 1, "overtaken": 1})


def test_the_highest_number_answered_so_far_counts_not_the_last():
    history = [said(1, 3, at=0), said(2, 1, at=1), said(3, 2, at=20), *HISTORY[4:]]
    database = replace(DATABASE, coupons=[coupon(1, 3), coupon(2, 1), coupon(3, 2)])
    assert broken(history, database) == ["P6"]
    unordered = check(history, replace(database, ordered=False))
    assert [one.promise for one in unordered if not one.kept] == [], "where the strategy promises no order"
    assert "in order" in verdict_line(check(HISTORY, DATABASE), quantity=3, limit=1)
    assert "in order" not in verdict_line(unordered, quantity=3, limit=1)


def test_a_replayed_answer_does_not_count_as_the_asking():
    # User 1's first answer was lost; the claim was taken then, long before the repetition that names it.
    history = [silence(1, at=0), said(2, 2, at=10), said(1, 1, at=200, attempt=2), said(3, 3, at=210), *HISTORY[4:]]
    assert broken(history, DATABASE) == []


def test_a_replay_without_a_lost_answer_before_it_does_not_excuse():
    history = [said(2, 2, at=10), said(1, 1, at=200, attempt=2), said(3, 3, at=210), *HISTORY[4:]]
    assert broken(history, DATABASE) == ["P6"]


def test_a_replay_counts_from_the_first_answer():
    # User 1 was answered at 5, and again at 205: user 2, who asked in between with a lower number, was overtaken.
    history = [said(1, 2, at=0), said(2, 1, at=10), said(1, 2, at=200, attempt=2), said(3, 3, at=210), *HISTORY[4:]]
    assert broken(history, replace(DATABASE, coupons=[coupon(1, 2), coupon(2, 1), coupon(3, 3)])) == ["P6"]


def test_a_claim_from_before_the_rush_has_no_place_in_its_order():
    history = [said(1, 2, at=0), said(2, 3, at=10), already(3, 1, at=20), *HISTORY[4:]]
    database = replace(DATABASE, coupons=[coupon(3, 1), coupon(1, 2), coupon(2, 3)], before=frozenset({Claim(1, 1)}))
    assert broken(history, database) == []


def test_numbers_of_different_epochs_are_not_compared():
    history = [said(1, 9, at=0), said(2, 2, at=10, epoch=2), said(3, 3, at=20, epoch=2), *HISTORY[4:]]
    assert broken(history, replace(DATABASE, coupons=[coupon(1, 9), coupon(2, 2, 2), coupon(3, 3, 2)])) == []


# P7 -------------------------------------------------------------------------------------------------------------------


def test_a_unit_that_was_refused_and_stayed_breaks_p7_only():
    history = [said(1, 1), said(2, 2, at=10), *HISTORY[4:]]
    database = replace(DATABASE, issued=2, coupons=[coupon(1, 1), coupon(2, 2)], stock=1)
    assert broken(history, database) == ["P7"]


def test_a_unit_that_is_nowhere_breaks_p7_only_even_where_demand_was_small():
    history = [said(1, 1), said(2, 2, at=10)]
    database = replace(DATABASE, issued=2, coupons=[coupon(1, 1), coupon(2, 2)], stock=0)
    assert broken(history, database) == ["P7"]


def test_a_unit_in_stock_that_is_not_there_breaks_p7_only():
    assert broken(HISTORY, replace(DATABASE, stock=1)) == ["P7"]


def test_stock_left_for_want_of_demand_keeps_p7():
    history = [said(1, 1), said(2, 2, at=10)]
    database = replace(DATABASE, issued=2, coupons=[coupon(1, 1), coupon(2, 2)], stock=1)
    assert broken(history, database) == []


def test_a_unit_given_back_by_a_rejected_claim_is_accounted_for():
    history = [*HISTORY, read(3, 3, "rejected", "error")]
    database = replace(DATABASE, issued=2, coupons=[coupon(1, 1), coupon(2, 2)], failed=[failed(3, 3)], stock=1)
    assert broken(history, database) == []


def test_a_claim_rejected_for_want_of_stock_gave_nothing_back():
    history = [*HISTORY, read(3, 3, "rejected", "stock_exhausted")]
    rejected = [failed(3, 3, "stock_exhausted")]
    database = replace(DATABASE, issued=2, coupons=[coupon(1, 1), coupon(2, 2)], failed=rejected, stock=1)
    assert broken(history, database) == ["P7"]


def test_unsold_units_without_a_loaded_stock_cannot_be_accounted_for():
    history = [said(1, 1), said(2, 2, at=10), *HISTORY[4:]]
    database = replace(DATABASE, issued=2, coupons=[coupon(1, 1), coupon(2, 2)], stock=None)
    assert broken(history, database) == ["P7"]


def test_nor_can_they_by_a_rejected_claim():
    history = [*HISTORY, read(3, 3, "rejected", "error")]
    database = replace(DATABASE, issued=2, coupons=[coupon(1, 1), coupon(2, 2)], failed=[failed(3, 3)], stock=None)
    assert broken(history, database) == ["P7"]


def test_a_user_who_holds_a_claim_is_not_demand_for_another():
    # One of two clicks at once was refused, before a unit came back for the other.
    history = [said(1, 1), sold_out(1, at=1, key="another"), said(2, 2, at=10)]
    database = replace(DATABASE, issued=2, coupons=[coupon(1, 1), coupon(2, 2)], stock=1)
    assert broken(history, database) == []


def test_a_claim_log_that_was_not_drained_breaks_p3_and_p7():
    database = replace(DATABASE, issued=2, coupons=[coupon(1, 1), coupon(2, 2)], stock=0, backlog=1)
    assert broken(HISTORY, database) == ["P3", "P7"]


def test_a_sale_half_sold_before_the_rush_ends_sold_out():
    database = replace(DATABASE, before=frozenset({Claim(1, 1)}))
    assert broken(HISTORY[1:3] + HISTORY[4:], database) == []
