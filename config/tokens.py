"""Bearer tokens: who asks is told by the token alone, without a query.

An access token lives for `JWT_ACCESS_SECONDS` and cannot be called back; a user who is deactivated is let in no more
from the next refresh on.
"""

import time
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from functools import lru_cache, partial
from hmac import compare_digest
from typing import Any, NamedTuple

import jwt
import orjson
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from config.jwks import KeySet
from config.token_keys import TokenKeys
from events.errors import Refusal
from events.tokens import FIRST_LANE, LAST_LANE

KeyOf = Callable[[str | None], Any]  # the key that a header names by its `kid`

CHALLENGE = 'Bearer realm="seonchak"'
ID_LIMIT = 2**63  # of a key in the database


class Unauthenticated(Refusal):
    """Who asks is told by an access token: send it as `Authorization: Bearer …`."""

    code = "unauthenticated"


class _Caller(NamedTuple):
    id: int
    lane: int  # of waiting rooms: 0 is served before 1
    expires_at: int  # seconds since 1970
    kid: str | None
    key: Any  # that the token was found good by


class Caller(_Caller):
    """The user who asks: known by id, and nothing else is known of them but what their token says."""

    __slots__ = ()
    is_authenticated = True
    is_anonymous = False
    is_active = True

    @property
    def pk(self) -> int:
        """The id, as Django calls it."""
        return self.id


class TokenVerifier:
    """Verifies access tokens, each once: a token found good is remembered for its life, as long as its key is known.

    It accepts a part of what `jwt.decode` accepts, in a fifth of its time: only the compact form in canonical
    base64url, only an object of strict JSON, moments only as numbers, nothing critical in the header. Signatures
    are left to OpenSSL and to PyJWT.
    """

    REMEMBERED = 20_000
    HEADERS = 100
    LONGEST = 8192  # characters
    LONGEST_SIGNATURE = 1024  # of them, as an RSA key of 6,144 bits makes them

    def __init__(self, *, algorithm: str, key_of: KeyOf, issuer: str | None, audience: str | None) -> None:
        """The algorithm is pinned: what a token says of itself is not believed."""
        self._algorithm = algorithm
        self._is_signed = (
            _is_hs256 if algorithm == "HS256" else partial(_is_signed, jwt.get_algorithm_by_name(algorithm))
        )
        self._key_of = key_of
        self._issuer = issuer
        self._audience = audience
        self._headers: dict[bytes, str | None] = {}  # the `kid` of headers that stood before a good signature
        self._verified = lru_cache(self.REMEMBERED)(self._verify)  # it keeps nothing of what is refused

    def caller(self, token: str) -> Caller:
        """Whose token it is; `jwt.InvalidTokenError` says what is wrong with it, `Unavailable` that nobody can tell."""
        caller = self._verified(token)
        if caller.key is not self._key_of(caller.kid):
            self._verified.cache_clear()  # the keys were read anew
            caller = self._verified(token)
        if caller.expires_at <= time.time():
            raise jwt.ExpiredSignatureError("The token has expired")
        return caller

    def _verify(self, token: str) -> Caller:
        if len(token) > self.LONGEST or not token.isascii():
            raise jwt.DecodeError("It is no token")
        signed, _, signature = token.encode().rpartition(b".")
        header, _, payload = signed.partition(b".")
        if len(signature) > self.LONGEST_SIGNATURE:
            raise jwt.DecodeError("It is no token")
        kid = self._headers[header] if header in self._headers else self._kid(header)
        key = self._key_of(kid)
        if not self._is_signed(signed, key, signature):
            raise jwt.InvalidSignatureError("Its signature is not ours")
        if len(self._headers) < self.HEADERS:
            self._headers[header] = kid
        claims = _object(payload)
        expires_at = self._check(claims)
        return Caller(_user_id(claims.get("user_id")), _lane(claims), expires_at, kid, key)

    def _kid(self, header: bytes) -> str | None:
        """The key that a header names, None where it names none."""
        said = _object(header)
        if said.get("alg") != self._algorithm:
            raise jwt.InvalidAlgorithmError("It is of another algorithm")
        if "crit" in said or said.get("b64", True) is not True:
            raise jwt.InvalidTokenError("Its header asks for what we do not know")
        kid = said.get("kid")
        if "kid" in said and not isinstance(kid, str):
            raise jwt.InvalidTokenError("Its key has no name")
        return kid

    def _check(self, claims: dict[str, Any]) -> int:
        """Hold the claims to what they must be; the moment at which they end."""
        now = time.time()
        ends, begins, issued = claims.get("exp"), claims.get("nbf", 0), claims.get("iat", 0)
        if ends is None:
            raise jwt.MissingRequiredClaimError("exp")
        if not type(ends) is type(begins) is type(issued) is int:
            ends, begins, issued = _moment(ends), _moment(begins), _moment(issued)
        if ends <= now:
            raise jwt.ExpiredSignatureError("The token has expired")
        if begins > now or issued > now:
            raise jwt.ImmatureSignatureError("The token is not valid yet")
        if not type(claims.get("sub", "")) is type(claims.get("jti", "")) is str:
            raise jwt.InvalidTokenError("A name in it is no text")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise jwt.InvalidIssuerError("It is of another issuer")
        if self._audience is not None:
            audience = claims.get("aud")
            audience = audience if isinstance(audience, list) else [audience]
            if self._audience not in audience or not all(isinstance(one, str) for one in audience):
                raise jwt.InvalidAudienceError("It is for somebody else")
        if claims.get("token_type") != "access":
            raise jwt.InvalidTokenError("It is no access token")
        return int(ends)


