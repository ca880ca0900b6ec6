"""Each fault in a sale under load; every promise is kept all the same."""

import pytest

from tests.faults.playing import play
from tests.faults.scenarios import SCENARIOS
from tests.faults.system import System
from tests.faults.table import Table

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("name", [name for name in SCENARIOS if not name.startswith("drift planted")])
def test_every_promise_is_kept(system: System, table: Table, seed: int, refused_within: float, name: str) -> None:
    with system.telling():
        played = play(system, SCENARIOS[name], seed=seed, refused_within=refused_within)
        table.add(played)
        assert played.kept, played.told()
