"""docs/configuration.md, written from the model: `python -m service.settings_page`."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from service.configuration import DEFAULT_FILE, FILE_VARIABLE, OTHER_VARIABLES
from service.settings import AS_SIZE, CameraSource, ModelSource, Settings

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
_HEAD = f"""# Configuration

Written by `python -m service.settings_page` from `service/settings.py`, which is the whole truth.

A setting is said, strongest first, by

1. an option: `afterimage serve --port 9000`, or for any setting `--set port=9000` (the value is YAML);
2. the environment: `AFTERIMAGE_PORT=9000`; maps and lists as JSON; an empty variable counts as not set;
3. a YAML file: `--config FILE`, else the one that `{FILE_VARIABLE}` names, else `{DEFAULT_FILE}` in the current folder;
4. its default.

A map or a list is taken whole from the first that has it.

```yaml
# afterimage.yaml
host: 0.0.0.0
models:
  door:
    path: yolox_nano.onnx      # relative to the folder that the server is started in
    size: [640, 384]
allowed_origins: ["https://cam.example"]
```

```sh
afterimage config check afterimage.yaml        # exit status 1 and a line for each thing that is wrong
afterimage config show --source                # what is in force, and who said so
```

A key or a variable `AFTERIMAGE_...` that does not exist is an error, and the nearest one that does is named.
The variables that Kubernetes sets in pods beside a Service called `afterimage` are left alone.
"""
_NAMES = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path", SecretStr: "text"}
_SIGNS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}


def render() -> str:
    """The page."""
    others = "".join(f"| `{name}` | {text} |\n" for name, text in OTHER_VARIABLES.items() if "tests" not in text)
    return (
        f"{_HEAD}\n## Settings\n\n{table(Settings)}\n## A model\n\nUnder `models`, by name:\n\n{table(ModelSource)}\n"
        f"## A camera\n\nUnder `sources`, by the id of its stream (docs/cameras.md):\n\n{table(CameraSource)}\n"
        f"## Other variables\n\n| variable | |\n|---|---|\n{others}"
    )


def table(model: type[BaseModel]) -> str:
    """A Markdown table of a model's fields: name, what it may be, default, description."""
    rows = [
        f"| `{name}` | {_escape(kind(field) + bounds(field))} | {_escape(shown_default(field))} "
        f"| {_escape((field.description or '').replace('None:', 'null:'))} |\n"
        for name, field in model.model_fields.items()
    ]
    return f"| setting | values | default | |\n|---|---|---|---|\n{''.join(rows)}"


def bounds(field: FieldInfo) -> str:
    """Such as " from 0 to 65535"; empty for a field without."""
    limits = {
        sign: getattr(item, sign) for item in field.metadata for sign in _SIGNS if getattr(item, sign, None) is not None
    }
    words = "".join(f" {text.format(limits[sign])}" for sign, text in _SIGNS.items() if sign in limits)
    return f",{words}" if words else ""


def shown_default(field: FieldInfo) -> str:
    """The default as it would be written; in words where it depends on the machine."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "shown_default" in extra:
        return str(extra["shown_default"])
    if field.is_required():
        return "none: must be said"
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value, default=str)}`"


def kind(field: FieldInfo) -> str:
    """What its values are, in words."""
    return "bytes, or a size such as 8 MiB" if AS_SIZE in field.metadata else _kind(field.annotation)


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join("null" if part is NoneType else _kind(part) for part in parts)
    if origin is dict:
        return "map"
    if origin in (tuple, list):
        return f"list of {len(parts)}" if parts and Ellipsis not in parts and origin is tuple else "list"
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _kind(parts[0])
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _escape(text: str) -> str:
    return text.replace("|", r"\|")


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
