"""The values that the waiting room's scripts take and give."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from events.stock import LastClaim
from events.waiting_room.codes import VisitCode

LATE = 2**52  # ranks below are of those who came before the opening

Act = Literal["join", "ask", "leave"]


class Visit(NamedTuple):
    """What a visitor wants. Lane 0 is served before lane 1."""

    act: Act
    user_id: int
    lane: int


class Visited(NamedTuple):
    """What `visit.lua` answered to one visitor. The meaning of the numbers hangs on the code."""

    code: VisitCode
    number: int = 0
    ahead: int = -1  # in the own lane; -1: nobody knows yet, here and in the next two
    before: int = -1  # in all lanes
    eta_ms: int = -1
    expires_ms: int = 0
    poll_ms: int = 0  # the least time until they should come again
    retry_ms: int = 0
    claim: LastClaim = LastClaim(0, 0, 0, 0, 0)  # of who holds as many as they may

    @classmethod
    def parse(cls, answer: list[int]) -> "Visited":
        """Read one visitor's part of the script's reply."""
        code = VisitCode(answer[0])
        match code:
            case VisitCode.WAITING:
                return cls(code, answer[1], ahead=answer[2], before=answer[3], eta_ms=answer[4], poll_ms=answer[5])
            case VisitCode.ADMITTED:
                return cls(code, answer[1], ahead=0, before=0, eta_ms=0, expires_ms=answer[2], poll_ms=answer[3])
            case VisitCode.RATE_LIMITED:
                return cls(code, retry_ms=answer[1])
            case VisitCode.ALREADY_CLAIMED:
                return cls(code, claim=LastClaim(*answer[1:]))
            case _:
                return cls(code)


class Numbers(NamedTuple):
    """What everyone may know of a waiting room."""

    serving: int  # people called so far
    waiting: int  # people in line
    passes: int = 0  # that may be good still: for operators


class Reply(NamedTuple):
    """What `visit.lua` answered for all visitors of a call."""

    now_ms: int
    numbers: Numbers
    stock: int  # units that nobody has a pass for
    visitors: list[Visited]

    @classmethod
    def parse(cls, answer: Sequence[Any]) -> "Reply":
        """Read what the script returned."""
        now_ms, serving, waiting, stock, *visitors = answer
        return cls(now_ms, Numbers(serving, waiting), stock, [Visited.parse(one) for one in visitors])


class LogEntry(NamedTuple):
    """Something that the database is to know: somebody joined, was called, or is gone."""

    what: Literal["j", "c", "g"]
    user_id: int
    number: int
    lane: int = 1  # this and the next two of who joined
    rank: int = 0
    joined_ms: int = 0

    @classmethod
    def parse(cls, text: str) -> "LogEntry":
        """Read an entry as the scripts write it."""
        what, *numbers = text.split(".")
        if what not in ("j", "c", "g"):
            raise ValueError(f"no entry of a waiting room's log: {text}")
        return cls(what, *map(int, numbers))  # type: ignore[arg-type]
