"""What people do with a hold: they pay, change their minds, have a card refused, or forget to pay."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from coupons.rush.client import TRY_AGAIN, Crowd, Customer
from coupons.rush.history import Kind


class End(Enum):
    """What becomes of a hold."""

    PAY = "pay"
    CANCEL = "cancel"
    CARD_REFUSED = "card refused"
    PAY_TOO_LATE = "pay too late"


SHARES = {End.PAY: 55, End.CANCEL: 15, End.CARD_REFUSED: 15, End.PAY_TOO_LATE: 15}  # of a hundred holds


@dataclass(kw_only=True, eq=False)
class Paying(Crowd):
    """Customers whose claims are held for `hold_seconds`, and the merchant's backend, which confirms what is paid."""

    merchant: Customer
    hold_seconds: float
    quantity: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self._decided: set[str] = set()
        self._all_gone = asyncio.Event()

    def resized(self, quantity: int) -> None:
        """Hear, in whichever thread, that the sale has another quantity from now on."""
        self.quantity = quantity
        self._all_gone.clear()

    async def _hold(self, customer: Customer, claim_id: str) -> None:
        """Decide once what becomes of a hold, think, and have it done."""
        if claim_id in self._decided:
            return
        self._decided.add(claim_id)
        (end,) = self._random.choices(list(SHARES), list(SHARES.values()))
        url = self._event_url / "claims" / claim_id
        await asyncio.sleep(self._random.uniform(0, min(self.manners.think, self.hold_seconds / 3)))
        match end:
            case End.PAY:
                await self._settle(customer, "confirm", claim_id)
            case End.CANCEL:
                await self._ask(customer, "cancel", url / "cancel")
            case End.CARD_REFUSED:
                body = {"reason": "payment_failed"}
                await self._ask(customer, "cancel", url / "cancel", body=body, by=self.merchant)
            case End.PAY_TOO_LATE:
                await asyncio.sleep(self.hold_seconds)
                await self._settle(customer, "confirm", claim_id)

    async def _settle(self, customer: Customer, kind: Kind, claim_id: str) -> None:
        """Have the backend confirm, as often as it takes to be answered: it has the money."""
        for attempt in range(1, self.manners.tries + 1):
            url = self._event_url / "claims" / claim_id / kind
            exchange, retry_after = await self._ask(customer, kind, url, attempt=attempt, by=self.merchant)
            if exchange.status not in TRY_AGAIN:
                break
            await asyncio.sleep(self._pause(attempt, retry_after))

    def _ended(self, state: str) -> None:
        self.tally[f"hold {state}"] += 1
        if self.tally["hold issued"] >= self.quantity:
            self._all_gone.set()

    async def _wait_until_gone(self, seconds: float) -> None:
        """Wait until every unit is confirmed, or so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_gone.wait(), seconds)
