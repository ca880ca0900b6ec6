"""The users of a rush: each claims over HTTP, retries as a phone would, and follows its claim to the end.

A `Crowd` can do all that; what its people do, and when, is said by what it is: here a `Rush`, in `visitors` people who
queue in a waiting room.

One asyncio loop with kept-alive connections. It knows only the API: what it sees goes into the history, and nothing
here judges it.
"""

import asyncio
import random
import secrets
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson
from yarl import URL

from coupons.rush.history import Exchange, History, Kind, Ticket

# Answers after which a phone asks again; None is a time-out or a broken connection. All others are final, a 500
# included: asking a broken server once more would only hide it.
TRY_AGAIN = (None, 429, 502, 503, 504)
ENDED = ("issued", "rejected")
METHODS: dict[Kind, str] = {"claim": "POST", "poll": "GET", "join": "POST", "ask": "GET", "leave": "DELETE"}
METHODS |= {"confirm": "POST", "cancel": "POST"}

clock = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class Customer:
    """A signed-in user."""

    user_id: int
    token: str
    lane: int = 1  # of a waiting room, as the token has it

    @property
    def headers(self) -> dict[str, str]:
        """Of each of their requests."""
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True, slots=True)
class Manners:
    """How a phone behaves. Times in seconds."""

    timeout: float = 5.0  # for one answer
    tries: int = 10  # of one request, the first included
    backoff: float = 0.2  # before the second try, doubled for each further one
    backoff_max: float = 5.0
    poll: float = 0.3  # before the first look at a claim, half as long again for each further one
    poll_max: float = 3.0
    think: float = 2.0  # at most, before doing what can be done
    away: float = 3.0  # from leaving a waiting room to joining again: it wants two
    looks: int = 4  # at most, at a place in line as told, before doing anything else
    hasty: float = 0.3  # between two questions of who does not wait as told to
    again: float = 0.5  # about, from being told that all is held to asking again


