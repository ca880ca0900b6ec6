"""The history of a rush: every request and what was answered, as its sender saw it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Literal

import orjson

# Of a claim, of the waiting room, and of a hold.
Kind = Literal["claim", "poll", "join", "ask", "leave", "confirm", "cancel"]

ACCEPTED = (201, 202)
REFUSED = 400
SERVER_ERROR = 500
BILLION = 1_000_000_000  # nanoseconds in a second


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in the waiting room, as an answer tells it to its owner."""

    number: int
    lane: int  # as the owner's token has it; no answer names it
    status: Literal["waiting", "admitted"]
    ahead: int | None  # in the lane; None where nobody knows yet
    poll_after_ms: int
    eta_seconds: int | None = None
    pass_expires_at: str | None = None
    odds: float | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer.

    `status` is None where no answer came: whether the request took effect is then *unknown*, it is not a failure.
    Both times are on one monotonic clock, in nanoseconds; `answered_ns` of an unanswered request is when its sender
    gave up waiting.
    """

    user_id: int
    kind: Kind
    key: str  # the Idempotency-Key; a poll has none
    attempt: int  # 1 for the first; a later one repeats the request under the same key
    asked_ns: int
    answered_ns: int
    status: int | None
    code: str = ""  # of the problem document
    claim_id: str = ""  # the claim that the answer names
    sequence: int = 0
    state: str = ""  # pending, held, issued or rejected, as the answer has it
    reason: str = ""  # why it was rejected
    ticket: Ticket | None = None

    @property
    def accepted(self) -> bool:
        """Whether a claim was promised."""
        return self.kind == "claim" and self.status in ACCEPTED

    @property
    def open_ended(self) -> bool:
        """Whether the request may have taken effect although its sender was not told so.

        A 5xx belongs here: the server itself may have lost the answer of Redis.
        """
        return self.status is None or self.status >= SERVER_ERROR

    @property
    def refused(self) -> bool:
        """Whether it was answered, and not with what it asked for."""
        return self.status is not None and self.status >= REFUSED

    @property
    def seconds(self) -> float:
        """How long its sender waited."""
        return (self.answered_ns - self.asked_ns) / BILLION

    def as_json(self) -> dict[str, object]:
        """The exchange as a line of the history file; what is empty is left out."""
        line: dict[str, object] = {
            "user": self.user_id,
            "kind": self.kind,
            "key": self.key,
            "attempt": self.attempt,
            "asked_ns": self.asked_ns,
            "answered_ns": self.answered_ns,
            "status": "unknown" if self.status is None else self.status,
            "code": self.code,
            "claim": self.claim_id,
            "sequence": self.sequence,
            "state": self.state,
            "reason": self.reason,
            "ticket": asdict(self.ticket) if self.ticket else "",
        }
        return {name: value for name, value in line.items() if value not in ("", 0)}


class History:
    """The exchanges of a rush in the order of their answers; also written to `file`, as JSON lines, while it grows."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._exchanges: list[Exchange] = []
        self._file = file

    def add(self, exchange: Exchange) -> None:
        """Note one more."""
        self._exchanges.append(exchange)
        if self._file is not None:
            self._file.write(orjson.dumps(exchange.as_json(), option=orjson.OPT_APPEND_NEWLINE))

    def __iter__(self) -> Iterator[Exchange]:
        return iter(self._exchanges)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that so many per cent of `ordered` do not exceed (nearest rank); 0 where there is none."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0
