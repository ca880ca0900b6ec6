"""Which keys sign and verify tokens, as the environment names them."""

import pytest
from django.test import override_settings

from config.settings import SIMPLE_JWT
from config.token_keys import chosen
from tests.api_kit import Caller, problem_of

SECRET = "a secret of more than thirty-two characters"
PEM = "-----BEGIN PUBLIC KEY-----\nsecret\n-----END PUBLIC KEY-----"


def test_a_secret_signs_and_verifies_unless_told_otherwise():
    for environment in ({}, {"JWT_ALGORITHM": "HS256"}, {"JWT_ALGORITHM": " "}):
        keys = chosen(environment, secret=SECRET)
        assert (keys.algorithm, keys.signing, keys.verifying, keys.jwks_url) == ("HS256", SECRET, SECRET, "")


def test_with_the_keys_of_an_issuer_alone_nothing_signs():
    keys = chosen({"JWT_ALGORITHM": "RS256", "JWT_JWKS_URL": "https://issuer.example/keys"}, secret=SECRET)
    assert (keys.signing, keys.verifying, keys.jwks_url) == ("", "", "https://issuer.example/keys")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"JWT_ALGORITHM": "none"}, "JWT_ALGORITHM must be HS256 or RS256"),
        ({"JWT_ALGORITHM": "HS512"}, "JWT_ALGORITHM must be HS256 or RS256"),
        ({"JWT_PUBLIC_KEY": PEM}, "JWT_PUBLIC_KEY is set, and is not for JWT_ALGORITHM HS256"),
        ({"JWT_JWKS_URL": "https://a.example"}, "JWT_JWKS_URL is set, and is not for JWT_ALGORITHM HS256"),
        ({"JWT_ALGORITHM": "RS256"}, "JWT_PUBLIC_KEY is not set"),
        ({"JWT_ALGORITHM": "RS256", "JWT_SIGNING_KEY": SECRET}, "JWT_SIGNING_KEY is set, and is not for"),
        ({"JWT_ALGORITHM": "RS256", "JWT_JWKS_URL": "file:///secret"}, "JWT_JWKS_URL must be a URL"),
        (
            {"JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY": PEM, "JWT_JWKS_URL": "https://a.example"},
            "JWT_PUBLIC_KEY and JWT_JWKS_URL are both set",
        ),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(environment, words):
    with pytest.raises(ValueError, match=words) as stopped:
        chosen(environment, secret=SECRET)
    assert "secret" not in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_a_public_key_is_no_secret():
    with pytest.raises(ValueError, match="JWT_SIGNING_KEY is a key of another algorithm"):
        chosen({}, secret=PEM)


def test_where_tokens_are_issued_elsewhere_nobody_gets_one_here(db):
    with override_settings(SIMPLE_JWT=SIMPLE_JWT | {"SIGNING_KEY": ""}):
        for path in ("/api/v1/auth/token", "/api/v1/auth/token/refresh"):
            assert "issued" in problem_of(Caller().post(path, {}), "not_found")["detail"]
