"""The admin of coupons, failed claims and drift."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from coupons import issuing, services
from coupons.models import Coupon, FailedClaim, Reconciliation
from coupons.stock.store import StockStore
from events.models import Event
from notifications.models import Notification
from tests.factories import make_event, make_user
from tests.outages import no_redis
from tests.sales import assert_sum, reserve

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]
FAILED = "/admin/coupons/failedclaim/"


def signed_in(*permissions: str) -> Client:
    user = make_user(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    names = ("coupon", "failedclaim", "reconciliation", "notification")
    return signed_in("change_failedclaim", *(f"view_{name}" for name in names))


def failed_claim(event: Event, *, sequence: int = 900, **fields: Any) -> FailedClaim:
    """A claim of a new user that was rejected; its unit went back."""
    values: dict[str, Any] = {"user_id": make_user().pk, "ordinal": 1, "epoch": event.epoch, "sequence": sequence}
    values |= {"claimed_at": event.opens_at, "status": "rejected", "reason": "error", "attempts": 3}
    return FailedClaim.objects.create(event=event, **(values | fields))


def act(client: Client, action: str, *claims: FailedClaim) -> Any:
    data = {"action": action, "_selected_action": [claim.pk for claim in claims]}
    return client.post(FAILED, data, follow=True)


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_a_retried_claim_is_issued(operator: Client, sale: Sale, store: StockStore) -> None:
    event = sale()
    failed = failed_claim(event)
    assert messages_of(act(operator, "retry", failed)) == ["1 claim issued after all."]
    failed.refresh_from_db()
    assert failed.status == FailedClaim.Status.ISSUED
    assert Coupon.objects.get().user_id == failed.user_id
    assert_sum(store, event)


def test_an_abandoned_claim_stays_without_a_coupon(operator: Client, sale: Sale) -> None:
    failed = failed_claim(sale())
    assert messages_of(act(operator, "abandon", failed)) == ["1 claim abandoned."]
    failed.refresh_from_db()
    assert failed.status == FailedClaim.Status.ABANDONED
    assert not Coupon.objects.exists()


def test_each_failure_is_told_and_holds_up_no_other(operator: Client, sale: Sale, store: StockStore) -> None:
    event = sale(quantity=2)
    good = failed_claim(event, sequence=900)
    gone = failed_claim(event, sequence=901, user_id=2**40)
    done = failed_claim(event, sequence=902, status="abandoned")
    last = failed_claim(event, sequence=903)
    surplus = failed_claim(event, sequence=904)
    told = messages_of(act(operator, "retry", good, gone, done, last, surplus))
    assert told[0] == "2 claims issued after all."
    assert [message.split(":")[0] for message in told[1:]] == [str(one.claim_id) for one in (gone, done, surplus)]
    assert "still refused" in told[1]
    assert "not rejected but abandoned" in told[2]
    assert "raise the quantity" in told[3]
    assert set(Coupon.objects.values_list("user_id", flat=True)) == {good.user_id, last.user_id}
    assert_sum(store, event)


def test_without_redis_a_retry_is_refused_and_told(operator: Client, sale: Sale) -> None:
    failed = failed_claim(sale())
    with no_redis():
        (message,) = messages_of(act(operator, "retry", failed))
    assert "Redis cannot be reached" in message
    failed.refresh_from_db()
    assert failed.status == FailedClaim.Status.REJECTED
    assert not Coupon.objects.exists()


def test_many_failures_do_not_bury_the_page(operator: Client, sale: Sale) -> None:
    event = sale()
    claims = [failed_claim(event, sequence=900 + n, status="abandoned") for n in range(25)]
    told = messages_of(act(operator, "retry", *claims))
    assert len(told) == 21
    assert told[-1] == "5 more failed like these."


def test_who_may_only_look_is_offered_no_action(sale: Sale) -> None:
    failed = failed_claim(sale())
    client = signed_in("view_failedclaim")
    assert b'value="retry"' not in client.get(FAILED).content
    act(client, "retry", failed)
    act(client, "abandon", failed)
    failed.refresh_from_db()
    assert failed.status == FailedClaim.Status.REJECTED


def test_what_was_done_is_in_the_history(operator: Client, sale: Sale) -> None:
    failed = failed_claim(sale())
    act(operator, "abandon", failed)
    assert "The claim was abandoned." in operator.get(f"{FAILED}{failed.pk}/history/").content.decode()


@pytest.mark.parametrize("model", ["coupons/coupon", "coupons/failedclaim", "coupons/reconciliation"])
def test_nobody_adds_or_deletes_rows_by_hand(model: str) -> None:
    user = make_user(is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user)
    assert client.get(f"/admin/{model}/").status_code == 200
    assert client.get(f"/admin/{model}/add/").status_code == 403


def test_a_failed_claim_is_shown_and_not_edited(operator: Client, sale: Sale) -> None:
    failed = failed_claim(sale())
    address = f"{FAILED}{failed.pk}/change/"
    assert operator.get(address).status_code == 200
    assert operator.post(address, {"status": "issued"}).status_code == 403
    failed.refresh_from_db()
    assert failed.status == FailedClaim.Status.REJECTED


def test_a_coupon_is_found_by_its_code_and_by_its_user(operator: Client, sale: Sale, store: StockStore) -> None:
    event = sale()
    reserve(store, event, make_user().pk, make_user().pk)
    issuing.issue_claims(event.pk, store)
    mine, other = Coupon.objects.order_by("id")

    def found(search: str) -> set[str]:
        page = operator.get("/admin/coupons/coupon/", {"q": search}).content.decode()
        return {coupon.code for coupon in (mine, other) if coupon.code in page}

    assert found("") == {mine.code, other.code}
    assert found(mine.code) == found(f" {mine.code.replace('-', '').lower()} ") == {mine.code}
    assert found(str(other.user_id)) == {other.code}
    assert found("nothing") == found("9" * 30) == found("²") == set()


def test_the_lists_do_not_ask_once_a_row(operator: Client, sale: Sale, store: StockStore) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            for address in (FAILED, "/admin/coupons/coupon/", "/admin/notifications/notification/"):
                assert operator.get(address).status_code == 200
        return len(captured)

    event = sale()
    failed_claim(event)
    reserve(store, event, make_user().pk)
    issuing.issue_claims(event.pk, store)
    few = queries()
    for n in range(3):
        failed_claim(event, sequence=901 + n)
        reserve(store, event, make_user().pk)
    issuing.issue_claims(event.pk, store)
    assert Notification.objects.count() == 4
    assert queries() == few


def test_drift_and_notifications_are_there_to_look_at(operator: Client) -> None:
    event = make_event(title="Lunch")
    Reconciliation.objects.create(event=event, kind="stock", expected=5, found=4, seen_at=event.opens_at)
    assert "Lunch" in operator.get("/admin/coupons/reconciliation/").content.decode()
    note = Notification.objects.create(user=make_user(), kind="coupon_issued", key="one", created_at=event.opens_at)
    assert operator.get(f"/admin/notifications/notification/{note.pk}/change/").status_code == 200
    assert operator.post(f"/admin/notifications/notification/{note.pk}/change/", {"key": "two"}).status_code == 403


# Holds ----------------------------------------------------------------------------------------------------------------

COUPONS = "/admin/coupons/coupon/"


def held(event: Event, store: StockStore, quantity: int = 1) -> Coupon:
    services.claim(event_id=event.id, user_id=make_user().pk, quantity=quantity)
    issuing.issue_claims(event.id, store)
    return Coupon.objects.latest("id")


def test_an_operator_sees_what_is_held_and_confirms_or_cancels_it(sale: Sale, store: StockStore) -> None:
    event, client = sale(hold_seconds=60, per_user_limit=2), signed_in("view_coupon", "confirm_claim")
    first, second = held(event, store, quantity=2), held(event, store)
    page = client.get(COUPONS).content.decode()
    assert first.code not in page
    assert first.code not in client.get(f"{COUPONS}{first.pk}/change/").content.decode()

    def act(action: str, *coupons: Coupon) -> list[str]:
        data = {"action": action, "_selected_action": [one.pk for one in coupons]}
        return messages_of(client.post(COUPONS, data, follow=True))

    both = list(Coupon.objects.filter(user=first.user))
    assert act("confirm", *both) == ["1 claim confirmed."]
    assert first.code in client.get(COUPONS).content.decode()
    told = act("cancel", *both, second)
    assert told[0] == "1 claim cancelled."
    assert "confirmed already" in told[1]
    assert_sum(store, event)
    assert (event.issued, event.held) == (2, 0)


def test_who_may_only_look_confirms_nothing(sale: Sale, store: StockStore) -> None:
    coupon, client = held(sale(hold_seconds=60), store), signed_in("view_coupon")
    client.post(COUPONS, {"action": "confirm", "_selected_action": [coupon.pk]}, follow=True)
    coupon.refresh_from_db()
    assert coupon.status == "held"
