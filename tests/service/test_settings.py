"""Settings: bounds, the environment, and who is trusted by default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from service.settings import CameraSource, ModelSource, Settings, is_loopback


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_PORT", "9000")
    monkeypatch.setenv("AFTERIMAGE_MODELS", '{"door": {"path": "/m/yolox.onnx", "size": [640, 384]}}')
    monkeypatch.setenv("AFTERIMAGE_ALLOWED_ORIGINS", '["https://Cam.Example"]')
    settings = Settings()
    assert settings.port == 9000
    assert settings.models["door"].size == (640, 384)
    assert settings.allowed_origins == ("https://cam.example",)
    assert settings.anonymous_allowed


UNITS = {"seconds": "_s", "ms": "_ms", "bytes": "_bytes", "pixels": "_pixels"}


@pytest.mark.parametrize("model", [Settings, ModelSource, CameraSource])
def test_every_field_says_what_it_is_with_bounds_and_a_unit_in_its_name(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert field.description, name
        kinds = {field.annotation, *get_args(field.annotation)}
        if kinds & {int, float}:
            limits = {type(item).__name__ for item in field.metadata}
            assert limits & {"Ge", "Gt"}, name
            assert limits & {"Le", "Lt"}, name
            for word, ending in UNITS.items():
                said = re.search(rf"\b{word}\b", field.description)
                assert bool(said) == name.endswith(ending), (name, word)


def test_a_map_of_the_arguments_replaces_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_MODELS", '{"door": {"path": "x"}}')
    assert list(Settings(models={"gate": ModelSource(path=Path("y"))}).models) == ["gate"]
    monkeypatch.setenv("AFTERIMAGE_PORT", "")
    assert Settings(max_message_bytes="4 MiB").max_message_bytes == 4 << 20
    assert Settings().port == 8000, "an empty variable counts as not set"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"port": 70_000}, "less than or equal to 65535"),
        ({"max_message_bytes": "8 XB"}, "expected bytes, or a size such as 8 MiB, got '8 XB'"),
        ({"max_message_bytes": 1.5}, "valid integer"),
        ({"max_message_bytes": "1 GiB"}, "less than or equal to 268435456"),
        ({"window": 0}, "greater than or equal to 1"),
        ({"drain_s": 0}, "greater than 0"),
        ({"prot": 1}, "Extra inputs"),
        ({"allowed_origins": ("cam.example",)}, "expected an origin"),
        ({"trusted_proxies": ("proxy",)}, "does not appear to be an IPv4 or IPv6 network"),
        ({"allowed_origins": ("https://cam.example/page",)}, "expected an origin"),
        ({"otlp_endpoint": "collector:4318"}, "expected an endpoint"),
        ({"otlp_endpoint": "http://"}, "expected an endpoint"),
        ({"otlp_endpoint": "http://me:secret@collector:4318"}, "expected no password"),
        ({"trace_share": 1.5}, "less than or equal to 1"),
        ({"log_format": "xml"}, "'text' or 'json'"),
        ({"metrics": "all"}, "'open', 'infer', 'admin' or 'off'"),
        ({"tls_certificate": "chain.pem"}, "tls_certificate, tls_key: expected both or none"),
        ({"models": {"a b": ModelSource(path="x")}}, "pattern"),
        ({"models": {"a": ModelSource(path="x")}, "default_model": "b"}, "expected one of a, got 'b'"),
        ({"models": {f"m{n}": ModelSource(path="x") for n in range(3)}, "max_models": 2}, "at most 2, got 3"),
    ],
)
def test_refusals(fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(**fields)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("cam.example", False),
    ],
)
def test_loopback_and_anonymous_streams(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
    assert Settings(host=host).anonymous_allowed is expected
    assert Settings(host=host, anonymous_streams=not expected).anonymous_allowed is not expected


def test_cameras_are_by_the_id_of_their_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_SOURCES", '{"door": {"url": "rtsp://a:geheim@cam/x", "max_fps": null}}')
    settings = Settings()
    assert settings.sources["door"].url.get_secret_value() == "rtsp://a:geheim@cam/x"
    assert settings.sources["door"].max_fps is None
    assert "geheim" not in f"{settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sources": {"a b": {"url": "rtsp://cam/geheim"}}}, "match pattern"),
        ({"sources": {"door": {}}}, "Field required"),
        ({"sources": {"door": {"url": "ftp://a:geheim@cam"}}}, "such as rtsp://user:password@camera/path"),
        ({"sources": {"door": {"url": "rtsp://cam/geheim", "max_fps": 0}}}, "greater than 0"),
        ({"sources": {"door": {"url": "rtsp://cam/geheim", "stall_s": 0.1}}}, "greater than or equal to 0.5"),
        ({"sources": {"door": {"url": "rtsp://cam/geheim", "transport": "rtp"}}}, "'tcp' or 'udp'"),
        ({"sources": {n: {"url": "rtsp://cam"} for n in "abc"}, "max_streams": 2}, "at most 2 by max_streams, got 3"),
        (
            {"sources": {"door": {"url": "rtsp://cam", "model": "b"}}, "models": {"a": {"path": "x"}}},
            "expected one of a",
        ),
    ],
)
def test_cameras_that_cannot_be(fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(**fields)
