"""Twenty thousand people in a waiting room: some leave, sleep, come back or cheat, and the rest are served in order."""

import copy
import random
from collections import Counter
from typing import Any

import pytest

from coupons.stock.store import StockStore
from tests.crowd import Crowd, Person, admitted_in
from tests.room_kit import START, Room
from tests.stock_kit import EVENT

OPENS = START + 60_000
SECOND = 1000
# The time to live of a key goes by the server's clock: nobody waits for it here.
AT_ONCE = ("local AWAY_MS = 2000 ", "local AWAY_MS = 1 ")


def of_all_kinds(number: int, *, rate: int, seed: int) -> list[Person]:
    """Two thirds come in the minute before the opening, the others while the first half is let in."""
    chance = random.Random(seed)
    last = OPENS + number * SECOND // rate // 2

    def one(user: int) -> Person:
        comes = chance.randrange(START, OPENS) if chance.random() < 0.67 else chance.randrange(OPENS, last)
        person = Person(user, comes, lane=0 if chance.random() < 0.02 else 1)
        person.claims_after = chance.randrange(500, 4000)
        match chance.random():
            case kind if kind < 0.10:  # closes the page, and is never seen again
                person.away = (comes + chance.randrange(40 * SECOND), 10**15)
            case kind if kind < 0.15:  # sleeps, some beyond the grace
                asleep = chance.randrange(OPENS, last)
                person.away = (asleep, asleep + chance.randrange(2 * SECOND, 60 * SECOND))
            case kind if kind < 0.18:  # leaves, and half of them come back
                person.leaves = comes + chance.randrange(100, 60 * SECOND)
                person.joins_again = 3 * SECOND if chance.random() < 0.5 else None
            case kind if kind < 0.19:  # thirty tabs, and a finger on F5 in each
                person.tabs = 30
            case kind if kind < 0.21:  # is let in, and does not claim
                person.claims_after = None
        return person

    return [one(user) for user in range(1, number + 1)]


def crowd(store: StockStore, people: list[Person], *replacements: tuple[str, str], rate: int, max_active: int) -> Crowd:
    rules = {"rate": rate, "max_active": max_active, "pass_ttl": 20, "grace": 30}
    room = Room(store.client, AT_ONCE, *replacements, units=len(people), **rules)
    store.client.hset(f"sc:{{{EVENT}}}:state", "opens", OPENS)
    return Crowd(room, people)


def test_twenty_thousand_people_are_served_in_order_and_at_the_rate(store: StockStore) -> None:
    rate, max_active = 200, 1500
    one = crowd(store, of_all_kinds(20_000, rate=rate, seed=5), rate=rate, max_active=max_active)
    one.run(OPENS + 150 * SECOND)
    all_ = one.people.values()

    numbers = [number for person in all_ for number in person.numbers]
    assert sorted(numbers) == list(range(1, len(numbers) + 1)), "a number each, without a gap"
    for lane in (0, 1):
        assert one.called[lane] == sorted(one.called[lane]), "called in order"
        assert len(one.called[lane]) == len(set(one.called[lane])), "called once"
    assert one.most_passes <= max_active
    for person in all_:
        assert person.aheads == sorted(person.aheads, reverse=True), "no rank goes up"
        assert person.limited == 0 or not person.is_obedient
    assert sum(person.limited for person in all_ if not person.is_obedient) > 1000, "cheats are held off"
    assert max(len(person.numbers) for person in all_ if not person.is_obedient) == 1, "one ticket for all tabs"

    stayed = [person for person in all_ if person.away is None and person.leaves is None and person.claims_after]
    assert Counter(person.end for person in stayed) == {"served": len(stayed)}
    slept = [person for person in all_ if person.away and person.away[1] - person.away[0] < 30 * SECOND]
    assert {person.end for person in slept} == {"served"}, "who is back within the grace has lost nothing"
    gone = [person for person in all_ if person.away and person.away[1] == 10**15 and person.admitted is None]
    assert gone
    assert not one.room.client.zcard(f"sc:{{{EVENT}}}:line:1")

    # As long as people stand in line, from the first second on. The last of it is thin: most have come before.
    with_demand = max(person.admitted or 0 for person in stayed) - 3 * SECOND
    assert with_demand > OPENS + 75 * SECOND
    windows = admitted_in(all_, seconds=10, begin=OPENS, end=with_demand)
    assert min(windows) >= 0.95 * 10 * rate
    assert max(windows) <= 1.05 * 10 * rate


