"""The page of settings: written from the model, and up to date."""

from __future__ import annotations

import yaml
from pydantic import BaseModel, Field

from service.configuration import check
from service.settings import Settings
from service.settings_page import PAGE, render, shown_default, table


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "out of date: run python -m service.settings_page"


def test_every_setting_has_a_row_and_no_default_is_of_this_machine() -> None:
    page = render()
    for name, field in Settings.model_fields.items():
        assert f"| `{name}` |" in page
        factory = field.default_factory
        if factory not in (None, dict, list, tuple):
            assert not shown_default(field).strip("`").replace(".", "").isdigit(), f"{name}: say shown_default"


def test_the_example_is_right(tmp_path) -> None:
    example = render().partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(example)["host"] == "0.0.0.0"
    path = tmp_path / "afterimage.yaml"
    path.write_text(example)
    assert check(path).models["door"].size == (640, 384)


def test_a_table() -> None:
    class Few(BaseModel):
        share: float = Field(default=0.5, gt=0, le=1, description="a | b; None: c")
        names: tuple[str, ...] = Field(default=(), description="d")
        size: tuple[int, int] | None = Field(default=None, description="e")
        must: bool = Field(description="f")

    assert table(Few).splitlines()[2:] == [
        r"| `share` | number, above 0 to 1 | `0.5` | a \| b; null: c |",
        "| `names` | list | `[]` | d |",
        "| `size` | list of 2 or null | `null` | e |",
        "| `must` | true or false | none: must be said | f |",
    ]
