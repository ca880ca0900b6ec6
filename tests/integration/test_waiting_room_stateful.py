"""Whatever people and operators do in a waiting room, in whatever order: what must never happen does not.

Hypothesis makes up the stories; the room, the stock and the claims are real, on a clock of their own. The model knows
what the people were told, and who joined, was called and went.
"""

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from coupons.stock.codes import ReserveCode
from coupons.stock.store import bulk_store
from events.waiting_room import keys
from events.waiting_room.codes import VisitCode
from events.waiting_room.records import LogEntry, Visited
from tests.room_kit import START, Room
from tests.stock_kit import EVENT, everything

PEOPLE = 12
SEED = "5eed"
USERS = st.integers(1, PEOPLE)
SECONDS = st.sampled_from([0.05, 0.2, 0.5, 1, 2, 5, 10, 40])
STATE = f"sc:{{{EVENT}}}:state"


class Line(RuleBasedStateMachine):
    """A waiting room of twelve people."""

    alter: tuple[tuple[str, str], ...] = ()

    @initialize(
        rate=st.sampled_from([1, 2, 20]),
        max_active=st.integers(1, 4),
        units=st.integers(1, 15),
        opens_in=st.sampled_from([0, 0, 5, 90]),
        shuffle=st.booleans(),
    )
    def begin(self, rate: int, max_active: int, units: int, opens_in: int, *, shuffle: bool) -> None:
        client = bulk_store().client
        client.flushdb()
        rules = {"rate": rate, "max_active": max_active, "pass_ttl": 8, "grace": 15, "seed": SEED if shuffle else ""}
        self.room = Room(client, ("local AWAY_MS = 2000 ", "local AWAY_MS = 1 "), *self.alter, units=units, **rules)
        self.opens = START + opens_in * 1000
        self._set(opens=self.opens)
        self.status = "published"
        self.held: dict[int, int] = {}  # by user: the number
        self.claimed: set[int] = set()  # users
        self.aheads: dict[int, int] = {}  # by number: as it was told last
        self.lanes: dict[int, int] = {}  # by number
        self.ranks: dict[int, int] = {}  # by number
        self.line: set[int] = set()  # numbers that have not been called
        self.called: set[int] = set()  # numbers that have
        self.next_visit: dict[int, int] = {}  # by user: when they were told to come
        self.last = 0

    def _set(self, **fields: str | int) -> None:
        self.room.client.hset(STATE, mapping=fields)  # type: ignore[arg-type]

    @property
    def is_over(self) -> bool:
        return self.status == "closed"

    @property
    def is_open(self) -> bool:
        return self.status == "published" and self.room.now >= self.opens

    def _visit(self, *visits: tuple[str, int] | tuple[str, int, int]) -> list[Visited]:
        before = self._passes()
        told = self.room.visit(*visits).visitors
        entries: list[LogEntry] = self.room.store.read_log(EVENT, count=1000)
        self.room.client.delete(keys.log(EVENT))
        self._hear(entries)
        granted = self._passes() - before
        if granted:
            assert self.is_open, "nobody is let in but while it is open"
            assert len(self.room.passes()) <= self.room.rules.max_active, "no more passes than may be alive"
            assert len(self.room.passes()) <= self._stock(), "a pass means a unit"
        for user in granted:
            assert self.held[user] in self.called, "a pass only to who was called"
        for visit, one in zip(visits, told, strict=True):
            self._told(visit, one, has_left=("leave", visit[1]) in [other[:2] for other in visits])
        return told

    def _passes(self) -> set[int]:
        """Those that have run out, and were not cleared away, too: a pause gives their time back."""
        users: Any = self.room.client.zrange(keys.passes(EVENT), 0, -1)
        return set(map(int, users))

    def _hear(self, entries: list[LogEntry]) -> None:
        for entry in entries:
            if entry.what == "j":
                assert entry.number == self.last + 1, "numbers rise, without a gap"
                assert entry.user_id not in self.held, "one ticket a user"
                self.last = entry.number
                self.held[entry.user_id] = entry.number
                self.lanes[entry.number], self.ranks[entry.number] = entry.lane, entry.rank
                self.line.add(entry.number)
            elif entry.what == "c":
                first = min(self.line, key=lambda number: (self.lanes[number], self.ranks[number]))
                assert entry.number == first, "who is called is next, by lane and rank"
                self.line.remove(first)
                self.called.add(first)
            else:
                assert self.held.pop(entry.user_id) == entry.number
                self.line.discard(entry.number)
                self.called.discard(entry.number)

    def _told(self, visit: Any, told: Visited, *, has_left: bool) -> None:
        act, user = visit[0], visit[1]
        if act == "leave":
            assert told.code is VisitCode.LEFT
            assert user not in self.held or self.is_over
            return
        if told.code in (VisitCode.WAITING, VisitCode.ADMITTED):
            assert told.number == self.held.get(user, told.number)
            self.next_visit[user] = self.room.now + told.poll_ms
        if not self.is_over:
            assert (told.code is VisitCode.ALREADY_CLAIMED) == (user in self.claimed), "one coupon a user"
        if told.code is VisitCode.WAITING and told.ahead >= 0:
            assert told.ahead <= self.aheads.get(told.number, told.ahead), "no rank goes up"
            self.aheads[told.number] = told.ahead
        if told.code is VisitCode.NO_TICKET:
            assert act == "ask" or has_left, "who joins has a ticket"
        if told.code is VisitCode.CLOSED:
            assert self.is_over

    def _stock(self) -> int:
        return int(self.room.client.hget(STATE, "stock") or 0)

    @rule(visits=st.lists(st.tuples(st.sampled_from(["join", "ask", "leave"]), USERS), min_size=1, max_size=8))
    def some_visit_at_once(self, visits: list[tuple[str, int]]) -> None:
        """Tabs, reloads, in any order; every third is of the first lane."""
        self._visit(*[(act, user, 0 if user % 3 == 0 else 1) for act, user in visits])

    @rule(times=st.integers(2, 25), user=USERS)
    def one_is_in_a_hurry(self, times: int, user: int) -> None:
        self._visit(*[("ask", user)] * times)

    @rule()
    def all_join(self) -> None:
        self._visit(*[("join", one, 0 if one % 3 == 0 else 1) for one in range(1, PEOPLE + 1)])

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        """And nobody comes."""
        self.room.pass_time(seconds)

    @rule(rounds=st.integers(1, 12), absent=st.sets(USERS, max_size=6))
    def those_who_are_here_obey(self, rounds: int, absent: set[int]) -> None:
        """All but a few come when they were told to; the others are away."""
        for _ in range(rounds):
            due = {user: self.next_visit.get(user, self.room.now) for user in self.held if user not in absent}
            if not due:
                return
            user = min(due, key=lambda one: due[one])
            self.room.pass_time(max(0, due[user] - self.room.now) / 1000)
            (told,) = self._visit(("ask", user))
            hurried = self.room.now < due[user]
            assert told.code is not VisitCode.RATE_LIMITED or hurried, "who obeys is never limited"
            if told.code is not VisitCode.RATE_LIMITED:
                self.next_visit[user] = max(self.room.now + 1, self.next_visit.get(user, 0))

    @rule(users=st.lists(USERS, min_size=1, max_size=5))
    def claim(self, users: list[int]) -> None:
        """Only who has a pass gets a unit, and it takes the pass."""
        passes, stock = set(map(int, self.room.passes())), self._stock()
        reply = self.room.stock.reserve(EVENT, epoch=1, claims=[(user, "") for user in users])
        for user, one in zip(users, reply.reservations, strict=True):
            if one.code is ReserveCode.ACCEPTED:
                assert user in passes, "no pass, no claim"
                passes.discard(user)
                self.claimed.add(user)
        assert set(map(int, self.room.passes())) == passes
        assert stock - self._stock() == sum(one.code is ReserveCode.ACCEPTED for one in reply.reservations)
        self._hear(self.room.store.read_log(EVENT, count=1000))
        self.room.client.delete(keys.log(EVENT))

    @rule()
    def pause_or_resume(self) -> None:
        """An operator stops the sale, or lets it go on. Somebody looks, so that the room hears of it."""
        if not self.is_over:
            self.status = "published" if self.status == "paused" else "paused"
            self._set(status=self.status)
            self._visit(("ask", PEOPLE + 1))

    @rule(seconds=st.sampled_from([-5, 3, 60]))
    def move_the_opening(self, seconds: int) -> None:
        """Sooner or later; also of a sale that is open."""
        self.opens = self.room.now + seconds * 1000
        self._set(opens=self.opens)

    @rule(by=st.integers(-3, 3))
    def resize(self, by: int) -> None:
        """More units, or fewer."""
        self._set(stock=max(0, self._stock() + by))

    @rule(rate=st.sampled_from([1, 5, 50]), max_active=st.integers(1, 4))
    def change_the_rules(self, rate: int, max_active: int) -> None:
        self.room.rules = self.room.rules.__class__(rate, max_active, 8, 15, self.room.rules.seed)

    @rule(sure=st.integers(1, 12))
    def close(self, sure: int) -> None:
        """Rarely; and for good."""
        if sure == 1:
            self.status = "closed"
            self._set(status="closed")
            for gone in self.room.client.scan_iter("*:left:*"):
                self.room.client.delete(gone)  # they go by Redis' own clock, at any moment
            before = everything(self.room.client)
            self._visit(*[("leave", 1), ("join", 2), ("ask", 3)])
            assert everything(self.room.client) == before, "nothing is written after the end"

    @invariant()
    def everybody_is_somewhere(self) -> None:
        """Who has a ticket is in line, called, missed or holds a pass: in one of them, and nobody else is."""
        if not hasattr(self, "room"):
            return
        ask = self.room.client.pipeline()
        ask.hgetall(keys.tickets(EVENT))
        for key in keys.own(EVENT)[2:7]:
            ask.zrange(key, 0, -1)
        tickets, *places = ask.execute()
        assert sorted(itertools.chain(*places)) == sorted(tickets)
        assert {int(user): int(text.split(".")[1]) for user, text in tickets.items()} == self.held
        assert len(set(self.held.values())) == len(self.held), "no two people with one number"
        assert not self.claimed & set(self.held), "nobody waits for what they have"

    def teardown(self) -> None:
        """Whoever goes on coming is let in, or it is sold out, though all others are away."""
        if not hasattr(self, "room") or self.is_over:
            return
        self.status, self.opens = "published", min(self.opens, self.room.now)
        self._set(status="published", opens=self.opens)
        user = PEOPLE + 2  # who has neither left nor been in a hurry
        (told,) = self._visit(("join", user))
        give_up = self.room.now + 600_000
        while self.room.now < give_up:
            if told.code not in (VisitCode.WAITING, VisitCode.RATE_LIMITED):
                break
            self.room.pass_time(max(0.1, (told.poll_ms or told.retry_ms) / 1000))
            (told,) = self._visit(("join", user))
        assert told.code in (VisitCode.ADMITTED, VisitCode.SOLD_OUT), told


