"""`manage.py rush`: let many users rush a sale over real HTTP, and say whether every promise was kept."""

import asyncio
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import aiohttp
import orjson
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken
from rich.console import Console

from coupons.management.words import first_line
from coupons.rush import evidence, report
from coupons.rush.checker import check
from coupons.rush.client import Customer, Manners, Rush
from coupons.rush.history import History
from events.models import Event, Phase

# Exit statuses beside 0.
BROKEN = 1
USAGE = 2
INTERRUPTED = 130


class Command(BaseCommand):
    """Exit status 0: all promises kept; 1: one was broken; 2: the rush could not be run as asked.

    The users are the first N active ones that are not staff. Their tokens are made here with the settings' key and
    not by signing in: sign-in is limited per address by design, and all of them come from one.

    The sale must belong to the rush alone while it runs: the coupon of anybody else is one that nobody was promised.
    """

    help = "Rush a sale with many users over HTTP, then check every promise against the database."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--event", type=int, required=True, help="the event's id")
        parser.add_argument("--users", type=_positive, required=True, help="how many different users")
        parser.add_argument("--concurrency", type=_positive, default=200, help="claim requests under way at once")
        parser.add_argument("--duplicates", type=_natural, default=0, help="double clicks: so many requests more")
        parser.add_argument("--url", default="http://localhost:8000", help="where the API is served")
        parser.add_argument("--timeout", type=_seconds, default=5.0, help="seconds a user waits for an answer")
        parser.add_argument(
            "--drain-timeout", type=_seconds, default=60.0, help="seconds until all claims must have ended"
        )
        parser.add_argument(
            "--over",
            type=_seconds_or_none,
            default=0.0,
            help="seconds over which the users come, evenly; 0: all at once",
        )
        parser.add_argument(
            "--refused-within",
            type=_seconds,
            default=1.0,
            help="P8: seconds in which 99 of 100 refusals must have come",
        )
        parser.add_argument("--seed", type=int, default=1, help="decides in which order the users come")
        parser.add_argument("--json", metavar="FILE", help="write the numbers and the verdicts there")
        parser.add_argument("--history", metavar="FILE", help="write every request and answer there, as JSON lines")

    def handle(self, *_: Any, **options: Any) -> None:
        """Run the rush and print the verdict."""
        with ExitStack() as files:
            result, history = _open(files, options["json"]), History(_open(files, options["history"]))
            try:
                event = _ready_event(options["event"])
                customers = _customers(options["users"])
                before = evidence.before(event.id)
                self._rush(customers, history, options)
                database = evidence.read(event.id, before=before)
                last = evidence.last_issued_at(event.id, since=before.at)
            except DatabaseError as error:
                raise CommandError(f"PostgreSQL cannot be asked: {first_line(error)}", returncode=USAGE) from error
            except KeyboardInterrupt:
                raise CommandError("interrupted: there is no verdict.", returncode=INTERRUPTED) from None
            numbers = report.measure(history, last_issued_after=(last - before.at).total_seconds() if last else None)
            verdicts = check(history, database, refused_within=options["refused_within"])
            if result is not None:
                named = ("event", "users", "concurrency", "duplicates", "over", "url", "seed")
                about = {name: options[name] for name in named}
                document = report.document(numbers, verdicts, **about, started_at=before.at)
                result.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        console = Console(force_terminal=self.stdout.isatty(), width=110, highlight=False)
        with console.capture() as text:
            report.show(console, numbers, verdicts, quantity=database.quantity, limit=database.per_user_limit)
        self.stdout.write(text.get())
        if not all(one.kept for one in verdicts):
            raise SystemExit(BROKEN)

    def _rush(self, customers: Sequence[Customer], history: History, options: Mapping[str, Any]) -> None:
        """Let the customers rush, and wait until what they were promised has been issued."""
        rush = Rush(
            url=options["url"],
            event_id=options["event"],
            customers=customers,
            history=history,
            concurrency=options["concurrency"],
            duplicates=options["duplicates"],
            seed=options["seed"],
            over=options["over"],
            manners=Manners(timeout=options["timeout"]),
        )
        progress = Console(stderr=True, highlight=False)
        drain = options["drain_timeout"]
        asyncio.run(_run(rush, url=options["url"], event_id=options["event"], follow_for=drain, progress=progress))
        # The polls have waited already; this is for claims whose owners never heard of them.
        if not evidence.wait_until_drained(options["event"], seconds=drain):
            progress.print(f"not drained within {drain:g} s: is a worker running?", style="bold red")


