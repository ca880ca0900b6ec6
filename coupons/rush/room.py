"""The checker of a waiting room: which of its promises were kept, by what its visitors were told and when.

Pure, as the checker is. What the room did is not seen, only bounded: it was done after a request was sent, and before
its answer was there. A promise counts as broken only where it is whatever happened in between; but for the pace of W7,
which is measured. The room must have belonged to the rush alone, and must not have been paused. People stand in their
lane by number; who joined a shuffle before the opening stands by lot, which the checker draws once more.

A Redis that was lost takes with it what the database has not heard of: who joined in the last moment, and the passes.
So W2 to W4 are about each period between two losses (`stays.Period`), and W3 forgives a place that was lost with the
Redis that alone knew of it. Without Redis there are no passes, and W4 and W5 have nothing to say.

W1 numbers are one each and rise · W2 nobody's place gets worse · W3 people come in in turn · W4 never more passes than
there may be · W5 no claim without a pass · W6 who is patient is never limited · W7 who is absent holds nobody up
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from coupons.rush import pace
from coupons.rush.checker import Moment, Verdict, overtaken
from coupons.rush.history import BILLION, Exchange
from coupons.rush.stays import EARLY_NS, MILLION, Period, Room, Stay, grouped, stays_in, stays_of

Parts = Sequence[tuple[Period, Sequence[Stay]]]

LIMITED, NOT_FOUND = 429, 404
UNHEARD_NS = 5 * BILLION  # so long, at most, until the database has heard of a ticket


def check_room(history: Iterable[Exchange], room: Room) -> list[Verdict]:
    """The verdicts on the promises of a waiting room, in their order."""
    exchanges = sorted(history, key=lambda one: one.asked_ns)
    by_user = grouped(exchanges)
    stays = stays_of(by_user)
    parts = [(period, stays_in(period, stays, by_user)) for period in room.periods]
    return [
        _numbered(stays),
        _never_back([stay for _, part in parts for stay in part]),
        _in_turn(stays, parts, by_user, room),
        _within_passes(parts, room),
        _none_without_pass(stays, parts, by_user, room),
        _patient_unlimited(by_user),
        _none_held_up(stays, exchanges, room),
    ]


def _numbered(stays: Sequence[Stay]) -> Verdict:
    """No number is told to two, and if A's join was answered before B's was sent, A's number is the lower."""
    twice = sum(count > 1 for count in Counter(stay.number for stay in stays).values())
    moments = [Moment(stay.asked_ns, False, stay.number) for stay in stays]
    late = overtaken([*moments, *(Moment(stay.answered_ns, True, stay.number) for stay in stays)])
    text = f"numbers are one each and rise: {len(stays)} tickets, {twice} numbers given twice, {late} out of order"
    return Verdict("W1", not twice and not late, text, {"tickets": len(stays), "twice": twice, "out_of_order": late})


def _never_back(stays: Sequence[Stay]) -> Verdict:
    """Nobody is told more people ahead than before they asked, and nobody who was admitted is told to wait."""
    worse = looks = 0
    for stay in stays:
        moments = []
        for one in stay.told:
            ahead = _place(one)
            if ahead is not None:
                moments += [Moment(one.asked_ns, False, -ahead), Moment(one.answered_ns, True, -ahead)]
        looks += len(moments) // 2
        worse += overtaken(moments)
    text = f"nobody's place gets worse: {looks} answers compared, {worse} told more people ahead than before"
    return Verdict("W2", not worse, text, {"compared": looks, "worse": worse})


def _place(one: Exchange) -> int | None:
    """How many are ahead, as it was told; who is admitted is past that."""
    if one.ticket is None:
        return None
    return -1 if one.ticket.status == "admitted" else one.ticket.ahead


