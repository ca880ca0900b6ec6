"""Faults in combinations that nobody thought of. A round is played again by `--seed` with its seed and `--rounds 1`."""

import pytest

from tests.faults.playing import play
from tests.faults.scenarios import at_random
from tests.faults.system import System
from tests.faults.table import Table

pytestmark = pytest.mark.faults


def test_every_promise_is_kept_in_a_random_round(
    system: System, table: Table, round_seed: int, refused_within: float
) -> None:
    with system.telling():
        played = play(system, at_random(round_seed), seed=round_seed, refused_within=refused_within)
        table.add(played)
        assert played.kept, played.told()
