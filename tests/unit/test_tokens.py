"""What a bearer token must be: our verdict beside PyJWT's, and what is remembered of it."""

import json
import time
from base64 import urlsafe_b64encode
from hmac import digest
from math import isnan
from typing import Any

import jwt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from config.tokens import TokenVerifier, one_key
from tests.api_kit import forge

KEY = "the key of these tests, of more than 32 characters"
HEADER = {"alg": "HS256", "typ": "JWT"}
NOW = int(time.time())
CLAIMS = {"token_type": "access", "user_id": "7", "exp": NOW + 3600, "iat": NOW - 60, "jti": "one"}


def verifier(issuer: str | None = None, audience: str | None = None) -> TokenVerifier:
    return TokenVerifier(algorithm="HS256", key_of=one_key(KEY, algorithm="HS256"), issuer=issuer, audience=audience)


def segment(said: Any) -> str:
    """Bytes, text as it stands, or a value as JSON, in base64url."""
    if not isinstance(said, bytes):
        said = said.encode(errors="surrogatepass") if isinstance(said, str) else json.dumps(said).encode()
    return urlsafe_b64encode(said).rstrip(b"=").decode()


def signed(start: str, *, key: str = KEY, by: str = "sha256") -> str:
    return f"{start}.{segment(digest(key.encode(), start.encode(errors='surrogatepass'), by))}"


def token(header: Any = HEADER, claims: Any = CLAIMS) -> str:
    """A token that bears our signature, whatever it says."""
    return signed(f"{segment(header)}.{segment(claims)}")


def ours(token: str, *, issuer: str | None = None, audience: str | None = None) -> bool:
    try:
        verifier(issuer, audience).caller(token)
    except jwt.InvalidTokenError:
        return False
    return True


def library(token: str, *, issuer: str | None = None, audience: str | None = None) -> bool:
    """PyJWT's verdict, and then of the claims that only we know."""
    options: Any = {"require": ["exp"], "verify_aud": audience is not None}
    try:
        claims = jwt.decode(token, KEY, algorithms=["HS256"], issuer=issuer, audience=audience, options=options)
    except (jwt.InvalidTokenError, UnicodeEncodeError):
        return False
    return claims.get("token_type") == "access"


GOOD = token()
HEAD, BODY, SIGNATURE = GOOD.split(".")

