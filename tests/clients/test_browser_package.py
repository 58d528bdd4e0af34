"""The browser client as a package: its types say what its modules do, and it can be published as it lies there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import msgspec
import pytest

from clients.wire import CloseCode, Flags, Op, messages

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "clients/browser"
PACKAGE = json.loads((FOLDER / "package.json").read_text())
MODULES = ("index", "stream", "tiles", "wire")
STRUCTS = {
    "Ack": messages.Ack,
    "Audit": messages.Audit,
    "Changes": messages.Changes,
    "Classification": messages.ClassScore,
    "Detection": messages.Detection,
    "Draining": messages.Draining,
    "ErrorMessage": messages.ErrorMessage,
    "HelloFields": messages.Hello,
    "Mask": messages.Mask,
    "Moved": messages.Moved,
    "Ready": messages.Ready,
    "Result": messages.Result,
    "Tensor": messages.Tensor,
    "TileRules": messages.TileRules,
    "Timing": messages.Timing,
}


def text(name: str) -> str:
    """A file without its comments."""
    source = (FOLDER / name).read_text(encoding="utf-8")
    return re.sub(r"/\*.*?\*/|(?m:^\s*//[^\n]*$)", "", source, flags=re.DOTALL)


def exported(name: str) -> set[str]:
    """Names of values that a module exports, or that its types declare."""
    source = text(name)
    found = set(re.findall(r"^export (?:declare )?(?:async )?(?:const|function|class) (\w+)", source, re.MULTILINE))
    for names in re.findall(r"^export \{([^}]+)\}", source, re.MULTILINE):
        found |= {one.strip() for one in names.split(",") if one.strip()}
    for origin in re.findall(r'^export \* from "./(\w+)\.js"', source, re.MULTILINE):
        found |= exported(f"{origin}{Path(name).suffix if name.endswith('.js') else '.d.ts'}")
    return found


def body(name: str, opening: str) -> str:
    """What stands in the braces of a class or interface at the top of a file."""
    match = re.search(rf"^export (?:declare )?{opening}\b[^{{]*\{{\n(.*?)^\}}", text(name), re.MULTILINE | re.DOTALL)
    assert match, f"{name} has no {opening}"
    return match[1]


def members(name: str, kind: str) -> set[str]:
    """Public members of a class."""
    inside = body(name, f"class {kind}")
    found = set(re.findall(r"^  (?:async |get )?([A-Za-z]\w*)(?:<[^>]*>)?\(", inside, re.MULTILINE))
    found |= set(re.findall(r"^  ([A-Za-z]\w*)\??(?:: .*)?;$", inside, re.MULTILINE))
    found |= set(re.findall(r"^    this\.(\w+) = ", inside, re.MULTILINE))
    return found - {"constructor"}


def fields(name: str, interface: str) -> dict[str, bool]:
    """Fields of an interface, and whether each may be absent."""
    found = re.findall(r"^  (\w+)(\??):", body(name, f"interface {interface}"), re.MULTILINE)
    return {field: optional == "?" for field, optional in found}


def defaults(name: str) -> set[str]:
    """Keys of a module's DEFAULTS."""
    match = re.search(r"^const DEFAULTS = \{(.*?)\};", text(name), re.MULTILINE | re.DOTALL)
    assert match
    return set(re.findall(r"(\w+):", match[1]))


@pytest.mark.parametrize("module", MODULES)
def test_types_declare_what_a_module_exports(module: str) -> None:
    assert exported(f"{module}.js")
    assert exported(f"{module}.d.ts") == exported(f"{module}.js")


@pytest.mark.parametrize(
    ("module", "kind"), [("stream", "StreamClient"), ("tiles", "TileEncoder"), ("wire", "WireError")]
)
def test_types_declare_the_members_of_a_class(module: str, kind: str) -> None:
    inherited = {"StreamClient": {"addEventListener", "removeEventListener"}}.get(kind, set())
    own = {"WireError": {"name"}}.get(kind, set())
    assert len(members(f"{module}.js", kind)) >= 3
    assert members(f"{module}.d.ts", kind) - inherited == members(f"{module}.js", kind) - own


@pytest.mark.parametrize(("module", "interface"), [("stream", "StreamOptions"), ("tiles", "EncoderOptions")])
def test_types_declare_every_option(module: str, interface: str) -> None:
    assert fields(f"{module}.d.ts", interface) == dict.fromkeys(defaults(f"{module}.js"), True)


@pytest.mark.parametrize("interface", STRUCTS)
def test_messages_have_the_fields_of_the_protocol(interface: str) -> None:
    struct = STRUCTS[interface]
    # What has a default may be left out by the server, or by us.
    expected = {field.name: not field.required for field in msgspec.structs.fields(struct)}
    found = fields("wire.d.ts", interface)
    assert found.pop("type", False) is False
    assert found == expected


def test_constants_are_those_of_python() -> None:
    for kind, spelled in ((Op, "Op"), (Flags, "Flags"), (CloseCode, "CloseCode")):
        expected = {name: int(member) for name, member in kind.__members__.items()}
        declared = re.search(rf"const {spelled}: Readonly<\{{([^}}]*)\}}>", text("wire.d.ts"))
        made = re.search(rf"const {spelled} = Object\.freeze\(\{{([^}}]*)\}}\)", text("wire.js"))
        assert declared
        assert made
        for found in (declared[1], made[1]):
            assert {name: int(value) for name, value in re.findall(r"(\w+): (\d+)", found)} == expected


def test_events_of_the_types_are_those_that_are_told() -> None:
    told = set(re.findall(r'#tell\("(\w+)"', text("stream.js")))
    assert set(fields("stream.d.ts", "StreamEventMap")) == told


def test_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (PACKAGE["version"], PACKAGE["license"]) == (project["version"], project["license"])
    assert PACKAGE["type"] == "module"
    assert PACKAGE["sideEffects"] is False
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & set(PACKAGE)
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    targets = [PACKAGE["main"], PACKAGE["types"]]
    for target in PACKAGE["exports"].values():
        targets += target.values() if isinstance(target, dict) else [target]
    assert all((FOLDER / target).is_file() for target in targets)
    assert {f"./{module}.js" for module in MODULES} <= set(targets)


def test_nothing_outside_the_folder_is_imported() -> None:
    names = {path.name for path in FOLDER.glob("*.js")}
    for path in FOLDER.glob("*.js"):
        imports = re.findall(r"(?:from|import|new URL\()\s*\"([^\"]+)\"", path.read_text())
        assert {name.removeprefix("./") for name in imports} <= names, path.name


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_what_would_be_published(tmp_path: Path) -> None:
    """Without the network: packing is local."""
    command = ["npm", "pack", "--dry-run", "--json", "--offline", "--ignore-scripts", "--cache", str(tmp_path)]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout)
    (packed,) = found if isinstance(found, list) else found.values()
    types = {f"{module}.d.ts" for module in MODULES}
    expected = {path.name for path in FOLDER.glob("*.js")} | types | {"package.json", "README.md", "LICENSE"}
    assert {file["path"] for file in packed["files"]} == expected
    assert packed["size"] < 60_000


@pytest.mark.skipif(
    not (FOLDER / "node_modules/.bin/tsc").exists(), reason="no TypeScript: run npm install in clients/browser"
)
def test_the_compiler_finds_nothing() -> None:
    command = ["node_modules/.bin/tsc", "--project", "tsconfig.json"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")
