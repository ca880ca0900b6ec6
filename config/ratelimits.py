"""Limits on signing in, by account and by address, counted in Redis by django-ratelimit.

Where Redis is down nobody can sign in (503): without the count, passwords could be guessed as fast as they are sent. A
token that was given out before goes on working, so a sale does not notice.
"""

import hashlib
import ipaddress
import unicodedata

from django.conf import settings
from django.http import HttpRequest
from django_ratelimit.core import get_usage

from events.errors import RateLimited

IPV6_PREFIX = 64  # what one customer of a provider gets; within it an address costs nothing


def client_address(request: HttpRequest) -> str:
    """The client's address as far as it can be believed; of IPv6 the network.

    Each of our `TRUSTED_PROXIES` appends the address it saw to X-Forwarded-For, so the client is the n-th from the
    right: all to the left of it was written by the client. Without a readable entry there, it is who connected.
    """
    peer: str = request.META.get("REMOTE_ADDR") or ""
    if settings.TRUSTED_PROXIES:
        hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        if len(hops) >= settings.TRUSTED_PROXIES:
            return _network(hops[-settings.TRUSTED_PROXIES].strip()) or _network(peer) or peer
    return _network(peer) or peer


def count_address(request: HttpRequest) -> None:
    """Count a request of this address; `RateLimited` where it is one too many."""
    _count(request, "sign_in.address", client_address(request), settings.SIGN_IN_RATE_PER_ADDRESS)


def count_account(request: HttpRequest, account: str) -> None:
    """Count a request for this account, whatever address it comes from; `RateLimited` where it is one too many.

    However a name is spelt, in capitals or in full-width letters, it counts as one. Only its digest is stored.
    """
    name = unicodedata.normalize("NFKC", account).casefold().strip()
    digest = hashlib.sha256(name.encode()).hexdigest()
    _count(request, "sign_in.account", digest, settings.SIGN_IN_RATE_PER_ACCOUNT)


def count_user(request: HttpRequest, user_id: str) -> None:
    """Count a request for the user of a token; `RateLimited` where it is one too many."""
    _count(request, "sign_in.user", user_id, settings.SIGN_IN_RATE_PER_ACCOUNT)


def _count(request: HttpRequest, group: str, value: str, rate: str) -> None:
    usage = get_usage(request, group=group, key=lambda *_: value, rate=rate, increment=True)
    if usage is not None and usage["should_limit"]:
        raise RateLimited(retry_after=usage["time_left"])


def _network(address: str) -> str:
    """The address in its one spelling, "" for what is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False).network_address)
    return str(parsed)
