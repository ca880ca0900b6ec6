"""Every Redis key of a waiting room, in one place.

| key | type | holds |
|---|---|---|
| `sc:{7}:room` | hash | the last number, how many were called, the token bucket of admission |
| `sc:{7}:tickets` | hash | user → the ticket |
| `sc:{7}:line:0`, `:1` | sorted set | who waits, in each lane, by rank |
| `sc:{7}:called` | sorted set | whose turn it is and who has not come for the pass yet, until when |
| `sc:{7}:missed` | sorted set | who was away when their turn came, until when it is kept |
| `sc:{7}:passes` | sorted set | who may claim, until when |
| `sc:{7}:room_log` | list | what the database does not know yet |
| `sc:{7}:left:42` | string | somebody who left just now |

They go with the stock's, a week after the close.
"""

from events.redis.keys import claimants, key, state


def tickets(event_id: int) -> str:
    """Each user's ticket."""
    return key(event_id, "tickets")


def passes(event_id: int) -> str:
    """Who may claim."""
    return key(event_id, "passes")


def log(event_id: int) -> str:
    """What the database does not know yet."""
    return key(event_id, "room_log")


def room(event_id: int) -> str:
    """The counters."""
    return key(event_id, "room")


def left(event_id: int, user_id: int) -> str:
    """There while a user who has left must not join again."""
    return key(event_id, f"left:{user_id}")


def lines(event_id: int) -> list[str]:
    """Who waits, in lane 0 and in lane 1."""
    return [key(event_id, "line:0"), key(event_id, "line:1")]


def own(event_id: int) -> list[str]:
    """All that last as long as the event."""
    return [
        room(event_id),
        tickets(event_id),
        *lines(event_id),
        key(event_id, "called"),
        key(event_id, "missed"),
        passes(event_id),
        log(event_id),
    ]


def types(event_id: int) -> dict[str, str]:
    """Those of `own`, each with its type."""
    kinds = ("hash", "hash", "zset", "zset", "zset", "zset", "zset", "list")
    return dict(zip(own(event_id), kinds, strict=True))


def of_tickets(event_id: int) -> list[str]:
    """Those that say who stands where: they are whole together, or not at all."""
    return own(event_id)[1:7]


def of_claim(event_id: int) -> list[str]:
    """Those that `reserve.lua` takes a pass from."""
    return [passes(event_id), tickets(event_id), log(event_id)]


def of_visit(event_id: int) -> list[str]:
    """Those of `visit.lua` that do not hang on the visitor."""
    return [state(event_id), claimants(event_id), *own(event_id)]
