"""The visitors of a waiting room against one that answers as told, over real sockets."""

import asyncio
from dataclasses import replace
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from coupons.rush import visitors
from coupons.rush.client import Customer
from coupons.rush.history import Exchange, History
from coupons.rush.visitors import Role, Visitors
from tests.unit.test_rush_client import ACCEPTED, ISSUED, QUICK, Answer, problem, says

MANNERS = replace(QUICK, think=0.02, away=0.05, looks=1, hasty=0.01)


def a_ticket(status: str = "waiting", *, ahead: int | None = 3, poll: int = 30, eta: int = 0) -> dict[str, object]:
    return {
        "number": 4, "position": None, "ahead": ahead, "eta_seconds": eta, "status": status,
        "pass_expires_at": None, "poll_after_ms": poll, "odds": 1.0,
    }  # fmt: skip


WAIT = says(200, a_ticket())
ADMITTED = says(200, a_ticket("admitted", ahead=0))
NO_TICKET = says(404, problem(404, "not_found"))
NOT_ADMITTED = says(403, problem(403, "not_admitted"))
SOLD_OUT = says(409, problem(409, "sold_out"))
AWAY = says(503, problem(503, "unavailable"))


class Room:
    """Answers visits with `answers`, and claims with `claims`; each in turn, and goes on with the last."""

    def __init__(self, *answers: Answer, claims: tuple[Answer, ...] = (ACCEPTED,)) -> None:
        self.answers, self.claims = list(answers), list(claims)

    async def visit(self, request: web.Request) -> web.StreamResponse:
        return await self._next(self.answers)(request)

    async def claim(self, request: web.Request) -> web.StreamResponse:
        return await self._next(self.claims)(request)

    def _next(self, answers: list[Answer]) -> Answer:
        return answers.pop(0) if len(answers) > 1 else answers[0]


def play(room: Room, role: Role, *, users: int = 1, **options: Any) -> tuple[list[Exchange], Visitors]:
    """Have `users` of one role visit the room; the exchanges but for the polls of claims, and the visitors."""
    history = History()

    async def run() -> Visitors:
        app = web.Application()
        app.router.add_post("/api/v1/events/7/queue", room.visit)
        app.router.add_get("/api/v1/events/7/queue", room.visit)
        app.router.add_delete("/api/v1/events/7/queue", says(204, ""))
        app.router.add_post("/api/v1/events/7/claims", room.claim)
        app.router.add_get("/api/v1/events/7/claims/{claim_id}", ISSUED)
        async with TestServer(app) as server:
            customers = [Customer(number, f"token-{number}") for number in range(1, users + 1)]
            crowd = Visitors(
                url=str(server.make_url("")), event_id=7, customers=customers, history=history,
                shares={role: 1}, manners=MANNERS, **{"grace": 0, "patience": 10, **options},
            )  # fmt: skip
            await crowd.run(follow_for=5)
            return crowd

    crowd = asyncio.run(run())
    return [one for one in history if one.kind != "poll"], crowd


def kinds(exchanges: list[Exchange]) -> list[str]:
    return [one.kind for one in exchanges]


def test_who_is_patient_comes_when_told_to_and_claims_with_the_pass():
    told, crowd = play(Room(says(200, a_ticket(poll=120)), WAIT, ADMITTED), Role.PATIENT)
    assert kinds(told)[:4] == ["join", "ask", "ask", "claim"]
    assert [one.ticket.status for one in told[:3] if one.ticket] == ["waiting", "waiting", "admitted"]
    assert (told[1].asked_ns - told[0].answered_ns) / 1e6 >= 119
    assert crowd.tally["admitted"] == crowd.tally["done"] == crowd.tally["requests"] == 1


def test_a_room_that_is_away_is_asked_again_and_one_that_refuses_is_not():
    told, _ = play(Room(AWAY, AWAY, WAIT, SOLD_OUT), Role.PATIENT)
    assert kinds(told) == ["join", "join", "join", "ask"]


def test_who_leaves_says_so():
    told, _ = play(Room(WAIT), Role.LEAVING, users=8, patience=1)
    last = {one.user_id: one.kind for one in told}
    assert "leave" in last.values()
    rejoined = [one for one in told if one.kind == "join"][8:]
    assert 0 < len(rejoined) < 8, "some of them come back"


def test_who_closes_the_tab_is_not_heard_of_again():
    told, crowd = play(Room(WAIT), Role.CLOSING, users=5)
    assert set(kinds(told)) <= {"join", "ask"}
    assert crowd.tally["done"] == 5


def test_who_has_lost_the_place_joins_anew():
    told, _ = play(Room(WAIT, NO_TICKET, ADMITTED), Role.BACK_LATE)
    assert kinds(told)[:4] == ["join", "ask", "join", "claim"]


def test_a_place_or_a_pass_that_was_lost_with_redis_has_its_owner_queue_anew():
    told, _ = play(Room(WAIT, NO_TICKET, WAIT, ADMITTED), Role.PATIENT)
    assert kinds(told)[:5] == ["join", "ask", "join", "ask", "claim"]
    told, _ = play(Room(WAIT, ADMITTED, WAIT, ADMITTED, claims=(NOT_ADMITTED, ACCEPTED)), Role.PATIENT)
    assert kinds(told)[:6] == ["join", "ask", "claim", "join", "ask", "claim"]


def test_a_sale_that_is_not_there_is_asked_for_once():
    told, _ = play(Room(NO_TICKET), Role.PATIENT)
    assert kinds(told) == ["join"]


def test_who_is_hasty_does_not_wait_and_bears_being_limited():
    slow = says(200, a_ticket(poll=60_000))
    limited = says(429, problem(429, "rate_limited"))
    told, _ = play(Room(slow, limited, limited, ADMITTED), Role.HASTY)
    assert kinds(told)[:5] == ["join", "ask", "ask", "ask", "claim"]


def test_many_tabs_are_open_at_once_and_each_claims_under_a_key_of_its_own():
    told, _ = play(Room(ADMITTED), Role.MANY_TABS)
    assert kinds(told).count("join") == visitors.TABS
    assert len({one.key for one in told if one.kind == "claim"}) == visitors.TABS


def test_who_pushes_claims_before_the_turn_and_who_stays_outside_without_a_ticket():
    told, _ = play(Room(WAIT, claims=(NOT_ADMITTED, ACCEPTED)), Role.PUSHING, patience=1)
    assert kinds(told)[:2] == ["join", "claim"]
    told, _ = play(Room(WAIT, claims=(NOT_ADMITTED,)), Role.OUTSIDE)
    assert [(one.kind, one.code) for one in told] == [("claim", "not_admitted")]


def test_at_most_so_many_are_in_line_at_once():
    told, _ = play(Room(SOLD_OUT), Role.PATIENT, users=10, in_line=2)
    assert len(told) == 10
    starts = sorted(one.asked_ns for one in told)
    ends = sorted(one.answered_ns for one in told)
    assert all(ends[number] <= starts[number + 2] for number in range(8))


def test_it_ends_when_its_patience_does_and_says_who_is_there_still():
    _, crowd = play(Room(WAIT), Role.PATIENT, users=3, patience=0.2)
    assert crowd.tally["still there at the end"] == 3