ACCEPTED = {
    "as simplejwt writes it": GOOD,
    "of another order": token({"typ": "JWT", "alg": "HS256"}),
    "of another type": token({"alg": "HS256", "typ": "at+jwt"}),
    "of no type": token({"alg": "HS256"}),
    "with the name of a key": token(HEADER | {"kid": "1"}),
    "with an encoding said": token(HEADER | {"b64": True}),
    "with more in it": token(claims=CLAIMS | {"roles": ["a", {"b": None}], "name": "김민지"}),
    "with moments as fractions": token(claims=CLAIMS | {"exp": NOW + 3600.5, "nbf": NOW - 0.5, "iat": NOW - 1.5}),
    "of a user as a number": token(claims=CLAIMS | {"user_id": 7}),
    "with spaces": token(claims=f" {json.dumps(CLAIMS, indent=1)}\n"),
    "of a claim said twice": token(claims=json.dumps(CLAIMS)[:-1] + f', "exp": {NOW + 3600}}}'),
    "for ever": token(claims=CLAIMS | {"exp": 10**18}),
    "of more than 64 bits": token(claims=CLAIMS | {"exp": 10**25}),
    "of a fraction beyond all years": token(claims=CLAIMS | {"exp": 1e300}),
    "with an audience nobody asks for": token(claims=CLAIMS | {"aud": "shop"}),
    "nested a little": token(claims=json.dumps(CLAIMS)[:-1] + ', "x": ' + "[" * 100 + "]" * 100 + "}"),
    "long": token(claims=CLAIMS | {"x": "x" * 5000}),
}
REFUSED = {
    "empty": "",
    "two dots": "..",
    "three dots": "...",
    "of one part": HEAD,
    "of two parts": f"{HEAD}.{BODY}",
    "of two parts, signed": signed(HEAD),
    "of four parts": f"{GOOD}.{SIGNATURE}",
    "of four parts, signed": signed(f"{HEAD}.{BODY}.{BODY}"),
    "with an empty header": signed(f".{BODY}"),
    "with an empty body": signed(f"{HEAD}."),
    "without signature": f"{HEAD}.{BODY}.",
    "with a short signature": GOOD[:-4],
    "with a long signature": f"{GOOD}AAAA",
    "with a very long signature": f"{HEAD}.{BODY}.{'A' * 6000}",
    "with another's signature": f"{HEAD}.{BODY}.{token(claims=CLAIMS | {'user_id': 8}).split('.')[2]}",
    "with another's body": f"{HEAD}.{segment(CLAIMS | {'user_id': 8})}.{SIGNATURE}",
    "of another key": signed(f"{HEAD}.{BODY}", key=KEY[:-1]),
    "of an empty key": signed(f"{HEAD}.{BODY}", key=""),
    "signed by another hash": signed(f"{HEAD}.{BODY}", by="sha512"),
    "with a last sign that means the same": f"{GOOD[:-1]}{chr(ord(GOOD[-1]) + 1)}",
    "unsigned": f"{segment({'alg': 'none'})}.{BODY}.",
    "unsigned, with our signature": token({"alg": "none"}),
    "unsigned in capitals": token({"alg": "NONE"}),
    "of HS512": signed(f"{segment({'alg': 'HS512'})}.{BODY}", by="sha512"),
    "of HS512 with our signature": token({"alg": "HS512"}),
    "of RS256 with our signature": token({"alg": "RS256"}),
    "of small letters": token({"alg": "hs256"}),
    "of no algorithm": token({"typ": "JWT"}),
    "of algorithms": token({"alg": ["HS256"]}),
    "of an algorithm that is null": token({"alg": None}),
    "of an algorithm said twice": token('{"alg":"HS256","alg":"none"}'),
    "with what is critical": token(HEADER | {"crit": ["exp"], "exp": NOW}),
    "with nothing critical": token(HEADER | {"crit": []}),
    "with a null that is critical": token(HEADER | {"crit": None}),
    "with its body as it is": token(HEADER | {"b64": False, "crit": ["b64"]}),
    "with its body as it is, not critical": token(HEADER | {"b64": False}),
    "with a key that is a number": token(HEADER | {"kid": 1}),
    "with a key that is null": token(HEADER | {"kid": None}),
    "of a header in a list": token([HEADER]),
    "of a header that is text": token('"HS256"'),
    "of a header that is no JSON": token("alg: HS256"),
    "of a header with more after it": token(json.dumps(HEADER) + "{}"),
    "of a header in another coding": token(json.dumps(HEADER).encode("latin-1") + b"\xff"),
    "of a body in a list": token(claims=[CLAIMS]),
    "of a body that is null": token(claims=None),
    "of a body that is no JSON": token(claims="{'exp': 1}"),
    "of a body in half": token(claims=json.dumps(CLAIMS)[:-1]),
    "of a body with a zero byte": token(claims=json.dumps(CLAIMS) + "\x00"),
    "nested deeply": token(claims=json.dumps(CLAIMS)[:-1] + ', "x": ' + "[" * 3000 + "]" * 3000 + "}"),
    "with a number of 5,000 digits": token(claims=json.dumps(CLAIMS)[:-1] + ', "x": ' + "9" * 5000 + "}"),
    "with a sign of base64": signed(f"{HEAD}.{segment(CLAIMS | {'x': '>>>???'})}".replace("-", "+").replace("_", "/")),
    "with a dash too many": signed(f"{HEAD}.{BODY}-{'' if len(BODY) % 4 == 0 else '-' * (4 - len(BODY) % 4)}"),
    "with a line end": f"{GOOD}\n",
    "with a line end within": signed(f"{HEAD}.{BODY[:8]}\n{BODY[8:]}"),
    "with a space": signed(f"{HEAD}.{BODY} "),
    "with three signs of padding": signed(f"{HEAD}.{BODY}==="),
    "of another alphabet": "é☃.é☃.é☃",
    "of a sign that is not ASCII": f"{GOOD}é",
    "of digits of another script": signed(f"{HEAD}.{BODY}٣"),
    "of half a sign": "\ud800.\ud800.\ud800",
    "expired": token(claims=CLAIMS | {"exp": NOW - 1}),
    "expired at zero": token(claims=CLAIMS | {"exp": 0}),
    "expired before there was time": token(claims=CLAIMS | {"exp": -(10**25)}),
    "expired, after all": token(claims=json.dumps(CLAIMS)[:-1] + ', "exp": 1}'),
    "without expiry": token(claims={name: value for name, value in CLAIMS.items() if name != "exp"}),
    "of an expiry that is null": token(claims=CLAIMS | {"exp": None}),
    "of an expiry that is true": token(claims=CLAIMS | {"exp": True}),
    "of an expiry that is a list": token(claims=CLAIMS | {"exp": [NOW + 3600]}),
    "of an endless expiry": token(claims=CLAIMS | {"exp": float("inf")}),
    "of an expiry too large": token(claims=json.dumps(CLAIMS)[:-1] + ', "exp": 1e999}'),
    "of an expiry that is none": token(claims=CLAIMS | {"exp": float("nan")}),
    "of an expiry in words": token(claims=CLAIMS | {"exp": "never"}),
    "not valid yet": token(claims=CLAIMS | {"nbf": NOW + 36_000}),
    "not valid yet by a fraction": token(claims=CLAIMS | {"nbf": NOW + 36_000.5}),
    "valid from null": token(claims=CLAIMS | {"nbf": None}),
    "not issued yet": token(claims=CLAIMS | {"iat": NOW + 36_000}),
    "issued at null": token(claims=CLAIMS | {"iat": None}),
    "of a subject that is a number": token(claims=CLAIMS | {"sub": 7}),
    "of a subject that is null": token(claims=CLAIMS | {"sub": None}),
    "of a number that is a number": token(claims=CLAIMS | {"jti": 7}),
    "a refresh token": token(claims=CLAIMS | {"token_type": "refresh"}),
    "of tokens' types": token(claims=CLAIMS | {"token_type": ["access"]}),
}
# PyJWT takes these. Nobody who issues tokens writes them, and each would be a second way to say the same.
STRICTER = {
    "padded": signed(f"{HEAD}.{segment(json.dumps(CLAIMS) + ' ' * (2 - len(json.dumps(CLAIMS)) % 3))}="),
    "with a padded signature": f"{GOOD}=",
    "of an expiry that is text": token(claims=CLAIMS | {"exp": str(NOW + 3600)}),
    "valid from a text": token(claims=CLAIMS | {"nbf": str(NOW - 60)}),
    "issued at a truth": token(claims=CLAIMS | {"iat": True}),
    "with a byte order mark": token(claims=b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode()),
    "in 16 bits": token(claims=json.dumps(CLAIMS).encode("utf-16")),
    "with half a sign": token(claims=CLAIMS | {"x": "\ud800"}),
    "with an infinity": token(claims=CLAIMS | {"x": float("inf")}),
    "of a flag that is no flag": token(HEADER | {"b64": 1}),
    "very long": token(claims=CLAIMS | {"x": "x" * 9000}),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_we_accept_pyjwt_accepts(name):
    assert (ours(ACCEPTED[name]), library(ACCEPTED[name])) == (True, True)


@pytest.mark.parametrize("name", REFUSED)
def test_what_pyjwt_refuses_we_refuse(name):
    assert (ours(REFUSED[name]), library(REFUSED[name])) == (False, False)


@pytest.mark.parametrize("name", STRICTER)
def test_we_refuse_what_pyjwt_takes_beyond_the_plain_form(name):
    assert (ours(STRICTER[name]), library(STRICTER[name])) == (False, True)


@pytest.mark.parametrize("user_id", [None, "", "minji", "1.5", 1.5, True, -1, 0, "0", 2**63, "9" * 19, "٣", [7], {}])
def test_who_is_no_user_is_nobody(user_id):
    assert not ours(token(claims=CLAIMS | {"user_id": user_id}))


WHO: list[dict[str, Any]] = [
    {},
    {"iss": "seonchak"},
    {"iss": "other"},
    {"iss": None},
    {"iss": ["seonchak"]},
    {"iss": "seonchak", "aud": "shop"},
    {"iss": "seonchak", "aud": ["other", "shop"]},
    {"iss": "seonchak", "aud": ["other"]},
    {"iss": "seonchak", "aud": ["shop", 7]},
    {"iss": "seonchak", "aud": "shopping"},
    {"iss": "seonchak", "aud": {"shop": 1}},
    {"iss": "seonchak", "aud": []},
    {"iss": "seonchak", "aud": ""},
    {"aud": "shop"},
]


@pytest.mark.parametrize("issuer", [None, "seonchak"])
@pytest.mark.parametrize("audience", [None, "shop"])
def test_issuer_and_audience_are_held_to_where_they_are_set(issuer, audience):
    verdicts = [
        [verdict(token(claims=CLAIMS | who), issuer=issuer, audience=audience) for who in WHO]
        for verdict in (ours, library)
    ]
    assert verdicts[0] == verdicts[1]
    assert verdicts[0].count(True) == {(None, None): 14, ("seonchak", None): 9, (None, "shop"): 3}.get(
        (issuer, audience), 2
    )


# --- By chance --------------------------------------------------------------------------------------------------------

texts = st.text('ab.é☃"\\\x00\ud800', max_size=8) | st.sampled_from(["access", "shop", "seonchak", "HS256", "none"])
moments = st.one_of(
    st.integers(NOW + 1000, NOW + 2000),
    st.integers(NOW - 2000, NOW - 1000),
    st.floats(NOW - 2000, NOW - 1000) | st.floats(NOW + 1000, NOW + 2000),
    st.integers() | st.floats() | st.booleans() | st.none() | texts | st.just(str(NOW + 1000)),
).filter(lambda moment: not isinstance(moment, int | float) or abs(moment - NOW) > 900 or isnan(moment))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["none", "HS512", "RS256", "hs256", None, ["HS256"]]),
        "kid": anything,
        "crit": anything | st.just(["b64"]),
        "b64": anything,
        "typ": anything,
    },
)
claims = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("exp", "nbf", "iat"), moments),
        **dict.fromkeys(("iss", "aud", "sub", "jti", "token_type"), anything),
        "user_id": st.sampled_from(["7", 7, "x", None]),
    },
)


