"""The rush's users against a server that misbehaves as told, over real sockets."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from coupons.rush.client import Customer, Manners, Rush
from coupons.rush.history import History

QUICK = Manners(timeout=1, tries=4, backoff=0.01, backoff_max=0.02, poll=0.01, poll_max=0.02)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """Answers claim requests with `answers`, one after the other, and goes on with the last. Notes all it is asked."""

    def __init__(self, *answers: Answer, looks: tuple[Answer, ...] = ()) -> None:
        self.answers, self.looks = list(answers), list(looks)
        self.claims: list[tuple[str, str]] = []  # the token and the key of each claim request
        self.looked: list[str] = []
        self.at_once = self.most_at_once = 0

    async def claim(self, request: web.Request) -> web.StreamResponse:
        self.claims.append((request.headers["Authorization"], request.headers["Idempotency-Key"]))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)
        finally:
            self.at_once -= 1

    async def look(self, request: web.Request) -> web.StreamResponse:
        self.looked.append(request.match_info["claim_id"])
        return await (self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])(request)


def says(status: int, body: object, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers)

    return answer


def a_claim(sequence: int, state: str = "pending", **rest: object) -> dict[str, object]:
    return {"id": f"7-1-{sequence}", "event_id": 7, "status": state, "sequence": sequence, **rest}


def problem(status: int, code: str, **rest: object) -> dict[str, object]:
    return {"type": "about:blank", "title": code, "status": status, "code": code, **rest}


async def never(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def hang_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def half(request: web.Request) -> web.StreamResponse:
    """Break off in the midst of the answer."""
    response = web.StreamResponse(status=202, headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"id": "7-1-1"')
    assert request.transport is not None
    request.transport.abort()
    return response


SOLD_OUT = says(409, problem(409, "sold_out"))
ACCEPTED = says(202, a_claim(1))
ISSUED = says(200, a_claim(1, "issued", coupon={"code": "7KQM-X2PD-94TB-ZWHA"}))


def rush(receiver: Receiver, *, users: int = 1, history: History | None = None, follow_for: float = 5, **options: Any):
    """Run a rush of `users` on the receiver; the exchanges, and the rush."""
    history = history or History()

    async def run() -> Rush:
        app = web.Application()
        app.router.add_post("/api/v1/events/7/claims", receiver.claim)
        app.router.add_get("/api/v1/events/7/claims/{claim_id}", receiver.look)
        async with TestServer(app) as server:
            customers = [Customer(number, f"token-{number}") for number in range(1, users + 1)]
            one = Rush(
                url=str(server.make_url("")), event_id=7, customers=customers, history=history,
                manners=QUICK, **options,
            )  # fmt: skip
            await one.run(follow_for=follow_for)
            return one

    done = asyncio.run(run())
    return list(history), done


def test_a_final_answer_is_asked_for_once():
    receiver = Receiver(SOLD_OUT)
    (exchange,), done = rush(receiver)
    assert (exchange.status, exchange.code, exchange.attempt, exchange.user_id) == (409, "sold_out", 1, 1)
    assert exchange.asked_ns < exchange.answered_ns
    assert exchange.claim_id == exchange.state == ""
    assert receiver.claims == [("Bearer token-1", exchange.key)]
    assert done.tally == {"requests": 1, "done": 1, "sold_out": 1}


def test_a_timeout_is_unknown_and_the_retry_bears_the_same_key():
    receiver = Receiver(never, SOLD_OUT)
    (first, second), _ = rush(receiver)
    assert (first.status, first.attempt) == (None, 1)
    assert (first.answered_ns - first.asked_ns) / 1e9 >= QUICK.timeout
    assert (second.status, second.attempt, second.key) == (409, 2, first.key)
    assert len({key for _, key in receiver.claims}) == 1


def test_a_broken_connection_is_unknown_and_tried_again():
    for breaking in (hang_up, half):
        receiver = Receiver(breaking, SOLD_OUT)
        (first, second), _ = rush(receiver)
        assert (first.status, first.claim_id) == (None, "")
        assert (second.status, second.key) == (409, first.key)


def test_a_server_that_is_not_there_is_asked_a_bounded_number_of_times():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers, and nobody else gets the port
        history = History()
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        nobody = Rush(url=url, event_id=7, customers=[Customer(1, "t")], history=history, manners=QUICK)
        asyncio.run(nobody.run())
    assert [(one.status, one.attempt) for one in history] == [(None, n) for n in range(1, QUICK.tries + 1)]


def test_retry_after_is_waited_for():
    for status, code in ((503, "unavailable"), (429, "rate_limited")):
        receiver = Receiver(says(status, problem(status, code), **{"Retry-After": "0.4"}), SOLD_OUT)
        (first, second), _ = rush(receiver)
        assert (first.status, first.code) == (status, code)
        assert (second.asked_ns - first.answered_ns) / 1e9 >= 0.4
        assert second.key == first.key


def test_a_500_is_final():
    receiver = Receiver(says(500, "<h1>Server Error</h1>"))
    (exchange,), _ = rush(receiver)
    assert (exchange.status, exchange.code) == (500, "")
    assert exchange.open_ended


def test_an_accepted_claim_is_followed_until_it_is_issued():
    receiver = Receiver(ACCEPTED, looks=(says(200, a_claim(1)), says(503, problem(503, "unavailable")), ISSUED))
    (claim, *polls), _ = rush(receiver)
    assert (claim.accepted, claim.claim_id, claim.sequence, claim.state) == (True, "7-1-1", 1, "pending")
    assert [(one.kind, one.status, one.state) for one in polls] == [
        ("poll", 200, "pending"), ("poll", 503, ""), ("poll", 200, "issued"),
    ]  # fmt: skip
    assert receiver.looked == ["7-1-1"] * 3


def test_a_claim_is_followed_until_it_is_rejected_and_the_reason_noted():
    receiver = Receiver(ACCEPTED, looks=(says(200, a_claim(1, "rejected", reason="error")),))
    (_, poll), _ = rush(receiver)
    assert (poll.state, poll.reason) == ("rejected", "error")


def test_a_claim_that_never_ends_is_followed_for_a_bounded_time():
    receiver = Receiver(ACCEPTED, looks=(says(200, a_claim(1)),))
    exchanges, done = rush(receiver, follow_for=0.2)
    assert {one.state for one in exchanges} == {"pending"}
    assert done.tally["ended"] == 0


def test_a_refusal_that_names_the_claim_is_followed_too():
    receiver = Receiver(says(409, problem(409, "already_claimed", claim=a_claim(1))), looks=(ISSUED,))
    (refusal, poll), _ = rush(receiver)
    assert (refusal.code, refusal.claim_id, refusal.sequence, refusal.accepted) == (
        "already_claimed",
        "7-1-1",
        1,
        False,
    )
    assert poll.state == "issued"


def test_every_user_asks_with_a_key_and_a_token_of_its_own():
    receiver = Receiver(SOLD_OUT)
    exchanges, _ = rush(receiver, users=50)
    assert sorted(one.user_id for one in exchanges) == list(range(1, 51))
    assert len(set(receiver.claims)) == len({key for _, key in receiver.claims}) == 50


def test_the_seed_decides_the_order():
    def order(seed: int) -> list[str]:
        receiver = Receiver(SOLD_OUT)
        rush(receiver, users=30, concurrency=1, seed=seed)
        return [token for token, _ in receiver.claims]

    assert order(1) == order(1) != order(2)


def test_they_come_evenly_over_the_time_and_in_the_order_of_the_seed():
    all_at_once, spread = Receiver(SOLD_OUT), Receiver(SOLD_OUT)
    rush(all_at_once, users=10, concurrency=1)
    exchanges, _ = rush(spread, users=10, over=0.5)
    assert spread.claims != all_at_once.claims  # the keys are new
    assert [token for token, _ in spread.claims] == [token for token, _ in all_at_once.claims]
    asked = sorted(one.asked_ns for one in exchanges)
    for number, moment in enumerate(asked):
        assert (moment - asked[0]) / 1e9 > 0.05 * number - 0.04, "none comes before its time"


def test_double_clicks_come_together_however_long_the_sale():
    exchanges, _ = rush(Receiver(SOLD_OUT), users=3, duplicates=1, over=0.6)
    asked = sorted(one.asked_ns for one in exchanges)
    assert (asked[1] - asked[0]) / 1e9 < 0.2 <= (asked[2] - asked[1]) / 1e9 + 0.05


def test_no_more_requests_are_under_way_than_the_concurrency():
    async def slowly(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return await SOLD_OUT(request)

    receiver = Receiver(slowly)
    rush(receiver, users=40, concurrency=5)
    assert receiver.most_at_once == 5


def test_double_clicks_come_with_the_first_and_half_of_them_bear_its_key():
    receiver = Receiver(ACCEPTED, looks=(ISSUED,))
    exchanges, _ = rush(receiver, users=10, duplicates=4)
    claims = [one for one in exchanges if one.kind == "claim"]
    keys = {user: [one.key for one in claims if one.user_id == user] for user in range(1, 11)}
    assert len(claims) == 14
    assert sorted(len(set(each)) for each in keys.values() if len(each) == 2) == [1, 1, 2, 2]
    twice = [token for token, _ in receiver.claims[:8]]
    assert len(set(twice)) == 4, "those who click twice come first, both clicks at once"


def test_more_double_clicks_than_users_are_spread_over_them():
    exchanges, _ = rush(Receiver(SOLD_OUT), users=3, duplicates=7)
    assert sorted(sum(one.user_id == user for one in exchanges) for user in (1, 2, 3)) == [3, 3, 4]


def test_keys_are_new_in_each_rush():
    receiver = Receiver(SOLD_OUT)
    rush(receiver)
    rush(receiver)
    assert len({key for _, key in receiver.claims}) == 2


def test_the_history_is_written_as_json_lines():
    file = BytesIO()
    rush(Receiver(never, ACCEPTED, looks=(ISSUED,)), history=History(file))
    first, second, poll = map(json.loads, file.getvalue().splitlines())
    assert (first["status"], first["attempt"], first["user"]) == ("unknown", 1, 1)
    assert (second["status"], second["claim"], second["sequence"], second["key"]) == (202, "7-1-1", 1, first["key"])
    assert first["asked_ns"] < first["answered_ns"] < second["asked_ns"] < poll["asked_ns"]
    assert (poll["kind"], poll["state"]) == ("poll", "issued")
