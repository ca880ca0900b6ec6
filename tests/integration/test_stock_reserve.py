"""`reserve.lua` against a real server: every return code, and what each leaves behind."""

import pytest
from redis.exceptions import ResponseError

from coupons.stock import keys
from coupons.stock.codes import ReserveCode
from coupons.stock.records import HeldClaim
from coupons.stock.store import StockStore
from tests.stock_kit import EVENT, FAR_FUTURE, entry, everything, put_stock

ALICE, BOB = 41, 42


def codes(store: StockStore, *claims: tuple[int, str], epoch: int = 1) -> list[ReserveCode]:
    return [one.code for one in store.reserve(EVENT, epoch=epoch, claims=claims).reservations]


def without_buckets(store: StockStore) -> dict[str, object]:
    return {key: content for key, content in everything(store.client).items() if ":bucket:" not in key}


def test_an_accepted_claim_takes_a_unit_and_a_number_and_is_in_the_log_and_held_by_its_user(store: StockStore) -> None:
    put_stock(store, 10)
    reply = store.reserve(EVENT, epoch=1, claims=[(ALICE, "digest")])
    (reservation,) = reply.reservations
    assert (reservation.code, reservation.epoch, reservation.sequence) == (ReserveCode.ACCEPTED, 1, 1)
    assert reservation.claimed_ms == reply.now_ms
    assert (reply.stock, reply.drained) == (9, 0)
    snapshot = store.snapshot(EVENT)
    assert (snapshot.stock, snapshot.sequence, snapshot.backlog, snapshot.claimants) == (9, 1, 1, 1)
    (entry,) = store.read_log(EVENT, count=10)
    assert (entry.entry_id, entry.user_id, entry.ordinal, entry.claimed_ms) == ("1-1", ALICE, 1, reply.now_ms)
    held, epoch, drained = store.held_by(EVENT, ALICE)
    assert (held, epoch, drained) == ([HeldClaim(1, 1, 1, reply.now_ms, "digest")], 1, 0)


def test_the_same_request_gets_its_first_answer_again_and_takes_nothing(store: StockStore) -> None:
    put_stock(store, 10, per_user_limit=2)
    first = store.reserve(EVENT, epoch=1, claims=[(ALICE, "one")]).reservations[0]
    before = without_buckets(store)
    again = store.reserve(EVENT, epoch=1, claims=[(ALICE, "one")]).reservations[0]
    assert again.code is ReserveCode.REPEATED
    assert (again.epoch, again.sequence, again.claimed_ms) == (first.epoch, first.sequence, first.claimed_ms)
    assert without_buckets(store) == before


def test_another_request_of_a_user_at_the_limit_is_told_of_the_claim_held(store: StockStore) -> None:
    put_stock(store, 10)
    first = store.reserve(EVENT, epoch=1, claims=[(ALICE, "one")]).reservations[0]
    before = without_buckets(store)
    for request in ("two", ""):
        again = store.reserve(EVENT, epoch=1, claims=[(ALICE, request)]).reservations[0]
        assert again.code is ReserveCode.ALREADY_CLAIMED
        assert (again.epoch, again.sequence, again.claimed_ms) == (1, first.sequence, first.claimed_ms)
    assert without_buckets(store) == before


def test_two_requests_without_a_key_are_not_taken_for_the_same(store: StockStore) -> None:
    put_stock(store, 10, per_user_limit=2)
    assert codes(store, (ALICE, "")) == [ReserveCode.ACCEPTED]
    assert codes(store, (ALICE, "")) == [ReserveCode.ACCEPTED]
    assert codes(store, (ALICE, "")) == [ReserveCode.ALREADY_CLAIMED]


def test_when_the_last_unit_is_gone_it_is_sold_out(store: StockStore) -> None:
    put_stock(store, 1)
    assert codes(store, (ALICE, "")) == [ReserveCode.ACCEPTED]
    before = without_buckets(store)
    assert codes(store, (BOB, "")) == [ReserveCode.SOLD_OUT]
    assert without_buckets(store) == before
    assert codes(store, (ALICE, "")) == [ReserveCode.ALREADY_CLAIMED], "sold out is not said to who has one"


