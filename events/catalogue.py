"""The events in process memory, so that a claim or a look at the state costs no query.

A background thread reads all current events and their stock twice a second while anybody asks, one query and one
round trip to Redis. Where a source is down the last reading stays: a sale goes on without PostgreSQL, and the scripts
in Redis check everything that matters once more.
"""

import math
import os
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone
from redis.exceptions import RedisError

from events import stock
from events.errors import Unavailable
from events.models import DATABASE_WAYS, LOG_WAYS, SCRIPT_WAYS, Event, Phase, phase_at
from events.waiting_room.records import Numbers
from events.waiting_room.store import hot_room_store

log = structlog.get_logger(__name__)

FIELDS = (
    "id",
    "title",
    "benefit",
    "epoch",
    "status",
    "opens_at",
    "closes_at",
    "quantity",
    "issued",
    "held",
    "hold_seconds",
    "per_user_limit",
    "stock_mode",
    "strategy",
    "redis_lost_after",
    "waiting_room",
    "entry_order",
    "admission_rate",
    "max_active",
    "pass_ttl",
    "grace",
    "seed",
)


@dataclass(frozen=True, slots=True)
class KnownEvent:
    """What a process knows of an event without asking anybody. `remaining` is None where the stock is unknown."""

    id: int
    title: str
    benefit: str
    epoch: int
    status: str
    opens_at: datetime
    closes_at: datetime
    quantity: int
    issued: int = 0
    held: int = 0  # of the issued ones
    hold_seconds: int = 0  # 0: no holds
    per_user_limit: int = 1
    stock_mode: str = Event.StockMode.REDIS
    strategy: str = Event.Strategy.LUA_ASYNC
    redis_lost_after: int = 10  # seconds
    waiting_room: bool = False
    entry_order: str = Event.EntryOrder.FIFO
    admission_rate: int = 50  # people a second
    max_active: int = 500  # passes
    pass_ttl: int = 120  # seconds
    grace: int = 120  # seconds
    seed: str = field(default="", repr=False)
    remaining: int | None = None
    numbers: Numbers | None = None  # of the waiting room; None where there is none, or nobody knows
    heard_at: float = 0.0  # when this process first heard of the epoch, by the monotonic clock
    # Until when, in seconds since 1970, the script in Redis decides a claim, and it alone; 0 where it does not.
    by_script_until: float = field(init=False)

    def __post_init__(self) -> None:
        """Work out once what each claim asks for."""
        by_script = self.strategy == Event.Strategy.LUA_ASYNC and self.status != Event.Status.CLOSED
        until = self.closes_at.timestamp() if by_script and not self.sells_from_database else 0.0
        object.__setattr__(self, "by_script_until", until)

    @property
    def sells_from_database(self) -> bool:
        """Whether claims go past Redis."""
        return self.stock_mode == Event.StockMode.DATABASE

    @property
    def needs_redis(self) -> bool:
        """Whether claims meet Redis at all, as long as it is not lost."""
        return self.strategy not in DATABASE_WAYS

    @property
    def logs_claims(self) -> bool:
        """Whether claims may wait in Redis until they are issued."""
        return self.strategy in LOG_WAYS

    @property
    def counts_in_redis(self) -> bool:
        """Whether Redis says how many units are left, and the database only what is issued of them."""
        return self.strategy in SCRIPT_WAYS and not self.sells_from_database

    @property
    def may_return(self) -> bool:
        """Whether units may come back that are gone: not all are issued for good."""
        return self.hold_seconds > 0 and self.issued - self.held < self.quantity

    def is_over(self, now: datetime) -> bool:
        """Whether nobody can claim any more, now or ever."""
        return self.status == Event.Status.CLOSED or self.closes_at <= now

    def phase(self, now: datetime) -> Phase:
        """The phase at `now`."""
        return phase_at(
            status=self.status,
            opens_at=self.opens_at,
            closes_at=self.closes_at,
            now=now,
            remaining=None if self.waiting_room and self.may_return else self.remaining,
        )


KEEP = timedelta(days=1)  # so long after its end an event is read; an older one is looked up when asked for
UNDER_WAY = timedelta(minutes=1)  # so long after the end of a sale the last claims may be counted


