"""`manage.py compare_strategies`: every way to hand out N coupons, measured beside the others on this machine."""

import random
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from coupons.comparing import processes, report, rounds
from coupons.management.words import first_line, positive
from coupons.strategies import STRATEGIES

try:
    from coupons.comparing import plot
except ImportError:  # matplotlib is of the development, not of the product
    plot = None  # type: ignore[assignment]

BROKEN = 1
USAGE = 2


class Command(BaseCommand):
    """Exit status 0: no strategy gave out more than there was, or left a unit; 1: one did; 2: it could not be run.

    Each round publishes a sale of its own, and lets it go again; the strategies take turns, so that whatever else the
    machine does meets all of them. The callers use the services, without HTTP: what is measured is the strategy. The
    numbers of the database and of Redis are those of the servers, so nobody else should use them meanwhile.
    """

    help = "Measure all strategies beside each other: the same load, the same servers, in turn."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--users", type=positive, default=500, help="how many claim in each round")
        parser.add_argument("--coupons", type=positive, default=250, help="how many there are")
        parser.add_argument("--rounds", type=positive, default=3, help="of each strategy")
        parser.add_argument("--processes", type=positive, default=4, help="that callers come from")
        parser.add_argument("--threads", type=positive, default=8, help="callers at once in each process")
        parser.add_argument("--only", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
        parser.add_argument("--seed", type=int, default=1, help="decides who goes first in each round")
        parser.add_argument("--csv", type=Path, metavar="FILE", help="write every round there")
        parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the medians there (needs matplotlib)")

    def handle(self, *_: Any, **options: Any) -> None:
        """Play all rounds and print the medians."""
        if options["plot"] and plot is None:
            raise CommandError("--plot needs matplotlib: it is among the development's packages.", returncode=USAGE)
        try:
            figures = self._play(options)
        except (DatabaseError, RedisError) as error:
            raise CommandError(f"A server cannot be asked: {first_line(error)}", returncode=USAGE) from error
        if options["csv"]:
            with options["csv"].open("w", encoding="utf-8", newline="") as file:
                report.write_csv(figures, file)
        medians = report.medians(figures)
        if options["plot"] and plot is not None:
            plot.draw(medians, options["plot"])
        console = Console(force_terminal=self.stdout.isatty(), width=150, highlight=False)
        with console.capture() as text:
            report.show(console, medians)
        self.stdout.write(text.get())
        if any(one.over_issued or one.left for one in medians):
            raise SystemExit(BROKEN)

    def _play(self, options: dict[str, Any]) -> list[report.Figures]:
        turns = [list(options["only"]) for _ in range(options["rounds"])]
        order = random.Random(options["seed"])  # noqa: S311 - so that nobody is always the first
        for turn in turns[1:]:
            order.shuffle(turn)
        load = rounds.Load(
            rounds.make_users(options["users"]), options["coupons"], options["processes"], options["threads"]
        )
        columns = (TextColumn("comparing"), BarColumn(), TextColumn("{task.description}"))
        console = Console(stderr=True, highlight=False)
        try:
            with (
                Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bar,
                processes.started(load.processes) as crowd,
            ):
                task = bar.add_task("the processes start", total=sum(map(len, turns)))
                figures = []
                for number, turn in enumerate(turns, 1):
                    for strategy in turn:
                        bar.update(task, description=f"round {number} of {len(turns)}: {strategy}")
                        figures.append(report.measure(rounds.play(strategy, load, crowd)))
                        bar.advance(task)
        finally:
            rounds.remove_users(load.users)
        return figures