@st.composite
def tampered(draw: st.DrawFn) -> str:
    """A token that is good but for a change or two: of what it says, or of its text."""
    text = token(HEADER | draw(st.just({}) | headers), CLAIMS | draw(st.just({}) | claims))
    at = draw(st.integers(0, len(text)))
    change = draw(st.sampled_from(["none", "none", "cut", "put", "take", "swap", "double"]))
    sign = draw(st.sampled_from("AZaz09-_+/=.\n\x00 é☃\ud800"))
    changed = {
        "none": text,
        "cut": text[:at],
        "put": text[:at] + sign + text[at:],
        "take": text[:at] + text[at + 1 :],
        "swap": text[:at] + sign + text[at + 1 :],
        "double": f"{text}.{text[at:]}",
    }[change]
    return signed(changed.rpartition(".")[0]) if draw(st.booleans()) and "." in changed else changed


@given(tampered(), st.sampled_from([None, "seonchak"]), st.sampled_from([None, "shop"]))
@settings(max_examples=500, deadline=None)
def test_no_token_is_accepted_that_pyjwt_refuses(text, issuer, audience):
    assert library(text, issuer=issuer, audience=audience) or not ours(text, issuer=issuer, audience=audience)


@given(texts | st.binary(max_size=60).map(lambda some: signed(f"{HEAD}.{segment(some)}")))
@settings(deadline=None)
def test_text_by_chance_is_no_token(text):
    assert not ours(text)


