"""The admin of sales: who may do what, what follows in Redis, and what an operator is told when it cannot be done."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from coupons import issuing, locks, modes
from coupons.stock.store import StockStore
from events.admin import EventAdmin
from events.models import Event
from tests.factories import make_event, make_user
from tests.outages import no_redis, silent_server, stock_at
from tests.sales import reserve

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]
Status = Event.Status

LIST = "/admin/events/event/"


def staff(*permissions: str) -> User:
    user = make_user(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return signed_in(staff("add_event", "view_event", "change_event", "delete_event"))


def page_of(event: Event) -> str:
    return reverse("admin:events_event_change", args=[event.pk])


def operate(client: Client, event: Event, name: str, **data: str) -> Any:
    return client.post(reverse("admin:events_event_operate", args=[event.pk, name]), data, follow=True)


def fields_of(event: Event, **changes: object) -> dict[str, Any]:
    """What the form of the sale sends, with changes."""
    values = {name: getattr(event, name) for name in ("title", "slug", "benefit", "description", "quantity")}
    values |= {
        name: getattr(event, name) for name in ("per_user_limit", "rate_per_second", "burst", "redis_lost_after")
    }
    for name in ("opens_at", "closes_at"):
        moment = timezone.localtime(changes.pop(name, getattr(event, name)))  # type: ignore[arg-type]
        values |= {f"{name}_0": moment.strftime("%Y-%m-%d"), f"{name}_1": moment.strftime("%H:%M:%S")}
    return values | changes


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


@contextmanager
def drained_elsewhere(event: Event) -> Iterator[None]:
    """Another connection holds the drain lock of the event, and ours does not wait long for it."""
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor, connection.cursor() as ours:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [locks.NAMESPACE + event.pk])
        ours.execute("SET lock_timeout = '50ms'")
        try:
            yield
        finally:
            ours.execute("RESET lock_timeout")
            other.rollback()
            other.close()


def test_a_new_sale_is_a_draft_that_nobody_sees(operator: Client) -> None:
    response = operator.post(LIST + "add/", fields_of(make_event(), title="Lunch", slug="lunch"))
    assert response.status_code == 302
    event = Event.objects.get(slug="lunch")
    assert (event.status, event.epoch, event.issued) == (Status.DRAFT, 0, 0)
    assert operator.get("/events/lunch").status_code == 404


def test_status_epoch_and_issued_cannot_be_written_by_the_form(operator: Client) -> None:
    event = make_event()
    operator.post(page_of(event), fields_of(event, status="published", epoch=7, issued=3))
    event.refresh_from_db()
    assert (event.status, event.epoch, event.issued) == (Status.DRAFT, 0, 0)


def test_publish_pause_resume_and_close_change_database_and_stock(operator: Client, store: StockStore) -> None:
    event = make_event()
    for name, status in (("publish", "published"), ("pause", "paused"), ("resume", "published")):
        response = operate(operator, event, name)
        event.refresh_from_db()
        assert (event.status, store.snapshot(event.pk).status) == (status, status)
        assert len(messages_of(response)) == 1
    operate(operator, event, "close", confirmed="yes")
    event.refresh_from_db()
    assert (event.status, store.snapshot(event.pk).status) == ("closed", "closed")


def test_only_what_can_be_done_is_offered(operator: Client, sale: Sale) -> None:
    def offered(event: Event) -> set[str]:
        page = operator.get(page_of(event)).content.decode()
        return set(re.findall(r"/operate/([a-z-]+)\"", page))

    draft, event = make_event(), sale()
    assert offered(draft) == {"publish"}
    assert offered(event) == {"pause", "sell-from-database", "close"}
    operate(operator, event, "pause")
    operate(operator, event, "sell-from-database", confirmed="yes")
    assert offered(event) == {"resume", "sell-from-redis", "close"}
    operate(operator, event, "close", confirmed="yes")
    assert offered(event) == set()


def test_a_sale_is_moved_to_the_database_when_it_is_said_twice_and_back(
    operator: Client, sale: Sale, store: StockStore
) -> None:
    event = sale(quantity=5)
    asked = operate(operator, event, "sell-from-database").content.decode()
    event.refresh_from_db()
    assert (event.stock_mode, event.epoch) == ("redis", 1)
    assert "people are told to come again" in asked
    (message,) = messages_of(operate(operator, event, "sell-from-database", confirmed="yes"))
    event.refresh_from_db()
    assert (event.stock_mode, event.epoch, message) == (
        "database",
        2,
        "The sale sells from the database, until you move it back.",
    )
    assert not store.snapshot(event.id).loaded
    page = operator.get(page_of(event)).content.decode()
    assert "An operator chose the database" in page
    assert ">5<" in page, "what is left is known without Redis"
    with no_redis():
        (message,) = messages_of(operate(operator, event, "sell-from-redis"))
    assert message.startswith("Redis cannot be reached")
    operate(operator, event, "sell-from-redis")
    event.refresh_from_db()
    assert (event.stock_mode, event.epoch, store.snapshot(event.id).stock) == ("redis", 3, 5)


def test_the_page_of_a_sale_that_lost_redis_says_so(operator: Client, sale: Sale) -> None:
    event = sale(redis_lost_after=7)
    with no_redis():
        assert "After 7 seconds the sale goes on from the database" in operator.get(page_of(event)).content.decode()
        modes.fall_back(event.id, epoch=1)
        assert "Redis was lost at" in operator.get(page_of(event)).content.decode()


def test_closing_is_asked_for_twice_and_says_that_it_is_final(operator: Client, sale: Sale) -> None:
    event = sale()
    response = operate(operator, event, "close")
    event.refresh_from_db()
    assert event.status == Status.PUBLISHED
    assert "Closed is final" in response.content.decode()


def test_closed_is_final(operator: Client, sale: Sale) -> None:
    event = sale()
    operate(operator, event, "close", confirmed="yes")
    for name in ("publish", "pause", "resume", "close"):
        (message,) = messages_of(operate(operator, event, name, confirmed="yes"))
        assert "closed is final" in message
    assert operator.post(page_of(event), fields_of(event, quantity=500)).status_code == 403
    page = operator.get(page_of(event))
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    event.refresh_from_db()
    assert (event.status, event.quantity) == (Status.CLOSED, 10)


def test_what_cannot_be_done_is_told_and_not_done(operator: Client) -> None:
    event = make_event()
    (message,) = messages_of(operate(operator, event, "pause"))
    assert "draft" in message
    event.refresh_from_db()
    assert event.status == Status.DRAFT


def test_a_sale_whose_time_is_over_is_not_published(operator: Client) -> None:
    event = make_event(closes_at=timezone.now() - timedelta(seconds=1))
    (message,) = messages_of(operate(operator, event, "publish"))
    assert "closing time has passed" in message


def test_the_buttons_answer_to_post_with_a_token_only(sale: Sale) -> None:
    event = sale()
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff("change_event", "view_event"))
    address = reverse("admin:events_event_operate", args=[event.pk, "pause"])
    assert client.get(address).status_code == 405
    assert client.post(address).status_code == 403
    event.refresh_from_db()
    assert event.status == Status.PUBLISHED


@pytest.mark.parametrize("permissions", [(), ("view_event",), ("add_event", "delete_event", "view_event")])
def test_staff_without_the_right_to_change_change_nothing(sale: Sale, permissions: tuple[str, ...]) -> None:
    event = sale()
    client = signed_in(staff(*permissions))
    assert operate(client, event, "pause").status_code == 403
    assert client.post(page_of(event), fields_of(event, quantity=20)).status_code == 403
    page = client.get(page_of(event))
    assert page.status_code == (200 if "view_event" in permissions else 403)
    assert b"/operate/" not in page.content
    event.refresh_from_db()
    assert (event.status, event.quantity) == (Status.PUBLISHED, 10)


def test_customers_have_no_business_here(sale: Sale) -> None:
    event = sale()
    client = signed_in(make_user())
    for address in (LIST, page_of(event), reverse("admin:events_event_panel", args=[event.pk])):
        assert client.get(address).status_code == 302
    assert operate(client, event, "pause").redirect_chain[0][0].startswith("/admin/login/")


def test_an_unknown_operation_or_sale_is_not_found(operator: Client, sale: Sale) -> None:
    event = sale()
    assert operate(operator, event, "explode").status_code == 404
    assert operate(operator, Event(pk=event.pk + 1), "pause").status_code == 404


def test_a_change_of_the_terms_reaches_the_stock(operator: Client, sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    later = (event.closes_at + timedelta(hours=2)).replace(microsecond=0)
    assert operator.post(page_of(event), fields_of(event, quantity=25, closes_at=later)).status_code == 302
    event.refresh_from_db()
    assert (event.quantity, event.closes_at) == (25, later)
    assert store.snapshot(event.pk).stock == 25


def test_a_change_keeps_what_is_issued_while_it_is_made(
    operator: Client, sale: Sale, store: StockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = sale(quantity=10)
    reserve(store, event, make_user().pk)
    save_model = EventAdmin.save_model

    def issue_first(*arguments: Any) -> None:
        issuing.issue_claims(event.pk, store)  # after the form was checked, before it is saved
        save_model(*arguments)

    monkeypatch.setattr(EventAdmin, "save_model", issue_first)
    operator.post(page_of(event), fields_of(event, title="Another title"))
    event.refresh_from_db()
    assert (event.title, event.issued) == ("Another title", 1)


def test_the_quantity_cannot_fall_below_what_is_claimed_and_the_message_says_how_far(
    operator: Client, sale: Sale, store: StockStore
) -> None:
    event = sale(quantity=10)
    reserve(store, event, *(make_user().pk for _ in range(4)))
    response = operator.post(page_of(event), fields_of(event, quantity=3, title="Typed"))
    assert response.status_code == 200
    text = response.content.decode()
    assert "cannot fall below 4" in text
    assert 'value="Typed"' in text, "what was typed is not lost"
    event.refresh_from_db()
    assert (event.quantity, event.title) == (10, Event.objects.get().title)
    assert event.title != "Typed"
    assert store.snapshot(event.pk).stock == 6
    assert operator.post(page_of(event), fields_of(event, quantity=4)).status_code == 302
    assert store.snapshot(event.pk).stock == 0


def test_the_quantity_cannot_fall_below_what_is_issued(operator: Client, sale: Sale, store: StockStore) -> None:
    event = sale(quantity=10)
    reserve(store, event, make_user().pk, make_user().pk)
    issuing.issue_claims(event.pk, store)
    response = operator.post(page_of(event), fields_of(event, quantity=1))
    assert "At least 2" in response.content.decode()


def test_a_sale_that_closes_before_it_opens_is_refused(operator: Client, sale: Sale) -> None:
    event = sale()
    response = operator.post(page_of(event), fields_of(event, closes_at=event.opens_at - timedelta(hours=1)))
    assert "must close after it opens" in response.content.decode()


def test_the_address_of_a_published_sale_stays(operator: Client, sale: Sale) -> None:
    event = sale(slug="shared-by-thousands")
    operator.post(page_of(event), fields_of(event, slug="elsewhere"))
    event.refresh_from_db()
    assert event.slug == "shared-by-thousands"


def test_without_redis_nothing_changes_and_the_operator_is_told(operator: Client, sale: Sale) -> None:
    event = sale()
    with no_redis():
        (message,) = messages_of(operate(operator, event, "pause"))
        assert "Redis cannot be reached" in message
        response = operator.post(page_of(event), fields_of(event, quantity=20))
        assert (response.status_code, "Redis cannot be reached" in response.content.decode()) == (200, True)
    event.refresh_from_db()
    assert (event.status, event.quantity) == (Status.PUBLISHED, 10)


def test_without_redis_a_text_can_still_be_mended(operator: Client, sale: Sale) -> None:
    event = sale()
    with no_redis():
        assert operator.post(page_of(event), fields_of(event, title="Without the mistake")).status_code == 302
    event.refresh_from_db()
    assert event.title == "Without the mistake"


@pytest.mark.parametrize("silent", [False, True])
def test_without_redis_list_and_page_show_what_the_database_knows(operator: Client, sale: Sale, silent: bool) -> None:
    event = sale(title="Lunch")
    with silent_server() as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        with stock_at(url) if silent else no_redis():
            assert "Lunch" in operator.get(LIST).content.decode()
            page = operator.get(page_of(event)).content.decode()
            assert "Redis cannot be reached" in page
            assert "/operate/pause" in page


def test_while_the_lock_is_held_elsewhere_the_operator_is_told_to_try_again(operator: Client, sale: Sale) -> None:
    event = sale()
    with drained_elsewhere(event):
        (message,) = messages_of(operate(operator, event, "pause"))
        response = operator.post(page_of(event), fields_of(event, quantity=20))
    assert "try again in a minute" in message
    assert "try again in a minute" in response.content.decode()
    event.refresh_from_db()
    assert (event.status, event.quantity) == (Status.PUBLISHED, 10)


def test_the_panel_tells_stock_log_and_issued(operator: Client, sale: Sale, store: StockStore) -> None:
    event = sale(quantity=2000)
    reserve(store, event, *(make_user().pk for _ in range(3)))
    issuing.issue_claims(event.pk, store)
    reserve(store, event, make_user().pk, make_user().pk)
    panel = operator.get(reverse("admin:events_event_panel", args=[event.pk])).content.decode()
    assert "Issued 3, in the claim log 2, left 1995 / 2000" in panel
    assert "1,995" in panel
    assert "oldest 0" in panel
    age = r"oldest \d+\.\d s"  # which goes on between two readings
    page = operator.get(page_of(event)).content.decode()
    assert re.sub(age, "", panel) in re.sub(age, "", page), "the page has it before its script asks"


def test_the_panel_says_where_the_stock_is_not_loaded(operator: Client, sale: Sale, store: StockStore) -> None:
    event = sale()
    store.unload(event.pk)
    assert "The stock is not in Redis" in operator.get(page_of(event)).content.decode()


def test_the_list_tells_phase_and_stock_of_each_sale(operator: Client, sale: Sale, store: StockStore) -> None:
    make_event(title="Draft one")
    sold = sale(title="Gone", quantity=1)
    reserve(store, sold, make_user().pk)
    sale(title="Future", opens_at=timezone.now() + timedelta(minutes=5))
    page = operator.get(LIST).content.decode()
    for words in ("Draft one", "phase-draft", "Gone", "phase-sold_out", "Future", "phase-scheduled"):
        assert words in page


def test_a_draft_can_be_deleted_and_a_published_sale_cannot(operator: Client, sale: Sale) -> None:
    draft, event = make_event(), sale()
    operator.post(reverse("admin:events_event_delete", args=[draft.pk]), {"post": "yes"})
    response = operator.post(reverse("admin:events_event_delete", args=[event.pk]), {"post": "yes"})
    assert response.status_code == 403
    operator.post(LIST, {"action": "delete_selected", "_selected_action": [event.pk], "post": "yes"})
    assert list(Event.objects.all()) == [event]


def test_operations_are_in_the_history(operator: Client, sale: Sale) -> None:
    event = sale()
    operate(operator, event, "pause")
    history = operator.get(reverse("admin:events_event_history", args=[event.pk])).content.decode()
    assert "The sale is paused." in history


def test_the_time_of_a_hold_is_chosen_in_a_draft_and_fixed_afterwards(operator: Client) -> None:
    event = make_event()
    operator.post(page_of(event), fields_of(event, hold_seconds=90))
    event.refresh_from_db()
    assert event.hold_seconds == 90
    operate(operator, event, "publish")
    assert "Held, of these" in operator.get(page_of(event)).content.decode()
    operator.post(page_of(event), fields_of(event, hold_seconds=10))
    event.refresh_from_db()
    assert event.hold_seconds == 90


def test_holds_are_refused_with_a_strategy_that_has_none(operator: Client) -> None:
    event = make_event()
    told = operator.post(page_of(event), fields_of(event, hold_seconds=90, strategy="row_lock")).content.decode()
    assert "Holds need the script in Redis" in told
    event.refresh_from_db()
    assert (event.hold_seconds, event.strategy) == (0, "lua_async")
