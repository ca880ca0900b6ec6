"""What the tests of the strategies share: claims, the worker's work, and the sums that must hold."""

from typing import Any

from coupons import services
from coupons.issuing import issue_claims
from coupons.models import Coupon
from coupons.stock.store import bulk_store
from coupons.strategies import ClaimResult
from events.catalogue import catalogue
from events.errors import Unavailable
from events.models import Event
from notifications.models import Notification


def claim(event: Event, user: int, key: str = "") -> ClaimResult:
    """Claim, asking again where one is told to."""
    for _ in range(1000):
        try:
            return services.claim(event_id=event.pk, user_id=user, idempotency_key=key)
        except Unavailable:
            continue
    raise AssertionError("unavailable all the time")


def settle(event: Event) -> None:
    """Let the worker come to the end of its work."""
    if event.logs_claims:
        issue_claims(event.pk, bulk_store())
    catalogue.refresh()


def assert_exactly(event: Event, number: int, *, told: int | None = None) -> None:
    """So many coupons, one each, counted, with a notification each, and none more; `told` of all sales."""
    event.refresh_from_db()
    coupons = Coupon.objects.filter(event=event)
    assert (event.issued, coupons.count(), coupons.values("user").distinct().count()) == (number, number, number)
    assert Notification.objects.filter(kind="coupon_issued").count() == (number if told is None else told)


def assert_in_order(accepted: list[dict[str, Any]]) -> None:
    """P6: who was answered before another asked has the lower number."""
    assert len({one["sequence"] for one in accepted}) == len(accepted)
    for one in accepted:
        later = [other["sequence"] for other in accepted if other["began"] > one["ended"]]
        assert all(number > one["sequence"] for number in later)