def in_order(number: int) -> list[Person]:
    """All come before the opening, one after the other, and stay."""
    return [Person(user, START + user * 10) for user in range(1, number + 1)]


def a_fifth_is_gone(number: int) -> list[Person]:
    """A fifth looks once, well before the opening, and never again."""
    crowd = in_order(number)
    for person in crowd[::5]:
        person.away = (person.comes + 1, 10**15)
    return crowd


def a_third_vanish(number: int, *, rate: int) -> list[Person]:
    """A third go a second before they are called; the line moves so much faster."""

    def turn(user: int) -> int:
        return OPENS + user * 2 * SECOND // (3 * rate)

    crowd = in_order(number)
    for person in crowd[::3]:
        person.away = (turn(person.user) - SECOND, 10**15)
    return crowd


def extremes(store: StockStore, people: list[Person], begin: int, *replacements: tuple[str, str]) -> tuple[int, int]:
    """The least and the most that ten seconds see let in, at a rate of a hundred a second."""
    one = crowd(store, people, *replacements, rate=100, max_active=400)
    one.run(OPENS + 18 * SECOND)
    windows = admitted_in(people, seconds=10, begin=begin, end=OPENS + 18 * SECOND)
    return min(windows), max(windows)


LATE = (
    "until_open <= math.max(1000, after) and until_open + after or until_open / (1 + JITTER)",
    "until_open + after",
)
AWAY_LIKE_ALL = ("if by >= now_ms then", "if true then")
TOKEN_LOST = ("    tokens = tokens + 1\n", "")


@pytest.mark.parametrize(
    ("people", "begin", "guard"),
    [
        pytest.param(in_order(3000), OPENS, LATE, id="the first come when it opens"),
        pytest.param(a_fifth_is_gone(4000), OPENS, AWAY_LIKE_ALL, id="who is away takes no token"),
        pytest.param(
            a_third_vanish(4000, rate=100),
            OPENS + 5 * SECOND,
            TOKEN_LOST,
            id="who does not heed a call gives the token back",
        ),
    ],
)
def test_admission_follows_the_rate_and_not_without_its_guards(
    store: StockStore, people: list[Person], begin: int, guard: tuple[str, str]
) -> None:
    least, most = extremes(store, copy.deepcopy(people), begin)
    assert 950 <= least <= most <= 1050
    store.client.flushdb()
    assert extremes(store, people, begin, guard)[0] < 950


@pytest.mark.parametrize("guard", [(), (("local KEPT_S = 0.3 ", "local KEPT_S = 2 "),)], ids=["as it is", "without"])
def test_after_it_was_held_up_admission_does_not_make_up_for_it(store: StockStore, guard: tuple[Any, ...]) -> None:
    """Nobody claims for ten seconds, until no pass is free; then all claim at once."""
    people = in_order(3000)
    for person in people:
        person.claims_after = 0
    held = OPENS + 10 * SECOND
    one = crowd(store, people, *guard, rate=100, max_active=500)
    for person in people[:500]:
        person.claims_after = held - OPENS - person.user * 10
    one.run(OPENS + 20 * SECOND)
    windows = admitted_in(people, seconds=5, begin=held - SECOND, end=OPENS + 20 * SECOND)
    assert (max(windows) <= 1.08 * 5 * 100) is not bool(guard), windows
