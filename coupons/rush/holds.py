"""What is asked of a sale with holds beside the promises of every sale, and beside those of a waiting room.

H1 a hold ends once · H2 with a waiting room: a unit that comes back goes to the next in line
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from coupons.rush.checker import Database, Name, Verdict, parse
from coupons.rush.history import BILLION, Exchange
from coupons.rush.pace import HELD_S
from coupons.rush.stays import FOREVER, Room, Stay, grouped, stays_of

ByUser = Mapping[int, Sequence[Exchange]]


def check_holds(exchanges: Iterable[Exchange], database: Database) -> Verdict:
    """A hold ends once: what was confirmed is issued, what was cancelled or came too late is not, and has a reason."""
    issued = {(row.user_id, row.claim) for row in database.coupons if not row.held}
    ends: dict[Name, set[str]] = {}
    for one in exchanges:
        name = (one.user_id, parse(one.claim_id))
        if one.kind in ("confirm", "cancel", "poll") and one.state in ("issued", "rejected"):
            ends.setdefault(name, set()).add(one.state)
    both = sum(len(states) > 1 for states in ends.values())
    denied = sum(states == {"issued"} and name not in issued for name, states in ends.items())
    kept_back = sum(states == {"rejected"} and name in issued for name, states in ends.items())
    confirmed = sum(states == {"issued"} for states in ends.values())
    text = f"a hold ends once, and as told: {confirmed} confirmed, {len(ends) - confirmed} ended otherwise"
    for number, what in ((both, "both"), (denied, "told issued and are not"), (kept_back, "told ended and are issued")):
        if number:
            text += f", {number} {what}"
    numbers = {"confirmed": confirmed, "ended": len(ends) - confirmed, "both": both, "denied": denied}
    return Verdict("H1", not (both or denied or kept_back), text, numbers | {"kept_back": kept_back})


def check_returns(history: Iterable[Exchange], database: Database, room: Room) -> Verdict:
    """A unit that comes back goes to the next in line: nobody waits beside it, nor is told too early that all is gone.

    That nobody comes in before another is W3's to say.
    """
    by_user = grouped(history)
    units = database.quantity - len(database.before)
    back = [ns for exchanges in by_user.values() for ns in _ended(exchanges)]
    beside = _beside_a_unit(by_user, units, back, room)
    confirmed = sorted(_confirmed(by_user, database))
    gone_ns = confirmed[units - 1] if 0 < units <= len(confirmed) else FOREVER
    told_gone = (one for exchanges in by_user.values() for one in exchanges if one.kind in ("join", "ask"))
    early = sum(one.code == "sold_out" and one.answered_ns < gone_ns for one in told_gone)
    text = (
        f"what comes back goes to the next in line: {len(back)} units came back, {len(confirmed)} of {units} were "
        f"confirmed, {beside} waited on beside a free unit, {early} told before the last was confirmed that all is gone"
    )
    numbers = {"back": len(back), "confirmed": len(confirmed), "beside": beside, "early": early}
    return Verdict("H2", not beside and not early, text, numbers)


def _beside_a_unit(by_user: ByUser, units: int, back: Iterable[int], room: Room) -> int:
    """How many came whenever told to and waited on, although a unit was free and for long nobody had come in.

    Each place is taken by one person for no longer than `pass_ttl`, and then the next in line has come, or been found
    absent, within `HELD_S`. It is counted from the last time that something went wrong.
    """
    stays = stays_of(by_user)
    bound = (room.pass_ttl + HELD_S) * BILLION
    since = [ns for period in room.periods for ns in (period.since_ns, period.until_ns)]
    since += [stay.admitted.answered_ns for stay in stays if stay.admitted]
    since += [one.answered_ns for exchanges in by_user.values() for one in exchanges if one.open_ended]
    since.sort()
    free = _free(units, [ns for exchanges in by_user.values() for ns in _taken(exchanges)], back)

    def is_beside(stay: Stay, visit: Exchange) -> bool:
        at = visit.asked_ns
        start = max(stay.answered_ns, room.opens_ns, since[bisect_right(since, at) - 1])
        return any(max(start, from_ns) + bound < at < to_ns for from_ns, to_ns in free) and stay.present_at(visit)

    return sum(any(is_beside(stay, visit) for visit in stay.waits) for stay in stays)


def _free(units: int, taken: Iterable[int], back: Iterable[int]) -> list[tuple[int, int]]:
    """From when until when some of the units were neither held nor confirmed."""
    found, start = [], -FOREVER
    for ns, change in sorted([*((ns, -1) for ns in taken), *((ns, 1) for ns in back)]):
        if units == 1 and change < 0:
            found.append((start, ns))
        elif units == 0 and change > 0:
            start = ns
        units += change
    return [*found, (start, FOREVER)] if units > 0 else found


def _taken(exchanges: Sequence[Exchange]) -> list[int]:
    """When the user may have taken each of their units, at the earliest: it may be by a request without an answer."""
    unknown = [one.asked_ns for one in exchanges if one.kind == "claim" and one.open_ended]
    taken: dict[str, int] = {}
    for one in exchanges:
        if one.kind == "claim" and one.claim_id:
            taken.setdefault(one.claim_id, min([one.asked_ns, *unknown]))
    return list(taken.values()) or unknown[:1]


def _ended(exchanges: Sequence[Exchange]) -> list[int]:
    """When the user's claims that came to nothing had done so, at the latest."""
    ended: dict[str, int] = {}
    for one in exchanges:
        if one.state == "rejected":
            ended[one.claim_id] = min(one.answered_ns, ended.get(one.claim_id, FOREVER))
    return list(ended.values())


def _confirmed(by_user: ByUser, database: Database) -> Iterable[int]:
    """When each unit that is issued was confirmed, at the earliest."""
    for row in database.coupons:
        if not row.held and row.claim not in database.before:
            asked = (
                one.asked_ns
                for one in by_user.get(row.user_id, ())
                if one.kind == "confirm" and parse(one.claim_id) in (None, row.claim)
            )
            yield min(asked, default=FOREVER)
