"""Who may do what: each combination of address, keys and settings, each kind of key, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from service_fakes import image, make_settings, subprotocols, wait_until
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

from service import keys
from service.access import Access, peer_name
from service.errors import Problem
from service.keys import KeysError, Scope, add_key, remove_key

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture
def keys_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keys, "CHECK_S", 0.0)
    return tmp_path / "keys"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def connection(peer: str = "192.0.2.1", **headers: str) -> HTTPConnection:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "headers": raw, "client": (peer, 1), "path": "/v1/x", "scheme": "http", "server": ("s", 1)}
    return HTTPConnection(scope)


def ask(access: Access, scope: Scope, offered: str | None = None, **fields: str) -> str:
    """ "ok", or the status and code of the refusal."""
    try:
        access.permit(connection(**{"host": "localhost", **fields}), scope, offered)
    except Problem as problem:
        return f"{problem.status} {problem.code}"
    return "ok"


OFF, KEY = "403 forbidden", "401 unauthorized"


@pytest.mark.parametrize(
    ("host", "has_keys", "anonymous", "infer", "admin", "streams"),
    [
        ("127.0.0.1", False, None, "ok", "ok", True),
        ("127.0.0.1", False, True, "ok", "ok", True),
        ("127.0.0.1", False, False, "ok", "ok", False),
        ("127.0.0.1", True, None, KEY, KEY, False),
        ("127.0.0.1", True, True, "ok", KEY, True),
        ("0.0.0.0", False, None, OFF, OFF, False),
        ("0.0.0.0", False, True, "ok", OFF, True),
        ("0.0.0.0", True, None, KEY, KEY, False),
        ("0.0.0.0", True, True, "ok", KEY, True),
    ],
)
def test_without_a_key(
    keys_file: Path, host: str, has_keys: bool, anonymous: bool | None, infer: str, admin: str, streams: bool
) -> None:
    settings: dict[str, Any] = {"host": host, "anonymous_streams": anonymous}
    if has_keys:
        add_key(keys_file, "door", [Scope.INFER])
        settings["keys_file"] = keys_file
    access = Access(make_settings(**settings))
    assert (ask(access, Scope.INFER), ask(access, Scope.ADMIN), access.anonymous) == (infer, admin, streams)
    if not has_keys and infer == "ok":
        assert ask(access, Scope.INFER, "whatever") == "ok", "without keys nobody looks at one"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("anonymous", [None, True])
def test_with_keys(keys_file: Path, host: str, anonymous: bool | None) -> None:
    infer, admin = add_key(keys_file, "door", [Scope.INFER]), add_key(keys_file, "ops", [Scope.ADMIN])
    access = Access(make_settings(host=host, keys_file=keys_file, anonymous_streams=anonymous))
    assert (ask(access, Scope.INFER, infer), ask(access, Scope.ADMIN, infer)) == ("ok", OFF)
    assert (ask(access, Scope.INFER, admin), ask(access, Scope.ADMIN, admin)) == ("ok", "ok")
    assert (ask(access, Scope.INFER, "wrong"), ask(access, Scope.ADMIN, "wrong")) == (KEY, KEY)
    assert access.owner(infer) == "door"
    assert access.owner("wrong") is None


@pytest.mark.parametrize(
    "headers",
    [
        {"x_forwarded_for": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"via": "1.1 proxy"},
        {"x_real_ip": "127.0.0.1"},
        {"host": "cam.example"},
        {"host": ""},
        {"host": "["},
    ],
)
def test_admin_without_keys_is_for_what_reaches_loopback_directly(headers: dict[str, str]) -> None:
    """Behind a proxy on the same machine every peer is local."""
    access = Access(make_settings())
    assert ask(access, Scope.ADMIN, peer="127.0.0.1", **headers) == OFF
    assert ask(access, Scope.ADMIN, peer="127.0.0.1") == "ok"


def test_a_local_peer_of_a_server_beyond_loopback_is_nobody_special() -> None:
    access = Access(make_settings(host="0.0.0.0"))
    assert ask(access, Scope.INFER, peer="127.0.0.1") == OFF
    assert ask(access, Scope.ADMIN, peer="127.0.0.1") == OFF


def test_names_that_were_made_to_point_at_loopback_are_refused() -> None:
    access = Access(make_settings(allowed_origins=("https://cam.example",)))
    assert ask(access, Scope.INFER, host="evil.example:8000") == "403 forbidden_host"
    assert ask(access, Scope.INFER, host="cam.example") == "ok"
    for name in ("localhost:8000", "127.0.0.1", "127.9.9.9:1", "[::1]:8000"):
        assert ask(access, Scope.INFER, host=name) == "ok"


def test_a_key_file_that_cannot_be_used_stops_the_start(keys_file: Path) -> None:
    with pytest.raises(KeysError):
        Access(make_settings(keys_file=keys_file))


def test_wrong_keys_are_answered_so_often_and_nobody_is_locked_out(keys_file: Path, caplog) -> None:
    good = add_key(keys_file, "door", [Scope.INFER])
    access = Access(make_settings(keys_file=keys_file, max_auth_failures_per_min=3))
    answers = [ask(access, Scope.INFER, f"guess {n}") for n in range(10)]
    assert answers == ["401 unauthorized"] * 3 + ["429 too_many_failures"] * 7
    assert caplog.text.count("wrong key") == 3
    assert "guess" not in caplog.text
    assert ask(access, Scope.INFER, good) == "ok", "of the same address"
    assert ask(access, Scope.INFER, "guess", peer="192.0.2.2") == "401 unauthorized"
    assert ask(access, Scope.INFER) == "401 unauthorized", "to send none is no guess"
    problem = access.failed(connection(), "guess")
    assert (problem.status, 1 <= int(problem.headers["Retry-After"]) <= 20) == (429, True)


def test_requests_have_a_rate_per_key_and_per_peer(keys_file: Path) -> None:
    first, second = add_key(keys_file, "a", [Scope.INFER]), add_key(keys_file, "b", [Scope.INFER])
    access = Access(make_settings(keys_file=keys_file, max_request_rate=0.001, anonymous_streams=True))
    for offered, peer in ((first, "192.0.2.1"), (second, "192.0.2.1"), (None, "192.0.2.1"), (None, "2001:db8::1")):
        assert ask(access, Scope.INFER, offered, peer=peer) == "ok"
    assert ask(access, Scope.INFER, first, peer="198.51.100.9") == "429 too_fast", "a key's, from wherever"
    assert ask(access, Scope.INFER, None) == "429 too_fast"
    assert ask(access, Scope.INFER, None, peer="2001:db8::ffff") == "429 too_fast", "of the same /64"
    assert ask(access, Scope.INFER, None, peer="2001:db8:0:1::1") == "ok"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_names_of_peers(host: str, expected: str) -> None:
    assert peer_name(host) == expected


def test_keys_over_http(make_client, keys_file: Path) -> None:
    infer, admin = add_key(keys_file, "door", [Scope.INFER]), add_key(keys_file, "ops", [Scope.ADMIN])
    client = make_client(keys_file=keys_file, host="0.0.0.0")
    for path in ("/v1/models", "/v1/streams", "/metrics"):
        refused = client.get(path)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert refused.headers["www-authenticate"] == 'Bearer realm="afterimage"'
        wrong = client.get(path, headers=bearer("aik_" + "A" * 43))
        assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
        assert client.get(path, headers=bearer(infer)).status_code == 200
        assert client.get(path, headers={"x-api-key": infer}).status_code == 200
        assert client.get(path, headers={"authorization": f"Basic {infer}"}).status_code == 401
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    post = client.post("/v1/detect", content=image(), headers=JPEG | bearer(infer))
    assert post.status_code == 200
    remove_key(keys_file, "door")
    assert client.get("/v1/models", headers=bearer(infer)).status_code == 401, "without a restart"
    assert client.get("/v1/models", headers=bearer(admin)).status_code == 200


def test_a_lan_without_keys_gets_nothing(make_client) -> None:
    client = make_client(host="0.0.0.0")
    for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/streams"), ("POST", "/v1/detect")):
        response = client.request(method, path)
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    with client.websocket_connect("/v1/streams/door/ws", subprotocols=subprotocols()) as socket:
        assert socket.receive_json()["code"] == "unauthorized"
        assert socket.receive()["code"] == 1008
    assert client.get("/healthz").status_code == 200


def test_a_lan_that_may_join_gets_nothing_without_having_joined(make_client, tmp_path: Path) -> None:
    client = make_client(host="0.0.0.0", lan=True, state_folder=tmp_path)
    for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/streams"), ("POST", "/v1/detect")):
        response = client.request(method, path)
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    with client.websocket_connect("/v1/streams/door/ws", subprotocols=subprotocols()) as socket:
        assert socket.receive_json()["code"] == "unauthorized"
        assert socket.receive()["code"] == 1008
    joins = client.app.state.service.access.joins
    key = {"authorization": f"Bearer {joins.admit(joins.new_code()).key}"}
    assert client.get("/v1/models", headers=key).status_code == 200
    refused = client.post("/v1/models", headers=key, json={"model": "other"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), "nobody joins as an administrator"


def test_streams_are_their_keys_own(make_client, keys_file: Path) -> None:
    a, b, ops = (
        add_key(keys_file, name, [scope]) for name, scope in zip("abc", ("infer", "infer", "admin"), strict=True)
    )
    client = make_client(keys_file=keys_file, max_streams_per_key=1)
    made = client.post("/v1/streams", headers=bearer(a))
    path = f"/v1/streams/{made.json()['stream_id']}"
    full = client.post("/v1/streams", headers=bearer(a))
    assert (full.status_code, full.json()["code"]) == (429, "too_many_streams")
    statuses = [client.get(path, headers=bearer(key)).status_code for key in (a, b, ops, made.json()["token"], "x")]
    assert statuses == [200, 403, 200, 200, 401]
    assert client.get(path).status_code == 401
    lists = [len(client.get("/v1/streams", headers=bearer(key)).json()["streams"]) for key in (a, b, ops)]
    assert lists == [1, 0, 1]
    assert client.delete(path, headers=bearer(b)).status_code == 403
    assert client.delete(path, headers=bearer(a)).status_code == 204


def open_stream(client, stream_id: str, token: str | None):
    return client.websocket_connect(f"/v1/streams/{stream_id}/ws", subprotocols=subprotocols(token))


def test_a_key_opens_streams_over_websockets(make_client, keys_file: Path) -> None:
    a, b = add_key(keys_file, "a", [Scope.INFER]), add_key(keys_file, "b", [Scope.INFER])
    client = make_client(keys_file=keys_file)
    with open_stream(client, "door", a) as socket:
        socket.send_text('{"type":"hello"}')
        assert socket.receive_json()["type"] == "ready"
        for token in (b, None, "aik_" + "A" * 43):
            with open_stream(client, "door", token) as other:
                assert other.receive_json()["code"] == "unauthorized"
                assert other.receive()["code"] == 1008
        client.portal.call(remove_key, keys_file, "a")
        assert socket.receive() == {"type": "websocket.close", "code": 1008, "reason": "the key is no longer valid"}
    wait_until(lambda: len(client.app.state.service.streams) == 0)


def test_handshakes_are_bounded(make_client, keys_file: Path) -> None:
    key = add_key(keys_file, "a", [Scope.INFER])
    client = make_client(keys_file=keys_file, max_greeting=1, max_auth_failures_per_min=1)
    with open_stream(client, "one", key) as first:
        with pytest.raises(WebSocketDisconnect) as caught, open_stream(client, "two", key):
            pass
        assert (caught.value.status_code, caught.value.headers["retry-after"]) == (503, "1")
        first.send_text('{"type":"hello"}')
        assert first.receive_json()["type"] == "ready"
        with open_stream(client, "two", "wrong") as second:
            assert second.receive_json()["code"] == "unauthorized"
        wait_until(lambda: len(client.app.state.service.connections) == 1)
        with pytest.raises(WebSocketDisconnect) as caught, open_stream(client, "two", "wrong"):
            pass
        assert caught.value.status_code == 429


def test_log_lines_cannot_be_forged(make_client, keys_file: Path, caplog) -> None:
    add_key(keys_file, "a", [Scope.INFER])
    client = make_client(keys_file=keys_file)
    client.get("/v1/streams/a%0aERROR%20forged%1b[31m", headers=bearer("wrong"))
    (line,) = [record.getMessage() for record in caplog.records if "wrong key" in record.getMessage()]
    assert "\\nERROR forged\\x1b[31m" in line
    assert "\n" not in line
    assert "\x1b" not in line
