"""docs/security.md names a test for every threat and every refusal; they exist, and so do the codes."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(item.name for item in ast.walk(tree) if isinstance(item, ast.FunctionDef))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in names_in(path)


@pytest.mark.parametrize("heading", ["Threats", "What is refused, and how"])
def test_every_row_names_its_test(heading: str) -> None:
    table = rows(heading)
    assert len(table) > 20
    for row in table:
        assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`", row[-1]), row
        assert all(row[:2]), row


def test_every_code_of_the_table_is_one_that_the_server_uses() -> None:
    source = "".join(
        path.read_text() for path in [*(ROOT / "service").rglob("*.py"), *(ROOT / "clients").rglob("*.py")]
    )
    codes = {row[2].strip("`") for row in rows("What is refused, and how") if row[2]}
    assert len(codes) > 15
    assert {code for code in codes if f'"{code}"' not in source} == set()


def test_every_setting_that_is_named_exists() -> None:
    from service.settings import Settings

    for name in ("header_timeout_s", "body_timeout_s", "min_body_rate", "trusted_proxies", "anonymous_streams"):
        assert f"`{name}`" in TEXT
    named = set(re.findall(r"above `(max_\w+|detect_queue)`", TEXT))
    assert len(named) > 8
    assert named <= set(Settings.model_fields)