@given(st.dictionaries(texts.filter(lambda name: name not in CLAIMS and name not in {"nbf", "sub"}), anything))
@settings(deadline=None)
def test_whatever_else_a_token_says_does_not_matter(more):
    text = token(claims=json.dumps(CLAIMS | more))
    assume(library(text))
    assert ours(text) or any(word in json.dumps(more) for word in ("NaN", "Infinity", "\\ud"))


# --- What is remembered -----------------------------------------------------------------------------------------------


def test_the_algorithm_is_pinned_even_for_the_right_key():
    key = "k" * 64
    pinned = TokenVerifier(algorithm="HS256", key_of=one_key(key, algorithm="HS256"), issuer=None, audience=None)
    assert pinned.caller(forge(key=key)).id == 1
    with pytest.raises(jwt.InvalidAlgorithmError):
        pinned.caller(forge(key=key, algorithm="HS512"))


def test_a_token_is_verified_once_and_forgotten_no_later_than_it_expires(monkeypatch):
    remembering = verifier()
    assert remembering.caller(GOOD) is remembering.caller(GOOD)
    monkeypatch.setattr("config.tokens.time.time", lambda: 2**40)
    with pytest.raises(jwt.ExpiredSignatureError):
        remembering.caller(GOOD)


def test_a_remembered_token_is_good_as_long_as_its_key_is_known():
    keys = {name: one_key(KEY, algorithm="HS256")(name) for name in ("1", "2")}
    listed = TokenVerifier(algorithm="HS256", key_of=lambda kid: keys[kid or ""], issuer=None, audience=None)
    text = token(HEADER | {"kid": "1"})
    assert listed.caller(text).id == 7
    keys["1"] = one_key("another" * 8, algorithm="HS256")("1")
    with pytest.raises(jwt.InvalidSignatureError):
        listed.caller(text)


def test_no_more_tokens_are_remembered_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(TokenVerifier, "REMEMBERED", 3)
    remembering = verifier()
    tokens = [token(claims=CLAIMS | {"user_id": number}) for number in range(1, 10)]
    callers = [remembering.caller(text) for text in tokens]
    assert [caller.id for caller in callers] == list(range(1, 10))
    last = zip(tokens[-3:], callers[-3:], strict=True)
    assert all(remembering.caller(text) is caller for text, caller in last)
    assert remembering.caller(tokens[0]) is not callers[0]


def test_nothing_is_remembered_of_what_was_refused(monkeypatch):
    monkeypatch.setattr(TokenVerifier, "HEADERS", 2)
    remembering = verifier()
    for text in REFUSED.values():
        with pytest.raises(jwt.InvalidTokenError):
            remembering.caller(text)
    assert not remembering._verified.cache_info().currsize
    for number in range(5):
        remembering.caller(token(HEADER | {"kid": str(number)}))
    assert len(remembering._headers) <= 2
