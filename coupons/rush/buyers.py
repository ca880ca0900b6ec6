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

    quantity: int
    patience: float  # seconds

    def __post_init__(self) -> None:
        super().__post_init__()
        self._all_gone = asyncio.Event()
        self.tally["requests"] = len(self.customers)

    def resized(self, quantity: int) -> None:
        """Hear, in whichever thread, that the sale has another quantity from now on."""
        self.quantity = quantity
        self._all_gone.clear()

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
                await self._wait_for_more()
            else:
                break
        self.tally["done"] += 1

    async def _wait_for_more(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_gone.wait(), self._random.uniform(0.5, 1.5) * self.manners.again)

    def _ended(self, state: str) -> None:
        super()._ended(state)
        if self.tally["hold issued"] >= self.quantity:
            self._all_gone.set()


@dataclass(kw_only=True, eq=False)
class BuyersInLine(Paying, Visitors):
    """N customers who queue for one event with holds. The room tells them when all is gone for good.

    Whoever's hold has ended is through, whether or not it was paid.
    """
