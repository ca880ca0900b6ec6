"""Claims and coupons over the API: every answer of the design's table, and what each costs."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from coupons import issuing
from coupons.models import Coupon, FailedClaim
from coupons.stock import keys
from events import services
from events.catalogue import catalogue
from tests.api_kit import Caller, problem_of, redis_round_trips
from tests.factories import make_event, make_user


@pytest.fixture
def caller(transactional_db):
    return Caller(make_user())


def test_a_claim_is_accepted_with_the_place_to_ask_about_it(sale, caller):
    event = sale(quantity=3)
    response = caller.claim(event.id)
    assert response.status_code == 202
    body = response.json()
    assert body == {
        "id": f"{event.id}-1-1",
        "event_id": event.id,
        "status": "pending",
        "sequence": 1,
        "claimed_at": body["claimed_at"],
    }
    assert body["claimed_at"].endswith("Z")
    assert abs(datetime.fromisoformat(body["claimed_at"]) - timezone.now()) < timedelta(seconds=10)
    assert response["Location"] == f"/api/v1/events/{event.id}/claims/{body['id']}"
    assert response["Cache-Control"] == "no-store"
    assert caller.get(response["Location"]).json() == body


def test_a_claim_and_a_look_at_a_pending_one_cost_no_query_and_one_round_trip(sale, django_assert_num_queries):
    event = sale(quantity=3)
    Caller(make_user()).claim(event.id)  # the connection is there, the script known, the catalogue read
    second = Caller(make_user())
    with django_assert_num_queries(0), redis_round_trips() as claiming:
        claimed = second.claim(event.id, key="k")
    assert claimed.status_code == 202
    assert len(claiming) == 1, claiming
    assert b"EVALSHA" in claiming[0]
    with django_assert_num_queries(0), redis_round_trips() as looking:
        assert second.get(claimed["Location"]).json()["status"] == "pending"
    assert len(looking) == 1, looking


def test_the_same_key_gets_the_first_answer_again(sale, caller):
    event = sale(quantity=3)
    first, second = caller.claim(event.id, key="one"), caller.claim(event.id, key="one")
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert first["Location"] == second["Location"]


@pytest.mark.parametrize("key", [None, "other"])
def test_another_request_of_the_same_user_is_told_of_the_claim(sale, caller, key):
    event = sale(quantity=3)
    claim = caller.claim(event.id, key="one").json()
    body = problem_of(caller.claim(event.id, key=key), "already_claimed")
    assert body["claim"] == claim


def test_an_issued_claim_has_its_coupon(sale, caller, store):
    event = sale(quantity=3, title="Spring", benefit="₩5,000 off")
    claim = caller.claim(event.id).json()
    issuing.issue_claims(event.id, store)
    coupon = Coupon.objects.get()
    body = caller.get(f"/api/v1/events/{event.id}/claims/{claim['id']}").json()
    assert (body["status"], body["sequence"]) == ("issued", 1)
    assert "reason" not in body
    assert body["coupon"] == {
        "code": coupon.code,
        "event_id": event.id,
        "event_title": "Spring",
        "benefit": "₩5,000 off",
        "claim_id": claim["id"],
        "claimed_at": claim["claimed_at"],
        "issued_at": body["coupon"]["issued_at"],
    }
    assert body["coupon"]["issued_at"].endswith("Z")
    assert caller.get(f"/api/v1/events/{event.id}/claims").json() == [body]
    assert caller.get(f"/api/v1/coupons/{coupon.code}").json() == body["coupon"]
    page = caller.get("/api/v1/coupons").json()
    assert (page["count"], page["results"]) == (1, [body["coupon"]])
    assert problem_of(caller.claim(event.id), "already_claimed")["claim"]["status"] == "issued"


def test_a_rejected_claim_has_its_reason(sale, store):
    event = sale(quantity=3)
    user = make_user()
    caller = Caller(user)
    claim = caller.claim(event.id).json()
    FailedClaim.objects.create(
        event=event,
        user_id=user.id,
        ordinal=1,
        epoch=1,
        sequence=1,
        claimed_at=timezone.now(),
        status=FailedClaim.Status.REJECTED,
        reason=FailedClaim.Reason.ERROR,
    )
    store.settle(event.id, epoch=1, drained=1, entries=["1-1"])
    body = caller.get(f"/api/v1/events/{event.id}/claims/{claim['id']}").json()
    assert (body["status"], body["reason"]) == ("rejected", "error")
    assert "coupon" not in body


def test_sold_out(sale, caller):
    event = sale(quantity=1)
    Caller(make_user()).claim(event.id)
    problem_of(caller.claim(event.id), "sold_out")
    assert caller.get(f"/api/v1/events/{event.id}/claims").json() == []


def test_not_open_tells_when(sale, caller, store):
    event = sale(opens_at=timezone.now() + timedelta(hours=1), closes_at=timezone.now() + timedelta(hours=2))
    body = problem_of(caller.claim(event.id), "not_open")
    assert abs(datetime.fromisoformat(body["opens_at"]) - event.opens_at) < timedelta(milliseconds=1)
    assert store.snapshot(event.id).backlog == 0


def test_paused_then_closed(sale, caller, store):
    event = sale()
    services.pause(event_id=event.id)
    paused = problem_of(caller.claim(event.id), "paused")
    services.close(event_id=event.id)
    closed = problem_of(caller.claim(event.id), "closed")
    assert datetime.fromisoformat(paused["opens_at"]) == datetime.fromisoformat(closed["opens_at"])
    assert store.snapshot(event.id).backlog == 0


def test_too_fast(sale, caller):
    event = sale(rate_per_second=1, burst=2)
    answers = [caller.claim(event.id) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 409, 429]
    problem_of(answers[-1], "rate_limited")
    assert int(answers[-1]["Retry-After"]) == 1


@pytest.mark.parametrize("event_id", [999_999_999, 2**63 - 1, 2**63, 10**400])
def test_an_unknown_event_is_not_found_however_large_its_number(caller, event_id):
    problem_of(caller.claim(event_id), "not_found")
    problem_of(caller.get(f"/api/v1/events/{event_id}/claims"), "not_found")
    problem_of(caller.get(f"/api/v1/events/{event_id}/claims/{event_id}-1-1"), "not_found")


def test_a_draft_is_not_found(caller):
    problem_of(caller.claim(make_event().id), "not_found")


def test_what_is_anothers_is_not_found(sale, caller, store):
    event = sale()
    other = Caller(make_user())
    theirs = other.claim(event.id)
    problem_of(caller.get(theirs["Location"]), "not_found")
    issuing.issue_claims(event.id, store)
    code = Coupon.objects.get().code
    problem_of(caller.get(theirs["Location"]), "not_found")
    problem_of(caller.get(f"/api/v1/coupons/{code}"), "not_found")
    assert caller.get("/api/v1/coupons").json()["results"] == []
    assert caller.get(f"/api/v1/events/{event.id}/claims").json() == []
    assert other.get(f"/api/v1/coupons/{code}").status_code == 200


@pytest.mark.parametrize("claim_id", ["x", "1-1", "1-1-1-1", "0-0-0", "٣-1-1", f"1-1-{10**17}", "%00", "1-1-%0a1"])
def test_what_names_no_claim_is_not_found(sale, caller, claim_id):
    event = sale()
    problem_of(caller.get(f"/api/v1/events/{event.id}/claims/{claim_id}"), "not_found")
    problem_of(caller.get(f"/api/v1/coupons/{claim_id}"), "not_found")


@pytest.mark.parametrize("key", ["", "é", "a\tb", "x" * 256, " a"])
def test_a_key_that_is_not_1_to_255_printable_signs_is_invalid(sale, caller, key, store):
    event = sale()
    assert "Idempotency-Key" in problem_of(caller.claim(event.id, key=key), "invalid")["errors"]
    assert store.snapshot(event.id).sequence == 0


@pytest.mark.parametrize("key", ["a", "a b", "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"'])
def test_a_key_of_1_to_255_printable_signs_is_taken(sale, caller, key):
    event = sale()
    assert caller.claim(event.id, key=key).status_code == 202


@pytest.mark.parametrize("body", ["{}", '{"anything": 1}'])
def test_a_claim_may_have_a_json_object_as_body(sale, caller, body):
    assert caller.post(f"/api/v1/events/{sale().id}/claims", body).status_code == 202


@pytest.mark.parametrize("body", ["{", "[]", "5", "\x00", "NaN", '{"a": "\\ud800"}', "[" * 16_000, "1" * 16_000])
def test_a_body_that_is_no_json_object_is_invalid(sale, caller, body, store):
    event = sale()
    problem_of(caller.post(f"/api/v1/events/{event.id}/claims", body), "invalid")
    assert store.snapshot(event.id).sequence == 0


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_a_body_of_another_type_is_not_read(sale, caller, content_type, store):
    event = sale()
    response = caller.post(f"/api/v1/events/{event.id}/claims", "a=1", content_type=content_type)
    problem_of(response, "unsupported_media_type")
    assert store.snapshot(event.id).sequence == 0


def test_a_stock_that_is_not_loaded_is_unavailable_for_now(sale, caller, store):
    event = sale()
    catalogue.get(event.id)
    store.client.delete(keys.state(event.id))
    response = caller.claim(event.id)
    problem_of(response, "unavailable")
    assert int(response["Retry-After"]) >= 1


def test_a_page_of_coupons_costs_two_queries_however_many_there_are(sale, store, django_assert_num_queries):
    user = make_user()
    caller = Caller(user)
    for _ in range(3):
        event = sale()
        caller.claim(event.id)
        issuing.issue_claims(event.id, store)
    with django_assert_num_queries(2):
        page = caller.get("/api/v1/coupons?page_size=2").json()
    assert (page["count"], len(page["results"])) == (3, 2)
    assert page["next"].endswith("/api/v1/coupons?page=2&page_size=2")
