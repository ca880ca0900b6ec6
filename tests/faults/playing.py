"""Playing a scenario: the load, the faults at their moments, the healing, the wait, the verdict."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from operator import itemgetter
from random import Random
from typing import Any

from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken

from coupons.rush import evidence, report
from coupons.rush.buyers import Buyers, BuyersInLine
from coupons.rush.checker import Verdict, check
from coupons.rush.client import Crowd, Customer, Manners, Rush, clock
from coupons.rush.history import BILLION, SERVER_ERROR, History
from coupons.rush.holds import check_holds, check_returns
from coupons.rush.room import check_room
from coupons.rush.visitors import Visitors
from events import services
from events.errors import InvalidChange
from events.models import Event
from tests.factories import make_event, make_user
from tests.faults.faults import Scene
from tests.faults.scenarios import Scenario
from tests.faults.system import System

MANNERS = Manners(timeout=5.0, tries=12, backoff_max=2.0, poll_max=1.0)
BUYERS = replace(MANNERS, again=2.0)
BUYERS_IN_LINE = replace(MANNERS, think=0.5)
REFUSED_WITHIN = 1.0  # seconds: P8
ENDS_WITHIN = 30.0  # seconds after the load in which all claims must have ended
LOAD_WITHIN = 180.0  # seconds: all tries of the last user, and then some
PATIENCE = 60.0  # seconds in which every unit of a sale with holds should have been paid
AT_ONCE = 40  # visits to a waiting room under way, and as many claims: there are many more of them than claims alone
# The share of the load's time in which faults begin.
BEGINS = (0.15, 0.45)


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a scenario. Times in seconds."""

    scenario: Scenario
    seed: int
    faults: Sequence[dict[str, Any]]  # which, when it began, how long it was to last
    ended: Sequence[str]  # parts that had ended by themselves
    issued: int
    unsold: int  # units
    outages: int  # how often the sale moved to the database, and came back
    unserved: float  # the longest time in which no claim request was answered but by a 5xx
    first_coupon: float | None  # from the healing until the drain had issued the next coupon, if there was any left
    toll: report.Toll
    verdicts: Sequence[Verdict]

    @property
    def broken(self) -> list[str]:
        """The promises that were."""
        return [one.promise for one in self.verdicts if not one.kept]

    @property
    def kept(self) -> bool:
        """Whether all promises were kept, as much was sold as should be, and the sale was where it should have been."""
        wanted = self.scenario
        sold = self.issued >= wanted.least and not (wanted.sells_out and self.unsold)
        return not self.broken and sold and self.outages >= wanted.outages

    def told(self) -> str:
        """All verdicts, for a test that fails."""
        lines = [f"{self.scenario.name} (seed {self.seed})", *(str(one) for one in self.faults)]
        lines += [f"{'✔' if one.kept else '✘'} {one.promise} {one.text}" for one in self.verdicts]
        lines += [str(self.toll), f"moved to the database and back: {self.outages} times"]
        return "\n".join([*lines, f"ended by themselves: {', '.join(self.ended) or 'none'}"])

    def as_row(self) -> dict[str, Any]:
        """As a row of the table."""
        numbers = {one.promise: one.numbers for one in self.verdicts}
        return {
            "fault": self.scenario.name,
            "seed": self.seed,
            "load": str(self.scenario.load),
            "faults": list(self.faults),
            "issued": self.issued,
            "unserved": self.unserved,
            "first_coupon": self.first_coupon,
            **asdict(self.toll),
            "refusals_p99_ms": numbers.get("P8", {}).get("p99_ms"),
            "unavailable_p99_ms": numbers.get("P8", {}).get("unavailable_p99_ms"),
            "broken": self.broken,
            "ended": list(self.ended),
        }


