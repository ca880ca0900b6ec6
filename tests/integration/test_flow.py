import pytest

from coupons import issuing, services
from coupons.models import Coupon
from coupons.selectors import claim_of
from tests.factories import UserFactory


def test_a_claim_is_issued(sale, store):
    event = sale(quantity=2)
    user = UserFactory()
    claimed = services.claim(event_id=event.id, user_id=user.id)
    assert issuing.issue_claims(event.id, store) == 1
    assert claim_of(event_id=event.id, user_id=user.id, claim_id=str(claimed.claim.id)).coupon == Coupon.objects.get()
