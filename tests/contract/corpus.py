"""The form of the corpus: conversations written as bytes, with names in angle brackets for what differs.

`<open>` is the id of an event, `<token>` the token of a user who has asked for nothing before; `lanes` knows them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

EVENTS = "/api/v1/events"
CLAIMS = f"{EVENTS}/<open>/claims"
BEARER = "Authorization: Bearer <token>"
OWNER = "Authorization: Bearer <owner>"
JSON = "Content-Type: application/json"


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent, each message when the one before was answered, and what comes back.

    `answers` are the statuses, with the code where it is a problem of ours: "202", "409 sold_out". `closes` says
    whether the server hangs up after them; if not, the same connection goes on to serve.
    """

    name: str
    messages: Sequence[bytes]
    answers: Sequence[str]
    closes: bool = False


def case(name: str, *messages: bytes, answers: str | Sequence[str], closes: bool = False) -> Case:
    """A case of one answer or of several."""
    return Case(name, messages, [answers] if isinstance(answers, str) else answers, closes)


def ask(method: str, target: str, *headers: str, body: bytes | None = None, host: str | None = "127.0.0.1") -> bytes:
    """A request. A body brings its Content-Length along; without one, none is named."""
    lines = [f"{method} {target} HTTP/1.1"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += headers
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def claim(*headers: str, body: bytes | None = None, event: str = "open") -> bytes:
    """A claim of `<token>`."""
    return ask("POST", f"{EVENTS}/<{event}>/claims", BEARER, *headers, body=body)


def poll(claim_id: str, *headers: str, event: str = "open", method: str = "GET") -> bytes:
    """A question of `<token>` for a claim."""
    return ask(method, f"{EVENTS}/<{event}>/claims/{claim_id}", BEARER, *headers)


def state(*headers: str, event: str = "sold_out", method: str = "GET") -> bytes:
    """A question for the state."""
    return ask(method, f"{EVENTS}/<{event}>/state", *headers)


def chunked(*chunks: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
