"""Notifications: one row for each thing a user is to be told, and one for each way it is told them."""

from datetime import datetime

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _


class Notification(models.Model):
    """Something a user is to be told, written in the transaction that made it true.

    `key` makes writing it again harmless: one fact, one row. Write with `notifications.services.notify`.
    """

    class Kind(models.TextChoices):
        """What happened."""

        COUPON_ISSUED = "coupon_issued", _("Coupon issued")
        CLAIM_REJECTED = "claim_rejected", _("Claim rejected")
        CLAIM_HELD = "claim_held", _("Claim held")
        ADMITTED = "admitted", _("Your turn")
        SALE_OPENS_SOON = "sale_opens_soon", _("Sale opens soon")

    # Each index is written once a notification: a user's is the first column of `notification_by_user`, and of a unique
    # field Django would make two.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="notifications",
        db_index=False,
        verbose_name=_("user"),
    )
    kind = models.CharField(_("kind"), max_length=32, choices=Kind.choices)
    key = models.CharField(_("key"), max_length=80, help_text=_("Names the fact, e.g. the kind and the claim."))
    data = models.JSONField(_("data"), default=dict)
    created_at = models.DateTimeField(_("created at"))
    read_at = models.DateTimeField(_("read at"), null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        indexes = [models.Index(fields=["user", "-created_at"], name="notification_by_user")]
        constraints = [
            models.UniqueConstraint(name="notification_once_a_fact", fields=["key"]),
            models.CheckConstraint(
                name="notification_kind_known",
                condition=Q(kind__in=["coupon_issued", "claim_rejected", "claim_held", "admitted", "sale_opens_soon"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for user {self.user_id}"

    @property
    def expires_at(self) -> datetime | None:
        """When it is worth nothing any more; None where it never is."""
        return parse_datetime(self.data.get("expires_at") or "")


class Outbox(models.Model):
    """Notifications that were written together and are not fanned out yet.

    A row a statement: it costs a drain next to nothing, where a mark on each notification would be an index more, and
    a second version of every row. It commits with them, so no order of ids or of commits matters.
    """

    notifications = ArrayField(models.BigIntegerField())
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{len(self.notifications)} notifications"


class Delivery(models.Model):
    """A notification on its way to one target of one channel: exactly one row, so one message but for a lost reply."""

    class Channel(models.TextChoices):
        """By which way."""

        WEBSOCKET = "websocket", _("WebSocket")
        EMAIL = "email", _("E-mail")
        WEBHOOK = "webhook", _("Webhook")
        PUSH = "push", _("Web Push")

    class Status(models.TextChoices):
        """How far it came."""

        PENDING = "pending", _("Pending")
        SENT = "sent", _("Sent")
        DEAD = "dead", _("Dead")

    notification = models.ForeignKey(
        Notification,
        on_delete=models.CASCADE,
        related_name="deliveries",
        db_index=False,
        verbose_name=_("notification"),
    )
    channel = models.CharField(_("channel"), max_length=10, choices=Channel.choices)
    target = models.CharField(
        _("target"),
        max_length=20,
        blank=True,
        help_text=_("The webhook's or the subscription's number; empty where a user has one only."),
    )
    status = models.CharField(_("status"), max_length=8, choices=Status.choices, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    next_try_at = models.DateTimeField(_("next attempt at"))  # while it is tried, when it is taken for lost
    error = models.CharField(_("error"), max_length=200, blank=True)  # never anything personal
    # When the notification was written: it ages while it waits to be fanned out, too. When it was asked for to be sent
    # again, if it was.
    created_at = models.DateTimeField(_("created at"))
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        indexes = [
            models.Index(
                fields=["channel", "target", "next_try_at"], condition=Q(status="pending"), name="delivery_due"
            ),
            # Of targets beyond number: the oldest of all of them.
            models.Index(
                fields=["next_try_at"], condition=Q(status="pending", channel="push"), name="delivery_push_due"
            ),
            # How long the oldest waits, for the metrics: there may be a million of them.
            models.Index(fields=["channel", "created_at"], condition=Q(status="pending"), name="delivery_oldest"),
        ]
        constraints = [
            models.UniqueConstraint(name="delivery_once_a_target", fields=["notification", "channel", "target"]),
            models.CheckConstraint(
                name="delivery_channel_known", condition=Q(channel__in=["websocket", "email", "webhook", "push"])
            ),
            models.CheckConstraint(name="delivery_status_known", condition=Q(status__in=["pending", "sent", "dead"])),
        ]

    def __str__(self) -> str:
        return f"{self.channel} {self.pk}"

    @property
    def dedupe_key(self) -> str:
        """The same at every try, so that who receives it twice can tell: `12-webhook-3`."""
        return "-".join(filter(None, (str(self.notification_id), self.channel, self.target)))


class SilentTarget(models.Model):
    """A target that does not answer: nothing is sent there until `retry_at`, and then one delivery tries."""

    channel = models.CharField(_("channel"), max_length=10, choices=Delivery.Channel.choices)
    target = models.CharField(_("target"), max_length=20, blank=True)
    failures = models.PositiveIntegerField(_("failures"), default=1)
    retry_at = models.DateTimeField(_("next attempt at"))

    class Meta:
        verbose_name = _("silent target")
        verbose_name_plural = _("silent targets")
        constraints = [models.UniqueConstraint(name="silent_target_once", fields=["channel", "target"])]

    def __str__(self) -> str:
        return f"{self.channel} {self.target}"


class WebhookEndpoint(models.Model):
    """An address of the operators' that hears of everybody's notifications of some kinds. Switched off, never deleted:
    its deliveries are the log.
    """

    name = models.CharField(_("name"), max_length=80)
    url = models.URLField(_("URL"), max_length=500)
    secret = models.CharField(max_length=80, editable=False)
    kinds = ArrayField(models.CharField(max_length=32, choices=Notification.Kind.choices), verbose_name=_("kinds"))
    active = models.BooleanField(_("active"), default=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        ordering = ["name", "id"]
        verbose_name = _("webhook endpoint")
        verbose_name_plural = _("webhook endpoints")

    def __str__(self) -> str:
        return self.name


class PushSubscription(models.Model):
    """A browser in which a user has allowed Web Push: where it is reached, and the keys to encrypt for it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="push_subscriptions")
    endpoint = models.CharField(max_length=1000)
    p256dh = models.CharField(max_length=100)
    auth = models.CharField(max_length=40)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="push_subscription_once", fields=["endpoint"])]

    def __str__(self) -> str:
        return f"of user {self.user_id}"


class Preferences(models.Model):
    """What a user has chosen of how to be told. What is not chosen: `DEFAULTS` in `notifications.preferences`."""

    class Language(models.TextChoices):
        """What e-mails and pushes are written in."""

        KOREAN = "ko", "한국어"
        ENGLISH = "en", "English"

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="notification_preferences",
    )
    language = models.CharField(max_length=2, choices=Language.choices)
    choices = models.JSONField(default=dict)  # {kind: {channel: bool}}

    class Meta:
        constraints = [
            models.CheckConstraint(name="preferences_language_known", condition=Q(language__in=["ko", "en"]))
        ]

    def __str__(self) -> str:
        return f"of user {self.user_id}"
