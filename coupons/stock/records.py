"""The values that the stock's scripts take and give."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from coupons.stock.codes import ReserveCode

_reserve_code = cache(ReserveCode)  # by its number; the class takes three times as long to find it
_WITH_CLAIM = (ReserveCode.ACCEPTED, ReserveCode.REPEATED, ReserveCode.ALREADY_CLAIMED)
_EPOCH, _MICROSECOND = datetime.fromtimestamp(0, UTC), timedelta(microseconds=1)


def instant(milliseconds: int) -> datetime:
    """A moment of the Redis server's clock, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def milliseconds(moment: datetime) -> int:
    """The reverse of `instant`."""
    return round(moment.timestamp() * 1000)


class Part:
    """A unit as a part of its claim: the first, second, … of so many. A claim is named by its first unit."""

    __slots__ = ()
    sequence: int
    place: int
    units: int

    @property
    def first(self) -> int:
        """The sequence number of the claim's first unit."""
        return self.sequence - self.place + 1

    @property
    def last(self) -> int:
        """That of its last."""
        return self.first + self.units - 1


@dataclass(frozen=True, slots=True)
class HeldClaim(Part):
    """A unit of a claim as its owner's entry in the claimants hash has it."""

    ordinal: int
    epoch: int
    sequence: int
    claimed_ms: int
    request: str = ""
    place: int = 1
    units: int = 1

    def __str__(self) -> str:
        record = f"{self.ordinal}.{self.epoch}.{self.sequence}.{self.claimed_ms}.{self.request}"
        return record if self.units == 1 else f"{record}.{self.place}.{self.units}"

    @classmethod
    def parse_all(cls, text: str | None) -> list["HeldClaim"]:
        """Read an owner's entry, oldest unit first."""
        units = []
        for record in (text or "").split(";"):
            if record:
                ordinal, epoch, sequence, claimed_ms, request, *part = record.split(".")
                units.append(cls(int(ordinal), int(epoch), int(sequence), int(claimed_ms), request, *map(int, part)))
        return units


class _LogEntry(NamedTuple):
    epoch: int
    sequence: int
    user_id: int
    ordinal: int
    claimed_ms: int
    request: str = ""  # the digest of its Idempotency-Key
    place: int = 1
    units: int = 1


class LogEntry(_LogEntry, Part):  # a NamedTuple has no other base
    """A unit of a claim in the claim log."""

    __slots__ = ()

    @property
    def entry_id(self) -> str:
        """The name of the entry in the stream."""
        return f"{self.epoch}-{self.sequence}"

    @classmethod
    def parse(cls, entry_id: str, fields: dict[str, str]) -> "LogEntry":
        """Read an entry as XRANGE gives it."""
        epoch, sequence = entry_id.split("-")
        user_id, ordinal, claimed_ms = int(fields["u"]), int(fields["o"]), int(fields["t"])
        part = (int(fields["p"]), int(fields["q"])) if "q" in fields else ()
        return cls(int(epoch), int(sequence), user_id, ordinal, claimed_ms, fields.get("r", ""), *part)

    @property
    def held(self) -> HeldClaim:
        """The unit as its owner's entry in the claimants hash has it."""
        return HeldClaim(self.ordinal, self.epoch, self.sequence, self.claimed_ms, self.request, self.place, self.units)


class IssuedCoupon(NamedTuple):
    """What a claim was issued as: all of a coupon that neither the claim nor the event tells."""

    code: str
    issued_at: datetime

    def __str__(self) -> str:
        return f"{self.code}.{(self.issued_at - _EPOCH) // _MICROSECOND}"

    @classmethod
    def parse(cls, text: str) -> "IssuedCoupon":
        """Read it as Redis has it, to the microsecond that the database has."""
        code, microseconds = text.split(".")
        return cls(code, _EPOCH + int(microseconds) * _MICROSECOND)


class Standing(NamedTuple):
    """What Redis knows of a user's claims. `epoch` and `drained` are 0 where no stock is loaded."""

    held: list[HeldClaim]
    epoch: int
    drained: int  # the watermark
    coupon: IssuedCoupon | None = None  # of the one claim that was asked for, where it was issued just now


class Reservation(NamedTuple):
    """What `reserve.lua` answered for one claim. The meaning of the numbers hangs on the code."""

    code: ReserveCode
    epoch: int = 0
    sequence: int = 0
    claimed_ms: int = 0
    quantity: int = 1
    opens_ms: int = 0
    retry_ms: int = 0
    limit: int = 0

    @classmethod
    def parse(cls, answer: list[int]) -> "Reservation":
        """Read one claim's part of the script's reply."""
        code = _reserve_code(answer[0])
        if code in _WITH_CLAIM:
            return cls(code, *answer[1:])
        match code:
            case ReserveCode.NOT_OPEN:
                return cls(code, opens_ms=answer[1])
            case ReserveCode.RATE_LIMITED:
                return cls(code, retry_ms=answer[1])
            case ReserveCode.WRONG_EPOCH:
                return cls(code, epoch=answer[1])
            case ReserveCode.OVER_LIMIT:
                return cls(code, limit=answer[1])
            case _:
                return cls(code)


class Reply(NamedTuple):
    """What `reserve.lua` answered for all claims of a call."""

    now_ms: int
    stock: int
    drained: int
    nudge: bool
    reservations: list[Reservation]

    @classmethod
    def parse(cls, answer: Sequence[Any]) -> "Reply":
        """Read what the script returned."""
        now_ms, stock, drained, nudge, *reservations = answer
        return cls(now_ms, stock, drained, bool(nudge), [Reservation.parse(one) for one in reservations])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An event's stock at one moment. `epoch` 0: none is loaded."""

    now_ms: int
    epoch: int
    stock: int
    sequence: int
    drained: int
    status: str
    backlog: int
    claimants: int
    oldest_ms: int
    same_run: int  # whether the server is still the run that the stock was loaded on

    @property
    def loaded(self) -> bool:
        """Whether there is stock at all."""
        return self.epoch > 0

    @property
    def oldest_age(self) -> float:
        """Seconds that the oldest undrained claim has waited, 0 where none waits."""
        return max(0.0, (self.now_ms - self.oldest_ms) / 1000) if self.oldest_ms else 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the stock's state that operators set."""

    status: str
    opens_ms: int
    closes_ms: int
    per_user_limit: int
    rate: int
    burst: int
    room: bool = False  # whether one must queue first

    def fields(self) -> list[str | int]:
        """As field, value, … of the state hash."""
        return [
            "status", self.status,
            "opens", self.opens_ms,
            "closes", self.closes_ms,
            "limit", self.per_user_limit,
            "rate", self.rate,
            "burst", self.burst,
            "room", int(self.room),
        ]  # fmt: skip
