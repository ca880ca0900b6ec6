"""What the API tells of claims and coupons."""

from typing import Any

from rest_framework import serializers

from coupons.models import Coupon, FailedClaim
from coupons.selectors import ClaimView


class CouponSerializer(serializers.ModelSerializer[Coupon]):
    """A coupon as its owner sees it."""

    event_id = serializers.IntegerField()
    claim_id = serializers.CharField()
    benefit = serializers.CharField(source="event.benefit")
    event_title = serializers.CharField(source="event.title")

    class Meta:
        model = Coupon
        fields = ["code", "event_id", "event_title", "benefit", "claim_id", "claimed_at", "issued_at"]
        read_only_fields = fields


class CancelSerializer(serializers.Serializer[Any]):
    """Why a hold is given back."""

    reason = serializers.ChoiceField(
        choices=["cancelled", "payment_failed"], default="cancelled", help_text="What its owner is told."
    )


class ClaimSerializer(serializers.Serializer[Any]):
    """A claim as its owner sees it."""

    id = serializers.CharField()
    event_id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["pending", "held", "issued", "rejected"])
    sequence = serializers.IntegerField(help_text="The claim's place in the order of this sale.")
    claimed_at = serializers.DateTimeField()
    quantity = serializers.IntegerField(required=False, help_text="The units that it took, where it is not one.")
    coupon = CouponSerializer(required=False, help_text="The first, once it is issued.")
    coupons = CouponSerializer(many=True, required=False, help_text="All of them, one a unit, once they are issued.")
    hold_expires_at = serializers.DateTimeField(
        required=False, help_text="While it is held: until when the merchant may confirm it."
    )
    reason = serializers.ChoiceField(
        choices=FailedClaim.Reason.choices, required=False, help_text="Why it was rejected."
    )


def claim_as_json(claim: ClaimView) -> dict[str, Any]:
    """A claim with what it became, in the form of `ClaimSerializer` at a tenth of its cost."""
    body = claim.as_json()
    if claim.coupons:
        coupons = [CouponSerializer(coupon).data for coupon in claim.coupons]
        body |= {"coupon": coupons[0], "coupons": coupons}
    if claim.hold_expires_at is not None:
        body["hold_expires_at"] = claim.hold_expires_at
    if claim.reason is not None:
        body["reason"] = claim.reason
    return body
