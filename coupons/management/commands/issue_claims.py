"""`manage.py issue_claims`: drain the claim log now, where worker and beat are gone or are too slow."""

from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coupons import issuing, reconciling
from coupons.locks import is_free
from coupons.management.words import first_line
from coupons.stock.store import bulk_store
from events.models import Event

# Exit statuses beside 0.
LEFT = 1
UNASKED = 2
INTERRUPTED = 130


class Command(BaseCommand):
    """Does what a worker does, in this process, and needs neither worker nor beat nor broker.

    Exit status 0: every claim that waited has ended. 1: some wait still, and it is said why. 2: a server could not be
    asked, or there is no such sale. Stopped or failed half-way it costs nothing: the rest waits in the claim log.
    """

    help = "Issue the claims that wait in the claim log, of one sale or of all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("event", type=int, nargs="?", metavar="EVENT", help="only this event; all unless given")

    def handle(self, *_: Any, **options: Any) -> None:
        """Drain, with a bar on the error stream, and say what became of it."""
        try:
            left, unasked = self._drain(options["event"])
        except RedisError as error:
            raise CommandError(f"Redis cannot be asked: {first_line(error)}", returncode=UNASKED) from error
        except DatabaseError as error:
            raise CommandError(f"PostgreSQL cannot be asked: {first_line(error)}", returncode=UNASKED) from error
        except KeyboardInterrupt:
            raise CommandError("interrupted: the rest waits in the claim log.", returncode=INTERRUPTED) from None
        if left:
            raise CommandError(f"{left:,} claims wait still.", returncode=LEFT)
        if unasked:
            raise CommandError(f"Redis cannot be asked about all: {unasked:,} left out.", returncode=UNASKED)

    def _drain(self, event_id: int | None) -> tuple[int, int]:
        """Drain the events; how many claims waited before and wait still, and how many events could not be asked for.

        The latter is a cluster's: the nodes of the others answered.
        """
        store = bulk_store()
        if event_id is None:
            due = reconciling.look(store)
            unasked, snapshots = len(due.away), store.snapshots(due.drain)
            for one in due.away:
                self.stdout.write(f"event {one}: its node of the cluster does not answer.")
        else:
            unasked, snapshots = 0, {_checked(event_id): store.snapshot(event_id)}
        before = {one: snapshot for one, snapshot in snapshots.items() if snapshot and snapshot.backlog}
        if not before:
            self.stdout.write("No other claim waits." if unasked else "No claim waits.")
            return 0, unasked
        issued = {}
        with _bar() as bar:
            shown = bar.add_task("claims", total=sum(snapshot.backlog for snapshot in before.values()))
            for one in before:
                issued[one] = issuing.issue_claims(one, store, tell=partial(bar.advance, shown))
        left = 0
        for one, number in issued.items():
            self.stdout.write(f"event {one}: {number:,} claims issued.")
            after = store.snapshot(one)
            # Claims that came meanwhile are a sale that goes on, nothing to worry about.
            if after.backlog and after.oldest_ms <= before[one].now_ms:
                left += after.backlog
                self.stdout.write(f"event {one}: {after.backlog:,} claims wait still: {_why(one)}.")
        return left, unasked


def _checked(event_id: int) -> int:
    event = Event.objects.filter(pk=event_id).first()
    if event is None:
        raise CommandError(f"There is no event {event_id}.", returncode=UNASKED)
    if event.status == Event.Status.DRAFT:
        raise CommandError(f"Event {event_id} is a draft: nobody can have claimed from it.", returncode=UNASKED)
    return event_id


def _why(event_id: int) -> str:
    """What may keep claims in the log: somebody who drains it, or rows that the database refused."""
    if not is_free(event_id):
        return "another drainer is at work on it"
    return "they failed, and are tried again in a few seconds (see Failed claims in the admin)"


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
