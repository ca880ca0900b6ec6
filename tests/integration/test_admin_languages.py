"""The admin in the operator's language."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import ModelAdmin, site
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import label_for_field
from django.test import Client
from django.urls import reverse
from django.utils.translation import override

from events.models import Event
from tests.factories import make_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operator() -> Client:
    client = Client(headers={"Accept-Language": "ko"})
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def test_the_page_of_a_sale_its_buttons_and_what_they_say_are_in_the_language(
    operator: Client, sale: Callable[..., Event]
) -> None:
    event = sale()
    page = operator.get(reverse("admin:events_event_change", args=[event.pk])).content.decode()
    for words in ("현재 상황", "종료…", "신청 로그", "대기실", "1인당 매수", "입장 순서", 'name="language"'):
        assert words in page
    pause = reverse("admin:events_event_operate", args=[event.pk, "pause"])
    assert "행사를 일시 중지했습니다." in operator.post(pause, follow=True).content.decode()
    assert "상태라 일시 중지할 수 없습니다" in operator.post(pause, follow=True).content.decode()
    close = reverse("admin:events_event_operate", args=[event.pk, "close"])
    assert "종료는 되돌릴 수 없습니다" in operator.post(close).content.decode()


def test_the_history_is_in_one_language_whoever_writes_it(operator: Client, sale: Callable[..., Event]) -> None:
    event = sale()
    operator.post(reverse("admin:events_event_operate", args=[event.pk, "pause"]))
    assert LogEntry.objects.latest("pk").get_change_message() == "The sale is paused."


@pytest.mark.parametrize(
    ("model", "words"), [("coupon", "쿠폰"), ("failedclaim", "실패한 신청"), ("reconciliation", "정합성 기록")]
)
def test_lists_are_in_the_language(operator: Client, model: str, words: str) -> None:
    assert words in operator.get(reverse(f"admin:coupons_{model}_changelist")).content.decode()


OURS = [
    (model.__name__, model_admin)
    for model, model_admin in site._registry.items()
    if model._meta.app_label in {"events", "coupons", "notifications"}
]
IN_ANY_LANGUAGE = {"url", "__str__"}


@pytest.mark.parametrize(("_name", "model_admin"), OURS, ids=[name for name, _ in OURS])
def test_the_columns_of_every_list_are_in_the_language(_name: str, model_admin: "ModelAdmin[Any]") -> None:
    with override("ko"):
        labels = {
            field: str(label_for_field(field, model_admin.model, model_admin))
            for field in map(str, model_admin.list_display)
            if field not in IN_ANY_LANGUAGE
        }
    assert {field: label for field, label in labels.items() if not re.search("[가-힣]", label)} == {}
