"""The certificate of our own making, and somebody's own."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from service.lan import certificate
from service.lan.certificate import FILE, CertificateError, fits, kept_identity, make, own_identity, server_context

HOME = (ipaddress.ip_address("192.168.1.5"), ipaddress.ip_address("fd00::5"))
NOW = datetime(2030, 6, 1, tzinfo=UTC)


def client_sees(identity, name: str) -> None:
    """Shake hands as a client that trusts the certificate; ssl.SSLError if it is not good for the name."""
    trusting = ssl.create_default_context(cafile=identity.certificate)
    incoming, outgoing = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    server = server_context(identity).wrap_bio(incoming[0], incoming[1], server_side=True)
    client = trusting.wrap_bio(outgoing[0], outgoing[1], server_hostname=name)
    for _ in range(4):
        for end in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            incoming[0].write(outgoing[1].read())
            outgoing[0].write(incoming[1].read())
    assert client.version() in ("TLSv1.2", "TLSv1.3")
    assert client.getpeercert()


@pytest.mark.parametrize("name", ["192.168.1.5", "fd00::5", "127.0.0.1", "::1", "localhost"])
def test_a_client_that_trusts_it_takes_it_for_every_address(tmp_path: Path, name: str) -> None:
    client_sees(kept_identity(tmp_path, HOME), name)


def test_another_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        client_sees(kept_identity(tmp_path, HOME), "192.168.1.6")


def test_what_phones_ask_of_a_certificate() -> None:
    _, made = make(HOME, NOW)
    assert made.not_valid_after_utc - made.not_valid_before_utc <= timedelta(days=825)
    assert made.not_valid_before_utc < NOW, "clocks of phones may be behind"
    assert made.public_key().curve.name == "secp256r1"
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert (
        x509.oid.ExtendedKeyUsageOID.SERVER_AUTH in made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    )
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("host", "named"),
    [("Yard", ["yard", "yard.local"]), ("yard.example", ["yard.example"]), ("büro", []), ("a b", []), ("", [])],
)
def test_the_hosts_name_is_in_it_where_it_can_be(monkeypatch: pytest.MonkeyPatch, host: str, named: list[str]) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    names = make((), NOW)[1].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", *named]


def test_it_is_kept_for_its_owner_alone_and_used_again(tmp_path: Path) -> None:
    first = kept_identity(tmp_path, HOME)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert kept_identity(tmp_path, HOME[:1]).fingerprint == first.fingerprint
    assert len(first.fingerprint) == 95
    assert kept_identity(tmp_path, (ipaddress.ip_address("10.0.0.9"),)).fingerprint != first.fingerprint


def test_it_is_made_anew_before_its_time_is_over() -> None:
    _, made = make(HOME, NOW)
    assert fits(made, HOME, NOW)
    assert not fits(made, HOME, NOW - timedelta(days=2))
    assert fits(made, HOME, made.not_valid_after_utc - certificate.RENEW - timedelta(seconds=1))
    assert not fits(made, HOME, made.not_valid_after_utc - certificate.RENEW)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_key_that_others_could_read_is_used_no_more(tmp_path: Path) -> None:
    first = kept_identity(tmp_path, HOME)
    (tmp_path / FILE).chmod(0o640)
    assert kept_identity(tmp_path, HOME).fingerprint != first.fingerprint
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_file_that_is_no_certificate_is_replaced(tmp_path: Path) -> None:
    for content in (b"", b"text", make(HOME, NOW)[1].public_bytes(serialization.Encoding.PEM)):
        (tmp_path / FILE).write_bytes(content)
        (tmp_path / FILE).chmod(0o600)
        client_sees(kept_identity(tmp_path, HOME), "localhost")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CertificateError, match="cannot be kept"):
        kept_identity(tmp_path / "file", HOME)


def test_somebodys_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "_own_names", lambda: ["cam.example", "*.cam.example"])
    pem, made = make((), datetime.now(UTC))
    parts = pem.partition(b"-----BEGIN PRIVATE KEY")
    (tmp_path / "chain.pem").write_bytes(parts[0])
    (tmp_path / "key.pem").write_bytes(parts[1] + parts[2])
    own = own_identity(tmp_path / "chain.pem", tmp_path / "key.pem")
    assert own.names == ("cam.example",)
    assert own.fingerprint == certificate.fingerprint_of(made)
    client_sees(own, "cam.example")


def test_somebodys_own_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"chain\.pem: expected a certificate in PEM"):
        own_identity(tmp_path / "chain.pem", tmp_path / "key.pem")
    pem, _ = make((), NOW)
    other, _ = make((), NOW)
    (tmp_path / "chain.pem").write_bytes(pem)
    locked = serialization.load_pem_private_key(other, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    for key in (other, locked):
        (tmp_path / "key.pem").write_bytes(key)
        with pytest.raises(CertificateError, match=r"key\.pem"):
            server_context(own_identity(tmp_path / "chain.pem", tmp_path / "key.pem"))
