"""Holds: confirmed, cancelled, expired; in the database and in Redis together, whatever breaks between."""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis.exceptions import ConnectionError as NoConnection

from coupons import holds, modes, reconciling, rows, selectors, services, standby, tasks
from coupons.errors import AlreadyConfirmed, ClaimNotFound, HoldExpired, NotHeld
from coupons.issuing import issue_claims
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.stock.store import StockStore
from events import services as sales
from events.errors import InvalidChange, SoldOut
from events.models import Event
from notifications.models import Notification
from notifications.texts import texts
from tests.api_kit import Caller, problem_of
from tests.factories import make_user, make_users
from tests.outages import no_redis, silent_server, stock_at
from tests.sales import Crash, assert_sum

Sale = Callable[..., Event]
Kind = Notification.Kind


def merchant() -> User:
    user = make_user()
    user.user_permissions.add(Permission.objects.get(codename="confirm_claim"))
    return user


def hold(event: Event, user: int, store: StockStore, quantity: int = 1) -> str:
    """A claim of the user that is held; its name."""
    claimed = services.claim(event_id=event.id, user_id=user, quantity=quantity)
    issue_claims(event.id, store)
    return str(claimed.claim.id)


def let_time_pass(event: Event) -> None:
    """The clock is moved by moving what it is compared with."""
    held = Coupon.objects.filter(event=event, status="held")
    held.update(held_until=F("held_until") - timedelta(hours=1))


def counts(event: Event, store: StockStore) -> tuple[int, int, int]:
    """Issued and held, held, and in stock."""
    event.refresh_from_db()
    left = event.quantity - event.issued if event.stock_mode == "database" else store.snapshot(event.id).stock
    return event.issued, event.held, left


@pytest.fixture(params=["redis", "database"])
def sold_from(request: pytest.FixtureRequest, sale: Sale) -> Sale:
    """A sale with holds, from Redis and without."""

    def make(**fields: object) -> Event:
        event = sale(**{"hold_seconds": 60, **fields})
        if request.param == "database":
            assert modes.fall_back(event.id, epoch=1)
            event.refresh_from_db()
        return event

    return make


# What becomes of a hold -----------------------------------------------------------------------------------------------


def test_a_claim_is_held_and_its_code_told_nobody(sold_from: Sale, store: StockStore) -> None:
    event, caller = sold_from(quantity=3), Caller(user := make_user())
    made = caller.claim(event.id)
    assert made.status_code == 202
    issue_claims(event.id, store)
    told = caller.get(made["Location"])
    body = told.json()
    (coupon,) = Coupon.objects.all()
    assert coupon.held_until is not None
    assert (body["status"], "quantity" in body) == ("held", False)
    assert timezone.now() < coupon.held_until <= timezone.now() + timedelta(seconds=60)
    assert body["hold_expires_at"] == coupon.held_until.isoformat(timespec="milliseconds")[:-6] + "Z"
    assert coupon.code not in told.content.decode()
    assert caller.get("/api/v1/coupons").json()["results"] == []
    problem_of(caller.get(f"/api/v1/coupons/{coupon.code}"), "not_found")
    (notification,) = Notification.objects.filter(user=user)
    assert (notification.kind, set(notification.data)) == (Kind.CLAIM_HELD, {"event_id", "claim_id", "expires_at"})
    assert notification.expires_at == coupon.held_until, "nobody is told after it"
    assert counts(event, store) == (1, 1, 2)
    again = caller.claim(event.id)
    assert coupon.code not in again.content.decode()
    problem_of(again, "already_claimed")


def test_a_confirmed_hold_is_issued_and_confirming_twice_is_the_same_answer(sold_from: Sale, store: StockStore) -> None:
    event, user = sold_from(quantity=3), make_user()
    name = hold(event, user.pk, store)
    backend = Caller(merchant())
    path = f"/api/v1/events/{event.id}/claims/{name}"
    first, second = backend.post(f"{path}/confirm"), backend.post(f"{path}/confirm")
    assert (first.status_code, first.json()["status"]) == (200, "issued")
    assert second.json() == first.json() == Caller(user).get(path).json()
    assert Caller(user).get("/api/v1/coupons").json()["results"][0]["code"] == first.json()["coupon"]["code"]
    assert [one.kind for one in Notification.objects.filter(user=user).order_by("id")] == [
        Kind.CLAIM_HELD,
        Kind.COUPON_ISSUED,
    ]
    assert counts(event, store) == (1, 0, 2)
    assert problem_of(backend.post(f"{path}/cancel"), "already_confirmed")["claim"]["id"] == name
    let_time_pass(event)
    assert holds.release_due(event.id, store) == 0


