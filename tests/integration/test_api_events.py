"""Events and notifications over the API."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from coupons import issuing
from events import services
from events.catalogue import catalogue
from notifications.models import Notification
from tests.api_kit import Caller, problem_of, redis_round_trips
from tests.factories import make_event, make_user


def test_an_event_is_shown_to_everybody(sale):
    event = sale(quantity=3, title="Spring", description="Once a year.", benefit="₩5,000 off", slug="spring")
    body = Caller().get(f"/api/v1/events/{event.id}").json()
    assert body == {
        "id": event.id,
        "slug": "spring",
        "title": "Spring",
        "description": "Once a year.",
        "phase": "open",
        "opens_at": _as_text(event.opens_at),
        "closes_at": _as_text(event.closes_at),
        "quantity": 3,
        "per_user_limit": 1,
        "waiting_room": False,
        "benefit": "₩5,000 off",
    }
    page = Caller().get("/api/v1/events").json()
    assert page == {"count": 1, "next": None, "previous": None, "results": [body]}


def test_a_token_that_has_expired_keeps_nobody_from_looking(sale):
    event = sale()
    assert Caller(token="expired").get(f"/api/v1/events/{event.id}").status_code == 200


def test_drafts_are_not_shown(db):
    draft = make_event()
    assert Caller().get("/api/v1/events").json()["results"] == []
    for path in (f"/api/v1/events/{draft.id}", f"/api/v1/events/{draft.id}/state"):
        problem_of(Caller().get(path), "not_found")


@pytest.mark.parametrize("event_id", [0, 999_999_999, 2**63, 10**30])
def test_an_unknown_event_is_not_found(db, event_id):
    for path in (f"/api/v1/events/{event_id}", f"/api/v1/events/{event_id}/state"):
        problem_of(Caller().get(path), "not_found")


def test_the_phases(sale):
    now = timezone.now()
    scheduled = sale(opens_at=now + timedelta(hours=1), closes_at=now + timedelta(hours=2))
    paused, closed, sold_out = sale(), sale(), sale(quantity=1)
    services.pause(event_id=paused.id)
    services.close(event_id=closed.id)
    Caller(make_user()).claim(sold_out.id)
    catalogue.refresh()
    for event, phase in ((scheduled, "scheduled"), (paused, "paused"), (closed, "closed"), (sold_out, "sold_out")):
        assert Caller().get(f"/api/v1/events/{event.id}").json()["phase"] == phase
        assert Caller().get(f"/api/v1/events/{event.id}/state").json()["phase"] == phase


def test_the_state_is_told_from_memory_and_may_be_cached_for_a_second(sale, django_assert_num_queries):
    event = sale(quantity=3)
    Caller(make_user()).claim(event.id)
    catalogue.refresh()
    before = timezone.now()
    with django_assert_num_queries(0), redis_round_trips() as sent:
        response = Caller().get(f"/api/v1/events/{event.id}/state")
    assert sent == []
    body = response.json()
    assert abs(body["server_time"] - before.timestamp() * 1000) < 5_000
    assert body == {
        "event_id": event.id,
        "phase": "open",
        "server_time": body["server_time"],
        "opens_at": _as_text(event.opens_at),
        "closes_at": _as_text(event.closes_at),
        "quantity": 3,
        "remaining": 2,
        "waiting_room": False,
    }
    assert response["Cache-Control"] == "public, max-age=1"
    head = Caller().client.head(f"/api/v1/events/{event.id}/state")
    assert (head.status_code, head.content) == (200, b"")


def test_a_page_of_events_costs_two_queries_however_many_there_are(sale, django_assert_num_queries):
    events = [sale() for _ in range(3)]
    catalogue.get(events[0].id)
    with django_assert_num_queries(2):
        page = Caller().get("/api/v1/events?page_size=2").json()
    assert [one["id"] for one in page["results"]] == [events[2].id, events[1].id]
    assert Caller().get(page["next"]).json()["results"][0]["id"] == events[0].id


@pytest.mark.parametrize("query", ["page=0", "page=x", "page=", "page_size=0", "page_size=201", "page=-1", "page=٣"])
def test_a_page_by_what_is_no_number_is_invalid(db, query):
    assert query.split("=")[0] in problem_of(Caller().get(f"/api/v1/events?{query}"), "invalid")["errors"]


@pytest.mark.parametrize("page", ["2", "1000000000"])
def test_a_page_that_is_not_there_is_not_found(db, page):
    problem_of(Caller().get(f"/api/v1/events?page={page}"), "not_found")


def test_notifications_are_the_callers_own_and_are_read_once(sale, store):
    event = sale()
    caller, other = Caller(make_user()), Caller(make_user())
    claim = caller.claim(event.id).json()
    issuing.issue_claims(event.id, store)
    (told,) = caller.get("/api/v1/notifications").json()["results"]
    assert (told["kind"], told["read_at"], told["data"]["claim_id"]) == ("coupon_issued", None, claim["id"])
    assert other.get("/api/v1/notifications").json()["results"] == []
    path = f"/api/v1/notifications/{told['id']}/read"
    problem_of(other.post(path), "not_found")
    assert Notification.objects.get().read_at is None
    first, second = caller.post(path), caller.post(path)
    assert first.status_code == 200
    assert first.json() == second.json() == {**told, "read_at": first.json()["read_at"]}
    assert first.json()["read_at"].endswith("Z")


@pytest.mark.parametrize("notification_id", [0, 2**63, 10**30, "x"])
def test_an_unknown_notification_is_not_found(db, notification_id):
    problem_of(Caller(make_user()).post(f"/api/v1/notifications/{notification_id}/read"), "not_found")


def _as_text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
