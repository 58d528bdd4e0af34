"""The catalogue: what it lets in, what a name stands for, and models pulled from a server on loopback."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from file_server import Served, serving
from own_model import write_model
from pydantic import ValidationError

from service.catalogue import BUILT_IN, Catalogue, CatalogueError, Entry, NotPulled, find_model, specification
from service.download import Limits
from service.families import Size
from service.opened import open_model

DATA = Path(__file__).parents[3] / "shared" / "data" / "models"
QUICK = Limits(connect_s=2, read_s=2, pause_s=0, attempts=2)
FIELDS = {
    "task": "faces",
    "licence": "MIT",
    "url": "https://example.com/m.onnx",
    "sha256": "0" * 64,
    "size_bytes": 5,
    "source": "https://example.com",
    "authors": "somebody",
    "spec": {"family": "yunet"},
}


def write(path: Path, **tables: dict[str, Any]) -> Path:
    """A catalogue file."""
    lines: list[str] = []
    for name, table in tables.items():
        spec = table.get("spec", {})
        plain = {field: value for field, value in table.items() if field != "spec"}
        for head, fields in ((name, plain), (f"{name}.spec", spec)):
            lines += [f"[{head}]", *(f"{field} = {value!r}" for field, value in fields.items())]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    """A small model of the product's own family."""
    return write_model(tmp_path / "small.onnx").read_bytes()


@pytest.fixture
def served(model: bytes) -> Iterator[Served]:
    with serving(model) as found:
        yield found


@pytest.fixture
def known(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """A catalogue of the served model, `small`, made known by the environment."""
    about = {"url": served.url, "sha256": hashlib.sha256(served.body).hexdigest(), "size_bytes": len(served.body)}
    spec = {"family": "afterimage", "min_confidence": 0.125, "labels": ["ä", 'b"c'], "class_agnostic": True}
    file = write(tmp_path / "catalogue.toml", small=FIELDS | about)
    file.write_text(file.read_text().replace("family = 'yunet'", specification(entry(spec=spec))))
    monkeypatch.setenv("AFTERIMAGE_CATALOGUE", str(file))
    monkeypatch.setenv("AFTERIMAGE_MODELS_DIR", str(tmp_path / "pulled"))
    return Catalogue.load()


def entry(**fields: Any) -> Entry:
    return Entry.model_validate(FIELDS | {"name": "some"} | fields)


def pulled_files(known: Catalogue) -> list[str]:
    return sorted(file.name for file in known.folder.iterdir() if not file.name.endswith(".lock"))


PRODUCT = Catalogue.load(folder=Path("nowhere"))


def test_the_products_catalogue_is_of_permissive_licences_only() -> None:
    assert len(PRODUCT.entries) >= 10
    assert {found.licence for found in PRODUCT.entries.values()} == {"Apache-2.0", "MIT", "BSD-3-Clause"}
    assert all(found.url.startswith("https://") for found in PRODUCT.entries.values())
    assert len({found.sha256 for found in PRODUCT.entries.values()}) == len(PRODUCT.entries)


def test_the_products_urls_name_a_commit_or_a_release() -> None:
    moving = [n for n, e in PRODUCT.entries.items() if not re.search(r"/[0-9a-f]{40}/|/releases/download/", e.url)]
    assert moving == ["fastestdet"], "the commit is not known, see docs/decisions/0005-catalogue.md"


@pytest.mark.parametrize("name", list(PRODUCT.entries))
def test_the_specification_that_is_written_says_the_same(name: str) -> None:
    text = specification(PRODUCT.entries[name])
    assert tomllib.loads(text) == dict(PRODUCT.entries[name].spec)
    assert PRODUCT.entries[name].licence in text.splitlines()[0]
    assert PRODUCT.entries[name].url in text


@pytest.mark.parametrize(
    "spec",
    [
        {"labels": ["ä", "\U0001f600", 'b"c\\', "\x7f", "a\nb\t\x00", "\u2028"]},
        {"mean": [1e-7, 1e16, 2], "tolerance": 0.5, "class_agnostic": True, "unclip_ratio": float("inf")},
        {"size": [64, 32], "labels": []},
    ],
)
def test_every_value_is_written_so_that_it_is_read_again(spec: dict[str, Any]) -> None:
    written = entry(spec={"family": "yunet"} | spec)
    assert tomllib.loads(specification(written)) == dict(written.spec)


@pytest.mark.parametrize("field", ["task", "source", "authors"])
@pytest.mark.parametrize("character", ["\n", "\r", "\x00", "\x1b", "\x7f", "\x9b"])
def test_a_comment_stays_on_its_line(field: str, character: str) -> None:
    with pytest.raises(ValidationError, match=f"{field}\n.*pattern"):
        entry(**{field: f"a{character}family = 1"})
    with pytest.raises(ValidationError, match=f"{field}\n.*pattern"):
        entry(**{field: f"a{character}"})
    assert entry(**{field: "Größe \U0001f600"})


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "AGPL-3.0-or-later", "CC-BY-NC-4.0", "", "apache"])
def test_another_licence_is_refused(tmp_path: Path, licence: str) -> None:
    file = write(tmp_path / "c.toml", some=FIELDS | {"licence": licence})
    with pytest.raises(CatalogueError, match=rf"c\.toml: some: licence: .*'Apache-2\.0', 'MIT'.*got '{licence}'"):
        Catalogue.load(file)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"url": "http://example.com/m.onnx"}, "some: url: expected an https URL, got 'http://example.com/m.onnx'$"),
        ({"sha256": "A" * 64}, "some: sha256: .* got 'AAAA"),
        ({"size_bytes": 0}, "some: size_bytes: expected more than 0, got 0"),
        ({"size_bytes": 3 << 30}, "some: size_bytes: expected at most"),
        ({"mirror": "x"}, "some: mirror: unknown key 'mirror'; expected one of"),
        ({"spec": {}}, "some: spec: expected at least a family"),
        ({"spec": {"family": "yolov99"}}, "some: spec: family: .*got 'yolov99'"),
        ({"spec": {"family": "yunet", "colour": "CMYK"}}, "some: spec: colour: "),
    ],
)
def test_a_wrong_entry_is_refused(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(CatalogueError, match=reason):
        Catalogue.load(write(tmp_path / "c.toml", some=FIELDS | fields))


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"none\.toml: cannot be read: No such file"):
        Catalogue.load(tmp_path / "none.toml")
    file = tmp_path / "c.toml"
    for text, reason in (("[", "not valid TOML"), ("x = 1", "x: expected a table, got 1"), ("[people]", "built-in")):
        file.write_text(text)
        with pytest.raises(CatalogueError, match=reason):
            Catalogue.load(file)
    with pytest.raises(CatalogueError, match="name: expected text that matches"):
        Catalogue.load(write(file, **{'"../x"': FIELDS}))


