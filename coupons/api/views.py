"""Claims and coupons by the REST API."""

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from structlog.contextvars import bind_contextvars

from coupons import answers, direct, holds, selectors, services
from coupons.api.requests import IDEMPOTENCY_KEY, idempotency_key
from coupons.api.serializers import CancelSerializer, ClaimSerializer, CouponSerializer, claim_as_json
from coupons.errors import CouponNotFound
from coupons.models import Coupon
from events.catalogue import catalogue
from events.errors import EventNotFound
from notifications.api.callers import user_id_of

KEY_HEADER = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": IDEMPOTENCY_KEY},
    OpenApiParameter.HEADER,
    description="Names this request: sent again with the same key, it gets its first answer again.",
)
LOCATION = OpenApiParameter(
    "Location",
    {"type": "string", "format": "uri-reference"},
    OpenApiParameter.HEADER,
    description="Where to ask what became of the claim.",
    required=True,
    response=[201, 202],
)


PATIENCE = 0.3  # seconds that a decision on a hold waits for one of the few places to wait for the database
BODY = {
    "type": "object",
    "properties": {
        "quantity": {
            "type": "integer",
            "minimum": 1,
            "maximum": 2**15 - 1,
            "default": 1,
            "description": "Units, up to the event's `per_user_limit`: all of them or none.",
        }
    },
}


class ClaimsView(APIView):
    """The caller's claims on an event."""

    @extend_schema(
        operation_id="claim",
        summary="Claim a coupon",
        tags=["claims"],
        request={"application/json": BODY},
        responses={201: ClaimSerializer, 202: ClaimSerializer},
        parameters=[KEY_HEADER, LOCATION],
        extensions={
            "x-refusals": [
                "sold_out",
                "already_claimed",
                "not_open",
                "closed",
                "paused",
                "not_admitted",
                "rate_limited",
                "not_found",
            ]
        },
    )
    def post(self, request: Request, event_id: int) -> HttpResponse:
        """Take one of the event's coupons, or several. What became of an accepted claim is told at its `Location`.

        `sold_out` where fewer are left than were asked for: another claim, of fewer, may still find some.
        201: it is issued already, because the sale goes on without its fast store for a while.
        """
        if not isinstance(request.data, dict):
            raise ValidationError({"non_field_errors": ["The body must be a JSON object, or none at all."]})
        key = idempotency_key(request.META.get("HTTP_IDEMPOTENCY_KEY"))
        claim = services.claim(
            event_id=event_id,
            user_id=user_id_of(request),
            idempotency_key=key,
            quantity=request.data.get("quantity", 1),
        ).claim
        bind_contextvars(claim_id=str(claim.id))
        return answers.claimed(claim).as_response()

    @extend_schema(
        operation_id="list_claims",
        summary="Your claims on an event",
        tags=["claims"],
        responses=ClaimSerializer(many=True),
    )
    def get(self, request: Request, event_id: int) -> Response:
        """All of them, newest first."""
        if catalogue.get(event_id) is None:
            raise EventNotFound
        claims = selectors.claims_of(event_id=event_id, user_id=user_id_of(request))
        return Response([claim_as_json(claim) for claim in claims])


class ClaimView(APIView):
    """One claim of the caller."""

    @extend_schema(
        operation_id="get_claim", summary="What became of a claim", tags=["claims"], responses=ClaimSerializer
    )
    def get(self, request: Request, event_id: int, claim_id: str) -> HttpResponse:
        """Pending, issued (with the coupon) or rejected (with the reason)."""
        bind_contextvars(claim_id=claim_id)
        claim = selectors.claim_of(event_id=event_id, user_id=user_id_of(request), claim_id=claim_id)
        return answers.claim(claim).as_response()


class ConfirmView(APIView):
    """A hold, for the merchant's backend to confirm."""

    @extend_schema(
        operation_id="confirm_claim",
        summary="Confirm a held claim",
        tags=["holds"],
        request=None,
        responses=ClaimSerializer,
        extensions={"x-refusals": ["forbidden", "hold_expired", "hold_cancelled", "not_held"]},
    )
    def post(self, request: Request, event_id: int, claim_id: str) -> HttpResponse:
        """Issue it: its owner is told the code. Confirmed twice, it is the same answer.

        For users with the permission `coupons.confirm_claim`.
        """
        bind_contextvars(claim_id=claim_id)
        with direct.slot(patience=PATIENCE):
            if not _may_confirm(request):
                raise PermissionDenied
            claim = holds.confirm(event_id=event_id, claim_id=claim_id)
        return answers.claim(claim).as_response()


class CancelView(APIView):
    """A hold, for its owner or the merchant's backend to give back."""

    @extend_schema(
        operation_id="cancel_claim",
        summary="Cancel a held claim",
        tags=["holds"],
        request=CancelSerializer,
        responses=ClaimSerializer,
        extensions={"x-refusals": ["already_confirmed", "not_held"]},
    )
    def post(self, request: Request, event_id: int, claim_id: str) -> HttpResponse:
        """Put its units on sale again at once. One that has ended already: how it did.

        The owner's own, and any for users with the permission `coupons.confirm_claim`.
        """
        bind_contextvars(claim_id=claim_id)
        body = CancelSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        reason = body.validated_data["reason"]
        with direct.slot(patience=PATIENCE):
            owner = None if _may_confirm(request) else user_id_of(request)
            claim = holds.cancel(event_id=event_id, claim_id=claim_id, reason=reason, user_id=owner)
        return answers.claim(claim).as_response()


def _may_confirm(request: Request) -> bool:
    """By the database, not by the token: a permission that is taken away is gone at once."""
    user = get_user_model().objects.filter(pk=user_id_of(request)).first()
    return user is not None and user.has_perm("coupons.confirm_claim")


@extend_schema_view(get=extend_schema(operation_id="list_coupons", summary="Your coupons", tags=["coupons"]))
class CouponsView(ListAPIView[Coupon]):
    """A page of the caller's coupons, newest first."""

    serializer_class = CouponSerializer

    def get_queryset(self) -> QuerySet[Coupon]:
        """The caller's own."""
        return selectors.coupons_of(user_id_of(self.request))


class CouponView(APIView):
    """One coupon of the caller."""

    @extend_schema(
        operation_id="get_coupon", summary="One of your coupons", tags=["coupons"], responses=CouponSerializer
    )
    def get(self, request: Request, code: str) -> Response:
        """By its code. Another's is not found."""
        coupon = selectors.coupons_of(user_id_of(request)).filter(code=code).first()
        if coupon is None:
            raise CouponNotFound
        return Response(CouponSerializer(coupon).data)
