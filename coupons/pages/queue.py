"""The waiting room for who has no scripts: get in line, see one's place, claim when it is one's turn, leave."""

import math
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from coupons.errors import AlreadyClaimed
from coupons.pages import visitor
from events.errors import NoTicket, Refusal
from events.models import Event
from events.pages.frame import page, refused
from events.pages.shown import find
from events.tokens import lane_of
from events.waiting_room import service
from events.waiting_room.views import TicketView


@page
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def queue(request: HttpRequest, slug: str) -> HttpResponse:
    """The visitor's place in line. The page looks again by itself, when the server says so."""
    event = find(slug)
    try:
        if request.method != "POST":
            return _place(request, event, _ticket(request, event))
        if "leave" in request.POST:
            service.leave(event.pk, request.user.pk, lane_of(request.user))  # type: ignore[arg-type]
        else:
            service.visit(event.pk, request.user.pk, lane_of(request.user), "join")  # type: ignore[arg-type]
    except AlreadyClaimed as refusal:
        return redirect("coupon_pages:claim_result", slug, str(refusal.claim.id))
    except Refusal as refusal:
        return refused(request, refusal, event=event)
    return redirect("coupon_pages:queue", slug)


def _ticket(request: HttpRequest, event: Event) -> TicketView | None:
    try:
        return service.visit(event.pk, request.user.pk, lane_of(request.user), "ask")  # type: ignore[arg-type]
    except NoTicket:
        return None


def _place(request: HttpRequest, event: Event, ticket: TicketView | None) -> HttpResponse:
    again = math.ceil(ticket.poll_after_ms / 1000) if ticket else None
    context: dict[str, Any] = {"event": event, "ticket": ticket, "again": again}
    if ticket and ticket.status == "admitted":
        claims = visitor.claims_at_hand(event, request.user.pk)  # type: ignore[arg-type]
        context |= {"key": visitor.new_key(), "may_claim": visitor.may_claim(event, claims)}
    return render(request, "pages/queue.html", context)
