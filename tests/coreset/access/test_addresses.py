"""Addresses that callers may send us to, and those that they may not."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreset.access.addresses import is_public, public_addresses, require_public
from coreset.errors import AddressForbidden, Unavailable

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are(address: str) -> None:
    assert is_public(address) or address.startswith("::ffff:")  # some Pythons count mapped ones as reserved


@given(st.ip_addresses(v=4).filter(lambda address: not address.is_global))
def test_an_ipv6_address_does_not_hide_an_ipv4_one(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for carrier in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert not is_public(str(ipaddress.IPv6Address(carrier)))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "::1"])
def test_names_and_odd_spellings_of_this_machine_are_resolved_first(host: str) -> None:
    with pytest.raises(AddressForbidden) as caught:
        public_addresses(host, 80)
    assert caught.value.data == {"host": host}


def test_one_private_address_among_public_ones_is_enough() -> None:
    require_public("example.org", ["8.8.8.8", "1.1.1.1"])
    with pytest.raises(AddressForbidden, match=r"example\.org"):
        require_public("example.org", ["8.8.8.8", "10.0.0.1"])


def test_a_name_that_nobody_knows_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"nowhere\.invalid"):
        public_addresses("nowhere.invalid", 80)
    with pytest.raises(Unavailable):
        public_addresses("a" * 64 + ".example", 80)  # no such label can be


def test_a_public_address_comes_back_to_connect_to() -> None:
    assert public_addresses("8.8.8.8", 443) == ["8.8.8.8"]
