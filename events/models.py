"""The event: a sale of a fixed number of coupons in a window of time."""

from datetime import datetime
from enum import StrEnum

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class Phase(StrEnum):
    """What an event is to its visitors at a moment: derived, never stored."""

    SCHEDULED = "scheduled"
    OPEN = "open"
    PAUSED = "paused"
    SOLD_OUT = "sold_out"
    CLOSED = "closed"


def phase_at(*, status: str, opens_at: datetime, closes_at: datetime, now: datetime, remaining: int | None) -> Phase:
    """The phase of a published event at `now`.

    `remaining` is the stock left, None where nobody knows (then the event does not count as sold out).
    """
    if status == Event.Status.CLOSED or now >= closes_at:
        return Phase.CLOSED
    if status == Event.Status.PAUSED:
        return Phase.PAUSED
    if now < opens_at:
        return Phase.SCHEDULED
    return Phase.SOLD_OUT if remaining == 0 else Phase.OPEN


# Kinds of `Event.Strategy`.
DATABASE_WAYS = frozenset({"optimistic", "row_lock", "conditional_update", "skip_locked"})  # these never meet Redis
SCRIPT_WAYS = frozenset({"lua_sync", "lua_async"})  # the stock is in Redis, and one script takes from it
HOLDER_WAYS = frozenset({"redis_set", "redis_counter"})  # Redis has who holds a unit, as a set
LOG_WAYS = SCRIPT_WAYS | {"list_queue"}  # claims may wait in Redis until they are issued
ALL_WAYS = DATABASE_WAYS | LOG_WAYS | HOLDER_WAYS | {"distributed_lock"}


class EventQuerySet(models.QuerySet["Event"]):
    """Selections of events."""

    def public(self) -> "EventQuerySet":
        """Those a visitor may see: all but drafts."""
        return self.exclude(status=Event.Status.DRAFT)

    def live(self) -> "EventQuerySet":
        """Those whose stock must be in Redis: published or paused, whatever the clock says."""
        return self.filter(status__in=[Event.Status.PUBLISHED, Event.Status.PAUSED])


