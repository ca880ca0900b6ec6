"""The textbook way, to be measured against: one Celery message a claim, and one coupon a task."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from celery import Celery

app = Celery("textbook", set_as_current=False)  # imported into a test run, where the current one is ours
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.beat_schedule = {}


@app.task(name="textbook.issue_one")
def issue_one(event_id: int, user_id: int, sequence: int) -> None:
    """Write one coupon, count it, notify its owner: one transaction a claim."""
    from django.db import transaction
    from django.db.models import F
    from django.utils import timezone

    from coupons.codes import new_code
    from coupons.models import Coupon
    from events.models import Event
    from notifications.models import Notification

    now = timezone.now()
    with transaction.atomic():
        if not Event.objects.filter(pk=event_id, issued__lt=F("quantity")).update(issued=F("issued") + 1):
            return
        coupon = Coupon.objects.create(
            event_id=event_id,
            user_id=user_id,
            ordinal=1,
            code=new_code(),
            epoch=1,
            sequence=sequence,
            claimed_at=now,
            issued_at=now,
        )
        Notification.objects.create(
            user_id=user_id,
            kind=Notification.Kind.COUPON_ISSUED,
            key=f"coupon_issued:{coupon.claim_id}",
            data={"code": coupon.code},
            created_at=now,
        )
