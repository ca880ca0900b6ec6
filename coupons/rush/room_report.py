"""What a rush with a waiting room says of the room: the answers to visits, and how long people waited."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from coupons.rush.history import BILLION, Exchange, percentile
from coupons.rush.stays import grouped, stays_of

VISITS = ("join", "ask", "leave")
MILLISECONDS = 1000  # in a second


@dataclass(frozen=True, slots=True)
class RoomNumbers:
    """What was measured. Latencies in milliseconds and of answered visits only, waits in seconds from join to pass."""

    answers: dict[str, int]
    visits: int
    visits_per_second: float
    p50: float
    p99: float
    tickets: int
    admitted: int
    wait_p50: float
    wait_p95: float
    wait_longest: float


def measure(history: Iterable[Exchange]) -> RoomNumbers:
    """The numbers of a history."""
    by_user = grouped(history)
    visits = [one for exchanges in by_user.values() for one in exchanges if one.kind in VISITS]
    stays = stays_of(by_user)
    let_in = [(stay.answered_ns, stay.admitted.answered_ns) for stay in stays if stay.admitted]
    waits = sorted((until - since) / BILLION for since, until in let_in)
    latencies = sorted(one.seconds * MILLISECONDS for one in visits if one.status is not None)
    moments = [one.answered_ns for one in visits]
    seconds = (max(moments) - min(moments)) / BILLION if moments else 0.0
    return RoomNumbers(
        answers=dict(Counter(map(_answer, visits)).most_common()),
        visits=len(visits),
        visits_per_second=len(visits) / seconds if seconds else 0.0,
        p50=percentile(latencies, 50),
        p99=percentile(latencies, 99),
        tickets=len(stays),
        admitted=len(let_in),
        wait_p50=percentile(waits, 50),
        wait_p95=percentile(waits, 95),
        wait_longest=percentile(waits, 100),
    )


def show(console: Console, numbers: RoomNumbers) -> None:
    """Print the answers to visits by kind, and the measures."""
    answers = Table("visit", "answer", "requests", "share", title="Answers of the waiting room", title_justify="left")
    answers.columns[2].justify = answers.columns[3].justify = "right"
    for kind, number in numbers.answers.items():
        answers.add_row(*kind.split(" ", 1), f"{number:,}", f"{number / numbers.visits:.1%}")
    console.print(answers)
    measures = Table.grid(padding=(0, 2))
    for name, value in {
        "visits": f"{numbers.visits:,}, {numbers.visits_per_second:,.0f} a second; "
        f"p50 {numbers.p50:.0f} ms, p99 {numbers.p99:.0f} ms",
        "admitted": f"{numbers.admitted:,} of {numbers.tickets:,} tickets",
        "waited": f"p50 {numbers.wait_p50:.1f} s, p95 {numbers.wait_p95:.1f} s, at most {numbers.wait_longest:.1f} s",
    }.items():
        measures.add_row(name, value)
    console.print(measures)
    console.print()


def _answer(one: Exchange) -> str:
    """The kind of an answer to a visit: what was asked first."""
    if one.status is None:
        return f"{one.kind} unknown (no answer)"
    return f"{one.kind} {one.status} {one.ticket.status if one.ticket else one.code}".rstrip()
