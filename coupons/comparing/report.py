"""What a comparison says: the numbers of each strategy, as a table and as CSV."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import IO

from rich import box
from rich.console import Console
from rich.table import Table

from coupons.comparing.callers import Told
from coupons.comparing.rounds import Round
from coupons.rush.history import percentile

MILLISECONDS = 1000  # in a second


@dataclass(frozen=True, slots=True)
class Figures:
    """A round, or the medians of several."""

    strategy: str
    claims_per_second: float  # users answered, whatever the answer
    p50: float  # milliseconds from coming to the answer, asking again included
    p99: float
    issued_within: float  # seconds until the last coupon was written
    transactions: float  # of the database, a user
    messages: float  # that Redis was sent, a user
    commands: float  # that Redis has done, those in scripts too, a user
    asked_again: float  # a user
    left: int  # units that nobody got, although more people came
    over_issued: int
    out_of_order: int  # claims with a lower number than one that was answered before they asked


def measure(one: Round) -> Figures:
    """The figures of a round."""
    users = len(one.told)
    latencies = sorted((told.answered - told.came) * MILLISECONDS for told in one.told)
    seconds = max(told.answered for told in one.told) - one.began
    return Figures(
        strategy=one.strategy,
        claims_per_second=users / seconds,
        p50=percentile(latencies, 50),
        p99=percentile(latencies, 99),
        issued_within=one.issued_at - one.began,
        transactions=one.counts.transactions / users,
        messages=one.counts.messages / users,
        commands=one.counts.commands / users,
        asked_again=sum(told.again for told in one.told) / users,
        left=max(0, min(one.quantity, users) - one.issued),
        over_issued=max(0, one.issued - one.quantity),
        out_of_order=out_of_order(one.told),
    )


def out_of_order(told: Iterable[Told]) -> int:
    """How many accepted claims have a lower number than one that was answered before they asked (P6)."""
    accepted = [one for one in told if one.sequence]
    by_answer = sorted(accepted, key=lambda one: one.answered)
    violations, highest, seen = 0, 0, 0
    for one in sorted(accepted, key=lambda one: one.asked):
        while seen < len(by_answer) and by_answer[seen].answered < one.asked:
            highest = max(highest, by_answer[seen].sequence)
            seen += 1
        violations += one.sequence < highest
    return violations


def medians(rounds: Sequence[Figures]) -> list[Figures]:
    """One of each strategy, in the order of their first rounds; of what must not be, the sum."""
    of: dict[str, list[Figures]] = {}
    for one in rounds:
        of.setdefault(one.strategy, []).append(one)
    summed = {"left", "over_issued", "out_of_order"}
    found = []
    for strategy, figures in of.items():
        values = {
            field.name: (sum if field.name in summed else median)([getattr(one, field.name) for one in figures])
            for field in fields(Figures)
            if field.name != "strategy"
        }
        found.append(Figures(strategy=strategy, **values))
    return found


def write_csv(rounds: Iterable[Figures], file: IO[str]) -> None:
    """All rounds, one a line."""
    writer = csv.DictWriter(file, [field.name for field in fields(Figures)], lineterminator="\n")
    writer.writeheader()
    for one in rounds:
        rounded: Mapping[str, object] = {
            name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(one).items()
        }
        writer.writerow(rounded)


def show(console: Console, figures: Sequence[Figures]) -> None:
    """The table. It is Markdown, so that it can be put into a page as it is."""
    table = Table(box=box.MARKDOWN)
    columns: dict[str, Callable[[Figures], str]] = {
        "strategy": lambda one: one.strategy,
        "claims/s": lambda one: f"{one.claims_per_second:,.0f}",
        "p50 ms": lambda one: f"{one.p50:,.1f}",
        "p99 ms": lambda one: f"{one.p99:,.0f}",
        "all issued s": lambda one: f"{one.issued_within:.2f}",
        "transactions": lambda one: f"{one.transactions:.2f}",
        "Redis calls": lambda one: f"{one.messages:.2f}",
        "commands": lambda one: f"{one.commands:.1f}",
        "asked again": lambda one: f"{one.asked_again:.2f}",
        "left": lambda one: str(one.left),
        "over": lambda one: str(one.over_issued),
        "disorder": lambda one: str(one.out_of_order),
    }
    for name in columns:
        table.add_column(name, justify="left" if name == "strategy" else "right")
    for one in figures:
        table.add_row(*(of(one) for of in columns.values()))
    console.print(table)
