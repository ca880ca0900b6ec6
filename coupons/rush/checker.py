"""The checker: holds the history of a rush beside the database, and says which promises were kept.

Pure: it takes what was read and asks nobody. It trusts neither side: the promises are about what users were told
*and* what the database has. The sale must have belonged to the rush alone.

In a world with faults a request without an answer, or with a 5xx, is *unknown*: it may have taken effect, and counts
for no failure. A claim that was rejected has ended, and its owner may make another.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from coupons.rush.history import Exchange, percentile

# Reasons of a rejected claim that never had a unit which it could give back.
WITHOUT_UNIT = ("stock_exhausted", "outage", "sold_out")
UNAVAILABLE = 503
MILLISECONDS = 1000  # in a second


class Claim(NamedTuple):
    """A claim's place: the epoch of its load, and its sequence number."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class CouponRow:
    """A coupon in the database."""

    user_id: int
    claim: Claim
    held: bool = False  # and so not issued, and not ended


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A failed claim in the database."""

    user_id: int
    claim: Claim
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Database:
    """An event as the database has it after the rush, and what is left of it in Redis."""

    quantity: int
    issued: int  # what the event itself counts
    per_user_limit: int
    coupons: Sequence[CouponRow]
    ordered: bool = True  # whether the strategy of the event promises an order
    failed: Sequence[FailedRow] = ()
    before: frozenset[Claim] = frozenset()  # issued before the rush began
    loads: int = 0  # of the stock, anew, during the rush
    mended: Sequence[int] | None = None  # units that reconciling added or took (< 0), in turn; None: not read
    stock: int | None = 0  # units left to claim; None where no stock is loaded
    backlog: int = 0  # claims that still wait in the claim log


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a promise was kept, and the numbers that say so."""

    promise: str
    kept: bool
    text: str
    numbers: dict[str, int] = field(default_factory=dict)


class Moment(NamedTuple):
    """When a number was asked for, or answered. At one and the same moment neither is first: asked sorts before."""

    ns: int
    answered: bool
    number: int


@dataclass(frozen=True, slots=True)
class Told:
    """What the users were told of one claim, over all answers to claim requests that name it."""

    claim_id: str
    claim: Claim | None  # None where the name is no name of a claim
    users: frozenset[int]
    sequences: frozenset[int]
    accepted: bool  # by a 202 or 201, not only named by a refusal
    asked_ns: int  # it was taken after this …
    answered_ns: int  # … and before this


# A claim, and who it is to: a Redis that was rolled back gives a number again, to somebody else.
Name = tuple[int, Claim | None]


def check(history: Iterable[Exchange], database: Database, *, refused_within: float | None = None) -> list[Verdict]:
    """The verdicts on the promises of the design, in their order.

    P6 is among them where the strategy promises it, P8 where a bound in seconds is given, P9 where the database tells
    what reconciling has mended.
    """
    exchanges = list(history)
    requests = [one for one in exchanges if one.kind == "claim"]
    polls = [one for one in exchanges if one.kind == "poll"]
    told = _told(requests)
    rejected = _rejected(polls, database)
    verdicts = [
        _within_quantity(database),
        _within_limit(database),
        _none_vanished(requests, polls, told, rejected, database),
        _none_unasked(requests, told, database),
        _same_answer(requests, told, rejected, database),
        *([_in_order(told)] if database.ordered else []),
        _none_unsold(exchanges, told, rejected, database),
    ]
    if refused_within is not None:
        verdicts.append(_refused_quickly(exchanges, within=refused_within))
    if database.mended is not None:
        verdicts.append(_none_added(database.mended, database))
    return verdicts


def _within_quantity(database: Database) -> Verdict:
    rows = len(database.coupons)
    kept = rows == database.issued <= database.quantity
    text = f"issued ≤ quantity: {rows} coupons of {database.quantity}, and the event counts {database.issued}"
    return Verdict("P1", kept, text, {"coupons": rows, "counted": database.issued, "quantity": database.quantity})


