"""Tokens of RS256: with a key of our own, and with those that an issuer lists."""

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.contrib.auth.models import User

from config.jwks import KeySet
from config.token_keys import chosen
from config.tokens import TokenVerifier, one_key
from events.errors import Unavailable

WITHIN = 20  # seconds
SECRET = "a secret of more than thirty-two characters"


@cache
def private(name: str = "ours", bits: int = 2048) -> Any:
    """A key of that name, the same whenever asked for."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem(key: Any) -> str:
    if hasattr(key, "public_key"):
        written: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    else:
        written = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return written.decode()


def token(key: Any = None, *, kid: str | None = None, user_id: int = 7, algorithm: str = "RS256", **claims: Any) -> str:
    said = {"token_type": "access", "user_id": user_id, "exp": int(time.time()) + 600, **claims}
    return jwt.encode(said, key or private(), algorithm=algorithm, headers=None if kid is None else {"kid": kid})


def verifier(key_of: Any = None) -> TokenVerifier:
    fixed = key_of or one_key(private().public_key(), algorithm="RS256")
    return TokenVerifier(algorithm="RS256", key_of=fixed, issuer=None, audience=None)


def encoded(some: bytes) -> str:
    return base64.urlsafe_b64encode(some).rstrip(b"=").decode()


def confused() -> str:
    """Signed with the public key as if it were a secret, as HS256."""
    said = {"token_type": "access", "user_id": 7, "exp": int(time.time()) + 600}
    start = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256"}, said))
    mac = hmac.digest(pem(private().public_key()).encode(), start.encode(), "sha256")
    return f"{start}.{encoded(mac)}"


def tampered(text: str) -> str:
    header, body, signature = text.split(".")
    return f"{header}.{body}.{signature[:9]}{'A' if signature[9] != 'A' else 'B'}{signature[10:]}"


REFUSED = {
    "of another key": lambda: token(private("other")),
    "tampered": lambda: tampered(token()),
    "cut off": lambda: token()[:-4],
    "signed with the public key as a secret": confused,
    "of RS512": lambda: token(algorithm="RS512"),
    "of PS256": lambda: token(algorithm="PS256"),
    "of HS256": lambda: token(SECRET, algorithm="HS256"),
    "unsigned": lambda: jwt.encode({"token_type": "access", "user_id": 7}, "", algorithm="none"),
    "expired": lambda: token(exp=int(time.time()) - 1),
    "a refresh token": lambda: token(token_type="refresh"),
}


def test_a_token_of_our_key_is_accepted_whatever_key_it_names():
    ours = verifier()
    assert (ours.caller(token()).id, ours.caller(token(kid="any")).id) == (7, 7)


@pytest.mark.parametrize("name", REFUSED)
def test_a_token_that_is_bad_is_refused(name):
    with pytest.raises(jwt.InvalidTokenError):
        verifier().caller(REFUSED[name]())


# --- The settings -----------------------------------------------------------------------------------------------------


def rs256(**given: str) -> Any:
    return chosen({"JWT_ALGORITHM": "RS256", **given}, secret=SECRET)


def test_a_private_key_verifies_what_it_signs_and_a_public_key_signs_nothing():
    keys = rs256(JWT_PRIVATE_KEY=pem(private()))
    assert keys.verifying == private().public_key()
    public = pem(private().public_key())
    assert rs256(JWT_PRIVATE_KEY=pem(private()), JWT_PUBLIC_KEY=public).verifying == keys.verifying
    for written in (public, public.replace("\n", "\\n"), f"\n{public}\n"):
        keys = rs256(JWT_PUBLIC_KEY=written)
        assert (keys.signing, keys.verifying) == ("", private().public_key())


def test_a_key_that_is_none_is_said_in_one_line_that_does_not_tell_it():
    short, curve = private("short", 1024), ec.generate_private_key(ec.SECP256R1())
    public, secret = pem(private().public_key()), pem(private())
    wrong = [
        ("JWT_PUBLIC_KEY", "secret"),
        ("JWT_PUBLIC_KEY", public[:-60]),
        ("JWT_PUBLIC_KEY", secret),
        ("JWT_PUBLIC_KEY", pem(short.public_key())),
        ("JWT_PUBLIC_KEY", pem(curve.public_key())),
        ("JWT_PRIVATE_KEY", public),
        ("JWT_PRIVATE_KEY", pem(short)),
        ("JWT_PRIVATE_KEY", pem(curve)),
    ]
    for name, value in wrong:
        with pytest.raises(ValueError, match=f"{name} must be the PEM of a (public|private) RSA key") as stopped:
            rs256(**{name: value})
        assert not any(line in str(stopped.value) for line in (*value.splitlines(), "\n"))
    with pytest.raises(ValueError, match="does not belong to"):
        rs256(JWT_PRIVATE_KEY=secret, JWT_PUBLIC_KEY=pem(private("other").public_key()))


# --- The keys of an issuer --------------------------------------------------------------------------------------------


class Issuer:
    """Lists keys at a URL. `answer` is what it says; None, and it does not answer."""

    def __init__(self) -> None:
        self.answer: bytes | None = b""
        self.asked = 0
        self.go_on = threading.Event()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                if issuer.answer is None:
                    issuer.go_on.wait(WITHIN)
                    return
                self.send_response(200 if issuer.answer else 500)
                self.end_headers()
                self.wfile.write(issuer.answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def lists(self, **keys: Any) -> None:
        """Give out these public keys by their names."""
        self.answer = json.dumps({"keys": [listed(key, kid=kid) for kid, key in keys.items()]}).encode()

    def stop(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def listed(key: Any, **fields: Any) -> dict[str, Any]:
    said = {"kty": "RSA", "use": "sig", "alg": "RS256", **fields}
    if isinstance(key, dict):
        return said | key
    return jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True) | said


@pytest.fixture
def issuer(monkeypatch) -> Iterator[Issuer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    one = Issuer()
    yield one
    one.stop()


@pytest.fixture
def key_set(issuer) -> Iterator[Callable[..., KeySet]]:
    """The keys of the issuer, read at most every `pause` seconds."""
    made: list[KeySet] = []

    def make(*, pause: float = 0.05) -> KeySet:
        made.append(KeySet(issuer.url, pause=pause))
        return made[-1]

    yield make
    issuer.go_on.set()
    for one in made:
        one.close()


def verdict(ours: TokenVerifier, text: str) -> str:
    try:
        return str(ours.caller(text).id)
    except Unavailable:
        return "unavailable"
    except jwt.InvalidTokenError:
        return "refused"


def until(ours: TokenVerifier, text: str, wanted: str) -> None:
    """Ask until that is the verdict."""
    deadline = time.monotonic() + WITHIN
    while (last := verdict(ours, text)) != wanted:
        assert time.monotonic() < deadline, f"{last}, not {wanted}"
        time.sleep(0.02)  # the keys are read meanwhile, by a thread that tells nobody


def test_the_keys_of_an_issuer_are_read_when_first_asked_for_and_again_for_a_new_one(issuer, key_set):
    issuer.lists(a=private("a").public_key())
    ours = verifier(key_set().key)
    assert issuer.asked == 0
    assert verdict(ours, token(private("a"), kid="a")) == "unavailable", "no request waits for the network"
    until(ours, token(private("a"), kid="a"), "7")
    assert verdict(ours, token(private("b"), kid="a")) == "refused"
    assert verdict(ours, token(private("a"))) == "refused", "it names no key"
    issuer.lists(b=private("b").public_key())
    until(ours, token(private("b"), kid="b"), "7")
    assert verdict(ours, token(private("a"), kid="a")) == "refused", "a key that is gone verifies nothing more"


def test_tokens_of_unknown_keys_make_nobody_read_more_often_than_now_and_then(issuer, key_set):
    issuer.lists(a=private("a").public_key())
    ours = verifier(key_set(pause=60).key)
    good = token(private("a"), kid="a")
    until(ours, good, "7")
    assert {verdict(ours, token(private("b"), kid=f"x{n}")) for n in range(50)} == {"refused"}
    assert verdict(ours, good) == "7"
    assert issuer.asked == 1


def test_an_issuer_that_hangs_holds_up_nobody_and_one_that_fails_takes_nothing_away(issuer, key_set):
    issuer.answer = None
    ours = verifier(key_set().key)
    good, started = token(private("a"), kid="a"), time.monotonic()
    assert [verdict(ours, good) for _ in range(100)] == ["unavailable"] * 100
    assert time.monotonic() - started < WITHIN / 4
    issuer.lists(a=private("a").public_key())
    issuer.go_on.set()
    until(ours, good, "7")
    for answer in (b"", b"no JSON", b"[]", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'):
        issuer.answer, before = answer, issuer.asked
        while issuer.asked < before + 2:
            verdict(ours, token(private("b"), kid="unheard-of"))  # it has the keys read again
            assert time.monotonic() - started < WITHIN
        assert verdict(ours, good) == "7"


def test_only_long_public_rsa_keys_for_signatures_are_taken_from_a_list(issuer, key_set):
    curve = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
    good = private("good").public_key()
    issuer.answer = json.dumps(
        {
            "keys": [
                listed(good, kid="encrypts", use="enc"),
                listed(good, kid="RS512", alg="RS512"),
                listed({"kty": "oct", "k": encoded(SECRET.encode()), "alg": "HS256"}, kid="s"),
                curve | {"kid": "curve"},
                listed(private("short", 1024).public_key(), kid="short"),
                listed(private("good"), kid="private"),
                listed(good),
                "no key",
                {key: value for key, value in listed(good, kid="plain").items() if key not in {"use", "alg"}},
            ]
        }
    ).encode()
    keys = key_set()
    until(verifier(keys.key), token(private("good"), kid="plain"), "7")
    assert set(keys._keys) == {"plain"}
    with pytest.raises(jwt.InvalidAlgorithmError):
        verifier(keys.key).caller(token(SECRET, kid="s", algorithm="HS256"))


# --- A real server ----------------------------------------------------------------------------------------------------

MINE = "/api/v1/coupons"


def sign_in(web: Any) -> tuple[int, Any]:
    body = json.dumps({"username": "mina", "password": "a good password"}).encode()
    status, _, answer = web.ask("POST", "/api/v1/auth/token", body, Content_Type="application/json")
    return status, json.loads(answer)


def look(web: Any, text: str) -> int:
    status: int = web.ask("GET", MINE, Authorization=f"Bearer {text}")[0]
    return status


class ReadAtOnce(KeySet):
    """The thread is done before who has started it goes on."""

    def _ensure_reading(self) -> None:
        self._read()


def test_a_key_that_is_read_while_somebody_asks_for_it_is_not_said_to_be_unlisted(issuer):
    issuer.lists(a=private("a").public_key())
    keys = ReadAtOnce(issuer.url)
    with pytest.raises(Unavailable):
        keys.key("a")
    assert keys.key("a") is not None
    with pytest.raises(jwt.InvalidTokenError):
        keys.key("b")


def test_with_a_private_key_we_issue_tokens_and_accept_those_of_the_issuer_too(server, issuer):
    User.objects.create_user("mina", password="a good password")
    issuer.lists(a=private("a").public_key())
    web = server(JWT_ALGORITHM="RS256", JWT_PRIVATE_KEY=pem(private()), JWT_JWKS_URL=issuer.url)
    status, pair = sign_in(web)
    assert status == 200
    assert jwt.get_unverified_header(pair["access"])["alg"] == "RS256"
    assert look(web, pair["access"]) == 200
    refresh = json.dumps({"refresh": pair["refresh"]}).encode()
    status, _, answer = web.ask("POST", "/api/v1/auth/token/refresh", refresh, Content_Type="application/json")
    assert (status, look(web, json.loads(answer)["access"])) == (200, 200)
    foreign, deadline = token(private("a"), kid="a"), time.monotonic() + WITHIN
    while (status := look(web, foreign)) == 503:
        assert time.monotonic() < deadline
    assert status == 200
    assert look(web, token(private("b"), kid="a")) == 401


def test_with_a_public_key_alone_tokens_are_issued_elsewhere(server):
    User.objects.create_user("mina", password="a good password")
    web = server(JWT_ALGORITHM="RS256", JWT_PUBLIC_KEY=pem(private().public_key()).replace("\n", "\\n"))
    status, problem = sign_in(web)
    assert (status, problem["code"]) == (404, "not_found")
    assert "issued" in problem["detail"]
    assert (look(web, token()), look(web, token(private("other")))) == (200, 401)
