"""`/api/v1/events/…/claims`, `/api/v1/coupons…`"""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from coupons.api import views
from events.api import converters

__all__ = ["converters", "urlpatterns"]


class CouponCodeConverter(StringConverter):
    """What may be a coupon's code."""

    regex = "[0-9A-Za-z-]{1,24}"


register_converter(CouponCodeConverter, "coupon_code")

urlpatterns = [
    path("events/<event_id:event_id>/claims", views.ClaimsView.as_view(), name="api-claims"),
    path("events/<event_id:event_id>/claims/<str:claim_id>", views.ClaimView.as_view(), name="api-claim"),
    path("events/<event_id:event_id>/claims/<str:claim_id>/confirm", views.ConfirmView.as_view(), name="api-confirm"),
    path("events/<event_id:event_id>/claims/<str:claim_id>/cancel", views.CancelView.as_view(), name="api-cancel"),
    path("coupons", views.CouponsView.as_view(), name="api-coupons"),
    path("coupons/<coupon_code:code>", views.CouponView.as_view(), name="api-coupon"),
]
