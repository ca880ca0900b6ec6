"""The scenarios: a sale under load, and what breaks in it.

Each fault has one of its own. To add another, call `scenario`; a fault that is new goes into `tests.faults.faults`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from coupons.rush.visitors import Role
from tests.faults import drifts  # noqa: F401 - its faults are added by importing it
from tests.faults.changes import PRODUCT
from tests.faults.faults import FAULTS, Fault


@dataclass(frozen=True, slots=True)
class Load:
    """Who comes to a sale, over how many seconds, and what there is for them."""

    users: int = 2000
    coupons: int = 1400
    over: float = 6.0
    double_clicks: int = 100

    def __str__(self) -> str:
        return f"{self.users:,} users in {self.over:g} s, {self.coupons:,} coupons"


@dataclass(frozen=True, slots=True)
class Room:
    """How a waiting room lets people in, and what they do there: of a hundred so many."""

    terms: Mapping[str, int | bool] = field(
        default_factory=lambda: {
            "waiting_room": True,
            "admission_rate": 120,
            "max_active": 240,
            "pass_ttl": 6,
            "grace": 5,
        }
    )
    shares: Mapping[Role, int] = field(
        default_factory=lambda: {
            Role.PATIENT: 76,
            Role.LEAVING: 5,
            Role.CLOSING: 6,
            Role.HASTY: 3,
            Role.MANY_TABS: 4,
            Role.PUSHING: 4,
            Role.OUTSIDE: 2,
        }
    )
    patience: float = 90.0  # seconds


# Sold out after two thirds, so that a fault meets both those who win and those who do not.
CONTESTED = Load()
# One each: there is something to drain to the last moment.
ABUNDANT = Load(coupons=2000)
# Sold out ten seconds after the first of them came, if nothing breaks.
QUEUEING = Load(coupons=1200, double_clicks=0)


# Each unit is held about twice until somebody pays for it. Few: what becomes of a hold is decided in the database.
HOLDING = Load(users=200, coupons=100, over=4.0, double_clicks=0)
# Fewer, whose holds end sooner: there is nothing to wait for that heals.
CHANGING = Load(users=150, coupons=80, over=4.0, double_clicks=0)
# Most of them wait for what comes back.
IN_LINE_FOR_HOLDS = Load(users=500, coupons=16, over=2.0, double_clicks=0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A sale with faults in it. The sale opens, or closes, so many seconds after the first of the users comes."""

    name: str
    faults: Sequence[Fault] = ()
    load: Load = CONTESTED
    opens_in: float = -60.0
    closes_in: float = 3600.0
    redis_lost_after: int = 10  # seconds
    least: int = 1  # coupons that must have been issued for it to have been a sale
    sells_out: bool = False  # whether it must have been all, as many as there are in the end
    outages: int = 0  # how often it must have moved to the database, and come back
    room: Room | None = None  # in which they wait for their turn
    hold_seconds: int = 0  # that a claim is held until it is paid; 0: it is issued at once

    @property
    def quick(self) -> bool:
        """Whether a refusal can be quick throughout, so that P8 is asked for."""
        return all(one.quick for one in self.faults)


SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str, *faults: str, **options: object) -> None:
    """Add a scenario with these faults."""
    assert name not in SCENARIOS
    SCENARIOS[name] = Scenario(name, [FAULTS[one] for one in faults], **options)  # type: ignore[arg-type]


def at_random(seed: int) -> Scenario:
    """One to three faults, of different parts, at once."""
    random = Random(seed)
    chosen: list[Fault] = []
    pool = sorted((one for one in FAULTS.values() if one.part != PRODUCT), key=lambda each: each.name)
    for one in random.sample(pool, len(pool)):
        if one.part not in {each.part for each in chosen}:
            chosen.append(one)
    faults = chosen[: random.randint(1, 3)]
    load = random.choice([CONTESTED, ABUNDANT])
    return Scenario(f"round {seed}: {' + '.join(one.name for one in faults)}", faults, load)


scenario("no fault at all")
for _name, _fault in FAULTS.items():
    if _fault.part != PRODUCT:
        scenario(_name, _name, load=CONTESTED if _fault.part in ("stock", "web") else ABUNDANT)
scenario("the sale opens in the middle", opens_in=2.0)
scenario("the sale closes in the middle", closes_in=2.0)
scenario("stock frozen, and given up at once", "stock frozen", redis_lost_after=0)
scenario("stock killed, and given up after a second", "stock killed (-9), back with its file", redis_lost_after=1)
scenario("web alone cut off, and the stock given up at once", "web alone cut off from the stock", redis_lost_after=0)
scenario("stock flushed and PostgreSQL frozen", "stock flushed", "PostgreSQL frozen")

for _name, _options in {
    "no fault at all": {},
    "stock down for longer than redis_lost_after": {"redis_lost_after": 2, "outages": 1},
    "stock flushed": {},
    "stock frozen": {},
    "stock rolled back by two seconds": {},
    "web killed (-9)": {},
}.items():
    scenario(f"in a waiting room: {_name}", *({_name} & set(FAULTS)), load=QUEUEING, room=Room(), **_options)

for _name in (
    "no fault at all",
    "worker killed (-9)",
    "stock flushed",
    "stock killed (-9), back with its file",
    "stock's answers dropped",
    "PostgreSQL frozen",
    "reconciled ten times a second",
):
    scenario(f"with holds: {_name}", *({_name} & set(FAULTS)), load=HOLDING, hold_seconds=3, sells_out=True)

for _names in (
    ["the product grows"],
    ["the product grows", "stock flushed"],
    ["the product shrinks"],
    ["the product shrinks", "worker killed (-9)"],
    ["the product is paused and resumed"],
):
    scenario(f"with holds: {' + '.join(_names)}", *_names, load=CHANGING, hold_seconds=3, sells_out=True)
for _name in ("the product is closed", "the product closes earlier"):
    scenario(f"with holds: {_name}", _name, load=CHANGING, hold_seconds=3)

for _name in ("no fault at all", "stock flushed"):
    scenario(
        f"with holds in a waiting room: {_name}",
        *({_name} & set(FAULTS)),
        load=IN_LINE_FOR_HOLDS,
        room=Room(),
        hold_seconds=2,
        sells_out=True,
    )
