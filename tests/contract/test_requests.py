"""One contract, two lanes: what may be accepted, methods, paths, hosts and headers, the hostile ones too."""

import pytest

from tests.contract.corpus import BEARER, CLAIMS, EVENTS, OWNER, Case, ask, case, claim, poll, state
from tests.contract.lanes import Lanes

STATE = f"{EVENTS}/<sold_out>/state"
POLL = f"{EVENTS}/<history>/claims/<issued>"
KEY = "Idempotency-Key: "
LONG = "x" * 8000

ACCEPT = [
    case(f"accepting {accept[:30]!r}", ask(method, target, header, f"Accept: {accept}"), answers=answer or good)
    for method, target, header, good in (
        ("POST", CLAIMS, BEARER, "202"),
        ("GET", POLL, OWNER, "200"),
        ("GET", STATE, "X-Nothing: 1", "200"),
    )
    for accept, answer in (
        ("", ""),
        ("*/*", ""),
        ("application/json", ""),
        ("APPLICATION/JSON", ""),
        ("application/*", ""),
        ("application/json; indent=4", ""),
        ("application/json;q=0", ""),
        ("text/html, */*;q=0.1", ""),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", ""),
        ("text/html", "406 not_acceptable"),
        ("application/xml", "406 not_acceptable"),
        ("application/problem+json", "406 not_acceptable"),
        ("nonsense", "406 not_acceptable"),
        (";;;", "406 not_acceptable"),
        (",,,", "406 not_acceptable"),
        ("é", ""),
    )
]

METHODS = [
    *(
        case(f"{method} of a claim", ask(method, CLAIMS, BEARER), answers=answer)
        for method, answer in (
            ("GET", "200"),
            ("HEAD", "200"),
            ("OPTIONS", "200"),
            ("PUT", "405 method_not_allowed"),
            ("PATCH", "405 method_not_allowed"),
            ("DELETE", "405 method_not_allowed"),
            ("TRACE", "405 method_not_allowed"),
            ("BREW", "405 method_not_allowed"),
            ("post", "202"),
            ("Post", "202"),
        )
    ),
    *(
        case(f"{method} of a poll", ask(method, POLL, OWNER), answers=answer)
        for method, answer in (
            ("HEAD", "200"),
            ("OPTIONS", "200"),
            ("POST", "405 method_not_allowed"),
            ("PUT", "405 method_not_allowed"),
            ("DELETE", "405 method_not_allowed"),
        )
    ),
    *(
        case(f"{method} of the state", ask(method, STATE), answers=answer)
        for method, answer in (
            ("HEAD", "200"),
            ("OPTIONS", "200"),
            ("POST", "405 method_not_allowed"),
            ("PUT", "405 method_not_allowed"),
            ("DELETE", "405 method_not_allowed"),
            ("PROPFIND", "405 method_not_allowed"),
        )
    ),
    case("HEAD of nothing", ask("HEAD", f"{EVENTS}/999999999/state"), answers="404"),
    case("HEAD of another's claim", ask("HEAD", f"{EVENTS}/<history>/claims/<foreign>", OWNER), answers="404"),
    case("HEAD of the state again", state(), state("If-None-Match: <etag>", method="HEAD"), answers=["200", "304"]),
    case("OPTIONS of nobody", ask("OPTIONS", CLAIMS), answers="401 unauthenticated"),
    case("DELETE of nobody", ask("DELETE", CLAIMS), answers="401 unauthenticated"),
    case("OPTIONS of everything", ask("OPTIONS", "*"), answers="404"),
    case("a method that is overridden", claim("X-HTTP-Method-Override: GET"), answers="202"),
    case("a method that is none", ask("P(ST", CLAIMS, BEARER), answers="400", closes=True),
    case("a method of 8000 letters", ask("A" * 8000, STATE), answers="405 method_not_allowed"),
]

