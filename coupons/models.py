"""What claims become: a coupon, or a failed claim. And what the reconciler found."""

from datetime import datetime
from typing import NamedTuple

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from coupons.stock.records import LogEntry, milliseconds
from events.models import Event


class ClaimId(NamedTuple):
    """The name of a claim: its event, the epoch of the load it was taken from, the sequence number of its first unit.

    As text `7-1-42`. The claim log's entries bear the last two, so an entry, a coupon and a claim are one name.
    """

    event_id: int
    epoch: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.event_id}-{self.epoch}-{self.sequence}"

    @property
    def entry_id(self) -> str:
        """The name of its entry in the event's claim log."""
        return f"{self.epoch}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> "ClaimId | None":
        """Read a claim's name; None when it cannot be one."""
        parts = text.split("-")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in parts):  # noqa: PLR2004
            return None
        return cls(*map(int, parts))


class Coupon(models.Model):
    """A unit of an issued claim, or of one that is held. Written by `coupons.rows`, never changed in what it grants.

    Of a sale with holds it is `held` first, and its code is told nobody: it is confirmed in time, and so issued, or
    goes (`coupons.holds`). Either way it counts in `Event.issued`.
    """

    class Status(models.TextChoices):
        """How far it is."""

        HELD = "held", _("Held")
        ISSUED = "issued", _("Issued")

    # Each index is written once a coupon: an event's and a user's are the first columns of those in `Meta`, and of a
    # unique field Django would make two.
    event = models.ForeignKey(
        Event, on_delete=models.PROTECT, related_name="coupons", db_index=False, verbose_name=_("event")
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="coupons",
        db_index=False,
        verbose_name=_("user"),
    )
    ordinal = models.PositiveSmallIntegerField(
        _("ordinal"), help_text=_("The user's first, second, … coupon of this event.")
    )
    code = models.CharField(_("code"), max_length=24)
    status = models.CharField(
        _("status"), max_length=6, choices=Status.choices, default=Status.ISSUED, db_default=Status.ISSUED
    )
    held_until = models.DateTimeField(_("held until"), null=True, blank=True)
    epoch = models.PositiveIntegerField(_("epoch"))
    sequence = models.PositiveBigIntegerField(_("sequence"))
    place = models.PositiveSmallIntegerField(
        _("place"), db_default=1, default=1, help_text=_("The first, second, … unit of its claim.")
    )
    units = models.PositiveSmallIntegerField(
        _("units"), db_default=1, default=1, help_text=_("The units of its claim.")
    )
    request = models.CharField(
        _("request"), max_length=11, blank=True, help_text=_("The digest of the claim's Idempotency-Key.")
    )
    claimed_at = models.DateTimeField(_("claimed at"))
    issued_at = models.DateTimeField(_("issued at"))

    class Meta:
        verbose_name = _("coupon")
        verbose_name_plural = _("coupons")
        ordering = ["-issued_at", "-id"]
        constraints = [
            models.UniqueConstraint(name="coupon_once_a_user", fields=["event", "user", "ordinal"]),
            models.UniqueConstraint(name="coupon_once_a_claim", fields=["event", "epoch", "sequence"]),
            models.UniqueConstraint(name="coupon_once_a_code", fields=["code"]),
            models.CheckConstraint(name="coupon_ordinal_positive", condition=Q(ordinal__gte=1)),
            models.CheckConstraint(
                name="coupon_held_until_a_time",
                condition=Q(status="held", held_until__isnull=False) | Q(status="issued", held_until__isnull=True),
            ),
        ]
        indexes = [
            models.Index(fields=["user", "-issued_at"], name="coupon_by_user"),
            models.Index(fields=["held_until"], condition=Q(status="held"), name="coupon_held"),
        ]
        permissions = [("confirm_claim", "Can confirm and cancel held claims")]

    def __str__(self) -> str:
        return f"coupon of claim {self.claim_id}"

    @property
    def claim_id(self) -> ClaimId:
        """The claim it was issued for."""
        return ClaimId(self.event_id, self.epoch, self.entry.first)

    @property
    def entry(self) -> LogEntry:
        """The unit as the log had it."""
        return LogEntry(
            self.epoch,
            self.sequence,
            self.user_id,
            self.ordinal,
            milliseconds(self.claimed_at),
            self.request,
            self.place,
            self.units,
        )


class Unit(models.Model):
    """A unit that nobody has claimed, of a sale whose strategy takes them as rows (`coupons.units`)."""

    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="units", db_index=False)
    number = models.PositiveBigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(name="unit_once_a_number", fields=["event", "number"])]

    def __str__(self) -> str:
        return f"{self.number} of event {self.event_id}"


