"""`manage.py reconcile`: compare Redis with the database now, and mend what differs."""

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from coupons import reconciling
from coupons.management.words import first_line
from coupons.models import Reconciliation
from coupons.stock.store import bulk_store
from events.models import Event


class Command(BaseCommand):
    """Looks twice at each event, because only what is seen twice is mended. The minutely task does the same by and by.

    Exit status 0. With `--dry-run` it looks once, changes nothing, and ends with 1 where something differs.
    """

    help = "Compare the stock in Redis with the database, and mend the drift."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--event", type=int, help="only this event; all live ones unless given")
        parser.add_argument("--dry-run", action="store_true", help="change nothing; exit status 1 where drift is found")

    def handle(self, *_: Any, **options: Any) -> None:
        """Look, mend, look again, and show what there was."""
        dry_run = options["dry_run"]
        try:
            events = _events(options["event"])
            found = _look(events, dry_run=dry_run)
        except RedisError as error:
            raise CommandError(f"Redis cannot be asked: {first_line(error)}", returncode=2) from error
        except DatabaseError as error:
            raise CommandError(f"PostgreSQL cannot be asked: {first_line(error)}", returncode=2) from error
        if not found:
            self.stdout.write(f"{len(events)} events looked at: Redis and the database agree.")
            return
        self.stdout.write(_table(found, terminal=self.stdout.isatty()))
        if dry_run:
            raise CommandError(f"Drift found: {len(found)}. Without --dry-run it is mended.", returncode=1)


def _events(event_id: int | None) -> list[Event]:
    if event_id is None:
        return list(Event.objects.live().order_by("id"))
    event = Event.objects.filter(pk=event_id).first()
    if event is None:
        raise CommandError(f"There is no event {event_id}.", returncode=2)
    if event.status == Event.Status.DRAFT:
        raise CommandError(f"Event {event_id} is a draft: it has no stock to compare.", returncode=2)
    return [event]


def _look(events: Sequence[Event], *, dry_run: bool) -> list[Reconciliation]:
    """The differences seen, each once and as the last look left it."""
    store = bulk_store()
    if dry_run:
        return [one for event in events for one in reconciling.reconcile(event.id, store, dry_run=True)]
    seen = {one.pk for _ in range(2) for event in events for one in reconciling.reconcile(event.id, store)}
    return list(Reconciliation.objects.filter(pk__in=seen).order_by("event_id", "id"))


def _table(found: Sequence[Reconciliation], *, terminal: bool) -> str:
    table = Table("event", "drift", "expected", "found", "outcome")
    for one in found:
        outcome = "mended" if one.mended_at else "gone by itself" if one.gone_at else "seen once, not mended"
        table.add_row(str(one.event_id), one.get_kind_display(), str(one.expected), str(one.found), outcome)
    console = Console(force_terminal=terminal, width=110, highlight=False)
    with console.capture() as text:
        console.print(table)
    return text.get()