@pytest.mark.parametrize("reason", ["cancelled", "payment_failed"])
def test_a_cancelled_hold_is_on_sale_again_at_once(sold_from: Sale, store: StockStore, reason: str) -> None:
    event, user = sold_from(quantity=1), make_user()
    name = hold(event, user.pk, store)
    with pytest.raises(SoldOut):
        services.claim(event_id=event.id, user_id=make_user().pk)
    caller, backend = Caller(user), Caller(merchant())
    path = f"/api/v1/events/{event.id}/claims/{name}"
    told = backend.post(f"{path}/cancel", {"reason": reason}).json()
    assert (told["status"], told["reason"]) == ("rejected", reason)
    assert caller.get(path).json() == told == caller.post(f"{path}/cancel").json(), "how it ended, whoever asks again"
    assert counts(event, store) == (0, 0, 1)
    told_by = [one.data.get("reason") for one in Notification.objects.filter(user=user).order_by("id")]
    assert told_by == [None, reason]
    problem_of(backend.post(f"{path}/confirm"), "hold_cancelled")
    again = hold(event, user.pk, store)
    assert again != name, "the user may claim again"
    assert counts(event, store) == (1, 1, 0)
    assert not FailedClaim.objects.filter(to_return=True).exists()


def test_the_owner_may_cancel_and_nobody_else(sale: Sale, store: StockStore) -> None:
    event, owner, other = sale(hold_seconds=60), make_user(), make_user()
    name = hold(event, owner.pk, store)
    path = f"/api/v1/events/{event.id}/claims/{name}"
    problem_of(Caller(other).post(f"{path}/cancel"), "not_found")
    for nobody in (owner, other):
        problem_of(Caller(nobody).post(f"{path}/confirm"), "forbidden")
    problem_of(Caller().post(f"{path}/confirm"), "unauthenticated")
    problem_of(Caller(owner).post(f"{path}/cancel", {"reason": "bored"}), "invalid")
    assert Coupon.objects.get().status == "held"
    assert Caller(owner).post(f"{path}/cancel").json()["reason"] == "cancelled"
    problem_of(Caller(other).post(f"{path}/cancel"), "not_found")


def test_what_is_not_confirmed_in_time_goes_back(sold_from: Sale, store: StockStore) -> None:
    event, (first, second) = sold_from(quantity=2), make_users(2)
    expired, confirmed = hold(event, first, store), hold(event, second, store)
    holds.confirm(event_id=event.id, claim_id=confirmed)
    assert holds.due() == set()
    let_time_pass(event)
    assert holds.due() == {event.id}
    with pytest.raises(HoldExpired):
        holds.confirm(event_id=event.id, claim_id=expired)  # the sweep is late, and it is refused all the same
    assert holds.release_due(event.id, store) == 1
    assert holds.due() == set()
    with pytest.raises(HoldExpired):
        holds.confirm(event_id=event.id, claim_id=expired)
    view = selectors.claim_of(event_id=event.id, user_id=first, claim_id=expired)
    assert (view.status, view.reason) == ("rejected", "hold_expired")
    assert holds.cancel(event_id=event.id, claim_id=expired).reason == "hold_expired", "how it ended"
    assert counts(event, store) == (1, 0, 1)
    services.claim(event_id=event.id, user_id=first)


def test_holds_of_several_units_go_one_way(sold_from: Sale, store: StockStore) -> None:
    event, (one, two, three) = sold_from(quantity=9, per_user_limit=3), make_users(3)
    names = [hold(event, user, store, 3) for user in (one, two, three)]
    issued = holds.confirm(event_id=event.id, claim_id=names[0])
    assert (issued.quantity, len(issued.coupons)) == (3, 3)
    holds.cancel(event_id=event.id, claim_id=names[1], user_id=two)
    assert counts(event, store) == (6, 3, 3)
    let_time_pass(event)
    assert holds.release_due(event.id, store, batch=1) == 3
    assert counts(event, store) == (3, 0, 6)
    with pytest.raises(ClaimNotFound):
        holds.confirm(event_id=event.id, claim_id=f"{names[0]}0")


