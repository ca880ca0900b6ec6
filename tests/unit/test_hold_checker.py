"""The checker on sales with holds: forged histories, each with one thing wrong."""

from dataclasses import replace

from coupons.rush.checker import Claim, CouponRow, Database, FailedRow, check
from coupons.rush.history import Exchange
from coupons.rush.holds import check_holds
from tests.rush_kit import read, said, sold_out

# 1 was confirmed; 2 cancelled, came back and was confirmed; 3 did not pay, and 4 found all gone.
HISTORY = [
    said(1, 1),
    said(2, 2),
    said(3, 3, at=10),
    sold_out(4, at=20),
    replace(read(1, 1, "issued"), kind="confirm"),
    read(1, 1, "issued"),
    replace(read(2, 2, "rejected", "cancelled"), kind="cancel"),
    read(2, 2, "rejected", "cancelled"),
    read(3, 3, "rejected", "hold_expired"),
    said(2, 4, at=600, key="again"),
    read(2, 4, "issued"),
]
DATABASE = Database(
    quantity=3,
    issued=2,
    per_user_limit=1,
    coupons=[CouponRow(1, Claim(1, 1)), CouponRow(2, Claim(1, 4))],
    failed=[
        FailedRow(2, Claim(1, 2), "rejected", "cancelled"),
        FailedRow(3, Claim(1, 3), "rejected", "hold_expired"),
    ],
    stock=1,
    mended=(),
)


def broken(history: list[Exchange] = HISTORY, database: Database = DATABASE) -> list[str]:
    verdicts = [*check(history, database), check_holds(history, database)]
    return [one.promise for one in verdicts if not one.kept]


def test_a_sale_whose_holds_end_in_every_way_keeps_its_promises() -> None:
    assert broken() == []


def test_a_unit_that_came_back_and_is_nowhere_is_missed() -> None:
    assert broken(database=replace(DATABASE, stock=0)) == ["P7"]
    assert broken(database=replace(DATABASE, stock=2)) == ["P7"]


def test_a_hold_that_never_ended_has_not_kept_the_promise() -> None:
    held = replace(DATABASE, coupons=[CouponRow(1, Claim(1, 1)), CouponRow(2, Claim(1, 4), held=True)])
    assert broken(database=held) == ["P3", "H1"]


def test_what_was_confirmed_and_has_no_coupon_is_told() -> None:
    gone = replace(
        DATABASE,
        issued=1,
        stock=2,
        coupons=[CouponRow(2, Claim(1, 4))],
        failed=[*DATABASE.failed, FailedRow(1, Claim(1, 1), "rejected", "hold_expired")],
    )
    assert "H1" in broken(database=gone)


def test_a_cancelled_hold_that_is_issued_all_the_same_is_told() -> None:
    both = replace(DATABASE, issued=3, stock=0, coupons=[*DATABASE.coupons, CouponRow(3, Claim(1, 3))])
    assert "H1" in broken(database=both)
    assert "H1" in broken([*HISTORY, replace(read(1, 1, "rejected", "cancelled"), kind="cancel")])
