"""The language of a visitor: the one they chose, else the first that their browser asks for and we have."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import get_supported_language_variant
from django.utils.translation.trans_real import parse_accept_lang_header

BY_URL = "lang"  # the parameter by which the page of a sale is asked for in a language


def of_visitor(request: HttpRequest) -> str:
    """By their choice, which a cookie bears, else by their browser."""
    return _ours(request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME)) or of_browser(request)


def of_browser(request: HttpRequest) -> str:
    """The first language of Accept-Language that we have, `DEFAULT_LANGUAGE` where it names none."""
    for code, _ in parse_accept_lang_header(request.headers.get("Accept-Language", "")):
        ours = _ours(code)
        if ours is not None:
            return ours
    default: str = settings.DEFAULT_LANGUAGE
    return default


def of_url(request: HttpRequest) -> str | None:
    """The language that the address names, None where it names none of ours."""
    return _ours(request.GET.get(BY_URL))


def _ours(code: str | None) -> str | None:
    try:
        return get_supported_language_variant(code or "")
    except LookupError:
        return None