@dataclass(kw_only=True, eq=False)
class Crowd(ABC):
    """Customers of one event. `run` once; `tally` counts how far it is.

    They come evenly over the seconds of `over`, all at once where it is 0, in an order that `seed` decides. At most
    `concurrency` claim requests are under way at once, and as many visits to a waiting room.
    """

    url: str
    event_id: int
    customers: Sequence[Customer]
    history: History
    concurrency: int = 200
    seed: int = 1
    over: float = 0
    manners: Manners = field(default_factory=Manners)

    def __post_init__(self) -> None:
        self._event_url = URL(f"{self.url.rstrip('/')}/api/v1/events/{self.event_id}")
        self._random = random.Random(self.seed)  # noqa: S311 - what can be had again, not a secret
        self._order = self._random.sample(list(self.customers), len(self.customers))
        # The keys are new in each rush: an old one would get the answer of the rush before.
        self._name = secrets.token_hex(6)
        # Polls and visits have places of their own: following what is accepted must not hold up the rush, nor the
        # reverse.
        few, visits = max(1, self.concurrency // 4), asyncio.Semaphore(self.concurrency)
        self._places: dict[Kind, asyncio.Semaphore] = {
            "claim": asyncio.Semaphore(self.concurrency),
            "poll": asyncio.Semaphore(few),
            "join": visits,
            "ask": visits,
            "leave": visits,
            "confirm": visits,
            "cancel": visits,
        }
        self._connections = 2 * self.concurrency + few
        self._session: aiohttp.ClientSession
        self._following: dict[str, asyncio.Task[str]] = {}
        self.tally: Counter[str] = Counter()

    async def run(self, *, follow_for: float = 60.0) -> None:
        """Play, then go on following the accepted claims for at most `follow_for` seconds."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ttl_dns_cache=600),
            timeout=aiohttp.ClientTimeout(total=self.manners.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": "seonchak-rush"},
        ) as self._session:
            await self._play()
            if self._following:
                _, late = await asyncio.wait(self._following.values(), timeout=follow_for)
                for task in late:
                    task.cancel()  # whether a claim should have ended by now is the checker's to say
                await asyncio.gather(*self._following.values(), return_exceptions=True)

    @abstractmethod
    async def _play(self) -> None:
        """Have all of them come, and do what they do."""

    def _arrivals(self) -> list[tuple[Customer, float]]:
        """Who comes, and how many seconds after the start; in their order."""
        return [(one, self.over * number / len(self._order)) for number, one in enumerate(self._order)]

    def _key(self, customer: Customer) -> str:
        return f"{self._name}-{customer.user_id}"

    async def _claim(self, customer: Customer, key: str) -> Exchange:
        """Ask until there is an answer that is final, or all tries are used up; the last answer."""
        url = self._event_url / "claims"
        attempt = 0
        while True:
            attempt += 1
            exchange, retry_after = await self._ask(customer, "claim", url, key=key, attempt=attempt)
            self.tally[_kind_of(exchange)] += 1
            if exchange.claim_id:
                self._follow(customer, exchange.claim_id)
            if exchange.status not in TRY_AGAIN or attempt == self.manners.tries:
                return exchange
            await asyncio.sleep(self._pause(attempt, retry_after))

    def _follow(self, customer: Customer, claim_id: str) -> None:
        if claim_id not in self._following:
            self._following[claim_id] = asyncio.create_task(self._poll(customer, claim_id))
            self.tally["followed"] += 1

    async def _hold(self, customer: Customer, claim_id: str) -> None:  # noqa: B027 - most have nothing to do
        """Do something about a claim that is held. Called with each look that finds it so."""

    def _ended(self, state: str) -> None:  # noqa: B027 - likewise
        """Note how a claim ended."""

    async def _poll(self, customer: Customer, claim_id: str) -> str:
        """Look at the claim, ever more seldom, until it is issued or rejected; which of the two."""
        url = self._event_url / "claims" / claim_id
        interval, attempt, state = self.manners.poll, 0, ""
        while state not in ENDED:
            attempt += 1
            await asyncio.sleep(interval * self._random.uniform(0.5, 1.5))
            exchange, retry_after = await self._ask(customer, "poll", url, attempt=attempt)
            interval = max(retry_after, min(self.manners.poll_max, interval * 1.5))
            state = exchange.state
            if state == "held":
                await self._hold(customer, claim_id)
                interval = self.manners.poll
        self.tally["ended"] += 1
        self._ended(state)
        return state

    async def _ask(
        self,
        customer: Customer,
        kind: Kind,
        url: URL,
        *,
        attempt: int = 1,
        key: str = "",
        body: Mapping[str, str] | None = None,
        by: Customer | None = None,
    ) -> tuple[Exchange, float]:
        """Send one request; what came of it, and the seconds after which the server wants to be asked again.

        `by` sends it, where it is not the customer that it is about.
        """
        status, retry_after, answer = None, 0.0, {}
        headers = (by or customer).headers | ({"Idempotency-Key": key} if key else {})
        async with self._places[kind]:
            asked = clock()
            try:
                async with self._session.request(METHODS[kind], url, headers=headers, json=body) as response:
                    content = await response.read()
                    status, retry_after = response.status, _seconds(response.headers.get("Retry-After", ""))
                    answer = _document(content)
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # no whole answer: unknown
            answered = clock()
        claim = answer.get("claim", answer)
        exchange = Exchange(
            user_id=customer.user_id,
            kind=kind,
            key=key,
            attempt=attempt,
            asked_ns=asked,
            answered_ns=answered,
            status=status,
            code=answer.get("code", ""),
            claim_id=claim.get("id", ""),
            sequence=claim.get("sequence", 0),
            state=claim.get("status", "") if "id" in claim else "",  # a problem's `status` is HTTP's
            reason=claim.get("reason") or "",
            ticket=_ticket(answer, customer) if kind in ("join", "ask") and status == HTTPStatus.OK else None,
        )
        self.history.add(exchange)
        return exchange, retry_after

    def _pause(self, attempt: int, retry_after: float) -> float:
        """Seconds before the next try: as the server asks, and spread, so that those refused together come apart."""
        backoff = min(self.manners.backoff_max, self.manners.backoff * 2.0 ** (attempt - 1))
        return retry_after + backoff * self._random.uniform(0.5, 1.0)


@dataclass(kw_only=True, eq=False)
class Rush(Crowd):
    """N customers who rush one event.

    `duplicates` more requests are sent by the first of them at the same moment as their own: double clicks, in turn
    under the same Idempotency-Key and under another one.
    """

    duplicates: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._requests = self._plan()
        self.tally["requests"] = len(self._requests)

    def _plan(self) -> list[tuple[Customer, str, float]]:
        """Who asks under which key, and how many seconds after the start."""
        keys = [[self._key(customer)] for customer in self._order]
        for number in range(self.duplicates):
            mine = keys[number % len(keys)]
            mine.append(mine[0] if number % 2 == 0 else f"{mine[0]}-{number}")
        return [
            (customer, key, arrival)
            for (customer, arrival), each in zip(self._arrivals(), keys, strict=True)
            for key in each
        ]

    async def _play(self) -> None:
        async with asyncio.TaskGroup() as rush:
            for customer, key, arrival in self._requests:
                rush.create_task(self._come(customer, key, arrival))

    async def _come(self, customer: Customer, key: str, arrival: float) -> None:
        await asyncio.sleep(arrival)
        await self._claim(customer, key)
        self.tally["done"] += 1


def _ticket(answer: dict[str, Any], customer: Customer) -> Ticket:
    return Ticket(
        number=answer["number"],
        lane=customer.lane,
        status=answer["status"],
        ahead=answer["ahead"],
        eta_seconds=answer["eta_seconds"],
        poll_after_ms=answer["poll_after_ms"],
        pass_expires_at=answer["pass_expires_at"],
        odds=answer["odds"],
    )


def _kind_of(exchange: Exchange) -> str:
    if exchange.accepted:
        return "accepted"
    return exchange.code or (f"http {exchange.status}" if exchange.status else "unknown")


def _seconds(retry_after: str) -> float:
    """A `Retry-After` in seconds; 0 where there is none or it is a date, which our server never sends."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        return 0.0


def _document(body: bytes) -> dict[str, Any]:
    """The answer's JSON object; empty for anything else, such as a proxy's page."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
