"""The reconciler in the midst of a rush: it changes nothing that is right, and mends, records and tells what is not."""

import pytest

from coupons.models import FailedClaim, Reconciliation
from events.models import Event
from notifications.models import Notification
from tests.faults.playing import play
from tests.faults.scenarios import SCENARIOS
from tests.faults.system import System
from tests.faults.table import Table

pytestmark = pytest.mark.faults

ALL_ALONG = "reconciled ten times a second"
PLANTED = {
    "stock too high": {"stock"},
    "stock too low": {"stock"},
    "ghost claimants": {"ghost_claimant"},
    "missing claimants": {"missing_claimant"},
    # The units of the lost claims are short, too, until they are given back.
    "lost log entries": {"ghost_claimant", "stock"},
    "missing event": {"missing_event"},
}


def last_sale() -> Event:
    """The event of the scenario that was played last."""
    return Event.objects.latest("id")


def mended(event: Event) -> set[str]:
    """The kinds of drift that were mended."""
    return set(Reconciliation.objects.filter(event=event, mended_at__isnull=False).values_list("kind", flat=True))


def test_ten_times_a_second_it_changes_nothing_during_a_rush(
    system: System, table: Table, seed: int, refused_within: float
) -> None:
    with system.telling():
        played = play(system, SCENARIOS[ALL_ALONG], seed=seed, refused_within=refused_within)
        assert played.kept, played.told()
        event = last_sale()
        assert mended(event) == set()
        assert (event.epoch, FailedClaim.objects.filter(event=event).count()) == (1, 0)


@pytest.mark.parametrize("drift", PLANTED)
def test_planted_drift_is_mended_recorded_and_told_during_a_rush(
    system: System, table: Table, seed: int, refused_within: float, drift: str
) -> None:
    with system.telling():
        played = play(system, SCENARIOS[f"drift planted: {drift}"], seed=seed, refused_within=refused_within)
        table.add(played)
        assert played.kept, played.told()
        event = last_sale()
        assert mended(event) == PLANTED[drift], played.told()
        lost = FailedClaim.objects.filter(event=event, reason="lost")
        if drift == "lost log entries":
            owners = set(lost.values_list("user_id", flat=True))
            assert owners
            told = Notification.objects.filter(kind="claim_rejected", data__event_id=event.id)
            assert set(told.values_list("user_id", flat=True)) == owners
        elif drift == "ghost claimants":
            assert lost.count() == 5
