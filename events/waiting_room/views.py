"""A ticket as its owner sees it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from events.answers import Answer, dumps


@dataclass(frozen=True, slots=True)
class TicketView:
    """A place in the waiting room."""

    number: int
    status: Literal["waiting", "admitted"]
    ahead: int | None  # people of the same lane whose turn comes before; None where nobody knows yet
    eta_seconds: int | None
    pass_expires_at: datetime | None
    poll_after_ms: int
    odds: float | None  # that a unit is left when the turn has come, 0 to 1

    @property
    def position(self) -> int | None:
        """1 for who is next, 0 for who is in."""
        if self.status == "admitted" or self.ahead is None:
            return None if self.ahead is None else 0
        return self.ahead + 1

    def as_json(self) -> dict[str, Any]:
        """As the API tells it."""
        return {
            "number": self.number,
            "position": self.position,
            "ahead": self.ahead,
            "eta_seconds": self.eta_seconds,
            "status": self.status,
            "pass_expires_at": self.pass_expires_at,
            "poll_after_ms": self.poll_after_ms,
            "odds": self.odds,
        }

    def as_answer(self) -> Answer:
        """The same, for either lane."""
        return Answer(200, dumps(self.as_json()))


LEFT = Answer(204)
