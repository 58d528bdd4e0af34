"""The connection to a real broker: what arrives, what a broker that was away is told, who is let in."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from broker import MOSQUITTO, PASSWD, PASSWORD, USER, Ear, broker, listening
from service_fakes import make_settings, wait_until

from service.app import create_app
from service.mqtt import link as links
from service.mqtt.link import PASSWORD_VARIABLE, Address, Link, MqttError, address_of

real = pytest.mark.skipif(MOSQUITTO is None or PASSWD is None, reason="mosquitto is not installed")
STATUS = "afterimage/status"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")
    monkeypatch.setattr(links, "BACK_OFF_S", (1, 1))


@contextmanager
def linked(port: int, password: str = PASSWORD, **fields: object) -> Iterator[Link]:
    address = Address("127.0.0.1", port, username=USER, password=password, **fields)  # type: ignore[arg-type]
    link = Link(address, STATUS)
    link.start()
    try:
        yield link
    finally:
        link.stop(2.0)


def hears(ear: Ear, topic: str, text: str) -> None:
    wait_until(lambda: ear.text(topic) == text)


@real
def test_messages_arrive_and_the_end_is_said(tmp_path: Path) -> None:
    with broker(tmp_path) as server, listening(server.port) as ear:
        with linked(server.port) as link:
            hears(ear, STATUS, "online")
            link.put("afterimage/door/state", b"{}", retain=True)
            link.put("afterimage/door/snapshot", b"jpeg")
            hears(ear, "afterimage/door/state", "{}")
            hears(ear, "afterimage/door/snapshot", "jpeg")
            wait_until(lambda: link.published == 3)
            with listening(server.port) as late:
                hears(late, "afterimage/door/state", "{}")
                assert "afterimage/door/snapshot" not in late.newest
                link.put("afterimage/door/state", b"", retain=True)
                hears(late, "afterimage/door/state", "")
        hears(ear, STATUS, "offline")
        with listening(server.port) as later:
            hears(later, STATUS, "offline")
            assert set(later.newest) == {STATUS}


@real
def test_a_broker_that_was_away_is_told_what_is_and_not_what_was(tmp_path: Path) -> None:
    with broker(tmp_path) as server, linked(server.port) as link:
        wait_until(lambda: link.connected)
        link.put("afterimage/door/state", b"old", retain=True)
        link.put("afterimage/yard/state", b"still", retain=True)
        wait_until(lambda: link.published == 3)
        server.kill()
        wait_until(lambda: not link.connected)
        for number in range(1000):
            link.put("afterimage/door/state", b"%d" % number, retain=True)
        assert link.replaced == 999
        server.start()
        with listening(server.port) as ear:
            hears(ear, "afterimage/door/state", "999")
            hears(ear, "afterimage/yard/state", "still")
            hears(ear, STATUS, "online")
            assert b"998" not in [payload for _, payload in ear.heard]


class Told:
    """What the library returns of a message."""

    def __init__(self, mid: int) -> None:
        self.mid = mid


class Accepted:
    """A connection's answer that is no refusal."""

    is_failure = False


@contextmanager
def handed_over(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Link, list[tuple[str, bytes]]]]:
    """A link whose library only writes down what it is given; the place in the list is the message's number."""
    link, given = Link(Address("127.0.0.1", 9), STATUS), []

    def publish(topic: str, payload: bytes, **fields: object) -> Told:
        given.append((topic, payload))
        return Told(len(given) - 1)

    monkeypatch.setattr(link._client, "publish", publish)
    link._pump.start()
    try:
        yield link, given
    finally:
        link.stop(0)
        link._pump.join(10)


def connect(link: Link) -> None:
    link._on_connect(None, None, None, Accepted(), None)


