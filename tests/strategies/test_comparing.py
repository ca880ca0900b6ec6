"""`manage.py compare_strategies`: what it measures, what it tells, and that it leaves nothing behind."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from rich.console import Console

from coupons.comparing import report
from coupons.comparing.callers import Told
from coupons.comparing.rounds import Round
from coupons.comparing.servers import Counts
from coupons.management.commands import compare_strategies
from coupons.models import Coupon, FailedClaim
from coupons.stock.store import StockStore
from events.models import Event
from notifications.models import Notification, Outbox
from tests.concurrency.children import environment
from tests.servers import ROOT

SOME = ["redis_counter", "list_queue"]


def accepted(sequence: int, asked: float, answered: float) -> Told:
    return Told("accepted", sequence, asked, asked, answered, 0)


def a_round(strategy: str = "row_lock", *, issued: int = 2, seconds: float = 4.0) -> Round:
    told = [accepted(1, 10.0, 10.5), accepted(2, 11.0, 10.0 + seconds), Told("sold_out", 0, 10.0, 12.0, 12.1, 3)]
    return Round(strategy, told, 10.0, 12.0, issued, 2, Counts(6, 30, 9))


def test_a_round_is_measured_by_the_users_it_answered() -> None:
    one = report.measure(a_round())
    assert (one.claims_per_second, one.issued_within, one.asked_again) == (0.75, 2.0, 1.0)
    assert (round(one.p50), round(one.p99)) == (2100, 3000)
    assert (one.transactions, one.commands, one.messages) == (2.0, 10.0, 3.0)
    assert (one.left, one.over_issued, one.out_of_order) == (0, 0, 0)


def test_what_must_not_be_is_counted() -> None:
    assert report.measure(a_round(issued=3)).over_issued == 1
    assert report.measure(a_round(issued=1)).left == 1
    told = [accepted(2, 0, 1), accepted(1, 2, 3), accepted(3, 0, 4)]
    assert report.out_of_order(told) == 1
    assert report.out_of_order([accepted(2, 0, 1), accepted(1, 0.5, 3)]) == 0, "asked before the other was answered"


def test_of_several_rounds_the_median_counts_and_of_what_must_not_be_the_sum() -> None:
    figures = [report.measure(a_round(seconds=seconds, issued=issued)) for seconds, issued in ((3, 2), (6, 3), (4, 3))]
    figures.append(report.measure(a_round("lua_async")))
    first, second = report.medians(figures)
    assert (first.strategy, first.claims_per_second, first.over_issued) == ("row_lock", 0.75, 2)
    assert second.strategy == "lua_async"


def test_the_table_and_the_csv_tell_the_same() -> None:
    figures = [report.measure(a_round())]
    console = Console(file=io.StringIO(), width=150)
    report.show(console, figures)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "| row_lock |" in shown
    assert "2,100.0" in shown
    written = io.StringIO()
    report.write_csv(figures, written)
    written.seek(0)
    (row,) = csv.DictReader(written)
    assert (row["strategy"], row["p50"], row["over_issued"]) == ("row_lock", "2100.0", "0")


def test_a_comparison_tells_of_each_strategy_and_leaves_nothing_behind(
    transactional_db: None, store: StockStore, tmp_path: Path
) -> None:
    table, plot = tmp_path / "rounds.csv", tmp_path / "plot.png"
    command = [sys.executable, "manage.py", "compare_strategies", "--only", *SOME]
    command += ["--users=12", "--coupons=6", "--rounds=1", "--processes=1", "--threads=6"]
    ended = subprocess.run(
        [*command, f"--csv={table}", f"--plot={plot}"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with table.open(encoding="utf-8") as file:
        rows = {row["strategy"]: row for row in csv.DictReader(file)}
    assert list(rows) == SOME
    assert all((row["left"], row["over_issued"], row["out_of_order"]) == ("0", "0", "0") for row in rows.values())
    assert all(f"| {name}" in ended.stdout for name in SOME)
    assert all(float(row["messages"]) >= 1 for row in rows.values())
    assert all(float(row["transactions"]) >= 0.5 for row in rows.values())  # half of the users get a coupon
    assert plot.read_bytes().startswith(b"\x89PNG")
    for model in (Event, Coupon, FailedClaim, Notification, Outbox, get_user_model()):
        assert not model._default_manager.exists(), model
    assert list(store.client.scan_iter("sc:*")) == []


def test_the_callers_end_with_who_started_them(transactional_db: None) -> None:
    code = "from coupons.comparing import processes as p; import os, time; e = p.started(1)\n"
    code += "print(e.submit(os.getpid).result(), flush=True); e.submit(time.sleep, 300)"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    child.wait(timeout=20)


def test_a_plot_without_matplotlib_is_refused_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_strategies, "plot", None)
    with pytest.raises(CommandError, match="matplotlib"):
        call_command("compare_strategies", plot=Path("plot.png"))
