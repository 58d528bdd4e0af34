"""Security headers on everything that is answered, and CORS for the allowed origins alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from service_fakes import FakeEngine, subprotocols
from starlette.websockets import WebSocketDisconnect

from service.headers import HEADERS

ALL = {name.lower(): value for name, value in HEADERS.items()}
ORIGIN = "https://cam.example"


def secured(headers) -> bool:
    return {name: headers.get(name) for name in ALL} == ALL


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/detect", 405),
        ("POST", "/v1/detect", 415),
        ("POST", "/v1/streams", 201),
    ],
)
def test_every_answer_has_them(make_client, method: str, path: str, status: int) -> None:
    response = make_client().request(method, path)
    assert response.status_code == status
    assert secured(response.headers)
    assert "strict-transport-security" not in response.headers


def test_an_answer_to_an_unexpected_error_has_them(make_client, engine: FakeEngine, monkeypatch) -> None:
    client = make_client()
    monkeypatch.setattr(client.app.state.service.registry, "describe", lambda: 1 / 0)
    response = client.get("/v1/models")
    assert response.status_code == 500
    assert secured(response.headers)


def test_strict_transport_over_tls_alone(make_client) -> None:
    client = make_client()
    client.base_url = "https://localhost"
    assert client.get("/healthz").headers["strict-transport-security"] == "max-age=31536000"


def test_no_strict_transport_with_a_certificate_of_our_own_making(make_client, tmp_path: Path) -> None:
    """It would hold for every port of the host's name."""
    client = make_client(lan=True, state_folder=tmp_path)
    client.base_url = "https://localhost"
    assert "strict-transport-security" not in client.get("/healthz").headers


def test_the_refusal_of_a_websocket_has_them_and_websockets_work(make_client) -> None:
    client = make_client()
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/v1/streams/a.b/ws"):
        pass
    assert caught.value.status_code == 404
    assert secured(caught.value.headers)
    with client.websocket_connect("/v1/streams/a/ws", subprotocols=subprotocols()) as socket:
        socket.send_text('{"type":"hello"}')
        assert socket.receive_json()["type"] == "ready"


def test_no_page_loads_scripts_of_other_hosts(make_client) -> None:
    client = make_client()
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert client.get(path).status_code == 404
    policy = ALL["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_other_origins_get_no_cors_headers(make_client) -> None:
    for client in (make_client(), make_client(allowed_origins=(ORIGIN,))):
        response = client.get("/healthz", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in response.headers
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert client.options("/v1/detect", headers=preflight).status_code == 400


def test_allowed_origins_get_them(make_client) -> None:
    client = make_client(allowed_origins=(ORIGIN,))
    response = client.get("/v1/models", headers={"origin": ORIGIN})
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in response.headers, "keys are in headers, not in cookies"
    preflight = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    answer = client.options("/v1/detect", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert secured(answer.headers)