def test_no_message_overtakes_another_of_its_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way as a connection is lost, the library sends again after the next one is there."""
    with handed_over(monkeypatch) as (link, given):
        connect(link)
        link.put("door", b"old", retain=True)
        wait_until(lambda: len(given) == 2)
        link._on_disconnect(None, None, None, None, None)
        connect(link)
        link.put("door", b"new", retain=True)
        link.put("yard", b"other")
        wait_until(lambda: ("yard", b"other") in given)
        assert given[:3] == [(STATUS, b"online"), ("door", b"old"), ("yard", b"other")]
        link._on_publish(None, None, 1, None, None)
        wait_until(lambda: given[3:] == [("door", b"new")])
        wait_until(lambda: 3 in link._topic_of)
        assert not link._early


def test_a_message_may_be_acknowledged_before_its_number_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with handed_over(monkeypatch) as (link, given):
        link._on_publish(None, None, 0, None, None)
        connect(link)
        wait_until(lambda: given and not link._early and not link._under_way)
        assert not link._topic_of


def test_what_found_no_room_is_said_at_the_next_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_TOPICS", 3)
    with handed_over(monkeypatch) as (link, given):
        link.put("gone", b"config", retain=True)
        for topic in "a", "b":
            link.put(topic, b"picture")
        link.put("new", b"config", retain=True)
        assert link.dropped == 1
        link.put("gone", b"", retain=True)
        connect(link)
        wait_until(lambda: len(given) == 5)
        assert ("new", b"config") in given
        assert [payload for topic, payload in given if topic == "gone"] == [b""]


@real
def test_a_wrong_password_is_said_once_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "a secret that nobody may see"
    with broker(tmp_path) as server, linked(server.port, wrong) as link:
        wait_until(lambda: server.log.count("not authorised") >= 2)
        assert not link.connected
        link.put("afterimage/door/state", b"{}")
    refusals = [record for record in caplog.records if "the MQTT broker refuses: Not authorized" in record.getMessage()]
    assert len(refusals) == 1
    assert not any(wrong in record.getMessage() for record in caplog.records)
    assert wrong not in repr(link._address)
    assert link.published == 0


@real
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library leaves a socket behind
def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority, certificate, key = make_certificates(tmp_path)
    with broker(tmp_path, (certificate, key)) as server:
        with linked(server.port, tls=True, ca_file=authority), listening(server.port, authority) as ear:
            hears(ear, STATUS, "online")
        with linked(server.port, tls=True) as stranger:
            wait_until(lambda: "certificate" in server.log or "alert" in server.log)
            assert not stranger.connected
    del stranger
    gc.collect()


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """An authority's certificate, one of 127.0.0.1 signed by it, and that one's key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "broker")]
    now = datetime.datetime.now(datetime.UTC)
    certificates = []
    for index in (0, 1):
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[index])
            .issuer_name(names[0])
            .public_key(keys[index].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=index == 0, path_length=None), critical=True)
        )
        if index:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        certificates.append(builder.sign(keys[0], hashes.SHA256()))
    paths = folder / "authority.pem", folder / "broker.pem", folder / "broker.key"
    for path, certificate in zip(paths, certificates, strict=False):
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[2].write_bytes(keys[1].private_bytes(serialization.Encoding.PEM, pem, plain))
    return paths


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_TOPICS", 3)
    link = Link(Address("127.0.0.1", 1), STATUS)
    for number in range(10):
        link.put(f"topic/{number}", b"x", retain=True)
    link.put("topic/1", b"y")
    assert (link.dropped, link.replaced, link.published) == (7, 1, 0)
    assert len(link._pending) == 3
    assert len(link._retained) <= 3


def test_the_password_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the file\n")
    fields = {"mqtt_host": "broker.example", "mqtt_username": "camera"}
    monkeypatch.setenv(PASSWORD_VARIABLE, "of the environment")
    found = address_of(make_settings(**fields))
    assert found == Address("broker.example", 1883, username="camera", password="of the environment")
    found = address_of(make_settings(**fields, mqtt_password_file=secret, mqtt_tls=True))
    assert found is not None
    assert (found.password, found.port, found.tls) == ("of the file", 8883, True)
    assert "of the file" not in repr(found)
    assert address_of(make_settings()) is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mqtt_password_file": "missing"}, "missing cannot be read: No such file or directory"),
        ({"mqtt_password_file": "empty"}, "expected a password in"),
        ({"mqtt_password_file": "binary"}, "expected a password in"),
        ({"mqtt_ca_file": "missing"}, "mqtt_ca_file: no such file"),
        ({"mqtt_ca_file": "empty", "mqtt_tls": True}, "cannot be used"),
        ({"mqtt_password_file": "good", "mqtt_username": None}, "expected a name with the password"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(tmp_path: Path, fields: dict, says: str) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "good").write_text("x")
    given = {key: tmp_path / value if key.endswith("_file") else value for key, value in fields.items()}
    settings = make_settings(**({"mqtt_host": "127.0.0.1", "mqtt_username": "camera"} | given))
    with pytest.raises(MqttError, match=says):
        create_app(settings)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MqttError, match=r"pip install 'afterimage\[mqtt\]'"):
        create_app(make_settings(mqtt_host="127.0.0.1"))
