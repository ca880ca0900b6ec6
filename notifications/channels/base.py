"""The contract of a channel, and what all channels share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import ClassVar

from notifications.metrics import SEND_SECONDS
from notifications.models import Delivery, Notification

BUDGET = 30.0  # seconds after which a channel begins nothing new of what it was given

Target = tuple[int, str]  # a notification's id, and whom of the channel's it goes to


class Failed(Exception):  # noqa: N818 - healthchecks' habit: the exception says whether it is worth another try
    """A delivery did not arrive. The message is kept and shown to operators: nothing personal may be in it."""

    def __init__(self, why: str, *, permanent: bool = False) -> None:
        super().__init__(why)
        self.permanent = permanent


class Unreachable(Failed):
    """Nothing arrives at the target at all: whatever else is for it waits, too."""


Outcome = tuple[Delivery, Failed | None]


class Channel(ABC):
    """A way to tell users. One object a process, without state: its methods run in several threads."""

    name: ClassVar[Delivery.Channel]
    batch: ClassVar[int]  # deliveries that it is given at once, for each target
    max_age: ClassVar[timedelta]  # what has waited longer is given up

    @property
    def is_on(self) -> bool:
        """Whether the settings provide for it."""
        return True

    @abstractmethod
    def targets(self, notifications: Sequence[Notification]) -> Iterable[Target]:
        """Who is to be told of what by this channel, by what the users chose."""

    def known_targets(self) -> list[str] | None:
        """The targets that each get a fair share and may be silent on their own; None where they are beyond number."""
        return [""]

    @abstractmethod
    def send(self, deliveries: Sequence[Delivery]) -> Iterator[Sequence[Outcome]]:
        """Try each delivery once and tell how it went, as soon as it is known of some. Bounded in time.

        What is left out was not tried, because its target does not answer or because `BUDGET` is used up.
        """

    def timed(self) -> AbstractContextManager[object]:
        """What every try is made in: it measures how long it takes."""
        return SEND_SECONDS.labels(channel=self.name.value).time()
