"""What can be said of the image without building it; `make image-test` builds and runs it (docs/image.md)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import assemble
import bill
import finish
import lock
import pytest
import readings
import trim
from first_start import FIRST_START_S, SLOW_START_S

from service import limits
from service.machine_memory import MemoryLimit
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
    if line.strip()
]
LAST = INSTRUCTIONS[max(i for i, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]
LOCKS = ("requirements.lock", "build.lock")


def of_last(name: str) -> list[str]:
    """Arguments of an instruction in the last stage."""
    return [rest for found, rest in LAST if found == name]


def installs() -> Iterator[str]:
    """Commands that install packages, in the Dockerfile and its scripts."""
    for path in [ROOT / "docker/Dockerfile", *(ROOT / "docker/image").glob("*.sh")]:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        yield from (line for line in text.splitlines() if re.search(r"-m pip (install|download|wheel)", line))


def test_the_last_stage_has_nothing_but_what_was_put_together() -> None:
    assert of_last("FROM") == ["scratch"]
    assert of_last("COPY") == ["--from=finished /root-of-image /"]
    assert not of_last("RUN")


def test_it_runs_as_nobody_in_particular_with_one_volume() -> None:
    assert of_last("USER") == [f"{assemble.OWNER}:{assemble.OWNER}"]
    assert of_last("VOLUME") == of_last("WORKDIR") == [f"/{assemble.HOME}"]
    environment = of_last("ENV")[0]
    for name in ("CACHE_DIR", "MODELS_DIR", "STATE_FOLDER", "KEYS_FILE"):
        assert re.search(rf"AFTERIMAGE_{name}=/{assemble.HOME}/\w+", environment), name


def test_what_is_run_needs_no_shell() -> None:
    health = of_last("HEALTHCHECK")[0].partition(" CMD ")[2]
    assert json.loads(health) == ["python", "-m", "service.probe"]
    assert json.loads(of_last("ENTRYPOINT")[0]) == ["afterimage"]
    assert json.loads(of_last("CMD")[0]) == ["serve"]


def test_a_first_start_on_a_slow_board_is_waited_for() -> None:
    minutes = int(re.search(r"--start-period=(\d+)m ", of_last("HEALTHCHECK")[0])[1])
    assert minutes * 60 >= SLOW_START_S
    said = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    assert f"waits {minutes} minutes" in said
    told = re.search(r"(\d+) minutes on a Pi 5, (\d+) on a Pi 4, (\d+) on a Jetson Nano", said).groups()
    estimated = [FIRST_START_S[board] / 60 for board in ("Raspberry Pi 5", "Raspberry Pi 4", "Jetson Nano")]
    assert [int(text) for text in told] == pytest.approx(estimated, rel=0.1)


def test_nothing_is_fetched_that_is_not_checked() -> None:
    assert "ADD" not in {name for name, _ in INSTRUCTIONS}
    assert not re.search(r"\b(curl|wget)\b", DOCKERFILE)
    found = list(installs())
    assert len(found) == 7
    own = [line for line in found if "--require-hashes" not in line]
    assert len(own) == 3  # the product, OpenCV unpacked from what was checked, wheels that were made here
    assert all(any(what in line for what in ("/source", '"$1" "$source"', '"${@:2}"')) for line in own)


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_has_a_version_and_a_hash(name: str) -> None:
    text = (ROOT / "docker" / name).read_text(encoding="utf-8")
    found = lock.blocks(text)
    assert len(found) > 30
    assert all("--hash=sha256:" in block for block in found.values())
    assert "://" not in text


def test_the_image_has_what_the_tests_ran_with() -> None:
    assert (ROOT / "docker/requirements.lock").read_text(encoding="utf-8") == lock.service_lock()


def test_tools_that_are_also_dependencies_have_one_version() -> None:
    tools = lock.blocks((ROOT / "docker/build.lock").read_text(encoding="utf-8"))
    known = lock.blocks((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    both = tools.keys() & known.keys()
    assert {"numpy", "setuptools"} <= both
    assert all(tools[name].split()[0] == known[name].split()[0] for name in both)


def test_what_no_server_reads_is_taken_out(tmp_path: Path) -> None:
    kept = [tmp_path / "numpy/core.py", tmp_path / "service/page/app.js", tmp_path / "pygments/lexers/python.py"]
    gone = [tmp_path / "numpy/tests/test_core.py", tmp_path / "numpy/a.h", tmp_path / "pygments/lexers/ada.py"]
    for path in kept + gone:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    trim.remove(tmp_path)
    assert [path for path in kept + gone if path.exists()] == kept


def test_modules_are_imported_compiled_from_an_archive(tmp_path: Path) -> None:
    package, single = tmp_path / "bare_package", tmp_path / "bare_single.py"
    package.mkdir()
    (package / "__init__.py").write_text("from bare_single import answer\n")
    (tmp_path / "space/within").mkdir(parents=True)
    (tmp_path / "space/within/part.py").write_text("from bare_single import answer\n")
    single.write_text("def answer():\n    return 42\n")
    archive = tmp_path / "bare.zip"
    finish.zip_modules([package, single, tmp_path / "space"], archive, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bare.zip"]
    modules = {"bare_package/__init__.pyc", "bare_single.pyc", "space/within/part.pyc"}
    assert set(ZipFile(archive).namelist()) == modules | {"space/", "space/within/"}
    told = "it.answer(), it.answer.__code__.co_filename.endswith('bare_single.py')"
    code = f"import bare_package, space.within.part as it; print({told})"
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(archive)}, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["42", "True"]


def test_a_package_with_more_than_modules_stays_on_disk(tmp_path: Path) -> None:
    (tmp_path / "module.py").touch()
    assert finish.is_bare(tmp_path)
    (tmp_path / "data.pem").touch()
    assert not finish.is_bare(tmp_path)


def test_the_bill_has_the_product_python_and_debians_packages(tmp_path: Path) -> None:
    status = tmp_path / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    (status / "libc6").write_text("Package: libc6\nStatus: install ok installed\nVersion: 1:2.36-9+deb12u1\n")
    (tmp_path / "opt/afterimage").mkdir(parents=True)
    (tmp_path / "opt/afterimage/pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.9\n")
    parts = [{"name": "afterimage", "type": "library"}, {"name": "numba", "type": "library"}]
    made = bill.complete({"metadata": {}, "components": parts}, tmp_path, "arm64")
    assert made["metadata"]["component"]["name"] == "afterimage"
    assert [item["name"] for item in made["components"]] == ["numba", "python", "libc6"]
    assert made["components"][2]["purl"] == "pkg:deb/debian/libc6@1%3A2.36-9%2Bdeb12u1?arch=arm64&distro=bookworm"


@pytest.mark.parametrize("spelt", ["opencv_python_headless", "OpenCV.Python-headless"])
def test_a_bill_spells_packages_as_all_do(spelt: str) -> None:
    assert bill.normal(spelt) == "opencv-python-headless"


def test_a_bill_without_the_product_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected afterimage"):
        bill.complete({"metadata": {}, "components": [{"name": "numba"}]}, tmp_path, "amd64")


@pytest.mark.parametrize(
    ("groups", "file"),
    [
        ("9:name=systemd:/\n4:memory:/a/one\n1:cpu:/a/one\n0::/\n", "memory/a/one/memory.max_usage_in_bytes"),
        ("5:cpu,memory:/one\n", "memory/one/memory.max_usage_in_bytes"),
        ("0::/a/one\n", "a/one/memory.peak"),
    ],
    ids=["both versions, memory by the first", "controllers together", "the second version"],
)
def test_the_most_memory_of_a_group_is_read_of_both_versions(groups: str, file: str, tmp_path: Path) -> None:
    assert readings.peak_bytes(groups, tmp_path) is None, "a kernel that does not tell it"
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("470810624\n")
    assert readings.peak_bytes(groups, tmp_path) == 470810624


def test_no_group_has_no_most_memory(tmp_path: Path) -> None:
    assert readings.peak_bytes("1:cpu:/one\n", tmp_path) is None


def test_the_image_test_reads_what_a_server_logs_of_its_limits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def logged(memory: MemoryLimit | None) -> str:
        monkeypatch.setattr("service.limits.memory_limit", lambda: memory)
        caplog.clear()
        with caplog.at_level("INFO", logger="afterimage.limits"):
            limits.Watch(Settings()).begin()
        return caplog.messages[0]

    line = logged(MemoryLimit(512 << 20, "memory.max of the control group /one"))
    assert readings.told_limit_mib(line) == 512
    assert readings.told_limit_mib("started\n" + line.replace(" MiB", "\n      MiB") + "\nready") == 512
    assert readings.told_limit_mib(logged(MemoryLimit(512 << 20, "of the machine"))) is None
    assert readings.told_limit_mib(logged(None)) is None
