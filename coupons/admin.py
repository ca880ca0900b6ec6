"""The admin of what claims became: coupons and drift to look at, failed claims to retry or abandon."""
# ruff: noqa: ARG002 - the signatures are Django's

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib import admin, messages
from django.db import Error as DatabaseError
from django.db import models
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from redis.exceptions import RedisError

from coupons import services
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
    """Coupons. They are found by their code or their user's number."""

    list_display = ("code", "event", "user", "ordinal", "claim", "claimed_at", "issued_at")
    list_select_related = ("event", "user")
    list_filter = ("event",)
    search_fields = ("code", "user_id")
    search_help_text = _("A whole code or a user id")

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
        for failure in failures[:TOLD_AT_ONCE]:
            self.message_user(request, failure, messages.ERROR)
        if len(failures) > TOLD_AT_ONCE:
            more = gettext("%(number)s more failed like these.") % {"number": len(failures) - TOLD_AT_ONCE}
            self.message_user(request, more, messages.ERROR)


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