PATHS = [
    *(
        case(f"POST {target[:45]}", ask("POST", target, BEARER), answers=answer)
        for target, answer in (
            ("/api/v1/%65vents/<open>/claims", "202"),
            ("/api/v1/events/<open>/%63laims", "202"),
            ("/api/v1/events%2F<open>/claims", "202"),
            ("/api/v1/events/%30<open>/claims", "202"),
            (f"{CLAIMS}/", "404 not_found"),
            (f"/{CLAIMS}", "404"),
            ("/api/v1/events//claims", "404 not_found"),
            ("/api/v1/events/<open>//claims", "404 not_found"),
            ("/api/v1//events/<open>/claims", "404 not_found"),
            ("/api//v1/events/<open>/claims", "404 not_found"),
            ("/api/v1/events/../events/<open>/claims", "404 not_found"),
            ("/api/v1/events/<open>/./claims", "404 not_found"),
            ("/api/v1/events/<open>/%2e%2e/<open>/claims", "404 not_found"),
            ("/API/v1/events/<open>/claims", "404"),
            ("/api/v1/Events/<open>/claims", "404 not_found"),
            ("/api/v2/events/<open>/claims", "404 not_found"),
            ("/api/v1/events/<open>/claims.json", "404 not_found"),
            ("/api/v1/events/<open>/claims;a=b", "404 not_found"),
            (f"{CLAIMS}?", "202"),
            (f"{CLAIMS}?a=b&a=c", "202"),
            (f"{CLAIMS}?format=xml", "202"),
            (f"{CLAIMS}?%ff=%00", "202"),
            (f"{CLAIMS}?a=b?c=d", "202"),
            (f"{CLAIMS}%3Fa=b", "404 not_found"),
            (f"{CLAIMS}#part", "202"),
            (f"{CLAIMS}%23part", "404 not_found"),
            (f"{CLAIMS}%00", "404 not_found"),
            (f"{CLAIMS}%0d%0aX-A:1", "404 not_found"),
            (f"{CLAIMS}%ff", "404 not_found"),
            (f"{CLAIMS}%", "404 not_found"),
            (f"{CLAIMS}%zz", "404 not_found"),
            (f"{CLAIMS}\\", "404 not_found"),
            ("http://127.0.0.1/api/v1/events/<open>/claims", "202"),
            ("http://evil.example/api/v1/events/<open>/claims", "202"),
            (f"{CLAIMS}?{LONG}", "202"),
            (f"{CLAIMS}/{LONG}", "405 method_not_allowed"),
        )
    ),
    *(
        case(f"GET {target[:45]}", ask("GET", target, OWNER), answers=answer)
        for target, answer in (
            (f"{POLL}/", "404 not_found"),
            (f"{POLL}?a=b", "200"),
            (f"{POLL}%2F", "404 not_found"),
            (f"{EVENTS}/<history>/claims/%3<issued>", "200"),
            (f"{EVENTS}/<history>/claims/<issued>%20", "404 not_found"),
            (f"{EVENTS}/<history>/claims/a%2Fb", "404 not_found"),
            (f"{EVENTS}/<history>/claims/%D9%A1-1-1", "404 not_found"),
            (f"{EVENTS}/<history>/claims/%ff", "404 not_found"),
            (f"{EVENTS}/<history>/claims/%00", "404 not_found"),
            (f"{EVENTS}/<history>/claims/", "404 not_found"),
            (f"{EVENTS}/00<history>/claims/<issued>", "200"),
            (f"{STATE}/", "404 not_found"),
            (f"{STATE}?a=b", "200"),
            (f"{STATE}/more", "404 not_found"),
            (f"{EVENTS}/00<sold_out>/state", "200"),
            (f"{EVENTS}/%30/state", "404 not_found"),
            (f"{EVENTS}/<sold_out>/queue", "404 not_found"),
            ("/api", "404 not_found"),
            ("/api/v1/nothing", "404 not_found"),
        )
    ),
    case("a path of other than ASCII", ask("GET", f"{STATE}é"), answers="400", closes=True),
    case("a path with a space", ask("GET", f"{STATE} more"), answers="400", closes=True),
    case("a path of 70,000 signs", ask("GET", f"{STATE}?{'x' * 70_000}"), answers="414", closes=True),
    case("a path that begins nowhere", ask("GET", "api/v1/events"), answers="400", closes=True),
]

HOSTS = [
    *(
        case(f"to the host {host!r}", ask("POST", CLAIMS, BEARER, host=host), answers=answer)
        for host, answer in (
            ("127.0.0.1", "202"),
            ("127.0.0.1:1", "202"),
            ("localhost", "202"),
            ("LOCALHOST:8000", "202"),
            ("localhost.", "202"),
            ("[::1]", "202"),
            ("[::1]:80", "202"),
            ("evil.example", "400 invalid"),
            ("127.0.0.1.evil.example", "400 invalid"),
            ("evil.example:127.0.0.1", "400 invalid"),
            ("user@127.0.0.1", "400 invalid"),
            ("127.0.0.1/path", "400 invalid"),
            ("127.0.0.1:port", "400 invalid"),
            ("127.0.0.1, evil.example", "400 invalid"),
            ("*", "400 invalid"),
            ("[", "400 invalid"),
            ("é", "400 invalid"),
        )
    ),
    case("to no host", ask("POST", CLAIMS, BEARER, host=None), answers="400 invalid"),
    case("to a host of no name", ask("POST", CLAIMS, BEARER, host=""), answers="400 invalid"),
    case("to two hosts", claim("Host: evil.example"), answers="400 invalid"),
    case("twice to the host", claim("Host: 127.0.0.1"), answers="400 invalid"),
    case("forwarded from another host", claim("X-Forwarded-Host: evil.example"), answers="202"),
    case("a state of another host", ask("GET", STATE, host="evil.example"), answers="400 invalid"),
    case("nothing of another host", ask("GET", f"{EVENTS}/x/state", host="evil.example"), answers="400 invalid"),
]

