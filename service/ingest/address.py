"""Addresses of cameras: which there are, and how one is told without the password in it. Knows no sockets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

MAX_CHARACTERS = 2048

PROTOCOLS = MappingProxyType({
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsps,rtsp,rtp,tls,tcp",
    "http": "http,tcp",
    "https": "https,tls,tcp",
    "file": "file",
})  # fmt: skip
"""By scheme: what FFmpeg may open for it, so that no playlist or redirection leads to files or elsewhere."""

_NETWORK = re.compile(r"(rtsps?|https?)://", re.IGNORECASE)
_USER = re.compile(r"://[^\s'\"]*@")
_QUERY = re.compile(r"(://[^\s'\"?#]*)[?#][^\s'\"]*")


class AddressError(ValueError):
    """Not the address of a camera; the message holds no password."""


@dataclass(frozen=True)
class Address:
    """A camera's address. `url` has the password, `name` has not and is for people."""

    url: str = field(repr=False)
    scheme: str
    name: str

    @property
    def live(self) -> bool:
        """Whether pictures come when the camera makes them; a file's come as fast as they are read."""
        return self.scheme != "file"


def is_address(text: str) -> bool:
    """Whether a text is meant as the address of a camera on the network."""
    return _NETWORK.match(text) is not None


def parse(text: str) -> Address:
    """The address that a text is. Raises AddressError."""
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in PROTOCOLS or not rest:
        raise AddressError("expected an address such as rtsp://user:password@camera/path")
    if len(text) > MAX_CHARACTERS or not text.isprintable() or " " in text:
        raise AddressError(f"expected an address of at most {MAX_CHARACTERS} printed characters without spaces")
    if scheme == "file":
        if not rest.startswith("/"):
            raise AddressError("expected a file's address with its whole path, such as file:///clips/door.mp4")
        return Address(rest, scheme, text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressError("expected an address with a host and a port that exist") from None
    if not host:
        raise AddressError("expected an address with a host")
    shown = f"[{host}]" if ":" in host else host
    place = f"{scheme}://{shown}" + ("" if port is None else f":{port}")
    # Some cameras take user and password in the path: /user=admin_password=...
    path = "/..." if "=" in parts.path or "@" in parts.path else parts.path
    return Address(f"{scheme}{text[len(scheme) :]}", scheme, f"{place}{path}")


def redact(text: str) -> str:
    """A text without users, passwords and queries of the addresses in it."""
    return _QUERY.sub(r"\1", _USER.sub("://***@", text))
