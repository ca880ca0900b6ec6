"""Where an event stands, as one small document: the same for everyone, made from the process's memory.

It is written a few times a second at most, however many ask for it in between.
"""

import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from django.utils import timezone

from events.answers import Answer, dumps
from events.catalogue import KnownEvent, catalogue
from events.errors import EventNotFound
from events.waiting_room import public

CACHE_CONTROL = "public, max-age=1"
FRESH_MS = 1000  # as `max-age` says: who has a document of this age has the right one, if nothing has changed
LIVES = 0.2  # seconds that a document is given out; less, where the phase changes within them

_TAG = re.compile(r'"([0-9a-f]{16})-([0-9]{13})"')


@dataclass(frozen=True, slots=True)
class Document:
    """The state of an event at a moment, written."""

    answer: Answer
    event: KnownEvent
    digest: str  # of all but the moment
    server_ms: int
    good_until: float  # by the monotonic clock


_documents: dict[int, Document] = {}


def state(event_id: int, *, if_none_match: str | None = None) -> Answer:
    """The state, or 304 for who has it already; `EventNotFound` for a draft or an unknown one."""
    event = catalogue.get(event_id)
    if event is None:
        raise EventNotFound
    return state_of(event, if_none_match=if_none_match)


def state_of(event: KnownEvent, *, if_none_match: str | None = None) -> Answer:
    """`state` of an event that is known."""
    document = document_of(event)
    if if_none_match and _has_it(if_none_match, document):
        return Answer(304, headers=document.answer.headers)
    return document.answer


def document_of(event: KnownEvent) -> Document:
    """Where it stands, as it was written within the last `LIVES` seconds."""
    document = _documents.get(event.id)
    if document is None or document.event is not event or document.good_until <= time.monotonic():
        document = _documents[event.id] = _write(event)
    return document


def _write(event: KnownEvent) -> Document:
    started, now = time.monotonic(), timezone.now()
    told: dict[str, Any] = {
        "event_id": event.id,
        "phase": event.phase(now),
        "opens_at": event.opens_at,
        "closes_at": event.closes_at,
        "quantity": event.quantity,
        "remaining": event.remaining,
        "waiting_room": event.waiting_room,
    }
    if event.waiting_room:
        told["queue"] = public.queue(event, now)
    server_ms = int(now.timestamp() * 1000)  # not rounded: it would be past a moment that is still to come
    digest = blake2b(dumps(told), digest_size=8).hexdigest()
    headers = {"Cache-Control": CACHE_CONTROL, "ETag": f'"{digest}-{server_ms}"'}
    answer = Answer(200, dumps({**told, "server_time": server_ms}), headers)
    return Document(answer, event, digest, server_ms, started + _lives(event, now))


def _lives(event: KnownEvent, now: datetime) -> float:
    """Seconds until it must be written anew: the phase changes with the clock, not only with a reading."""
    ahead = [(moment - now) / timedelta(seconds=1) for moment in (event.opens_at, event.closes_at) if moment > now]
    return min(LIVES, *ahead) if ahead else LIVES


def _has_it(if_none_match: str, document: Document) -> bool:
    """Whether one of the tags sent is of a document that says the same and is fresh still.

    A tag bears the moment of its document, for a cache that was told of no change for an hour would go on giving out
    the `server_time` of an hour ago.
    """
    return if_none_match.strip() == "*" or any(
        digest == document.digest and abs(document.server_ms - int(moment)) < FRESH_MS
        for digest, moment in _TAG.findall(if_none_match)
    )