def test_a_refusal_by_the_window_changes_nothing_at_all(store: StockStore) -> None:
    for code, changes in (
        (ReserveCode.NOT_OPEN, {"opens_ms": FAR_FUTURE - 1}),
        (ReserveCode.CLOSED, {"closes_ms": 1_000_000_000_001}),
        (ReserveCode.CLOSED, {"status": "closed"}),
        (ReserveCode.PAUSED, {"status": "paused"}),
    ):
        store.client.flushdb()
        put_stock(store, 1, **changes)
        before = everything(store.client)
        reply = store.reserve(EVENT, epoch=1, claims=[(ALICE, "")])
        assert reply.reservations[0].code is code
        assert (reply.stock, reply.nudge) == (1, False)
        assert everything(store.client) == before


def test_before_the_opening_the_opening_is_told(store: StockStore) -> None:
    put_stock(store, opens_ms=FAR_FUTURE - 1)
    assert store.reserve(EVENT, epoch=1, claims=[(ALICE, "")]).reservations[0].opens_ms == FAR_FUTURE - 1


def test_without_a_stock_nothing_is_made_up(store: StockStore) -> None:
    assert codes(store, (ALICE, ""), (BOB, "")) == [ReserveCode.NOT_LOADED] * 2
    assert everything(store.client) == {}


def test_a_caller_who_believes_in_another_load_is_told_which_is_there(store: StockStore) -> None:
    put_stock(store, 5, epoch=3)
    before = everything(store.client)
    for believed in (2, 4):
        reservation = store.reserve(EVENT, epoch=believed, claims=[(ALICE, "")]).reservations[0]
        assert (reservation.code, reservation.epoch) == (ReserveCode.WRONG_EPOCH, 3)
    assert everything(store.client) == before


def test_a_batch_is_answered_in_its_order_and_may_hold_a_user_twice(store: StockStore) -> None:
    put_stock(store, 3)
    reply = store.reserve(
        EVENT, epoch=1, claims=[(ALICE, "a"), (BOB, ""), (ALICE, "a"), (ALICE, "b"), (43, ""), (44, "")]
    )
    assert [one.code for one in reply.reservations] == [
        ReserveCode.ACCEPTED,
        ReserveCode.ACCEPTED,
        ReserveCode.REPEATED,
        ReserveCode.ALREADY_CLAIMED,
        ReserveCode.ACCEPTED,
        ReserveCode.SOLD_OUT,
    ]
    assert [one.sequence for one in reply.reservations] == [1, 2, 1, 1, 3, 0]
    assert reply.stock == 0
    assert [entry.user_id for entry in store.read_log(EVENT, count=10)] == [ALICE, BOB, 43]


def test_a_batch_counts_a_users_limit_within_itself(store: StockStore) -> None:
    put_stock(store, 10, per_user_limit=2)
    assert codes(store, (ALICE, ""), (ALICE, ""), (ALICE, "")) == [
        ReserveCode.ACCEPTED,
        ReserveCode.ACCEPTED,
        ReserveCode.ALREADY_CLAIMED,
    ]
    held, _, _ = store.held_by(EVENT, ALICE)
    assert [one.ordinal for one in held] == [1, 2]


def test_a_thousand_claims_fit_into_one_call(store: StockStore) -> None:
    put_stock(store, 999)
    reply = store.reserve(EVENT, epoch=1, claims=[(user, "") for user in range(1, 1001)])
    assert [one.sequence for one in reply.reservations[:999]] == list(range(1, 1000))
    assert reply.reservations[999].code is ReserveCode.SOLD_OUT


def test_a_released_ordinal_is_given_again_and_the_others_stay(store: StockStore) -> None:
    put_stock(store, 10, per_user_limit=3)
    for _ in range(3):
        codes(store, (ALICE, ""))
    assert store.release(EVENT, [entry(2, ALICE)])
    assert codes(store, (ALICE, ""), (ALICE, "")) == [ReserveCode.ACCEPTED, ReserveCode.ALREADY_CLAIMED]
    held, _, _ = store.held_by(EVENT, ALICE)
    assert [(one.ordinal, one.sequence) for one in held] == [(1, 1), (3, 3), (2, 4)]


