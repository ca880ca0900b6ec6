"""What the ways of the database share: look, take a unit, write the coupon, all in one transaction, and look again."""

import random
import time
from abc import abstractmethod
from contextlib import AbstractContextManager

from coupons import direct, metrics
from coupons.direct import Overtaken, Sale
from coupons.selectors import ClaimView
from coupons.strategies.base import ClaimResult, Strategy
from events.catalogue import KnownEvent
from events.errors import Unavailable
from events.models import Event

TRIES = 8
PATIENCE = 0.3  # seconds that a claim waits for a place among the few
PAUSE = 0.001  # seconds after the first try that was overtaken, about; after each further one twice as long


class DatabaseStrategy(Strategy):
    """A claim is one transaction in PostgreSQL and nothing else. How the unit is taken is what makes the difference."""

    def claim(self, event: KnownEvent, user_id: int, request: str) -> ClaimResult:
        """As in the contract."""
        return self._claim(event, user_id, request, 1)

    def _claim(self, event: KnownEvent, user_id: int, request: str, quantity: int) -> ClaimResult:
        for attempt in range(1, TRIES + 1):
            # Most come too late: they are told so without a lock, or one of the few places to write.
            with direct.glance(patience=PATIENCE):
                found = direct.look(Event.objects.all(), event.id, user_id, request, quantity)
            if isinstance(found, ClaimView):
                return ClaimResult(found, "repeated")
            try:
                with self.place():
                    claim = self.issue(found, user_id, request)
            except Overtaken:
                time.sleep(random.uniform(0, PAUSE * 2**attempt))  # noqa: S311 - so that they do not meet again
                continue
            (metrics.HELD if claim.status == "held" else metrics.ISSUED).inc(quantity)
            return ClaimResult(claim, "accepted")
        raise Unavailable

    def place(self) -> AbstractContextManager[None]:
        """One of the few to write, as `direct.slot` gives them."""
        return direct.slot(patience=PATIENCE)

    @abstractmethod
    def issue(self, sale: Sale, user_id: int, request: str) -> ClaimView:
        """Take a unit and write its coupon.

        Raises `Overtaken` where the sale is not as the look found it any more, or the `Refusal` that says why not.
        """