class Event(models.Model):
    """A sale. `issued` and `epoch` belong to the services; operators change the rest in the admin."""

    class Status(models.TextChoices):
        """What operators decided. The way is draft, published, (paused, published)*, closed; closed is final."""

        DRAFT = "draft", _("Draft")
        PUBLISHED = "published", _("Published")
        PAUSED = "paused", _("Paused")
        CLOSED = "closed", _("Closed")

    class StockMode(models.TextChoices):
        """Where units are taken from. Both count in the same place in the end: `issued`, in PostgreSQL."""

        REDIS = "redis", "Redis"
        DATABASE = "database", _("database")

    class EntryOrder(models.TextChoices):
        """Who goes first in a waiting room."""

        FIFO = "fifo", _("first come, first served")
        SHUFFLE = "shuffle", _("shuffle at the opening")

    class Strategy(models.TextChoices):
        """The ways to hand out units, the simplest first. `coupons.strategies` has one class of each name."""

        OPTIMISTIC = "optimistic", _("database: compare and set")
        ROW_LOCK = "row_lock", _("database: row lock")
        CONDITIONAL_UPDATE = "conditional_update", _("database: guarded update")
        SKIP_LOCKED = "skip_locked", _("database: a row for each unit")
        REDIS_SET = "redis_set", _("Redis: a set of users")
        REDIS_COUNTER = "redis_counter", _("Redis: a counter")
        DISTRIBUTED_LOCK = "distributed_lock", _("Redis: a lock")
        LIST_QUEUE = "list_queue", _("Redis: a queue, decided by a worker")
        LUA_SYNC = "lua_sync", _("Redis: a script, issued before the answer")
        LUA_ASYNC = "lua_async", _("Redis: a script, issued a moment later")

    title = models.CharField(_("title"), max_length=200)
    slug = models.SlugField(_("address"), max_length=80, unique=True)
    description = models.TextField(_("description"), blank=True)
    benefit = models.CharField(
        _("benefit"), max_length=200, help_text=_("What one coupon is worth, e.g. “₩10,000 off”.")
    )
    valid_until = models.DateTimeField(
        _("valid until"), null=True, blank=True, help_text=_("How long a coupon can be used. Empty: no end is told.")
    )
    status = models.CharField(_("status"), max_length=10, choices=Status.choices, default=Status.DRAFT, editable=False)
    opens_at = models.DateTimeField(_("opens at"))
    closes_at = models.DateTimeField(_("closes at"))
    quantity = models.PositiveIntegerField(
        _("quantity"), help_text=_("Coupons to give out. Never below what is claimed already.")
    )
    issued = models.PositiveIntegerField(_("issued"), default=0, editable=False)
    held = models.PositiveIntegerField(_("held"), default=0, editable=False)  # of the issued ones
    hold_seconds = models.PositiveIntegerField(
        _("held for"),
        default=0,
        help_text=_(
            "Seconds that a claim is held until the merchant's backend confirms it, after a payment say. What is not "
            "confirmed goes back on sale. 0: a claim is issued at once, and needs no confirmation."
        ),
    )
    per_user_limit = models.PositiveSmallIntegerField(_("coupons a user"), default=1)
    rate_per_second = models.PositiveSmallIntegerField(
        _("requests a second"),
        default=10,
        help_text=_("Requests a second that one user may send before being told to slow down."),
    )
    burst = models.PositiveSmallIntegerField(
        _("requests at once"), default=20, help_text=_("Requests one user may send at once.")
    )
    epoch = models.PositiveIntegerField(
        _("epoch"),
        default=0,
        editable=False,
        help_text=_("How often the stock was loaded. A claim of an older load is recognised."),
    )
    redis_lost_after = models.PositiveSmallIntegerField(
        _("Redis lost after"),
        default=10,
        help_text=_(
            "Seconds without Redis after which the sale goes on from the database, which is slower. 0: at once."
        ),
    )
    stock_mode = models.CharField(
        _("sells from"),
        max_length=8,
        choices=StockMode.choices,
        default=StockMode.REDIS,
        editable=False,
        help_text=_("Sells from."),
    )
    strategy = models.CharField(
        _("strategy"),
        max_length=20,
        choices=Strategy.choices,
        default=Strategy.LUA_ASYNC,
        help_text=_(
            "How units are handed out; fixed once published. For up to 100 people any will do, and those of the "
            "database need no Redis. Up to 1,000: the guarded update. Up to 10,000: the script, issued before the "
            "answer. Beyond: the script, issued a moment later."
        ),
    )
    # It rises with each change, for the strategy that compares and sets.
    version = models.PositiveBigIntegerField(_("version"), default=0, editable=False)
    # That a strategy of the database gave, or a lock; who comes with a lower one has lost the lock.
    last_number = models.PositiveBigIntegerField(_("last number"), default=0, editable=False)
    waiting_room = models.BooleanField(
        _("waiting room"),
        default=False,
        help_text=_("People queue, and claim when it is their turn. Otherwise all may claim at once."),
    )
    entry_order = models.CharField(
        _("entry order"),
        max_length=8,
        choices=EntryOrder.choices,
        default=EntryOrder.FIFO,
        help_text=_(
            "Shuffle: who comes before the opening is put into an order by lot; who comes later stands behind."
        ),
    )
    admission_rate = models.PositiveSmallIntegerField(
        _("people let in a second"), default=50, help_text=_("People let in a second.")
    )
    max_active = models.PositiveIntegerField(
        _("passes at once"), default=500, help_text=_("People who may hold a pass at once.")
    )
    pass_ttl = models.PositiveSmallIntegerField(
        _("length of a pass"), default=120, help_text=_("Seconds that a pass is good for.")
    )
    grace = models.PositiveSmallIntegerField(
        _("grace"), default=120, help_text=_("Seconds that the turn of somebody who is away is kept.")
    )
    seed = models.CharField(_("seed"), max_length=64, blank=True, editable=False)  # of the shuffle; secret before it
    fell_back_at = models.DateTimeField(
        _("fell back at"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Since when Redis is given up for lost. Empty while it is not, and where an operator chose so."),
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-opens_at", "-id"]
        constraints = [
            models.CheckConstraint(name="event_opens_before_it_closes", condition=Q(opens_at__lt=F("closes_at"))),
            models.CheckConstraint(
                name="event_issued_within_quantity", condition=Q(issued__gte=0) & Q(issued__lte=F("quantity"))
            ),
            models.CheckConstraint(
                name="event_held_within_issued", condition=Q(held__gte=0) & Q(held__lte=F("issued"))
            ),
            models.CheckConstraint(
                name="event_holds_need_the_log", condition=Q(hold_seconds=0) | Q(strategy="lua_async")
            ),
            models.CheckConstraint(name="event_quantity_positive", condition=Q(quantity__gte=1)),
            models.CheckConstraint(name="event_per_user_limit_positive", condition=Q(per_user_limit__gte=1)),
            models.CheckConstraint(name="event_rate_positive", condition=Q(rate_per_second__gte=1) & Q(burst__gte=1)),
            models.CheckConstraint(
                name="event_status_known", condition=Q(status__in=["draft", "published", "paused", "closed"])
            ),
            models.CheckConstraint(name="event_stock_mode_known", condition=Q(stock_mode__in=["redis", "database"])),
            models.CheckConstraint(name="event_entry_order_known", condition=Q(entry_order__in=["fifo", "shuffle"])),
            models.CheckConstraint(
                name="event_admission_positive",
                condition=Q(admission_rate__gte=1) & Q(max_active__gte=1) & Q(pass_ttl__gte=1),
            ),
            models.CheckConstraint(
                name="event_fell_back_to_database", condition=Q(fell_back_at__isnull=True) | Q(stock_mode="database")
            ),
            models.CheckConstraint(name="event_strategy_known", condition=Q(strategy__in=sorted(ALL_WAYS))),
            models.CheckConstraint(
                name="event_database_way_sells_there",
                condition=~Q(strategy__in=sorted(DATABASE_WAYS)) | Q(stock_mode="database") | Q(status="draft"),
            ),
            models.CheckConstraint(
                name="event_room_needs_script", condition=Q(waiting_room=False) | Q(strategy__in=sorted(SCRIPT_WAYS))
            ),
            models.CheckConstraint(
                name="event_holders_hold_one", condition=Q(per_user_limit=1) | ~Q(strategy__in=sorted(HOLDER_WAYS))
            ),
            models.CheckConstraint(
                name="event_live_has_epoch", condition=Q(epoch__gte=1) | Q(status__in=["draft", "closed"])
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        """Say in the form what the constraints would say with an exception."""
        # A field that the form refused is missing here, whatever its type says.
        opens_at, closes_at, quantity = (getattr(self, name, None) for name in ("opens_at", "closes_at", "quantity"))
        if opens_at and closes_at and opens_at >= closes_at:
            raise ValidationError({"closes_at": gettext("The sale must close after it opens.")})
        if quantity is not None and quantity < max(1, self.issued):
            told = gettext("At least %(number)s: so many are issued already.")
            raise ValidationError({"quantity": told % {"number": max(1, self.issued)}})
        if self.waiting_room and self.strategy not in SCRIPT_WAYS:
            raise ValidationError({"strategy": gettext("A waiting room needs one of the scripts in Redis.")})
        if self.hold_seconds and self.strategy != Event.Strategy.LUA_ASYNC:
            raise ValidationError({"strategy": gettext("Holds need the script in Redis with a worker that issues.")})
        if (self.per_user_limit or 1) > 1 and self.strategy in HOLDER_WAYS:
            raise ValidationError({"per_user_limit": gettext("This strategy gives each user one coupon only.")})

    @property
    def needs_redis(self) -> bool:
        """Whether claims meet Redis at all, as long as it is not lost."""
        return self.strategy not in DATABASE_WAYS

    @property
    def logs_claims(self) -> bool:
        """Whether claims may wait in Redis until they are issued."""
        return self.strategy in LOG_WAYS

    @property
    def may_return(self) -> bool:
        """Whether units may come back that are gone: not all are issued for good."""
        return self.hold_seconds > 0 and self.issued - self.held < self.quantity

    def phase(self, *, now: datetime, remaining: int | None) -> Phase:
        """The phase at `now`, given the stock left (None: unknown).

        Where people queue for what may come back the sale is open: it is not sold out to them.
        """
        return phase_at(
            status=self.status,
            opens_at=self.opens_at,
            closes_at=self.closes_at,
            now=now,
            remaining=None if self.waiting_room and self.may_return else remaining,
        )


class Ticket(models.Model):
    """A place in a waiting room as the database knows it: what is left of the order if Redis loses it.

    Written by a worker about a second after the fact. It is gone when its owner has claimed, left or stayed away, and
    kept until a week after the end all the same: a Redis that was lost must not bring it up again.
    """

    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="tickets", db_index=False)
    # No constraint: a ticket may be joined by a token whose user is gone, and is written with a thousand others.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False
    )
    number = models.BigIntegerField()
    lane = models.PositiveSmallIntegerField()
    rank = models.BigIntegerField(help_text="Who goes first within the lane: the lowest.")
    joined_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, blank=True)  # empty: the place is theirs still

    class Meta:
        constraints = [models.UniqueConstraint(name="ticket_once_a_user", fields=["event", "user"])]
        indexes = [models.Index(fields=["event", "lane", "rank"], name="ticket_by_rank")]

    def __str__(self) -> str:
        return f"{self.number} of event {self.event_id}"


class Reminder(models.Model):
    """A user who asked to be told before an event opens, and when that was done."""

    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="reminders", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="reminders")
    created_at = models.DateTimeField(auto_now_add=True)
    told_at = models.DateTimeField(null=True, blank=True)  # empty: not yet

    class Meta:
        indexes = [models.Index(fields=["event"], condition=Q(told_at__isnull=True), name="reminder_to_tell")]
        constraints = [models.UniqueConstraint(name="reminder_once_a_user", fields=["event", "user"])]

    def __str__(self) -> str:
        return f"of user {self.user_id} for event {self.event_id}"
