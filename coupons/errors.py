"""Refusals of a claim. Like those of `events.errors`, each carries its code of the API."""

from typing import TYPE_CHECKING, Any

from events.errors import Invalid, Refusal

if TYPE_CHECKING:
    from coupons.selectors import ClaimView


class AlreadyClaimed(Refusal):
    """You have claimed this coupon already, or would have more than you may. `claim` is the claim you hold."""

    code = "already_claimed"

    def __init__(self, claim: "ClaimView") -> None:
        super().__init__()
        self.claim = claim

    def fields(self) -> dict[str, Any]:
        """The claim the user holds."""
        return {"claim": self.claim.as_json()}


def too_many(limit: int) -> Invalid:
    """The refusal of a claim of more units than a user may have, or of no whole number of them."""
    return Invalid({"quantity": [f"A whole number from 1 to {limit}."]})


class UnknownUser(Refusal):
    """Your account does not exist any more. Sign in again."""

    code = "unauthenticated"


class AlreadyConfirmed(Refusal):
    """The claim is confirmed already, and cannot be cancelled any more."""

    code = "already_confirmed"

    def __init__(self, claim: "ClaimView") -> None:
        super().__init__()
        self.claim = claim

    def fields(self) -> dict[str, Any]:
        """The claim."""
        return {"claim": self.claim.as_json()}


class HoldExpired(Refusal):
    """The claim was not confirmed in time, and its units went back on sale."""

    code = "hold_expired"


class HoldCancelled(Refusal):
    """The claim was cancelled, and its units went back on sale."""

    code = "hold_cancelled"


class NotHeld(Refusal):
    """The claim is not held: it waits to be, for a second at most, or it ended otherwise. Its state is told by GET."""

    code = "not_held"


class ClaimNotFound(Refusal):
    """You have no such claim."""

    code = "not_found"


class CouponNotFound(Refusal):
    """You have no such coupon."""

    code = "not_found"


class NotAdmitted(Refusal):
    """This sale has a waiting room. Join the queue, and claim when it is your turn."""

    code = "not_admitted"

    def __init__(self, *, event_id: int) -> None:
        super().__init__()
        self.event_id = event_id

    def fields(self) -> dict[str, Any]:
        """Where to queue."""
        return {"queue": f"/api/v1/events/{self.event_id}/queue"}
