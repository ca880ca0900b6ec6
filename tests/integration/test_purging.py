"""What became of notifications is forgotten after a while: all that is too old, and nothing that is not."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from notifications import delivering, purging, tasks
from notifications.models import Delivery, Notification, Outbox
from notifications.services import Fact, notify
from tests.factories import make_users

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _kept(settings: Any) -> None:
    settings.DELIVERIES_KEPT = 30


def tell(number: int, age: timedelta, *, fan_out: bool = True) -> list[int]:
    """Tell so many users something, that long ago; the deliveries, or else the notifications."""
    key = str(Notification.objects.count())
    notify(Notification.Kind.ADMITTED, [Fact(user, f"{key}-{user}") for user in make_users(number)])
    written = list(Notification.objects.filter(key__startswith=f"admitted:{key}-").values_list("pk", flat=True))
    at = timezone.now() - age
    Notification.objects.filter(pk__in=written).update(created_at=at)
    if not fan_out:
        Outbox.objects.filter(notifications__overlap=written).update(created_at=at)
        return written
    delivering.fan_out()
    return list(Delivery.objects.filter(notification__in=written).values_list("pk", flat=True))


def left() -> set[int]:
    return set(Delivery.objects.values_list("pk", flat=True))


def test_what_is_older_goes_whatever_became_of_it_and_what_is_younger_stays() -> None:
    sent, dead, pending = tell(3, 31 * DAY)
    Delivery.objects.filter(pk=sent).update(status="sent")
    Delivery.objects.filter(pk=dead).update(status="dead")
    young = tell(2, 29 * DAY)
    tasks.purge()
    assert left() == set(young), pending
    assert Notification.objects.count() == 5, "they are their users'"
    assert purging.purge() == 0


def test_all_of_it_goes_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "BATCH", 4)
    tell(10, 31 * DAY)
    young = tell(3, DAY)
    largest: list[int] = []

    def heed(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        answer = execute(sql, params, many, context)
        if sql.startswith("DELETE"):
            largest.append(context["cursor"].rowcount)
        return answer

    with connection.execute_wrapper(heed):
        assert purging.purge() == 10
    assert (largest, left()) == ([4, 4, 2], set(young))


def test_what_was_sent_again_stays_and_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "BATCH", 2)
    again = tell(3, 40 * DAY)
    tell(3, 35 * DAY)
    delivering.replay(Delivery.objects.filter(pk__in=again))
    assert purging.purge() == 3
    assert left() == set(again)


def test_what_somebody_has_locked_is_waited_for_by_nobody() -> None:
    locked, _ = tell(2, 31 * DAY)
    with transaction.atomic():
        Delivery.objects.select_for_update().get(pk=locked)
        purged: list[int] = []

        def other() -> None:
            purged.append(purging.purge())
            connection.close()

        working = threading.Thread(target=other)
        working.start()
        working.join(10)
        assert purged == [1]
    assert purging.purge() == 1


def test_what_was_never_fanned_out_goes_as_well() -> None:
    tell(2, 31 * DAY, fan_out=False)
    young = tell(2, 29 * DAY, fan_out=False)
    assert purging.purge() == 1
    assert sorted(Outbox.objects.get().notifications) == sorted(young)
