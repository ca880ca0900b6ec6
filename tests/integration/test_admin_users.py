"""The admin of users and groups, where operators get their rights."""

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from tests.factories import make_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def administrator(client: Client) -> Client:
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def test_a_new_user_can_sign_in(administrator: Client) -> None:
    password = "three quiet herons"
    fields = {"username": "mina", "usable_password": "true", "password1": password, "password2": password}
    assert administrator.post("/admin/auth/user/add/", fields).status_code == 302
    assert Client().login(username="mina", password=password)


def test_users_and_groups_are_shown(administrator: Client) -> None:
    user, group = User.objects.get(), Group.objects.create(name="Marketing")
    for address in ("user/", f"user/{user.pk}/change/", f"user/{user.pk}/password/", f"group/{group.pk}/change/"):
        assert administrator.get(f"/admin/auth/{address}").status_code == 200
