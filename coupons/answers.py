"""What the API tells of claims, for both lanes."""

from coupons.api.serializers import claim_as_json
from coupons.selectors import ClaimView
from events.answers import Answer, dumps


def claimed(claim: ClaimView) -> Answer:
    """An accepted claim and where to ask what became of it; 201 where it has its coupon already."""
    body = claim_as_json(claim)
    location = f"/api/v1/events/{claim.id.event_id}/claims/{body['id']}"
    return Answer(201 if claim.status == "issued" else 202, dumps(body), {"Location": location})


def claim(view: ClaimView) -> Answer:
    """One claim."""
    return Answer(200, dumps(claim_as_json(view)))
