"""`afterimage keys`: the API keys that a server takes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from service.commands.common import err, out, own_name, plain_errors
from service.keys import Key, Scope, add_key, read_keys, remove_key

app = typer.Typer(no_args_is_help=True, help="Make, list and remove API keys.")

FILE_VARIABLE = "AFTERIMAGE_KEYS_FILE"
FileOption = Annotated[
    Path | None,
    typer.Option("--file", envvar=FILE_VARIABLE, help="Key file. Default: ~/.config/afterimage/keys."),
]
_DAYS = re.compile(r"([1-9]\d{0,4})d\Z")


@app.callback()
def keys() -> None:
    """Make, list and remove API keys."""


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", help="What it may: infer, or admin, which may both.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="A date such as 2030-12-31 (UTC), or days from now such as 90d.")
    ] = None,
    file: FileOption = None,
) -> None:
    """Make a key and print it: once, for only its hash is kept."""
    when = _parse_expiry(expires)
    path = _path(file)
    with plain_errors():
        secret = add_key(path, name, scope or [Scope.INFER], when)
    print(secret)
    err.print(
        f"Kept as a hash in {escape(str(path))}; a server takes it with {FILE_VARIABLE} set to that file.",
        highlight=False,
        soft_wrap=True,
    )


@app.command("list")
def list_keys(
    file: FileOption = None, as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False
) -> None:
    """List names, scopes and dates."""
    with plain_errors():
        found = read_keys(_path(file))
    rows = [_row(key) for key in found]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("name", "scopes", "expires")
    for row in rows:
        table.add_row(row["name"], row["scopes"], row["expires"])
    out.print(table)


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help=f"A name that `{own_name()} keys list` shows.")], file: FileOption = None
) -> None:
    """Remove a key: it is refused within a second, and its streams end within two."""
    with plain_errors():
        remove_key(_path(file), name)


def _path(file: Path | None) -> Path:
    return file or Path.home() / ".config" / "afterimage" / "keys"


def _row(key: Key) -> dict[str, str]:
    expires = "never" if key.expires is None else key.expires.isoformat()
    if key.has_expired(datetime.now(UTC)):
        expires += " (over)"
    return {"name": key.name, "scopes": ", ".join(sorted(key.scopes)), "expires": expires}


def _parse_expiry(text: str | None) -> datetime | None:
    """The moment that "2030-12-31" or "90d" means. Raises typer.BadParameter."""
    if text is None:
        return None
    now = datetime.now(UTC)
    days = _DAYS.match(text)
    try:
        moment = now + timedelta(days=int(days[1])) if days else datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected a date such as 2030-12-31, or 90d, got {text!r}") from None
    moment = moment.replace(microsecond=0, tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    if moment <= now:
        raise typer.BadParameter(f"expected a time to come, got {text!r}")
    return moment
