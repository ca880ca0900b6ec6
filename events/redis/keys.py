"""What all keys of an event have in common, and those that more than one app reads.

The id in braces is the hash tag: all keys of an event are in one slot of a Redis Cluster, so that one script may touch
them.
"""

RETIRED_TTL = 7 * 86400  # seconds that the keys of an event are kept after its end


def key(event_id: int, name: str) -> str:
    """A key of the event."""
    return f"sc:{{{event_id}}}:{name}"


def state(event_id: int) -> str:
    """The counters of the stock, and what operators set: written by the stock alone."""
    return key(event_id, "state")


def claimants(event_id: int) -> str:
    """Who holds which claims: written by the stock alone."""
    return key(event_id, "claimants")
