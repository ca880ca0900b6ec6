"""How users want to be told, by the API."""

from typing import Any

import pytest

from notifications.models import Preferences
from tests.api_kit import Caller, problem_of
from tests.factories import make_user

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/api/v1/notifications/preferences"
KINDS = ("coupon_issued", "claim_rejected", "claim_held", "admitted", "sale_opens_soon")


def put(caller: Caller, body: Any) -> Any:
    return caller.client.put(PATH, body, content_type="application/json", headers=caller._headers({}))


def chosen(**changed: Any) -> dict[str, Any]:
    return {"language": "en", "kinds": {kind: {"email": False, "push": True} for kind in KINDS}} | changed


def test_who_chose_nothing_is_told_by_the_defaults(settings: Any) -> None:
    settings.DEFAULT_LANGUAGE = "ko"
    assert Caller(make_user()).get(PATH).json() == {
        "language": "ko",
        "kinds": {
            "coupon_issued": {"email": True, "push": False},
            "claim_rejected": {"email": True, "push": False},
            "claim_held": {"email": True, "push": False},
            "admitted": {"email": False, "push": True},
            "sale_opens_soon": {"email": True, "push": True},
        },
    }
    assert not Preferences.objects.exists(), "to look changes nothing"


def test_what_is_chosen_is_kept_and_is_the_caller_s_own() -> None:
    caller, other = Caller(make_user()), Caller(make_user())
    before = other.get(PATH).json()
    for body in (chosen(), chosen(language="ko")):
        assert put(caller, body).json() == body
        assert caller.get(PATH).json() == body
    assert other.get(PATH).json() == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (chosen(language="fr"), "language"),
        ({"language": "ko"}, "kinds"),
        (chosen(kinds={}), "kinds.admitted"),
        (chosen(kinds={kind: {"email": "yes", "push": True} for kind in KINDS}), "kinds.admitted.email"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_kept(body: Any, field: str) -> None:
    assert field in problem_of(put(Caller(make_user()), body), "invalid")["errors"]
    assert not Preferences.objects.exists()


def test_it_takes_a_user_who_is_there() -> None:
    problem_of(Caller().get(PATH), "unauthenticated")
    gone = make_user()
    caller = Caller(gone)
    gone.delete()
    problem_of(put(caller, chosen()), "unauthenticated")
