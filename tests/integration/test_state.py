"""The state of an event as a document: how long it is given out, who is told that he has it already, what it costs."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.utils import timezone

from events import services
from events.catalogue import catalogue
from events.errors import EventNotFound
from events.models import Event
from events.state import state
from tests.api_kit import Caller, problem_of
from tests.factories import make_event, make_user
from tests.gate_kit import ask_at_once, request, scripts_run
from tests.postgres import until

Sale = Callable[..., Event]
OLDEST = 300  # milliseconds that a document may be behind the clock


def told(event: Event) -> dict[str, Any]:
    """What the state says now."""
    body: dict[str, Any] = orjson.loads(state(event.id).body)
    return body


def tag_of(event: Event) -> str:
    return state(event.id).headers["ETag"]


def test_who_has_the_state_is_told_so_without_a_body(sale: Sale) -> None:
    event = sale()
    tag = tag_of(event)
    for sent in (tag, f"W/{tag}", f'"a", {tag}', f'{tag} , "b"', "*"):
        answer = state(event.id, if_none_match=sent)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["Cache-Control"] == "public, max-age=1"
        assert answer.headers["ETag"]


def test_what_was_true_a_second_ago_is_told_anew_because_time_goes_on(sale: Sale) -> None:
    event = sale()
    tag, began = tag_of(event), told(event)["server_time"]
    until(lambda: state(event.id, if_none_match=tag).status == 200)
    now = told(event)
    assert 1000 <= now["server_time"] - began < 3000
    assert tag_of(event) != tag


def test_a_change_is_told_at_once(sale: Sale) -> None:
    event = sale(quantity=5)
    tag = tag_of(event)
    Caller(make_user()).claim(event.id)
    catalogue.refresh()
    answer = state(event.id, if_none_match=tag)
    assert (answer.status, orjson.loads(answer.body)["remaining"]) == (200, 4)


def test_a_tag_that_somebody_made_up_changes_nothing(sale: Sale) -> None:
    event = sale()
    digest, _, moment = tag_of(event).strip('"').partition("-")
    future = str(int(moment) + 60_000)
    for made_up in ("", "x", "-", moment, "²", "٣", "1e9", "-1", future, "9" * 5000, f"{moment}-1", f" {moment}"):
        for tag in (f'"{digest}-{made_up}"', f'W/"{made_up}-{moment}"', made_up):
            if tag != tag_of(event):
                assert state(event.id, if_none_match=tag).status == 200, tag


def test_the_phase_changes_with_the_clock_and_no_document_is_old(sale: Sale) -> None:
    start = timezone.now()
    event = sale(opens_at=start + timedelta(seconds=0.6), closes_at=start + timedelta(seconds=1.1))
    moments = {"scheduled": event.opens_at, "open": event.closes_at}
    phases: list[str] = []
    while "closed" not in phases:
        asked_at = timezone.now()
        document = told(event)
        if document["phase"] not in phases:
            phases.append(document["phase"])
        age = asked_at.timestamp() * 1000 - document["server_time"]
        assert age < OLDEST
        # By the moment at which it was asked for, and by the one that it names; a document is written in no time.
        ends = moments.get(document["phase"])
        if ends is not None:
            assert asked_at < ends + timedelta(milliseconds=5)
            assert document["server_time"] < ends.timestamp() * 1000
        assert asked_at - start < timedelta(seconds=10)
    assert phases == ["scheduled", "open", "closed"]


def test_a_document_is_written_a_few_times_a_second_however_many_ask(sale: Sale) -> None:
    event = sale()
    started = time.monotonic()
    documents = {state(event.id).body for _ in range(20_000)}
    elapsed = time.monotonic() - started
    # One each fifth of a second, and one more for each reading of the catalogue.
    assert len(documents) <= 7 * elapsed + 3


def test_what_visitors_may_not_see_has_no_state(transactional_db: None) -> None:
    draft = make_event()
    for event_id in (draft.id, 0, 987_654_321):
        with pytest.raises(EventNotFound):
            state(event_id)
        problem_of(Caller().get(f"/api/v1/events/{event_id}/state"), "not_found")
    services.publish(event_id=draft.id)
    catalogue.refresh()
    assert told(draft)["phase"] == "open"


def test_a_rush_for_the_state_leaves_redis_alone(server: Callable[..., Any], sale: Sale, store: Any) -> None:
    event, gate = sale(), server("gate")
    question = request("GET", f"/api/v1/events/{event.id}/state")
    ask_at_once(gate, [question])
    before, started = scripts_run(store), time.monotonic()
    for _ in range(5):
        assert {one.status for one in ask_at_once(gate, [question] * 200)} == {200}
    assert scripts_run(store) - before <= 5 * (time.monotonic() - started) + 1, "a reading each 200 ms at most"
