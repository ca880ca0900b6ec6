"""What events ask of the stock, without knowing it.

Publishing, pausing and resizing a sale change the stock, and the stock is `coupons`, which is above and may not be
imported from here. So the need is written down as a protocol, and `coupons` registers itself when Django starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from events.errors import Refusal

if TYPE_CHECKING:
    from events.models import Event


@dataclass(frozen=True, slots=True)
class Level:
    """An event's stock at a moment."""

    epoch: int  # 0: no stock is loaded
    stock: int  # units left to claim
    backlog: int  # claims that wait in the claim log
    oldest_age: float  # seconds that the oldest of them has waited
    sequence: int  # the last sequence number given
    claimants: int  # users who hold a claim


class LastClaim(NamedTuple):
    """The newest claim of a user who holds as many units as they may, as Redis has it."""

    epoch: int
    sequence: int
    claimed_ms: int
    quantity: int  # units
    drained: int  # the highest sequence that the database has


class StockKeeper(Protocol):
    """The stock of all events. All methods raise `events.errors.Unavailable` where the stock cannot be reached.

    `load`, `apply` and `resize` are called inside a transaction, with the event locked (`lock`) and its row.
    """

    def lock(self, event_id: int) -> None:
        """Keep drains and reconciling away from the event until the transaction ends; its `issued` is right then.

        Called inside a transaction, before the event's row is locked.
        """

    def count(self, event_ids: Sequence[int]) -> dict[int, int]:
        """Bring `issued` up to date where claims do not: of each event that was behind, what it is now.

        One query. It waits for nobody: an event that somebody is changing is left to them.
        """

    def load(self, event: "Event") -> None:
        """Build the stock from the database, in a new epoch (saved)."""

    def apply(self, event: "Event") -> None:
        """Take over the event's status, window and limits."""

    def resize(self, event: "Event", *, delta: int) -> None:
        """Add units, or take them; `events.errors.InvalidChange` where so many are not left."""

    def sell_from(self, event_id: int, mode: str) -> "Event":
        """Move a sale to another `Event.StockMode`; the event afterwards. Called outside a transaction."""

    def fall_back(self, event_id: int, *, epoch: int) -> None:
        """Give Redis up for lost: the sale goes on from the database. `epoch` is the one that could not be reached.

        Nothing happens where another process was first. It waits for the database.
        """

    def already_claimed(self, event_id: int, claim: LastClaim) -> Refusal:
        """What a user is told who holds as many claims as they may."""

    def claimed_already(self, event: "Event", user_id: int) -> Refusal | None:
        """The same by the database alone; None for who may have another. One query."""

    def levels(self, event_ids: Sequence[int]) -> dict[int, Level]:
        """The stock of each event, in one round trip; those that cannot be read now are left out."""


_keeper: StockKeeper | None = None


def register(keeper: StockKeeper) -> None:
    """Make `keeper` the stock of this process."""
    global _keeper  # noqa: PLW0603 - one stock a process, set once at the start
    _keeper = keeper


def keeper() -> StockKeeper:
    """The stock of this process."""
    if _keeper is None:
        raise RuntimeError("No stock is registered: is the app `coupons` installed?")
    return _keeper
