"""The scripts' headers, their code and the enums in Python say the same. A header that lies is worse than none."""

import re
from dataclasses import dataclass
from enum import IntEnum

import pytest

from coupons.stock import codes, keys
from events.waiting_room import keys as room_keys
from events.waiting_room.codes import VisitCode
from tests import room_kit
from tests.stock_kit import source

STOCK = ("reserve", "settle", "release", "load", "snapshot", "adjust", "push", "take", "lock", "unlock", "extend")
ROOM = ("visit", "restore")
SCRIPTS = (*STOCK, *ROOM)
WITH_CLOCK = {"reserve", "snapshot", "push", *ROOM}
ENUMS: dict[str, type[IntEnum]] = {
    "reserve": codes.ReserveCode,
    "load": codes.LoadCode,
    "adjust": codes.AdjustCode,
    "visit": VisitCode,
}
NO_CODES = {"NUDGE_EVERY_MS", "NUDGE_AGAIN_MS", "GAP", "SHOW_UP_DS"}
KEY_TYPES = {"hash", "list", "stream", "string", "zset"}


@dataclass(frozen=True)
class Script:
    """A script taken apart: what the header says, what the code does."""

    header: str
    code: str

    @property
    def documented_keys(self) -> list[str]:
        """`state hash sc:{7}:state`, … in the order of KEYS."""
        block = re.search(r"-- KEYS(.*?)\n-- ARGV", self.header, re.DOTALL)
        assert block, "a header has KEYS, then ARGV"
        found = re.findall(r"^(?:--)?\s+\d+\s+(\w+)\s+(\w+)\s+(sc:\S+)", block[1], re.MULTILINE)
        return [" ".join(one) for one in found]

    @property
    def documented_codes(self) -> dict[str, int]:
        """`ACCEPTED: 0`, …"""
        return {name: int(code) for code, name in re.findall(r"^--\s+(\d+) ([A-Z_]+)\b", self.header, re.MULTILINE)}

    @property
    def local_codes(self) -> dict[str, int]:
        """The codes as the script's locals have them."""
        found: dict[str, int] = {}
        for names, values in re.findall(r"^local ([A-Z_]+(?:, [A-Z_]+)*) = (\d+(?:, \d+)*)$", self.code, re.MULTILINE):
            found.update(zip(names.split(", "), map(int, values.split(", ")), strict=True))
        return {name: code for name, code in found.items() if name not in NO_CODES}


def script(name: str) -> Script:
    text = source(name, room_kit.PACKAGE) if name in ROOM else source(name)
    header, code = text.split("\n\n", 1)
    assert all(line.startswith("--") for line in header.splitlines())
    return Script(header, code)


@pytest.mark.parametrize("name", ENUMS)
def test_the_enum_the_header_and_the_locals_of_a_script_agree(name: str) -> None:
    enum = {code.name: code.value for code in ENUMS[name]}
    assert script(name).documented_codes == enum
    assert script(name).local_codes == enum


@pytest.mark.parametrize("name", ENUMS)
def test_every_code_is_returned_somewhere(name: str) -> None:
    for code in ENUMS[name]:
        assert len(re.findall(rf"\b{code.name}\b", script(name).code)) >= 2, f"{code.name} is only defined"


@pytest.mark.parametrize("name", sorted(set(SCRIPTS) - set(ENUMS)))
def test_a_script_without_an_enum_has_no_codes(name: str) -> None:
    if name == "push":  # it answers as reserve.lua does
        reserve = script("reserve").documented_codes
        assert script(name).documented_codes == script(name).local_codes
        assert script(name).local_codes.items() <= reserve.items()
    else:
        assert script(name).local_codes == {}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_keys_a_header_lists_are_the_keys_the_script_names(name: str) -> None:
    one = script(name)
    documented = [key.split()[0] for key in one.documented_keys]
    named = re.findall(r"^local ((?:\w+_key(?:, )?)+) = (KEYS\[\d+\](?:, KEYS\[\d+\])*)$", one.code, re.MULTILINE)
    assert named, "KEYS are named as locals"
    assert [key for names, _ in named for key in names.split(", ")] == [f"{key}_key" for key in documented]
    assert [key for _, of in named for key in of.split(", ")] == [f"KEYS[{i}]" for i in range(1, len(documented) + 1)]
    for key in documented:
        uses = len(re.findall(rf"\b{key}_key\b", one.code))
        assert uses >= 2, f"{name}.lua lists {key} and does not touch it"


