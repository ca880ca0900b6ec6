"""The people of a sale with holds, who come straight to it or queue for it first.

As long as units may come back there is something to wait for: the rush is over when every unit is confirmed, or when
patience is.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from coupons.rush.client import Customer
from coupons.rush.paying import Paying
from coupons.rush.visitors import Visitors

COME_AGAIN = ("sold_out", "paused")  # units may come back, and so may the sale


@dataclass(kw_only=True, eq=False)
class Buyers(Paying):
    """N customers who rush one event with holds.

    Who is told that all is gone, or of a pause, asks again, and so does whoever's hold has ended.
    """

    patience: float  # seconds

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tally["requests"] = len(self.customers)

    async def _play(self) -> None:
        with suppress(TimeoutError):  # whether something should have ended by then is the checker's to say
            async with asyncio.timeout(self.patience), asyncio.TaskGroup() as rush:
                for customer, arrival in self._arrivals():
                    rush.create_task(self._come(customer, arrival))

    async def _come(self, customer: Customer, arrival: float) -> None:
        await asyncio.sleep(arrival)
        turn = 0
        while self.tally["hold issued"] < self.quantity:
            turn += 1
            exchange = await self._claim(customer, f"{self._name}-{customer.user_id}-{turn}")
            if exchange.claim_id:
                if await asyncio.shield(self._following[exchange.claim_id]) == "issued":
                    break
            elif exchange.code in COME_AGAIN:
                await self._wait_until_gone(self._random.uniform(0.5, 1.5) * self.manners.again)
            else:
                break
        self.tally["done"] += 1


@dataclass(kw_only=True, eq=False)
class BuyersInLine(Paying, Visitors):
    """N customers who queue for one event with holds. The room tells them when all is gone for good.

    Whoever's hold has ended is through, whether or not it was paid. Who is away comes back when all is gone, if not
    before: what they were told of their turn is a guess where nobody knows who pays.
    """

    async def _stay_away(self, seconds: float) -> None:
        await self._wait_until_gone(seconds)