def test_the_folder_is_the_users_cache_unless_said_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFTERIMAGE_MODELS_DIR", raising=False)
    monkeypatch.setenv("AFTERIMAGE_CACHE_DIR", str(tmp_path))
    assert Catalogue.load().folder == tmp_path / "models"
    monkeypatch.setenv("AFTERIMAGE_MODELS_DIR", str(tmp_path / "m"))
    assert Catalogue.load().folder == tmp_path / "m"
    assert Catalogue.load(folder=tmp_path / "o").folder == tmp_path / "o"


def test_a_pulled_model_is_whole_and_has_its_specification(known: Catalogue, model: bytes) -> None:
    told: list[int] = []
    done = known.pull("small", on_progress=told.append, limits=QUICK)
    assert (done.downloaded, done.path.read_bytes(), told[-1]) == (True, model, len(model))
    assert pulled_files(known) == ["small.onnx", "small.toml"]
    spec = open_model(done.path).spec
    assert (spec.family, spec.min_confidence, spec.labels) == ("afterimage", 0.125, ("ä", 'b"c'))
    assert find_model("small") == done.path


def test_a_model_that_is_here_is_not_downloaded_again(known: Catalogue, served: Served) -> None:
    first = known.pull("small", limits=QUICK)
    first.spec.write_text('family = "raw"')
    assert not known.pull("small", limits=QUICK).downloaded
    assert first.spec.read_text() == 'family = "raw"', "what a person wrote there stays"
    first.spec.unlink()
    assert not known.pull("small", limits=QUICK).downloaded
    assert "afterimage" in first.spec.read_text()
    assert len(served.requests) == 1
    assert known.pull("small", force=True, limits=QUICK).downloaded
    assert len(served.requests) == 2


def test_a_spoilt_file_is_had_anew(known: Catalogue, model: bytes) -> None:
    path = known.pull("small", limits=QUICK).path
    path.write_bytes(b"x" * len(model))
    assert known.pull("small", limits=QUICK).downloaded
    assert path.read_bytes() == model


def test_a_file_of_another_size_does_not_count_as_pulled(known: Catalogue) -> None:
    known.pull("small", limits=QUICK).path.write_bytes(b"x")
    assert not known.is_pulled("small")
    with pytest.raises(NotPulled, match=r"^small is not in .*pulled yet$") as caught:
        find_model("small")
    assert caught.value.name == "small"


def test_a_wrong_file_never_gets_the_models_name(known: Catalogue, served: Served) -> None:
    served.body = served.body[:-1] + b"x"
    with pytest.raises(CatalogueError, match=r"^small: http.*expected SHA-256 .*, got "):
        known.pull("small", limits=QUICK)
    assert pulled_files(known) == []
    assert not known.is_pulled("small")


