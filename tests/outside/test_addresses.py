"""Which addresses are the internet's, however they are written."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.outside.addresses import is_public, literal

ipv4 = st.ip_addresses(v=4)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::1.1.1.1"])
def test_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.1.2", "169.254.169.254",
        "168.63.129.16", "172.16.0.1", "192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::10.0.0.1", "64:ff9b::", "64:ff9b:1::a00:1", "64:ff9b:1:a00:0:100::", "::1.1.1.1",
        "2002:7f00:1::", "fe80::1", "fec0::1", "fc00::1",
        "fd00:ec2::254", "ff02::1",
    ],
)  # fmt: skip
def test_no_other_address_is_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@given(ipv4, st.sampled_from(["::ffff:0:0", "64:ff9b::", "2002::"]))
def test_an_ipv4_address_is_not_hidden_in_an_ipv6_one(inner: ipaddress.IPv4Address, prefix: str) -> None:
    shift = 80 if prefix == "2002::" else 0
    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner) << shift)
    assert not is_public(outer) or is_public(inner)


@given(ipv4)
def test_an_address_is_known_however_it_is_written(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for text in (str(address), str(number), hex(number), f"{number >> 24}.{number & 0xFFFFFF}"):
        assert literal(text) == address


def test_names_are_no_addresses() -> None:
    assert [literal(name) for name in ("example.com", "10.0.0.1.example.com", "ten", "")] == [None] * 4
