"""Refusals of a claim. Like those of `events.errors`, each carries its code of the API."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from events.errors import Refusal

if TYPE_CHECKING:
    from coupons.selectors import ClaimView


class SoldOut(Refusal):
    """All coupons of this sale are claimed."""

    code = "sold_out"


class AlreadyClaimed(Refusal):
    """You have claimed this coupon already. `claim` is the claim you hold."""

    code = "already_claimed"

    def __init__(self, claim: "ClaimView") -> None:
        super().__init__()
        self.claim = claim

    def fields(self) -> dict[str, Any]:
        """The claim the user holds."""
        return {"claim": self.claim.as_json()}


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


class UnknownUser(Refusal):
    """Your account does not exist any more. Sign in again."""

    code = "unauthenticated"


class ClaimNotFound(Refusal):
    """You have no such claim."""

    code = "not_found"


class CouponNotFound(Refusal):
    """You have no such coupon."""

    code = "not_found"
