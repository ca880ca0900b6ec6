"""Tickets by the API: each sees their own, in their own lane, and the state tells all what all may know."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils.dateparse import parse_datetime

from coupons import modes
from coupons.issuing import issue_claims
from coupons.stock.store import bulk_store
from events.catalogue import catalogue
from events.models import Event
from tests.api_kit import Caller, forge, problem_of, redis_round_trips
from tests.factories import make_event, make_user

Sale = Callable[..., Event]
FIELDS = {"number", "position", "ahead", "eta_seconds", "status", "pass_expires_at", "poll_after_ms", "odds"}


@pytest.fixture
def room(sale: Sale) -> Event:
    return sale(waiting_room=True, quantity=2, admission_rate=1, max_active=1, pass_ttl=60)


def queue(event: Event) -> str:
    return f"/api/v1/events/{event.id}/queue"


def join(event: Event, caller: Caller) -> dict[str, Any]:
    response = caller.post(queue(event))
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    assert set(body) == FIELDS
    return body


def test_a_ticket_says_where_its_owner_stands(room: Event) -> None:
    first, second = (Caller(make_user()) for _ in range(2))
    admitted, waiting = join(room, first), join(room, second)
    assert (admitted["status"], admitted["number"], admitted["position"], admitted["ahead"]) == ("admitted", 1, 0, 0)
    assert parse_datetime(admitted["pass_expires_at"])
    assert (waiting["status"], waiting["number"], waiting["position"], waiting["ahead"]) == ("waiting", 2, 1, 0)
    assert waiting["pass_expires_at"] is None
    assert waiting["poll_after_ms"] >= 250
    assert waiting["odds"] == 1.0, "a unit is left beside the one that the pass holds"
    assert join(room, second)["number"] == 2, "joining twice is asking"
    assert second.get(queue(room)).json()["number"] == 2


def test_each_sees_their_own_ticket_whatever_they_send(room: Event) -> None:
    first, second, third = make_user(), make_user(), make_user()
    join(room, Caller(first))
    join(room, Caller(second))
    told = Caller(third).post(queue(room), {"number": 1, "user_id": first.pk, "lane": 0}).json()
    assert (told["number"], told["status"], told["ahead"]) == (3, "waiting", 1)
    assert Caller(third).get(f"{queue(room)}?user_id={first.pk}&number=1").json()["number"] == 3
    problem_of(Caller(third).claim(room.id), "not_admitted")
    assert Caller(first).claim(room.id).status_code == 202


def test_all_tabs_of_an_account_have_one_ticket(room: Event) -> None:
    user = make_user()
    assert {join(room, Caller(user))["number"] for _ in range(5)} == {1}
    assert join(room, Caller(make_user()))["number"] == 2


def test_the_lane_is_told_by_the_token_alone(room: Event) -> None:
    join(room, Caller(make_user()))
    join(room, Caller(make_user()))
    vip = join(room, Caller(token=forge(user_id=make_user().pk, lane=0)))
    assert (vip["number"], vip["ahead"]) == (3, 0), "in front of the other lane"
    for lane in (1, 2, -1, "0", False, None):
        assert join(room, Caller(token=forge(user_id=make_user().pk, lane=lane)))["ahead"] > 0


def test_a_claim_without_a_pass_is_told_where_to_queue(room: Event) -> None:
    caller = Caller(make_user())
    assert problem_of(caller.claim(room.id), "not_admitted")["queue"].endswith(queue(room))
    join(room, caller)
    assert caller.claim(room.id).status_code == 202


def test_who_has_claimed_is_told_of_the_claim_as_a_second_claim_would_be(
    room: Event, django_assert_num_queries: Any
) -> None:
    caller = Caller(make_user())
    join(room, caller)
    claimed = caller.claim(room.id).json()
    for status in ("pending", "issued"):
        second = problem_of(caller.claim(room.id), "already_claimed")
        assert second["claim"] == claimed | {"status": status}
        for visit in (caller.post, caller.get):
            with redis_round_trips() as sent, django_assert_num_queries(0):
                assert problem_of(visit(queue(room)), "already_claimed") == second
            assert len(sent) == 1
        issue_claims(room.id, bulk_store())


def test_a_claim_of_several_units_is_named_in_the_queue_as_its_owner_knows_it(sale: Sale) -> None:
    room, caller = sale(waiting_room=True, quantity=5, per_user_limit=2), Caller(make_user())
    join(room, caller)
    assert caller.post(f"/api/v1/events/{room.id}/claims", {"quantity": 2}).json()["quantity"] == 2
    for _ in range(2):
        second = problem_of(caller.claim(room.id), "already_claimed")
        assert second["claim"]["quantity"] == 2
        assert problem_of(caller.get(queue(room)), "already_claimed") == second
        issue_claims(room.id, bulk_store())
        modes.sell_from_database(room.id, bulk_store())
        catalogue.refresh()


def test_who_leaves_has_no_ticket_any_more(room: Event) -> None:
    first, second = (Caller(make_user()) for _ in range(2))
    join(room, first)
    join(room, second)
    assert first.client.delete(queue(room), headers=first._headers({})).status_code == 204
    problem_of(first.get(queue(room)), "not_found")
    limited = first.post(queue(room))
    problem_of(limited, "rate_limited")
    assert 1 <= int(limited.headers["Retry-After"]) <= 2


def test_the_end_of_the_stock_ends_the_queue(room: Event) -> None:
    first, second = (Caller(make_user()) for _ in range(2))
    join(room, first)
    join(room, second)
    bulk_store().adjust(room.id, epoch=room.epoch, delta=-2)
    problem_of(second.get(queue(room)), "sold_out")
    problem_of(second.post(queue(room)), "sold_out")


def test_only_who_has_signed_in_queues_and_only_where_there_is_a_room(room: Event, sale: Sale) -> None:
    problem_of(Caller().post(queue(room)), "unauthenticated")
    for event in (sale(), make_event(waiting_room=True)):
        problem_of(Caller(make_user()).post(queue(event)), "not_found")


def test_a_visit_costs_one_round_trip_and_no_query(room: Event, django_assert_num_queries: Any) -> None:
    caller = Caller(make_user())
    join(room, caller)
    for visit in (lambda: caller.post(queue(room)), lambda: caller.get(queue(room))):
        with redis_round_trips() as sent, django_assert_num_queries(0):
            assert visit().status_code == 200
        assert len(sent) == 1


def test_the_state_tells_what_all_may_know(room: Event, sale: Sale) -> None:
    for _ in range(3):
        join(room, Caller(make_user()))
    catalogue.refresh()
    body = Caller().get(f"/api/v1/events/{room.id}/state").json()
    assert body["waiting_room"] is True
    assert body["queue"] == {"serving": 1, "waiting": 2, "order": "fifo", "seed_hash": None, "seed": None}
    without = sale()
    body = Caller().get(f"/api/v1/events/{without.id}/state").json()
    assert (body["waiting_room"], "queue" in body) == (False, False)
    assert Caller().get(f"/api/v1/events/{room.id}").json()["waiting_room"] is True