HEADERS = [
    case("an id that we take", state("X-Request-ID: phone-7"), answers="200"),
    case("an id that we take, in a claim", claim("X-Request-ID: a.b_c-1"), answers="202"),
    case("an id that we take, in a refusal", claim("X-Request-ID: phone-7", event="closed"), answers="403 closed"),
    *(
        case(f"an id that is none, {value[:10]!r}", state(f"X-Request-ID: {value}"), answers="200")
        for value in ("", "a b", "a,b", "é", "x" * 65, '"; drop')
    ),
    case("two ids", state("X-Request-ID: a", "X-Request-ID: b"), answers="200"),
    case("two tokens", ask("POST", CLAIMS, BEARER, BEARER), answers="401 unauthenticated"),
    case("a token and no token", ask("POST", CLAIMS, BEARER, "Authorization: "), answers="401 unauthenticated"),
    case(
        "a token and a password",
        ask("POST", CLAIMS, BEARER, "Authorization: Basic YTpi"),
        answers="401 unauthenticated",
    ),
    case("two keys", claim(f"{KEY}a", f"{KEY}b"), claim(f"{KEY}a,b"), answers=["202", "202"]),
    case("the same key twice", claim(f"{KEY}a", f"{KEY}a"), claim(f"{KEY}a"), answers=["202", "409 already_claimed"]),
    case("a key in capitals", claim("IDEMPOTENCY-KEY: a"), claim(f"{KEY}a"), answers=["202", "202"]),
    case("two things accepted", state("Accept: text/html", "Accept: application/json"), answers="200"),
    case("two things accepted, no JSON", state("Accept: text/html", "Accept: image/png"), answers="406 not_acceptable"),
    case("two tags", state(), state('If-None-Match: "a"', "If-None-Match: <etag>"), answers=["200", "304"]),
    case("two cookies", state("Cookie: a=1", "Cookie: b=2"), answers="200"),
    case(
        "cookies, and no token", ask("POST", CLAIMS, "Cookie: sessionid=x; csrftoken=y"), answers="401 unauthenticated"
    ),
    case("cookies, and a token", claim("Cookie: sessionid=x; csrftoken=y"), answers="202"),
    case("an address that nobody believes", claim("X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1"), answers="202"),
    case("of another site", claim("Origin: https://evil.example", "Sec-Fetch-Site: cross-site"), answers="202"),
    case(
        "another site asks before",
        ask("OPTIONS", CLAIMS, "Origin: https://evil.example", "Access-Control-Request-Method: POST"),
        answers="401 unauthenticated",
    ),
    case("a header of 8,000 signs", state(f"X-A: {LONG}"), answers="200"),
    case("a header of 300,000 signs", state(f"X-A: {'x' * 300_000}"), answers="200"),
    case("a header of 600,000 signs", state(f"X-A: {'x' * 600_000}"), answers="431", closes=True),
    case("90 headers", state(*(f"X-{i}: {i}" for i in range(90))), answers="200"),
    case("200 headers", state(*(f"X-{i}: {i}" for i in range(200))), answers="431", closes=True),
    case("80 of one name", state(*(f"X-A: {i}" for i in range(80))), answers="200"),
    case("other than ASCII", state("X-A: é"), answers="200"),
    case("a tab and spaces", state("X-A: \t a \t b \t"), answers="200"),
    case("two lines as one", state("X-A: a\r\n b"), answers="400", closes=True),
    case("a space before the colon", state("X-A : a"), answers="400", closes=True),
    case("no colon", state("X-A"), answers="400", closes=True),
    case("no name", state(": a"), answers="400", closes=True),
    case("a name with a sign", state("X-(A): a"), answers="400", closes=True),
    case("a null", state("X-A: a\0b"), answers="400", closes=True),
    case("a return alone", state("X-A: a\rb"), answers="400", closes=True),
    case("newlines alone", state().replace(b"\r\n", b"\n"), answers="200"),
    case("a newline before it", b"\r\n" + state(), answers="200"),
    case(
        "a wish to speak HTTP/2",
        state("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"),
        answers="200",
    ),
    case("a header that is to be dropped", claim("Connection: Authorization"), answers="202"),
    case("HTTP/1.0", state().replace(b"HTTP/1.1", b"HTTP/1.0"), answers="200", closes=True),
    case("HTTP/1.0 that stays", state("Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"), answers="200"),
    case(
        "HTTP/1.0 to no host",
        ask("GET", STATE, host=None).replace(b"HTTP/1.1", b"HTTP/1.0"),
        answers="400 invalid",
        closes=True,
    ),
    case("HTTP/1.2", state().replace(b"HTTP/1.1", b"HTTP/1.2"), answers="400", closes=True),
    case("HTTP/9.9", state().replace(b"HTTP/1.1", b"HTTP/9.9"), answers="400", closes=True),
    case("no version", b"GET /api/v1/events\r\n\r\n", answers="400", closes=True),
    case("what hangs up itself", state("Connection: close"), answers="200", closes=True),
    case("of the list of claims", ask("GET", CLAIMS, BEARER, "Range: bytes=0-1"), answers="200"),
    case("a poll of who wants nothing new", poll("<open>-1-99999999", "If-None-Match: *"), answers="404 not_found"),
]


@pytest.mark.parametrize("each", [*ACCEPT, *METHODS, *PATHS, *HOSTS, *HEADERS], ids=lambda each: each.name)
def test_both_lanes_take_the_request_alike(lanes: Lanes, each: Case) -> None:
    lanes.compare(each)
