"""The admin of what claims became: coupons and drift to look at, failed claims to retry or abandon."""
# ruff: noqa: ARG002 - the signatures are Django's

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib import admin, messages
from django.db import Error as DatabaseError
from django.db import models
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from redis.exceptions import RedisError

from coupons import holds, services
from coupons.codes import GROUP_LENGTH
from coupons.issuing import NothingLeft
from coupons.models import Coupon, FailedClaim, Reconciliation
from events.errors import Refusal

if TYPE_CHECKING:  # unfold has no types; its ModelAdmin is Django's with another look
    AnyModelAdmin = admin.ModelAdmin[Any]
else:
    from unfold.admin import ModelAdmin as AnyModelAdmin

TOLD_AT_ONCE = 20  # failures that are told one by one; more of them would bury the page

LONGEST_ID = 18  # digits that a bigint always holds


class Done(NamedTuple):
    """What is said of claims that an action was done to."""

    noted: str  # in the history of one; in English, whoever reads it
    told: Callable[[int], str]  # to the operator, of so many


RETRIED = Done(
    "The claim was issued after all.",
    lambda number: (
        ngettext("%(number)s claim issued after all.", "%(number)s claims issued after all.", number)
        % {"number": number}
    ),
)
ABANDONED = Done(
    "The claim was abandoned.",
    lambda number: ngettext("%(number)s claim abandoned.", "%(number)s claims abandoned.", number) % {"number": number},
)


CONFIRMED = Done(
    "The hold was confirmed.",
    lambda number: ngettext("%(number)s claim confirmed.", "%(number)s claims confirmed.", number) % {"number": number},
)
CANCELLED = Done(
    "The hold was cancelled.",
    lambda number: ngettext("%(number)s claim cancelled.", "%(number)s claims cancelled.", number) % {"number": number},
)


def tell(page: "admin.ModelAdmin[Any]", request: HttpRequest, failures: Sequence[str]) -> None:
    """Tell the operator what could not be done."""
    for failure in failures[:TOLD_AT_ONCE]:
        page.message_user(request, failure, messages.ERROR)
    if len(failures) > TOLD_AT_ONCE:
        more = gettext("%(number)s more failed like these.") % {"number": len(failures) - TOLD_AT_ONCE}
        page.message_user(request, more, messages.ERROR)


class ReadOnlyAdmin(AnyModelAdmin):
    """Rows that services write and people only read."""

    list_per_page = 50
    show_full_result_count = False  # it would count the whole table for one line of text

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: a row here stands for something that happened."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Nobody."""
        return False


@admin.register(Coupon)
class CouponAdmin(ReadOnlyAdmin):
    """Coupons. They are found by their code or their user's number. Held ones can be confirmed, or cancelled."""

    list_display = ("name", "event", "user", "ordinal", "claim", "status", "held_until", "claimed_at", "issued_at")
    list_select_related = ("event", "user")
    list_filter = ("status", "event")
    search_fields = ("code", "user_id")
    search_help_text = _("A whole code or a user id")
    actions = ("confirm", "cancel")

    @admin.display(description=_("Code"), ordering="code")
    def name(self, coupon: Coupon) -> str:
        """The code, once it may be told."""
        return coupon.code if coupon.status == Coupon.Status.ISSUED else "—"

    def get_exclude(self, request: HttpRequest, obj: Coupon | None = None) -> tuple[str, ...]:
        """The code of what is held only."""
        return () if obj is None or obj.status == Coupon.Status.ISSUED else ("code",)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whoever may confirm by the API may do so here."""
        return request.user.has_perm("coupons.confirm_claim")

    @admin.action(description=_("Confirm what is held"), permissions=["operate"])
    def confirm(self, request: HttpRequest, queryset: "QuerySet[Coupon]") -> None:
        """Issue the claims of the selected coupons."""
        self._each(request, queryset, holds.confirm, CONFIRMED)

    @admin.action(description=_("Cancel what is held"), permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: "QuerySet[Coupon]") -> None:
        """Put the units of the selected claims on sale again."""
        self._each(request, queryset, holds.cancel, CANCELLED)

    def _each(
        self, request: HttpRequest, queryset: "QuerySet[Coupon]", service: Callable[..., object], done: Done
    ) -> None:
        """Claim by claim, however many of its units are selected."""
        claims = {coupon.claim_id: coupon for coupon in queryset.order_by("-id")}
        failures = []
        for claim_id, coupon in claims.items():
            try:
                service(event_id=coupon.event_id, claim_id=str(claim_id))
            except Refusal as refusal:
                failures.append(f"{claim_id}: {gettext(refusal.detail)}")
            except (DatabaseError, RedisError) as error:
                why = gettext("still refused (%(error)s).") % {"error": type(error.__cause__ or error).__name__}
                failures.append(f"{claim_id}: {why}")
            else:
                self.log_change(request, coupon, done.noted)
        if len(claims) > len(failures):
            self.message_user(request, done.told(len(claims) - len(failures)))
        tell(self, request, failures)

    @admin.display(description=_("Claim"))
    def claim(self, coupon: Coupon) -> str:
        """The claim it was issued for."""
        return str(coupon.claim_id)

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Coupon]", search_term: str
    ) -> tuple["QuerySet[Coupon]", bool]:
        """By index, for the table is long: Django's own search would read all of it. A code may be typed carelessly."""
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = Q(code=_written_out(term))
        if term.isascii() and term.isdecimal() and len(term) <= LONGEST_ID:
            wanted |= Q(user_id=int(term))
        return queryset.filter(wanted), False