# The token bucket: 10 a second, burst 20. The server's clock cannot be moved, but the bucket can: it is one number, the
# microsecond at which all requests so far would have come one interval apart.


def now_us(store: StockStore) -> int:
    seconds, microseconds = store.client.time()
    return int(seconds) * 1_000_000 + int(microseconds)


def test_twenty_requests_at_once_pass_and_the_next_is_told_when_to_come(store: StockStore) -> None:
    put_stock(store, 10, rate=10, burst=20)
    answers = store.reserve(EVENT, epoch=1, claims=[(ALICE, "same")] * 21).reservations
    assert [one.code for one in answers] == [
        ReserveCode.ACCEPTED,
        *[ReserveCode.REPEATED] * 19,
        ReserveCode.RATE_LIMITED,
    ]
    assert answers[-1].retry_ms == 100, "one interval of ten a second"


def test_a_request_too_many_changes_nothing_not_even_the_bucket(store: StockStore) -> None:
    put_stock(store, 10, rate=1, burst=3)
    store.client.set(keys.bucket(EVENT, ALICE), now_us(store) + 3_000_000)
    before = everything(store.client)
    reservation = store.reserve(EVENT, epoch=1, claims=[(ALICE, "")]).reservations[0]
    assert reservation.code is ReserveCode.RATE_LIMITED
    assert 0 < reservation.retry_ms <= 1000
    assert everything(store.client) == before


def test_the_bucket_of_one_user_is_not_that_of_another(store: StockStore) -> None:
    put_stock(store, 10, rate=1, burst=1)
    assert codes(store, (ALICE, ""), (BOB, ""), (ALICE, ""), (BOB, "")) == [
        ReserveCode.ACCEPTED,
        ReserveCode.ACCEPTED,
        ReserveCode.RATE_LIMITED,
        ReserveCode.RATE_LIMITED,
    ]


def test_what_has_run_in_since_can_be_spent(store: StockStore) -> None:
    """A bucket emptied ten seconds ago, at one a second and a burst of 20, has ten requests in it."""
    put_stock(store, 10, rate=1, burst=20)
    store.client.set(keys.bucket(EVENT, ALICE), now_us(store) + 10_000_000)
    answers = codes(store, *[(ALICE, "same")] * 12)
    assert answers.count(ReserveCode.RATE_LIMITED) == 2
    assert set(answers[-2:]) == {ReserveCode.RATE_LIMITED}


def test_no_more_than_the_burst_is_saved_up(store: StockStore) -> None:
    put_stock(store, 10, rate=1, burst=2)
    store.client.set(keys.bucket(EVENT, ALICE), now_us(store) - 3_600_000_000)
    assert codes(store, *[(ALICE, "same")] * 3)[-1] is ReserveCode.RATE_LIMITED


def test_a_bucket_is_gone_when_it_is_full_again(store: StockStore) -> None:
    put_stock(store, 10, rate=1, burst=20)
    codes(store, *[(ALICE, "same")] * 5)
    bucket = keys.bucket(EVENT, ALICE)
    full_again_ms = int(store.client.get(bucket) or 0) / 1000
    assert abs(store.client.pexpiretime(bucket) - full_again_ms) < 2


def test_who_is_told_to_slow_down_is_told_before_anything_else_of_the_claim(store: StockStore) -> None:
    put_stock(store, 1, rate=1, burst=1)
    codes(store, (ALICE, ""))
    assert codes(store, (ALICE, "")) == [ReserveCode.RATE_LIMITED]


# Checks before writes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["state", "claimants", "log"])
def test_a_key_of_a_wrong_type_fails_the_claim_and_changes_nothing(store: StockStore, wrong: str) -> None:
    put_stock(store, 10)
    key = getattr(keys, wrong)(EVENT)
    store.client.delete(key)
    store.client.rpush(key, "not what it should be")
    before = everything(store.client)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.reserve(EVENT, epoch=1, claims=[(ALICE, ""), (BOB, "")])
    assert everything(store.client) == before