def test_expiries_are_released_in_batches(sale: Sale, store: StockStore) -> None:
    event, users = sale(hold_seconds=60, quantity=7), make_users(7)
    for user in users:
        services.claim(event_id=event.id, user_id=user)
    issue_claims(event.id, store)
    let_time_pass(event)
    assert holds.release_due(event.id, store, batch=3) == 7
    assert counts(event, store) == (0, 0, 7)
    assert_sum(store, event)


def test_a_claim_that_waits_in_the_log_is_no_hold_yet(sale: Sale, store: StockStore) -> None:
    event, user = sale(hold_seconds=60), make_user()
    name = str(services.claim(event_id=event.id, user_id=user.pk).claim.id)
    with pytest.raises(NotHeld):
        holds.confirm(event_id=event.id, claim_id=name)
    with pytest.raises(NotHeld):
        holds.cancel(event_id=event.id, claim_id=name, user_id=user.pk)
    with pytest.raises(ClaimNotFound):
        holds.cancel(event_id=event.id, claim_id=name, user_id=make_user().pk)
    for unknown in ("1-2", f"{event.id}-1-99", f"{event.id + 1}-1-1", f"{event.id}-01-1"):
        with pytest.raises(ClaimNotFound):
            holds.confirm(event_id=event.id, claim_id=unknown)
    issue_claims(event.id, store)
    assert holds.confirm(event_id=event.id, claim_id=name).status == "issued"


def test_who_is_told_no_takes_no_lock_and_redis_is_not_asked_under_one(sale: Sale, store: StockStore) -> None:
    event, (owner, other) = sale(hold_seconds=60), make_users(2)
    name, unknown = hold(event, owner, store), f"{event.id}-1-99"
    with CaptureQueriesContext(connection) as asked:
        for refused in (
            lambda: holds.confirm(event_id=event.id, claim_id=unknown),
            lambda: holds.cancel(event_id=event.id, claim_id=unknown, user_id=other),
            lambda: holds.cancel(event_id=event.id, claim_id=name, user_id=other),
        ):
            with pytest.raises(ClaimNotFound):
                refused()
    assert not locking(asked)
    with CaptureQueriesContext(connection) as asked:
        holds.confirm(event_id=event.id, claim_id=name)
        holds.cancel(event_id=event.id, claim_id=hold(event, other, store))
    assert len(locking(asked)) >= 2, "that is how locks look"


def test_a_confirmation_has_the_lock_for_one_statement(sale: Sale, store: StockStore) -> None:
    event, (user,) = sale(hold_seconds=60, per_user_limit=3), make_users(1)
    name = hold(event, user, store, quantity=3)
    with CaptureQueriesContext(connection) as asked:
        assert holds.confirm(event_id=event.id, claim_id=name).status == "issued"
    assert [*locking(asked), "COMMIT"] == [one["sql"] for one in asked][-2:], "nothing is asked while others wait"
    with CaptureQueriesContext(connection) as asked:
        assert holds.confirm(event_id=event.id, claim_id=name).status == "issued"
    assert not locking(asked), "what is confirmed already is told without it"


def test_without_the_clock_in_that_statement_a_hold_is_confirmed_too_late(sale: Sale, store: StockStore) -> None:
    """The control: nobody has swept it yet."""
    event, user = sale(hold_seconds=60), make_user()
    name = hold(event, user.pk, store)
    let_time_pass(event)
    with pytest.raises(HoldExpired):
        holds.confirm(event_id=event.id, claim_id=name)
    assert counts(event, store)[1] == 1, "what was not confirmed is held as before"
    timeless = rows.CONFIRM.replace("AND coupon.held_until > clock_timestamp()", "")
    assert timeless != rows.CONFIRM
    with patch.object(rows, "CONFIRM", timeless):
        assert holds.confirm(event_id=event.id, claim_id=name).status == "issued"


def locking(asked: CaptureQueriesContext) -> list[str]:
    """The statements that take the lock of the event's row."""
    statements = [one["sql"] for one in asked]
    return [sql for sql in statements if "FOR NO KEY UPDATE" in sql or re.search('UPDATE "?events_event', sql)]


def test_without_holds_a_claim_is_issued_and_cannot_be_cancelled(sale: Sale, store: StockStore) -> None:
    event, user = sale(), make_user()
    name = hold(event, user.pk, store)
    assert holds.confirm(event_id=event.id, claim_id=name).status == "issued"
    with pytest.raises(AlreadyConfirmed):
        holds.cancel(event_id=event.id, claim_id=name)
    assert Notification.objects.count() == 1


