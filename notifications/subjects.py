"""What notifications are about, as people call it.

A notification names an event by its key; its title is known to `events`, which is above and may not be imported from
here. So `events` registers itself when Django starts.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subject:
    """An event as it is told of: its title, what a coupon is worth, and the path of its page."""

    title: str
    benefit: str
    path: str


Source = Callable[[Collection[int]], Mapping[int, Subject]]

UNKNOWN = Subject(title="", benefit="", path="/")  # an event that is gone

_source: Source | None = None


def register(source: Source) -> None:
    """Make `source` the one that is asked, by the events' ids."""
    global _source  # noqa: PLW0603 - one a process, set once at the start
    _source = source


def of(event_ids: Collection[int]) -> Mapping[int, Subject]:
    """The subjects by id; those of unknown events are left out."""
    if _source is None:
        raise RuntimeError("No source of subjects is registered: is the app `events` installed?")
    return _source(event_ids) if event_ids else {}
