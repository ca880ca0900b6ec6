"""One system for all scenarios of a run, its seed and its table."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from django.conf import settings
from pytest_django import DjangoDbBlocker

from tests.databases import shared_database
from tests.faults.playing import REFUSED_WITHIN
from tests.faults.system import LANES, System
from tests.faults.table import Table
from tests.outages import stock_at

ROUNDS = 2
SEED = 1

_table = pytest.StashKey[Table]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=SEED, help="decides when faults come, and which come in random rounds")
    parser.addoption("--rounds", type=int, default=ROUNDS, help="how many random rounds, with seeds from --seed on")
    parser.addoption("--lane", choices=LANES, default="web", help="which process the customers meet")
    parser.addoption(
        "--refused-within", type=float, default=REFUSED_WITHIN, help="P8 in seconds, for a machine that is busy"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # A run of all tests does not come by here before it has read its options.
    seed, rounds = metafunc.config.getoption("--seed", SEED), metafunc.config.getoption("--rounds", ROUNDS)
    if "round_seed" in metafunc.fixturenames:
        metafunc.parametrize("round_seed", range(seed, seed + rounds))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash.get(_table, None)
    if table is not None:
        terminalreporter.section(f"faults, by the {config.getoption('--lane', 'web')} lane")
        terminalreporter.write_line(table.markdown())


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--seed", SEED))


@pytest.fixture
def refused_within(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--refused-within", REFUSED_WITHIN))


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """What is played goes here, to be shown after the run and written into the local folder."""
    request.config.stash[_table] = table = Table()
    yield table
    table.write(settings.LOCAL_DIR / f"faults-{request.config.getoption('--lane', 'web')}.json")


@pytest.fixture(scope="session")
def _running_system(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    """Started with the first scenario. What they write stays until the last: users are made once.

    On one Valkey, or on the topology whose maker is the parameter. They are on one database, and so there is one at a
    time: pytest ends it before it starts another.
    """
    make_topology = getattr(request, "param", None)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is ended, too
    try:
        with ExitStack() as stack:
            topology = stack.enter_context(make_topology(tmp_path_factory.mktemp("stock"))) if make_topology else None
            stack.enter_context(shared_database(django_db_blocker))
            with django_db_blocker.unblock():
                lane = request.config.getoption("--lane", "web")
                system = System(tmp_path_factory.mktemp("system"), topology=topology, lane=lane)
            yield stack.enter_context(system)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def system(_running_system: System, django_db_blocker: DjangoDbBlocker) -> Iterator[System]:
    """The system, whole: for a test without a transaction of its own, as the processes must see what it writes."""
    with django_db_blocker.unblock(), stock_at(_running_system.stock_url):
        yield _running_system
        _running_system.heal()
