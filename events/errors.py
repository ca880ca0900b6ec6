"""Refusals of this domain. Each carries the stable code of the API; `config.problems` alone turns it into HTTP."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error
    """The request was understood and refused. The docstring of each class is what its user reads."""

    code: ClassVar[str]

    def __init__(self, detail: str = "") -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        super().__init__(self.detail)

    def fields(self) -> dict[str, Any]:
        """What the API says beside the detail, as JSON values."""
        return {}


class Invalid(Refusal):
    """Some fields are not valid; `errors` says which and why."""

    code = "invalid"

    def __init__(self, errors: Mapping[str, Any]) -> None:
        super().__init__()
        self.errors = errors

    def fields(self) -> dict[str, Any]:
        """What is wrong with each field."""
        return {"errors": self.errors}


class EventNotFound(Refusal):
    """There is no such event."""

    code = "not_found"


class Unavailable(Refusal):
    """This cannot be answered right now. Nothing was taken from you: ask again after `Retry-After` seconds."""

    code = "unavailable"

    def __init__(self, detail: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class InvalidChange(Refusal):
    """That change of the sale is not possible."""

    code = "invalid"


class SoldOut(Refusal):
    """All coupons of this sale are claimed."""

    code = "sold_out"


class RateLimited(Refusal):
    """You ask too often. Wait for `Retry-After` seconds; nothing is lost by waiting."""

    code = "rate_limited"

    def __init__(self, *, retry_after: float) -> None:
        super().__init__()
        self.retry_after = retry_after


class NotNow(Refusal):
    """The sale takes no claims at the moment."""

    def __init__(self, *, opens_at: datetime) -> None:
        super().__init__()
        self.opens_at = opens_at

    def fields(self) -> dict[str, Any]:
        """When it opens, or opened."""
        return {"opens_at": self.opens_at}


class NotOpen(NotNow):
    """The sale has not opened yet. Come back at `opens_at`."""

    code = "not_open"


class Paused(NotNow):
    """The sale is paused. Nobody can claim until it goes on; your turn is not lost by waiting."""

    code = "paused"


class Closed(NotNow):
    """The sale is over."""

    code = "closed"


class NoTicket(Refusal):
    """You are not in the queue: you have left it, or your turn is over. You may join it again."""

    code = "not_found"


class NoWaitingRoom(Refusal):
    """This sale has no waiting room: claim when it is open."""

    code = "not_found"
