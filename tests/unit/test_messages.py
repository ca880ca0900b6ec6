"""The texts in other languages: all of them, certain, and compiled."""

import gettext
from io import BytesIO

import pytest
from babel.messages.catalog import Catalog
from django.conf import settings

from config import messages


def test_each_language_has_a_catalogue_but_that_of_the_code() -> None:
    there = {path.parts[-3] for path, _ in messages.catalogs()}
    assert there == {code for code, _ in settings.LANGUAGES} - {"en"}


def test_every_text_is_translated_and_none_is_doubtful_or_left_over() -> None:
    texts = messages.collected()
    assert {"Claim a coupon", "All coupons of this sale are claimed."} <= {text.id for text in texts}
    for path, catalog in messages.catalogs():
        assert messages.missing(catalog, texts) == [], f"{path}: `make messages`, then translate what it names"


def test_what_is_compiled_is_what_is_written() -> None:
    for path, catalog in messages.catalogs():
        with path.with_suffix(".mo").open("rb") as file:
            committed = gettext.GNUTranslations(file)
        fresh = gettext.GNUTranslations(BytesIO(messages.compiled(catalog)))
        assert texts_in(committed) == texts_in(fresh), f"{path}: `make messages` compiles it"


def texts_in(translations: gettext.GNUTranslations) -> dict[object, str]:
    known: dict[object, str] = vars(translations)["_catalog"]
    return {key: text for key, text in known.items() if key}


@pytest.mark.parametrize(
    ("text", "translation", "fuzzy", "word"),
    [
        ("Gone from the code", "x", False, "nowhere in the code"),
        ("Here", "", False, "has no translation"),
        ("Here", "x", True, "fuzzy"),
        ("%(seconds)s s", "초", False, "placeholders"),
        ("Another", "x", False, "not in the catalogue"),
    ],
)
def test_what_is_wrong_with_a_catalogue_is_named(text: str, translation: str, fuzzy: bool, word: str) -> None:
    texts, catalog = Catalog(), Catalog(locale="ko")
    for one in ("Here", "%(seconds)s s"):
        texts.add(one)
    catalog.add(text, translation, flags=["fuzzy"] if fuzzy else ["python-format"] if "%" in text else [])
    assert any(word in line for line in messages.missing(catalog, texts))
