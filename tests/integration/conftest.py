"""Fixtures of the tests of pages."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

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
