"""The visitor's own part of the page of a sale. The page itself is the same for everyone."""

import secrets
from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils import timezone

from coupons import selectors, services
from coupons.errors import AlreadyClaimed
from coupons.selectors import ClaimView
from events import reminders
from events.errors import Closed, NotOpen, Paused, Refusal, SoldOut
from events.models import Event, Phase
from events.pages.shown import find, milliseconds, show
from events.tokens import lane_of, page_token
from events.waiting_room import service
from notifications.services import unread_of


def new_key() -> str:
    """The key of a form: a second click on its button finds the claim of the first."""
    return secrets.token_urlsafe(16)


def told(request: HttpRequest, slug: str) -> dict[str, Any]:
    """What the script of the page is told: who looks, what their form needs, what they have claimed.

    Nothing is asked for whoever is not signed in. Raises `EventNotFound`.
    """
    user = request.user
    moment = {"server_time": milliseconds(timezone.now())}
    if not user.is_authenticated:
        return {**moment, "name": None}
    event = find(slug)
    claims = claims_at_hand(event, user.pk)
    newest = reverse("coupon_pages:claim_result", args=[slug, str(claims[-1].id)]) if claims else None
    return {
        **moment,
        "name": user.get_username(),
        "admin_url": reverse("admin:index") if user.is_staff else None,
        "csrf_token": get_token(request),
        "key": new_key(),
        **page_token(user),
        "claim_id": str(claims[-1].id) if claims else None,
        "claim_url": newest,
        "may_claim": may_claim(event, claims),  # units at once
        "ticket": _ticket(event, user),
        "unread": unread_of(user.pk),
        "reminded": timezone.now() < event.opens_at and reminders.is_asked(event_id=event.pk, user_id=user.pk),
    }


def _ticket(event: Event, user: Any) -> dict[str, Any] | None:
    """The place in line, None for who is in none, or where that cannot be told: who joins again is told of it."""
    if not event.waiting_room:
        return None
    try:
        return service.visit(event.pk, user.pk, lane_of(user), "ask").as_json()
    except Refusal:
        return None


def hindrance(event: Event, claims: Sequence[ClaimView]) -> Refusal | None:
    """Why who has these claims cannot claim now, None where nothing is known to stand in the way."""
    if not may_claim(event, claims):
        return AlreadyClaimed(claims[-1])
    match show(event).phase:
        case Phase.SCHEDULED:
            return NotOpen(opens_at=event.opens_at)
        case Phase.PAUSED:
            return Paused(opens_at=event.opens_at)
        case Phase.SOLD_OUT:
            return SoldOut()
        case Phase.CLOSED:
            return Closed(opens_at=event.opens_at)
    return None


def may_claim(event: Event, claims: Sequence[ClaimView]) -> int:
    """The units that another claim of who has these may be of: 0 for who has all that one may have."""
    left = event.per_user_limit - sum(claim.quantity for claim in claims if claim.status != "rejected")
    return max(0, min(left, services.most_of(services.known_event(event.pk))))


def claims_at_hand(event: Event, user_id: int) -> list[ClaimView]:
    """The user's claims that Redis knows, oldest first. None while it is away: who claims again is told of them.

    Of a sale whose claims never wait there, those of the database.
    """
    if not event.logs_claims:
        return selectors.claims_of(event_id=event.pk, user_id=user_id)[::-1]
    (standing,) = selectors.standings(event.pk, [(user_id, None)])
    units = [selectors.pending(event.pk, one) for one in standing.held] if standing is not None else []
    return list({claim.id: claim for claim in units}.values())
