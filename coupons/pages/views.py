"""What is the visitor's own: their part of the page of a sale, the form to claim with, their claims and coupons."""

import io

import segno
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from coupons import direct, holds, selectors, services
from coupons.errors import CouponNotFound
from coupons.pages import visitor
from events.errors import Refusal
from events.pages.frame import page, refused
from events.pages.shown import find

COUPONS_A_PAGE = 50
KEY_LENGTH = 200
KEPT_FOR = 3600  # seconds that the visitor's own browser keeps a picture: a code never changes


@page
@never_cache
@require_safe
def me(request: HttpRequest, slug: str) -> HttpResponse:
    """The visitor's part of the page of a sale, for its script."""
    return JsonResponse(visitor.told(request, slug))


@page
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def claim(request: HttpRequest, slug: str) -> HttpResponse:
    """Claim for the signed-in user, then show the claim. Who comes by a link, without scripts, finds the form here."""
    event = find(slug)
    if not request.user.is_authenticated:
        return redirect_to_login(request.path)
    if request.method != "POST":
        if event.waiting_room:
            return redirect("coupon_pages:queue", slug)
        claims = visitor.claims_at_hand(event, request.user.pk)
        key, hindrance = visitor.new_key(), visitor.hindrance(event, claims)
        if hindrance is not None:
            return refused(request, hindrance, event=event, key=key)
        context = {"event": event, "key": key, "may_claim": visitor.may_claim(event, claims)}
        return render(request, "pages/claim_form.html", context)
    key, quantity = request.POST.get("key", "")[:KEY_LENGTH], _number(request.POST.get("quantity", "1"))
    try:
        claimed = services.claim(event_id=event.pk, user_id=request.user.pk, idempotency_key=key, quantity=quantity)
    except Refusal as refusal:
        return refused(request, refusal, event=event, key=key, quantity=quantity)
    return redirect("coupon_pages:claim_result", slug, str(claimed.claim.id))


def _number(text: str) -> int:
    """What somebody wrote as a number of units; 0, which nobody may claim, for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0  # noqa: PLR2004


@page
@never_cache
@require_safe
@login_required
def claim_result(request: HttpRequest, slug: str, claim_id: str) -> HttpResponse:
    """A claim of the signed-in user: pending, issued with its code, or rejected with the reason."""
    event = find(slug)
    claim = selectors.claim_of(event_id=event.pk, user_id=request.user.pk, claim_id=claim_id)  # type: ignore[arg-type]
    return render(request, "pages/claim.html", {"event": event, "claim": claim})


@page
@never_cache
@require_POST
@login_required
def cancel(request: HttpRequest, slug: str, claim_id: str) -> HttpResponse:
    """Give back what is held for the signed-in user, then show the claim."""
    event = find(slug)
    try:
        with direct.slot():
            holds.cancel(event_id=event.pk, claim_id=claim_id, user_id=request.user.pk)
    except Refusal as refusal:
        return refused(request, refusal, event=event)
    return redirect("coupon_pages:claim_result", slug, claim_id)


@page
@never_cache
@require_safe
@login_required
def coupons(request: HttpRequest) -> HttpResponse:
    """All coupons of the signed-in user, newest first, and before them what is held."""
    pages = Paginator(selectors.coupons_of(request.user.pk), COUPONS_A_PAGE)  # type: ignore[arg-type]
    held = selectors.holds_of(request.user.pk)  # type: ignore[arg-type]
    return render(request, "pages/coupons.html", {"page": pages.get_page(request.GET.get("page")), "holds": held})


@page
@cache_control(private=True, max_age=KEPT_FOR)
@require_safe
@login_required
def qr(request: HttpRequest, code: str) -> HttpResponse:
    """The code of one of the user's coupons as a picture to scan. It needs a light ground: it brings its own."""
    if not selectors.coupons_of(request.user.pk).filter(code=code).exists():  # type: ignore[arg-type]
        raise CouponNotFound
    drawn = io.BytesIO()
    segno.make_qr(code).save(drawn, kind="svg", scale=4, border=4, light="#fff", dark="#000", omitsize=True)
    return HttpResponse(drawn.getvalue(), content_type="image/svg+xml")
