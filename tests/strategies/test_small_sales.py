"""A small sale runs with no Redis at all: published, claimed from on both lanes, watched and closed."""

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from coupons.models import Coupon
from coupons.strategies import STRATEGIES
from events import services as sales
from events.catalogue import catalogue
from events.errors import InvalidChange
from events.models import Event
from tests.api_kit import Caller, problem_of
from tests.factories import make_event, make_user
from tests.outages import stock_at
from tests.web import Server

NAMES = [name for name, one in STRATEGIES.items() if not one.needs_redis]


@pytest.fixture
def deserted() -> Iterator[str]:
    """The address of a stock that nobody may call on: the test fails if somebody does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        with stock_at(url):
            yield url
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("lane", ["web", "gate"])
def test_all_is_served_and_redis_is_not_asked(
    deserted: str, transactional_db: None, server: Callable[..., Server], lane: str
) -> None:
    events = [sales.publish(event_id=make_event(strategy=name, quantity=1).pk) for name in NAMES]
    process, (one, other) = server(lane, STOCK_REDIS_URL=deserted, CACHE_URL=deserted), (make_user(), make_user())
    for event in events:
        path = f"/api/v1/events/{event.pk}"

        def ask(method: str, what: str, user: Any, path: str = path) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {Caller(user).token}"}
            status, _, body = process.ask(method, f"{path}/{what}", b"" if method == "POST" else None, **headers)
            return status, json.loads(body)

        status, state = ask("GET", "state", None)
        assert (status, state["phase"], state["remaining"]) == (200, "open", 1)
        status, claimed = ask("POST", "claims", one)
        assert (status, claimed["status"]) == (201, "issued")
        assert ask("GET", f"claims/{claimed['id']}", one) == (200, claimed)
        assert ask("GET", "claims", one) == (200, [claimed])
        assert ask("GET", f"claims/{claimed['id']}", other)[0] == 404
        status, refused = ask("POST", "claims", other)
        assert (status, refused["code"]) == (409, "sold_out")
        assert process.ask("GET", f"/events/{event.slug}")[0] == 200
    assert Coupon.objects.count() == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_operators_need_none_either(deserted: str, transactional_db: None, name: str) -> None:
    operator, client = make_user(is_staff=True, is_superuser=True), Client()
    client.force_login(operator)
    event = make_event(strategy=name, quantity=2)
    for operation in ("publish", "pause", "resume"):
        answer = client.post(reverse("admin:events_event_operate", args=[event.pk, operation]), follow=True)
        assert answer.status_code == 200
    event.refresh_from_db()
    assert (event.status, event.stock_mode, event.epoch, event.fell_back_at) == ("published", "database", 1, None)
    page = client.get(reverse("admin:events_event_change", args=[event.pk])).content.decode()
    assert "never meets Redis" in page
    assert "sell-from-redis" not in page
    assert client.get(reverse("admin:events_event_changelist")).status_code == 200
    customer = make_user()
    assert Caller(customer).claim(event.pk).status_code == 201
    customers = Client()
    customers.force_login(customer)
    for path in (f"/events/{event.slug}", f"/events/{event.slug}/me", "/coupons"):
        assert customers.get(path).status_code == 200, path
    with pytest.raises(InvalidChange):
        sales.sell_from(event_id=event.pk, mode=Event.StockMode.REDIS)
    client.post(reverse("admin:events_event_operate", args=[event.pk, "close"]), {"confirmed": "1"})
    catalogue.refresh()
    problem_of(Caller(make_user()).claim(event.pk), "closed")
