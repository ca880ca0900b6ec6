"""Problem details: every error of the API has their form, the framework's own and those of an outage included."""

import time
from collections.abc import Callable
from io import BytesIO

import pytest
from django.db import connection

from config import problems
from config.wsgi import application
from coupons.stock.store import HotStore
from events.catalogue import catalogue
from events.errors import Refusal
from events.redis import servers
from events.redis.servers import Hot
from tests import outages
from tests.api_kit import Caller, problem_of
from tests.factories import make_user

LIMIT = 16 * 1024
TOKEN = "/api/v1/auth/token"


@pytest.fixture
def caller(transactional_db):
    return Caller(make_user())


def test_a_problem_has_these_fields_and_no_others(db):
    body = problem_of(Caller().get("/api/v1/coupons"), "unauthenticated")
    assert body == {
        "type": "urn:seonchak:problem:unauthenticated",
        "title": "Who asks is not known",
        "status": 401,
        "detail": "Who asks is told by an access token: send it as `Authorization: Bearer …`.",
        "code": "unauthenticated",
    }


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1", "/api/v2/events", "/api/v1/events/", "/api/%0a"])
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_a_path_below_api_that_is_none_is_not_found(db, path, method):
    problem_of(getattr(Caller().client, method)(path), "not_found")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "BREW"])
def test_another_method_is_refused_and_the_right_ones_named(caller, method):
    for path, allowed in (("/api/v1/events/1/claims", "GET, POST"), ("/api/v1/events", "GET")):
        response = caller.client.generic(method, path, headers={"Authorization": f"Bearer {caller.token}"})
        problem_of(response, "method_not_allowed")
        assert response["Allow"].startswith(allowed)


def test_options_names_the_methods(caller):
    response = caller.client.options("/api/v1/events")
    assert (response.status_code, response.content) == (200, b"")
    assert response["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("accept", ["text/html", "application/xml, text/plain;q=0.5", "application/jsonp", "image/*"])
def test_what_accepts_no_json_is_told_so(caller, accept):
    problem_of(caller.get("/api/v1/events", Accept=accept), "not_acceptable")


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "application/json", "application/*", "text/html, */*;q=0.1", "text/html,application/json"],
)
def test_what_accepts_json_gets_it(caller, accept):
    response = caller.get("/api/v1/events", Accept=accept)
    assert (response.status_code, response["Content-Type"].split(";")[0]) == (200, "application/json")


def test_field_errors_are_named(db):
    body = problem_of(Caller().post(TOKEN, {"username": "a" * 151}), "invalid")
    assert set(body["errors"]) == {"username", "password"}


def test_a_foreign_host_is_refused(db):
    problem_of(Caller().get("/api/v1/events", Host="evil.example"), "invalid")


# --- Bodies -----------------------------------------------------------------------------------------------------------


def raw(body: bytes, **environ: object) -> tuple[int, bytes]:
    """A sign-in as a server hands it over, whatever its headers say of the body."""
    answer: list[int] = []

    def start(status: str, *_: object) -> Callable[[bytes], object]:
        answer.append(int(status[:3]))
        return lambda _: None

    environment = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": TOKEN,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "192.0.2.1",
        "CONTENT_TYPE": "application/json",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        **environ,
    }
    response = application(environment, start)
    content = b"".join(response)
    response.close()
    return answer[0], content


def credentials(size: int) -> bytes:
    head, tail = b'{"username":"a","password":"b","more":"', b'"}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked"}


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 401), (LIMIT + 1, 413), (10 * LIMIT, 413)])
def test_a_body_over_16_kib_is_too_large_however_it_comes(transactional_db, size, status):
    body = credentials(size)
    assert raw(body, CONTENT_LENGTH=str(size))[0] == status
    assert raw(body, **CHUNKED)[0] == status
    assert raw(body, **CHUNKED, CONTENT_LENGTH="5")[0] == status


def test_a_length_that_lies_lets_no_more_through_than_it_says(transactional_db):
    body = credentials(10 * LIMIT)
    assert raw(body, CONTENT_LENGTH="20")[0] == 400, "cut off there, it is no JSON"
    assert raw(body)[0] == 400, "without a length there is no body"
    for length in ("-1", "1e3", "٣", "+5", " "):
        assert raw(body, CONTENT_LENGTH=length)[0] in {400, 413}
    assert raw(body, CONTENT_LENGTH="9" * 5000)[0] == 413


def test_a_chunked_body_is_refused_by_a_server_that_does_not_end_it(transactional_db):
    status, content = raw(b"{}", **CHUNKED, **{"wsgi.input_terminated": False})
    assert (status, b"length_required" in content) == (411, True)


# --- Outages ----------------------------------------------------------------------------------------------------------


def test_redis_away_is_unavailable_within_a_second_and_costs_nothing(sale, caller, store):
    event = sale()
    catalogue.get(event.id)
    with outages.no_redis():
        started = time.monotonic()
        for response in (
            caller.claim(event.id),
            caller.get(f"/api/v1/events/{event.id}/claims"),
            caller.get(f"/api/v1/events/{event.id}/claims/{event.id}-1-1"),
        ):
            problem_of(response, "unavailable")
            assert int(response["Retry-After"]) >= 1
        assert time.monotonic() - started < 3
        assert caller.get(f"/api/v1/events/{event.id}/state").status_code == 200
    assert store.snapshot(event.id).sequence == 0
    assert caller.claim(event.id).status_code == 202


def test_redis_hanging_is_unavailable_within_a_second(sale, caller):
    event = sale()
    catalogue.get(event.id)
    with outages.silent_server() as server, outages.stock_at(f"redis://127.0.0.1:{server.getsockname()[1]}/0"):
        started = time.monotonic()
        problem_of(caller.claim(event.id), "unavailable")
        assert time.monotonic() - started < 1
        assert set(servers._kept) <= {HotStore, Hot}, "the one with the short patience"


def test_the_database_away_is_unavailable_and_a_claim_goes_on(sale, caller):
    event = sale()
    catalogue.get(event.id)
    with outages.no_database():
        for response in (
            caller.get("/api/v1/coupons"),
            caller.get("/api/v1/events"),
            caller.claim(987_654_321),
            Caller().post(TOKEN, {"username": "a", "password": "b"}),
        ):
            problem_of(response, "unavailable")
            assert int(response["Retry-After"]) >= 1
        assert caller.claim(event.id).status_code == 202
    connection.close()


def test_what_nobody_foresaw_is_a_500_that_tells_nothing(caller, monkeypatch):
    def broken(**_: object) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr("coupons.selectors.claim_of", broken)
    response = caller.get("/api/v1/events/1/claims/1-1-1")
    problem_of(response, "error")
    assert b"hunter2" not in response.content
    assert b"RuntimeError" not in response.content


def test_every_refusal_has_a_code_that_has_a_status():
    def all_of(refusal: type[Refusal]) -> set[type[Refusal]]:
        return {refusal}.union(*(all_of(one) for one in refusal.__subclasses__()))

    # Those with refusals below them are kinds, and never raised.
    codes = {one.code for one in all_of(Refusal) if not one.__subclasses__()}
    assert codes <= set(problems.KINDS)
    assert {"sold_out", "already_claimed", "not_open", "closed", "paused", "rate_limited", "unavailable"} <= codes
