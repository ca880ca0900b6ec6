"""Which addresses anything is sent to that others have named."""

from typing import Any

import pytest

from notifications import outbound


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",  # noqa: S104
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "fc00::1",
        "fe80::1%lo",
        "ff02::1",
        "2002:7f00:1::",
        "2001:0:1::",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "fec0::1",
        "2001:db8::1",
    ],
)
def test_what_is_not_out_on_the_internet_is_refused(address: str, settings: Any) -> None:
    assert not outbound.is_allowed(address)
    settings.OUTBOUND_PRIVATE = True
    assert outbound.is_allowed(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "::ffff:8.8.8.8", "2606:4700::1111"])
def test_what_is_out_there_is_allowed(address: str) -> None:
    assert outbound.is_allowed(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https:///no-host",
        "https://user:secret@example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://example.com:port/",
        "https://[::1",
        "",
    ],
)
def test_a_url_that_nothing_is_ever_sent_to_is_refused_where_it_is_entered(url: str) -> None:
    with pytest.raises(outbound.NotAllowed) as refusal:
        outbound.check(url)
    assert "secret" not in str(refusal.value)


def test_a_url_of_a_name_is_taken() -> None:
    outbound.check("https://example.com:8443/hook?a=b")
