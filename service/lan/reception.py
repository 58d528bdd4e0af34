"""What a server over TLS has to see to while it runs: addresses and certificates that change, codes that are taken."""

from __future__ import annotations

import ipaddress
import logging
import sys
import time

from service.http_guard import Gate
from service.lan.addresses import lan_addresses
from service.lan.announce import invitation, page_url
from service.lan.certificate import CertificateError, Identity, kept_identity, own_identity, server_context
from service.lan.joins import Joins, lan_folder
from service.settings import EVERYWHERE, Settings

log = logging.getLogger("afterimage.lan")

LOOK_S = 10.0
"""How often addresses and certificates are looked at."""


def find_identity(settings: Settings) -> Identity:
    """The certificate that is right now: the settings', or ours for the addresses of now. Raises CertificateError."""
    if settings.tls_certificate is not None and settings.tls_key is not None:
        return own_identity(settings.tls_certificate, settings.tls_key)
    return kept_identity(lan_folder(settings), _addresses(settings))


def find_pages(settings: Settings, identity: Identity, port: int) -> tuple[str, ...]:
    """Where the page is, the best address first: names of somebody's own certificate come before addresses."""
    hosts: list[object] = [*identity.names, *_addresses(settings)]
    if settings.host not in EVERYWHERE:
        hosts = [*identity.names, settings.host.strip("[]")]
    return tuple(dict.fromkeys(page_url(host, port) for host in hosts or ["127.0.0.1"]))


def _addresses(settings: Settings) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
    """What a certificate must name and the page can be reached at."""
    if settings.host in EVERYWHERE:
        return lan_addresses()
    try:
        return (ipaddress.ip_address(settings.host.strip("[]")),)
    except ValueError:  # a name
        return lan_addresses()


class Reception:
    """Keeps the certificate right, and shows a new code where there is none.

    context : for connections. gate : counts those whose handshake is not done
    port : that the server listens on. quiet : no code is ever shown
    Raises CertificateError.
    """

    def __init__(self, settings: Settings, port: int, *, quiet: bool = False) -> None:
        self._settings, self._port, self._quiet = settings, port, quiet
        self._identity = find_identity(settings)
        self.context = server_context(self._identity)
        self.gate = Gate(settings)
        self.pages = find_pages(settings, self._identity, port)
        self._looked = time.monotonic()
        self._moved = False

    @property
    def due(self) -> bool:
        """Whether it is time to `look` again."""
        return time.monotonic() - self._looked >= LOOK_S

    def look(self) -> None:
        """Take certificate and addresses as they are now. Not for the event loop."""
        self._looked = time.monotonic()
        try:
            identity = find_identity(self._settings)
            if identity.fingerprint != self._identity.fingerprint:
                server_context(identity)  # one that does not fit would leave the live one without a key
                identity.load_into(self.context)
                self._identity = identity
                log.info("the certificate is another one now: %s", identity.fingerprint)
        except CertificateError as error:
            log.error("the certificate of before is kept: %s", error)
        pages = find_pages(self._settings, self._identity, self._port)
        if pages != self.pages:
            log.info("the page is now at %s", ", ".join(pages))
            self._moved = self._moved or pages[0] != self.pages[0]
            self.pages = pages

    def greet(self, joins: Joins) -> None:
        """Print an invitation with a new code where the last one was taken or is for an address that is gone.

        One that has expired is followed by another on a terminal alone: a file of logs would fill with them.
        """
        terminal = sys.stderr.isatty()
        if self._quiet or not (joins.taken or self._moved or (terminal and not joins.open)):
            return
        self._moved = False
        code, valid_s = joins.new_code(), self._settings.join_code_s
        text = invitation(self.pages, code, valid_s, self._identity.fingerprint, coloured=terminal)
        print(text, file=sys.stderr, flush=True)  # never through the log
