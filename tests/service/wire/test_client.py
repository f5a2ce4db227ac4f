"""Who asks: the address that is the client's own doing never names it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.settings import Settings
from service.wire.client import Clients

PROXY = ("10.0.0.1", 5000)
TRUSTING = Clients("10.0.0.0/8, fd00::1")


def forwarded(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value.encode()) for value in values]


def test_nobody_is_believed_unless_it_is_a_trusted_proxy() -> None:
    assert Clients(None).named(PROXY, forwarded("192.0.2.1")) == "10.0.0.1"
    assert TRUSTING.named(("192.0.2.7", 1), forwarded("192.0.2.1")) == "192.0.2.7"
    assert TRUSTING.named(PROXY, forwarded("192.0.2.1")) == "192.0.2.1"
    assert TRUSTING.named(("fd00::1", 1), forwarded("192.0.2.1")) == "192.0.2.1"
    assert TRUSTING.named(("::ffff:10.0.0.1", 1), forwarded("192.0.2.1")) == "192.0.2.1"
    assert TRUSTING.named(None, forwarded("192.0.2.1")) == ""


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (("192.0.2.1, 10.0.0.2",), "192.0.2.1"),
        (("198.51.100.1, 192.0.2.1, 10.0.0.2", "10.0.0.3"), "192.0.2.1"),
        (("192.0.2.1:4711",), "192.0.2.1"),
        (("[2001:db8:1:2:3::4]:4711",), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:3::4",), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.1",), "192.0.2.1"),
        (("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        (("192.0.2.1, unknown",), "10.0.0.1"),
        (("192.0.2.1, unknown, 10.0.0.2",), "10.0.0.2"),
        (("",), "10.0.0.1"),
        ((), "10.0.0.1"),
    ],
)
def test_the_nearest_untrusted_address_counts(values: tuple[str, ...], client: str) -> None:
    assert TRUSTING.named(PROXY, forwarded(*values)) == client


@given(st.lists(st.text(alphabet=st.characters(max_codepoint=255, exclude_characters="\r\n")), max_size=4))
def test_what_a_client_writes_itself_changes_nothing(invented: list[str]) -> None:
    headers = [(b"x-forwarded-for", each.encode("latin-1")) for each in invented]
    assert TRUSTING.named(PROXY, [*headers, *forwarded("192.0.2.1, 10.0.0.2")]) == "192.0.2.1"


def test_all_addresses_of_a_site_are_one_client() -> None:
    clients = Clients(None)
    names = {clients.named((f"2001:db8::{i:x}", 1), ()) for i in range(1, 100)}
    assert names == {"2001:db8::/64"}
    assert clients.named(("2001:db8:0:1::1", 1), ()) not in names
    assert clients.named(("::ffff:192.0.2.1", 1), ()) == clients.named(("192.0.2.1", 1), ())


def test_what_is_no_network_is_a_wrong_call() -> None:
    with pytest.raises(ValidationError, match="number 2 is no address"):
        Settings(trusted_proxies="10.0.0.1, proxy.example")