def _within_limit(database: Database) -> Verdict:
    each = Counter(row.user_id for row in database.coupons)
    over = sum(number > database.per_user_limit for number in each.values())
    most = max(each.values(), default=0)
    text = f"at most {database.per_user_limit} a user: {len(each)} users hold coupons, none more than {most}"
    return Verdict("P2", not over, text, {"users": len(each), "most": most, "over_limit": over})


def _none_vanished(
    requests: Sequence[Exchange],
    polls: Sequence[Exchange],
    told: Sequence[Told],
    rejected: Mapping[Name, str],
    database: Database,
) -> Verdict:
    """Every claim that a user was told of is issued to that user, or rejected with a reason the user has read.

    The reason may have been read where the database knows of no such claim: Redis had lost it altogether. To be told
    of a rejection is the end; a coupon for that claim would make it untrue.
    """
    issued = {(row.user_id, row.claim) for row in database.coupons if not row.held}
    held = {(row.user_id, row.claim) for row in database.coupons if row.held}
    read = {(one.user_id, one.claim_id): one.reason for one in polls if one.state == "rejected"}
    vanished = unread = refused = lost = undone = open_ended = 0
    for one in told:
        for user_id in one.users:
            reason = read.get((user_id, one.claim_id))
            if (user_id, one.claim) in issued:
                undone += reason is not None
            elif (user_id, one.claim) in held:
                open_ended += 1
            elif reason:
                refused += 1
                lost += reason == "lost"
            elif (user_id, one.claim) in rejected:
                unread += 1
            else:
                vanished += 1
    nameless = sum(one.accepted and not one.claim_id for one in requests)
    accepted = sum(one.accepted for one in told) + nameless
    vanished += nameless
    text = f"none lost: {accepted} claims accepted, {refused} of them rejected with a reason, {vanished} vanished"
    if unread:
        text += f", {unread} rejected without a reason their owner could read"
    if undone:
        text += f", {undone} issued after their owner had been told of a rejection"
    numbers = {
        "accepted": accepted,
        "rejected": refused,
        "lost": lost,
        "vanished": vanished,
        "unread": unread,
        "undone": undone,
        "held": open_ended,
    }
    if open_ended:
        text += f", {open_ended} held still"
    return Verdict("P3", not (vanished or unread or undone or open_ended), text, numbers)


def _none_unasked(requests: Sequence[Exchange], told: Sequence[Told], database: Database) -> Verdict:
    """Every coupon of this rush was promised to its owner, or its owner has a request without an answer."""
    promised = {(user_id, one.claim) for one in told for user_id in one.users}
    unanswered = {one.user_id for one in requests if one.open_ended}
    fresh = [row for row in database.coupons if row.claim not in database.before]
    unnamed = [row for row in fresh if (row.user_id, row.claim) not in promised]
    unasked = sum(row.user_id not in unanswered for row in unnamed)
    text = f"no coupon without a claim: {len(fresh)} coupons issued, {unasked} that nobody was promised"
    if late := len(unnamed) - unasked:
        text += f", {late} whose owner never got an answer"
    return Verdict("P4", not unasked, text, {"coupons": len(fresh), "unasked": unasked, "unanswered": late})


def _same_answer(
    requests: Sequence[Exchange], told: Sequence[Told], rejected: Mapping[Name, str], database: Database
) -> Verdict:
    """A request and its repetitions name one claim; a claim has one owner and one sequence number, its own."""
    once = database.per_user_limit == 1
    groups: dict[object, list[Exchange]] = {}
    for one in requests:
        # Of one coupon a user, every request is for the same; of several, only the key says which are repetitions.
        groups.setdefault(one.user_id if once else (one.user_id, one.key), []).append(one)
    repeated = sum(len(group) > 1 for group in groups.values())
    different = sum(_contradicts(group, rejected) for group in groups.values() if len(group) > 1)
    mixed = sum(len(one.users) > 1 or one.sequences != ({one.claim.sequence} if one.claim else set()) for one in told)
    text = f"same answer to the same request: {repeated} users or keys asked again, {different} were told otherwise"
    if mixed:
        text += f"; {mixed} claims with two owners or a wrong sequence number"
    return Verdict(
        "P5", not different and not mixed, text, {"repeated": repeated, "different": different, "mixed": mixed}
    )


