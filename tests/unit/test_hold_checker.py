"""The checker on sales with holds: forged histories, each with one thing wrong."""

from dataclasses import replace

from coupons.rush.checker import Claim, CouponRow, Database, FailedRow, check
from coupons.rush.history import Exchange, Kind
from coupons.rush.holds import check_holds, check_returns
from coupons.rush.room import check_room
from coupons.rush.stays import Room
from tests.rush_kit import let_in, read, said, sold_out, visited, waits

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


# With a waiting room --------------------------------------------------------------------------------------------------

S = 1_000_000_000  # nanoseconds in a second
ROOM = Room(rate=10, max_active=10, pass_ttl=5, quantity=1)  # somebody comes in at least every 50 s
ONE_UNIT = Database(
    quantity=1, issued=1, per_user_limit=1, coupons=[CouponRow(2, Claim(1, 2))],
    failed=[FailedRow(1, Claim(1, 1), "rejected", "cancelled")], mended=(),
)  # fmt: skip
NONE_ISSUED = replace(ONE_UNIT, issued=0, coupons=[], stock=1)


def ended(user: int, sequence: int, kind: Kind, state: str, *, at: float) -> Exchange:
    """A confirmation or a cancellation, answered."""
    reason = "cancelled" if state == "rejected" else ""
    look: Exchange = read(user, sequence, state, reason)
    return replace(look, kind=kind, asked_ns=int(at * S), answered_ns=int(at * S) + 5)


def in_line(user: int, *, since: int, until: int, ahead: int = 0) -> list[Exchange]:
    """Comes each second, as told, and is told to wait."""
    asked = [waits(user, user, ahead, at=second * S) for second in range(since + 1, until)]
    return [waits(user, user, ahead, kind="join", at=since * S), *asked]


def gone(user: int, *, at: float) -> Exchange:
    told: Exchange = visited(user, status=409, code="sold_out", at=int(at * S))
    return told


# 1 was let in, and cancelled after 3 s; it was 2's turn then, who paid; 3 waited until that was done.
CANCELLED = [
    let_in(1, 1, kind="join", at=0),
    said(1, 1, at=S),
    *in_line(2, since=1, until=4),
    ended(1, 1, "cancel", "rejected", at=3.5),
    ended(1, 1, "poll", "rejected", at=3.6),
]
TAKEN = [let_in(2, 2, at=4 * S), said(2, 2, at=5 * S), ended(2, 2, "confirm", "issued", at=7)]
HONEST = [*CANCELLED, *TAKEN, *in_line(3, since=2, until=8, ahead=1), gone(3, at=8)]


def returned(history: list[Exchange], database: Database = ONE_UNIT, room: Room = ROOM) -> dict[str, int]:
    """The numbers of H2, and whether it was kept."""
    verdict = check_returns(history, database, room)
    return verdict.numbers | {"kept": verdict.kept}


def test_a_unit_that_comes_back_and_goes_to_the_next_in_line_keeps_all_promises() -> None:
    assert returned(HONEST) == {"back": 1, "confirmed": 1, "beside": 0, "early": 0, "kept": True}
    verdicts = [*check(HONEST, ONE_UNIT), *check_room(HONEST, ROOM), check_holds(HONEST, ONE_UNIT)]
    assert [one.promise for one in verdicts if not one.kept] == []


def test_a_unit_that_came_back_and_that_nobody_got_although_people_waited_is_told() -> None:
    waited = [*CANCELLED, *in_line(2, since=4, until=60), *in_line(3, since=2, until=60, ahead=1)]
    assert returned(waited, NONE_ISSUED) == {"back": 1, "confirmed": 0, "beside": 2, "early": 0, "kept": False}
    assert [one.promise for one in check(waited, NONE_ISSUED) if not one.kept] == [], "only H2 says so"


def test_nobody_waits_beside_a_unit_that_is_held_still() -> None:
    held = [one for one in CANCELLED if one.state != "rejected"]
    assert returned([*held, *in_line(2, since=4, until=90)], NONE_ISSUED)["kept"]
    unknown = [replace(held[1], status=None, claim_id="", sequence=0), *held[2:]]
    assert returned([*unknown, *in_line(2, since=4, until=90)], NONE_ISSUED)["kept"], "it may have been taken"


def test_who_did_not_come_when_told_to_has_not_waited() -> None:
    seldom = [waits(2, 2, 0, kind="join", at=S), *(waits(2, 2, 0, at=second * S) for second in range(20, 100, 20))]
    assert returned([*(one for one in CANCELLED if one.user_id == 1), *seldom], NONE_ISSUED)["kept"]


def test_time_begins_anew_when_somebody_comes_in_or_is_not_answered() -> None:
    stays = [*CANCELLED, *in_line(2, since=4, until=60), waits(2, 2, 0, at=60 * S)]
    assert not returned(stays, NONE_ISSUED)["kept"]
    assert returned([*stays, let_in(4, 4, lane=0, kind="join", at=30 * S)], NONE_ISSUED)["kept"]
    assert returned([*stays, visited(4, status=503, kind="join", at=30 * S)], NONE_ISSUED)["kept"]


def test_a_queue_that_ends_while_a_unit_is_held_only_is_told() -> None:
    assert returned([*HONEST, gone(4, at=6)])["early"] == 1
    assert returned([*CANCELLED, gone(2, at=4)], NONE_ISSUED)["early"] == 1, "and none was confirmed later either"
    unanswered = replace(ended(2, 2, "confirm", "", at=5.5), status=None, claim_id="", sequence=0)
    assert returned([*HONEST, unanswered, gone(4, at=6)])["kept"], "it may have been confirmed by then"


def test_a_unit_that_goes_to_one_behind_is_told_by_w3() -> None:
    passed = [*CANCELLED, *in_line(3, since=2, until=4, ahead=1), *in_line(4, since=3, until=4, ahead=2)]
    passed += [let_in(4, 4, at=4 * S), waits(3, 3, 1, at=5 * S)]
    assert [one.promise for one in check_room(passed, ROOM) if not one.kept] == ["W3"]
