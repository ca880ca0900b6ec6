"""A crowd in a waiting room, on a clock of its own: people who wait, leave, sleep, come back and cheat.

Who is due within a tick of the clock visits in calls of a hundred, as they do in the gate.
"""

import heapq
import itertools
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from coupons.stock.codes import ReserveCode
from events.waiting_room import keys
from events.waiting_room.codes import VisitCode
from events.waiting_room.records import LogEntry, Visited
from events.waiting_room.service import JITTER
from tests.room_kit import Room
from tests.stock_kit import EVENT

TICK = 50  # milliseconds
GROUP = 100  # visits of a call


@dataclass
class Person:
    """Somebody, and what became of them. All moments are in milliseconds."""

    user: int
    comes: int  # when they join
    lane: int = 1
    tabs: int = 1
    away: tuple[int, int] | None = None  # from when until when they do not look
    leaves: int | None = None
    joins_again: int | None = None  # after so many milliseconds
    claims_after: int | None = 2000  # None: never
    life: int = 0  # how often they have joined again: what they meant to do before is void
    numbers: list[int] = field(default_factory=list)
    aheads: list[int] = field(default_factory=list)  # since they joined last
    admitted: int | None = None
    limited: int = 0
    end: str = ""

    @property
    def is_obedient(self) -> bool:
        """Whether they come when they are told to, whatever else they do."""
        return self.tabs == 1


class Crowd:
    """People who visit a room until all have come to an end."""

    def __init__(self, room: Room, people: Iterable[Person], *, seed: int = 1) -> None:
        self.room = room
        self.people = {person.user: person for person in people}
        self.random = random.Random(seed)
        self.called: dict[int, list[int]] = defaultdict(list)  # by lane: numbers, in order
        self.most_passes = 0
        self.visits: dict[int, int] = defaultdict(int)  # by second
        self._lane_of: dict[int, int] = {}  # by number
        self._order = itertools.count()
        self._due: list[tuple[int, int, Person, str, int]] = []
        for person in self.people.values():
            self._at(person.comes, person, "join")
            if person.leaves is not None:
                self._at(person.leaves, person, "leave")

    def run(self, until: int) -> None:
        """Let time pass to a moment."""
        while self._due and self.room.now < until:
            self.room.pass_time(max(TICK, (self._due[0][0] - self.room.now) // TICK * TICK) / 1000)
            for group in _groups(self._those_due()):
                self._visit([one for one in group if one[1] != "claim"])
                self._claim([person for person, what in group if what == "claim"])
            self._read_log()
            self.most_passes = max(self.most_passes, self.room.count_passes())

    def _at(self, moment: float, person: Person, what: str) -> None:
        heapq.heappush(self._due, (int(moment), next(self._order), person, what, person.life))

    def _those_due(self) -> Iterator[tuple[Person, str]]:
        while self._due and self._due[0][0] <= self.room.now:
            moment, _, person, what, life = heapq.heappop(self._due)
            if life != person.life:
                continue
            if what == "ask" and person.away and person.away[0] <= moment < person.away[1]:
                self._at(person.away[1], person, what)  # they look again when they are back
            elif not person.end:
                yield person, what

    def _visit(self, group: list[tuple[Person, str]]) -> None:
        if group:
            reply = self.room.visit(*[(what, person.user, person.lane) for person, what in group])
            self.visits[self.room.now // 1000] += len(group)
            for (person, what), visited in zip(group, reply.visitors, strict=True):
                self._told(person, what, visited)

    def _told(self, person: Person, what: str, told: Visited) -> None:
        now = self.room.now
        match told.code:
            case VisitCode.WAITING:
                self._note(person, told)
                tabs = person.tabs if what == "join" else 1
                for _ in range(tabs):
                    # Who has many tabs is in a hurry in each of them.
                    wait = told.poll_ms * self.random.uniform(1, 1 + JITTER) if person.tabs == 1 else 150
                    self._at(now + wait, person, "ask")
            case VisitCode.ADMITTED:
                self._note(person, told)
                if person.admitted is None:
                    person.admitted = now
                    if person.claims_after is not None:
                        self._at(now + person.claims_after, person, "claim")
            case VisitCode.RATE_LIMITED:
                person.limited += 1
                self._at(now + max(told.retry_ms, 1), person, what)
            case VisitCode.LEFT:
                person.end = "left"
                if person.joins_again is not None:
                    person.end, person.aheads, person.life = "", [], person.life + 1
                    self._at(now + person.joins_again, person, "join")
            case VisitCode.NO_TICKET:
                person.end = person.end or "no ticket"
            case other:
                person.end = other.name.lower()

    def _note(self, person: Person, told: Visited) -> None:
        if told.number not in person.numbers[-1:]:
            person.numbers.append(told.number)
            person.aheads = []
            self._lane_of[told.number] = person.lane
        if told.ahead >= 0:
            person.aheads.append(told.ahead)

    def _claim(self, group: list[Person]) -> None:
        if group:
            reply = self.room.stock.reserve(EVENT, epoch=1, claims=[(person.user, "") for person in group])
            for person, one in zip(group, reply.reservations, strict=True):
                person.end = "served" if one.code is ReserveCode.ACCEPTED else one.code.name.lower()

    def _read_log(self) -> None:
        entries: list[LogEntry] = self.room.store.read_log(EVENT, count=100_000)
        self.room.client.delete(keys.log(EVENT))
        for entry in entries:
            if entry.what == "j":
                self._lane_of[entry.number] = entry.lane
            elif entry.what == "c":
                self.called[self._lane_of[entry.number]].append(entry.number)


def admitted_in(people: Iterable[Person], *, seconds: int, begin: int, end: int) -> list[int]:
    """How many were let in in each window of so many seconds between two moments, a new window every quarter second."""
    moments = sorted(person.admitted for person in people if person.admitted is not None)
    starts = range(begin, end - seconds * 1000 + 1, 250)
    return [bisect_right(moments, start + seconds * 1000) - bisect_right(moments, start) for start in starts]


def _groups(due: Iterator[tuple[Person, str]]) -> Iterator[list[tuple[Person, str]]]:
    while group := list(itertools.islice(due, GROUP)):
        yield group
