"""A whole rush with a waiting room: real server and worker, real HTTP, real waiting."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import requests
from rest_framework_simplejwt.tokens import AccessToken

from coupons.models import Coupon, FailedClaim
from coupons.stock import keys
from events.waiting_room.store import bulk_room_store
from tests.acceptance.test_rush import rush, serve  # noqa: F401 - a fixture
from tests.celery_kit import PATIENCE
from tests.factories import make_user, make_users

RULES = {"waiting_room": True, "admission_rate": 40, "max_active": 60, "pass_ttl": 3, "grace": 1}


def queue_and_claim(event, url, token):
    """Take part by hand, as somebody who is not of the rush, once that has begun: it wants nothing under way before."""
    deadline = time.monotonic() + PATIENCE
    while not any(bulk_room_store().numbers([event.id])[event.id]):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    def post(what):
        answer = requests.post(
            f"{url}/api/v1/events/{event.id}/{what}", headers={"Authorization": f"Bearer {token}"}, timeout=5
        )
        return answer.json()

    while (ticket := post("queue"))["status"] == "waiting":  # joining again is asking
        time.sleep(ticket["poll_after_ms"] / 1000)
    return post("claims")["status"]


def test_a_rush_that_queues_keeps_every_promise_and_guests_may_take_part(sale, serve, tmp_path):  # noqa: F811
    event, result, history = sale(quantity=40, **RULES), tmp_path / "rush.json", tmp_path / "history.jsonl"
    make_users(100)
    guest = make_user()
    url = serve()
    options = ("--waiting-room", "--guests", "--users=100", "--over=1", "--first-lane=10")
    with ThreadPoolExecutor(1) as threads:
        claim = threads.submit(queue_and_claim, event, url, AccessToken.for_user(guest))
        lines, status = rush(event, url, *options, f"--json={result}", f"--history={history}")
    assert lines[-1] == "VERDICT: kept — 40 of 40 issued, one each, in order, none lost", "\n".join(lines)
    assert status == 0
    assert claim.result() == "pending"
    assert Coupon.objects.filter(user=guest).exists()
    promises = [line[2:4] for line in lines if line.startswith("✔")]
    assert promises == [f"P{number}" for number in range(1, 10)] + [f"W{number}" for number in range(1, 8)]

    told = json.loads(result.read_bytes())
    assert told["numbers"]["answers"]["403 not_admitted"] > 0, "some claimed without a pass"
    visits = told["visits"]["answers"]
    assert min(visits[kind] for kind in ("join 200 waiting", "ask 200 admitted", "ask 409 sold_out", "leave 204")) > 0
    exchanges = [json.loads(line) for line in history.read_bytes().splitlines()]
    tickets = [one["ticket"] for one in exchanges if "ticket" in one]
    assert {ticket["lane"] for ticket in tickets} == {0, 1}
    assert all(ticket["pass_expires_at"] for ticket in tickets if ticket["status"] == "admitted")


def test_a_room_that_lets_people_claim_without_a_pass_is_found_out(sale, serve, store):  # noqa: F811
    event = sale(quantity=10, **RULES)
    make_users(40)
    store.client.hset(keys.state(event.id), "room", "0")
    lines, status = rush(event, serve("web"), "--waiting-room", "--users=40", "--patience=4")
    assert status == 1
    assert "VERDICT: broken — W5 " in lines[-1], "\n".join(lines)


def test_a_rush_that_queues_for_what_is_held_sells_what_comes_back(sale, serve, tmp_path):  # noqa: F811
    event = sale(quantity=6, hold_seconds=1, **RULES)
    make_users(100)
    make_user(is_superuser=True, is_staff=True)
    result = tmp_path / "rush.json"
    options = ("--waiting-room", "--holds", "--users=100", "--over=1", "--first-lane=10")
    lines, status = rush(event, serve(), *options, f"--json={result}")
    assert lines[-1] == "VERDICT: kept — 6 of 6 issued, one each, in order, none lost", "\n".join(lines)
    assert status == 0
    promises = [line[2:4] for line in lines if line.startswith("✔")]
    assert promises[-9:] == [*(f"W{number}" for number in range(1, 8)), "H1", "H2"]
    event.refresh_from_db()
    assert (event.issued, event.held) == (6, 0), "all of them, and for good"
    returned = FailedClaim.objects.filter(reason__in=("cancelled", "payment_failed", "hold_expired")).count()
    numbers = json.loads(result.read_bytes())["verdicts"][-1]["numbers"]
    assert numbers == {"back": returned, "confirmed": 6, "beside": 0, "early": 0}
