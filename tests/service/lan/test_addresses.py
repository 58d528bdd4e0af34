"""Addresses of this machine: as netlink tells them, which are of use, and which comes first."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys

import pytest

from service.lan import addresses
from service.lan.addresses import lan_addresses, parse_addresses


def attribute(kind: int, value: bytes) -> bytes:
    data = struct.pack("=HH", 4 + len(value), kind) + value
    return data + bytes(-len(data) % 4)


def message(address: str, *, flags: int = 0x80, kind: int = 20, peer: str | None = None) -> bytes:
    """RTM_NEWADDR as Linux writes it: the address, a label of a length that needs padding, all flags."""
    packed = ipaddress.ip_address(address).packed
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    body = struct.pack("=BBBBI", family, 24, flags & 0xFF, 0, 2)
    if family == socket.AF_INET:
        body += attribute(1, ipaddress.ip_address(peer or address).packed) + attribute(2, packed)
    else:
        body += attribute(1, packed)
    body += attribute(3, b"wlan0\0") + attribute(8, struct.pack("=I", flags))
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


DONE = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A function that says which addresses the machine has, and what it would send from."""

    def having(*found: str, sources: tuple[str, ...] = ()) -> list[str]:
        monkeypatch.setattr(addresses, "_all", lambda: map(ipaddress.ip_address, found))
        by_version = {ipaddress.ip_address(one).version: ipaddress.ip_address(one) for one in sources}
        monkeypatch.setattr(addresses, "_source", lambda family: by_version.get(4 if family == socket.AF_INET else 6))
        return [str(address) for address in lan_addresses()]

    return having


def test_netlinks_answer_in_parts() -> None:
    found, done = parse_addresses(message("192.168.1.5") + message("fd00::5"))
    assert [str(address) for address in found] == ["192.168.1.5", "fd00::5"]
    assert not done
    assert parse_addresses(message("10.0.0.1") + DONE) == ([ipaddress.ip_address("10.0.0.1")], True)


def test_of_a_line_between_two_points_our_end_counts() -> None:
    assert parse_addresses(message("10.8.0.2", peer="10.8.0.1"))[0] == [ipaddress.ip_address("10.8.0.2")]


@pytest.mark.parametrize("flags", [0x01, 0x08, 0x20, 0x40, 0x300 | 0x01])
def test_ipv6_addresses_that_will_not_stay_are_left_out(flags: int) -> None:
    assert parse_addresses(message("2001:db8::9", flags=flags)) == ([], False)


def test_a_second_ipv4_address_is_not_a_temporary_one() -> None:
    assert parse_addresses(message("192.168.1.6", flags=0x81))[0] == [ipaddress.ip_address("192.168.1.6")]


def test_other_messages_and_what_is_cut_off_are_passed_over() -> None:
    assert parse_addresses(message("10.0.0.9", kind=21) + message("10.0.0.1"))[0] == [ipaddress.ip_address("10.0.0.1")]
    assert parse_addresses(struct.pack("=IHHII", 0, 0, 0, 0, 0)) == ([], True), "no endless loop"
    with pytest.raises(OSError, match="does not tell"):
        parse_addresses(struct.pack("=IHHII", 36, 2, 0, 1, 0) + bytes(20))


def test_the_line_that_leads_out_comes_first(machine) -> None:
    found = machine("172.17.0.1", "fd00::5", "192.168.1.5", "169.254.7.7", sources=("192.168.1.5", "fd00::5"))
    assert found == ["192.168.1.5", "fd00::5", "172.17.0.1", "169.254.7.7"]


def test_what_cannot_stand_in_a_url_of_another_machine_is_left_out(machine) -> None:
    assert machine("127.0.0.1", "127.0.1.1", "::1", "fe80::1", "0.0.0.0", "10.0.0.1", "10.0.0.1") == ["10.0.0.1"]


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
def test_this_machine_tells_its_loopback_address() -> None:
    assert ipaddress.ip_address("127.0.0.1") in addresses._of_netlink()
    assert not any(address.is_loopback for address in lan_addresses())


def test_elsewhere_the_machines_own_name_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses.sys, "platform", "darwin")
    entries = [(0, 0, 0, "", ("192.168.1.5", 0)), (0, 0, 0, "", ("fe80::1%en0", 0, 0, 4))]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *asked: entries)
    monkeypatch.setattr(addresses, "_source", lambda family: None)
    assert [str(address) for address in lan_addresses()] == ["192.168.1.5"]