def test_an_ended_hold_is_not_retried_by_an_operator(sale: Sale, store: StockStore) -> None:
    event, user = sale(hold_seconds=60), make_user()
    holds.cancel(event_id=event.id, claim_id=hold(event, user.pk, store))
    with pytest.raises(InvalidChange):
        services.retry_failed_claim(failed_id=FailedClaim.objects.get().pk)


# What breaks between --------------------------------------------------------------------------------------------------


def test_a_crash_before_redis_has_the_unit_back_is_mended_by_the_sweep(sale: Sale, store: StockStore) -> None:
    event, user = sale(hold_seconds=60, quantity=1), make_user()
    name = hold(event, user.pk, store)
    with patch.object(holds, "_give_back_now", side_effect=Crash), pytest.raises(Crash):
        holds.cancel(event_id=event.id, claim_id=name)
    assert counts(event, store) == (0, 0, 0), "in the database, and not in Redis"
    assert holds.due() == {event.id}
    holds.release_due(event.id, store)
    assert counts(event, store) == (0, 0, 1)
    assert store.held_by(event.id, user.pk)[0] == []
    assert holds.give_back(event.id, store) == 0
    assert_sum(store, event)


@pytest.mark.parametrize("crash", [None, Crash])
def test_a_unit_on_its_way_is_no_drift_to_the_reconciler(
    sale: Sale, store: StockStore, crash: type[Exception] | None
) -> None:
    """It finishes what it finds under way; whoever was at it finds it done, and gives no unit a second time."""
    event, users = sale(hold_seconds=60, quantity=5), make_users(3)
    names = [hold(event, user, store) for user in users]
    for name in names:
        with patch.object(holds, "_give_back_now"):
            holds.cancel(event_id=event.id, claim_id=name)
    assert [one.kind for one in reconciling.reconcile(event.id, store, dry_run=True) if one.kind == "stock"] == []
    if crash:
        with (
            patch.object(StockStore, "snapshot", side_effect=[store.snapshot(event.id), crash]),
            pytest.raises(crash),
        ):
            reconciling.reconcile(event.id, store)
        assert FailedClaim.objects.filter(to_return=True).count() == 3, "rolled back with the rest"
        assert store.snapshot(event.id).stock == 5, "but Redis has them"
    assert reconciling.reconcile(event.id, store) == []
    assert holds.give_back(event.id, store) == 0
    assert counts(event, store) == (0, 0, 5)
    assert not Reconciliation.objects.exists()


def test_while_redis_is_away_a_hold_ends_and_its_unit_waits(sale: Sale, store: StockStore) -> None:
    event, user = sale(hold_seconds=60, quantity=1), make_user()
    name = hold(event, user.pk, store)
    with patch.object(StockStore, "release", side_effect=NoConnection):
        assert holds.cancel(event_id=event.id, claim_id=name).reason == "cancelled"
        with pytest.raises(NoConnection):
            holds.release_due(event.id, store)
    assert counts(event, store) == (0, 0, 0)
    assert holds.due() == {event.id}
    holds.release_due(event.id, store)
    assert counts(event, store) == (0, 0, 1)


def test_nobody_who_cancels_waits_for_a_redis_that_hangs(sale: Sale, store: StockStore) -> None:
    """Else a few of them would take all threads of a process, and claims would wait behind them."""
    event, users = sale(hold_seconds=60, quantity=4), make_users(4)
    names = [hold(event, user, store) for user in users]
    with silent_server() as server, stock_at(f"redis://127.0.0.1:{server.getsockname()[1]}/0"):
        began = time.monotonic()
        for name in names:
            assert holds.cancel(event_id=event.id, claim_id=name).reason == "cancelled"
        took = time.monotonic() - began
    assert took < settings.STOCK_REDIS_BULK_TIMEOUT
    assert holds.release_due(event.id, store) == 0
    assert counts(event, store) == (0, 0, 4)


def test_a_unit_that_a_load_has_counted_is_not_given_back_again(sale: Sale, store: StockStore) -> None:
    event, user = sale(hold_seconds=60, quantity=3), make_user()
    name = hold(event, user.pk, store)
    with patch.object(holds, "_give_back_now"):
        holds.cancel(event_id=event.id, claim_id=name)
    store.client.flushdb()
    (row,) = reconciling.reconcile(event.id, store)
    assert (row.kind, row.detail["lost"]) == ("missing_event", 0)
    assert counts(event, store) == (0, 0, 3)
    assert holds.give_back(event.id, store) == 0
    assert counts(event, store) == (0, 0, 3)
    assert holds.due() == set()


