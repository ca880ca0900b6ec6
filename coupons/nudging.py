"""Nudges: telling a worker that claims wait, without making a claim wait for the broker.

A publish to a broker that hangs blocks for six seconds with the time-outs of the settings, and was seen to block for
minutes without. So none happens inside a request: a thread of its own publishes, at most one message an event at a
time. A nudge that is lost costs a second: beat's sweep finds the log.
"""

import threading

import structlog
from celery import current_app

log = structlog.get_logger(__name__)

# Seconds, as long as a sweep's. Of nudges that lived longer, hundreds were tried again when PostgreSQL came back.
EXPIRES = 5
TASK = "coupons.tasks.issue_claims"  # by name: the tasks import the services, and those nudge


class Nudger:
    """Publishes `issue_claims` for events in the background. One a process; its thread starts with the first nudge."""

    def __init__(self) -> None:
        self._events: set[int] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def nudge(self, event_id: int) -> None:
        """Have a worker told of the event. Returns at once."""
        with self._changed:
            self._events.add(event_id)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._publish, name="nudger", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _publish(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._events)
                event_id = self._events.pop()
            try:
                current_app.send_task(TASK, (event_id,), retry=False, expires=EXPIRES)
            except Exception as error:  # noqa: BLE001 - whatever a broker throws, the sweep makes up for it
                log.warning("nudge_lost", event_id=event_id, error=type(error).__name__)


nudger = Nudger()
