"""Errors in words: the key, what was expected, what came, and which name is near."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from service.explain import first_problem, is_secret, problems, unknown


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: Path
    size: tuple[int, int] | None = None


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: Annotated[int, Field(ge=1, le=9)] = 1
    share: float = Field(default=0.5, gt=0, lt=1)
    name: str = Field(default="ab", min_length=2, max_length=4, pattern="^[a-z]+$")
    on: bool = False
    kind: Literal["fast", "strict"] = "fast"
    colour: Colour = Colour.RED
    inner: dict[str, Inner] = Field(default_factory=dict)
    maybe: Inner | None = None
    many: tuple[Inner, ...] = Field(default=(), max_length=2)
    api_key: str = Field(default="", max_length=3)
    password: SecretStr = SecretStr("")

    @field_validator("name")
    @classmethod
    def _not_bad(cls, name: str) -> str:
        if name == "bad":
            raise ValueError("expected a good name, got 'bad'")
        return name


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"count": 10}, "count: expected at most 9, got 10"),
        ({"count": 0}, "count: expected at least 1, got 0"),
        ({"count": "x"}, "count: expected a whole number, got 'x'"),
        ({"count": 1.5}, "count: expected a whole number, got 1.5"),
        ({"share": 1}, "share: expected less than 1, got 1"),
        ({"share": 0}, "share: expected more than 0, got 0"),
        ({"share": []}, "share: expected a number, got []"),
        ({"name": "a"}, "name: expected at least 2 characters, got 'a'"),
        ({"name": "abcde"}, "name: expected at most 4 characters, got 'abcde'"),
        ({"name": "AB"}, "name: expected text that matches ^[a-z]+$, got 'AB'"),
        ({"name": "bad"}, "name: expected a good name, got 'bad'"),
        ({"name": 5}, "name: expected text, got 5"),
        ({"on": "perhaps"}, "on: expected true or false, got 'perhaps'"),
        ({"kind": "quick"}, "kind: expected 'fast' or 'strict', got 'quick'"),
        ({"colour": "pink"}, "colour: expected 'red' or 'blue', got 'pink'"),
        ({"inner": 3}, "inner: expected names with values, got 3"),
        ({"inner": {"a": {}}}, "inner.a.path: expected a value, got none"),
        ({"inner": {"a": {"path": "x", "szie": 1}}}, "inner.a.szie: unknown key 'szie'; did you mean 'size'?"),
        ({"maybe": {"pth": 1, "path": "x"}}, "maybe.pth: unknown key 'pth'; did you mean 'path'?"),
        ({"many": [{"path": "x", "paths": 1}]}, "many.0.paths: unknown key 'paths'; did you mean 'path'?"),
        ({"many": [{"path": "x"}] * 3}, "many: expected at most 2 of them, got [{"),
        ({"cuont": 1}, "cuont: unknown key 'cuont'; did you mean 'count'?"),
        ({"zzzz": 1}, "zzzz: unknown key 'zzzz'; expected one of count, share, name"),
    ],
)
def test_in_words(fields: dict, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer(**fields)
    assert first_problem(caught.value, Outer).startswith(said)


def test_every_problem_is_told_and_long_values_are_cut() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer(count=0, name="y" * 500, on="x")
    told = problems(caught.value, Outer)
    assert [problem.name for problem in told] == ["count", "name", "on"]
    assert len(told[1].says) < 140


@pytest.mark.parametrize("fields", [{"api_key": "hunter2"}, {"password": 17}])
def test_secrets_are_not_repeated(fields: dict) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer(**fields)
    said = first_problem(caught.value, Outer)
    assert "got a value that is not shown" in said
    assert str(next(iter(fields.values()))) not in said


def test_what_is_a_secret() -> None:
    assert is_secret("x", SecretStr("a"))
    assert all(is_secret(name, "a") for name in ("api_key", "keys", "token", "client_secret", "PASSWORD"))
    assert not is_secret("keyframes", "a")
    assert not is_secret("max_tokens", 5)


def test_near_names() -> None:
    assert unknown("prot", ["port", "host"]) == "unknown key 'prot'; did you mean 'port'?"
    assert unknown("PORT", ["port", "host"]) == "unknown key 'PORT'; did you mean 'port'?"
    assert unknown("zzz", ["port", "host"], "setting") == "unknown setting 'zzz'; expected one of port, host"


def test_passwords_in_addresses_are_not_repeated() -> None:
    class Camera(BaseModel):
        name: int
        cameras: dict[str, int]

    for values in ({"name": "rtsp://a:geheim@cam/x", "cameras": {}}, {"name": 1, "cameras": ["rtsp://a:geheim@cam"]}):
        with pytest.raises(ValidationError) as raised:
            Camera(**values)
        assert "geheim" not in str(problems(raised.value)[0])
        assert "rtsp://***@cam" in str(problems(raised.value)[0])