def _in_turn(stays: Sequence[Stay], parts: Parts, by_user: dict[int, list[Exchange]], room: Room) -> Verdict:
    """People come in by rank in each lane, and lane 0 before lane 1; and nobody loses a place in between.

    A pass is granted when its owner asks, so who is called first need not be in first. But when B has been let in, all
    who stand before B have been called: whoever of them asks thereafter is told of nobody ahead. And B, of lane 1, was
    called after B was last told of somebody ahead: nobody of lane 0 was in line through all the time since.
    """
    late = sum(_passed_by(part, room) for _, part in parts)
    passed = sum(_before_lane_0(part) for _, part in parts)
    lost = sum(_lost(stay, by_user[stay.user_id], room) for stay in stays)
    admitted = sum(stay.admitted is not None for stay in stays)
    text = (
        f"in turn: {admitted} admitted, {late} answers with somebody ahead after one behind had come in, "
        f"{passed} let in before lane 0, {lost} obedient visitors whose place was lost"
    )
    numbers = {"admitted": admitted, "overtaken": late, "before_lane_0": passed, "lost": lost}
    return Verdict("W3", not late and not passed and not lost, text, numbers)


def _passed_by(stays: Sequence[Stay], room: Room) -> int:
    """How many answers tell of somebody ahead after one behind had come in."""
    lanes: dict[int, list[Moment]] = defaultdict(list)
    for stay in stays:
        rank = room.rank_of(stay)
        if rank is None:
            continue
        if stay.admitted:
            lanes[stay.lane].append(Moment(stay.admitted.answered_ns, True, rank))
        lanes[stay.lane].extend(Moment(one.asked_ns, False, rank) for one in stay.behind)
    return sum(overtaken(moments) for moments in lanes.values())


def _before_lane_0(stays: Sequence[Stay]) -> int:
    """How many of lane 1 were called while somebody of lane 0 was in line."""
    vips = sorted(
        (max(stay.answered_ns, stay.since_ns), stay.behind[-1].asked_ns)
        for stay in stays
        if stay.lane == 0 and stay.behind
    )
    called = [
        (stay.behind[-1].asked_ns if stay.behind else stay.asked_ns, stay.admitted.answered_ns)
        for stay in stays
        if stay.lane and stay.admitted
    ]
    return sum(any(since <= start and until >= end for since, until in vips) for start, end in called)


def _lost(stay: Stay, exchanges: Sequence[Exchange], room: Room) -> bool:
    """Whether a visitor who was there when told to be, and was never let in, is told that there is no such ticket.

    Not where the room was put back meanwhile by a database that had not heard of the ticket yet.
    """
    last = stay.told[-1]
    if stay.admitted or any(one.kind in ("leave", "claim") or one.open_ended for one in exchanges):
        return False
    after = next((one for one in exchanges if one.kind == "ask" and one.asked_ns > last.answered_ns), None)
    if after is None or after.status != NOT_FOUND or not stay.present_at(after):
        return False
    losses = (one.until_ns for one in room.periods if one.until_ns < after.answered_ns)
    return not any(abs(stay.answered_ns - loss) < UNHEARD_NS for loss in losses)


