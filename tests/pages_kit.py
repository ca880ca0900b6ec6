"""What tests of the pages share: what a page says, and what is pressed on it."""

import re
from typing import Any

from django.test import Client

from events.models import Event


def text_of(response: Any) -> str:
    """The words of a page, without what is hidden."""
    page = re.sub(r"<(\w+)[^>]*\shidden\b[^>]*>.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def press(client: Client, event: Event) -> Any:
    """Follow the link on the page of the sale, and press the button of the form that is there."""
    link = f"/events/{event.slug}/claim"
    assert f'href="{link}"' in client.get(f"/events/{event.slug}").content.decode()
    key = re.search(r'name="key" value="([^"]+)"', client.get(link).content.decode())
    assert key, "the page has no form to claim with"
    return claim(client, event, key.group(1))


def claim(client: Client, event: Event, key: str = "some key") -> Any:
    return client.post(f"/events/{event.slug}/claim", {"key": key})


def part_of(client: Client, event: Event) -> dict[str, Any]:
    """What the script of the page is told of the visitor."""
    answer = client.get(f"/events/{event.slug}/me")
    assert answer.status_code == 200
    assert {"no-store", "private"} <= set(answer["Cache-Control"].split(", "))
    told: dict[str, Any] = answer.json()
    return told
