"""Reconciling: each kind of drift is planted, seen twice, mended and recorded; what only passes by changes nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from coupons import claimants, issuing, reconciling, tasks
from coupons.locks import locked_event
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.reconciling import Due, look, reconcile, reconcile_all
from coupons.selectors import claim_of
from coupons.stock import keys
from coupons.stock.records import HeldClaim
from coupons.stock.store import StockStore
from events import services as sales
from events.models import Event
from notifications.models import Notification
from tests.factories import make_event, make_user, make_users
from tests.sales import (
    NOBODY,
    assert_sold_out_exactly,
    assert_sum,
    load_too_high,
    lose,
    reserve,
)
from tests.stock_kit import everything

Sale = Callable[..., Event]
Kind = Reconciliation.Kind


def drift() -> list[tuple[str, int | None, int | None, bool, bool]]:
    """All records: kind, expected, found, mended?, gone?"""
    return [
        (one.kind, one.expected, one.found, one.mended_at is not None, one.gone_at is not None)
        for one in Reconciliation.objects.order_by("id")
    ]


def test_where_all_agrees_nothing_is_recorded_and_nothing_changed(sale: Sale, store: StockStore) -> None:
    event, users = sale(rate_per_second=1), make_users(4)  # the buckets outlive the test
    reserve(store, event, *users[:2])
    issuing.issue_claims(event.id, store)
    reserve(store, event, *users[2:])
    before = everything(store.client)
    for _ in range(3):
        assert reconcile(event.id, store) == []
    assert everything(store.client) == before
    assert drift() == []


# Units ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [3, -3])
def test_a_stock_too_high_or_too_low_is_mended_when_seen_twice(sale: Sale, store: StockStore, units: int) -> None:
    event, users = sale(quantity=10), make_users(3)
    reserve(store, event, *users[:2])
    issuing.issue_claims(event.id, store)
    reserve(store, event, users[2])
    store.adjust(event.id, epoch=1, delta=units)
    (row,) = reconcile(event.id, store)
    assert store.snapshot(event.id).stock == 7 + units, "seen once is only suspected"
    assert (row.kind, row.expected, row.found, row.settled_at) == (Kind.STOCK, 7, 7 + units, None)
    reconcile(event.id, store)
    assert_sum(store, event)
    assert drift() == [("stock", 7, 7 + units, True, False)]
    assert reconcile(event.id, store) == []


def test_units_claimed_between_two_looks_stay_claimed(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(4)
    load_too_high(store, event, 3)
    reconcile(event.id, store)
    reserve(store, event, *users)
    reconcile(event.id, store)
    assert_sum(store, event)
    assert store.snapshot(event.id).stock == 6


def test_units_claimed_between_the_look_and_the_mending_are_not_taken_away_again(sale: Sale, store: StockStore) -> None:
    """The delta is more than what is left by then: nothing is taken, and the next look sees what is."""
    event, users = sale(quantity=2), make_users(4)
    load_too_high(store, event, 2)
    reconcile(event.id, store)
    snapshot, looks = store.snapshot, []

    def claimed_after(event_id: int) -> object:
        seen = snapshot(event_id)
        looks.append(seen)
        if len(looks) == 2:
            reserve(store, event, *users[:3])
        return seen

    with patch.object(store, "snapshot", claimed_after):
        reconcile(event.id, store)
    assert store.snapshot(event.id).stock == 1
    assert drift() == [("stock", 2, 4, False, False)]
    issuing.issue_claims(event.id, store)
    assert Coupon.objects.count() == 2, "and the database gives out no more than there are"


def test_what_is_gone_at_the_second_look_is_closed_and_nothing_changed(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    load_too_high(store, event, 3)
    reconcile(event.id, store)
    store.adjust(event.id, epoch=1, delta=-3)
    before = everything(store.client)
    assert reconcile(event.id, store) == []
    assert everything(store.client) == before
    assert drift() == [("stock", 10, 13, False, True)]


def test_another_difference_at_the_second_look_is_another_suspicion(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    load_too_high(store, event, 3)
    reconcile(event.id, store)
    store.adjust(event.id, epoch=1, delta=1)
    reconcile(event.id, store)
    assert drift() == [("stock", 10, 13, False, True), ("stock", 10, 14, False, False)]
    assert store.snapshot(event.id).stock == 14
    reconcile(event.id, store)
    assert store.snapshot(event.id).stock == 10


def test_a_paused_sale_is_reconciled_too(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    sales.pause(event_id=event.id)
    load_too_high(store, event, 3)
    reconcile(event.id, store)
    reconcile(event.id, store)
    assert_sum(store, event)
    assert store.snapshot(event.id).status == "paused"


def test_a_window_that_redis_has_wrong_is_put_right_at_the_first_look(sale: Sale, store: StockStore) -> None:
    event = sale()
    store.client.hset(keys.state(event.id), "status", "paused")
    reconcile(event.id, store)
    assert store.snapshot(event.id).status == "published"


# What is in flight is no drift ----------------------------------------------------------------------------------------


def test_what_was_committed_and_not_settled_is_no_drift_and_is_settled(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(4)
    reserve(store, event, *users)
    with patch.object(issuing, "_settle"):
        issuing.issue_claims(event.id, store)
    assert store.snapshot(event.id).backlog == 4
    assert reconcile(event.id, store) == []
    assert store.snapshot(event.id).backlog == 0
    assert_sum(store, event)
    assert drift() == []


def test_what_is_left_over_behind_claims_that_are_tried_again_is_no_drift_either(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(2)
    reserve(store, event, NOBODY, *users)
    with patch.object(issuing, "_settle"):
        issuing.issue_claims(event.id, store)
    with patch.object(issuing, "BATCH", 1):
        for _ in range(2):
            assert reconcile(event.id, store) == []
    assert_sum(store, event)


def test_a_claim_that_is_tried_again_is_no_drift(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    reserve(store, event, NOBODY)
    issuing.issue_claims(event.id, store)
    for _ in range(2):
        assert reconcile(event.id, store) == []
    assert store.held_by(event.id, NOBODY)[0] != []


def test_claims_in_flight_make_it_change_nothing(sale: Sale, store: StockStore) -> None:
    """P9: while threads claim and drain, it looks again and again, and finds nothing to mend."""
    event, users = sale(quantity=300), make_users(400)
    done = threading.Event()
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - told in the test's thread
                failures.append(error)
            finally:
                connection.close()

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    def claim(mine: list[int]) -> None:
        for user in mine:
            store.reserve(event.id, epoch=1, claims=[(user, "")])

    def drain() -> None:
        while not done.is_set() or store.snapshot(event.id).backlog:
            issuing.issue_claims(event.id, store, batch=7)

    claimers = [run(lambda mine=users[i::4]: claim(mine)) for i in range(4)]  # type: ignore[misc]
    drainers = [run(drain) for _ in range(2)]
    looks = 0
    while any(thread.is_alive() for thread in claimers) or looks < 5:
        assert reconcile(event.id, store) == []
        looks += 1
    done.set()
    for thread in claimers + drainers:
        thread.join(60)
    assert failures == []
    assert reconcile(event.id, store) == []
    assert drift() == []
    assert_sold_out_exactly(store, event)


# Claimants ------------------------------------------------------------------------------------------------------------


def test_an_owner_of_a_coupon_whom_redis_does_not_know_is_added(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10, per_user_limit=2), make_users(2)
    reserve(store, event, *users, users[0])
    issuing.issue_claims(event.id, store)
    store.client.hdel(keys.claimants(event.id), str(users[1]))
    mine = store.held_by(event.id, users[0])[0]
    store.client.hset(keys.claimants(event.id), str(users[0]), str(mine[0]))
    (row,) = reconcile(event.id, store)
    assert (row.kind, row.expected, row.found) == (Kind.MISSING_CLAIMANT, 2, 0)
    assert sorted(row.detail["claims"]) == ["1-2", "1-3"]
    assert store.held_by(event.id, users[1])[0] == [], "seen once is only suspected"
    reconcile(event.id, store)
    assert [one.sequence for one in store.held_by(event.id, users[0])[0]] == [1, 3]
    assert [one.sequence for one in store.held_by(event.id, users[1])[0]] == [2]
    assert drift() == [("missing_claimant", 2, 0, True, False)]
    assert_sum(store, event)


def test_a_claimant_who_has_nothing_is_told_and_released_and_the_unit_mended(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=10), make_user()
    (entry,) = reserve(store, event, user.pk)
    store.client.xdel(keys.log(event.id), entry.entry_id)
    found = reconcile(event.id, store)
    assert sorted(one.kind for one in found) == ["ghost_claimant", "stock"]
    assert store.held_by(event.id, user.pk)[0] != [], "seen once is only suspected"
    reconcile(event.id, store)
    assert store.held_by(event.id, user.pk)[0] == []
    assert_sum(store, event)
    view = claim_of(event_id=event.id, user_id=user.pk, claim_id=f"{event.id}-1-1")
    assert (view.status, view.reason) == ("rejected", "lost")
    assert Notification.objects.get().data["reason"] == "lost"
    assert reconcile(event.id, store) == []
    assert store.snapshot(event.id).stock == 10
    assert reserve(store, event, user.pk)


def test_a_claim_that_was_to_be_tried_again_and_lost_its_place_is_rejected(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    (entry,) = reserve(store, event, NOBODY)
    issuing.issue_claims(event.id, store)
    store.client.xdel(keys.log(event.id), entry.entry_id)
    reconcile(event.id, store)
    reconcile(event.id, store)
    failed = FailedClaim.objects.get()
    assert (failed.status, failed.reason) == ("rejected", "lost")
    assert store.held_by(event.id, NOBODY)[0] == []


def test_a_ghost_that_gets_its_coupon_before_the_mending_is_left_alone(sale: Sale, store: StockStore) -> None:
    """The suspicion was right when it was formed: it is looked at again under the lock."""
    event, user = sale(quantity=10), make_user()
    (entry,) = reserve(store, event, user.pk)
    store.client.xdel(keys.log(event.id), entry.entry_id)
    reconcile(event.id, store)

    @contextmanager
    def issued_meanwhile(event_id: int) -> Iterator[Event]:
        now = timezone.now()
        Coupon.objects.create(
            event=event, user_id=user.pk, ordinal=1, code="A", epoch=1, sequence=1, claimed_at=now, issued_at=now
        )
        with locked_event(event_id) as locked:
            yield locked

    with patch.object(claimants, "locked_event", issued_meanwhile):
        reconcile(event.id, store)
    assert store.held_by(event.id, user.pk)[0] != []
    assert not FailedClaim.objects.exists()


def test_many_ghosts_and_missing_claimants_are_found_over_the_pages(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=30), make_users(30)
    reserve(store, event, *users)
    issuing.issue_claims(event.id, store)
    store.client.delete(keys.claimants(event.id))
    for user in range(NOBODY - 30, NOBODY):
        store.client.hset(keys.claimants(event.id), str(user), str(HeldClaim(1, 1, user, 1)))
    with patch.object(claimants, "CHUNK", 7):
        reconcile(event.id, store)
        reconcile(event.id, store)
    assert store.snapshot(event.id).claimants == 30
    assert all(len(held) == 1 for held in store.held_by_each(event.id, users).values())
    assert_sum(store, event)


# A look that only looks -----------------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_a_run_would_see_and_changes_nothing(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=10), make_users(3)
    reserve(store, event, *users)
    with patch.object(issuing, "_settle"):
        issuing.issue_claims(event.id, store)
    load_too_high(store, event, 2)
    store.client.hdel(keys.claimants(event.id), str(users[0]))
    before = everything(store.client)
    for _ in range(2):
        found = reconcile(event.id, store, dry_run=True)
        assert [(one.kind, one.expected, one.found) for one in found] == [
            (Kind.STOCK, 7, 9),
            (Kind.MISSING_CLAIMANT, 1, 0),
        ]
    assert everything(store.client) == before
    assert drift() == []
    lose(store)
    assert [one.kind for one in reconcile(event.id, store, dry_run=True)] == [Kind.MISSING_EVENT]
    assert not store.snapshot(event.id).loaded


# All events, and those that are over ----------------------------------------------------------------------------------


def test_one_event_that_fails_does_not_keep_the_others_from_their_turn(sale: Sale, store: StockStore) -> None:
    bad, good = sale(quantity=10), sale(quantity=10)
    load_too_high(store, good, 3)
    lock = locked_event

    def refused(event_id: int) -> AbstractContextManager[Event]:
        if event_id == bad.id:
            raise OperationalError
        return lock(event_id)

    with patch.object(reconciling, "locked_event", refused):
        assert [one.event_id for one in reconcile_all(store)] == [good.id]
        reconcile_all(store)
    assert_sum(store, good)


@pytest.mark.parametrize("wrong", ["state", "claimants", "log"])
def test_a_key_of_a_wrong_type_is_removed_and_the_stock_built_anew(sale: Sale, store: StockStore, wrong: str) -> None:
    event, users = sale(quantity=10), make_users(6)
    reserve(store, event, *users[:2])
    issuing.issue_claims(event.id, store)
    reserve(store, event, *users[2:4])
    key = getattr(keys, wrong)(event.id)
    store.client.delete(key)
    store.client.rpush(key, "not what it should be")
    assert look(store).reconcile == [event.id]
    (row,) = reconcile(event.id, store)
    assert (row.kind, row.detail["keys"], row.mended_at is not None) == (Kind.DAMAGED, [key], True)
    # The two claims of a log that is gone are lost, and their owners told, as long as anything still tells of them.
    assert row.detail["lost"] == (2 if wrong == "log" else 0)
    assert FailedClaim.objects.filter(status="rejected", reason="lost").count() == row.detail["lost"]
    assert Notification.objects.filter(kind="claim_rejected").count() == row.detail["lost"]
    assert_sum(store, event)
    reserve(store, event, *users[4:])
    issuing.issue_claims(event.id, store)
    assert_sum(store, event)
    assert reconcile(event.id, store) == []


def test_a_dry_run_only_tells_of_a_key_of_a_wrong_type(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    key = keys.log(event.id)
    store.client.rpush(key, "not what it should be")
    (row,) = reconcile(event.id, store, dry_run=True)
    assert not Reconciliation.objects.exists()
    assert row.kind == Kind.DAMAGED
    assert store.client.type(key) == "list"


def test_an_ended_sale_whose_claim_log_was_lost_tells_the_owners_before_it_is_retired(
    sale: Sale, store: StockStore
) -> None:
    event, users = sale(quantity=10), make_users(2)
    reserve(store, event, *users)
    Event.objects.filter(pk=event.id).update(closes_at=timezone.now())
    store.client.delete(keys.log(event.id))
    for _ in range(2):
        assert not store.is_retired(event.id)
        reconcile(event.id, store)
    assert FailedClaim.objects.filter(status="rejected", reason="lost").count() == 2
    reconcile(event.id, store)
    assert store.is_retired(event.id)


def test_a_closed_sale_is_retired_when_it_is_drained_and_not_before(sale: Sale, store: StockStore) -> None:
    event, user = sale(), make_user()
    reserve(store, event, user.pk)
    sales.close(event_id=event.id)
    all_keys = [keys.state(event.id), keys.claimants(event.id), keys.log(event.id)]
    reconcile_all(store)
    assert [store.client.ttl(key) for key in all_keys] == [-1, -1, -1], "a claim waits"
    issuing.issue_claims(event.id, store)
    for _ in range(2):
        reconcile_all(store)
    assert all(0 < store.client.ttl(key) <= keys.RETIRED_TTL for key in all_keys)


def test_a_sale_that_ran_out_of_time_is_retired_and_comes_back_when_it_is_moved_on(
    sale: Sale, store: StockStore
) -> None:
    event, user = sale(), make_user()
    reserve(store, event, user.pk)
    issuing.issue_claims(event.id, store)
    terms = Event.objects.values("quantity", "opens_at", "per_user_limit", "rate_per_second", "burst").get(pk=event.id)
    sales.change(event_id=event.id, closes_at=timezone.now() - timedelta(seconds=1), **terms)
    reconcile_all(store)
    assert store.client.ttl(keys.log(event.id)) > 0
    sales.change(event_id=event.id, closes_at=timezone.now() + timedelta(days=30), **terms)
    assert store.client.ttl(keys.log(event.id)) == -1
    assert reserve(store, event, make_user().pk)


def test_a_draft_is_nobodys_business(sale: Sale, store: StockStore) -> None:
    make_event()
    assert reconcile_all(store) == []
    assert look(store) == Due()


def test_after_a_whole_sale_every_key_has_an_owner_or_a_time_to_live(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=20), make_users(25)
    for user in users:
        store.reserve(event.id, epoch=1, claims=[(user, "key")])
    issuing.issue_claims(event.id, store)
    reconcile_all(store)
    owned = {keys.state(event.id), keys.claimants(event.id), keys.log(event.id)}
    for key in map(str, store.client.scan_iter("*")):
        assert key in owned or store.client.ttl(key) != -1, f"{key} belongs to nobody"
    sales.close(event_id=event.id)
    reconcile_all(store)
    for key in map(str, store.client.scan_iter("*")):
        assert store.client.ttl(key) != -1, f"{key} outlives its sale"


def test_the_tasks_of_beat_do_what_they_say(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    load_too_high(store, event, 3)
    for _ in range(2):
        tasks.reconcile_all()
    assert_sum(store, event)
    lose(store)
    tasks.reconcile(event.id)
    assert_sum(store, event)
