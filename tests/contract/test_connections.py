"""One contract, two lanes: several requests on a connection, one after another or all at once."""

import pytest

from tests.contract.corpus import JSON, Case, ask, case, chunked, claim, poll, state
from tests.contract.lanes import Lanes

KEY = "Idempotency-Key: "
NOTHING = ask("GET", "/api/v1/nothing")

CASES = [
    case(
        "a claim, polls and the state",
        claim(),
        poll("<claim>"),
        state(),
        poll("<claim>"),
        answers=["202", "200", "200", "200"],
    ),
    case("after refusals", claim(event="closed"), NOTHING, state(), answers=["403 closed", "404 not_found", "200"]),
    case("after a bad body", claim(JSON, body=b"["), claim(JSON, body=b"{}"), answers=["400 invalid", "202"]),
    case("after a body that is too long", claim(JSON, body=b" " * 20_000), claim(), answers=["413 too_large", "202"]),
    case(
        "after a body in chunks",
        claim(JSON, "Transfer-Encoding: chunked") + chunked(b"[]"),
        claim(),
        answers=["400 invalid", "202"],
    ),
    case("after HEAD", state(method="HEAD"), state(), answers=["200", "200"]),
    case("after 304", state(), state("If-None-Match: <etag>"), state(), answers=["200", "304", "200"]),
    case("after Django's own", ask("GET", "/api/v1/coupons"), state(), answers=["401 unauthenticated", "200"]),
    # All at once: the answers come in the order of the questions.
    case(
        "three states at once", state() + state(event="paused") + state(event="history"), answers=["200", "200", "200"]
    ),
    case("the same claim at once", claim(f"{KEY}a") + claim(f"{KEY}a"), answers=["202", "202"]),
    case("two claims at once", claim(f"{KEY}a") + claim(f"{KEY}b"), answers=["202", "409 already_claimed"]),
    case(
        "a claim, a page of nothing, a bad body and a state at once",
        claim() + NOTHING + claim(JSON, body=b"[]") + state(),
        answers=["202", "404 not_found", "400 invalid", "200"],
    ),
    case(
        "bodies at once",
        claim(JSON, body=b"{}") + claim(JSON, "Transfer-Encoding: chunked") + chunked(b"{}") + state(),
        answers=["202", "409 already_claimed", "200"],
    ),
    case("a state after HEAD, at once", state(method="HEAD") + state(event="paused"), answers=["200", "200"]),
    case("nothing after who hangs up", state("Connection: close") + state(), answers="200", closes=True),
    case("nonsense after a state", state() + b"nonsense\r\n\r\n", answers=["200", "400"], closes=True),
    case(
        "nonsense",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a greeting of TLS\r\n\r\n",
        answers="400",
        closes=True,
    ),
    case(
        "a request in a request that is cut off",
        b"POST /api/v1/events/<open>/claims HTTP/1.1\r\nHost: 127.0.0.1\r\n" + state(),
        answers="400",
        closes=True,
    ),
]


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_both_lanes_keep_the_connection_alike(lanes: Lanes, each: Case) -> None:
    lanes.compare(each)
