"""The commands for a sale with a waiting room: what they make, and what they refuse."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from events.models import Event
from events.waiting_room import service
from tests.factories import make_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick_hashes(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def demo_room(*options):
    out = StringIO()
    call_command("demo_data", "--users=1", "--password=x", "--waiting-room", "--json", *options, stdout=out)
    return json.loads(out.getvalue())


def refused(name, *arguments):
    with pytest.raises(CommandError) as error:
        call_command(name, *arguments)
    return str(error.value), error.value.returncode


def test_demo_data_makes_a_sale_with_a_waiting_room_beside_the_other():
    call_command("demo_data", "--users=1", "--password=x", stdout=StringIO())
    answer = demo_room("--quantity=7", "--admission-rate=3", "--max-active=4", "--pass-ttl=5", "--grace=6")
    event = Event.objects.get(pk=answer["event_id"])
    assert answer["slug"] == event.slug == "demo-room"
    assert (event.quantity, event.waiting_room, event.admission_rate) == (7, True, 3)
    assert (event.max_active, event.pass_ttl, event.grace) == (4, 5, 6)
    assert not Event.objects.get(slug="demo").waiting_room


def test_demo_data_makes_a_fresh_one_for_other_rules_and_once_somebody_has_queued():
    first = demo_room()
    assert demo_room() == first
    assert demo_room("--admission-rate=3")["slug"] == "demo-room-2"
    service.visit(demo_room("--admission-rate=3")["event_id"], make_user().id, 1, "join")
    assert demo_room("--admission-rate=3")["slug"] == "demo-room-3"


def test_demo_data_makes_one_that_opens_soon_and_is_shuffled():
    first, second = (demo_room("--opens-in=60", "--shuffle")["event_id"] for _ in range(2))
    assert first != second, "the time until it opens is told anew"
    event = Event.objects.get(pk=second)
    assert event.entry_order == Event.EntryOrder.SHUFFLE
    assert event.phase(now=timezone.now(), remaining=None) == "scheduled"


def test_demo_data_refuses_a_room_that_lets_nobody_in():
    message, _ = refused("demo_data", "--users=1", "--password=x", "--waiting-room", "--admission-rate=0")
    assert "must be 1 or more" in message


def rush(event, *options):
    return refused("rush", f"--event={event.id}", "--users=1", "--url=http://localhost:9", *options)


def test_a_rush_wants_to_be_told_of_a_waiting_room(sale):
    room, open_to_all = sale(waiting_room=True), sale()
    assert rush(room) == (f"Event {room.id} has a waiting room: rush it with --waiting-room.", 2)
    message = f"Event {open_to_all.id} has no waiting room: rush it without --waiting-room."
    assert rush(open_to_all, "--waiting-room") == (message, 2)


def test_a_rush_wants_the_waiting_room_for_itself(sale):
    event = sale(waiting_room=True, max_active=1)
    for _ in range(3):
        service.visit(event.id, make_user().id, 1, "join")
    assert rush(event, "--waiting-room") == (f"2 people wait for event {event.id} already.", 2)


def test_there_are_no_double_clicks_in_a_waiting_room(sale):
    message, status = rush(sale(waiting_room=True), "--waiting-room", "--duplicates=1")
    assert "--duplicates" in message
    assert status == 2


def test_there_are_no_guests_in_a_line_for_what_is_held(sale):
    message, status = rush(sale(waiting_room=True, hold_seconds=5), "--waiting-room", "--holds", "--guests")
    assert "--guests" in message
    assert status == 2
