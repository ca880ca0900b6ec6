"""One contract, two lanes: claims, polls and states, and every refusal."""

import pytest

from tests.contract.corpus import BEARER, CLAIMS, EVENTS, JSON, OWNER, Case, ask, case, claim, poll, state
from tests.contract.lanes import Lanes

KEY = "Idempotency-Key: "
HISTORY = f"{EVENTS}/<history>/claims"
MEMBER = "Authorization: Bearer <member>"


def claim_in_database(*headers: str) -> bytes:
    return ask("POST", f"{EVENTS}/<database>/claims", MEMBER, *headers)


CASES = [
    case("a claim", claim(), answers="202"),
    case("the same request again", claim(f"{KEY}a"), claim(f"{KEY}a"), answers=["202", "202"]),
    case("another request again", claim(f"{KEY}a"), claim(f"{KEY}b"), answers=["202", "409 already_claimed"]),
    case("without a key again", claim(), claim(), answers=["202", "409 already_claimed"]),
    case("a claim and its poll", claim(), poll("<claim>"), answers=["202", "200"]),
    case("sold out", claim(event="sold_out"), answers="409 sold_out"),
    case("not open", claim(event="not_open"), answers="403 not_open"),
    case("paused", claim(event="paused"), answers="403 paused"),
    case("closed", claim(event="closed"), answers="403 closed"),
    case("closed, with a key", claim(f"{KEY}a", event="closed"), answers="403 closed"),
    case("over", claim(event="over"), answers="403 closed"),
    case("over, with a key", claim(f"{KEY}a", event="over"), answers="403 closed"),
    case("a draft", claim(event="draft"), answers="404 not_found"),
    case("too fast", claim(event="slow"), claim(event="slow"), answers=["202", "429 rate_limited"]),
    case("database", claim_in_database(), claim_in_database(), answers=["201", "409 already_claimed"]),
    case("database, with a key", claim_in_database(f"{KEY}a"), claim_in_database(f"{KEY}a"), answers=["201", "201"]),
    case("database, a user who is gone", claim(event="database"), answers="401 unauthenticated"),
    # Polls
    case("issued just now", ask("GET", f"{HISTORY}/<issued>", OWNER), answers="200"),
    case("held", ask("GET", f"{EVENTS}/<holds>/claims/<of_holds>", OWNER), answers="200"),
    case("who holds and claims again", ask("POST", f"{EVENTS}/<holds>/claims", OWNER), answers="409 already_claimed"),
    case("of several units", ask("GET", f"{EVENTS}/<several>/claims/<of_several>", OWNER), answers="200"),
    case(
        "several units, and again under the same key",
        *[claim(JSON, "Idempotency-Key: k", body=b'{"quantity":3}', event="several")] * 2,
        answers=["202", "202"],
    ),
    case(
        "more than are left to the user",
        *[claim(JSON, body=b'{"quantity":2}', event="several")] * 2,
        answers=["202", "409 already_claimed"],
    ),
    case(
        "a confirmation of who may not",
        ask("POST", f"{EVENTS}/<holds>/claims/<of_holds>/confirm", OWNER),
        answers="403 forbidden",
    ),
    case("issued before", ask("GET", f"{HISTORY}/<issued_before>", OWNER), answers="200"),
    case("rejected", ask("GET", f"{HISTORY}/<rejected>", OWNER), answers="200"),
    case("another's", ask("GET", f"{HISTORY}/<foreign>", OWNER), answers="404 not_found"),
    case("a claim of no event", ask("GET", f"{EVENTS}/999999999/claims/<issued>", OWNER), answers="404 not_found"),
    case("a claim of another event", poll("<issued>"), answers="404 not_found"),
    case("a claim that nobody made", poll("<open>-1-99999999"), answers="404 not_found"),
    case("a claim of an older load", poll("<open>-0-1"), answers="200"),
    case("a claim of a load to come", poll("<open>-99-1"), answers="404 not_found"),
    case("the list of claims", ask("GET", HISTORY, OWNER), answers="200"),
    *(
        case(f"the claim {name[:12]!r} of {len(name)}", poll(name), answers="404 not_found")
        for name in ("x", "1", "1-1", "<open>-1-1-1", "<open>-01-1", "<open>-1-1x", "-1-1-1", "0-0-0", "a" * 2000)
    ),
    case("the claim of 20 digits", poll(f"<open>-1-{10**20}"), answers="404 not_found"),
    # States
    *(
        case(f"the state, {event}", state(event=event), answers="200")
        for event in ("history", "sold_out", "not_open", "paused", "closed", "over", "database_too")
    ),
    case("the state of a draft", state(event="draft"), answers="404 not_found"),
    case("the state again", state(), state("If-None-Match: <etag>"), answers=["200", "304"]),
    case("the state again, weak", state(), state("If-None-Match: W/<etag>"), answers=["200", "304"]),
    case("the state again, of several", state(), state('If-None-Match: "a", <etag>, "b"'), answers=["200", "304"]),
    case("the state, for who has any", state("If-None-Match: *"), answers="304"),
    case("the state, for who has another", state('If-None-Match: "0-0"'), answers="200"),
    case("the state, for who has nonsense", state('If-None-Match: ",,-,"'), answers="200"),
    case("the state, for who has nothing", state("If-None-Match:"), answers="200"),
    case("the state, if modified", state("If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"), answers="200"),
    case("the state, if it matches", state('If-Match: "0-0"'), answers="200"),
    case("a part of the state", state("Range: bytes=0-1"), answers="200"),
    case("the state with a bad token", state("Authorization: Bearer <expired>"), answers="200"),
    # Keys
    *(
        case(f"the key {key[:12]!r} of {len(key)}", claim(KEY + key), answers=answer)
        for key, answer in (
            ("", "400 invalid"),
            ("   ", "400 invalid"),
            ("k" * 255, "202"),
            ("k" * 256, "400 invalid"),
            ("two words", "202"),
            ("a\tb", "400 invalid"),
            ("é", "400 invalid"),
            ('"quoted"', "202"),
            ("a;b.c:d", "202"),
        )
    ),
    # Tokens
    case("no token", ask("POST", CLAIMS), answers="401 unauthenticated"),
    case("no token, a poll", ask("GET", f"{CLAIMS}/1-1-1"), answers="401 unauthenticated"),
    case("no token, an unknown event", ask("POST", f"{EVENTS}/999999999/claims"), answers="401 unauthenticated"),
    *(
        case(f"the token {what[:30]!r}", ask("POST", CLAIMS, f"Authorization: {what}"), answers="401 unauthenticated")
        for what in (
            "",
            "Bearer",
            "Bearer <expired> <expired>",
            "Bearer a.b",
            "Bearer a.b.c",
            "Bearer é",
            f"Bearer {'x' * 9000}",
            "<token>",
            "Basic dXNlcjpwYXNz",
            "Token <token>",
            "Bearer <expired>",
            "Bearer <endless>",
            "Bearer <tampered>",
            "Bearer <unsigned>",
            "Bearer <stripped>",
            "Bearer <of_another_key>",
            "Bearer <of_another_algorithm>",
            "Bearer <refresh>",
            "Bearer <of_tomorrow>",
            "Bearer <of_nobody>",
            "Bearer <of_zero>",
            "Bearer <of_minus_one>",
            "Bearer <of_too_many>",
            "Bearer <of_true>",
            "Bearer <of_text>",
            "Bearer\t<token>",
            "Bearer,<token>",
        )
    ),
    case("a scheme in capitals", ask("POST", CLAIMS, "Authorization: BEARER <token>"), answers="202"),
    case("spaces before the token", ask("POST", CLAIMS, "Authorization: Bearer    <token>  "), answers="202"),
    # Numbers of events
    *(
        case(
            f"the event {number[:20]} of {len(number)}",
            ask("POST", f"{EVENTS}/{number}/claims", BEARER),
            answers=answer,
        )
        for number, answer in (
            ("999999999", "404 not_found"),
            ("0", "404 not_found"),
            ("00<open>", "202"),
            ("-1", "404 not_found"),
            ("+1", "404 not_found"),
            ("1e3", "404 not_found"),
            ("abc", "404 not_found"),
            ("", "404 not_found"),
            (str(2**31), "404 not_found"),
            (str(2**63 - 1), "404 not_found"),
            (str(2**63), "404 not_found"),
            ("9" * 18, "404 not_found"),
            ("9" * 30, "404 not_found"),
            ("0" * 15 + "<open>", "202"),
            ("0" * 40 + "<open>", "404 not_found"),
            ("%D9%A3", "404 not_found"),
            ("<open>%20", "404 not_found"),
            ("<open>%00", "404 not_found"),
        )
    ),
]


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_both_lanes_answer_alike(lanes: Lanes, each: Case) -> None:
    lanes.compare(each)
