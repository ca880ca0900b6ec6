"""The numbers of a waiting room and how they are told."""

from io import StringIO

import pytest
from rich.console import Console

from coupons.rush import report, room_report
from tests.rush_kit import let_in, limited, read, said, visited, waits
from tests.unit.test_room_checker import HISTORY

S = 1_000_000_000  # nanoseconds in a second


def test_visits_are_counted_by_what_was_asked_and_answered():
    more = [limited(6, at=4 * S), visited(7, kind="leave", status=204, at=4 * S), visited(8, status=None, at=4 * S)]
    numbers = room_report.measure([*HISTORY, *more, read(1, 1, "issued")])
    assert numbers.answers == {
        "ask 200 waiting": 3, "join 200 waiting": 3, "ask 200 admitted": 2, "join 200 admitted": 1,
        "ask 409 sold_out": 1, "ask 429 rate_limited": 1, "leave 204": 1, "ask unknown (no answer)": 1,
    }  # fmt: skip
    assert numbers.visits == sum(numbers.answers.values()) == 13
    assert (numbers.tickets, numbers.admitted) == (4, 3)


def test_people_wait_from_the_first_answer_to_the_pass():
    numbers = room_report.measure([
        let_in(1, 1, kind="join", at=0),
        waits(2, 2, 0, kind="join", at=1 * S),
        waits(3, 3, 1, kind="join", at=1 * S),
        let_in(2, 2, at=5 * S),
        let_in(2, 2, at=9 * S),
    ])  # fmt: skip
    assert (numbers.wait_p50, numbers.wait_longest) == (0, 4)
    assert numbers.visits_per_second == pytest.approx(5 / 9)


def test_a_room_without_visits_has_numbers():
    numbers = room_report.measure([said(1, 1)])
    assert (numbers.visits, numbers.visits_per_second, numbers.wait_p95) == (0, 0, 0)


def test_it_is_told_in_tables():
    text = StringIO()
    room_report.show(Console(file=text, width=110), room_report.measure(HISTORY))
    assert "join  │ 200 waiting" in text.getvalue()
    assert "3 of 4 tickets" in text.getvalue()


def test_visits_are_no_polls_of_claims():
    assert report.measure([*HISTORY, read(1, 1, "issued")]).polls == 1
