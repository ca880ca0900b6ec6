"""`manage.py verify_shuffle`: hold the order of a waiting room to the seed whose hash was published beforehand."""

from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from redis.exceptions import RedisError

from events.models import Event, Ticket
from events.waiting_room import shuffle
from events.waiting_room.records import LATE
from events.waiting_room.store import bulk_room_store

SHOWN = 10  # numbers
RECIPE = """\
Anybody can repeat it with Python, from the seed that the state of the event tells since the opening:
  from hashlib import sha1, sha256
  sha256(b"{seed}").hexdigest()  # must be the seed_hash of before the opening
  sorted(range(1, {early} + 1), key=lambda number: int(sha1(f"{seed}:{{number}}".encode()).hexdigest()[:13], 16))"""


class Command(BaseCommand):
    """Exit status 0: the order is the one that follows from the seed. 1: it is not, or cannot be looked at."""

    help = "Check that the shuffle of a waiting room followed from its seed, and say how anybody can repeat it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("event", type=int, metavar="EVENT")
        parser.add_argument("--hash", help="the seed_hash that somebody noted before the opening")

    def handle(self, *_: Any, event: int, **options: Any) -> None:
        """Compare, and say what was found."""
        seed = _seed(event)
        published = shuffle.seed_hash(seed)
        if options["hash"] and options["hash"].lower() != published:
            raise CommandError(f"The seed is another one: its SHA-256 is {published}.")
        known = list(Ticket.objects.filter(event_id=event).values_list("number", "rank"))
        early = self._check(seed, "the database", known)
        try:
            in_line = list(bulk_room_store().ranks(event))
        except RedisError as error:
            raise CommandError(f"Redis cannot be asked: {error}") from error
        early = max(early, self._check(seed, "the line", in_line))
        order = shuffle.order(seed, early)
        self.stdout.write(f"seed       {seed}\nseed_hash  {published}\nfirst      {' '.join(map(str, order[:SHOWN]))}")
        self.stdout.write(RECIPE.format(seed=seed, early=early))

    def _check(self, seed: str, where: str, tickets: Iterable[tuple[int, int]]) -> int:
        """Hold each ticket, by number and rank, to the seed; the highest number from before the opening."""
        early = {number: rank for number, rank in tickets if rank < LATE}
        late = {number: rank for number, rank in tickets if rank >= LATE}
        wrong = [number for number, rank in early.items() if rank != shuffle.rank(seed, number)]
        wrong += [number for number, rank in late.items() if rank != number + LATE]
        if wrong:
            shown = ", ".join(map(str, sorted(wrong)[:SHOWN]))
            raise CommandError(f"{len(wrong):,} tickets in {where} do not stand where the seed puts them: {shown}")
        self.stdout.write(
            f"{where}: {len(early):,} who came before the opening, {len(late):,} after: as the seed says."
        )
        return max(early, default=0)


def _seed(event_id: int) -> str:
    event = Event.objects.public().filter(pk=event_id).first()
    if event is None:
        raise CommandError(f"There is no event {event_id}, or it is a draft.")
    if not event.waiting_room or event.entry_order != Event.EntryOrder.SHUFFLE:
        raise CommandError(f"Event {event_id} shuffles nobody.")
    if event.opens_at > timezone.now():
        raise CommandError("The seed is a secret until the sale opens.")
    return event.seed
