"""The other scripts of the stock against a real server: every return code, and all checks before all writes."""

from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from coupons.stock import keys
from coupons.stock.codes import AdjustCode, LoadCode, ReserveCode
from coupons.stock.records import HeldClaim, IssuedCoupon, instant
from coupons.stock.store import StockStore
from tests.stock_kit import EVENT, FAR_FUTURE, entry, everything, put_stock, window

ALICE, BOB = 41, 42


def claim(store: StockStore, *users: int, epoch: int = 1) -> None:
    answers = store.reserve(EVENT, epoch=epoch, claims=[(user, "") for user in users]).reservations
    assert {one.code for one in answers} == {ReserveCode.ACCEPTED}


# load -----------------------------------------------------------------------------------------------------------------


def test_a_load_puts_the_units_the_number_the_window_and_the_claimants_in_place(store: StockStore) -> None:
    held = [HeldClaim(1, 1, 4, 1_700_000_000_000), HeldClaim(2, 1, 9, 1_700_000_000_001)]
    assert store.load(
        EVENT, epoch=2, available=90, sequence=9, window=window(per_user_limit=2), claimants=[(ALICE, held)]
    ) == (LoadCode.LOADED, 90)
    snapshot = store.snapshot(EVENT)
    assert (snapshot.epoch, snapshot.stock, snapshot.sequence, snapshot.drained) == (2, 90, 9, 0)
    assert (snapshot.status, snapshot.claimants, snapshot.backlog, snapshot.oldest_ms) == ("published", 1, 0, 0)
    assert store.held_by(EVENT, ALICE) == (held, 2, 0)
    assert not list(store.client.scan_iter("*loading*"))
    assert store.client.ttl(keys.claimants(EVENT)) == -1, "the claimants must not go with the time of their loading"


def test_a_load_counts_the_claims_that_wait_in_the_log_out_of_the_stock(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, 1, 2, 3)
    assert store.load(EVENT, epoch=2, available=10, sequence=3, window=window(), claimants=[]) == (LoadCode.LOADED, 7)
    assert [entry.entry_id for entry in store.read_log(EVENT, count=9)] == ["1-1", "1-2", "1-3"]


def test_a_log_longer_than_what_is_left_leaves_no_stock_and_not_less_than_none(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, 1, 2, 3)
    assert store.load(EVENT, epoch=2, available=2, sequence=3, window=window(), claimants=[]) == (LoadCode.LOADED, 0)


