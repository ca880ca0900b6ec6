"""How fast a waiting room lets people in: nobody too late, and all of them at the rate.

**Late.** Each place (of the `max_active`) is taken by one person for no longer than it takes to be found absent, or to
come, and `pass_ttl`. So people come in at `min(rate, max_active / (pass_ttl + HELD_S))` a second at least, while there
are units for that many. Who has n before them in their lane, and m in lane 0, now or ever, is called within (n + m + 1)
of these, and has come `HELD_S` later. A bound that is never passed, and mostly far away.

**Pace.** Where it is neither the passes nor the units that hold people back, it is the rate alone. That is so while
somebody is in line, and there are free places for all whom the rate calls in `CALLED_S`, the time that one who is
called takes to come or to be found absent. Who is called and has not come yet is not seen, so the pace is measured from
`SETTLED_S` later on; it goes up and down by the number of the absent among those who are called.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from coupons.rush.history import BILLION, Exchange
from coupons.rush.stays import FOREVER, Room, Stay

HELD_S = 45  # visitors are told to come in 30 s at most, with jitter 39 s; some are waited for 2 s more
CALLED_S = 5  # the same for those whose turn is near, who are told to come in about a second
SETTLED_S = 5
RESTORED_S = 30  # until all who are in a line that was put back have shown whether they are there
STEP_NS = BILLION


class _Range(NamedTuple):
    lowest: float
    highest: float

    def contains(self, value: float) -> bool:
        """Whether a value lies in it."""
        return self.lowest <= value <= self.highest


TOLERANCE = _Range(0.95, 1.05)  # of the rate


def late(stays: Sequence[Stay], exchanges: Sequence[Exchange], room: Room) -> int:
    """How many were still told to wait when they must have been let in, although they came whenever told to."""
    pace = min(room.rate, room.max_active / (room.pass_ttl + HELD_S))
    scarce = _scarce_from(exchanges, room)
    ranks = [(room.rank_of(stay), stay) for stay in stays]
    first_lane = sum(stay.lane == 0 for stay in stays)
    # Those of whom it is not known where they stand may be before anybody.
    in_lane = Counter(stay.lane for rank, stay in ranks if rank is None)
    found = 0
    for rank, stay in sorted(ranks, key=lambda one: FOREVER if one[0] is None else one[0]):
        before = in_lane[stay.lane] + (first_lane if stay.lane else 0)
        in_lane[stay.lane] += rank is not None
        since = max(stay.answered_ns, room.opens_ns)
        bound = int(((before + 1) / pace + HELD_S) * BILLION)
        periods = ((one, room.period_of(one)) for one in stay.waits)
        found += any(
            max(since, period.since_ns) + bound < one.asked_ns < scarce and stay.present_at(one)
            for one, period in periods
            if period is not None
        )
    return found


def windows(stays: Sequence[Stay], exchanges: Sequence[Exchange], room: Room) -> list[float]:
    """What came in over each stretch of time in which the rate alone held people back, as a share of it."""
    came = sorted(stay.admitted.answered_ns for stay in stays if stay.admitted)
    due = room.rate * room.window_ns / BILLION
    shares = []
    for start, end in _unbounded(stays, exchanges, room):
        since = start + SETTLED_S * BILLION
        while since + room.window_ns <= end:
            shares.append((bisect_left(came, since + room.window_ns) - bisect_left(came, since)) / due)
            since += STEP_NS
    return shares


def _claimed(exchanges: Sequence[Exchange]) -> list[int]:
    """When each claim that was accepted was asked for."""
    claims: dict[str, int] = {}
    for one in exchanges:
        if one.accepted:
            claims.setdefault(one.claim_id, one.asked_ns)
    return sorted(claims.values())


def _scarce_from(exchanges: Sequence[Exchange], room: Room) -> int:
    """When there were too few units, perhaps, to let `max_active` in at once."""
    claimed, enough = _claimed(exchanges), room.quantity - room.max_active
    if enough < 0:
        return 0
    return claimed[enough] if enough < len(claimed) else FOREVER


def _unbounded(stays: Sequence[Stay], exchanges: Sequence[Exchange], room: Room) -> list[tuple[int, int]]:
    """From when until when somebody was in line all the time, and neither passes nor units may have been scarce.

    And nothing was wrong: while requests are not answered, or with a 5xx, or before the opening, nobody can be let in;
    without Redis it goes by another measure, and after a loss nobody knows who is there.
    """
    changes = [_Change(-FOREVER, wrong=1), _Change(room.opens_ns, wrong=-1)]
    changes += [_Change(asked, units=-1) for asked in _claimed(exchanges)]
    for one in exchanges:
        if one.open_ended:
            changes += [_Change(one.asked_ns, wrong=1), _Change(one.answered_ns, wrong=-1)]
    for earlier, later in pairwise(room.periods):
        until = later.until_ns if later.by_rank else later.since_ns + RESTORED_S * BILLION
        changes += [_Change(earlier.until_ns, wrong=1), _Change(until, wrong=-1)]
    for stay in stays:
        if stay.behind:
            changes += [_Change(stay.answered_ns, in_line=1), _Change(stay.behind[-1].asked_ns, in_line=-1)]
        if stay.admitted:
            end = min(stay.given_back_ns, stay.admitted.answered_ns + room.pass_ttl_ns)
            changes += [_Change(stay.admitted.asked_ns, passes=1), _Change(end, passes=-1)]
    in_line, passes, units, wrong = 0, 0, room.quantity, 0
    found, since = [], None
    for change in sorted(changes):
        in_line, passes = in_line + change.in_line, passes + change.passes
        units, wrong = units + change.units, wrong + change.wrong
        free = min(room.max_active, units) - passes
        if in_line and not wrong and free >= room.rate * CALLED_S:
            since = change.ns if since is None else since
        elif since is not None:
            found.append((since, change.ns))
            since = None
    return found


class _Change(NamedTuple):
    """What becomes more or fewer at a moment."""

    ns: int
    in_line: int = 0
    passes: int = 0
    units: int = 0
    wrong: int = 0