def play(system: System, scenario: Scenario, *, seed: int, refused_within: float = REFUSED_WITHIN) -> Played:
    """Play it. The system is whole before and afterwards; the sale is closed. `refused_within`: P8, in seconds."""
    random = Random(f"{seed} {scenario.name}")
    history = History()
    event = _sale(scenario)
    before = evidence.before(event.id)
    crowd = _crowd(system, scenario, event, history, seed)
    with ThreadPoolExecutor(1) as threads:
        load_under_way = threads.submit(asyncio.run, crowd.run(follow_for=ENDS_WITHIN))
        try:
            faults = _break(Scene(system, event.id, crowd, random), scenario, random)
        finally:
            healed_ns, healed_at = clock(), timezone.now()
            ended = system.heal()
        load_under_way.result(LOAD_WITHIN)
    evidence.wait_until_drained(event.id, seconds=ENDS_WITHIN)
    database = evidence.read(event.id, before=before)
    verdicts = check(history, database, refused_within=refused_within if scenario.quick else None)
    room = evidence.room(event.id, before=before) if scenario.room else None
    if room:
        verdicts += check_room(history, room)
    if scenario.hold_seconds:
        verdicts.append(check_holds(history, database))
    if room and scenario.hold_seconds:
        verdicts.append(check_returns(history, database, room))
    with suppress(InvalidChange):  # an operator has closed it in the middle
        services.close(event_id=event.id)
    first = evidence.first_issued_at(event.id, since=healed_at)
    return Played(
        scenario=scenario,
        seed=seed,
        faults=faults,
        ended=ended,
        issued=len(database.coupons),
        unsold=database.quantity - len(database.coupons),
        outages=evidence.outages(event.id),
        unserved=_unserved(history),
        first_coupon=(first - healed_at).total_seconds() if first else None,
        toll=report.toll(history, verdicts, healed_ns=healed_ns),
        verdicts=verdicts,
    )


def _crowd(system: System, scenario: Scenario, event: Event, history: History, seed: int) -> Crowd:
    """Who comes."""
    load, room = scenario.load, scenario.room
    about: dict[str, Any] = {
        "url": system.url,
        "event_id": event.id,
        "customers": system.customers(load.users),
        "history": history,
        "seed": seed,
        "over": load.over,
        "manners": MANNERS,
    }
    if room:
        about |= {"grace": event.grace, "patience": room.patience, "shares": room.shares, "concurrency": AT_ONCE}
    if scenario.hold_seconds:
        merchant = make_user(is_superuser=True, is_staff=True)
        about |= {"merchant": Customer(merchant.pk, str(AccessToken.for_user(merchant)))}
        about |= {"hold_seconds": scenario.hold_seconds, "quantity": load.coupons}
        if room:
            return BuyersInLine(**about | {"manners": BUYERS_IN_LINE})
        return Buyers(**about | {"manners": BUYERS}, patience=PATIENCE)
    if room:
        return Visitors(**about)
    return Rush(**about, duplicates=load.double_clicks)


def _unserved(history: History) -> float:
    served = (one for one in history if one.kind == "claim" and one.status and one.status < SERVER_ERROR)
    moments = sorted(one.answered_ns for one in served)
    return max((later - earlier for earlier, later in pairwise(moments)), default=0) / BILLION


def _sale(scenario: Scenario) -> Event:
    now = timezone.now()
    event = make_event(
        quantity=scenario.load.coupons,
        opens_at=now + timedelta(seconds=scenario.opens_in),
        closes_at=now + timedelta(seconds=scenario.closes_in),
        redis_lost_after=scenario.redis_lost_after,
        hold_seconds=scenario.hold_seconds,
        **(scenario.room.terms if scenario.room else {}),
    )
    return services.publish(event_id=event.id)


def _break(scene: Scene, scenario: Scenario, random: Random) -> list[dict[str, Any]]:
    """Have each fault begin and end at its moment; which those were, in seconds after the beginning of the load."""
    with ExitStack() as all_faults:
        moments: list[tuple[float, Callable[[], object]]] = []
        told = []
        for fault in scenario.faults:
            begins = scenario.load.over * random.uniform(*BEGINS)
            ends = begins + random.uniform(*fault.lasts)
            # One that is under way when another fails is healed with it.
            under_way = all_faults.enter_context(ExitStack())
            moments.append((begins, partial(under_way.enter_context, fault.breaking(scene))))
            moments.append((ends, under_way.close))
            told.append({"fault": fault.name, "begins": round(begins, 2), "ends": round(ends, 2)})
        started = time.monotonic()
        for moment, act in sorted(moments, key=itemgetter(0)):
            time.sleep(max(0.0, started + moment - time.monotonic()))
            act()
    return told
