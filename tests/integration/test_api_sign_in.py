"""Signing in, tokens, and the limits on both."""

import time
from typing import Any

import jwt
import pytest
from django.conf import settings
from django.test import RequestFactory
from django_redis import get_redis_connection

from config.embedded import free_port
from config.ratelimits import client_address
from tests.api_kit import Caller, forge, problem_of, token_of
from tests.factories import make_user

TOKEN, REFRESH, PRIVATE = "/api/v1/auth/token", "/api/v1/auth/token/refresh", "/api/v1/coupons"
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _quick_hashes(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def user(transactional_db):
    user = make_user(username="minji")
    user.set_password(PASSWORD)
    user.save()
    return user


def sign_in(username: str = "minji", password: str = PASSWORD, **headers: str) -> Any:
    return Caller().post(TOKEN, {"username": username, "password": password}, **headers)


def test_a_name_and_a_password_give_a_pair_that_gives_the_next_pair(user):
    pair = sign_in().json()
    assert set(pair) == {"access", "refresh"}
    assert Caller(token=pair["access"]).get(PRIVATE).status_code == 200
    next_pair = Caller().post(REFRESH, {"refresh": pair["refresh"]}).json()
    assert set(next_pair) == {"access", "refresh"}
    assert Caller(token=next_pair["access"]).get(PRIVATE).status_code == 200
    claims = jwt.decode(next_pair["access"], settings.SIGNING_KEY, algorithms=["HS256"])
    assert (claims["user_id"], claims["token_type"]) == (str(user.id), "access")


@pytest.mark.parametrize(
    ("username", "password"), [("minji", "wrong"), ("nobody", PASSWORD), ("minji", " " + PASSWORD)]
)
def test_a_wrong_name_or_password_is_not_told_apart(user, username, password):
    response = sign_in(username, password)
    body = problem_of(response, "unauthenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert body["detail"] == "The name or the password is wrong."


def test_who_is_deactivated_gets_no_token_any_more(user):
    refresh = sign_in().json()["refresh"]
    user.is_active = False
    user.save()
    problem_of(sign_in(), "unauthenticated")
    problem_of(Caller().post(REFRESH, {"refresh": refresh}), "unauthenticated")


def test_a_new_password_ends_the_tokens_of_the_old_one(user):
    old = sign_in().json()
    assert "auth" not in jwt.decode(old["access"], settings.SIGNING_KEY, algorithms=["HS256"])
    user.set_password("another password")
    user.save()
    problem_of(Caller().post(REFRESH, {"refresh": old["refresh"]}), "unauthenticated")
    new = sign_in(password="another password").json()
    assert Caller().post(REFRESH, {"refresh": new["refresh"]}).status_code == 200


@pytest.mark.parametrize("body", [{}, {"username": "minji"}, {"username": "", "password": ""}, {"username": "\x00a"}])
def test_missing_fields_are_named(user, body):
    assert problem_of(Caller().post(TOKEN, body), "invalid")["errors"]


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "{}", "é", "WyI" + "bW1t" * 2000 + ".e30.x"])
def test_what_is_no_refresh_token_gives_no_pair(user, token):
    assert Caller().post(REFRESH, {"refresh": token}).status_code in {400, 401}


def test_an_access_token_gives_no_pair(user):
    problem_of(Caller().post(REFRESH, {"refresh": token_of(user)}), "unauthenticated")


# --- What a bearer token must be --------------------------------------------------------------------------------------


def test_a_private_path_asks_for_a_token(db):
    response = Caller().get(PRIVATE)
    problem_of(response, "unauthenticated")
    assert response["WWW-Authenticate"] == 'Bearer realm="seonchak"'


@pytest.mark.parametrize("header", ["Basic bWluamk6eA==", "Bearer", "Bearer ", "", "Token x", "Bearer a b"])
def test_another_authorization_is_none(db, header):
    problem_of(Caller().get(PRIVATE, Authorization=header), "unauthenticated")


@pytest.mark.parametrize("user_id", [7, "7"])
def test_a_user_id_may_be_a_number_or_its_digits(db, user_id):
    assert Caller(token=forge(user_id=user_id)).get(PRIVATE).status_code == 200


NESTED = jwt.utils.base64url_encode(b"[" * 5000).decode()

