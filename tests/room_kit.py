"""What tests of the waiting room share: a room on a clock of its own, and visitors who come as they are told."""

from typing import Any

from coupons.stock.store import StockStore
from events.redis.client import Client
from events.redis.script import Script
from events.waiting_room import keys
from events.waiting_room.codes import VisitCode
from events.waiting_room.records import Reply, Visit, Visited
from events.waiting_room.store import RoomStore, Rules
from tests.stock_kit import EVENT, put_stock, without_guard

PACKAGE = "events.waiting_room"
CLOCK = "clock"  # the key that a room's time is in, in milliseconds
START = 2_000_000_000_000


ON_THE_CLOCK = (
    "local time = redis.call('TIME')",
    f"local ms = redis.call('GET', '{CLOCK}'); local time = {{math.floor(ms / 1000), ms % 1000 * 1000}}",
)


class Room:
    """The waiting room of `EVENT`, whose time stands still until it is moved on."""

    def __init__(self, client: Client, *replacements: tuple[str, str], units: int = 1000, **rules: Any) -> None:
        """Other text in places of `visit.lua`; the rules of admission."""
        self.store = RoomStore(client)
        self.store._visit = Script(client, without_guard("visit", ON_THE_CLOCK, *replacements, package=PACKAGE))
        self.client = client
        self.rules = Rules(**{"rate": 10, "max_active": 100, "pass_ttl": 60, "grace": 30, **rules})
        self.stock = StockStore(client)
        self.stock._reserve = Script(client, without_guard("reserve", ON_THE_CLOCK))
        self.now = START
        self.pass_time(0)
        put_stock(self.stock, units, room=True)

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.now += round(seconds * 1000)
        self.client.set(CLOCK, self.now)

    def visit(self, *visits: Any) -> Reply:
        """One call of the script: acts and users, in lane 1 where none is said."""
        asked = [Visit(act, user, *(lane or [1])) for act, user, *lane in visits]
        return self.store.visit(EVENT, self.rules, asked)

    def ask(self, user: int) -> Visited:
        return self.visit(("ask", user)).visitors[0]

    def join(self, *users: int, lane: int = 1) -> list[Visited]:
        return self.visit(*[("join", user, lane) for user in users]).visitors

    def passes(self) -> dict[str, float]:
        """Who holds a pass that is good, until when in milliseconds."""
        alive: Any = self.client.zrangebyscore(keys.passes(EVENT), f"({self.now}", "+inf", withscores=True)
        return dict(alive)

    def count_passes(self) -> int:
        """How many are good."""
        alive: Any = self.client.zcount(keys.passes(EVENT), f"({self.now}", "+inf")
        return int(alive)

    def is_admitted(self, user: int) -> bool:
        return self.ask(user).code is VisitCode.ADMITTED
