"""Every Redis key of the stock, in one place.

All keys of an event share one hash tag, so that they live in one slot of a Redis Cluster and one script may touch them.

| key | type | holds | goes |
|---|---|---|---|
| `sc:{7}:state` | hash | epoch, stock, sequence, drained, the window, the limits | `retire`, a week after the close |
| `sc:{7}:claimants` | hash | user → the claims the user holds | likewise |
| `sc:{7}:log` | stream | the claim log: accepted, not yet in the database | likewise |
| `sc:{7}:loading:<token>` | hash | the claimants of a load under way | renamed by `load.lua`, or after an hour |
| `sc:{7}:issued:<minute>` | hash | claim:user → the coupon: what was issued in that minute | two minutes later |
| `sc:{7}:bucket:42` | string | the token bucket of a user | as soon as it is full again |
| `sc:{7}:queue` | list | claims that are on their way into the log (strategy `list_queue`) | `retire` |
| `sc:{7}:holders` | set | users who hold a unit (`redis_set`, `redis_counter`) | likewise |
| `sc:{7}:lock` | string | the token of who has the lock (`distributed_lock`); `…:42`: of a user | by itself |
| `sc:{7}:waiting` | list | who waits for the lock, the next one first; likewise | by itself |
"""

from events.redis.keys import RETIRED_TTL, claimants, key, state

__all__ = [
    "RETIRED_TTL",
    "bucket",
    "claimants",
    "holders",
    "issued",
    "loading",
    "lock",
    "log",
    "queue",
    "state",
    "waiting",
]

LOADING_TTL = 3600  # seconds
MINUTE = 60  # seconds
ISSUED_TTL = 2 * MINUTE  # it is read in its own minute and in the one after


def log(event_id: int) -> str:
    """The claim log."""
    return key(event_id, "log")


def loading(event_id: int, token: str) -> str:
    """The claimants of a load that is not finished. Each load has its own: one that hung may wake up in the next."""
    return key(event_id, f"loading:{token}")


def issued(event_id: int, minute: int) -> str:
    """The coupons issued in a minute, counted from 1970 by the clock of the process that issues or asks."""
    return key(event_id, f"issued:{minute}")


def bucket(event_id: int, user_id: int | str) -> str:
    """The token bucket of a user; "" for the beginning that all of them have in common."""
    return key(event_id, f"bucket:{user_id}")


def queue(event_id: int) -> str:
    """Claims on their way into the claim log, the newest first."""
    return key(event_id, "queue")


def holders(event_id: int) -> str:
    """The users who hold a unit."""
    return key(event_id, "holders")


def lock(event_id: int, of: str = "") -> str:
    """The lock of the event, or of somebody in it."""
    return key(event_id, f"lock:{of}" if of else "lock")


def waiting(event_id: int, of: str = "") -> str:
    """Who waits for that lock."""
    return key(event_id, f"waiting:{of}" if of else "waiting")
