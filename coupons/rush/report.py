"""What a rush says about itself: the numbers, the verdicts, and the progress while it runs."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from coupons.rush.checker import Verdict
from coupons.rush.history import BILLION, SERVER_ERROR, Exchange, percentile

COUNTERS = ("requests", "done", "followed", "ended")  # of the tally; its other names are kinds of answers
MILLISECONDS = 1000  # in a second


@dataclass(frozen=True, slots=True)
class Numbers:
    """What was measured. Times in seconds, latencies in milliseconds and of answered claim requests only."""

    answers: dict[str, int]
    requests: int
    polls: int
    seconds: float
    requests_per_second: float
    claims: int
    claims_per_second: float
    p50: float
    p95: float
    p99: float
    last_issued_after: float | None


def measure(history: Iterable[Exchange], *, last_issued_after: float | None = None) -> Numbers:
    """The numbers of a history. Claims are counted once, and timed until the last of them was first promised."""
    exchanges = list(history)
    requests = sorted((one for one in exchanges if one.kind == "claim"), key=lambda one: one.answered_ns)
    polls = sum(one.kind == "poll" for one in exchanges)
    start = min((one.asked_ns for one in requests), default=0)
    answers: Counter[str] = Counter()
    promised: dict[str, int] = {}
    for one in requests:
        answers[_answer(one, again=one.claim_id in promised)] += 1
        if one.accepted:
            promised.setdefault(one.claim_id, one.answered_ns)
    seconds = (requests[-1].answered_ns - start) / BILLION if requests else 0.0
    claiming = (max(promised.values()) - start) / BILLION if promised else 0.0
    answered = sum(one.status is not None for one in requests)
    latencies = sorted(one.seconds * MILLISECONDS for one in requests if one.status is not None)
    return Numbers(
        answers=dict(answers.most_common()),
        requests=len(requests),
        polls=polls,
        seconds=seconds,
        requests_per_second=answered / seconds if seconds else 0.0,
        claims=len(promised),
        claims_per_second=len(promised) / claiming if claiming else 0.0,
        p50=percentile(latencies, 50),
        p95=percentile(latencies, 95),
        p99=percentile(latencies, 99),
        last_issued_after=last_issued_after,
    )


@dataclass(frozen=True, slots=True)
class Toll:
    """What a fault has cost those who came. Requests are claim requests, each try for itself."""

    refused: int  # requests answered with a 5xx: come again
    unknown: int  # requests without an answer
    lost: int  # accepted claims that are gone: told to be lost, or never heard of again
    rejected: int  # accepted claims that ended as rejected for any other reason
    over_issued: int  # coupons above the quantity
    recovery: float | None  # seconds from the healing to the first answer that is none of the first two, if any came


def toll(history: Iterable[Exchange], verdicts: Sequence[Verdict], *, healed_ns: int) -> Toll:
    """The toll of a fault that was healed at `healed_ns`, on the clock of the history."""
    requests = [one for one in history if one.kind == "claim"]
    normal = [one for one in requests if one.status is not None and one.status < SERVER_ERROR]
    after = [one.answered_ns - healed_ns for one in normal if one.answered_ns >= healed_ns]
    numbers = {one.promise: one.numbers for one in verdicts}
    ended = numbers["P3"]
    return Toll(
        refused=len([one for one in requests if one.status is not None]) - len(normal),
        unknown=sum(one.status is None for one in requests),
        lost=ended["lost"] + ended["vanished"],
        rejected=ended["rejected"] - ended["lost"],
        over_issued=max(0, numbers["P1"]["coupons"] - numbers["P1"]["quantity"]),
        recovery=min(after) / BILLION if after else None,
    )


def document(numbers: Numbers, verdicts: Sequence[Verdict], **about: Any) -> dict[str, Any]:
    """Everything for a program to read. `about` names the rush."""
    kept = all(one.kept for one in verdicts)
    return {**about, "numbers": asdict(numbers), "verdicts": [asdict(one) for one in verdicts], "kept": kept}


def show(console: Console, numbers: Numbers, verdicts: Sequence[Verdict], *, quantity: int, limit: int) -> None:
    """Print the answers by kind, the measures, a line for each promise, and the verdict as the last line."""
    answers = Table("answer", "requests", "share", title="Answers by kind", title_justify="left")
    answers.columns[1].justify = answers.columns[2].justify = "right"
    for kind, number in numbers.answers.items():
        answers.add_row(kind, f"{number:,}", f"{number / numbers.requests:.1%}")
    console.print(answers)
    last = numbers.last_issued_after
    measures = Table.grid(padding=(0, 2))
    for name, value in {
        "requests": f"{numbers.requests:,} in {numbers.seconds:.1f} s, {numbers.requests_per_second:,.0f} a second",
        "claims": f"{numbers.claims:,} accepted, {numbers.claims_per_second:,.0f} a second; {numbers.polls:,} polls",
        "latency": f"p50 {numbers.p50:.0f} ms, p95 {numbers.p95:.0f} ms, p99 {numbers.p99:.0f} ms",
        "last coupon": "none issued" if last is None else f"issued {last:.2f} s after the start",
    }.items():
        measures.add_row(name, value)
    console.print(measures)
    console.print()
    for one in verdicts:
        mark, style = ("✔", "green") if one.kept else ("✘", "bold red")
        console.print(f"{mark} {one.promise} {one.text}", style=style, soft_wrap=True)
    style = "bold green" if all(one.kept for one in verdicts) else "bold red"
    console.print(verdict_line(verdicts, quantity=quantity, limit=limit), style=style, soft_wrap=True)


def verdict_line(verdicts: Sequence[Verdict], *, quantity: int, limit: int) -> str:
    """The whole in one line."""
    issued = verdicts[0].numbers["coupons"]
    broken = [one.promise for one in verdicts if not one.kept]
    if broken:
        return f"VERDICT: broken — {', '.join(broken)} ({issued:,} of {quantity:,} issued)"
    each = "one each" if limit == 1 else f"at most {limit} each"
    ordered = "in order, " if any(one.promise == "P6" for one in verdicts) else ""
    return f"VERDICT: kept — {issued:,} of {quantity:,} issued, {each}, {ordered}none lost"


async def watch(
    tally: Mapping[str, int], console: Console, *, done: str = "requests done", line_every: float = 2.0
) -> None:
    """Show how far the rush is until cancelled: a moving bar in a terminal, else a line every few seconds."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(line_every)
            console.print(_progress(tally, done), soft_wrap=True)
    columns = (TextColumn("rush"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # Drawn by this loop and not by a thread, which would take the processor from it in the midst of a request.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task(_progress(tally, done), total=tally["requests"])
        while True:
            progress.update(task, completed=tally["done"], description=_progress(tally, done))
            progress.refresh()
            await asyncio.sleep(0.25)


def _progress(tally: Mapping[str, int], done: str) -> str:
    answers = {name: number for name, number in tally.items() if name not in COUNTERS}
    told = ", ".join(f"{number:,} {name}" for name, number in answers.items())
    text = f"{tally['done']:,} of {tally['requests']:,} {done}" + (f": {told}" if told else "")
    if tally["followed"]:
        text += f"; {tally['ended']:,} of {tally['followed']:,} claims ended"
    return text


def _answer(one: Exchange, *, again: bool) -> str:
    """The kind of an answer to a claim request."""
    if one.status is None:
        return "unknown (no answer)"
    if one.accepted:
        return f"{one.status} accepted" + (" (again)" if again else "")
    return f"{one.status} {one.code}".rstrip()
