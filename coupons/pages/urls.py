"""URLs of the pages of claims and coupons."""

from django.urls import path

from coupons.pages import queue, views

app_name = "coupon_pages"

urlpatterns = [
    path("events/<slug:slug>/me", views.me, name="me"),
    path("events/<slug:slug>/claim", views.claim, name="claim"),
    path("events/<slug:slug>/queue", queue.queue, name="queue"),
    path("events/<slug:slug>/claims/<str:claim_id>", views.claim_result, name="claim_result"),
    path("events/<slug:slug>/claims/<str:claim_id>/cancel", views.cancel, name="cancel"),
    path("coupons", views.coupons, name="coupons"),
    path("coupons/<slug:code>/qr.svg", views.qr, name="qr"),
]
