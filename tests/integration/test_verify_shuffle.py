"""`manage.py verify_shuffle`, and that the order of a shuffle is what anybody computes from the public data."""

from collections.abc import Callable
from datetime import timedelta
from hashlib import sha1, sha256
from io import StringIO
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django.utils import timezone

from coupons import loading
from coupons.locks import locked_event
from coupons.stock.store import bulk_store
from events.catalogue import catalogue
from events.models import Event, Ticket
from events.state import state
from events.waiting_room import checkpoint, service, shuffle
from events.waiting_room.store import bulk_room_store
from tests.factories import make_event, make_users

Sale = Callable[..., Event]
EARLY, LATECOMERS = 30, 5


@pytest.fixture
def event(sale: Sale) -> Event:
    """Thirty have come before the opening, and five after it."""
    in_an_hour = timezone.now() + timedelta(hours=1)
    shuffled = sale(
        waiting_room=True,
        entry_order="shuffle",
        quantity=100,
        max_active=1,
        opens_at=in_an_hour,
        closes_at=in_an_hour + timedelta(hours=1),
    )
    users = make_users(EARLY + LATECOMERS)
    for user in users[:EARLY]:
        service.visit(shuffled.id, user, 1, "join")
    told = told_of(shuffled)
    assert (told["seed"], told["seed_hash"]) == (None, sha256(shuffled.seed.encode()).hexdigest())
    with pytest.raises(CommandError, match="secret"):
        verify(shuffled)
    Event.objects.filter(pk=shuffled.id).update(opens_at=timezone.now() - timedelta(seconds=1))
    with locked_event(shuffled.id) as locked:
        bulk_store().adjust(shuffled.id, epoch=locked.epoch, window=loading.window_of(locked))
    catalogue.refresh()
    for user in users[EARLY:]:
        service.visit(shuffled.id, user, 1, "join")
    shuffled.refresh_from_db()
    return shuffled


def told_of(event: Event) -> dict[str, Any]:
    catalogue.refresh()
    queue: dict[str, Any] = orjson.loads(state(event.id).body)["queue"]
    return queue


def verify(event: Event, **options: str) -> str:
    out = StringIO()
    call_command("verify_shuffle", event.id, stdout=out, **options)
    return out.getvalue()


def test_the_order_is_what_anybody_computes_from_the_public_data(event: Event) -> None:
    seed = told_of(event)["seed"]
    assert sha256(seed.encode()).hexdigest() == told_of(event)["seed_hash"]
    hashed = {number: sha1(f"{seed}:{number}".encode(), usedforsecurity=False) for number in range(1, EARLY + 1)}
    by_hand = sorted(hashed, key=lambda number: int(hashed[number].hexdigest()[:13], 16))
    assert shuffle.order(seed, EARLY) == by_hand != sorted(by_hand)
    checkpoint.checkpoint(event.id, bulk_room_store())
    in_order = Ticket.objects.filter(event=event).order_by("rank").values_list("number", flat=True)
    assert list(in_order) == by_hand + list(range(EARLY + 1, EARLY + LATECOMERS + 1))
    line = [number for number, _ in sorted(bulk_room_store().ranks(event.id), key=lambda one: one[1])]
    assert line == list(in_order)[1:], "the first of them is called"


def test_the_command_says_so_and_how_to_repeat_it(event: Event) -> None:
    checkpoint.checkpoint(event.id, bulk_room_store())
    said = verify(event, hash=told_of(event)["seed_hash"])
    assert f"the database: {EARLY} who came before the opening, {LATECOMERS} after" in said
    recipe = said.strip().splitlines()[-1].strip()
    assert eval(recipe, {"sha1": sha1}) == shuffle.order(event.seed, EARLY)  # noqa: S307


def test_an_order_that_does_not_follow_from_the_seed_is_found(event: Event) -> None:
    checkpoint.checkpoint(event.id, bulk_room_store())
    Ticket.objects.filter(event=event, number=7).update(rank=F("rank") + 1)
    with pytest.raises(CommandError, match=r"1 tickets in the database .* 7"):
        verify(event)
    Ticket.objects.filter(event=event).delete()
    store = bulk_room_store()
    user = list(store.client.zrange(f"sc:{{{event.id}}}:line:1", 0, -1))[3]
    store.client.zadd(f"sc:{{{event.id}}}:line:1", {str(user): 1})
    with pytest.raises(CommandError, match="1 tickets in the line"):
        verify(event)


def test_another_seed_than_the_published_one_is_found(event: Event) -> None:
    noted = told_of(event)["seed_hash"]
    Event.objects.filter(pk=event.id).update(seed="of my friends")
    with pytest.raises(CommandError, match="another one"):
        verify(event, hash=noted)


def test_what_is_not_shuffled_cannot_be_verified(sale: Sale) -> None:
    for event, why in ((sale(waiting_room=True), "shuffles nobody"), (make_event(), "draft")):
        with pytest.raises(CommandError, match=why):
            verify(event)
