"""Settings: bounds, the environment, and who is trusted by default."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.settings import ModelSource, Settings, is_loopback


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_PORT", "9000")
    monkeypatch.setenv("AFTERIMAGE_MODELS", '{"door": {"path": "/m/yolox.onnx", "size": [640, 384]}}')
    monkeypatch.setenv("AFTERIMAGE_ALLOWED_ORIGINS", '["https://Cam.Example"]')
    settings = Settings()
    assert settings.port == 9000
    assert settings.models["door"].size == (640, 384)
    assert settings.allowed_origins == ("https://cam.example",)
    assert settings.anonymous_allowed


def test_every_field_says_what_it_is_and_numbers_are_bounded() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if field.annotation in (int, float):
            limits = {type(item).__name__ for item in field.metadata}
            assert limits & {"Ge", "Gt"}, name
            assert "Le" in limits, name
        if name.endswith("_s"):
            assert "seconds" in field.description, name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"port": 70_000}, "less than or equal to 65535"),
        ({"window": 0}, "greater than or equal to 1"),
        ({"drain_s": 0}, "greater than 0"),
        ({"prot": 1}, "Extra inputs"),
        ({"allowed_origins": ("cam.example",)}, "expected an origin"),
        ({"trusted_proxies": ("proxy",)}, "does not appear to be an IPv4 or IPv6 network"),
        ({"allowed_origins": ("https://cam.example/page",)}, "expected an origin"),
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
