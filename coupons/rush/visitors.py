"""The visitors of a waiting room: most wait as they are told to, the others do what people do.

They know only the API, as all of the crowd: where to come again is what `poll_after_ms` said.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from coupons.rush.client import TRY_AGAIN, Crowd, Customer
from coupons.rush.history import Exchange, Kind

TABS = 3


class Role(StrEnum):
    """What a visitor does."""

    PATIENT = "patient"
    LEAVING = "leave"  # half of them come back, to the end of the line
    CLOSING = "close the tab"
    BACK_IN_TIME = "back within the grace"
    BACK_LATE = "back too late"
    HASTY = "hasty"
    MANY_TABS = "many tabs"
    PUSHING = "claim before their turn"
    OUTSIDE = "claim without a ticket"


SHARES = {  # of a hundred
    Role.PATIENT: 66,
    Role.LEAVING: 5,
    Role.CLOSING: 6,
    Role.BACK_IN_TIME: 4,
    Role.BACK_LATE: 3,
    Role.HASTY: 3,
    Role.MANY_TABS: 4,
    Role.PUSHING: 4,
    Role.OUTSIDE: 5,
}
LETS_IT_RUN_OUT, ASKS_TWICE = 0.03, 0.1  # of those with a pass


@dataclass(kw_only=True, eq=False)
class Visitors(Crowd):
    """N customers who queue for one event. `run` once; it ends when all are through, or after `patience` seconds.

    Where `in_line` is given, at most so many are there at once, and the next come as these go. `grace` is the event's,
    in seconds. `seed` decides who does what, by `shares`, too.
    """

    grace: float
    patience: float
    in_line: int | None = None
    shares: Mapping[Role, int] = field(default_factory=lambda: SHARES)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._queue = self._event_url / "queue"
        number = len(self._order)
        self._roles = self._random.choices(list(self.shares), list(self.shares.values()), k=number)
        self._room = asyncio.Semaphore(self.in_line or number)
        self.tally["requests"] = number

    async def _play(self) -> None:
        try:
            async with asyncio.timeout(self.patience), asyncio.TaskGroup() as group:
                for (customer, arrival), role in zip(self._arrivals(), self._roles, strict=True):
                    group.create_task(self._come(customer, role, arrival))
        except TimeoutError:
            self.tally["still there at the end"] = self.tally["requests"] - self.tally["done"]

    async def _come(self, customer: Customer, role: Role, arrival: float) -> None:
        await asyncio.sleep(arrival)
        async with self._room:
            match role:
                case Role.MANY_TABS:
                    async with asyncio.TaskGroup() as tabs:
                        for number in range(TABS):
                            tabs.create_task(self._wait_and_claim(customer, tab=number))
                case Role.OUTSIDE:
                    await self._think()
                    await self._claim(customer, self._key(customer))
                case Role.PATIENT:
                    await self._wait_and_claim(customer)
                case _:
                    told = await self._wait(customer, "join", visits=self._random.randint(1, self.manners.looks))
                    if told.ticket and told.ticket.status == "waiting":
                        await self._misbehave(customer, role, told)
                    else:
                        await self._use_pass(customer, told)
        self.tally["done"] += 1

    async def _misbehave(self, customer: Customer, role: Role, told: Exchange) -> None:
        """What those do who do not wait patiently, from when they have been told so far."""
        eta = told.ticket.eta_seconds or 0 if told.ticket else 0
        match role:
            case Role.LEAVING:
                await self._visit(customer, "leave")
                if self._random.random() < 0.5:  # noqa: PLR2004 - half of them
                    await asyncio.sleep(self.manners.away)
                    await self._wait_and_claim(customer)
            case Role.BACK_IN_TIME:
                await self._be_away(customer, eta + self.grace / 2)
            case Role.BACK_LATE:
                await self._be_away(customer, 1.5 * eta + self.grace + self.manners.away)
            case Role.PUSHING:
                await self._claim(customer, f"{self._key(customer)}-early")
                await self._wait_and_claim(customer)
            case Role.HASTY:
                while told.ticket is None or told.ticket.status == "waiting":
                    await asyncio.sleep(self.manners.hasty)
                    told = await self._visit(customer, "ask")
                    if told.status not in (*TRY_AGAIN, 200):
                        return
                await self._use_pass(customer, told)

    async def _be_away(self, customer: Customer, seconds: float) -> None:
        """Close the tab, and open it again later. Who has lost the place by then queues anew."""
        await self._stay_away(seconds)
        told = await self._wait(customer, "ask")
        if told.code == "not_found":
            told = await self._wait(customer, "join")
        await self._use_pass(customer, told)

    async def _stay_away(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _wait_and_claim(self, customer: Customer, *, tab: int = 0) -> None:
        """Until there is a claim, or a refusal that is final. Who has lost the place, or the pass, queues anew."""
        while True:
            told = await self._wait(customer, "join")
            had_place = told.kind == "ask"
            if (told.code != "not_found" or not had_place) and await self._use_pass(customer, told, tab=tab):
                return

    async def _wait(self, customer: Customer, kind: Kind, *, visits: int | None = None) -> Exchange:
        """Come as told until there is a pass, or a refusal that is final, or `visits` are made; the last answer."""
        made = failed = 0
        while True:
            told, retry_after = await self._ask(customer, kind, self._queue)
            if told.status in TRY_AGAIN:
                failed += 1
                await asyncio.sleep(self._pause(failed, retry_after))
                continue
            made, failed = made + 1, 0
            if told.ticket is None or told.ticket.status == "admitted" or made == visits:
                return told
            kind = "ask"
            await asyncio.sleep(told.ticket.poll_after_ms / 1000)

    async def _use_pass(self, customer: Customer, told: Exchange, *, tab: int = 0) -> bool:
        """With a pass, claim, each tab under a key of its own; or let it run out, and claim then.

        False where the pass was good, and is gone all the same.
        """
        if told.ticket is None or told.ticket.status != "admitted":
            self.tally[told.code or "refused"] += 1
            return True
        self.tally["admitted"] += 1
        fate = self._random.random()
        if fate < LETS_IT_RUN_OUT:
            while told.ticket is not None:
                await asyncio.sleep(told.ticket.poll_after_ms / 1000)
                told = await self._visit(customer, "ask")
        else:
            await self._think()
        key = f"{self._key(customer)}-{tab}" if tab else self._key(customer)
        claimed = await self._claim(customer, key)
        if fate > 1 - ASKS_TWICE:
            await self._think()
            await self._claim(customer, key)
        return claimed.code != "not_admitted" or fate < LETS_IT_RUN_OUT

    async def _think(self) -> None:
        await asyncio.sleep(self._random.uniform(0, self.manners.think))

    async def _visit(self, customer: Customer, kind: Kind) -> Exchange:
        told, _ = await self._ask(customer, kind, self._queue)
        return told