def play(*alter: tuple[str, str], examples: int = 100) -> None:
    Line.alter = alter
    run_state_machine_as_test(
        Line,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # a failing story is told as it came: shrinking takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_what_must_never_happen_in_a_waiting_room_does_not() -> None:
    play()


def control(name: str, *replacements: tuple[str, str]) -> Any:
    return pytest.param(replacements, id=name)


@pytest.mark.parametrize(
    "replacements",
    [
        control("two people with one number", ("number = number + 1", "number = number + math.random(0, 1)")),
        control("a rank that goes up", ("  local rank = number + LATE\n", "  local rank = LATE - number\n")),
        control("the lanes", ("local lane = in_line[0] > 0 and 0 or 1", "local lane = in_line[1] > 0 and 1 or 0")),
        control("a call to somebody who is not next", ("'ZPOPMIN'", "'ZPOPMAX'")),
        control(
            "a pass to somebody who was not called",
            (
                "if is_called and is_open and",
                "if (is_called or redis.call('ZREM', lines[ticket.lane], user) == 1) and is_open and",
            ),
        ),
        control(
            "more passes than may be alive",
            ("return math.min(max_active, stock) - passes - called", "return 100"),
            ("if is_called and is_open and passes < math.min(max_active, stock) then", "if is_called and is_open then"),
        ),
        control("a pass while the sale is not open", ("if is_called and is_open and", "if is_called and")),
        control(
            "stuck behind who is absent",
            ("    called = called - redis.call('ZREM', called_key, user)\n    tokens", "    tokens"),
        ),
        control(
            "an obedient client that is limited",
            ("interval_ms = now_ms + poll_ms, poll_ms", "interval_ms = now_ms + poll_ms + 100, poll_ms"),
            ("local HASTE = 20 ", "local HASTE = 0 "),
        ),
        control("two tickets", ("      join(user, lane)\n    end\n  end", "    end\n    join(user, lane)\n  end")),
        control("a pass for nothing", ("elseif claimed then", "elseif false then")),
        control(
            "somebody who is nowhere",
            ("    passes = passes - redis.call('ZREM', passes_key, user)\n    forget(user)", "    forget(user)"),
        ),
    ],
)
def test_without_its_guard_it_does(replacements: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises((AssertionError, ValueError, KeyError, ExceptionGroup)):
        play(*replacements, examples=100)