def _ready_event(event_id: int) -> Event:
    """The event, which must be open and have no claims under way."""
    event = Event.objects.filter(pk=event_id).first()
    if event is None:
        raise CommandError(f"There is no event {event_id}. `manage.py demo_data` makes a sale.", returncode=USAGE)
    level = evidence.level_of(event_id)
    if level is None:
        raise CommandError("Redis cannot be reached: the stock is unknown.", returncode=USAGE)
    if event.status == Event.Status.DRAFT:
        raise CommandError(f"Event {event_id} is a draft: publish it first.", returncode=USAGE)
    phase = event.phase(now=timezone.now(), remaining=level.stock if level.epoch else None)
    if phase != Phase.OPEN:
        raise CommandError(f"Event {event_id} is {phase}, not open.", returncode=USAGE)
    if level.backlog:
        raise CommandError(
            f"{level.backlog} claims of event {event_id} wait in its log: let a worker issue them first.",
            returncode=USAGE,
        )
    return event


def _customers(number: int) -> list[Customer]:
    """The first `number` users that are active and not staff, signed in."""
    user_model = get_user_model()
    users = user_model.objects.filter(is_active=True, is_staff=False).order_by("pk").only("pk", "is_active")[:number]
    customers = [Customer(user.pk, str(AccessToken.for_user(user))) for user in users]
    if len(customers) < number:
        raise CommandError(
            f"There are only {len(customers):,} users to rush with, not {number:,}: "
            f"`manage.py demo_data --users {number}` makes them.",
            returncode=USAGE,
        )
    return customers


async def _run(rush: Rush, *, url: str, event_id: int, follow_for: float, progress: Console) -> None:
    await _require_server(url, event_id)
    watching = asyncio.create_task(report.watch(rush.tally, progress))
    try:
        await rush.run(follow_for=follow_for)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _require_server(url: str, event_id: int) -> None:
    """Meet a wrong address here, in one line, and not ten thousand times in the rush."""
    address = f"{url.rstrip('/')}/api/v1/events/{event_id}/state"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(address) as answer,
        ):
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise CommandError(
            f"{url} cannot be reached ({first_line(error)}): `make run` serves.", returncode=USAGE
        ) from error
    if status != HTTPStatus.OK:
        raise CommandError(
            f"{address} answers {status}: is that a Seonchak on the same database as this command?", returncode=USAGE
        )


def _open(files: ExitStack, name: str | None) -> IO[bytes] | None:
    """A file to be written. It is opened before the rush: a path that is wrong must not cost a rush."""
    if not name:
        return None
    try:
        return files.enter_context(Path(name).open("wb"))
    except OSError as error:
        raise CommandError(f"{name} cannot be written: {error.strerror}", returncode=USAGE) from error


def _positive(text: str) -> int:
    return _whole(text, least=1)


def _natural(text: str) -> int:
    return _whole(text, least=0)


def _whole(text: str, *, least: int) -> int:
    number = int(text)
    if number < least:
        raise ArgumentTypeError(f"{number} is less than {least}")
    return number


def _seconds_or_none(text: str) -> float:
    return 0.0 if float(text) == 0 else _seconds(text)


def _seconds(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise ArgumentTypeError(f"{text} is not more than 0 seconds")
    return number
