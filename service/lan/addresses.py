"""Addresses of this machine at which others in its network can reach it. Knows sockets of the system, and no server.

Linux tells all of them over netlink; elsewhere those are found that the machine's own name stands for, and those that
it would send from. Nothing is sent over a network.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
_GETADDR, _NEWADDR, _DONE, _ERROR = 22, 20, 3, 2
_REQUEST_DUMP = 0x301
_HEADER, _IFADDR, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBI"), struct.Struct("=HH")
_ADDRESS, _LOCAL, _FLAGS = 1, 2, 8
_UNFIT = 0x01 | 0x08 | 0x20 | 0x40
"""Flags: temporary (another one tomorrow), twice in the network, deprecated, not known to be free yet."""
_RECEIVE_BYTES = 1 << 16
_FAR = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses of documentation, for which the machine chooses a route like for any other far one."""


def lan_addresses() -> tuple[Address, ...]:
    """Addresses that can stand in a URL, the one most likely to be reached first; none where there is no network.

    Left out are loopback, IPv6 link-local ones (browsers take no zone in a URL), and temporary ones of IPv6.
    """
    found = dict.fromkeys(address for address in _all() if _is_useful(address))
    sources = [source for source in map(_source, _FAR) if source is not None]
    return tuple(sorted(found, key=lambda address: _rank(address, sources)))


def parse_addresses(data: bytes) -> tuple[list[Address], bool]:
    """The addresses in a netlink answer to RTM_GETADDR, and whether it was the last part. Raises OSError for a refusal.

    data : one received datagram: whole messages, each padded to four bytes
    """
    found: list[Address] = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if kind == _DONE or length < _HEADER.size:
            return found, True
        if kind == _ERROR:
            raise OSError("the system does not tell its addresses")
        if kind == _NEWADDR:
            address = _address_of(data[at + _HEADER.size : at + length])
            if address is not None:
                found.append(address)
        at += _padded(length)
    return found, False


def _address_of(body: bytes) -> Address | None:
    """The address of one RTM_NEWADDR message; None if it is not to be used."""
    family, _, flags, _, _ = _IFADDR.unpack_from(body)
    values: dict[int, bytes] = {}
    at = _IFADDR.size
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        values[kind] = body[at + _ATTRIBUTE.size : at + length]
        at += _padded(length)
    if _FLAGS in values:
        (flags,) = struct.unpack("=I", values[_FLAGS])
    raw = values.get(_LOCAL, values.get(_ADDRESS))  # of a line between two points, _ADDRESS is the other end
    if raw is None or (family == socket.AF_INET6 and flags & _UNFIT):
        return None
    return ipaddress.ip_address(raw)


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _all() -> Iterator[Address]:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            yield from _of_netlink()
            return
    yield from _of_own_name()


def _of_netlink() -> list[Address]:
    found: list[Address] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        asking.settimeout(1.0)
        asking.send(_HEADER.pack(_HEADER.size + 4, _GETADDR, _REQUEST_DUMP, 1, 0) + bytes(4))
        done = False
        while not done:
            part, done = parse_addresses(asking.recv(_RECEIVE_BYTES))
            found += part
    return found


def _of_own_name() -> Iterator[Address]:
    with contextlib.suppress(OSError):
        for _, _, _, _, where in socket.getaddrinfo(socket.gethostname(), None):
            yield ipaddress.ip_address(str(where[0]).partition("%")[0])
    yield from (source for source in map(_source, _FAR) if source is not None)


def _source(family: socket.AddressFamily) -> Address | None:
    """What the machine would send from; a datagram socket that is connected sends nothing by that."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((_FAR[family], 9))
            return ipaddress.ip_address(str(asking.getsockname()[0]).partition("%")[0])
    except OSError:  # no route
        return None


def _is_useful(address: Address) -> bool:
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return False
    return address.version == 4 or not address.is_link_local


def _rank(address: Address, sources: list[Address]) -> tuple[bool, bool, bool, int]:
    """Phones share the line that leads out; bridges of containers are never that. 169.254: nobody gave one."""
    return address.is_link_local, address not in sources, address.version == 6, int(address)