def test_claims_after_a_load_go_on_behind_the_log_of_the_load_before(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, 1)
    store.load(EVENT, epoch=2, available=10, sequence=1, window=window(), claimants=[])
    claim(store, 2, epoch=2)
    assert [entry.entry_id for entry in store.read_log(EVENT, count=9)] == ["1-1", "2-2"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_load_that_comes_too_late_changes_nothing(store: StockStore, epoch: int) -> None:
    put_stock(store, 10, epoch=2)
    claim(store, ALICE, epoch=2)
    before = everything(store.client)
    assert store.load(EVENT, epoch=epoch, available=99, sequence=0, window=window(), claimants=[]) == (
        LoadCode.STALE_EPOCH,
        9,
    )
    assert everything(store.client) == before


def test_a_load_that_was_cut_off_leaves_nothing_behind_for_long_nor_in_the_next(store: StockStore) -> None:
    def broken() -> object:
        yield from ((user, [HeldClaim(1, 1, user, 1)]) for user in range(1, 1001))
        raise ConnectionError

    with pytest.raises(ConnectionError):
        store.load(EVENT, epoch=1, available=9, sequence=0, window=window(), claimants=broken())  # type: ignore[arg-type]
    (left,) = store.client.scan_iter("*loading*")
    assert 0 < store.client.ttl(left) <= keys.LOADING_TTL
    assert not store.snapshot(EVENT).loaded
    put_stock(store, 9)
    assert store.snapshot(EVENT).claimants == 0


def test_more_claimants_than_one_command_carries_are_all_loaded(store: StockStore) -> None:
    store.load(
        EVENT,
        epoch=1,
        available=1,
        sequence=2500,
        window=window(),
        claimants=((user, [HeldClaim(1, 1, user, 1)]) for user in range(1, 2501)),
    )
    assert store.snapshot(EVENT).claimants == 2500
    assert sum(len(chunk) for chunk in store.claimants(EVENT)) == 2500


def test_a_load_ends_the_time_that_a_retired_event_had_left(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, ALICE)
    store.retire(EVENT)
    assert store.client.ttl(keys.log(EVENT)) > 0
    store.load(EVENT, epoch=2, available=10, sequence=1, window=window(), claimants=[(ALICE, [HeldClaim(1, 1, 1, 1)])])
    for key in (keys.state(EVENT), keys.claimants(EVENT), keys.log(EVENT)):
        assert store.client.ttl(key) == -1, key


# settle ---------------------------------------------------------------------------------------------------------------


def test_settling_takes_the_entries_out_and_moves_the_watermark(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, 1, 2, 3)
    assert store.settle(EVENT, epoch=1, drained=2, entries=["1-1", "1-2"]) == 2
    snapshot = store.snapshot(EVENT)
    assert (snapshot.backlog, snapshot.drained, snapshot.stock) == (1, 2, 7)


def test_settling_twice_is_harmless(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, 1, 2)
    store.settle(EVENT, epoch=1, drained=2, entries=["1-1", "1-2"])
    before = everything(store.client)
    assert store.settle(EVENT, epoch=1, drained=2, entries=["1-1", "1-2"]) == 0
    assert everything(store.client) == before


def test_the_watermark_never_goes_back(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, 1, 2)
    store.settle(EVENT, epoch=1, drained=2, entries=[])
    store.settle(EVENT, epoch=1, drained=1, entries=["1-1"])
    assert store.snapshot(EVENT).drained == 2


def test_the_watermark_is_that_of_the_loaded_epoch_only(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, 1, 2)
    store.load(EVENT, epoch=2, available=10, sequence=2, window=window(), claimants=[])
    assert store.settle(EVENT, epoch=1, drained=2, entries=["1-1", "1-2"]) == 2
    assert store.snapshot(EVENT).drained == 0


ISSUED = [(entry(1, ALICE), IssuedCoupon("A-CODE", instant(1_795_234_234_123)))]


def issued_key(store: StockStore) -> str:
    """The one hash of issued coupons that there is."""
    (key,) = store.client.scan_iter(keys.issued(EVENT, 0).removesuffix("0") + "*")
    return str(key)


def test_what_was_issued_is_told_to_its_owner_and_to_nobody_else(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, ALICE, BOB)
    assert store.standing(EVENT, ALICE, "1-1").coupon is None
    assert store.settle(EVENT, epoch=1, drained=1, entries=["1-1"], issued=ISSUED) == 1
    alice = store.standing(EVENT, ALICE, "1-1")
    assert ([one.sequence for one in alice.held], alice.drained, alice.coupon) == ([1], 1, ISSUED[0][1])
    assert store.standing(EVENT, ALICE, "1-2").coupon is None
    assert store.standing(EVENT, BOB, "1-1").coupon is None
    assert store.standing(EVENT, ALICE).coupon is None


def test_what_was_issued_is_kept_for_two_minutes_from_the_first_of_its_minute(store: StockStore) -> None:
    put_stock(store, 10)
    store.settle(EVENT, epoch=1, drained=1, entries=["1-1"], issued=ISSUED)
    key = issued_key(store)
    assert 0 < store.client.ttl(key) <= 120
    store.client.expire(key, 60)
    store.settle(EVENT, epoch=1, drained=1, entries=["1-2"], issued=[(entry(2, BOB), ISSUED[0][1])])
    assert 0 < store.client.ttl(issued_key(store)) <= 60
    assert store.client.hlen(key) == 2


def test_a_full_memory_does_not_keep_the_log_from_being_settled(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, ALICE)
    store.client.config_set("maxmemory", 1)
    try:
        assert store.settle(EVENT, epoch=1, drained=1, entries=["1-1"], issued=ISSUED) == 1
    finally:
        store.client.config_set("maxmemory", 0)
    assert store.snapshot(EVENT).backlog == 0


def test_issued_coupons_of_a_wrong_type_are_an_error_that_changes_nothing_and_settling_goes_on_without(
    store: StockStore,
) -> None:
    put_stock(store, 10)
    claim(store, ALICE)
    store.settle(EVENT, epoch=1, drained=0, entries=[], issued=ISSUED)
    key = issued_key(store)
    store.client.delete(key)
    store.client.rpush(key, "not what it should be")
    before = everything(store.client)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.settle(EVENT, epoch=1, drained=1, entries=["1-1"], issued=ISSUED)
    assert everything(store.client) == before
    assert store.settle(EVENT, epoch=1, drained=1, entries=["1-1"]) == 1


def test_settling_without_a_stock_still_empties_the_log(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, 1)
    store.unload(EVENT)
    assert store.settle(EVENT, epoch=1, drained=1, entries=["1-1"]) == 1
    assert not store.snapshot(EVENT).loaded


# release --------------------------------------------------------------------------------------------------------------


def test_a_release_gives_the_unit_back_and_forgets_the_claim(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, ALICE, BOB)
    assert store.release(EVENT, [entry(1, ALICE)])
    snapshot = store.snapshot(EVENT)
    assert (snapshot.stock, snapshot.backlog, snapshot.claimants, snapshot.sequence) == (9, 1, 1, 2)
    assert store.held_by(EVENT, ALICE)[0] == []


def test_releasing_twice_gives_one_unit(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, ALICE)
    assert store.release(EVENT, [entry(1, ALICE)])
    before = everything(store.client)
    assert not store.release(EVENT, [entry(1, ALICE)])
    assert everything(store.client) == before


def test_a_claim_that_never_had_a_unit_gives_none_back(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, ALICE)
    assert store.release(EVENT, [entry(1, ALICE)], back="none")
    assert (store.snapshot(EVENT).stock, store.snapshot(EVENT).backlog) == (9, 0)


def test_a_release_leaves_the_users_other_claims(store: StockStore) -> None:
    put_stock(store, 10, per_user_limit=3)
    claim(store, ALICE, ALICE, ALICE)
    store.release(EVENT, [entry(2, ALICE)])
    assert [one.sequence for one in store.held_by(EVENT, ALICE)[0]] == [1, 3]


def test_a_release_of_a_claim_of_another_epoch_leaves_the_one_with_the_same_number(store: StockStore) -> None:
    held = [HeldClaim(1, 1, 5, 1), HeldClaim(2, 2, 5, 1)]
    store.load(EVENT, epoch=3, available=1, sequence=5, window=window(), claimants=[(ALICE, held)])
    store.release(EVENT, [entry(5, ALICE)])
    assert store.held_by(EVENT, ALICE)[0] == held[1:]


def test_a_release_without_a_stock_takes_the_claim_out_for_the_next_load_to_count(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, ALICE)
    store.unload(EVENT)
    assert store.release(EVENT, [entry(1, ALICE)])
    assert not store.snapshot(EVENT).loaded
    put_stock(store, 10, epoch=2)
    assert store.snapshot(EVENT).stock == 10


# adjust ---------------------------------------------------------------------------------------------------------------


def test_units_are_added_and_taken(store: StockStore) -> None:
    put_stock(store, 10)
    assert store.adjust(EVENT, epoch=1, delta=5) == (AdjustCode.ADJUSTED, 15)
    assert store.adjust(EVENT, epoch=1, delta=-15) == (AdjustCode.ADJUSTED, 0)
    assert store.snapshot(EVENT).stock == 0


def test_more_units_than_there_are_cannot_be_taken_and_nothing_else_is_done_either(store: StockStore) -> None:
    put_stock(store, 10)
    before = everything(store.client)
    answer = store.adjust(
        EVENT, epoch=1, delta=-11, window=window(status="paused"), claimants=[(ALICE, HeldClaim(1, 1, 1, 1))]
    )
    assert answer == (AdjustCode.INSUFFICIENT, 10)
    assert everything(store.client) == before


def test_a_stock_of_another_epoch_is_not_adjusted(store: StockStore) -> None:
    put_stock(store, 10, epoch=2)
    before = everything(store.client)
    assert store.adjust(EVENT, epoch=1, delta=1) == (AdjustCode.WRONG_EPOCH, 10)
    assert everything(store.client) == before


def test_a_stock_that_is_not_there_is_not_adjusted_into_being(store: StockStore) -> None:
    answer = store.adjust(EVENT, epoch=1, delta=1, window=window(), claimants=[(ALICE, HeldClaim(1, 1, 1, 1))])
    assert answer == (AdjustCode.NOT_LOADED, 0)
    assert everything(store.client) == {}


def test_a_new_window_holds_for_the_next_claim(store: StockStore) -> None:
    put_stock(store, 10)
    for changes, code in (
        ({"status": "paused"}, ReserveCode.PAUSED),
        ({"status": "closed"}, ReserveCode.CLOSED),
        ({"opens_ms": FAR_FUTURE - 1}, ReserveCode.NOT_OPEN),
        ({}, ReserveCode.ACCEPTED),
        ({"per_user_limit": 2}, ReserveCode.ACCEPTED),
        ({"rate": 1, "burst": 1}, ReserveCode.RATE_LIMITED),
    ):
        store.adjust(EVENT, epoch=1, window=window(**changes))
        assert store.reserve(EVENT, epoch=1, claims=[(ALICE, "")]).reservations[0].code is code


def test_claimants_are_added_once_and_beside_what_they_hold(store: StockStore) -> None:
    put_stock(store, 10, per_user_limit=3)
    claim(store, ALICE)
    (mine,) = store.held_by(EVENT, ALICE)[0]
    added = HeldClaim(2, 1, 7, mine.claimed_ms)
    for _ in range(2):
        store.adjust(EVENT, epoch=1, claimants=[(ALICE, added), (ALICE, mine), (BOB, HeldClaim(1, 1, 8, 1))])
    assert store.held_by(EVENT, ALICE)[0] == [mine, added]
    assert store.held_by(EVENT, BOB)[0] == [HeldClaim(1, 1, 8, 1)]
    assert store.snapshot(EVENT).stock == 9, "whom a claim belongs to is no matter of units"


def test_a_sale_that_goes_on_after_its_end_keeps_its_keys(store: StockStore) -> None:
    """An operator moves the closing time on after the keys were given a week to live."""
    put_stock(store, 10)
    claim(store, ALICE)
    store.retire(EVENT)
    store.adjust(EVENT, epoch=1, window=window())
    for key in (keys.state(EVENT), keys.claimants(EVENT), keys.log(EVENT)):
        assert store.client.ttl(key) == -1, key


# snapshot -------------------------------------------------------------------------------------------------------------


def test_a_snapshot_of_nothing_is_empty(store: StockStore) -> None:
    snapshot = store.snapshot(EVENT)
    assert not snapshot.loaded
    assert (snapshot.stock, snapshot.sequence, snapshot.backlog, snapshot.claimants) == (0, 0, 0, 0)
    assert snapshot.oldest_age == 0


def test_a_snapshot_tells_how_long_the_oldest_claim_has_waited(store: StockStore) -> None:
    put_stock(store, 10)
    store.client.xadd(keys.log(EVENT), {"u": 1, "o": 1, "t": 1_000}, id="1-1")
    claim_free = store.snapshot(EVENT)
    assert claim_free.oldest_ms == 1_000
    assert claim_free.oldest_age == (claim_free.now_ms - 1_000) / 1000


def test_a_snapshot_changes_nothing(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, ALICE)
    before = everything(store.client)
    store.snapshot(EVENT)
    store.snapshots([EVENT, 8])
    assert everything(store.client) == before


# The log --------------------------------------------------------------------------------------------------------------


def test_the_log_is_read_from_the_oldest_on_and_behind_an_entry(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, 1, 2, 3, 4)
    assert [entry.sequence for entry in store.read_log(EVENT, count=2)] == [1, 2]
    assert [entry.sequence for entry in store.read_log(EVENT, after="1-2", count=9)] == [3, 4]
    assert store.in_log(EVENT, ["1-2", "1-9", "2-2"]) == {"1-2"}
    assert store.backlogs([EVENT, 8]) == {EVENT: 4, 8: 0}


@pytest.mark.parametrize("gone", range(6))
def test_a_part_of_the_log_is_whole_until_one_of_it_is_taken_out(store: StockStore, gone: int) -> None:
    put_stock(store, 10)
    claim(store, 1, 2, 3, 4, 5, 6)
    log = store.read_log(EVENT, count=9)
    store.settle(EVENT, epoch=1, drained=0, entries=[log[gone].entry_id])
    assert store.is_whole(EVENT, log[2:]) is (gone < 2)


def test_a_part_of_a_log_that_is_not_there_or_has_other_claims_by_its_numbers_is_not_whole(store: StockStore) -> None:
    put_stock(store, 10)
    claim(store, 1, 2, 3)
    log = store.read_log(EVENT, count=9)
    for users in ((), (4, 2, 3), (1, 2, 4), (1, 2)):
        store.client.delete(*store._keys(EVENT))
        put_stock(store, 10)
        if users:
            claim(store, *users)
        assert not store.is_whole(EVENT, log)


# Checks before writes -------------------------------------------------------------------------------------------------

CALLS: dict[str, tuple[list[str], Callable[[StockStore], object]]] = {
    "settle": (["state", "log"], lambda store: store.settle(EVENT, epoch=1, drained=1, entries=["1-1"])),
    "release": (
        ["state", "claimants", "log"],
        lambda store: store.release(EVENT, [entry(1, ALICE)]),
    ),
    "load": (
        ["state", "claimants", "log"],
        # No claimants: preparing them is the caller's write, not the script's.
        lambda store: store.load(EVENT, epoch=2, available=5, sequence=1, window=window(), claimants=[]),
    ),
    "adjust": (
        ["state", "claimants", "log"],
        lambda store: store.adjust(EVENT, epoch=1, delta=1, claimants=[(BOB, HeldClaim(1, 1, 2, 1))]),
    ),
    "snapshot": (["state", "claimants", "log"], lambda store: store.snapshot(EVENT)),
}


@pytest.mark.parametrize(("name", "wrong"), [(name, key) for name, (read, _) in CALLS.items() for key in read])
def test_a_key_of_a_wrong_type_is_an_error_and_changes_nothing(store: StockStore, name: str, wrong: str) -> None:
    put_stock(store, 10)
    claim(store, ALICE)
    key = getattr(keys, wrong)(EVENT)
    store.client.delete(key)
    store.client.rpush(key, "not what it should be")
    before = everything(store.client)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        CALLS[name][1](store)
    assert everything(store.client) == before


def test_a_prepared_load_of_a_wrong_type_is_an_error_and_changes_nothing(store: StockStore) -> None:
    put_stock(store, 10)
    store.client.rpush(keys.loading(EVENT, "x"), "not what it should be")
    before = everything(store.client)
    load = store._load
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        load(keys=[*store._keys(EVENT), keys.loading(EVENT, "x")], args=[2, 5, 1, *window().fields()])
    assert everything(store.client) == before