def _contradicts(group: Sequence[Exchange], rejected: Mapping[Name, str]) -> bool:
    """Whether the answers name two claims, or say "sold out" to one who had been told of a claim before asking.

    A claim that was rejected is over: after it another may be named, or "sold out", but it itself no more.
    """
    named = [(one, parse(one.claim_id) or Claim(0, 0)) for one in group if one.claim_id]
    claims = sorted({claim for _, claim in named})
    if len({(one.claim_id, one.sequence) for one, _ in named}) > len(claims):
        return True
    if any((one.user_id, claim) not in rejected for one, claim in named if claim != claims[-1]):
        return True
    if any(claim > earlier and one.answered_ns < again.asked_ns for one, claim in named for again, earlier in named):
        return True
    standing = (one.answered_ns for one, claim in named if (one.user_id, claim) not in rejected)
    told_at = min(standing, default=None)
    return told_at is not None and any(one.code == "sold_out" and one.asked_ns > told_at for one in group)


def _in_order(told: Sequence[Told]) -> Verdict:
    """If A was answered before B was asked, A's sequence number is the lower. Within an epoch."""
    epochs: dict[int, list[Moment]] = {}
    compared = 0
    for one in told:
        if one.claim is not None and one.accepted:
            compared += 1
            sequence = one.claim.sequence
            epochs.setdefault(one.claim.epoch, []).extend(
                [Moment(one.asked_ns, False, sequence), Moment(one.answered_ns, True, sequence)]
            )
    late = sum(overtaken(moments) for moments in epochs.values())
    text = f"in order: {compared} claims compared, {late} overtaken by one that asked later"
    return Verdict("P6", not late, text, {"compared": compared, "overtaken": late})


def overtaken(moments: Iterable[Moment]) -> int:
    """How many numbers were asked for after a higher one had been answered.

    A sweep over the moments in order: the highest number answered so far must not be above any asked afterwards.
    """
    late, highest = 0, -math.inf
    for one in sorted(moments):
        if one.answered:
            highest = max(highest, one.number)
        elif one.number < highest:
            late += 1
    return late


def _none_unsold(
    exchanges: Sequence[Exchange], told: Sequence[Told], rejected: Mapping[Name, str], database: Database
) -> Verdict:
    """With enough demand all is issued, but for units that came back when the demand had gone.

    A rejected claim gives its unit back; and a load anew brings back the units of claims that Redis had lost, which
    may be those of users who were never answered.
    """
    issued = len(database.coupons)
    holders = {user_id for one in told for user_id in one.users} | {row.user_id for row in database.coupons}
    refused = {one.user_id for one in exchanges if one.code == "sold_out"} - holders
    claims = {one.claim for one in told} | {row.claim for row in database.coupons}
    demand = len(claims) + len(refused)
    unsold = max(0, database.quantity - issued)
    given_back = sum(reason not in WITHOUT_UNIT for reason in rejected.values())
    if database.loads:
        given_back += len({one.user_id for one in exchanges if one.kind == "claim" and one.open_ended} - holders)
    left = database.stock or 0
    accounted = min(left, given_back)
    lost = 0 if database.stock is None else unsold - left - database.backlog
    text = f"none unsold: demand {demand}, {issued} issued of {database.quantity}"
    if demand < database.quantity:
        kept = not lost
        text += f", {left} left for want of demand"
    else:
        kept = not lost and unsold == accounted
        text += f", {accounted} given back by claims that came to nothing"
    if unsold and database.stock is None:
        text += ", no stock is loaded to account for the rest"
    if lost > 0:
        text += f", {lost} units neither issued nor in stock"
    elif lost < 0:
        text += f", {-lost} units in stock that are not there"
    if database.backlog:
        text += f", {database.backlog} claims still in the claim log"
    numbers = {
        "demand": demand,
        "issued": issued,
        "unsold": unsold,
        "accounted": accounted,
        "lost": lost,
        "backlog": database.backlog,
    }
    return Verdict("P7", kept, text, numbers)


