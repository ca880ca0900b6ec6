"""Rows for tests."""

from datetime import timedelta
from typing import Any, cast

import factory
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.utils import timezone

from events.models import Event


class UserFactory(factory.django.DjangoModelFactory):
    """A customer."""

    class Meta:
        model = get_user_model()

    username = factory.Sequence(lambda n: f"user{n}")


class EventFactory(factory.django.DjangoModelFactory):
    """A draft of a sale that opened a minute ago: publish it with `events.services.publish`."""

    class Meta:
        model = Event

    title = factory.Sequence(lambda n: f"Sale {n}")
    slug = factory.Sequence(lambda n: f"sale-{n}")
    benefit = "₩10,000 off"
    opens_at = factory.LazyFunction(lambda: timezone.now() - timedelta(minutes=1))
    closes_at = factory.LazyFunction(lambda: timezone.now() + timedelta(hours=1))
    quantity = 10


def make_user(**fields: Any) -> User:
    """A customer in the database."""
    return cast("User", UserFactory.create(**fields))


def make_event(**fields: Any) -> Event:
    """A draft in the database."""
    return cast("Event", EventFactory.create(**fields))


def make_users(number: int) -> list[int]:
    """So many customers, in few statements; their ids."""
    users = get_user_model().objects.bulk_create(UserFactory.build_batch(number), batch_size=5_000)
    return [user.pk for user in users]
