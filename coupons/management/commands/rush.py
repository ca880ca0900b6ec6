"""`manage.py rush`: let many users rush a sale over real HTTP, and say whether every promise was kept."""

import asyncio
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import aiohttp
import orjson
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken
from rich.console import Console

from coupons.management.words import first_line
from coupons.rush import evidence, report, room_report
from coupons.rush.buyers import Buyers, BuyersInLine
from coupons.rush.checker import check
from coupons.rush.client import Crowd, Customer, Manners, Rush
from coupons.rush.history import History
from coupons.rush.holds import check_holds, check_returns
from coupons.rush.room import check_room
from coupons.rush.visitors import Visitors
from events.models import Event, Phase
from events.tokens import FIRST_LANE, LAST_LANE
from events.waiting_room.store import bulk_room_store

# Exit statuses beside 0.
BROKEN = 1
USAGE = 2
INTERRUPTED = 130
BACKEND = "django.contrib.auth.backends.ModelBackend"


class Command(BaseCommand):
    """Exit status 0: all promises kept; 1: one was broken; 2: the rush could not be run as asked.

    The users are the first N active ones that are not staff. Their tokens are made here with the settings' key and
    not by signing in: sign-in is limited per address by design, and all of them come from one.

    The sale must belong to the rush alone while it runs: the coupon of anybody else is one that nobody was promised,
    unless `--guests` says that there are others.

    With `--waiting-room` they queue, and what the room promises (W1 to W7) is checked as well. With `--holds` they do
    what people do before they have paid (H1), and whoever finds all held asks again, or with a waiting room goes on
    waiting (H2); a backend confirms in the name of the first user who may.
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
        parser.add_argument(
            "--guests", action="store_true", help="others may take part: a coupon of theirs breaks no promise"
        )
        room = parser.add_argument_group("a sale with a waiting room")
        room.add_argument("--waiting-room", action="store_true", help="queue, poll as told, and claim when let in")
        room.add_argument("--in-line", type=_positive, help="so many in the room at once; the others come as these go")
        room.add_argument(
            "--first-lane", type=_percentage, default=2, help="of a hundred users, so many are of the first lane"
        )
        room.add_argument(
            "--patience",
            type=_seconds,
            help="seconds after which it ends, though some wait still; unless given, long enough for the event",
        )
        parser.add_argument(
            "--holds", action="store_true", help="a sale with holds: pay, cancel, have cards refused, pay too late"
        )
        parser.add_argument("--json", metavar="FILE", help="write the numbers and the verdicts there")
        parser.add_argument("--history", metavar="FILE", help="write every request and answer there, as JSON lines")

    def handle(self, *_: Any, **options: Any) -> None:
        """Run the rush and print the verdict."""
        with ExitStack() as files:
            result, history = _open(files, options["json"]), History(_open(files, options["history"]))
            try:
                event = _ready_event(options["event"])
                _require_suitable(event, options)
                customers = _customers(options["users"], options["first_lane"] if event.waiting_room else 0)
                before = evidence.before(event.id)
                self._rush(_crowd(event, customers, history, options), options)
                database = evidence.read(event.id, before=before)
                last = evidence.last_issued_at(event.id, since=before.at)
            except DatabaseError as error:
                raise CommandError(f"PostgreSQL cannot be asked: {first_line(error)}", returncode=USAGE) from error
            except KeyboardInterrupt:
                raise CommandError("interrupted: there is no verdict.", returncode=INTERRUPTED) from None
            if options["guests"]:
                mine = {customer.user_id for customer in customers}
                theirs = {row.claim for row in database.coupons if row.user_id not in mine}
                database = replace(database, before=database.before | theirs)
            numbers = report.measure(history, last_issued_after=(last - before.at).total_seconds() if last else None)
            verdicts = check(history, database, refused_within=options["refused_within"])
            visits = room_report.measure(history) if event.waiting_room else None
            room = evidence.room(event.id, before=before) if event.waiting_room else None
            if room:
                verdicts += check_room(history, room)
            if options["holds"]:
                verdicts.append(check_holds(history, database))
            if room and options["holds"]:
                verdicts.append(check_returns(history, database, room))
            if result is not None:
                named = ("event", "users", "concurrency", "duplicates", "over", "url", "seed")
                about = {name: options[name] for name in named}
                if visits:
                    about["visits"] = asdict(visits)
                document = report.document(numbers, verdicts, **about, started_at=before.at)
                result.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        console = Console(force_terminal=self.stdout.isatty(), width=110, highlight=False)
        with console.capture() as text:
            if visits:
                room_report.show(console, visits)
            report.show(console, numbers, verdicts, quantity=database.quantity, limit=database.per_user_limit)
        self.stdout.write(text.get())
        if not all(one.kept for one in verdicts):
            raise SystemExit(BROKEN)

    def _rush(self, crowd: Crowd, options: Mapping[str, Any]) -> None:
        """Let the customers rush, and wait until what they were promised has been issued."""
        progress = Console(stderr=True, highlight=False)
        drain = options["drain_timeout"]
        done = "visitors through" if options["waiting_room"] else "buyers done" if options["holds"] else "requests done"
        asyncio.run(
            _run(crowd, url=options["url"], event_id=options["event"], follow_for=drain, progress=progress, done=done)
        )
        # The polls have waited already; this is for claims whose owners never heard of them.
        if not evidence.wait_until_drained(options["event"], seconds=drain):
            progress.print(f"not drained within {drain:g} s: is a worker running?", style="bold red")


def _crowd(event: Event, customers: Sequence[Customer], history: History, options: Mapping[str, Any]) -> Crowd:
    """The people of the rush."""
    about: dict[str, Any] = {name: options[name] for name in ("url", "concurrency", "seed", "over")}
    about |= {"event_id": event.id, "customers": customers, "history": history}
    about["manners"] = Manners(timeout=options["timeout"])
    patience = options["patience"] or _patience(event, len(customers)) + options["over"]
    queueing = {"grace": event.grace, "patience": patience, "in_line": options["in_line"]}
    if event.hold_seconds:
        about |= {"merchant": _merchant(), "hold_seconds": event.hold_seconds}
        about["quantity"] = event.quantity - event.issued
        if event.waiting_room:
            return BuyersInLine(**about, **queueing)
        return Buyers(**about, patience=patience)
    if event.waiting_room:
        return Visitors(**about, **queueing)
    return Rush(**about, duplicates=options["duplicates"])


def _patience(event: Event, users: int) -> float:
    """Seconds in which all should be through: some units are held many times until they are paid.

    In a waiting room some come back late, and queue anew; each of some keeps a pass long.
    """
    seconds = 60.0 + 20 * event.hold_seconds
    if event.waiting_room:
        pace = min(event.admission_rate, event.max_active / 10)
        seconds += max(0.0, (event.opens_at - timezone.now()).total_seconds())
        seconds += 2 * users / pace + 2 * event.grace + 2 * event.pass_ttl
    return seconds


def _require_suitable(event: Event, options: Mapping[str, Any]) -> None:
    """The rush must be one for such an event, and its waiting room empty."""
    if event.waiting_room != options["waiting_room"]:
        what = "has a waiting room: rush it with" if event.waiting_room else "has no waiting room: rush it without"
        raise CommandError(f"Event {event.id} {what} --waiting-room.", returncode=USAGE)
    if (event.hold_seconds > 0) != options["holds"]:
        what = "has holds: rush it with" if event.hold_seconds else "has no holds: rush it without"
        raise CommandError(f"Event {event.id} {what} --holds.", returncode=USAGE)
    if options["duplicates"] and (event.waiting_room or event.hold_seconds):
        raise CommandError("--duplicates is for a sale without a waiting room or holds.", returncode=USAGE)
    if options["guests"] and event.waiting_room and event.hold_seconds:
        raise CommandError("--guests is not for this sale: what they hold would not be seen.", returncode=USAGE)
    if not event.waiting_room:
        return
    numbers = bulk_room_store().numbers([event.id]).get(event.id)
    if numbers is None:
        raise CommandError("The waiting room cannot be read.", returncode=USAGE)
    if numbers.waiting:
        raise CommandError(f"{numbers.waiting:,} people wait for event {event.id} already.", returncode=USAGE)


def _ready_event(event_id: int) -> Event:
    """The event, which must be open, or have a room to wait in until it is, and have no claims under way."""
    event = Event.objects.filter(pk=event_id).first()
    if event is None:
        raise CommandError(f"There is no event {event_id}. `manage.py demo_data` makes a sale.", returncode=USAGE)
    level = evidence.level_of(event_id)
    if level is None:
        raise CommandError("Redis cannot be reached: the stock is unknown.", returncode=USAGE)
    if event.status == Event.Status.DRAFT:
        raise CommandError(f"Event {event_id} is a draft: publish it first.", returncode=USAGE)
    phase = event.phase(now=timezone.now(), remaining=level.stock if level.epoch else None)
    if phase != Phase.OPEN and not (event.waiting_room and phase == Phase.SCHEDULED):
        raise CommandError(f"Event {event_id} is {phase}, not open.", returncode=USAGE)
    if level.backlog:
        raise CommandError(
            f"{level.backlog} claims of event {event_id} wait in its log: let a worker issue them first.",
            returncode=USAGE,
        )
    return event


def _customers(number: int, first_lane: int) -> list[Customer]:
    """The first `number` users that are active and not staff, signed in; of a hundred, so many of the first lane."""
    user_model = get_user_model()
    users = user_model.objects.filter(is_active=True, is_staff=False).order_by("pk").only("pk", "is_active")[:number]
    lanes = [FIRST_LANE if place % 100 < first_lane else LAST_LANE for place in range(number)]
    customers = [Customer(user.pk, _token(user, lane), lane) for user, lane in zip(users, lanes, strict=False)]
    if len(customers) < number:
        raise CommandError(
            f"There are only {len(customers):,} users to rush with, not {number:,}: "
            f"`manage.py demo_data --users {number}` makes them.",
            returncode=USAGE,
        )
    return customers


def _merchant() -> Customer:
    """The merchant's backend: the first user who may confirm."""
    allowed = get_user_model().objects.with_perm("coupons.confirm_claim", backend=BACKEND)
    user = allowed.order_by("pk").first()
    if user is None:
        raise CommandError("Nobody has the permission to confirm claims: give it to a user.", returncode=USAGE)
    return Customer(user.pk, _token(user, LAST_LANE))


def _token(user: User, lane: int) -> str:
    token = AccessToken.for_user(user)
    token["lane"] = lane
    return str(token)


async def _run(crowd: Crowd, *, url: str, event_id: int, follow_for: float, progress: Console, done: str) -> None:
    await _require_server(url, event_id)
    watching = asyncio.create_task(report.watch(crowd.tally, progress, done=done))
    try:
        await crowd.run(follow_for=follow_for)
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


def _percentage(text: str) -> int:
    number = _natural(text)
    if number > 100:  # noqa: PLR2004
        raise ArgumentTypeError(f"{number} is more than 100")
    return number


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