@admin.register(FailedClaim)
class FailedClaimAdmin(ReadOnlyAdmin):
    """Claims that were not issued at the first try. A rejected one can be retried, or abandoned."""

    list_display = ("claim", "event", "user_id", "status", "reason", "error", "attempts", "created_at")
    list_select_related = ("event",)
    list_filter = ("status", "reason", "event")
    search_fields = ("user_id__exact", "sequence__exact")
    search_help_text = _("A user id or a sequence number")
    actions = ("retry", "abandon")

    @admin.display(description=_("Claim"))
    def claim(self, failed: FailedClaim) -> str:
        """The claim that failed."""
        return str(failed.claim_id)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whoever may change failed claims may retry and abandon them; nobody may write their fields."""
        return request.user.has_perm("coupons.change_failedclaim")

    @admin.action(description=_("Retry"), permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: "QuerySet[FailedClaim]") -> None:
        """Issue the selected claims after all."""
        self._each(request, queryset, services.retry_failed_claim, RETRIED)

    @admin.action(description=_("Abandon"), permissions=["operate"])
    def abandon(self, request: HttpRequest, queryset: "QuerySet[FailedClaim]") -> None:
        """Give the selected claims up."""
        self._each(request, queryset, services.abandon_failed_claim, ABANDONED)

    def _each(
        self,
        request: HttpRequest,
        queryset: "QuerySet[FailedClaim]",
        service: Callable[..., FailedClaim],
        done: Done,
    ) -> None:
        """One at a time, the oldest first: what one meets does not hold up the next."""
        failures = []
        succeeded = 0
        for failed in queryset.order_by("created_at", "id"):
            try:
                service(failed_id=failed.pk)
            except Refusal as refusal:
                failures.append(f"{failed.claim_id}: {gettext(refusal.detail)}")
            except NothingLeft:
                why = gettext("all coupons of the sale are issued. Raise its quantity first.")
                failures.append(f"{failed.claim_id}: {why}")
            except (DatabaseError, RedisError) as error:
                why = gettext("still refused (%(error)s).") % {"error": type(error.__cause__ or error).__name__}
                failures.append(f"{failed.claim_id}: {why}")
            else:
                succeeded += 1
                self.log_change(request, failed, done.noted)
        if succeeded:
            self.message_user(request, done.told(succeeded))
        tell(self, request, failures)


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyAdmin):
    """Drift between Redis and the database."""

    list_display = ("kind", "event", "expected", "found", "what_came_of_it", "seen_at", "mended_at", "gone_at")
    list_select_related = ("event",)
    list_filter = ("kind", "event")

    @admin.display(description=_("What came of it"))
    def what_came_of_it(self, row: Reconciliation) -> str:
        """The numbers of the record: after a load the units in stock, the epoch, the claims that were lost."""
        numbers = {name: value for name, value in row.detail.items() if isinstance(value, int)}
        return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in numbers.items())


def _written_out(text: str) -> str:
    """A code as it is stored, from what a person typed: any case, with or without the dashes."""
    signs = "".join(sign for sign in text.upper() if sign.isalnum())
    return "-".join(signs[at : at + GROUP_LENGTH] for at in range(0, len(signs), GROUP_LENGTH))
