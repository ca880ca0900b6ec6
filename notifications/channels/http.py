"""What the channels over HTTP share: several targets at once, each in a thread, and what an answer means."""

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from notifications import outbound
from notifications.channels.base import BUDGET, Channel, Failed, Outcome, Unreachable
from notifications.models import Delivery
from notifications.outbound import NotAllowed, Post, Unanswered

THREADS = 8  # targets that are sent to at once
SUCCESS = range(200, 300)
BUSY = (429, 503)  # the target asks us to wait, whatever it is sent


class HttpChannel(Channel):
    """A channel that posts. One delivery after the other to each target, so that a slow one takes one thread only."""

    @abstractmethod
    def posts(self, deliveries: Sequence[Delivery]) -> Mapping[int, Post | Failed]:
        """What is to be sent, by the deliveries' ids; `Failed` where nothing can be."""

    def judge(self, status: int) -> None:
        """Raise `Failed` or `Unreachable` for an answer that means that it did not arrive."""
        if status in BUSY:
            raise Unreachable(f"HTTP {status}")
        if status not in SUCCESS:
            raise Failed(f"HTTP {status}")

    def send(self, deliveries: Sequence[Delivery]) -> Iterator[list[Outcome]]:
        """All targets at once, so far as there are threads."""
        until = time.monotonic() + BUDGET
        posts = self.posts(deliveries)
        by_target: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_target.setdefault(delivery.target, []).append(delivery)
        with ThreadPoolExecutor(THREADS, self.name) as pool:
            sent = [pool.submit(self._send_to_one, one, posts, until) for one in by_target.values()]
            for future in as_completed(sent):
                yield future.result()

    def _send_to_one(
        self, deliveries: Sequence[Delivery], posts: Mapping[int, Post | Failed], until: float
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for delivery in deliveries:
            if time.monotonic() > until:
                break
            failure = self._try(posts[delivery.pk])
            outcomes.append((delivery, failure))
            if isinstance(failure, Unreachable):
                break
        return outcomes

    def _try(self, post: Post | Failed) -> Failed | None:
        if isinstance(post, Failed):
            return post
        try:
            with self.timed():
                status = outbound.send(post)
            self.judge(status)
        except NotAllowed as refusal:
            return Failed(str(refusal), permanent=True)
        except Unanswered as failure:
            return Unreachable(str(failure))
        except Failed as failure:
            return failure
        return None
