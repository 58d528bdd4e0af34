"""The server's certificate for its addresses: made here, kept for its owner alone, made anew when it no longer fits.

It is signed by its own key, and no authority is made: docs/decisions/0023-from-a-phone.md. Knows no server.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import ssl
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.lan.addresses import Address
from service.private_file import write_private

log = logging.getLogger("afterimage.lan")

FILE = "lan.pem"
VALID = timedelta(days=397)
"""Apple's devices refuse more than 825 days of certificates that people add, and 398 of others."""
RENEW = timedelta(days=30)
_EARLIER = timedelta(days=1)
"""Clocks of phones may be behind ours."""
_LOCAL = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))


class CertificateError(Exception):
    """A certificate cannot be used or kept; the message says which and why."""


@dataclass(frozen=True)
class Identity:
    """A certificate chain and its key, PEM files; may be one file.

    fingerprint : SHA-256 of the certificate, as browsers show it
    names : host names that a page is to be opened by; none for a certificate of ours
    """

    certificate: Path
    key: Path
    fingerprint: str
    names: tuple[str, ...] = ()

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have new connections of the context use it. Raises CertificateError."""
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise CertificateError(f"{self.certificate}, {self.key}: {error}") from error


def _no_password() -> str:
    raise ValueError("expected a key without a password")


def server_context(identity: Identity) -> ssl.SSLContext:
    """TLS 1.2 and newer, HTTP/1.1. Raises CertificateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    identity.load_into(context)
    return context


def own_identity(certificate: Path, key: Path) -> Identity:
    """Somebody's own files, as they are. Raises CertificateError."""
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateError(f"{certificate}: expected a certificate in PEM: {error}") from error
    names = tuple(name for name in _names(chain[0])[1] if "*" not in name)
    return Identity(certificate, key, fingerprint_of(chain[0]), names)


def kept_identity(folder: Path, addresses: Iterable[Address]) -> Identity:
    """The certificate kept in a folder where it fits these addresses and has time left; else a new one, kept there.

    Raises CertificateError where the folder cannot be written.
    """
    path, wanted = folder / FILE, tuple(addresses)
    now = datetime.now(UTC)
    known, key = _read(path) or (None, None)
    if known is None or not fits(known, wanted, now):
        if known is not None and known.not_valid_after_utc - RENEW <= now:
            key = None  # a key is renewed with its time; other addresses alone leave it
        pem, known = make(wanted, now, key)
        try:
            write_private(path, pem)
        except OSError as error:
            raise CertificateError(f"{path}: the certificate cannot be kept: {error.strerror}") from error
        log.info("made a certificate for %s", ", ".join(map(str, wanted)) or "loopback")
    return Identity(path, path, fingerprint_of(known))


def fits(certificate: x509.Certificate, addresses: Iterable[Address], now: datetime) -> bool:
    """Whether a certificate names all the addresses and this machine, and is valid for a while yet."""
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW:
        return False
    known, names = _names(certificate)
    return {*addresses, *_LOCAL} <= set(known) and set(_own_names()) <= set(names)


def _names(certificate: x509.Certificate) -> tuple[list[Address], list[str]]:
    """Addresses and host names that it is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return [], []
    addresses = [address for address in names.get_values_for_type(x509.IPAddress) if not hasattr(address, "netmask")]
    return addresses, names.get_values_for_type(x509.DNSName)


def make(
    addresses: Iterable[Address], now: datetime, key: ec.EllipticCurvePrivateKey | None = None
) -> tuple[bytes, x509.Certificate]:
    """A certificate for the addresses, loopback and our names, of a key or a new P-256 one: PEM of both; the former."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Afterimage on this network")])
    ips = [x509.IPAddress(address) for address in dict.fromkeys((*addresses, *_LOCAL))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now - _EARLIER + VALID)
        .add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, _own_names()), *ips]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + secret, certificate


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256, hexadecimal in capital letters with colons, as browsers show it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _usage() -> x509.KeyUsage:
    off = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"), False
    )  # fmt: skip
    return x509.KeyUsage(digital_signature=True, **off)


def _own_names() -> list[str]:
    """localhost, and the host's name as it is and as mDNS has it, where it can stand in a certificate."""
    host = socket.gethostname().lower().rstrip(".")
    fit = host.isascii() and host and all(part.replace("-", "").isalnum() for part in host.split("."))
    names = [host] if "." in host else [host, f"{host}.local"]
    return list(dict.fromkeys(["localhost", *(names if fit else [])]))


def _read(path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """Certificate and key of our file; None where there is none that goes with its key, or others could read it."""
    try:
        with path.open("rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                log.warning("%s: others could read the key, a new one is made", path)
                return None
            data = file.read(1 << 16)
        certificate = x509.load_pem_x509_certificate(data)
        key = serialization.load_pem_private_key(data, password=None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s: cannot be used, a new certificate is made: %s", path, type(error).__name__)
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return certificate, key
