"""The phase of an event, for every status and every place of the clock."""

from datetime import UTC, datetime, timedelta

import pytest

from events.models import Event, Phase, phase_at

OPENS = datetime(2026, 11, 11, 10, tzinfo=UTC)
CLOSES = OPENS + timedelta(hours=1)
TICK = timedelta(microseconds=1)

BEFORE, FIRST, LAST, AFTER = OPENS - TICK, OPENS, CLOSES - TICK, CLOSES
PUBLISHED, PAUSED, CLOSED = Event.Status.PUBLISHED, Event.Status.PAUSED, Event.Status.CLOSED


@pytest.mark.parametrize(
    ("status", "now", "remaining", "phase"),
    [
        (PUBLISHED, BEFORE, 5, Phase.SCHEDULED),
        (PUBLISHED, BEFORE, 0, Phase.SCHEDULED),
        (PUBLISHED, FIRST, 5, Phase.OPEN),
        (PUBLISHED, FIRST, 0, Phase.SOLD_OUT),
        (PUBLISHED, FIRST, None, Phase.OPEN),
        (PUBLISHED, LAST, 1, Phase.OPEN),
        (PUBLISHED, AFTER, 1, Phase.CLOSED),
        (PUBLISHED, AFTER, 0, Phase.CLOSED),
        (PAUSED, BEFORE, 5, Phase.PAUSED),
        (PAUSED, FIRST, 5, Phase.PAUSED),
        (PAUSED, FIRST, 0, Phase.PAUSED),
        (PAUSED, AFTER, 5, Phase.CLOSED),
        (CLOSED, BEFORE, 5, Phase.CLOSED),
        (CLOSED, FIRST, 5, Phase.CLOSED),
        (CLOSED, AFTER, 0, Phase.CLOSED),
    ],
)
def test_the_phase_follows_from_status_time_and_stock(
    status: str, now: datetime, remaining: int | None, phase: Phase
) -> None:
    assert phase_at(status=status, opens_at=OPENS, closes_at=CLOSES, now=now, remaining=remaining) is phase
    event = Event(status=status, opens_at=OPENS, closes_at=CLOSES)
    assert event.phase(now=now, remaining=remaining) is phase
