"""The one subscription of a process, with a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio.client import PubSub

from notifications.live import publish
from notifications.sockets import Frame, Message
from notifications.subscription import Subscription

PATIENCE = 5  # seconds


class Listener:
    """A visit that notes what it is told."""

    private = True

    def __init__(self) -> None:
        self.told: asyncio.Queue[Frame | None] = asyncio.Queue()

    def identify(self, user_id: int) -> None:
        """Known already."""

    def forget(self) -> None:
        """Nothing."""

    def hear(self, frame: Frame, message: Message) -> None:  # noqa: ARG002 - the contract's
        self.told.put_nowait(frame)

    def resume(self) -> None:
        self.told.put_nowait(None)

    def leave(self) -> None:
        """Nothing."""


def test_whatever_breaks_it_it_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    words, failing = Subscription._words, [RuntimeError("unforeseen"), ConnectionError()]

    async def broken(self: Subscription, channel: PubSub) -> AsyncIterator[dict[str, Any]]:
        if failing:
            raise failing.pop()
        async for word in words(self, channel):
            yield word

    async def listen() -> list[Frame | None]:
        subscription, listener = Subscription(), Listener()
        subscription.add(7, listener)
        told = [await asyncio.wait_for(listener.told.get(), PATIENCE)]
        await asyncio.to_thread(publish, [(7, {"type": "notification"}), (8, {"type": "another's"})])
        told.append(await asyncio.wait_for(listener.told.get(), PATIENCE))
        subscription.remove(7, listener)
        return told

    monkeypatch.setattr(Subscription, "_words", broken)
    assert asyncio.run(listen()) == [None, {"type": "notification"}]
