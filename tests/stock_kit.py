"""What tests of the stock share: a stock without a database, a look at all keys, scripts with a guard taken away."""

from importlib import resources
from typing import Any

from coupons.stock.codes import LoadCode
from coupons.stock.records import LogEntry, Window
from coupons.stock.store import StockStore
from events.redis.client import Client
from events.redis.script import Script

EVENT = 7
FAR_PAST, FAR_FUTURE = 1_000_000_000_000, 4_000_000_000_000  # milliseconds


def window(**changes: Any) -> Window:
    """An open window with limits that no test meets by accident."""
    fields = {
        "status": "published",
        "opens_ms": FAR_PAST,
        "closes_ms": FAR_FUTURE,
        "per_user_limit": 1,
        "rate": 1,  # so slow that no bucket is full again, and gone, within a test
        "burst": 10_000,
    }
    return Window(**{**fields, **changes})


def put_stock(store: StockStore, units: int = 10, *, epoch: int = 1, sequence: int = 0, **changes: Any) -> None:
    """Load the stock of `EVENT` with nobody in it; `changes` are those of the window."""
    code, _ = store.load(EVENT, epoch=epoch, available=units, sequence=sequence, window=window(**changes), claimants=[])
    assert code is LoadCode.LOADED


def entry(sequence: int, user_id: int, *, epoch: int = 1) -> LogEntry:
    """A claim as its name and its owner; the rest is no matter to who is given it."""
    return LogEntry(epoch, sequence, user_id, 1, FAR_PAST)


def everything(client: Client) -> dict[str, Any]:
    """All keys with their type and content, so that "nothing was changed" can be said of all of them."""
    found: dict[str, Any] = {}
    for key in map(str, client.scan_iter("*")):
        kind = client.type(key)
        match kind:
            case "hash":
                content: Any = client.hgetall(key)
            case "stream":
                content = client.xrange(key)
            case "string":
                content = client.get(key)
            case "list":
                content = client.lrange(key, 0, -1)
            case "zset":
                content = client.zrange(key, 0, -1, withscores=True)
            case "none":
                continue  # it has run out meanwhile
            case _:
                raise AssertionError(f"a key of a type that nothing here has: {key}")
        found[key] = (kind, content)
    return found


def source(name: str, package: str = "coupons.stock") -> str:
    """The text of a script."""
    return resources.files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def without_guard(name: str, *replacements: tuple[str, str], package: str = "coupons.stock") -> str:
    """A script with its guard taken away. A text that is not there any more fails: the control would be void."""
    text = source(name, package)
    for old, new in replacements:
        assert text.count(old) == 1, f"{name}.lua does not have once: {old}"
        text = text.replace(old, new)
    return text


class UnguardedStore(StockStore):
    """The store with other text for one script: a negative control."""

    def __init__(self, client: Client, name: str, text: str) -> None:
        super().__init__(client)
        setattr(self, f"_{name}", Script(client, text))
