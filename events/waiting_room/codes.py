"""The return codes of the Lua scripts. A test holds them beside the scripts' headers."""

from enum import IntEnum


class VisitCode(IntEnum):
    """What `visit.lua` answers to one visitor."""

    WAITING = 0
    ADMITTED = 1
    LEFT = 2
    NO_TICKET = 3
    SOLD_OUT = 4
    CLOSED = 5
    RATE_LIMITED = 6
    NOT_LOADED = 7
    ALREADY_CLAIMED = 8
