"""Fixtures of several tests: of pages, and of sales without Redis."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from coupons import modes
from events.models import Event
from tests.factories import make_user


@pytest.fixture
def customer() -> User:
    return make_user()


@pytest.fixture
def browser(customer: User) -> Client:
    """The browser of a customer who is signed in."""
    client = Client()
    client.force_login(customer)
    return client


@pytest.fixture
def fallen(sale: Callable[..., Event]) -> Callable[..., Event]:
    """A sale that lost Redis: nothing of it is reached until it is brought back."""

    def make(**fields: Any) -> Event:
        event = sale(**fields)
        assert modes.fall_back(event.id, epoch=1)
        event.refresh_from_db()
        return event

    return make