class Catalogue:
    """The events a process knows. Readings are at most about `interval` seconds old while it is in use."""

    MISSES = 10_000

    def __init__(self, *, interval: float = 0.5, idle_after: float = 10.0) -> None:
        self.interval = interval
        self.idle_after = idle_after
        self._events: dict[int, KnownEvent] = {}
        self._misses: set[int] = set()
        self._readable = True  # whether the last reading reached the database
        self._asked_at = 0.0
        self._refreshing = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_reading = False  # whether the thread is at work
        self._stop = threading.Event()

    def get(self, event_id: int) -> KnownEvent | None:
        """The event, or None for a draft or an unknown one."""
        self._asked_at = time.monotonic()
        self._ensure_reading()
        event = self._events.get(event_id)
        if event is None and event_id not in self._misses:
            event = self._look_up(event_id)
        return event

    def stay(self) -> None:
        """Read on from now, whether or not anybody asks: a crowd that comes all at once must find everything here."""
        self.idle_after = math.inf
        self._ensure_reading()

    def at_hand(self, event_id: int) -> KnownEvent | None:
        """The event where memory has it, so that nobody is waited for; None: `get` must be asked."""
        self._asked_at = time.monotonic()
        return self._events.get(event_id) if self._is_reading else None

    def is_known_to_be_missing(self, event_id: int) -> bool:
        """Whether memory has it that there is no such event for visitors."""
        return event_id in self._misses and self._is_reading

    def refresh(self) -> None:
        """Read everything now. What cannot be read stays as it was."""
        with self._refreshing:
            try:
                events: dict[int, KnownEvent] = {row["id"]: self._heard(row) for row in self._rows()}
                self._readable = True
            except DatabaseError as error:
                log.warning("catalogue_without_database", error=type(error).__name__)
                events = dict(self._events)
                self._readable = False
            self._events = self._with_stock(events)
            self._misses = set()

    def clear(self) -> None:
        """Forget everything and end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        self._events, self._misses = {}, set()

    def _ensure_reading(self) -> None:
        if self._is_reading:
            return
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            # The first to ask after a pause reads for all who come with it; the thread takes over from there.
            self.refresh()
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._read_on, args=(self._stop,), name="catalogue", daemon=True)
            self._is_reading = True
            self._thread.start()

    def after_fork(self) -> None:
        """In a child the thread is not there."""
        self._is_reading = False

    def _read_on(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(self.interval) and time.monotonic() - self._asked_at < self.idle_after:
                try:
                    self.refresh()
                except Exception:  # the thread must outlive whatever a reading throws
                    log.exception("catalogue_not_read")
                finally:
                    connection.close()
        finally:
            self._is_reading = False
            connection.close()

    def _rows(self) -> list[dict[str, Any]]:
        with connection.cursor() as cursor:
            cursor.execute(*_reading())
            rows = [dict(zip(FIELDS, row, strict=True)) for row in cursor.fetchall()]
        now = timezone.now()
        uncounted = [row["id"] for row in rows if _may_be_uncounted(row, now)]
        counted = stock.keeper().count(uncounted) if uncounted else {}
        return [{**row, "issued": counted.get(row["id"], row["issued"])} for row in rows]

    def _look_up(self, event_id: int) -> KnownEvent | None:
        if not self._readable:
            raise Unavailable  # at once: the reading before has waited for the database already
        try:
            row = Event.objects.public().filter(pk=event_id).values(*FIELDS).first()
        except DatabaseError as error:
            raise Unavailable from error
        if row is None:
            if len(self._misses) < self.MISSES:
                self._misses.add(event_id)
            return None
        event = self._heard(row)
        self._events = {**self._events, event_id: event}
        return event

    def _heard(self, row: dict[str, Any]) -> KnownEvent:
        known = self._events.get(row["id"])
        if known is not None and known.epoch == row["epoch"]:
            return KnownEvent(**row, heard_at=known.heard_at)
        return KnownEvent(**row, heard_at=time.monotonic())

    def _with_stock(self, events: dict[int, KnownEvent]) -> dict[int, KnownEvent]:
        live = [event.id for event in events.values() if event.status != Event.Status.CLOSED]
        try:
            levels = stock.keeper().levels([event_id for event_id in live if events[event_id].counts_in_redis])
        except Unavailable:
            levels = {}
        rooms = self._numbers([event_id for event_id in live if events[event_id].waiting_room])
        for event_id in live:
            event, known, level = events[event_id], self._events.get(event_id), levels.get(event_id)
            if not event.counts_in_redis:
                remaining: int | None = event.quantity - event.issued
            elif level is not None and level.epoch:
                remaining = level.stock
            else:
                remaining = known.remaining if known else None
            numbers = rooms.get(event_id, known.numbers if known else None)
            events[event_id] = replace(event, remaining=remaining, numbers=numbers)
        return events

    @staticmethod
    def _numbers(event_ids: list[int]) -> dict[int, Numbers]:
        if not event_ids:
            return {}
        try:
            return hot_room_store().numbers(event_ids)
        except RedisError:
            return {}


@cache
def _reading() -> tuple[str, tuple[Any, ...]]:
    """The query for all rows, as SQL and its parameters.

    Made once: beside a rush the making took as long as the rest of a reading, and no claim was served meanwhile.
    """
    rows = Event.objects.public().filter(closes_at__gt=Now() - KEEP).values(*FIELDS)
    sql, parameters = rows.query.sql_with_params()
    return sql, parameters


def _may_be_uncounted(row: dict[str, Any], now: datetime) -> bool:
    """Whether there may be claims that `issued` does not have yet, of a sale whose claims leave it to others."""
    sells = row["status"] == Event.Status.PUBLISHED and now < row["closes_at"] + UNDER_WAY
    return bool(row["strategy"] == Event.Strategy.SKIP_LOCKED and sells and row["issued"] < row["quantity"])


catalogue = Catalogue()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=catalogue.after_fork)
