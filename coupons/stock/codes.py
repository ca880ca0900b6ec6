"""The return codes of the Lua scripts. A test holds them beside the scripts' headers."""

from enum import IntEnum


class ReserveCode(IntEnum):
    """What `reserve.lua` answers for one claim."""

    ACCEPTED = 0
    REPEATED = 1
    ALREADY_CLAIMED = 2
    SOLD_OUT = 3
    NOT_OPEN = 4
    CLOSED = 5
    PAUSED = 6
    RATE_LIMITED = 7
    NOT_LOADED = 8
    WRONG_EPOCH = 9
    OTHER_RUN = 10
    NOT_ADMITTED = 11
    OVER_LIMIT = 12


class LoadCode(IntEnum):
    """What `load.lua` answers."""

    LOADED = 0
    STALE_EPOCH = 1


class AdjustCode(IntEnum):
    """What `adjust.lua` answers."""

    ADJUSTED = 0
    NOT_LOADED = 1
    WRONG_EPOCH = 2
    INSUFFICIENT = 3
