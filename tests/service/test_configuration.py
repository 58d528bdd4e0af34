"""Sources of settings: who wins, who said it, and that everything wrong is told with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service import configuration
from service.configuration import MAX_FILE_BYTES, OTHER_VARIABLES, ConfigurationError, check, load
from service.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a file of settings, and no variables of ours."""
    for name in [name for name in configuration.os.environ if name.startswith("AFTERIMAGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "afterimage.yaml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def wrong(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        check(write(text))
    return caught.value.lines


def test_options_over_environment_over_file_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    write("port: 1001\nwindow: 3\nworkers: 1\nmax_streams: 5\n")
    monkeypatch.setenv("AFTERIMAGE_WINDOW", "4")
    monkeypatch.setenv("AFTERIMAGE_WORKERS", "2")
    monkeypatch.setenv("AFTERIMAGE_MAX_STREAMS", "6")
    found = load({"workers": 3, "host": None}, pairs=("max_streams=7",))
    settings = found.settings
    assert (settings.port, settings.window, settings.workers, settings.max_streams) == (1001, 4, 3, 7)
    origins = [found.origin(key) for key in ("port", "window", "workers", "max_streams", "host", "exact")]
    assert origins == ["afterimage.yaml:1", "AFTERIMAGE_WINDOW", "--workers", "--set max_streams", "default", "default"]
    assert found.file == Path("afterimage.yaml")


def test_which_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (load().settings.port, load().file) == (8000, None)
    write("port: 1")
    assert load().settings.port == 1
    monkeypatch.setenv("AFTERIMAGE_CONFIG", str(write("port: 2", "named.yaml")))
    assert load().settings.port == 2
    assert load(file=write("port: 3", "option.yaml")).settings.port == 3
    monkeypatch.setenv("AFTERIMAGE_CONFIG", "gone.yaml")
    with pytest.raises(ConfigurationError, match=r"^gone\.yaml: cannot be read: No such file"):
        load()


def test_maps_and_lists_in_natural_form_and_whole() -> None:
    text = "models:\n  door: {path: a.onnx, size: [640, 384]}\n  gate:\n    path: b.onnx\nallowed_origins:\n- https://c.d\n"
    path = write(text)
    settings = check(path)
    assert settings.models["door"].size == (640, 384)
    assert settings.allowed_origins == ("https://c.d",)
    found = load(pairs=("models={yard: {path: c.onnx}}",))
    assert list(found.settings.models) == ["yard"], "a map is not mixed with one of a weaker source"


def test_every_wrong_thing_is_told_with_its_line() -> None:
    lines = wrong(
        "# ours\nport: 70000\nprot: 1\nmodels:\n  door:\n    pth: x\n    path: y\n    size:\n    - 4\n    - 384\n"
        "allowed_origins: [cam]\nport: 5\n"
    )
    assert sorted(lines) == sorted([
        "afterimage.yaml:12: 'port' stands here a second time",
        "afterimage.yaml:3: unknown setting 'prot'; did you mean 'port'?",
        "afterimage.yaml:6: models.door.pth: unknown key 'pth'; did you mean 'path'?",
        "afterimage.yaml:9: models.door.size.0: expected at least 8, got 4",
        "afterimage.yaml:11: allowed_origins: expected an origin such as \"https://cam.example:8443\", got 'cam'",
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: [1", r"^afterimage\.yaml:1: not YAML: "),
        ("a: b: c", r"^afterimage\.yaml:1: not YAML: mapping values are not allowed"),
        ("- port", r"^afterimage\.yaml:1: expected settings such as \"port: 9000\", got a list"),
        ("port", r"got a str$"),
        ("port: 1\n---\nport: 2\n", "not YAML: but found another document"),
        ("port: !!python/object:os.system {}", "not YAML: could not determine a constructor"),
        ("[" * 20_000, "not YAML: "),
        ("1: 2", "unknown setting '1'"),
        ("port:", r"^afterimage\.yaml:1: port: expected a whole number, got None"),
    ],
)
def test_files_that_are_none(text: str, said: str) -> None:
    assert re.search(said, "\n".join(wrong(text)))


def test_bytes_that_are_no_text_and_files_that_are_too_large(elsewhere: Path) -> None:
    path = elsewhere / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not YAML"):
        check(path)
    path.write_text("#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigurationError, match=f"expected at most {MAX_FILE_BYTES} bytes"):
        check(path)


def test_an_empty_file_and_references() -> None:
    assert check(write("")).port == 8000
    settings = check(write("models:\n  a: &a {path: x}\n  b: *a\n"))
    assert settings.models["a"] == settings.models["b"]


def test_a_file_is_checked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_PORT", "x")
    monkeypatch.setenv("AFTERIMAGE_MODELS", "{")
    assert check(write("window: 3")).window == 3


def test_wrong_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PROT": "1", "MODELS": "{", "WINDOW": "x", "ZQXJ": "1", "CACHE_DIRS": "/x"}.items():
        monkeypatch.setenv(f"AFTERIMAGE_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert sorted(caught.value.lines) == [
        "AFTERIMAGE_CACHE_DIRS: no setting has this name; did you mean AFTERIMAGE_CACHE_DIR?",
        "AFTERIMAGE_MODELS: expected JSON, got '{'",
        "AFTERIMAGE_PROT: no setting has this name; did you mean AFTERIMAGE_PORT?",
        "AFTERIMAGE_WINDOW: window: expected a whole number, got 'x'",
        "AFTERIMAGE_ZQXJ: no setting has this name; `afterimage config show --format env` lists them",
    ]


def test_variables_that_kubernetes_sets_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service called afterimage puts these into every pod beside it."""
    links = {"SERVICE_HOST": "10.0.0.9", "SERVICE_PORT": "80", "SERVICE_PORT_HTTP": "80", "PORT": "tcp://10.0.0.9:80"}
    links |= {"PORT_80_TCP": "tcp://10.0.0.9:80", "PORT_80_TCP_ADDR": "10.0.0.9", "PORT_80_TCP_PROTO": "tcp"}
    for name, value in links.items():
        monkeypatch.setenv(f"AFTERIMAGE_{name}", value)
        monkeypatch.setenv(f"AFTERIMAGE_METRICS_{name}", value)
    assert load().settings.port == 8000


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("port", "--set port: expected key=value"),
        ("prot=1", "--set prot: unknown setting 'prot'; did you mean 'port'?"),
        ("port=x", "--set port: port: expected a whole number, got 'x'"),
        ("models={", "--set models: not YAML: "),
    ],
)
def test_wrong_pairs(pair: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(pairs=(pair,))
    assert caught.value.lines[0].startswith(said)


def test_what_two_settings_say_together_is_checked_too() -> None:
    assert wrong("models: {a: {path: x}}\ndefault_model: b") == [
        "afterimage.yaml:1: default_model: expected one of a, got 'b'"
    ]


def test_every_variable_that_the_code_reads_is_known() -> None:
    """Or a user of it would be told that it does not exist."""
    known = {f"AFTERIMAGE_{key}".upper() for key in Settings.model_fields} | set(OTHER_VARIABLES)
    for folder in ("kernels", "cache", "service", "clients", "models", "tests/emulated", "tests/support"):
        for path in (ROOT / folder).rglob("*.py"):
            named = set(re.findall(r"AFTERIMAGE_[A-Z][A-Z0-9_]*", path.read_text(encoding="utf-8")))
            assert named - known - {"AFTERIMAGE_NAME"} == set(), path


def test_cameras_are_checked_and_their_passwords_are_never_told(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    path = elsewhere / "cameras.yaml"
    path.write_text("sources:\n  door:\n    url: rtsp://a:geheim@cam/x\n")
    assert check(path).sources["door"].url.get_secret_value() == "rtsp://a:geheim@cam/x"
    for text, said in (
        ("door:\n    url: rtsp://a:geheim@cam:99999/x", "cameras.yaml:3: sources.door.url: expected an address"),
        ("door:\n    ulr: rtsp://a:geheim@cam", "did you mean 'url'?"),
        ("door: rtsp://a:geheim@cam", "cameras.yaml:2: sources.door: expected names with values"),
        ("[rtsp://a:geheim@cam]", "expected names with values"),
        ("door:\n    url: [rtsp://a:geheim@cam]", "sources.door.url: expected text"),
    ):
        path.write_text(f"sources:\n  {text}\n")
        with pytest.raises(ConfigurationError) as raised:
            check(path)
        assert said in str(raised.value)
        assert "geheim" not in str(raised.value)
    monkeypatch.setenv("AFTERIMAGE_SOURCES", "rtsp://a:geheim@cam/x")
    with pytest.raises(ConfigurationError) as raised:
        load()
    assert "geheim" not in str(raised.value)