def _within_passes(parts: Parts, room: Room) -> Verdict:
    """Never more than `max_active` passes are alive, counting the moments at which each certainly is.

    It is from the answer that told of it until its owner asks to claim or to leave, or until `pass_ttl` after the
    owner asked for it: it was not given before. When the room is put back it may be gone.
    """
    moments = []
    for period, stays in parts:
        for stay in stays:
            if stay.admitted and not period.by_rank:
                end = min(stay.asked_back_ns, stay.admitted.asked_ns + room.pass_ttl_ns, period.until_ns)
                if end > stay.admitted.answered_ns:
                    moments += [(stay.admitted.answered_ns, 1), (end, -1)]
    alive = most = 0
    for _, change in sorted(moments):
        alive += change
        most = max(most, alive)
    text = f"at most {room.max_active} passes at once: {len(moments) // 2} passes, never more than {most} of them alive"
    return Verdict("W4", most <= room.max_active, text, {"passes": len(moments) // 2, "most": most})


def _none_without_pass(stays: Sequence[Stay], parts: Parts, by_user: dict[int, list[Exchange]], room: Room) -> Verdict:
    """Whoever was promised a claim held a pass that may have been good when it was taken, or may have been given one.

    A visit without an answer may have given a pass that its owner was never told of. And claims that may have been
    taken without Redis needed none.
    """
    passes = _passes(stays, parts, room)
    with_passes = [period for period in room.periods if not period.by_rank]
    accepted = without = refused = 0
    for user_id, exchanges in by_user.items():
        maybe = any(one.kind in ("join", "ask") and one.open_ended for one in exchanges)
        refused += sum(one.code == "not_admitted" for one in exchanges)
        for claim_id in {one.claim_id for one in exchanges if one.accepted}:
            naming = [one for one in exchanges if one.kind == "claim" and (one.claim_id == claim_id or one.open_ended)]
            asked = min(one.asked_ns for one in naming)
            answered = min(one.answered_ns for one in naming if one.claim_id)
            accepted += 1
            if not maybe and any(one.since_ns <= asked and answered <= one.until_ns for one in with_passes):
                without += not any(since < answered and until > asked for since, until in passes[user_id])
    text = (
        f"no claim without a pass: {accepted} claims accepted, {without} of them without; {refused} requests "
        "were told that it is not their turn"
    )
    return Verdict("W5", not without, text, {"accepted": accepted, "without": without, "not_admitted": refused})


def _passes(stays: Sequence[Stay], parts: Parts, room: Room) -> dict[int, list[tuple[int, int]]]:
    """From when until when each user may have had a pass of which they were told."""
    passes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    told = [(stay.user_id, stay.told) for period, part in parts if not period.by_rank for stay in part]
    told += [(stay.user_id, [one for one in stay.told if room.period_of(one) is None]) for stay in stays]
    for user_id, answers in told:
        admissions = [one for one in answers if one.ticket and one.ticket.status == "admitted"]
        if admissions:
            until = min(one.answered_ns for one in admissions) + room.pass_ttl_ns
            passes[user_id].append((min(one.asked_ns for one in admissions), until))
    return passes


def _patient_unlimited(by_user: dict[int, list[Exchange]]) -> Verdict:
    """Nobody is told to slow down who has never come sooner than told to, with any tab, and has not left."""
    limited = patient = 0
    for exchanges in by_user.values():
        due = 0
        hasty = False
        for one in exchanges:
            hasty = hasty or one.kind == "leave" or (one.kind in ("join", "ask") and one.asked_ns < due - EARLY_NS)
            if one.status == LIMITED and not hasty:
                limited += 1
                break
            if one.ticket:
                due = max(due, one.answered_ns + one.ticket.poll_after_ms * MILLION)
        patient += not hasty
    text = f"who is patient is never limited: {patient} users kept to what they were told, {limited} of them got 429"
    return Verdict("W6", not limited, text, {"patient": patient, "limited": limited})


def _none_held_up(stays: Sequence[Stay], exchanges: Sequence[Exchange], room: Room) -> Verdict:
    """Whoever is there comes in within a bound, and people come in at the rate (see `pace`)."""
    late = pace.late(stays, exchanges, room)
    windows = pace.windows(stays, exchanges, room)
    seconds = room.window_ns / BILLION
    off = sum(not pace.TOLERANCE.contains(one) for one in windows)
    text = f"who is absent holds nobody up: {late} waited longer than they had to; "
    if windows:
        text += (
            f"{len(windows)} times {seconds:g} s with demand, {min(windows):.1%} to {max(windows):.1%} "
            f"of the rate came in, {off} times more than 5 % off"
        )
    else:
        text += f"the rate was never what held people back for {seconds:g} s"
    numbers = {"late": late, "windows": len(windows), "off": off}
    if windows:
        numbers |= {"lowest_permille": round(1000 * min(windows)), "highest_permille": round(1000 * max(windows))}
    return Verdict("W7", not late and not off, text, numbers)
