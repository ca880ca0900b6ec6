"""What a user who looks at an event hears of their claims: how they stand, and what becomes of them.

A claim is told just as `GET …/claims/{claim_id}` answers it, by the same steps: from Redis for all who ask at the
moment, and from the database only what was issued longer ago.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from coupons import selectors
from coupons.api.serializers import claim_as_json
from coupons.gate import CouponEndpoints
from coupons.models import ClaimId
from coupons.stock.records import Standing
from events.answers import dumps
from events.catalogue import KnownEvent
from events.gate import Threads
from events.grouping import Grouped
from events.tokens import LAST_LANE
from notifications.models import Notification
from notifications.sockets import Frame

CHANGES = {Notification.Kind.COUPON_ISSUED, Notification.Kind.CLAIM_REJECTED, Notification.Kind.CLAIM_HELD}


@dataclass(slots=True)
class Question:
    """A poll of a claim, as the endpoint takes it."""

    event_id: int
    argument: str
    user_id: int
    lane: int = LAST_LANE
    body: Mapping[str, Any] = field(default_factory=dict)

    def header(self, name: bytes) -> None:
        """None."""


class ClaimPart:
    """The claims in what a user hears of an event."""

    def __init__(self, endpoints: CouponEndpoints, threads: Threads) -> None:
        self._endpoints = endpoints
        self._threads = threads
        self._standings: Grouped[tuple[int, None], Standing | None] = Grouped(
            threads.asking_redis(selectors.standings, selectors.astandings),
            at_most=settings.GATE_GROUP,
            waiting=settings.GATE_WAITING,
        )

    async def now(self, event: KnownEvent, user_id: int) -> Sequence[bytes]:
        """All that the user has here, the newest last."""
        if event.sells_from_database or not event.logs_claims:
            views = await self._threads.database(_claims_of, event.id, user_id)
            return [_frame(dumps(claim_as_json(view))) for view in views]
        standing = await self._standings.ask(event.id, (user_id, None))
        held = standing.held if standing is not None else []
        named = sorted({ClaimId(event.id, one.epoch, one.first) for one in held})
        return [await self._claim(event, user_id, str(name)) for name in named]

    async def after(self, event: KnownEvent, user_id: int, frame: Frame) -> Sequence[bytes]:
        """The claim that a notification is about."""
        told = frame.get("notification")
        if told is None or told["kind"] not in CHANGES:
            return []
        return [await self._claim(event, user_id, told["data"]["claim_id"])]

    async def _claim(self, event: KnownEvent, user_id: int, name: str) -> bytes:
        answer = await self._endpoints.claim_of(Question(event.id, name, user_id))
        return _frame(answer.body)


def _claims_of(event_id: int, user_id: int) -> list[selectors.ClaimView]:
    return selectors.claims_of(event_id=event_id, user_id=user_id)[::-1]


def _frame(claim: bytes) -> bytes:
    return b'{"type":"claim",' + claim[1:]
