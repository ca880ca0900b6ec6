"""The contract of a strategy: one way to hand out N units, first come, first served."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

from coupons.errors import too_many
from coupons.selectors import ClaimView
from events.catalogue import KnownEvent
from events.models import DATABASE_WAYS, Event

Result = Literal["accepted", "repeated"]


class ClaimResult(NamedTuple):
    """The answer to an accepted claim."""

    claim: ClaimView
    result: Result


class Strategy(ABC):
    """A way to hand out units. All of them keep P1 and P2; what else each promises is said by its flags.

    A test of the contract suite stands behind each flag, whether it is true or false.
    """

    name: ClassVar[Event.Strategy]
    # A claim has its coupon when it is answered (201). Otherwise it is issued, or rejected, a moment later (202).
    at_once: ClassVar[bool] = True
    # Accepted means issued: nobody who was told 202 hears later that no unit was left.
    decides_at_once: ClassVar[bool] = True
    # P6: if A was answered before B asked, A's sequence number is the lower.
    ordered: ClassVar[bool] = True
    # Nobody is told `sold_out` while a unit is left that nobody has in hand.
    refuses_truly: ClassVar[bool] = True
    # A process that is killed leaves no unit taken. Otherwise it is given back by the reconciler, minutes later.
    leaks_nothing: ClassVar[bool] = True
    # A claim may be of several units, all of them or none.
    several: ClassVar[bool] = False
    # A user who sends too many requests is told to slow down.
    limits_requests: ClassVar[bool] = False

    @property
    def needs_redis(self) -> bool:
        """Whether claims meet Redis at all, as long as it is not lost."""
        return self.name not in DATABASE_WAYS

    @abstractmethod
    def claim(self, event: KnownEvent, user_id: int, request: str) -> ClaimResult:
        """Take a unit of the event for the user, once for each `request` (a digest, "" for none). It may wait.

        Raises the `Refusal` that says why not, `Unavailable` where the same request may be sent again; and
        `RedisError` where Redis does not answer, which the caller knows what to do about.
        """

    def claim_several(self, event: KnownEvent, user_id: int, request: str, quantity: int) -> ClaimResult:
        """`claim` of so many units, all of them or none, by the strategies that are for it."""
        if quantity > 1:
            raise too_many(1)
        return self.claim(event, user_id, request)
