"""Signing in: a pair of tokens for a name and a password, and a new pair for a refresh token."""

from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.models import User
from django.utils.crypto import constant_time_compare
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import RefreshToken

from config import ratelimits
from config.tokens import CHALLENGE
from events.errors import Refusal
from events.tokens import token_of

MARK = "auth"  # a claim of refresh tokens
PRINTABLE = r"^[^\x00]+$"  # PostgreSQL stores no NUL


class Credentials(serializers.Serializer[Any]):
    """A name and a password."""

    username = serializers.RegexField(PRINTABLE, max_length=150, trim_whitespace=False)
    password = serializers.RegexField(PRINTABLE, max_length=256, trim_whitespace=False)


class Refresh(serializers.Serializer[Any]):
    """A refresh token."""

    refresh = serializers.RegexField(r"^[\w-]+\.[\w-]+\.[\w-]+$", max_length=2048, trim_whitespace=False)


class TokenPair(serializers.Serializer[Any]):
    """A token to ask with, and one to get the next pair with."""

    access = serializers.CharField()
    refresh = serializers.CharField()


class IssuedElsewhere(Refusal):
    """Tokens are not issued here, but by the issuer whose keys this server knows: sign in there."""

    code = "not_found"


class _SignInView(APIView):
    authentication_classes = ()
    permission_classes = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse where nothing is here to sign a token with."""
        super().initial(request, *args, **kwargs)
        if not settings.SIMPLE_JWT["SIGNING_KEY"]:
            raise IssuedElsewhere

    def get_authenticate_header(self, request: Request) -> str:  # noqa: ARG002
        """There is nobody to authenticate yet, and yet a wrong password is a 401."""
        return CHALLENGE


class TokenView(_SignInView):
    """Sign in."""

    @extend_schema(
        operation_id="sign_in",
        summary="Sign in",
        tags=["auth"],
        request=Credentials,
        responses=TokenPair,
        extensions={"x-refusals": ["unauthenticated", "not_found", "rate_limited"]},
    )
    def post(self, request: Request) -> Response:
        """A pair of tokens for a name and a password. Limited by account and by address."""
        ratelimits.count_address(request._request)
        given = _valid(Credentials, request)
        ratelimits.count_account(request._request, given["username"])
        user = authenticate(request._request, username=given["username"], password=given["password"])
        if user is None:
            raise AuthenticationFailed("The name or the password is wrong.")
        return Response(_pair(user))


class TokenRefreshView(_SignInView):
    """Stay signed in."""

    @extend_schema(
        operation_id="refresh_token",
        summary="Get the next pair of tokens",
        tags=["auth"],
        request=Refresh,
        responses=TokenPair,
        extensions={"x-refusals": ["unauthenticated", "not_found", "rate_limited"]},
    )
    def post(self, request: Request) -> Response:
        """A new pair for a refresh token, while its user is active and has the same password. Limited by account and
        by address.
        """
        ratelimits.count_address(request._request)
        try:
            claims = RefreshToken(_valid(Refresh, request)["refresh"])
        except TokenError as error:
            raise AuthenticationFailed("The refresh token is not valid: sign in again.") from error
        user_id = str(claims.get("user_id", ""))
        ratelimits.count_user(request._request, user_id)
        user = get_user_model().objects.filter(pk=user_id, is_active=True).first() if user_id.isdecimal() else None
        if user is None or not constant_time_compare(str(claims.get(MARK, "")), _mark_of(user)):
            raise AuthenticationFailed("The refresh token is not valid: sign in again.")
        return Response(_pair(user))


def _valid(serializer_class: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    data: dict[str, Any] = serializer.validated_data
    return data


def _pair(user: User) -> dict[str, str]:
    refresh = token_of(user)
    access = str(refresh.access_token)  # without the mark, which nobody asks it for
    refresh[MARK] = _mark_of(user)
    return {"access": access, "refresh": str(refresh)}


def _mark_of(user: User) -> str:
    """What a new password changes, as it ends the sessions of the pages; it tells nothing of the password."""
    return user.get_session_auth_hash()[:16]
