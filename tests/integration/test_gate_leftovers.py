"""What requests leave behind in the gate: nothing that the garbage collector must come for.

Its collections stop everybody, for tens of milliseconds where a rush has left it enough to do.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from django.conf import settings

from config.gate import Gate
from coupons.strategies import lua_async
from events.catalogue import catalogue
from events.errors import Refusal, SoldOut
from events.models import Event
from events.redis import servers
from tests.api_kit import forge
from tests.factories import make_users
from tests.outages import stock_at

CLAIMS = 100


async def nobody(*_: Any) -> Any:
    pytest.fail("it is for the gate")


async def claim(gate: Gate, event_id: int, user_id: int) -> int:
    """The status of the answer to a claim."""
    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {forge(user_id=user_id)}".encode())]
    path = f"/api/v1/events/{event_id}/claims"
    await gate({"type": "http", "method": "POST", "path": path, "headers": headers}, nobody, send)
    return statuses[0]


def left_by(claims: Callable[[Gate], Awaitable[None]]) -> int:
    """How many objects only the garbage collector could free. The first claim is not counted: it connects."""

    async def scenario() -> int:
        gate = Gate(nobody)
        await claims(gate)
        gc.collect()
        gc.disable()
        try:
            await claims(gate)
            return gc.collect()
        finally:
            gc.enable()
            client = servers.hot()._loop_client
            assert client is not None
            client.close()

    with stock_at(settings.STOCK_REDIS_URL):
        return asyncio.run(scenario())


@pytest.mark.parametrize(("quantity", "statuses"), [(10 * CLAIMS, {202}), (1, {202, 409})])
def test_a_claim_leaves_nothing_whatever_it_is_told(
    sale: Callable[..., Event], transactional_db: None, quantity: int, statuses: set[int]
) -> None:
    event, users, told = sale(quantity=quantity), iter(make_users(3 * CLAIMS)), Counter[int]()
    catalogue.get(event.id)

    async def claims(gate: Gate) -> None:
        told.update(await asyncio.gather(*(claim(gate, event.id, next(users)) for _ in range(CLAIMS))))

    assert left_by(claims) < CLAIMS, "less than one a claim"
    assert set(told) == statuses


def test_a_refusal_that_is_raised_goes_with_who_is_told() -> None:
    def refuse() -> None:
        with suppress(SoldOut):
            lua_async.unless_refused(SoldOut())

    assert left_after(refuse) < CLAIMS


def test_without_that_care_it_stays() -> None:
    def careless(told: Refusal) -> None:
        raise told

    def refuse() -> None:
        with suppress(SoldOut):
            careless(SoldOut())

    assert left_after(refuse) >= CLAIMS


def left_after(often: Callable[[], None]) -> int:
    gc.collect()
    gc.disable()
    try:
        for _ in range(CLAIMS):
            often()
        return gc.collect()
    finally:
        gc.enable()
