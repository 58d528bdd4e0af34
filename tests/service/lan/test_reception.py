"""What a server over TLS sees to while it runs."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from pathlib import Path

import pytest
from service_fakes import make_settings

from service.lan import reception as module
from service.lan.certificate import CertificateError, kept_identity
from service.lan.joins import open_joins
from service.lan.reception import Reception


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the machine has; change it to move the machine. Nothing listens in these tests."""
    found = ["192.168.1.5", "fd00::5"]
    monkeypatch.setattr(module, "lan_addresses", lambda: tuple(map(ipaddress.ip_address, found)))
    return found


def lan(folder: Path, **fields):
    return make_settings(**{"lan": True, "host": "0.0.0.0", "state_folder": folder, **fields})


def test_pages_are_at_the_machines_addresses(addresses: list[str], tmp_path: Path) -> None:
    assert Reception(lan(tmp_path), 8000).pages == ("https://192.168.1.5:8000/", "https://[fd00::5]:8000/")
    assert Reception(lan(tmp_path, host="::1"), 8000).pages == ("https://[::1]:8000/",)
    addresses.clear()
    assert Reception(lan(tmp_path), 8000).pages == ("https://127.0.0.1:8000/",), "there is no network"


def test_a_machine_that_moves_gets_another_certificate_and_code(
    addresses: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = lan(tmp_path)
    joins, desk = open_joins(settings), Reception(settings, 8000)
    desk.greet(joins)
    first = capsys.readouterr().err
    assert "https://192.168.1.5:8000/#join=" in first
    desk.greet(joins)
    desk.look()
    desk.greet(joins)
    assert capsys.readouterr().err == "", "the code is still good"
    addresses[:] = ["10.0.0.9"]
    desk.look()
    desk.greet(joins)
    second = capsys.readouterr().err
    assert "https://10.0.0.9:8000/#join=" in second
    shown = [text.splitlines()[-1].strip() for text in (first, second)]
    assert shown[0] != shown[1] == kept_identity(tmp_path, ()).fingerprint


def test_another_address_beside_the_first_voids_neither_code_nor_key(
    addresses: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = lan(tmp_path)
    joins, desk = open_joins(settings), Reception(settings, 8000)
    desk.greet(joins)
    capsys.readouterr()
    key = (tmp_path / "lan.pem").read_text().partition("-----BEGIN PRIVATE KEY")[2]
    before = desk._identity.fingerprint
    addresses.append("172.18.0.1")
    desk.look()
    desk.greet(joins)
    assert capsys.readouterr().err == ""
    assert desk._identity.fingerprint != before
    assert (tmp_path / "lan.pem").read_text().partition("-----BEGIN PRIVATE KEY")[2] == key
    assert "https://172.18.0.1:8000/" in desk.pages


def test_a_certificate_that_came_before_its_key_leaves_the_old_one_working(
    addresses: list[str], tmp_path: Path
) -> None:
    first, second = (kept_identity(tmp_path / name, ()) for name in ("first", "second"))
    head, mark, tail = first.certificate.read_text().partition("-----BEGIN PRIVATE KEY")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(head)
    key.write_text(mark + tail)
    desk = Reception(lan(tmp_path, tls_certificate=chain, tls_key=key), 8000)
    chain.write_text(second.certificate.read_text().partition("-----BEGIN PRIVATE KEY")[0])
    desk.look()
    near, far = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    server = desk.context.wrap_bio(*near, server_side=True)
    client = ssl.create_default_context(cafile=first.certificate).wrap_bio(*far, server_hostname="localhost")
    for _ in range(4):
        for end in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            near[0].write(far[1].read())
            far[0].write(near[1].read())
    assert client.getpeercert()


def test_a_code_that_was_taken_is_followed_by_another(
    addresses: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = lan(tmp_path)
    joins, desk = open_joins(settings), Reception(settings, 8000)
    desk.greet(joins)
    code = capsys.readouterr().err.partition("#join=")[2].split()[0]
    assert joins.admit(code) is not None
    desk.greet(joins)
    assert "#join=" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_one_that_has_expired_is_followed_by_another_on_terminals(
    addresses: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    settings = lan(tmp_path)
    joins, desk = open_joins(settings), Reception(settings, 8000)
    desk.greet(joins)
    capsys.readouterr()
    monkeypatch.setattr(joins, "_ends", 0.0)
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: terminal, raising=False)
    desk.greet(joins)
    assert ("#join=" in capsys.readouterr().err) is terminal


def test_between_lines_of_json_no_code_is_shown(
    addresses: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joins = open_joins(lan(tmp_path))
    Reception(lan(tmp_path), 8000, quiet=True).greet(joins)
    assert capsys.readouterr().err == ""
    assert joins.taken


def test_somebodys_own_certificate_gives_the_name_and_may_be_renewed(
    addresses: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.lan.certificate._own_names", lambda: ["cam.example"])
    own = kept_identity(tmp_path / "first", ())
    settings = lan(tmp_path, tls_certificate=own.certificate, tls_key=own.key)
    desk = Reception(settings, 8000)
    assert desk.pages[0] == "https://cam.example:8000/"
    own.certificate.write_bytes(kept_identity(tmp_path / "second", ()).certificate.read_bytes())
    desk.look()
    assert desk._identity.fingerprint == kept_identity(tmp_path / "second", ()).fingerprint
    own.certificate.write_text("half a file")
    desk.look()
    assert desk._identity.fingerprint == kept_identity(tmp_path / "second", ()).fingerprint, "the last good one"
    with pytest.raises(CertificateError):
        Reception(settings, 8000)


def test_it_looks_once_in_a_while(addresses: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Reception(lan(tmp_path), 8000)
    assert not desk.due
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    assert desk.due
