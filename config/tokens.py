"""Bearer tokens: who asks is told by the token alone, without a query.

An access token lives for `JWT_ACCESS_SECONDS` and cannot be called back; a user who is deactivated is let in no more
from the next refresh on.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import jwt
from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from events.errors import Refusal

CHALLENGE = 'Bearer realm="seonchak"'
ID_LIMIT = 2**63  # of a key in the database


class Unauthenticated(Refusal):
    """Who asks is told by an access token: send it as `Authorization: Bearer …`."""

    code = "unauthenticated"


@dataclass(frozen=True, slots=True)
class Caller:
    """The user who asks: known by id, and nothing else is known of them."""

    id: int
    is_authenticated: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False
    is_active: ClassVar[bool] = True

    @property
    def pk(self) -> int:
        """The id, as Django calls it."""
        return self.id


class TokenVerifier:
    """Verifies access tokens, each once: a token found good is remembered, and only its expiry is looked at again."""

    REMEMBERED = 20_000

    def __init__(self, *, key: str, algorithm: str, issuer: str | None, audience: str | None) -> None:
        self._key = key
        self._algorithm = algorithm
        self._issuer = issuer
        self._audience = audience
        self._known: dict[str, tuple[Caller, float]] = {}
        self._adding = threading.Lock()

    def caller(self, token: str) -> Caller:
        """Whose token it is; `jwt.InvalidTokenError` says what is wrong with it."""
        known = self._known.get(token)
        if known is None:
            known = self._verify(token)
            self._remember(token, known)
        caller, expires_at = known
        if expires_at <= time.time():
            raise jwt.ExpiredSignatureError("The token has expired")
        return caller

    def _verify(self, token: str) -> tuple[Caller, float]:
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key,
            algorithms=[self._algorithm],  # pinned: what the token says of itself is not believed
            issuer=self._issuer,
            audience=self._audience,
            options={"require": ["exp"], "verify_aud": self._audience is not None},
        )
        if claims.get("token_type") != "access":
            raise jwt.InvalidTokenError("It is no access token")
        return Caller(_user_id(claims.get("user_id"))), int(claims["exp"])

    def _remember(self, token: str, known: tuple[Caller, float]) -> None:
        with self._adding:
            while len(self._known) >= self.REMEMBERED:
                del self._known[next(iter(self._known))]  # the oldest: all live equally long
            self._known[token] = known


def _user_id(claim: Any) -> int:
    """A user's key from its claim. simplejwt writes it as text, others as a number."""
    if isinstance(claim, str) and claim.isascii() and claim.isdigit() and len(claim) < 20:  # noqa: PLR2004
        claim = int(claim)
    if not isinstance(claim, int) or isinstance(claim, bool) or not 0 < claim < ID_LIMIT:
        raise jwt.InvalidTokenError("It names no user")
    return claim


verifier = TokenVerifier(
    key=settings.SIMPLE_JWT["SIGNING_KEY"],
    algorithm=settings.SIMPLE_JWT["ALGORITHM"],
    issuer=settings.SIMPLE_JWT["ISSUER"],
    audience=settings.SIMPLE_JWT["AUDIENCE"],
)


def caller_of(authorization: str | None) -> Caller | None:
    """Whose token the header brings, None where it brings no bearer token; `Unauthenticated` for a bad one."""
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        return verifier.caller(token.strip())
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
