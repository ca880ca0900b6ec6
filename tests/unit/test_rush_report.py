"""The numbers of a rush and how they are told."""

import asyncio
from collections import Counter
from io import StringIO

import pytest
from rich.console import Console

from coupons.rush import report
from coupons.rush.checker import Verdict
from coupons.rush.history import Exchange, percentile

SECOND = 1_000_000_000
VERDICTS = [Verdict(f"P{n}", True, "as promised", {"coupons": 100}) for n in range(1, 8)]


def exchange(asked, answered, status=202, *, kind="claim", claim_id="", code=""):
    return Exchange(
        user_id=1, kind=kind, key="k", attempt=1, asked_ns=int(asked * SECOND), answered_ns=int(answered * SECOND),
        status=status, claim_id=claim_id, code=code,
    )  # fmt: skip


def test_claims_are_counted_once_and_timed_until_the_last_was_first_promised():
    numbers = report.measure([
        exchange(10, 11, claim_id="7-1-1"),
        exchange(10, 12, claim_id="7-1-2"),
        exchange(13, 14, claim_id="7-1-1"),
        exchange(14, 15, 409, code="sold_out"),
        exchange(14, 20, None),
        exchange(15, 16, 200, kind="poll", claim_id="7-1-1"),
    ])  # fmt: skip
    assert numbers.answers == {
        "202 accepted": 2, "202 accepted (again)": 1, "409 sold_out": 1, "unknown (no answer)": 1,
    }  # fmt: skip
    assert (numbers.requests, numbers.polls, numbers.claims) == (5, 1, 2)
    assert numbers.seconds == 10
    assert numbers.requests_per_second == pytest.approx(0.4), "what was not answered is not counted"
    assert numbers.claims_per_second == pytest.approx(1.0)
    assert (numbers.p50, numbers.p99) == (1000, 2000), "nor does it have a latency"


def test_a_rush_without_requests_has_numbers():
    numbers = report.measure([])
    assert (numbers.requests, numbers.requests_per_second, numbers.claims_per_second, numbers.p99) == (0, 0, 0, 0)


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 50), (95, 95), (99, 99), (100, 100)])
def test_percentiles_are_by_nearest_rank(percent, value):
    assert percentile(list(range(1, 101)), percent) == value


def toll(history, *, healed=0.0, **numbers):
    p1, p3 = {"coupons": 100, "quantity": 100}, {"rejected": 0, "lost": 0, "vanished": 0}
    verdicts = [
        Verdict("P1", True, "", p1 | {name: value for name, value in numbers.items() if name in p1}),
        Verdict("P3", True, "", p3 | {name: value for name, value in numbers.items() if name in p3}),
    ]
    return report.toll(history, verdicts, healed_ns=int(healed * SECOND))


def test_the_toll_tells_refusals_for_the_fault_from_those_of_the_sale():
    told = toll([
        exchange(1, 2, claim_id="7-1-1"),
        exchange(1, 2, 409, code="sold_out"),
        exchange(1, 2, 503, code="unavailable"),
        exchange(1, 2, 500),
        exchange(1, 2, None),
        exchange(1, 2, 503, kind="poll"),
    ])  # fmt: skip
    assert (told.refused, told.unknown) == (2, 1)


def test_the_recovery_is_timed_to_the_first_answer_that_is_neither_an_error_nor_missing():
    history = [
        exchange(1, 9, 409, code="sold_out"),
        exchange(10, 10.5, 503),
        exchange(10, 10.7, None),
        exchange(9, 11, 409, code="sold_out"),
        exchange(11, 12, claim_id="7-1-1"),
    ]
    assert toll(history, healed=10).recovery == pytest.approx(1.0)
    assert toll(history[:3], healed=10).recovery is None


def test_what_is_lost_is_told_apart_from_what_is_rejected_and_over_issued():
    told = toll([], rejected=7, lost=3, vanished=2, coupons=104)
    assert (told.rejected, told.lost, told.over_issued) == (4, 5, 4)
    assert toll([], coupons=96).over_issued == 0


def test_the_last_line_is_the_verdict():
    kept = report.verdict_line(VERDICTS, quantity=100, limit=1)
    assert kept == "VERDICT: kept — 100 of 100 issued, one each, in order, none lost"
    broken = [Verdict(one.promise, one.promise not in ("P2", "P6"), one.text, one.numbers) for one in VERDICTS]
    assert report.verdict_line(broken, quantity=100, limit=1) == "VERDICT: broken — P2, P6 (100 of 100 issued)"


def test_the_report_has_a_line_for_each_promise():
    text = StringIO()
    verdicts = [*VERDICTS[:6], Verdict("P7", False, "two units are nowhere")]
    numbers = report.measure([exchange(1, 2, claim_id="7-1-1")], last_issued_after=2.5)
    report.show(Console(file=text, width=100), numbers, verdicts, quantity=100, limit=1)
    lines = text.getvalue().splitlines()
    assert "✔ P1 as promised" in lines
    assert "✘ P7 two units are nowhere" in lines
    assert lines[-1].startswith("VERDICT: broken")
    assert "issued 2.50 s after the start" in text.getvalue()


def test_progress_is_a_line_every_few_seconds_where_there_is_no_terminal():
    text = StringIO()

    async def look() -> None:
        tally = Counter(requests=10_000, done=1200, sold_out=1100, accepted=100, followed=100, ended=40)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(report.watch(tally, Console(file=text, width=200), line_every=0.01), 0.1)

    asyncio.run(look())
    lines = text.getvalue().splitlines()
    assert len(lines) > 1
    assert set(lines) == {"1,200 of 10,000 requests done: 1,100 sold_out, 100 accepted; 40 of 100 claims ended"}


def test_progress_is_a_bar_in_a_terminal():
    text = StringIO()

    async def look() -> None:
        console = Console(file=text, width=200, force_terminal=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(report.watch(Counter(requests=10, done=5), console), 0.1)

    asyncio.run(look())
    assert "5 of 10 requests done" in text.getvalue()