BAD = {
    "expired": lambda: forge(exp=time.time() - 1),
    "without expiry": lambda: forge(exp=None),
    "forged": lambda: forge(key="another key of thirty-two characters or more"),
    "unsigned": lambda: forge(algorithm="none"),
    "a refresh token": lambda: forge(token_type="refresh"),
    "of no type": lambda: forge(token_type=None),
    "without user": lambda: forge(user_id=None),
    "of no number": lambda: forge(user_id="minji"),
    "of a fraction": lambda: forge(user_id=1.5),
    "of a truth": lambda: forge(user_id=True),
    "of a negative user": lambda: forge(user_id=-1),
    "of too large a user": lambda: forge(user_id=2**63),
    "not valid yet": lambda: forge(nbf=time.time() + 60),
    "cut off": lambda: forge()[:-2],
    "nonsense": lambda: "é☃",
    "brackets in brackets": lambda: f"{NESTED}.{NESTED}.x",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_token_that_is_bad_lets_nobody_in(db, bad):
    token = BAD[bad]().encode().decode("latin-1")  # as a header carries it
    response = Caller(token=token).get(PRIVATE)
    problem_of(response, "unauthenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


# --- Limits: a period of a hundred days, because one that ends during a test begins a new count -----------------------


def limited(response: Any) -> bool:
    if response.status_code != 429:
        return False
    problem_of(response, "rate_limited")
    assert int(response["Retry-After"]) >= 1
    return True


def test_an_account_is_limited_from_whatever_address_and_however_it_is_spelt(user, settings):
    settings.SIGN_IN_RATE_PER_ACCOUNT, settings.TRUSTED_PROXIES = "3/100d", 1
    names = ["minji", "MINJI", "\N{FULLWIDTH LATIN SMALL LETTER M}inji", "minji "]
    answers = [sign_in(name, "wrong", X_Forwarded_For=f"203.0.113.{n}") for n, name in enumerate(names)]
    assert [limited(one) for one in answers] == [False, False, False, True]
    assert limited(sign_in())  # the right password does not help
    assert not limited(sign_in("another"))
    assert all(b"minji" not in key.lower() for key in get_redis_connection("default").keys("*"))


def test_an_address_is_limited_whatever_the_account(db, settings):
    settings.SIGN_IN_RATE_PER_ADDRESS = "3/100d"
    assert [limited(sign_in(f"user{n}")) for n in range(4)] == [False, False, False, True]
    assert limited(Caller().post(REFRESH, {"refresh": "x"})), "both doors count together"


def test_a_refresh_is_limited_by_its_user(user, settings):
    settings.SIGN_IN_RATE_PER_ACCOUNT = "2/100d"
    refresh = sign_in().json()["refresh"]
    answers = [Caller().post(REFRESH, {"refresh": refresh}) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert limited(answers[-1])


@pytest.mark.parametrize("proxies", [0, 1, 2])
def test_a_limit_is_not_dodged_by_a_forged_x_forwarded_for(db, settings, proxies):
    settings.SIGN_IN_RATE_PER_ADDRESS, settings.TRUSTED_PROXIES = "3/100d", proxies
    seen = {0: [], 1: ["198.51.100.7"], 2: ["198.51.100.7", "10.0.0.1"]}[proxies]
    headers = [", ".join([f"203.0.113.{n}", *seen]) for n in range(4)]
    answers = [sign_in(f"user{n}", X_Forwarded_For=header) for n, header in enumerate(headers)]
    assert [limited(one) for one in answers] == [False, False, False, True]


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.1", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "203.0.113.1", "203.0.113.1"),
        (1, "198.51.100.9, 203.0.113.1", "203.0.113.1"),
        (2, "198.51.100.9, 203.0.113.1, 10.0.0.1", "203.0.113.1"),
        (2, "203.0.113.1", "192.0.2.1"),
        (1, "203.0.113.1, nonsense", "192.0.2.1"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        (1, "2001:DB8:1:2:ffff::1", "2001:db8:1:2::"),
        (1, "::ffff:203.0.113.1", "203.0.113.1"),
    ],
)
def test_the_clients_address_is_the_nth_from_the_right(settings, proxies, forwarded, address):
    settings.TRUSTED_PROXIES = proxies
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    assert client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR="192.0.2.1")) == address


def test_without_redis_nobody_signs_in_and_a_token_still_works(user, settings):
    caches = {**settings.CACHES}
    caches["default"] = {**caches["default"], "LOCATION": f"redis://127.0.0.1:{free_port()}/1"}
    settings.CACHES = caches
    for response in (sign_in(), Caller().post(REFRESH, {"refresh": "x"})):
        problem_of(response, "unavailable")
        assert int(response["Retry-After"]) >= 1
    assert Caller(user).get(PRIVATE).status_code == 200