def test_the_header_of_reserve_lists_a_bucket_for_each_claim() -> None:
    one = script("reserve")
    assert re.search(r"7 … 6\+n +string +sc:\{7\}:bucket:<user>", one.header)
    assert "buckets[i] = KEYS[6 + i]" in one.code
    assert "#KEYS - 6" in one.code


AN_ISSUED = keys.issued(7, 0).removesuffix("0") + "<minute>"


ROOM_KEYS = ("room", "tickets", "line_0", "line_1", "called", "missed", "passes", "room_log")  # as `own` has them


def key_of(name: str) -> str:
    """The key of event 7 that a header calls so."""
    if name == "loading":
        return keys.loading(7, "<token>")
    if name == "issued":
        return AN_ISSUED
    if name in ROOM_KEYS:
        return room_keys.own(7)[ROOM_KEYS.index(name)]
    return str(getattr(keys, name)(7))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_key_names_of_a_header_are_those_of_the_key_file(name: str) -> None:
    for documented in script(name).documented_keys:
        key, kind, example = documented.split()
        assert kind in KEY_TYPES
        assert example == key_of(key)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_arguments_a_header_numbers_are_the_arguments_the_script_reads(name: str) -> None:
    one = script(name)
    block = one.header.split("-- ARGV", 1)[1].split("\n--\n", 1)[0]
    numbered = {int(number) for number in re.findall(r"^(?:--)?\s+(\d)\s", block, re.MULTILINE)}
    read = {int(number) for number in re.findall(r"ARGV\[(\d)\]", one.code)}
    read |= {int(start) for start in re.findall(r"unpack\(ARGV, (\d)", one.code)}
    assert read == numbered


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_example_of_a_header_has_as_many_keys_as_the_header_lists(name: str) -> None:
    one = script(name)
    example = re.search(r"EVALSHA … (\d+) ((?:sc:\S+ ?)+)", one.header)
    assert example, "a header has an example"
    given = example[2].split()
    assert len(given) == int(example[1])
    listed = [key.split()[2] for key in one.documented_keys]
    assert given[: len(listed)] == listed


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_asks_for_the_time_once_at_most(name: str) -> None:
    assert script(name).code.count("'TIME'") == (1 if name in WITH_CLOCK else 0)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_up_no_key(name: str) -> None:
    """Redis Cluster sends a script to the node of the keys it declares: no key may be built in it."""
    code = script(name).code
    assert "sc:" not in code
    for argument in re.findall(r"redis\.call\('(?!PUBLISH)[A-Z]+', (\w+)", code):
        assert argument.endswith("_key") or argument in {"buckets", "bucket", "key", "lines", "KEYS", "unpack"}, (
            argument
        )


def test_the_header_of_visit_lists_a_key_for_each_visitor() -> None:
    one = script("visit")
    assert re.search(r"11 … 10\+n +string +sc:\{7\}:left:<user>", one.header)
    assert "#KEYS - 10" in one.code
    assert room_keys.left(7, 42) == "sc:{7}:left:42"


def test_all_keys_of_an_event_share_its_hash_tag() -> None:
    names = [
        keys.state(7),
        keys.claimants(7),
        keys.log(7),
        keys.loading(7, "<token>"),
        keys.issued(7, 29_920_570),
        keys.bucket(7, 42),
        keys.queue(7),
        keys.holders(7),
        keys.lock(7),
        keys.lock(7, "42"),
        keys.waiting(7),
        keys.waiting(7, "42"),
        *room_keys.own(7),
        room_keys.left(7, 42),
    ]
    assert all(name.startswith("sc:{7}:") and name.count("{") == 1 for name in names)
    assert len(set(names)) == len(names)


def test_the_table_of_the_key_file_lists_every_key() -> None:
    table = keys.__doc__ or ""
    names = [keys.state(7), keys.claimants(7), keys.log(7), keys.loading(7, "<token>"), AN_ISSUED, keys.bucket(7, 42)]
    names += [keys.queue(7), keys.holders(7), keys.lock(7), keys.waiting(7)]
    for name in names:
        assert f"`{name}`" in table
    table = (room_keys.__doc__ or "").replace("`:1`", "`sc:{7}:line:1`")
    for name in (*room_keys.own(7), room_keys.left(7, 42)):
        assert f"`{name}`" in table
