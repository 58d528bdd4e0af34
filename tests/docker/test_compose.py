"""What `docker compose up` would start: valid, confined, every variable in the example, nothing asked outside."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from cameras import rtsp_server, until
from compose_file import EXAMPLE, FILE, FOLDER, VARIABLE, compose, example, fill
from service_fakes import FakeEngine, make_registry, running_server

from service import configuration
from service.settings import Settings

ALL = ("monitoring", "camera")
SERVICES = {"afterimage", "prometheus", "grafana", "camera"}
SETTINGS_PREFIX = "AFTERIMAGE_"


def checker() -> Path:
    found = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("check-jsonschema is not installed")
    return Path(found)


def check(file: Path) -> subprocess.CompletedProcess[str]:
    """Against the schema of the Compose specification that the checker brings with it."""
    command = [checker(), "--builtin-schema", "vendor.compose-spec", file]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_it_is_what_compose_specifies_and_a_typo_is_not(tmp_path: Path) -> None:
    checked = check(FILE)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    typo = tmp_path / "compose.yaml"
    typo.write_text(FILE.read_text().replace("pids_limit", "pid_limit"))
    checked = check(typo)
    assert checked.returncode != 0
    assert "pid_limit" in checked.stdout


@pytest.mark.parametrize(
    ("profiles", "started"),
    [
        ((), {"afterimage"}),
        (("monitoring",), {"afterimage", "prometheus", "grafana"}),
        (("camera",), {"afterimage", "camera"}),
        (ALL, SERVICES),
    ],
)
def test_profiles_start_what_they_say(profiles: tuple[str, ...], started: set[str]) -> None:
    assert set(compose({}, profiles)["services"]) == started


def test_every_variable_is_in_the_example_and_the_other_way_round() -> None:
    used = {found["name"] for found in VARIABLE.finditer(FILE.read_text())}
    shown = example()
    assert len(used) > 15
    assert used == set(shown) - {"COMPOSE_PROFILES"}
    assert shown["COMPOSE_PROFILES"] == ""


def test_the_example_says_what_holds_without_it() -> None:
    assert compose(example(), ALL) == compose({}, ALL)
    assert compose({**example(), "PUBLISH": "127.0.0.1:9000"}, ALL) != compose({}, ALL)


def test_every_variable_has_a_comment() -> None:
    for block in EXAMPLE.read_text().split("\n\n"):
        first, *_ = block.splitlines()
        assert re.match(r"# \S", first), block


def test_nothing_is_required_of_who_starts_the_service_alone() -> None:
    """Compose fills in the variables of all services, also of those in profiles that nobody asked for."""
    assert ":?" not in FILE.read_text()
    with pytest.raises(ValueError, match="say it"):
        fill("${MISSING:?say it}", {})


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_is_confined(name: str) -> None:
    service = compose({}, ALL)["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] and service["mem_limit"] and service["cpus"] is not None  # noqa: PT018
    assert service["memswap_limit"] == service["mem_limit"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)
    for mount in service["volumes"]:
        assert isinstance(mount, str) or mount["read_only"], mount
        assert "docker.sock" not in str(mount)


def test_nobody_is_root() -> None:
    services = compose({}, ALL)["services"]
    assert "user" not in services.pop("afterimage"), "its image says so"
    assert all(re.match(r"[1-9]\d*:", service["user"]) for service in services.values())


def test_ports_are_published_on_loopback() -> None:
    services = compose({}, ALL)["services"]
    published = {name: service.get("ports", []) for name, service in services.items()}
    assert published == {
        "afterimage": ["127.0.0.1:8000:8000"], "grafana": ["127.0.0.1:3000:3000"], "prometheus": [], "camera": [],
    }  # fmt: skip
    elsewhere = compose({"PUBLISH": "192.0.2.1:80"})["services"]["afterimage"]
    assert elsewhere["ports"] == ["192.0.2.1:80:8000"]


def test_prometheus_and_the_camera_reach_nothing_outside() -> None:
    whole = compose({}, ALL)
    assert whole["networks"]["watch"]["internal"] is True
    for name in ("prometheus", "camera"):
        assert whole["services"][name]["networks"] == ["watch"]


def test_images_are_pinned_and_can_be_pinned_harder() -> None:
    services = compose({}, ALL)["services"]
    for name in ("prometheus", "grafana", "camera"):
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+(-ffmpeg)?", services[name]["image"])
    digest = f"some/image:v1@sha256:{'0' * 64}"
    variables = {"IMAGE": digest, "PROMETHEUS_IMAGE": digest, "GRAFANA_IMAGE": digest, "CAMERA_IMAGE": digest}
    assert {service["image"] for service in compose(variables, ALL)["services"].values()} == {digest}


def test_grafana_asks_and_tells_nobody() -> None:
    grafana = compose({}, ALL)["services"]["grafana"]["environment"]
    for name in ("REPORTING_ENABLED", "CHECK_FOR_UPDATES", "CHECK_FOR_PLUGIN_UPDATES"):
        assert grafana[f"GF_ANALYTICS_{name}"] == "false"
    assert grafana["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert not any("PASSWORD" in name and not name.endswith("__FILE") for name in grafana), "a password is in a file"


def test_what_is_mounted_is_there() -> None:
    whole = compose({}, ALL)
    binds = [mount for service in whole["services"].values() for mount in service["volumes"] if isinstance(mount, dict)]
    assert len(binds) == 6
    for mount in binds:
        if mount["target"] == "/clip.mp4":
            assert mount["bind"] == {"create_host_path": False}
        else:
            assert (FOLDER / mount["source"]).exists(), mount
    ignored = (FOLDER.parent / ".gitignore").read_text().splitlines()
    assert {"docker/.env", "docker/secrets/"} <= set(ignored), "what is secret is committed by nobody"


def test_prometheus_finds_its_key() -> None:
    whole = compose({}, ALL)
    (job,) = yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    (name,) = whole["services"]["prometheus"]["secrets"]
    assert name in whole["secrets"]
    assert job["authorization"] == {"credentials_file": f"/run/secrets/{name}"}
    grafana = whole["services"]["grafana"]
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"/run/secrets/{grafana['secrets'][0]}"


def test_the_service_takes_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = compose({**example(), "AFTERIMAGE_TRUSTED_PROXIES": '["172.30.94.1"]'})["services"]["afterimage"]
    assert all(name.startswith(SETTINGS_PREFIX) for name in service["environment"])
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    settings = configuration.load({"host": "0.0.0.0"}).settings
    assert settings.keys_file == Path("/data/keys")
    assert settings.trusted_proxies == ("172.30.94.1",)
    assert settings.log_format == "json"
    assert settings == Settings(
        host="0.0.0.0", keys_file=Path("/data/keys"), trusted_proxies=("172.30.94.1",), log_format="json"
    )


def test_a_drain_ends_before_compose_loses_patience() -> None:
    service = compose({})["services"]["afterimage"]
    grace_s = int(service["stop_grace_period"].removesuffix("s"))
    assert grace_s >= 2 * Settings().drain_s + 5


def test_the_cameras_settings_are_settings() -> None:
    settings = configuration.check(FOLDER / "camera/afterimage.yaml")
    address = settings.sources["camera"].url.get_secret_value()
    server = yaml.safe_load((FOLDER / "camera/mediamtx.yml").read_text())
    assert address == f"rtsp://camera{server['rtspAddress']}/{next(iter(server['paths']))}"
    mounts = compose({})["services"]["afterimage"]["volumes"]
    assert any(isinstance(one, dict) and one["target"] == "/etc/afterimage/camera.yaml" for one in mounts)


def test_the_cameras_settings_have_a_camera_watched(tmp_path: Path, engine: FakeEngine) -> None:
    """The same file with a real RTSP server in the place of the container."""
    with rtsp_server() as camera:
        text = (FOLDER / "camera/afterimage.yaml").read_text()
        assert "camera:8554" in text
        file = tmp_path / "camera.yaml"
        file.write_text(text.replace("camera:8554", f"viewer:secret@127.0.0.1:{camera.port}"))
        settings = configuration.load({"host": "127.0.0.1", "port": 0}, file=file).settings
        with running_server(make_registry(engine.model()), settings) as server:
            until(lambda: httpx.get(f"{server.url}/v1/streams/camera").json()["frames"]["results"] >= 3)
            assert httpx.get(f"{server.url}/v1/streams/camera").json()["source"]["state"] == "live"
