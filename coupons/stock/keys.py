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
"""

from events.redis.keys import RETIRED_TTL, key, state

__all__ = ["RETIRED_TTL", "bucket", "claimants", "issued", "loading", "log", "state"]

LOADING_TTL = 3600  # seconds
MINUTE = 60  # seconds
ISSUED_TTL = 2 * MINUTE  # it is read in its own minute and in the one after


def claimants(event_id: int) -> str:
    """Who holds which claims."""
    return key(event_id, "claimants")


def log(event_id: int) -> str:
    """The claim log."""
    return key(event_id, "log")


def loading(event_id: int, token: str) -> str:
    """The claimants of a load that is not finished. Each load has its own: one that hung may wake up in the next."""
    return key(event_id, f"loading:{token}")


def issued(event_id: int, minute: int) -> str:
    """The coupons issued in a minute, counted from 1970 by the clock of the process that issues or asks."""
    return key(event_id, f"issued:{minute}")


def bucket(event_id: int, user_id: int) -> str:
    """The token bucket of a user."""
    return key(event_id, f"bucket:{user_id}")
