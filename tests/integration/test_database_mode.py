"""A sale without Redis: it moves to the database, goes on there one by one, and brings back all that was accepted."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from coupons import direct, issuing, loading, modes, services
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.reconciling import look
from coupons.stock.codes import ReserveCode
from coupons.stock.store import StockStore
from events import services as sales
from events.catalogue import catalogue
from events.errors import InvalidChange, Refusal, Unavailable
from events.models import Event
from events.redis.breaker import Breaker
from notifications.models import Notification
from tests.api_kit import Caller, problem_of, token_of
from tests.factories import make_user, make_users
from tests.outages import no_redis, redis_is_due
from tests.sales import NOBODY, assert_sold_out_exactly, assert_sum, reserve

Sale = Callable[..., Event]
Mode = Event.StockMode


# Giving Redis up ------------------------------------------------------------------------------------------------------


def test_a_sale_bears_a_lost_redis_for_as_long_as_it_was_told_to(sale: Sale) -> None:
    event, user = sale(redis_lost_after=10), make_user()
    with no_redis():
        with patch.object(Breaker, "failing_for", return_value=9.9), pytest.raises(Unavailable):
            services.claim(event_id=event.id, user_id=user.pk)
        event.refresh_from_db()
        assert (event.stock_mode, event.epoch) == (Mode.REDIS, 1)
        with patch.object(Breaker, "failing_for", return_value=10.0):
            claimed = services.claim(event_id=event.id, user_id=user.pk)
    event.refresh_from_db()
    assert (event.stock_mode, event.epoch, event.issued) == (Mode.DATABASE, 2, 1)
    assert event.fell_back_at is not None
    assert (str(claimed.claim.id), claimed.claim.status) == (f"{event.id}-2-1", "issued")
    row = Reconciliation.objects.get()
    assert (row.kind, row.mended_at) == ("outage", None)


def test_zero_seconds_means_at_once(sale: Sale) -> None:
    event, user = sale(redis_lost_after=0), make_user()
    with no_redis():
        assert services.claim(event_id=event.id, user_id=user.pk).claim.status == "issued"


@pytest.mark.parametrize("trouble", ["paused", "not open"])
def test_a_sale_from_which_nobody_can_claim_has_time(sale: Sale, trouble: str) -> None:
    later = timezone.now() + timedelta(minutes=5)
    event = sale(redis_lost_after=0, **({"opens_at": later} if trouble == "not open" else {}))
    if trouble == "paused":
        sales.pause(event_id=event.id)
    with no_redis(), pytest.raises(Unavailable):
        services.claim(event_id=event.id, user_id=make_user().pk)
    event.refresh_from_db()
    assert event.stock_mode == Mode.REDIS


def test_of_many_processes_that_lose_redis_one_moves_the_sale(sale: Sale) -> None:
    event = sale()
    start = threading.Barrier(8)

    def lose(_: int) -> bool:
        start.wait()
        try:
            return modes.fall_back(event.id, epoch=1)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lose, range(8))) == 1
    event.refresh_from_db()
    assert event.epoch == 2
    assert not modes.fall_back(event.id, epoch=1)
    assert Reconciliation.objects.count() == 1


def test_an_old_redis_that_is_still_reached_is_asked_for_an_epoch_it_does_not_have(
    fallen: Callable[..., Event], store: StockStore
) -> None:
    event, users = fallen(quantity=5), make_users(2)
    (answer,) = store.reserve(event.id, epoch=event.epoch, claims=[(users[0], "")]).reservations
    assert answer.code is ReserveCode.WRONG_EPOCH
    # A process that cannot hear of the new epoch goes on for a moment, until any worker that reaches Redis looks.
    assert reserve_in(store, event, epoch=1, user=users[0]) is ReserveCode.ACCEPTED
    look(store)
    assert reserve_in(store, event, epoch=1, user=users[1]) is ReserveCode.NOT_LOADED


def reserve_in(store: StockStore, event: Event, *, epoch: int, user: int) -> ReserveCode:
    return store.reserve(event.id, epoch=epoch, claims=[(user, "")]).reservations[0].code


# Claims in the database -----------------------------------------------------------------------------------------------


def test_claims_are_issued_one_by_one_with_every_answer_of_the_contract(fallen: Callable[..., Event]) -> None:
    event = fallen(quantity=2)
    alice, bob, carol = (Caller(make_user()) for _ in range(3))
    first = alice.claim(event.id, key="a")
    assert first.status_code == 201
    body = first.json()
    assert (body["id"], body["status"], body["sequence"]) == (f"{event.id}-2-1", "issued", 1)
    assert body["coupon"]["code"] == Coupon.objects.get().code
    assert alice.get(first["Location"]).json() == body
    again = alice.claim(event.id, key="a")
    assert (again.status_code, again.json()) == (201, body)
    other = alice.claim(event.id, key="b")
    assert problem_of(other, "already_claimed")["claim"]["id"] == body["id"]
    assert bob.claim(event.id).json()["sequence"] == 2
    problem_of(carol.claim(event.id), "sold_out")
    problem_of(alice.claim(event.id, key="b"), "already_claimed")
    assert Notification.objects.filter(kind="coupon_issued").count() == 2
    event.refresh_from_db()
    assert event.issued == 2
    assert [one["id"] for one in alice.get(f"/api/v1/events/{event.id}/claims").json()] == [body["id"]]


def test_a_pause_and_the_end_hold_without_redis_too(fallen: Callable[..., Event]) -> None:
    event, caller = fallen(quantity=5), Caller(make_user())
    with no_redis():
        first = caller.claim(event.id, key="a")
        sales.pause(event_id=event.id)
        problem_of(Caller(make_user()).claim(event.id), "paused")
        sales.resume(event_id=event.id)
        sales.close(event_id=event.id)
        catalogue.refresh()
        problem_of(Caller(make_user()).claim(event.id), "closed")
        again = caller.claim(event.id, key="a")
    assert (again.status_code, again.json()) == (201, first.json())


def test_the_quantity_is_changed_without_redis_and_not_below_what_is_issued(fallen: Callable[..., Event]) -> None:
    event = fallen(quantity=2)
    for user in make_users(2):
        services.claim(event_id=event.id, user_id=user)
    terms = Event.objects.values("opens_at", "closes_at", "per_user_limit", "rate_per_second", "burst").get(pk=event.id)
    with no_redis():
        with pytest.raises(InvalidChange, match="2"):
            sales.change(event_id=event.id, quantity=1, **terms)
        sales.change(event_id=event.id, quantity=3, **terms)
    assert services.claim(event_id=event.id, user_id=make_user().pk).claim.id.sequence == 3


def test_a_user_has_as_many_as_the_sale_allows_each_with_an_ordinal_of_its_own(fallen: Callable[..., Event]) -> None:
    event, user = fallen(quantity=5, per_user_limit=2), make_user()
    for _ in range(2):
        services.claim(event_id=event.id, user_id=user.pk)
    with pytest.raises(Refusal, match="already"):
        services.claim(event_id=event.id, user_id=user.pk)
    assert list(Coupon.objects.order_by("id").values_list("ordinal", flat=True)) == [1, 2]


def test_fifty_at_once_get_exactly_what_there_is_in_order(fallen: Callable[..., Event], store: StockStore) -> None:
    event, users = fallen(quantity=20), make_users(50)
    start = threading.Barrier(50)

    def claim(user: int) -> bool:
        start.wait()
        try:
            while True:
                try:
                    return services.claim(event_id=event.id, user_id=user).result == "accepted"
                except Unavailable:
                    continue  # all places are taken, or the row is locked
                except Refusal:
                    return False
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as threads:
        assert sum(threads.map(claim, users)) == 20
    modes.sell_from_redis(event.id, store)
    assert_sold_out_exactly(store, event)


def test_without_the_lock_of_the_row_two_get_one_number_or_the_last_unit(fallen: Callable[..., Event]) -> None:
    """The negative control: the constraints still hold, but a claim ends in an error instead of an answer."""
    event, users = fallen(quantity=20), make_users(2)
    both = threading.Barrier(2, timeout=10)
    highest = loading.highest_sequence

    def meet(event_id: int) -> int:
        found = highest(event_id)
        both.wait()
        return found

    def claim(user: int) -> str:
        try:
            services.claim(event_id=event.id, user_id=user)
        except Refusal as refusal:
            return refusal.code
        finally:
            connection.close()
        return "accepted"

    unlocked = patch.object(Event.objects.__class__, "select_for_update", lambda manager, **_: manager.all())
    with unlocked, patch.object(direct, "highest_sequence", meet), ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(claim, users)) != ["accepted", "accepted"]


def test_when_all_places_are_taken_the_rest_is_refused_at_once_and_asks_nobody(
    fallen: Callable[..., Event], django_assert_num_queries: Any
) -> None:
    event, caller = fallen(quantity=5), Caller(make_user())
    caller.get(f"/api/v1/events/{event.id}/state")
    with ExitStack() as places:
        for _ in range(settings.DATABASE_CLAIMS):
            places.enter_context(direct.slot())
        with django_assert_num_queries(0):
            refused = caller.claim(event.id)
    assert problem_of(refused, "unavailable")
    assert refused["Retry-After"] == "1"
    assert caller.claim(event.id).status_code == 201


def test_a_user_who_is_gone_is_told_to_sign_in(fallen: Callable[..., Event]) -> None:
    event, user = fallen(quantity=5), make_user()
    token = token_of(user)
    get_user_model().objects.all().delete()
    problem_of(Caller(token=token).claim(event.id), "unauthenticated")
    event.refresh_from_db()
    assert (event.issued, Coupon.objects.count()) == (0, 0)


def test_the_state_tells_what_the_database_has_left(fallen: Callable[..., Event]) -> None:
    event = fallen(quantity=5)
    services.claim(event_id=event.id, user_id=make_user().pk)
    catalogue.refresh()
    assert Caller().get(f"/api/v1/events/{event.id}/state").json()["remaining"] == 4


def test_a_claim_that_waits_in_the_lost_log_is_not_said_to_be_unknown(sale: Sale, store: StockStore) -> None:
    event, user = sale(quantity=5), make_user()
    caller = Caller(user)
    claimed = caller.claim(event.id)
    modes.fall_back(event.id, epoch=1)
    catalogue.refresh()
    with no_redis():
        problem_of(caller.get(claimed["Location"]), "unavailable")
        problem_of(caller.get(f"/api/v1/events/{event.id}/claims/{event.id}-2-99"), "not_found")
    assert caller.get(claimed["Location"]).json()["status"] == "pending"


# By hand --------------------------------------------------------------------------------------------------------------


def test_an_operator_moves_a_sale_and_its_claims_are_issued_first(sale: Sale, store: StockStore) -> None:
    event, users = sale(quantity=5), make_users(4)
    reserve(store, event, *users[:3])
    sales.sell_from(event_id=event.id, mode=Mode.DATABASE)
    event.refresh_from_db()
    assert (event.stock_mode, event.fell_back_at, event.epoch, event.issued) == (Mode.DATABASE, None, 2, 3)
    assert not store.snapshot(event.id).loaded
    assert look(store).bring_back == [], "it stays where the operator put it"
    catalogue.refresh()
    assert services.claim(event_id=event.id, user_id=users[3]).claim.id.sequence == 4
    sales.sell_from(event_id=event.id, mode=Mode.REDIS)
    assert_sum(store, event)


def test_an_operator_moves_a_sale_whose_redis_is_gone(sale: Sale) -> None:
    event = sale(quantity=5)
    with no_redis():
        sales.sell_from(event_id=event.id, mode=Mode.DATABASE)
        catalogue.refresh()
        assert services.claim(event_id=event.id, user_id=make_user().pk).claim.status == "issued"


def test_claims_that_are_still_tried_do_not_hold_the_operator_up_for_ever(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5)
    reserve(store, event, NOBODY)
    with patch.object(modes, "DRAIN_WITHIN", 0.3):
        sales.sell_from(event_id=event.id, mode=Mode.DATABASE)
    event.refresh_from_db()
    assert event.stock_mode == Mode.DATABASE
    assert FailedClaim.objects.get().status == "retrying"


def test_a_fallen_sale_that_an_operator_takes_in_hand_stays(fallen: Callable[..., Event], store: StockStore) -> None:
    event = fallen()
    redis_is_due(event)
    sales.sell_from(event_id=event.id, mode=Mode.DATABASE)
    assert look(store).bring_back == []
    event.refresh_from_db()
    assert event.epoch == 2


@pytest.mark.parametrize("status", ["draft", "closed"])
def test_a_sale_that_sells_nothing_is_not_moved(sale: Sale, status: str) -> None:
    event = sale()
    Event.objects.filter(pk=event.id).update(status=status)
    with pytest.raises(InvalidChange, match=status):
        sales.sell_from(event_id=event.id, mode=Mode.DATABASE)


def test_a_rejected_claim_is_retried_without_redis(fallen: Callable[..., Event], store: StockStore) -> None:
    event, user = fallen(quantity=5), make_user()
    failed = FailedClaim.objects.create(
        event=event, user_id=user.pk, ordinal=1, epoch=1, sequence=1, claimed_at=timezone.now(), status="rejected"
    )
    with no_redis():
        services.retry_failed_claim(failed_id=failed.pk)
    assert Coupon.objects.get().claim_id == failed.claim_id
    event.refresh_from_db()
    assert event.issued == 1


def test_the_command_moves_a_sale_and_says_where_it_sells(sale: Sale, store: StockStore) -> None:
    event = sale(quantity=5)

    def told(*arguments: str) -> str:
        out = StringIO()
        call_command("stock_mode", str(event.id), *arguments, stdout=out)
        return out.getvalue().strip()

    assert told() == f"{event.title}: sells from Redis, epoch 1."
    assert told("database").endswith("sells from the database, epoch 2. It stays there until it is moved by hand.")
    with no_redis(), pytest.raises(CommandError, match="Redis cannot be reached"):
        told("redis")
    assert told("redis").endswith("sells from Redis, epoch 3.")
    assert_sum(store, event)
    modes.fall_back(event.id, epoch=3)
    assert "Redis was lost at" in told()
    with pytest.raises(CommandError, match="no event 0"):
        call_command("stock_mode", "0")


# The breaker ----------------------------------------------------------------------------------------------------------


def test_after_three_calls_without_an_answer_nobody_asks_redis(sale: Sale) -> None:
    event, users = sale(), make_users(5)
    with no_redis():
        for user in users[:3]:
            with pytest.raises(Unavailable):
                services.claim(event_id=event.id, user_id=user)
        with patch.object(StockStore, "reserve") as asked, pytest.raises(Unavailable) as refused:
            services.claim(event_id=event.id, user_id=users[3])
    assert not asked.called
    assert 0 < refused.value.retry_after <= 1


def test_a_key_of_a_wrong_type_of_one_sale_does_not_shut_the_way_for_the_others(sale: Sale, store: StockStore) -> None:
    bad, good = sale(), sale()
    store.client.delete(store._keys(bad.id)[0])
    store.client.rpush(store._keys(bad.id)[0], "not what it should be")
    for user in make_users(5):
        with pytest.raises(Unavailable):
            services.claim(event_id=bad.id, user_id=user)
    assert services.claim(event_id=good.id, user_id=make_user().pk).result == "accepted"


def test_a_full_memory_counts_as_a_lost_redis(sale: Sale, store: StockStore) -> None:
    event = sale(redis_lost_after=0)
    catalogue.refresh()
    store.client.config_set("maxmemory", 1)
    try:
        claimed = services.claim(event_id=event.id, user_id=make_user().pk)
    finally:
        store.client.config_set("maxmemory", 0)
    assert claimed.claim.status == "issued"
    modes.sell_from_redis(event.id, store)
    assert_sum(store, event)
    issuing.issue_claims(event.id, store)
    assert Coupon.objects.count() == 1
