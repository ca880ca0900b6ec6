"""Signing in and out of the pages: to our own addresses only, and not as often as one likes."""

from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings

from config.embedded import free_port
from tests.factories import make_user

pytestmark = pytest.mark.django_db(transaction=True)


def sign_in(client: Client, username: str, password: str, **data: str) -> Any:
    return client.post("/accounts/login", {"username": username, "password": password, **data})


@pytest.fixture
def mina() -> User:
    return User.objects.create_user("mina", password="a good password")


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"]
)
def test_signing_in_leads_to_our_own_pages_only(mina: User, client: Client, address: str) -> None:
    assert sign_in(client, "mina", "a good password", next=address)["Location"] == "/"
    assert client.post("/accounts/logout", {"next": address})["Location"] == "/"


def test_a_wrong_password_is_told_without_saying_which_was_wrong(mina: User, client: Client) -> None:
    mina_is_told, nobody_is_told = (
        list(sign_in(client, name, "wrong").context["form"].non_field_errors()) for name in ("mina", "nobody")
    )
    assert mina_is_told
    assert mina_is_told == nobody_is_told


def test_signing_in_is_limited_by_account_for_pages_and_admin_alike(mina: User, client: Client) -> None:
    with override_settings(SIGN_IN_RATE_PER_ACCOUNT="2/h"):
        for _ in range(2):
            assert sign_in(client, "mina", "wrong").status_code == 200
        response = sign_in(client, "MINA", "a good password")
        assert response.status_code == 429
        assert int(response["Retry-After"]) > 0
        assert sign_in(client, "someone else", "wrong").status_code == 200
    assert client.get("/admin/login/?next=/admin/")["Location"] == "/accounts/login?next=/admin/"
    assert client.post("/admin/login/", {"username": "mina", "password": "a good password"}).status_code == 302
    assert "_auth_user_id" not in client.session


def test_signing_in_is_limited_by_address(client: Client) -> None:
    with override_settings(SIGN_IN_RATE_PER_ADDRESS="1/h"):
        assert sign_in(client, "one", "wrong").status_code == 200
        assert sign_in(client, "two", "wrong").status_code == 429
        assert client.get("/accounts/login").status_code == 200


def test_without_redis_signing_in_is_unavailable_and_no_error(mina: User, client: Client) -> None:
    away = {
        **settings.CACHES,
        "default": {**settings.CACHES["default"], "LOCATION": f"redis://127.0.0.1:{free_port()}/0"},
    }
    with override_settings(CACHES=away):
        assert sign_in(client, "mina", "a good password").status_code == 503


@pytest.mark.parametrize("address", ["/accounts/logout", "/admin/logout/"])
def test_signing_out_takes_a_form_and_has_the_browser_forget_the_user(client: Client, address: str) -> None:
    client.force_login(make_user(is_staff=True))
    assert client.get(address).status_code == 405
    answer = client.post(address)
    assert (answer["Location"], answer["Clear-Site-Data"]) == ("/", '"storage"')
    assert client.get("/coupons").status_code == 302
