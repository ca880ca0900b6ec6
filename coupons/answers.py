"""What the API tells of claims, for both lanes."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from coupons.api.serializers import claim_as_json
from coupons.models import ClaimId
from coupons.selectors import ClaimView
from coupons.stock.records import instant
from events.answers import Answer, dumps

STAND_IN = 987_654_321_987_654_321  # for a sequence number: no other number of a claim is as long


def claimed(claim: ClaimView) -> Answer:
    """An accepted claim and where to ask what became of it; 201 where it has its coupon already."""
    body = claim_as_json(claim)
    location = f"/api/v1/events/{claim.id.event_id}/claims/{body['id']}"
    return Answer(201 if claim.status == "issued" else 202, dumps(body), {"Location": location})


class Pattern(NamedTuple):
    """An accepted claim of one unit without what differs: twice its number, and the moment."""

    status: int
    before: bytes
    between: bytes
    after: bytes
    end: bytes
    place: bytes  # of the Location, without the number
    headers: list[tuple[bytes, bytes]]  # the others


def claimed_together(event_id: int, epoch: int, claimed_ms: int) -> Callable[[int], Answer]:
    """Makes the answers to claims of one unit each that one call has accepted, from their sequence numbers.

    As nothing else in them differs they are copies of one that is `claimed`, at a fifth of its cost.
    """
    status, before, between, after, end, place, others = _pattern(event_id, epoch)
    rest = after + dumps(instant(claimed_ms)) + end

    def answer(sequence: int) -> Answer:
        number = b"%d" % sequence
        body = b"%b%b%b%b%b" % (before, number, between, number, rest)
        headers = [(b"location", place + number), (b"content-length", b"%d" % len(body)), *others]
        return Answer(status, body, raw_headers=headers)

    return answer


@lru_cache(1024)
def _pattern(event_id: int, epoch: int) -> Pattern:
    whole = claimed(ClaimView(ClaimId(event_id, epoch, STAND_IN), "pending", instant(0)))
    number = b"%d" % STAND_IN
    before, between, rest = whole.body.split(number)
    after, end = rest.split(dumps(instant(0)))
    place = whole.headers["Location"].encode().removesuffix(number)
    others = [header for header in whole.raw_headers() if header[0] not in (b"location", b"content-length")]
    return Pattern(whole.status, before, between, after, end, place, others)


def claim(view: ClaimView) -> Answer:
    """One claim."""
    return Answer(200, dumps(claim_as_json(view)))
