"""A crowd that comes before the process has heard of its event: it is looked up once for all."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.utils import timezone

from events.catalogue import Catalogue, KnownEvent
from events.errors import EventNotFound
from events.gate import Events, Threads

NOW = timezone.now()
EVENT = KnownEvent(7, "title", "benefit", 1, "published", NOW - timedelta(hours=1), NOW + timedelta(hours=1), 5)


def in_threads(function: Callable[..., Any], /, *arguments: Any) -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


@pytest.mark.parametrize("found", [EVENT, None])
def test_one_look_up_answers_all_who_wait_for_it(found: KnownEvent | None) -> None:
    events = Events(Threads(in_threads, in_threads))

    async def ask_fifty_times() -> list[KnownEvent | BaseException]:
        return await asyncio.gather(*(events.known(7) for _ in range(50)), return_exceptions=True)

    with patch("events.gate.catalogue", Catalogue()), patch.object(Catalogue, "get", return_value=found) as look_up:
        answers = asyncio.run(ask_fifty_times())
    assert look_up.call_count == 1
    assert answers == [EVENT] * 50 if found else {type(answer) for answer in answers} == {EventNotFound}
