"""`manage.py demo_data`: accounts and a sale to try Seonchak with."""

import json
import os
import re
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import transaction
from django.utils import timezone
from rich.console import Console
from rich.progress import track

from events import services, stock
from events.errors import Unavailable
from events.models import Event
from events.waiting_room.store import bulk_room_store

OPERATOR, CUSTOMER = "operator", "customer"
# What an account of the demo is known by. `.invalid` belongs to nobody (RFC 2606): no mail ever leaves for it.
DEMO_DOMAIN = "@demo.invalid"
CHUNK = 1000
OPEN_FOR = timedelta(days=30)


class Command(BaseCommand):
    """Runs again and again: what is there stays. A sale that has been claimed from is left, and a fresh one is made.

    Only accounts that this command made get the password; if one of its names belongs to somebody else, it stops.
    """

    help = "Make an operator, a customer, many users to rush with, and a sale that is open."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--users", type=int, default=10_000, help="users to rush with: demo00001, …")
        parser.add_argument("--quantity", type=int, default=100, help="coupons of the sale")
        parser.add_argument("--waiting-room", action="store_true", help="make a sale with a waiting room instead")
        parser.add_argument("--admission-rate", type=int, default=50, help="with one: people let in a second")
        parser.add_argument("--max-active", type=int, default=500, help="people who may hold a pass at once")
        parser.add_argument("--pass-ttl", type=int, default=20, help="seconds that a pass is good for")
        parser.add_argument("--grace", type=int, default=10, help="seconds that a turn is kept")
        parser.add_argument("--opens-in", type=int, default=0, help="seconds until it opens; 0: it is open")
        parser.add_argument(
            "--shuffle", action="store_true", help="who comes before the opening is put in order by lot"
        )
        parser.add_argument(
            "--password",
            default=os.environ.get("DEMO_PASSWORD"),
            help="of all demo accounts; better given as DEMO_PASSWORD, which other users of the machine cannot see",
        )
        parser.add_argument("--json", action="store_true", help="print the result as one line of JSON, nothing else")

    def handle(self, *_: Any, **options: Any) -> None:
        """Make what is missing and say what there is."""
        if options["users"] < 1 or options["quantity"] < 1:
            raise CommandError("--users and --quantity must be 1 or more.")
        rules = {name: options[name] for name in ("admission_rate", "max_active", "pass_ttl", "grace")}
        if min(rules.values()) < 1:
            raise CommandError("What a waiting room lets in, and how long, must be 1 or more.")
        if not options["password"]:
            raise CommandError("Give the demo accounts a password: set DEMO_PASSWORD, or use --password.")
        try:
            _make_accounts(options["users"], options["password"])
            if options["waiting_room"]:
                order = Event.EntryOrder.SHUFFLE if options["shuffle"] else Event.EntryOrder.FIFO
                rules |= {"waiting_room": True, "entry_order": order}
                event = _demo_sale("demo-room", options["quantity"], opens_in=options["opens_in"], **rules)
            else:
                event = _demo_sale("demo", options["quantity"])
        except DatabaseError as error:
            raise CommandError(f"PostgreSQL refused: {str(error).strip().splitlines()[0]}") from error
        except Unavailable as error:
            raise CommandError(str(error)) from error
        answer = {
            "event_id": event.id,
            "slug": event.slug,
            "quantity": event.quantity,
            "users": options["users"],
            "operator": OPERATOR,
            "customer": CUSTOMER,
        }
        if options["json"]:
            self.stdout.write(json.dumps(answer))
        else:
            self.stdout.write(
                f"event {event.id} ({event.slug}): {event.quantity:,} coupons, open until {event.closes_at:%Y-%m-%d}\n"
                f"accounts: {OPERATOR}, {CUSTOMER}, demo00001 … {_demo_name(options['users'])}"
            )


def _make_accounts(number: int, password: str) -> None:
    """The accounts of the demo, all under one password and one hash: ten thousand would take an hour to compute."""
    # The crowd first: the rush takes the oldest accounts, and is to leave `customer` to whoever tries the page.
    crowd = [_demo_name(one) for one in range(1, number + 1)]
    accounts = {user.username: user for user in User.objects.filter(username__in=[*crowd, OPERATOR, CUSTOMER])}
    for name, user in accounts.items():
        if user.email != name + DEMO_DOMAIN:
            raise CommandError(
                f"An account {name} exists that is not the demo's: it is left alone, and so is the rest."
            )
    known = next(iter(accounts.values()), None)
    hashed = known.password if known and check_password(password, known.password) else make_password(password)
    stale = [name for name, user in accounts.items() if user.password != hashed]
    for chunk in _chunks(stale, "new password"):
        User.objects.filter(username__in=chunk).update(password=hashed)
    for chunk in _chunks([name for name in crowd if name not in accounts], "demo users"):
        User.objects.bulk_create(User(username=name, email=name + DEMO_DOMAIN, password=hashed) for name in chunk)
    for name, staff in ((CUSTOMER, False), (OPERATOR, True)):
        if name not in accounts:
            email = name + DEMO_DOMAIN
            User.objects.create(username=name, email=email, password=hashed, is_staff=staff, is_superuser=staff)


def _demo_sale(name: str, quantity: int, *, opens_in: int = 0, **rules: Any) -> Event:
    """The newest sale of that name if nobody has claimed from it yet, or queued, and it fits; else a fresh one.

    `rules` are the fields of its waiting room, if it has one. One that is to open in some seconds is always fresh.
    """
    sales = {_number(one.slug): one for one in Event.objects.filter(slug__regex=rf"^{name}(-[0-9]+)?$")}
    newest = max(sales, default=0)
    wanted = {"quantity": quantity, **rules}
    fits = newest and not opens_in and all(getattr(sales[newest], field) == value for field, value in wanted.items())
    if fits and _is_untouched(sales[newest]):
        return sales[newest]
    now = timezone.now()
    # One transaction: a sale that could not be published leaves no draft behind.
    with transaction.atomic():
        draft = Event.objects.create(
            slug=f"{name}-{newest + 1}" if newest else name,
            title="Flash sale with a queue: ₩10,000 off" if rules else "Flash sale: ₩10,000 off",
            description="A demo sale. Coupons go first come, first served, one each.",
            benefit="₩10,000 off",
            opens_at=now + timedelta(seconds=opens_in or -60),
            closes_at=now + OPEN_FOR,
            **wanted,
        )
        return services.publish(event_id=draft.id)


def _is_untouched(event: Event) -> bool:
    level = stock.keeper().levels([event.id]).get(event.id)
    room = bulk_room_store().numbers([event.id]).get(event.id)
    if level is None or room is None:
        return False  # its keys cannot be read: the demo wants a sale that is whole
    open_for_long = event.status == Event.Status.PUBLISHED and event.closes_at > timezone.now() + timedelta(hours=1)
    whole = level.epoch == event.epoch and level.stock == event.quantity and not event.issued
    return open_for_long and whole and not any(room)


def _demo_name(number: int) -> str:
    return f"demo{number:05}"


def _number(slug: str) -> int:
    """`demo` is 1, `demo-2` is 2."""
    found = re.search(r"\d+$", slug)
    return int(found[0]) if found else 1


def _chunks(names: list[str], what: str) -> Iterable[list[str]]:
    """The names in parts, with a bar on the terminal's error stream while they are worked off."""
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    return track(chunks, what, console=Console(stderr=True)) if chunks else []