class FailedClaim(models.Model):
    """A unit of an accepted claim that was not issued at the first try: still tried, given up, or mended by hand.

    The units of a claim go one way together.
    The user is kept as a number without a foreign key, because a user who is gone is one of the ways to fail.
    """

    class Status(models.TextChoices):
        """Where it stands."""

        RETRYING = "retrying", _("Being retried")
        REJECTED = "rejected", _("Rejected")
        ABANDONED = "abandoned", _("Abandoned by an operator")
        ISSUED = "issued", _("Issued after all")

    class Reason(models.TextChoices):
        """Why, as its owner reads it."""

        ERROR = "error", _("It could not be written")
        STOCK_EXHAUSTED = "stock_exhausted", _("No unit was left in the database")
        ALREADY_CLAIMED = "already_claimed", _("The user has this coupon already")
        LOST = "lost", _("Its place in the claim log was lost")
        OUTAGE = "outage", _("No unit was left when Redis came back")
        SOLD_OUT = "sold_out", _("All coupons were claimed before your turn")
        CANCELLED = "cancelled", _("It was cancelled while it was held")
        PAYMENT_FAILED = "payment_failed", _("The payment failed")
        HOLD_EXPIRED = "hold_expired", _("It was not confirmed in time")

    ENDED_HOLD = frozenset({Reason.CANCELLED, Reason.PAYMENT_FAILED, Reason.HOLD_EXPIRED})

    event = models.ForeignKey(Event, on_delete=models.PROTECT, related_name="failed_claims", verbose_name=_("event"))
    user_id = models.BigIntegerField(_("user ID"), db_index=True)
    ordinal = models.PositiveSmallIntegerField(_("ordinal"))
    epoch = models.PositiveIntegerField(_("epoch"))
    sequence = models.PositiveBigIntegerField(_("sequence"))
    place = models.PositiveSmallIntegerField(
        _("place"), db_default=1, default=1, help_text=_("The first, second, … unit of its claim.")
    )
    units = models.PositiveSmallIntegerField(
        _("units"), db_default=1, default=1, help_text=_("The units of its claim.")
    )
    request = models.CharField(
        _("request"), max_length=11, blank=True, help_text=_("The digest of the claim's Idempotency-Key.")
    )
    claimed_at = models.DateTimeField(_("claimed at"))
    status = models.CharField(_("status"), max_length=10, choices=Status.choices)
    reason = models.CharField(_("reason"), max_length=20, choices=Reason.choices)
    error = models.TextField(_("error"), blank=True, help_text=_("What the database said, without the row's values."))
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    # Of a hold that has ended: the database has the unit on sale again, and Redis is not known to.
    to_return = models.BooleanField(default=False, db_default=False, editable=False)
    next_attempt_at = models.DateTimeField(_("next attempt at"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("failed claim")
        verbose_name_plural = _("failed claims")
        ordering = ["-created_at", "-id"]
        constraints = [
            # With the user: a Redis that was rolled back gives a number again, to somebody else.
            models.UniqueConstraint(name="failed_claim_once_a_claim", fields=["event", "epoch", "sequence", "user_id"]),
            models.CheckConstraint(
                name="failed_claim_status_known",
                condition=Q(status__in=["retrying", "rejected", "abandoned", "issued"]),
            ),
            models.CheckConstraint(
                name="failed_claim_retrying_has_time",
                condition=Q(status="retrying", next_attempt_at__isnull=False) | ~Q(status="retrying"),
            ),
        ]
        indexes = [models.Index(fields=["event"], condition=Q(to_return=True), name="failed_claim_to_return")]

    def __str__(self) -> str:
        return f"failed claim {self.claim_id}"

    @property
    def claim_id(self) -> ClaimId:
        """The claim that failed."""
        return ClaimId(self.event_id, self.epoch, self.entry.first)

    @property
    def entry(self) -> LogEntry:
        """The unit as the log had it."""
        return LogEntry(
            self.epoch,
            self.sequence,
            self.user_id,
            self.ordinal,
            milliseconds(self.claimed_at),
            self.request,
            self.place,
            self.units,
        )

    @property
    def had_unit(self) -> bool:
        """Whether the database had a unit for it, which goes back when it is rejected."""
        return self.reason not in (self.Reason.STOCK_EXHAUSTED, self.Reason.OUTAGE, self.Reason.SOLD_OUT)


class Reconciliation(models.Model):
    """One drift between Redis and the database: when it was seen, and when it was mended or had gone by itself."""

    class Kind(models.TextChoices):
        """What did not agree."""

        STOCK = "stock", _("Stock differs from quantity - issued - claim log")
        MISSING_CLAIMANT = "missing_claimant", _("A coupon's owner is unknown to Redis")
        GHOST_CLAIMANT = "ghost_claimant", _("A claimant without log entry or coupon")
        MISSING_EVENT = "missing_event", _("A live event is not in Redis")
        ROLLED_BACK = "rolled_back", _("Redis is behind the database")
        OTHER_RUN = "other_run", _("Redis was restarted or replaced")
        DAMAGED = "damaged", _("A key in Redis was of a wrong type")
        OUTAGE = "outage", _("Redis was lost, and the database sold instead")

    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="reconciliations", verbose_name=_("event"))
    kind = models.CharField(_("kind"), max_length=20, choices=Kind.choices)
    expected = models.BigIntegerField(_("expected"), null=True, blank=True, help_text=_("What the database implies."))
    found = models.BigIntegerField(_("found"), null=True, blank=True, help_text=_("What Redis said."))
    detail = models.JSONField(_("detail"), default=dict, blank=True)
    seen_at = models.DateTimeField(_("seen at"))
    mended_at = models.DateTimeField(_("mended at"), null=True, blank=True)
    gone_at = models.DateTimeField(
        _("gone at"), null=True, blank=True, help_text=_("Not seen a second time: claims were in flight.")
    )

    class Meta:
        verbose_name = _("reconciliation")
        verbose_name_plural = _("reconciliations")
        ordering = ["-seen_at", "-id"]
        indexes = [
            models.Index(
                fields=["event", "kind"],
                name="reconciliation_open",
                condition=Q(mended_at__isnull=True, gone_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of event {self.event_id}"

    @property
    def settled_at(self) -> datetime | None:
        """When it ended, mended or gone; None while it is only suspected."""
        return self.mended_at or self.gone_at