def _is_signed(algorithm: jwt.algorithms.Algorithm, signed: bytes, key: Any, signature: bytes) -> bool:
    return algorithm.verify(signed, key, _decoded(signature))


def _is_hs256(signed: bytes, key: HMAC, signature: bytes) -> bool:
    """As PyJWT's, without digesting the key anew for each token, and held to the signature as it is written."""
    ours = key.copy()
    ours.update(signed)
    written = b2a_base64(ours.finalize(), newline=False).translate(_AS_BASE64URL).rstrip(b"=")
    return compare_digest(written, signature)


_AS_BASE64URL = bytes.maketrans(b"+/", b"-_")
# The other way round. What is in base64 only, padding included, becomes what is in neither.
_AS_BASE64 = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING = (b"", b"!", b"==", b"=")  # by the length; one sign too many is no base64 of anything


def _decoded(segment: bytes) -> bytes:
    """The bytes of a segment; `jwt.DecodeError` unless it is just as one who encodes these bytes would write it."""
    text = segment.translate(_AS_BASE64) + _PADDING[len(segment) % 4]
    try:
        decoded = a2b_base64(text)
    except ValueError:
        decoded = b""
    if b2a_base64(decoded, newline=False) != text:
        raise jwt.DecodeError("It is no base64url")
    return decoded


def _lane(claims: dict[str, Any]) -> int:
    """The first lane for a token that says so (`"lane": 0`), the last for everybody else."""
    lane = claims.get("lane")
    return FIRST_LANE if lane == FIRST_LANE and type(lane) is int else LAST_LANE


def _object(segment: bytes) -> dict[str, Any]:
    """The JSON object in a segment; `jwt.DecodeError` where it holds none."""
    try:
        said = orjson.loads(_decoded(segment))
    except orjson.JSONDecodeError as error:
        raise jwt.DecodeError("It is no JSON") from error
    if not isinstance(said, dict):
        raise jwt.DecodeError("It is no object")
    return said


def _moment(claim: Any) -> int:
    """Seconds since 1970, from a number; JSON has neither infinity nor NaN."""
    if type(claim) not in {int, float}:
        raise jwt.DecodeError("A moment is no number")
    return int(claim)


def _user_id(claim: Any) -> int:
    """A user's key from its claim. simplejwt writes it as text, others as a number."""
    if isinstance(claim, str) and claim.isascii() and claim.isdigit() and len(claim) < 20:  # noqa: PLR2004
        claim = int(claim)
    if not isinstance(claim, int) or isinstance(claim, bool) or not 0 < claim < ID_LIMIT:
        raise jwt.InvalidTokenError("It names no user")
    return claim


def one_key(key: Any, *, algorithm: str) -> KeyOf:
    """A key for all tokens, whichever they name. Of HS256 the verifier wants it digested already."""
    prepared = jwt.get_algorithm_by_name(algorithm).prepare_key(key)
    if algorithm == "HS256":
        prepared = HMAC(prepared, SHA256())
    return lambda _: prepared


def _of_settings(keys: TokenKeys) -> KeyOf:
    if keys.jwks_url:
        return KeySet(keys.jwks_url, own=keys.verifying or None).key
    return one_key(keys.verifying, algorithm=keys.algorithm)


verifier = TokenVerifier(
    algorithm=settings.TOKEN_KEYS.algorithm,
    key_of=_of_settings(settings.TOKEN_KEYS),
    issuer=settings.SIMPLE_JWT["ISSUER"],
    audience=settings.SIMPLE_JWT["AUDIENCE"],
)


def caller_of(authorization: str | None) -> Caller | None:
    """Whose token the header brings, None where it brings no bearer token; `Unauthenticated` for a bad one."""
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    return owner_of(token.strip()) if scheme.lower() == "bearer" else None


def owner_of(token: str) -> Caller:
    """Whose access token it is; `Unauthenticated` for a bad one."""
    try:
        return verifier.caller(token)
    except jwt.ExpiredSignatureError as error:
        raise Unauthenticated("The token has expired: refresh it, or sign in again.") from error
    except jwt.InvalidTokenError as error:
        raise Unauthenticated("The token is not valid.") from error


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer …` with an access token."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        """The caller, or None where no bearer token was sent."""
        caller = caller_of(request.META.get("HTTP_AUTHORIZATION"))
        return None if caller is None else (caller, None)

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002
        """The challenge; it makes the answer a 401."""
        return CHALLENGE
