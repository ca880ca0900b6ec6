"""One contract, two lanes: tickets of the waiting room, and every refusal."""

import pytest

from tests.contract.corpus import BEARER, EVENTS, JSON, Case, ask, case, claim, state
from tests.contract.lanes import Lanes


def join(*headers: str, event: str = "room", body: bytes | None = None) -> bytes:
    return ask("POST", f"{EVENTS}/<{event}>/queue", BEARER, *headers, body=body)


def look(event: str = "room", method: str = "GET", *headers: str, body: bytes | None = None) -> bytes:
    return ask(method, f"{EVENTS}/<{event}>/queue", BEARER, *headers, body=body)


def leave(event: str = "room", body: bytes | None = None) -> bytes:
    return look(event, "DELETE", body=body)


CASES = [
    case("who joins waits", join(), look(), answers=["200", "200"]),
    case("joining twice", join(), join(), answers=["200", "200"]),
    case("without a ticket", look(), answers="404 not_found"),
    case("leaving", join(), leave(), look(), answers=["200", "204", "404 not_found"]),
    case("leaving without a ticket", leave(), answers="204"),
    case("leaving and joining at once", join(), leave(), join(), answers=["200", "204", "429 rate_limited"]),
    case(
        "a hasty one",
        join(event="room_not_open"),
        *[look("room_not_open")] * 21,
        answers=["200"] * 21 + ["429 rate_limited"],
    ),
    case("a claim of who waits", join(), claim(event="room"), answers=["200", "403 not_admitted"]),
    case("a claim of who has not joined", claim(event="room"), answers="403 not_admitted"),
    case("who is let in claims", join(event="wide"), claim(event="wide"), answers=["200", "202"]),
    case(
        "the pass is taken by the claim",
        join(event="wide"),
        claim("Idempotency-Key: a", event="wide"),
        look("wide"),
        claim("Idempotency-Key: a", event="wide"),
        claim(event="wide"),
        answers=["200", "202", "409 already_claimed", "202", "409 already_claimed"],
    ),
    case(
        "who has claimed cannot join again, and may leave",
        join(event="wide"),
        claim(event="wide"),
        join(event="wide"),
        leave("wide"),
        join(event="wide"),
        answers=["200", "202", "409 already_claimed", "204", "409 already_claimed"],
    ),
    case(
        "who leaves gives the pass up",
        join(event="wide"),
        leave("wide"),
        claim(event="wide"),
        answers=["200", "204", "403 not_admitted"],
    ),
    case("no waiting room", join(event="open"), look("open"), leave("open"), answers=["404 not_found"] * 3),
    case("a draft", join(event="draft"), look("draft"), leave("draft"), answers=["404 not_found"] * 3),
    case("before the opening", join(event="room_not_open"), look("room_not_open"), answers=["200", "200"]),
    case("before a shuffle opens", join(event="shuffled"), look("shuffled"), answers=["200", "200"]),
    case("paused", join(event="room_paused"), look("room_paused"), answers=["200", "200"]),
    case("sold out", join(event="room_sold_out"), look("room_sold_out"), answers=["409 sold_out"] * 2),
    case("closed", join(event="room_closed"), look("room_closed"), answers=["403 closed"] * 2),
    case("leaving what is closed", leave("room_closed"), answers="204"),
    case("joining the database's", join(event="room_database"), answers="503 unavailable"),
    case("the database's", look("room_database"), leave("room_database"), answers=["404 not_found", "204"]),
    # Nobody has a ticket there, and so nobody stands before them.
    case("a claim in the database", claim(event="room_database"), answers="401 unauthenticated"),
    *(case(f"the state, {event}", state(event=event), answers="200") for event in ("shuffled", "room_sold_out")),
    # Methods and bodies
    *(
        case(f"{method} of a ticket", join(), look("room", method), answers=["200", answer])
        for method, answer in (
            ("HEAD", "200"),
            ("OPTIONS", "200"),
            ("PUT", "405 method_not_allowed"),
            ("PATCH", "405 method_not_allowed"),
        )
    ),
    case("HEAD without a ticket", look("room", "HEAD"), answers="404"),
    *(
        case(f"joining with {body!r}", join(JSON, body=body), answers=answer)
        for body, answer in (
            (b"{}", "200"),
            (b'{"lane":0,"number":1}', "200"),
            (b"[]", "400 invalid"),
            (b"{", "400 invalid"),
            (b"", "200"),
        )
    ),
    case("asking with a body", look("room", "GET", JSON, body=b"{}"), answers="404 not_found"),
    case("leaving with a body", look("room", "DELETE", JSON, body=b"{}"), answers="204"),
    case("leaving with a bad body", look("room", "DELETE", JSON, body=b"{"), answers="204"),
    case("nobody", ask("POST", f"{EVENTS}/<room>/queue"), answers="401 unauthenticated"),
    case(
        "a bad token",
        ask("GET", f"{EVENTS}/<room>/queue", "Authorization: Bearer <expired>"),
        answers="401 unauthenticated",
    ),
    case("a slash behind", ask("GET", f"{EVENTS}/<room>/queue/", BEARER), answers="404 not_found"),
    case("something behind", ask("GET", f"{EVENTS}/<room>/queue/1", BEARER), answers="404 not_found"),
    case("no event", ask("POST", f"{EVENTS}/999999999/queue", BEARER), answers="404 not_found"),
]


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_both_lanes_answer_alike(lanes: Lanes, one: Case) -> None:
    lanes.compare(one)