def test_a_failed_second_pull_leaves_the_first(known: Catalogue, served: Served, model: bytes) -> None:
    path = known.pull("small", limits=QUICK).path
    served.status = 404
    with pytest.raises(CatalogueError, match=r"small: .*404 Not Found"):
        known.pull("small", force=True, limits=QUICK)
    assert path.read_bytes() == model
    assert known.is_pulled("small")


def test_a_cut_pull_is_gone_on_from_unless_forced(known: Catalogue, served: Served) -> None:
    once = Limits(pause_s=0, attempts=1)
    for force in (False, True):
        served.cuts = [1000]
        with pytest.raises(CatalogueError, match=r"1000 of .* bytes are kept"):
            known.pull("small", force=True, limits=once)
        assert known.pull("small", force=force, limits=QUICK).downloaded
    assert [request["Range"] for request in served.requests] == [None, "bytes=1000-", None, None]


def test_two_pulls_at_once_download_it_once(known: Catalogue, served: Served, model: bytes) -> None:
    served.stall_s = 0.15
    done: list[bool] = []
    waited: list[int] = []

    def pull() -> None:
        done.append(known.pull("small", on_wait=lambda: waited.append(1), limits=QUICK).downloaded)

    threads = [threading.Thread(target=pull) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(done) == [False, False, True]
    assert len(waited) == 2
    assert len(served.requests) == 1
    assert known.path("small").read_bytes() == model


def test_an_existing_file_stands_for_itself(known: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(str(tmp_path / "small.onnx")) == tmp_path / "small.onnx"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").write_bytes(b"x")
    assert find_model("small") == Path("small"), "even if it is called as a model is"


def test_people_is_the_built_in_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.catalogue.resources.files", lambda package: tmp_path / package)
    with pytest.raises(CatalogueError, match=r"this installation has no built-in model: .*people\.onnx is missing"):
        find_model(BUILT_IN)
    path = tmp_path / "models" / "default" / "people.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert find_model(BUILT_IN) == path


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("yolox-nano", "yolox-nano is not in "),
        ("peple", "no model 'peple'; did you mean people?"),
        ("yolox_nano.onnx", "yolox_nano.onnx: No such file; did you mean yolox-nano"),
        ("some/where/yunet", "some/where/yunet: No such file; did you mean yunet?"),
        ("UltraFace", "no model 'UltraFace'; did you mean ultraface-rfb-640?"),
        ("zzz", "no model 'zzz'; the names are people, yolox-nano, "),
        ("", "no model ''; the names are people, "),
    ],
)
def test_a_reference_to_nothing_says_what_is_near(
    reference: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AFTERIMAGE_CATALOGUE", raising=False)
    monkeypatch.setenv("AFTERIMAGE_MODELS_DIR", str(tmp_path))
    with pytest.raises(CatalogueError) as caught:
        find_model(reference)
    assert str(caught.value).startswith(said)


def real(file: str) -> Path:
    path = DATA / file
    if not path.is_file():
        pytest.skip(f"needs {file} in ../shared/data/models")
    return path


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fastestdet", "FastestDet.onnx"),
        ("nanodet-m-320", "nanodet_m_320.onnx"),
        ("ultraface-rfb-640", "ultraface_version-RFB-640.onnx"),
    ],
)
def test_a_known_file_is_the_one_in_the_catalogue(name: str, file: str) -> None:
    body = real(file).read_bytes()
    assert (PRODUCT.entries[name].size_bytes, PRODUCT.entries[name].sha256) == (
        len(body),
        hashlib.sha256(body).hexdigest(),
    )


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file", "size"),
    [
        ("yolox-nano", "yolox_nano.onnx", (416, 416)),
        ("fastestdet", "FastestDet.onnx", (352, 352)),
        ("nanodet-m-320", "nanodet_m_320.onnx", (320, 320)),
        ("yunet", "yunet_n_640_640.onnx", (640, 640)),
        ("ultraface-rfb-640", "ultraface_version-RFB-640.onnx", (640, 480)),
        ("ppocrv3-det", "ppocrv3_det.onnx", (640, 384)),
    ],
)
def test_the_specification_beside_a_real_model_agrees_with_what_is_seen_in_it(
    name: str, file: str, size: Size, tmp_path: Path
) -> None:
    """The file itself, or another export of the same network."""
    path = shutil.copy(real(file), tmp_path / f"{name}.onnx")
    guessed = open_model(path)
    path.with_suffix(".toml").write_text(specification(PRODUCT.entries[name]))
    opened = open_model(path)
    assert opened.spec == guessed.spec
    assert (opened.family.name, opened.size) == (PRODUCT.entries[name].spec["family"], size)
    assert opened.outputs == guessed.outputs
