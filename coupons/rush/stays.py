"""The stays in a waiting room, put together from a history: who had which ticket, and what they were told of it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha1
from typing import Any

from coupons.rush.history import BILLION, Exchange

CLOCKS_NS = BILLION // 2  # by so much the room's clock and ours may differ
LATE = 2**52  # the ranks below are of the lot
MILLION = 1_000_000  # nanoseconds in a millisecond
SLACK_NS = 1_800 * MILLION  # after the time they were told, visitors count as absent: the room's 2 s, less rounding
EARLY_NS = 5 * MILLION  # a timer may go off so much before its time
FOREVER = 2**63


@dataclass(frozen=True, slots=True)
class Period:
    """A time in which the room was one and the same: between two of them it was put back by what the database knew."""

    since_ns: int = -FOREVER
    until_ns: int = FOREVER
    by_rank: bool = False  # the sale went on without Redis: people came in by their rank alone, and without passes

    def has(self, one: Exchange) -> bool:
        """Whether a request was answered in it, and sent."""
        return self.since_ns <= one.asked_ns and one.answered_ns <= self.until_ns


@dataclass(frozen=True, slots=True)
class Room:
    """How people are let in, as the event has it, and for how many there is a unit."""

    rate: int  # a second
    max_active: int
    pass_ttl: int  # seconds
    quantity: int
    opens_ns: int = 0  # on the clock of the history
    seed: str = ""  # of the shuffle; "" for first come, first served
    periods: Sequence[Period] = (Period(),)  # in their order

    def period_of(self, one: Exchange) -> Period | None:
        """The period of a request; None for one that was under way at about the time when the room was put back."""
        return next((period for period in self.periods if period.has(one)), None)

    def rank_of(self, stay: "Stay") -> int | None:
        """Where a visitor stands among those of the lane; None where it is not known whether the lot was drawn."""
        if not self.seed:
            return stay.number
        if stay.asked_ns > self.opens_ns + CLOCKS_NS:
            return LATE + stay.number
        if stay.answered_ns < self.opens_ns - CLOCKS_NS:
            lot = sha1(f"{self.seed}:{stay.number}".encode(), usedforsecurity=False)
            return int(lot.hexdigest()[:13], 16)
        return None

    @property
    def pass_ttl_ns(self) -> int:
        """How long a pass is good, in nanoseconds."""
        return self.pass_ttl * BILLION

    @property
    def window_ns(self) -> int:
        """Over how long the pace is measured: 10 s, or longer where five per cent were but a few people."""
        return max(10, -(-500 // self.rate)) * BILLION


@dataclass(frozen=True, slots=True)
class Stay:
    """A user's time with one ticket. Times in nanoseconds, as the history has them."""

    user_id: int
    number: int
    lane: int
    asked_ns: int  # it was taken after this …
    answered_ns: int  # … and before this
    told: Sequence[Exchange]  # the answers with the ticket, by the time they were asked for
    admitted: Exchange | None  # the first answer that told of the pass
    asked_back_ns: int  # when its owner, admitted, first asked to claim or to leave; `FOREVER` if never
    given_back_ns: int  # when that was first answered with a claim, or had been left; likewise
    since_ns: int = -FOREVER  # from when on it is looked at

    @property
    def waits(self) -> list[Exchange]:
        """The answers that tell to wait."""
        return [one for one in self.told if one.ticket and one.ticket.status == "waiting"]

    @property
    def behind(self) -> list[Exchange]:
        """The answers that tell of somebody ahead: the visitor was in line when they were given."""
        return [one for one in self.waits if one.ticket and one.ticket.ahead]

    def present_at(self, visit: Exchange) -> bool:
        """Whether the visitor had certainly come to this visit, and to all before it, when told to at the latest.

        A visit that comes before its time, with another tab, may not have been noted: it puts nothing off.
        """
        on_time, due = 0, FOREVER
        for one in [*self.told, visit]:
            if one.asked_ns > visit.asked_ns:
                break
            if one.answered_ns > due:
                return False
            if one.ticket:
                told_ns = one.ticket.poll_after_ms * MILLION
                next_due = one.asked_ns + told_ns + SLACK_NS
                due = next_due if one.asked_ns >= on_time else min(due, next_due)
                on_time = max(on_time, one.answered_ns + told_ns - EARLY_NS)
        return True


def grouped(history: Iterable[Exchange]) -> dict[int, list[Exchange]]:
    """The exchanges of each user, by the time they were asked."""
    by_user: dict[int, list[Exchange]] = defaultdict(list)
    for one in sorted(history, key=lambda one: one.asked_ns):
        by_user[one.user_id].append(one)
    return by_user


def stays_of(by_user: Mapping[int, Sequence[Exchange]]) -> list[Stay]:
    """The stays of all users, whose exchanges are by the time they were asked."""
    return [
        _stay(user_id, number, told, exchanges)
        for user_id, exchanges in by_user.items()
        for number, told in _tickets(exchanges).items()
    ]


def stays_in(period: Period, stays: Sequence[Stay], by_user: Mapping[int, Sequence[Exchange]]) -> list[Stay]:
    """The stays as far as they lie in a period: what was told in it, and what became of that."""
    found = []
    for stay in stays:
        if told := [one for one in stay.told if period.has(one)]:
            fate = _fate(told, by_user[stay.user_id])
            found.append(replace(stay, **fate, since_ns=period.since_ns))
    return found


def _tickets(exchanges: Sequence[Exchange]) -> dict[int, list[Exchange]]:
    tickets: dict[int, list[Exchange]] = defaultdict(list)
    for one in exchanges:
        if one.ticket:
            tickets[one.ticket.number].append(one)
    return tickets


def _stay(user_id: int, number: int, told: Sequence[Exchange], exchanges: Sequence[Exchange]) -> Stay:
    joins = [one for one in exchanges if one.kind == "join" and one.open_ended and one.asked_ns < told[0].asked_ns]
    return Stay(
        user_id=user_id,
        number=number,
        lane=told[0].ticket.lane if told[0].ticket else 1,
        asked_ns=min(one.asked_ns for one in [*joins, *told]),
        answered_ns=min(one.answered_ns for one in told),
        **_fate(told, exchanges),
    )


def _fate(told: Sequence[Exchange], exchanges: Sequence[Exchange]) -> dict[str, Any]:
    """What was told of a ticket, whether its owner was let in by it, and what they did then."""
    admissions = [one for one in told if one.ticket and one.ticket.status == "admitted"]
    admitted = min(admissions, key=lambda one: one.answered_ns, default=None)
    back = []
    if admitted:
        back = [one for one in exchanges if one.kind in ("claim", "leave") and one.answered_ns > admitted.answered_ns]
    return {
        "told": told,
        "admitted": admitted,
        "asked_back_ns": min((one.asked_ns for one in back), default=FOREVER),
        "given_back_ns": min((one.answered_ns for one in back if one.claim_id or one.kind == "leave"), default=FOREVER),
    }
