"""A whole rush: real server and worker, real HTTP, the command's verdict."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from coupons.models import Coupon, FailedClaim
from events.models import Event
from tests.celery_kit import Processes
from tests.factories import make_user, make_users
from tests.web import Server

Serve = Callable[..., str]


@pytest.fixture
def serve(serving: Callable[..., Server], tmp_path: Path) -> Iterator[Serve]:
    """Start a gate, or a web, and a worker with its beat unless told not to; the server's URL."""
    processes = Processes(tmp_path)

    def start(lane: str = "gate", *, worker: bool = True) -> str:
        if worker:
            processes.start("worker")
            processes.start("beat")
        return serving(lane).url

    yield start
    processes.end()


def rush(event: Event, url: str, *arguments: str) -> tuple[list[str], int]:
    """The lines that a rush prints, and its exit status. P8 asks for little: other tests may run beside it."""
    out = StringIO()
    status = 0
    try:
        call_command("rush", f"--event={event.id}", f"--url={url}", "--refused-within=10", *arguments, stdout=out)
    except SystemExit as end:
        status = int(str(end.code))
    return out.getvalue().strip().splitlines(), status


def test_a_rush_keeps_every_promise_in_whatever_way_the_units_are_handed_out(sale, serve):
    url = serve("gate")
    make_users(60)
    for name in ("conditional_update", "skip_locked", "distributed_lock", "list_queue", "lua_sync"):
        event = sale(strategy=name, quantity=10)
        lines, status = rush(event, url, "--users=60", "--concurrency=20")
        assert status == 0, "\n".join([name, *lines])


@pytest.mark.parametrize("lane", ["gate", "web"])
def test_a_rush_keeps_every_promise(sale, serve, tmp_path, lane):
    event, users = sale(quantity=40), make_users(300)
    result, history = tmp_path / "rush.json", tmp_path / "history.jsonl"
    lines, status = rush(
        event,
        serve(lane),
        "--users=300",
        "--duplicates=60",
        "--concurrency=50",
        f"--json={result}",
        f"--history={history}",
    )
    assert lines[-1] == "VERDICT: kept — 40 of 40 issued, one each, in order, none lost", "\n".join(lines)
    assert status == 0
    assert [line[:4] for line in lines if line.startswith(("✔", "✘"))] == [f"✔ P{number}" for number in range(1, 10)]
    assert set(Coupon.objects.values_list("user_id", flat=True)) <= set(users)
    event.refresh_from_db()
    assert event.issued == Coupon.objects.count() == 40

    told = json.loads(result.read_bytes())
    assert told["kept"]
    assert [one["kept"] for one in told["verdicts"]] == [True] * 9
    answers = told["numbers"]["answers"]
    assert answers["202 accepted"] == told["numbers"]["claims"] == 40
    # Those who click twice come first, so both answers to a repetition are met: the first again, and a refusal.
    assert answers["202 accepted (again)"] > 0
    assert answers["409 already_claimed"] > 0
    assert sum(answers.values()) == told["numbers"]["requests"] >= 360
    exchanges = [json.loads(line) for line in history.read_bytes().splitlines()]
    assert len(exchanges) == told["numbers"]["requests"] + told["numbers"]["polls"]
    assert {one["claim"] for one in exchanges if one.get("state") == "issued" and one["kind"] == "poll"} == {
        str(coupon.claim_id) for coupon in Coupon.objects.all()
    }


def test_a_broken_promise_ends_the_rush_with_1(sale, serve):
    event = sale(quantity=5)
    make_users(20)
    Event.objects.filter(pk=event.id).update(issued=1)  # a coupon that is not there: the last claim finds none left
    lines, status = rush(event, serve(), "--users=20")
    assert status == 1
    assert lines[-1] == "VERDICT: broken — P1, P7 (4 of 5 issued)", "\n".join(lines)


def test_refusals_that_come_late_break_a_promise(sale, serve):
    event = sale(quantity=5)
    make_users(20)
    lines, status = rush(event, serve(), "--users=20", "--refused-within=0.0001")
    assert status == 1
    assert lines[-1] == "VERDICT: broken — P8 (5 of 5 issued)", "\n".join(lines)


def test_claims_that_nobody_issues_are_told_as_lost(sale, serve, capsys):
    event = sale(quantity=5)
    make_users(20)
    lines, status = rush(event, serve(worker=False), "--users=20", "--drain-timeout=1")
    assert status == 1
    assert lines[-1] == "VERDICT: broken — P3, P7 (0 of 5 issued)", "\n".join(lines)
    assert "is a worker running?" in capsys.readouterr().err


def test_a_rush_with_holds_keeps_every_promise_and_sells_what_comes_back(sale, serve, tmp_path):
    # That all who hold one of so many pay at once happens in 6 of a million rushes.
    event, _ = sale(quantity=20, hold_seconds=1, rate_per_second=100, burst=100), make_users(50)
    make_user(is_superuser=True, is_staff=True)
    result = tmp_path / "rush.json"
    lines, status = rush(event, serve(), "--users=50", "--holds", f"--json={result}")
    assert status == 0, "\n".join(lines)
    assert [line[:4] for line in lines if line.startswith(("✔", "✘"))][-1] == "✔ H1"
    event.refresh_from_db()
    assert (event.issued, event.held) == (20, 0), "all of them, and for good"
    assert Coupon.objects.filter(status="issued").count() == 20
    ends = Counter(FailedClaim.objects.values_list("reason", flat=True))
    assert set(ends) <= {"cancelled", "payment_failed", "hold_expired"}
    assert sum(ends.values()) > 0, "and some came back on the way"
    assert json.loads(result.read_bytes())["verdicts"][-1]["numbers"]["confirmed"] == 20


def test_a_rush_is_told_whether_the_sale_has_holds(sale):
    with pytest.raises(CommandError, match="without --holds"):
        rush(sale(), "http://127.0.0.1:1", "--users=1", "--holds")
    with pytest.raises(CommandError, match="with --holds"):
        rush(sale(hold_seconds=5), "http://127.0.0.1:1", "--users=1")
