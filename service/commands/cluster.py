"""`afterimage cluster`: several servers as one, on Ray (docs/cluster.md)."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from service import configuration
from service.catalogue import find_model
from service.cluster.messages import Keys
from service.cluster.note import environment, make_token, read_note
from service.cluster.plan import ClusterError, Plan, node_address, plan_of
from service.commands.common import (
    ConfigOption,
    SetOption,
    SizeOption,
    err,
    model_source,
    out,
    own_name,
    parse_size,
    plain_errors,
)
from service.keys import read_keys
from service.settings import EVERYWHERE

MISSING = "expected the extra `cluster`: pip install afterimage[cluster]"
MOST = 256

app = typer.Typer(no_args_is_help=True, help="Several servers as one: start, look at, scale and end a cluster on Ray.")

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", help="Head of a Ray that runs, such as 10.0.0.7:6379. Default: the one that `up` started."
    ),
]
ReplicasOption = Annotated[int | None, typer.Option("--replicas", min=1, max=MOST, help="Members. Default: 2.")]


@app.callback()
def cluster() -> None:
    """Several servers as one."""


@app.command("up")
def up(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL...", help="As for `serve`; the files must be on every machine.")
    ] = None,
    replicas: ReplicasOption = None,
    address: AddressOption = None,
    host: Annotated[str | None, typer.Option(help="Common address of the cluster. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Its TCP port. Default: 8000.")] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="File of API keys, of `keys add`, that all members are given.")
    ] = None,
    size: SizeOption = None,
    workers: Annotated[int | None, typer.Option(help="Of each member. Default: its machine's cores, up to 8.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Start a cluster, or bring the one that runs to what is said here; returns when all members are there.

    Settings are those of `serve`, for each member alike.
    """
    given: dict[str, object] = {"host": host, "port": port, "workers": workers}
    pixels = parse_size(size)
    if models:
        with plain_errors():
            files = [find_model(reference).resolve() for reference in models]
        given["models"] = {path.stem: model_source(path, pixels) for path in files}
    with plain_errors():
        plan = _plan(configuration.load(given, file=config, pairs=tuple(set_ or ())), replicas or 2, keys, address)
        _up(plan, address)
        _print(_at(address).status())


@app.command("status")
def status(
    address: AddressOption = None, as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False
) -> None:
    """Show members, where they are, and what they have to do."""
    with plain_errors():
        told = _at(address).status()
    if as_json:
        print(json.dumps(told))
    else:
        _print(told)


@app.command("scale")
def scale(
    replicas: Annotated[int, typer.Argument(min=1, max=MOST, help="Members that there are to be.")],
    address: AddressOption = None,
) -> None:
    """Add or remove members: streams move, each at the price of one frame computed in full."""
    with plain_errors():
        there = _at(address)
        there.scale(replicas)
        _print(there.status())


@app.command("keys")
def keys(file: Annotated[Path, typer.Argument(help="A file of `keys add`.")], address: AddressOption = None) -> None:
    """Give all members these API keys in place of those they have; streams of removed ones end."""
    with plain_errors():
        _at(address).set_keys(_read(file))


@app.command("down")
def down(address: AddressOption = None) -> None:
    """End the cluster; frames under way are answered first."""
    with plain_errors():
        try:
            _at(address).down()
        finally:  # a Ray of ours ends even where it cannot be reached
            note = read_note()
            if address is None and note is not None:
                note.end()


class _Cluster:
    """The cluster of an address of Ray, or else the one that was started here, or that RAY_ADDRESS names."""

    def __init__(self, address: str | None) -> None:
        note = read_note()
        chosen = address or (os.environ.get("RAY_ADDRESS") if note is None else note.address)
        if not chosen:
            raise ClusterError("there is no cluster here; start one with: afterimage cluster up, or name its --address")
        self._address = chosen
        own = note is not None and note.address == chosen
        os.environ.update(environment(note.token_file if note is not None and own else None))
        self._control = _control()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        act = getattr(self._control, name)
        return lambda *arguments: act(*arguments, self._address)


def _at(address: str | None) -> Any:
    return _Cluster(address)


def _control() -> Any:
    """The module that knows Ray, once the environment is as Ray is to find it. Raises ClusterError without Ray."""
    if importlib.util.find_spec("ray") is None:
        raise ClusterError(MISSING)
    return importlib.import_module("service.cluster.control")


def _up(plan: Plan, address: str | None) -> None:
    """Start a Ray where none is named and none was started here; it ends again if its members cannot be started."""
    if address is not None or read_note() is not None:
        return _at(address).up(plan)  # type: ignore[no-any-return]
    node = node_address(plan.host)
    folder = Path(tempfile.mkdtemp(prefix="afterimage-ray-"))
    try:
        make_token(folder)
        os.environ.update(environment(folder / "token"))
        note = _control().start_ray(plan, node, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        _at(None).up(plan)
    except BaseException:
        note.end()
        raise


def _plan(effective: configuration.Effective, replicas: int, keys: Path | None, address: str | None) -> Plan:
    settings = effective.settings
    given = settings.model_dump(mode="json", include=set(effective.origins))
    scheme = "https" if settings.secure else "http"
    named = () if settings.host in EVERYWHERE else (f"{scheme}://{settings.host}:{settings.port}",)
    return plan_of(
        settings,
        given,
        replicas=replicas,
        host=settings.host,
        port=settings.port,
        origins=named,
        reserve_cores=0.0 if address is None else float(settings.workers),
        keys=Keys() if keys is None else _read(keys),
    )


def _read(file: Path) -> Keys:
    read_keys(file)  # its KeysError says what is wrong
    return Keys(time.time(), file.read_text())


def _print(told: dict[str, Any]) -> None:
    table = Table("member", "address", "streams", "live", "load", "room", "version")
    for member in told["members"]:
        table.add_row(
            member["slot"], member["address"], str(member["streams"]), str(member["live"]),
            f"{member['load']:.0%}", "yes" if member["room"] else "no", member["version"],
        )  # fmt: skip
    out.print(f"{told['address']}: {len(told['members'])} of {told['wanted']} members, {told['streams']} streams")
    out.print(table)
    err.print(f"See it again with: {own_name()} cluster status", highlight=False, soft_wrap=True)
