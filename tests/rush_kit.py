"""What tests of the checker share: forged histories and what the database has."""

from coupons.rush.checker import Claim, CouponRow, Database, FailedRow, check
from coupons.rush.history import Exchange, Ticket


def said(user, sequence=0, *, at=0, took=5, status=202, key="", attempt=1, code="", epoch=1, **rest):
    """An answer to a claim request: asked at `at`, answered `took` later, naming a claim unless `sequence` is 0."""
    claim_id = f"7-{epoch}-{sequence}" if sequence else ""
    return Exchange(
        user_id=user, kind="claim", key=key or f"key-{user}", attempt=attempt, asked_ns=at, answered_ns=at + took,
        status=status, code=code, **{"claim_id": claim_id, "sequence": sequence, **rest},
    )  # fmt: skip


def sold_out(user, *, at=0, **rest):
    return said(user, at=at, status=409, code="sold_out", **rest)


def already(user, sequence, *, at=0, **rest):
    return said(user, sequence, at=at, status=409, code="already_claimed", **rest)


def silence(user, *, at=0, took=100, **rest):
    return said(user, at=at, took=took, status=None, **rest)


def read(user, sequence, state, reason="", *, epoch=1):
    """The owner's last look at a claim."""
    return Exchange(
        user_id=user, kind="poll", key="", attempt=1, asked_ns=500, answered_ns=501, status=200,
        claim_id=f"7-{epoch}-{sequence}", sequence=sequence, state=state, reason=reason,
    )  # fmt: skip


def visited(user, *, at, took=5, kind="ask", status=200, code="", ticket=None):
    """An answer to a visit to the waiting room."""
    return Exchange(
        user_id=user, kind=kind, key="", attempt=1, asked_ns=at, answered_ns=at + took, status=status, code=code,
        ticket=ticket,
    )  # fmt: skip


def waits(user, number, ahead, *, lane=1, poll=1000, **rest):
    return visited(user, ticket=Ticket(number, lane, "waiting", ahead, poll), **rest)


def let_in(user, number, *, lane=1, poll=5000, **rest):
    return visited(user, ticket=Ticket(number, lane, "admitted", 0, poll), **rest)


def no_ticket(user, **rest):
    return visited(user, status=404, code="not_found", **rest)


def limited(user, **rest):
    return visited(user, status=429, code="rate_limited", **rest)


def not_admitted(user, **rest):
    return said(user, status=403, code="not_admitted", **rest)


def coupon(user, sequence, epoch=1):
    return CouponRow(user, Claim(epoch, sequence))


def failed(user, sequence, reason="error", status="rejected"):
    return FailedRow(user, Claim(1, sequence), status, reason)


HISTORY = [
    said(1, 1, at=0),
    said(2, 2, at=10),
    said(3, 3, at=20),
    read(1, 1, "issued"),
    sold_out(4, at=30),
    sold_out(5, at=40),
]
DATABASE = Database(quantity=3, issued=3, per_user_limit=1, coupons=[coupon(1, 1), coupon(2, 2), coupon(3, 3)])


def broken(history, database, **options):
    """The promises that are broken."""
    return [one.promise for one in check(history, database, **options) if not one.kept]