def test_a_hold_whose_entry_is_still_in_the_log_gives_its_unit_back_once(sale: Sale, store: StockStore) -> None:
    """The drain crashed between its commit and its settling."""
    event, user = sale(hold_seconds=60, quantity=3), make_user()
    name = str(services.claim(event_id=event.id, user_id=user.pk).claim.id)
    with patch("coupons.issuing._settle", side_effect=Crash), pytest.raises(Crash):
        issue_claims(event.id, store)
    holds.cancel(event_id=event.id, claim_id=name)
    assert store.snapshot(event.id).backlog == 0
    issue_claims(event.id, store)
    assert counts(event, store) == (0, 0, 3)
    assert_sum(store, event)


def test_holds_live_through_a_loss_of_redis_and_the_way_back(sale: Sale, store: StockStore) -> None:
    event, (one, two) = sale(hold_seconds=60, quantity=2), make_users(2)
    names = [hold(event, user, store) for user in (one, two)]
    modes.fall_back(event.id, epoch=1)
    holds.cancel(event_id=event.id, claim_id=names[0])
    assert counts(event, store) == (1, 1, 1)
    event = modes.sell_from_redis(event.id, store)
    assert counts(event, store) == (1, 1, 1)
    holds.cancel(event_id=event.id, claim_id=names[1])
    assert counts(event, store) == (0, 0, 2)
    assert_sum(store, event)


# An operator changes the sale meanwhile -------------------------------------------------------------------------------


def terms(event: Event, **changes: int) -> dict[str, Any]:
    names = ("quantity", "opens_at", "closes_at", "per_user_limit", "rate_per_second", "burst")
    return {name: getattr(event, name) for name in names} | changes


def test_a_sale_that_is_changed_paused_or_closed_keeps_its_holds_and_their_units(
    sold_from: Sale, store: StockStore
) -> None:
    event, users = sold_from(quantity=4), make_users(4)
    names = [hold(event, user, store) for user in users]
    with pytest.raises(InvalidChange):
        sales.change(event_id=event.id, **terms(event, quantity=3))
    sales.change(event_id=event.id, **terms(event, quantity=6))
    holds.cancel(event_id=event.id, claim_id=names[0])
    assert counts(event, store) == (3, 3, 3)
    sales.change(event_id=event.id, **terms(event, quantity=3))
    assert counts(event, store) == (3, 3, 0)
    sales.pause(event_id=event.id)
    holds.cancel(event_id=event.id, claim_id=names[1])
    holds.confirm(event_id=event.id, claim_id=names[2])
    assert counts(event, store) == (2, 1, 1)
    sales.close(event_id=event.id)
    let_time_pass(event)
    assert holds.due() == {event.id}
    assert holds.release_due(event.id, store) == 1
    assert counts(event, store) == (1, 0, 2)


# Who sees to it -------------------------------------------------------------------------------------------------------


def test_the_sweep_releases_what_is_due_and_needs_no_redis_to_know_of_it(sale: Sale, store: StockStore) -> None:
    event, other, user = sale(hold_seconds=60), sale(hold_seconds=60), make_user()
    hold(event, user.pk, store)
    hold(other, user.pk, store)
    let_time_pass(event)
    with no_redis(), patch.object(tasks.release_holds, "apply_async") as sent:
        tasks.sweep()
    assert [call.args for call in sent.call_args_list] == [((event.id,),)]
    tasks.release_holds(event.id)
    assert counts(event, store) == (0, 0, event.quantity)


def test_a_worker_that_hears_of_no_sweep_releases_them_itself(sale: Sale, store: StockStore) -> None:
    event = sale(hold_seconds=60)
    hold(event, make_user().pk, store)
    let_time_pass(event)
    standby.sweep()
    assert counts(event, store) == (0, 0, event.quantity)


def test_an_owner_hears_of_the_hold_in_words(sale: Sale, store: StockStore) -> None:
    event, user = sale(hold_seconds=60, title="Lunch"), make_user()
    holds.cancel(event_id=event.id, claim_id=hold(event, user.pk, store), reason="payment_failed")
    held, ended = (texts([one], language="en")[one.pk] for one in Notification.objects.order_by("id"))
    assert held.title == "Lunch: yours, once it is confirmed"
    assert held.body.startswith("It is held for you until ")
    assert "The payment failed" in ended.body