def _refused_quickly(exchanges: Sequence[Exchange], *, within: float) -> Verdict:
    """99 of 100 refusals, to whichever request, have come within the bound; and so have 99 of 100 of the 503s.

    The 503s by themselves, because many quick "sold out" would hide them. What was not answered is no refusal.
    """
    refused = sorted(one.seconds for one in exchanges if one.refused)
    away = sorted(one.seconds for one in exchanges if one.status == UNAVAILABLE)
    numbers = {"refused": len(refused), "unavailable": len(away)}
    for name, ordered in (("", refused), ("unavailable_", away)):
        for percent in (50, 99, 100):
            numbers[f"{name}p{percent}_ms"] = round(percentile(ordered, percent) * MILLISECONDS)
    kept = percentile(refused, 99) < within and percentile(away, 99) < within
    text = (
        f"refused quickly: {len(refused)} refusals, p50 {numbers['p50_ms']} ms, p99 {numbers['p99_ms']} ms, at most "
        f"{numbers['p100_ms']} ms; {len(away)} of them 503, p99 {numbers['unavailable_p99_ms']} ms"
    )
    return Verdict("P8", kept, text, numbers)


def _none_added(mended: Sequence[int], database: Database) -> Verdict:
    """Reconciling adds no unit that is not there: what it added was missing then, and is still right at the end.

    A unit that was added wrongly shows itself in one of three ways: it is still there and the sum
    `quantity = issued + backlog + stock` is exceeded; it was sold, and its claim was rejected because the database had
    nothing left; or reconciling itself had to take it away again. Where nothing was added there is nothing to show.
    """
    first = next((number for number, units in enumerate(mended) if units > 0), len(mended))
    added = sum(units for units in mended if units > 0)
    taken = -sum(units for units in mended[first:] if units < 0)
    exhausted = sum(row.reason == "stock_exhausted" for row in database.failed)
    excess = max(0, len(database.coupons) + database.backlog + (database.stock or 0) - database.quantity)
    wrong = (excess + exhausted + taken) if added else 0
    text = f"reconciling adds nothing that is not there: {added} units added"
    if added:
        text += f"; {excess} too many at the end, {exhausted} sold that were not there, {taken} taken away again"
    numbers = {"added": added, "excess": excess, "exhausted": exhausted, "taken": taken}
    return Verdict("P9", not wrong, text, numbers)


def _rejected(polls: Sequence[Exchange], database: Database) -> dict[Name, str]:
    """The claims that ended as rejected, and why: as the database has it, or as their owners were told."""
    told: dict[Name, str] = {
        (one.user_id, parse(one.claim_id)): one.reason for one in polls if one.state == "rejected" and one.reason
    }
    return told | {
        (row.user_id, row.claim): row.reason for row in database.failed if row.status in ("rejected", "abandoned")
    }


def _told(requests: Sequence[Exchange]) -> list[Told]:
    """The claims that answers name, in the order of their names' first appearance.

    When a claim was taken is not seen, only bounded: after the owner's first request that may have taken it (one
    that names it, or one without an answer), and before the first answer that names it. The 202 of a repetition comes
    long after the claim was taken, so the answer's own request alone would not do.
    """
    asked: dict[int, int] = {}
    for one in requests:
        if one.open_ended:
            asked[one.user_id] = min(one.asked_ns, asked.get(one.user_id, one.asked_ns))
    answers: dict[str, list[Exchange]] = {}
    for one in requests:
        if one.claim_id:
            answers.setdefault(one.claim_id, []).append(one)
    return [
        Told(
            claim_id=claim_id,
            claim=parse(claim_id),
            users=frozenset(one.user_id for one in naming),
            sequences=frozenset(one.sequence for one in naming),
            accepted=any(one.accepted for one in naming),
            asked_ns=min(min(one.asked_ns, asked.get(one.user_id, one.asked_ns)) for one in naming),
            answered_ns=min(one.answered_ns for one in naming),
        )
        for claim_id, naming in answers.items()
    ]


def parse(claim_id: str) -> Claim | None:
    """Read `event-epoch-sequence`."""
    parts = claim_id.split("-")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):  # noqa: PLR2004
        return None
    return Claim(int(parts[1]), int(parts[2]))
