"""The language of the pages: by choice, else by the browser; and of the cacheable page by its address."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client, override_settings
from django.utils import timezone

from events.models import Event
from tests.factories import make_user
from tests.outages import no_database

pytestmark = pytest.mark.django_db(transaction=True)

Sale = Callable[..., Event]
KOREAN, ENGLISH = "로그인", "Sign in"


def language_of(response: Any) -> str:
    """The language of a page, which it must say in its head as well as in its HTML."""
    language: str = response["Content-Language"]
    assert f'<html lang="{language}">' in response.content.decode()
    return language


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("en-GB", "en"),
        ("fr,en;q=0.5,ko;q=0.4", "en"),
        ("de", "ko"),
        ("", "ko"),
        ("; drop=1,,q=", "ko"),
    ],
)
def test_the_browser_s_language_is_spoken_and_korean_where_it_names_none_of_ours(asked: str, language: str) -> None:
    with override_settings(DEFAULT_LANGUAGE="ko"):
        page = Client().get("/accounts/login", headers={"Accept-Language": asked})
    assert language_of(page) == language
    assert (KOREAN if language == "ko" else ENGLISH) in page.content.decode()
    assert {"Accept-Language", "Cookie"} <= set(page["Vary"].split(", "))


def test_a_choice_stays_and_goes_before_the_browser_s_language(client: Client) -> None:
    page = client.get("/accounts/login?next=/coupons").content.decode()
    assert '<button class="link" type="submit" name="language" value="ko" lang="ko">한국어</button>' in page
    assert 'name="next" value="/accounts/login?next=/coupons"' in page
    answer = client.post("/language", {"language": "ko", "next": "/accounts/login?next=/coupons"})
    assert (answer.status_code, answer["Location"]) == (302, "/accounts/login?next=/coupons")
    assert client.cookies["django_language"]["samesite"] == "Lax"
    assert language_of(client.get(answer["Location"], headers={"Accept-Language": "en"})) == "ko"


def test_choosing_a_language_leads_to_our_own_pages_only(client: Client) -> None:
    for address in ("https://evil.example/", "//evil.example/"):
        assert client.post("/language", {"language": "ko", "next": address})["Location"] == "/"


def test_the_page_of_a_sale_can_be_kept_in_each_language(sale: Sale) -> None:
    path = f"/events/{sale().slug}"
    for language, words in (("en", "Open now"), ("ko", "진행 중")):
        browser = Client(headers={"Accept-Language": language})
        other = Client(headers={"Accept-Language": {"en": "ko", "ko": "en"}[language]})
        other.cookies["django_language"] = "ko"
        by_browser, by_address = browser.get(path), other.get(f"{path}?lang={language}")
        for page in (by_browser, by_address):
            assert language_of(page) == language
            assert words in page.content.decode()
            assert page["Cache-Control"] == "public, max-age=5"
        assert by_browser["Vary"] == "Accept-Language"
        assert "Vary" not in by_address, "whoever asks for it, it is the same"
    assert language_of(Client().get(f"{path}?lang=xx")) == "en"


def test_the_page_of_a_sale_offers_itself_in_the_other_language(sale: Sale, client: Client) -> None:
    path = f"/events/{sale().slug}"
    page = client.get(path).content.decode()
    assert f'name="next" value="{path}?lang=ko"' in page
    answer = Client(enforce_csrf_checks=True).post("/language", {"language": "ko", "next": f"{path}?lang=ko"})
    assert answer["Location"] == f"{path}?lang=ko", "the page is everyone's: its form bears no token"


def test_links_to_a_sale_bear_the_language(sale: Sale, client: Client) -> None:
    event = sale()
    client.cookies["django_language"] = "ko"
    assert f'href="/events/{event.slug}?lang=ko"' in client.get("/").content.decode()


def test_a_refusal_and_an_error_speak_the_language_too(sale: Sale) -> None:
    event = sale(opens_at=timezone.now() + timedelta(hours=1), closes_at=timezone.now() + timedelta(hours=2))
    browser = Client(headers={"Accept-Language": "ko"})
    browser.force_login(make_user())
    assert "아직 시작 전입니다" in browser.get(f"/events/{event.slug}/claim").content.decode()
    for address in ("/no/such/page", "/events/none"):
        assert language_of(browser.get(address)) == "ko"
    with no_database():
        assert "다시 시도해 주세요" in browser.get("/").content.decode()


def test_the_api_speaks_english_whatever_the_browser_asks_for(sale: Sale) -> None:
    browser = Client(headers={"Accept-Language": "ko"})
    answer = browser.post("/api/v1/auth/token", {"username": ""}, content_type="application/json")
    assert answer.json()["errors"]["username"] == ["This field may not be blank."]
    assert "Accept-Language" not in answer.get("Vary", "")


def test_moments_are_written_for_the_server_s_zone_and_for_programs(sale: Sale, client: Client) -> None:
    event = sale()
    page = client.get(f"/events/{event.slug}?lang=ko").content.decode()
    local = timezone.localtime(event.closes_at)
    written = f"{local:%Y}년 {local.month}월 {local.day}일 {local:%H:%M} KST"
    assert f'<time datetime="{local.isoformat(timespec="seconds")}" data-to="minute">{written}</time>' in page
    assert local.isoformat().endswith("+09:00")
