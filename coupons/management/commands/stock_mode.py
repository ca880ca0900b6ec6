"""`manage.py stock_mode EVENT redis|database`: say by hand where a sale sells from."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from events import services
from events.errors import Refusal
from events.models import Event


class Command(BaseCommand):
    """A sale moves by itself when Redis is lost and when it is back; one that is moved by hand stays.

    Exit status 0: it sells from there now; 1: it could not be moved, and why.
    """

    help = "Have a sale sell from Redis, or from the database: before Redis is taken down, say."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("event", type=int, help="the event's id")
        parser.add_argument("mode", nargs="?", choices=Event.StockMode.values, help="without it: say what it is")

    def handle(self, *_: Any, **options: Any) -> None:
        """Move it, and say what is so now."""
        try:
            if options["mode"]:
                event = services.sell_from(event_id=options["event"], mode=options["mode"])
            else:
                event = Event.objects.get(pk=options["event"])
        except Event.DoesNotExist:
            raise CommandError(f"There is no event {options['event']}.") from None
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        except DatabaseError as error:
            raise CommandError(f"PostgreSQL cannot be asked: {type(error).__name__}.") from error
        mode = "the database" if event.stock_mode == Event.StockMode.DATABASE else "Redis"
        self.stdout.write(f"{event.title}: sells from {mode}, epoch {event.epoch}.{_why(event)}")


def _why(event: Event) -> str:
    if event.fell_back_at:
        return f" Redis was lost at {event.fell_back_at:%H:%M:%S} UTC; it moves back when Redis answers."
    if not event.needs_redis:
        return " By its strategy it sells nowhere else."
    if event.stock_mode == Event.StockMode.DATABASE:
        return " It stays there until it is moved by hand."
    return ""
