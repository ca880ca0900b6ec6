"""One contract, two lanes: bodies of every form, and what is said of their length."""

import gzip

import pytest
from django.conf import settings

from tests.contract.corpus import BEARER, CLAIMS, EVENTS, JSON, Case, ask, case, chunked, claim, poll
from tests.contract.lanes import Lanes

LIMIT = settings.API_BODY_LIMIT
CHUNKED = "Transfer-Encoding: chunked"
FORM = "Content-Type: application/x-www-form-urlencoded"


def of(size: int) -> bytes:
    """JSON of so many bytes."""
    return b'{"more":"' + b"x" * (size - 11) + b'"}'


def lying(length: str, body: bytes = b"", *headers: str) -> bytes:
    """A claim whose Content-Length is what somebody wrote there."""
    return claim(JSON, *headers, f"Content-Length: {length}") + body


CASES = [
    case("of no bytes", claim(body=b""), answers="202"),
    *(
        case(f"{body[:20].decode('latin-1')!r} as JSON", claim(JSON, body=body), answers=answer)
        for body, answer in (
            (b"{}", "202"),
            (b' {"a": [1, 2.5, null]} ', "202"),
            (b'{"a":1,"a":2}', "202"),
            (b'{"quantity": 1}', "202"),
            (b'{"quantity": 2}', "400 invalid"),
            (b'{"quantity": 1.0}', "400 invalid"),
            (b'{"quantity": true}', "400 invalid"),
            (b'{"quantity": 36893488147419103232}', "400 invalid"),
            (b"[]", "400 invalid"),
            (b"null", "400 invalid"),
            (b'"text"', "400 invalid"),
            (b"123", "400 invalid"),
            (b"true", "400 invalid"),
            (b"", "202"),
            (b"  ", "400 invalid"),
            (b"{", "400 invalid"),
            (b"{}{}", "400 invalid"),
            (b"{'a': 1}", "400 invalid"),
            (b'{"a": NaN}', "400 invalid"),
            (b'{"a": "\xff"}', "400 invalid"),
            (b'\xef\xbb\xbf{"a": 1}', "400 invalid"),
            ('{"a": 1}'.encode("utf-16"), "400 invalid"),
            (b"\x00", "400 invalid"),
            (b"[" * 8000, "400 invalid"),
            (b'{"a":' * 1000 + b"1" + b"}" * 1000, "202"),
            (b'{"a":' * 2000 + b"1" + b"}" * 2000, "400 invalid"),
            (b"a=1", "400 invalid"),
        )
    ),
    *(
        case(
            f"{body[:20].decode()!r} as {media_type!r}", claim(f"Content-Type: {media_type}", body=body), answers=answer
        )
        for body, media_type, answer in (
            (b"{}", "application/json; charset=utf-8", "202"),
            (b"{}", "application/json;charset=latin-1", "202"),
            (b"{}", "application/json; charset=nonsense", "202"),
            (b"{}", "APPLICATION/JSON", "202"),
            (b"{}", " application/json ;", "202"),
            (b"{}", "application/json, application/json", "415 unsupported_media_type"),
            (b"{}", "application/jsonx", "415 unsupported_media_type"),
            (b"{}", "application/problem+json", "415 unsupported_media_type"),
            (b"{}", "application/*", "202"),
            (b"{}", "*/*", "202"),
            (b"{}", "json", "415 unsupported_media_type"),
            (b"{}", "", "415 unsupported_media_type"),
            (b"{}", "é", "415 unsupported_media_type"),
            (b"a=1", "application/x-www-form-urlencoded", "415 unsupported_media_type"),
            (b"text", "text/plain", "415 unsupported_media_type"),
            (b"--b--", "multipart/form-data; boundary=b", "415 unsupported_media_type"),
            (b"--b--", "multipart/form-data", "415 unsupported_media_type"),
            (b"", "application/x-www-form-urlencoded", "202"),
            (b"", "text/plain", "202"),
            (b"", "multipart/form-data; boundary=b", "202"),
            (b"", "nonsense", "202"),
        )
    ),
    case("JSON of no type", claim(body=b"{}"), answers="415 unsupported_media_type"),
    case("two types", claim(JSON, FORM, body=b"{}"), answers="202"),
    case("two types, the other first", claim(FORM, JSON, body=b"{}"), answers="415 unsupported_media_type"),
    case("a type and no length", claim(JSON), answers="202"),
    case("compressed", claim(JSON, "Content-Encoding: gzip", body=gzip.compress(b"{}")), answers="400 invalid"),
    case("said to be compressed", claim(JSON, "Content-Encoding: gzip", body=b"{}"), answers="202"),
    case("as long as allowed", claim(JSON, body=of(LIMIT)), answers="202"),
    case("too long by one", claim(JSON, body=of(LIMIT + 1)), answers="413 too_large"),
    case("too long, of no type", claim(body=of(LIMIT + 1)), answers="413 too_large"),
    case("too long, of somebody unknown", ask("POST", CLAIMS, JSON, body=of(LIMIT + 1)), answers="413 too_large"),
    case("bad, of somebody unknown", ask("POST", CLAIMS, JSON, body=b"[]"), answers="401 unauthenticated"),
    case(
        "bad, of an unknown event",
        ask("POST", f"{EVENTS}/999999999/claims", BEARER, JSON, body=b"[]"),
        answers="400 invalid",
    ),
    case("bad, under a bad key", claim(JSON, "Idempotency-Key: é", body=b"[]"), answers="400 invalid"),
    # In chunks
    case("in one chunk", claim(JSON, CHUNKED) + chunked(b"{}"), answers="202"),
    case("in two chunks", claim(JSON, CHUNKED) + chunked(b"{", b"}"), answers="202"),
    case("in no chunk", claim(JSON, CHUNKED) + chunked(), answers="202"),
    case("in no chunk, of no type", claim(CHUNKED) + chunked(), answers="202"),
    case("no object, in chunks", claim(JSON, CHUNKED) + chunked(b"[]"), answers="400 invalid"),
    case("no JSON, in chunks", claim(JSON, CHUNKED) + chunked(b"{"), answers="400 invalid"),
    case("a form, in chunks", claim(FORM, CHUNKED) + chunked(b"a=1"), answers="415 unsupported_media_type"),
    case(
        "as long as allowed, in chunks",
        claim(JSON, CHUNKED) + chunked(*[of(LIMIT)[i : i + 1024] for i in range(0, LIMIT, 1024)]),
        answers="202",
    ),
    case("too long, in chunks", claim(JSON, CHUNKED) + chunked(of(LIMIT), b" "), answers="413 too_large"),
    case(
        "in chunks with trailers",
        claim(JSON, CHUNKED, "Trailer: X-A") + b"2\r\n{}\r\n0\r\nX-A: 1\r\n\r\n",
        answers="202",
    ),
    case("in chunks with extensions", claim(JSON, CHUNKED) + b"2;a=b\r\n{}\r\n0\r\n\r\n", answers="202"),
    case(
        "in chunks and with a length",
        claim(JSON, CHUNKED, "Content-Length: 2") + chunked(b"{}"),
        answers="202",
        closes=True,
    ),
    case("in chunks, twice said", claim(JSON, CHUNKED, CHUNKED) + chunked(b"{}"), answers="202"),
    case("in a coding that nobody knows", claim(JSON, "Transfer-Encoding: cow"), answers="400", closes=True),
    case(
        "in chunks, and in another coding", claim(JSON, "Transfer-Encoding: chunked, cow"), answers="400", closes=True
    ),
    case("in chunks, in capitals", claim(JSON, "Transfer-Encoding: Chunked") + chunked(b"{}"), answers="202"),
    # Lengths that lie
    *(
        case(f"{length[:12]!r} long", lying(length, b"{}"), answers="400", closes=True)
        for length in (
            "-1",
            "+2",
            "abc",
            "1e3",
            "0x2",
            "",
            " ",
            "2, 2",
            "2,3",
            "9" * 30,
            "1.0",
            "٢".encode().decode("latin-1"),
        )
    ),
    case("twice the same length", lying("2", b"{}", "Content-Length: 2"), answers="202"),
    case("two lengths", lying("2", b"{}", "Content-Length: 3"), answers="400", closes=True),
    case("a length with zeros", lying("00000000000000002", b"{}"), answers="413 too_large"),
    case("a length with spaces", lying("  2  ", b"{}"), answers="202"),
    case("said to be enormous", lying("999999999", b"{}"), answers="413 too_large", closes=True),
    case("said to be more than enormous", lying("9999999999", b"{}"), answers="413 too_large", closes=True),
    case("shorter than said of", lying("2", b"{}and more"), answers=["202", "400"], closes=True),
    case("nothing was said of it", claim(JSON) + b"{}", answers=["202", "400"], closes=True),
    case("a request in it", lying("2", b"{}" + poll("<open>-1-1")), answers=["202", "404 not_found"]),
    # Where none is expected
    case("in a poll", ask("GET", f"{CLAIMS}/<open>-1-1", BEARER, JSON, body=b"{}"), answers="404 not_found"),
    case("in a poll, no JSON", ask("GET", f"{CLAIMS}/<open>-1-1", BEARER, JSON, body=b"{"), answers="404 not_found"),
    case(
        "in a poll, in chunks",
        ask("GET", f"{CLAIMS}/<open>-1-1", BEARER, CHUNKED) + chunked(b"{}"),
        answers="404 not_found",
    ),
    case(
        "too long, in a poll", ask("GET", f"{CLAIMS}/<open>-1-1", BEARER, body=of(LIMIT + 1)), answers="413 too_large"
    ),
    case("in a question for the state", ask("GET", f"{EVENTS}/<sold_out>/state", JSON, body=b"{}"), answers="200"),
    case("in HEAD", ask("HEAD", f"{EVENTS}/<sold_out>/state", JSON, body=b"{}"), answers="200"),
    # A server that is asked first
    case("after a word of the server", claim(JSON, "Expect: 100-continue", body=b"{}"), answers=["100", "202"]),
    case("after a word of the server that is not needed", claim("Expect: 100-continue"), answers="202"),
    case("expecting something else", claim(JSON, "Expect: a miracle", body=b"{}"), answers="202"),
]


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_both_lanes_read_the_body_alike(lanes: Lanes, each: Case) -> None:
    lanes.compare(each)


def test_a_body_that_is_too_long_by_far_is_refused_by_both(lanes: Lanes) -> None:
    """Whether the connection is kept depends on how much of it had come when the answer was given."""
    web, gate = lanes.converse(case("too long by far", claim(JSON, body=of(20 * LIMIT)), answers=[]))
    assert web.answers == ["413 too_large"]
    assert web.told == gate.told
