"""How claims are written in Redis, and read again."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupons.codes import new_code
from coupons.models import ClaimId
from coupons.stock.codes import ReserveCode
from coupons.stock.records import HeldClaim, IssuedCoupon, LogEntry, Reservation, Snapshot, instant, milliseconds

BIG = st.integers(min_value=1, max_value=2**53)
REQUESTS = st.text(alphabet="abcXYZ019-_", max_size=11)
HELD = st.builds(HeldClaim, st.integers(1, 99), BIG, BIG, BIG, REQUESTS)


@given(st.lists(HELD, max_size=5))
def test_what_a_user_holds_is_read_as_it_was_written(held: list[HeldClaim]) -> None:
    assert HeldClaim.parse_all(";".join(map(str, held))) == held


def test_a_user_who_holds_nothing_has_no_entry() -> None:
    assert HeldClaim.parse_all(None) == []
    assert HeldClaim.parse_all("") == []


@given(st.integers(0, 4_000_000_000_000))
def test_a_moment_of_the_server_survives_the_way_through_the_database(ms: int) -> None:
    assert milliseconds(instant(ms)) == ms


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - naive bounds
def test_an_issued_coupon_is_read_as_it_was_written_to_the_microsecond(moment: datetime) -> None:
    coupon = IssuedCoupon(new_code(), moment)
    assert IssuedCoupon.parse(str(coupon)) == coupon


def test_a_log_entry_knows_its_name() -> None:
    entry = LogEntry.parse("3-1099511627777", {"u": "42", "o": "1", "t": "1795234234123"})
    assert entry == LogEntry(3, 2**40 + 1, 42, 1, 1795234234123)
    assert entry.entry_id == "3-1099511627777"


@pytest.mark.parametrize("code", ReserveCode)
def test_every_answer_of_a_reservation_can_be_read(code: ReserveCode) -> None:
    assert Reservation.parse([code.value, 1, 2, 3]).code is code


def test_a_code_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="99"):
        Reservation.parse([99])


def test_the_age_of_the_oldest_claim_is_never_negative() -> None:
    fields = {
        "epoch": 1,
        "stock": 0,
        "sequence": 1,
        "drained": 0,
        "status": "",
        "backlog": 1,
        "claimants": 1,
        "same_run": 1,
    }
    assert Snapshot(now_ms=5, oldest_ms=9, **fields).oldest_age == 0  # type: ignore[arg-type]
    assert Snapshot(now_ms=1009, oldest_ms=9, **fields).oldest_age == 1  # type: ignore[arg-type]


def test_the_name_of_a_claim_is_read_as_it_was_written() -> None:
    assert ClaimId.parse(str(ClaimId(7, 1, 42))) == ClaimId(7, 1, 42)


@pytest.mark.parametrize("text", ["", "7", "7-1", "7-1-2-3", "7-1-x", "-1-1-1", "\u0667-1-1", "7-1-" + "9" * 19])
def test_what_cannot_be_the_name_of_a_claim_is_none(text: str) -> None:
    assert ClaimId.parse(text) is None
