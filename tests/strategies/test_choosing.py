"""The strategy of a sale is chosen in the admin while it is a draft, and fixed when it is published."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from coupons.strategies import STRATEGIES
from events import services as sales
from events.errors import InvalidChange
from events.models import ALL_WAYS, Event
from tests.factories import make_event, make_user

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def fields(**more: Any) -> dict[str, Any]:
    """What the form of a new sale sends."""
    now = timezone.localtime()
    moments = {"opens_at": now, "closes_at": now + timedelta(hours=1)}
    split = {
        f"{name}_{i}": f"{at:{form}}" for name, at in moments.items() for i, form in enumerate(("%Y-%m-%d", "%H:%M"))
    }
    numbers = {"quantity": 10, "per_user_limit": 1, "rate_per_second": 10, "burst": 20, "redis_lost_after": 10}
    return {"title": "Sale", "slug": "sale", "benefit": "free", **numbers, **split, **more}


def test_every_name_has_its_strategy_and_only_those() -> None:
    assert set(STRATEGIES) == set(Event.Strategy.values) == ALL_WAYS
    assert all(one.name == name for name, one in STRATEGIES.items())
    assert all((one.__doc__ or "").count("Against:") == 1 for one in STRATEGIES.values()), "each says its trade-off"


def test_an_operator_chooses_one_with_a_hint_by_size(operator: Client) -> None:
    page = operator.get(reverse("admin:events_event_add")).content.decode()
    assert all(f'value="{name}"' in page for name in STRATEGIES)
    assert "up to 100 people" in page
    operator.post(reverse("admin:events_event_add"), fields(strategy="conditional_update"))
    event = Event.objects.get()
    assert (event.strategy, event.status) == ("conditional_update", "draft")
    operator.post(reverse("admin:events_event_change", args=[event.pk]), fields(strategy="skip_locked"))
    event.refresh_from_db()
    assert event.strategy == "skip_locked"


def test_it_is_fixed_once_the_sale_is_published(operator: Client, sale: Sale) -> None:
    event = sale(strategy="row_lock")
    address = reverse("admin:events_event_change", args=[event.pk])
    assert 'name="strategy"' not in operator.get(address).content.decode()
    operator.post(address, fields(strategy="lua_async", title="New"))
    event.refresh_from_db()
    assert (event.strategy, event.title) == ("row_lock", "New")
    with pytest.raises(InvalidChange, match="fixed"):
        sales.choose_strategy(event_id=event.pk, strategy="lua_async")


@pytest.mark.parametrize(
    ("strategy", "more"), [("redis_set", {"per_user_limit": 2}), ("row_lock", {"waiting_room": "on"})]
)
def test_what_does_not_go_together_is_said_in_the_form_and_held_by_the_database(
    operator: Client, strategy: str, more: dict[str, Any]
) -> None:
    answer = operator.post(reverse("admin:events_event_add"), fields(strategy=strategy, **more))
    assert answer.status_code == 200
    assert answer.context["adminform"].errors
    with pytest.raises(IntegrityError), transaction.atomic():
        make_event(strategy=strategy, **{name: bool(value) if value == "on" else value for name, value in more.items()})


def test_a_sale_of_one_each_stays_so(sale: Sale) -> None:
    event = sale(strategy="redis_counter")
    terms = Event.objects.values("quantity", "opens_at", "closes_at", "rate_per_second", "burst").get(pk=event.pk)
    with pytest.raises(InvalidChange, match="one coupon only"):
        sales.change(event_id=event.pk, per_user_limit=2, **terms)
    with pytest.raises(ValidationError):
        Event(strategy="redis_set", per_user_limit=2).clean()


@pytest.mark.parametrize("quantity", [7, 2])
def test_the_units_of_a_sale_follow_its_quantity(sale: Sale, quantity: int) -> None:
    event = sale(strategy="skip_locked", quantity=5)
    terms = Event.objects.values("opens_at", "closes_at", "per_user_limit", "rate_per_second", "burst").get(pk=event.pk)
    sales.change(event_id=event.pk, quantity=quantity, **terms)
    assert list(event.units.order_by("number").values_list("number", flat=True)) == list(range(1, quantity + 1))