def test_a_bucket_of_a_wrong_type_is_replaced_and_harms_no_neighbour(store: StockStore) -> None:
    put_stock(store, 10)
    store.client.rpush(keys.bucket(EVENT, BOB), "not what it should be")
    assert codes(store, (ALICE, ""), (BOB, "")) == [ReserveCode.ACCEPTED, ReserveCode.ACCEPTED]
    assert store.client.type(keys.bucket(EVENT, BOB)) == "string"


# The run of the server ------------------------------------------------------------------------------------------------


def test_a_stock_that_was_loaded_on_another_run_of_the_server_sells_nothing(store: StockStore) -> None:
    put_stock(store, 10)
    store.client.hset(keys.state(EVENT), "run", "0" * 40)
    before = everything(store.client)
    assert codes(store, (ALICE, ""), (BOB, "")) == [ReserveCode.OTHER_RUN, ReserveCode.OTHER_RUN]
    assert everything(store.client) == before
    assert not store.snapshot(EVENT).same_run
    put_stock(store, 10, epoch=2)
    assert store.snapshot(EVENT).same_run
    assert store.reserve(EVENT, epoch=2, claims=[(ALICE, "")]).reservations[0].code is ReserveCode.ACCEPTED


# Nudges ---------------------------------------------------------------------------------------------------------------


def nudged(store: StockStore, *, ago: int) -> None:
    """Say that the last nudge was so many milliseconds ago: the clock cannot be held."""
    store.client.hset(keys.state(EVENT), "nudged", now_us(store) // 1000 - ago)


def is_nudged_by(store: StockStore, user: int) -> bool:
    return store.reserve(EVENT, epoch=1, claims=[(user, "")]).nudge


def test_who_finds_the_log_empty_nudges_and_nobody_after_them_for_a_second(store: StockStore) -> None:
    put_stock(store, 10)
    assert is_nudged_by(store, ALICE)
    nudged(store, ago=100)
    assert not is_nudged_by(store, BOB), "the worker that was told drains until the log is empty"
    nudged(store, ago=1000)
    assert is_nudged_by(store, 43), "that nudge may have been lost"
    assert not is_nudged_by(store, 44)


def test_who_finds_the_log_empty_too_soon_leaves_the_nudge_to_the_next(store: StockStore) -> None:
    put_stock(store, 10)
    assert is_nudged_by(store, ALICE)
    store.client.delete(keys.log(EVENT))  # as a worker leaves it
    nudged(store, ago=-1_000_000)  # just now, however slow this machine is
    assert not is_nudged_by(store, BOB)
    nudged(store, ago=100)
    assert is_nudged_by(store, 43), "of Bob's claim nobody was told"
    nudged(store, ago=100)
    assert not is_nudged_by(store, 44)


def test_nobody_is_nudged_for_a_refusal(store: StockStore) -> None:
    put_stock(store, 0)
    assert not store.reserve(EVENT, epoch=1, claims=[(ALICE, "")]).nudge


# Large numbers and lost scripts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("highest", [2**40, 10**14 - 1, 2**53 - 2])
def test_large_sequence_numbers_keep_their_digits(store: StockStore, highest: int) -> None:
    put_stock(store, 10, sequence=highest)
    reservation = store.reserve(EVENT, epoch=1, claims=[(ALICE, "")]).reservations[0]
    assert reservation.sequence == highest + 1
    assert store.read_log(EVENT, count=1)[0].entry_id == f"1-{highest + 1}"
    assert store.held_by(EVENT, ALICE)[0][0].sequence == highest + 1
    assert store.snapshot(EVENT).sequence == highest + 1
    assert store.settle(EVENT, epoch=1, drained=highest + 1, entries=[f"1-{highest + 1}"]) == 1
    assert store.snapshot(EVENT).drained == highest + 1


def test_scripts_that_the_server_has_forgotten_are_brought_again(store: StockStore) -> None:
    put_stock(store, 10)
    codes(store, (ALICE, ""))
    store.client.script_flush()
    assert codes(store, (BOB, "")) == [ReserveCode.ACCEPTED]
    store.client.script_flush()
    assert store.snapshot(EVENT).sequence == 2
    store.client.script_flush()
    assert store.settle(EVENT, epoch=1, drained=2, entries=["1-1", "1-2"]) == 2
