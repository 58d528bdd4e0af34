"""Energy from sysfs trees made here: counters that go round, boards, and machines that do not tell."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from service.energy import Meter


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def domain(root: Path, name: str, label: str, energy_uj: int, span_uj: int = 1_000_000) -> Path:
    return write(root / "class/powercap" / name, name=label, energy_uj=energy_uj, max_energy_range_uj=span_uj)


def board(root: Path, **files: object) -> Path:
    write(root / "class/hwmon/hwmon0", name="coretemp", in1_label="VDD_IN", in1_input=1, curr1_input=1)
    return write(root / "class/hwmon/hwmon3", name="ina3221", **files)


def test_a_counter_goes_round(tmp_path: Path) -> None:
    counter = domain(tmp_path, "intel-rapl:0", "package-0", 999_000) / "energy_uj"
    meter = Meter(tmp_path)
    assert (meter.known, meter.source) == (True, "rapl")
    assert meter.read() == 0, "what the machine took before is not ours to count"
    for value, joules in ((999_900, 0.0009), (100, 0.0011), (100, 0.0011), (500_100, 0.5011), (50, 1.00105)):
        counter.write_text(f"{value}\n")
        assert meter.read() == pytest.approx(joules)
    assert meter.describe() == {"joules": 1.001, "source": "rapl"}


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    packages = [domain(tmp_path, f"intel-rapl:{n}", f"package-{n}", 0) for n in range(2)]
    others = [
        domain(tmp_path, "intel-rapl:0:0", "core", 0),
        domain(tmp_path, "intel-rapl:0:1", "package-7", 0),
        domain(tmp_path, "intel-rapl:2", "psys", 0),
        domain(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    ]
    meter = Meter(tmp_path)
    for folder in others:
        (folder / "energy_uj").write_text("900000")
    assert meter.read() == 0
    for folder in packages:
        (folder / "energy_uj").write_text("2000")
    assert meter.read() == pytest.approx(0.004)


def test_a_boards_power_is_added_up_over_time(tmp_path: Path) -> None:
    supply = {"in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 1000}
    folder = board(tmp_path, **supply, in2_label="VDD_CPU", in2_input=5000, curr2_input=900)
    now = 10.0
    meter = Meter(tmp_path, lambda: now)
    assert meter.source == "ina3221"
    now = 12.0
    assert meter.read() == pytest.approx(10)
    (folder / "curr1_input").write_text("3000")
    now = 13.0
    assert meter.read() == pytest.approx(20), "half of the second at 5 W, half at 15 W"
    assert meter.describe() == {"joules": 20, "source": "ina3221"}


def test_a_board_whose_supply_is_not_measured_is_unknown(tmp_path: Path) -> None:
    board(tmp_path, in1_label="VDD_GPU_SOC", in1_input=5000, curr1_input=1000)
    assert Meter(tmp_path).source == "unknown"


def test_nothing_there_is_unknown_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "afterimage.energy")
    meter = Meter(tmp_path)
    assert [meter.read() for _ in range(3)] == [None] * 3
    assert (meter.known, meter.source, meter.describe()) == (False, "unknown", "unknown")
    (record,) = caplog.records
    assert "no package domain" in record.getMessage()
    assert "no board supply" in record.getMessage()


def test_a_counter_for_root_alone_is_unknown_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "afterimage.energy")
    counter = domain(tmp_path, "intel-rapl:0", "package-0", 5) / "energy_uj"
    read = Path.read_text

    def refuse(self: Path, *args: str) -> str:  # the tests may run as root, whom no mode of a file stops
        if self == counter:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *args)

    monkeypatch.setattr(Path, "read_text", refuse)
    meter = Meter(tmp_path)
    assert [meter.read() for _ in range(3)] == [None] * 3
    (record,) = caplog.records
    assert f"{counter}: Permission denied" in record.getMessage()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("nonsense")])
def test_a_counter_that_breaks_is_unknown_from_then_on(
    tmp_path: Path, damage, caplog: pytest.LogCaptureFixture
) -> None:
    counter = domain(tmp_path, "intel-rapl:0", "package-0", 5) / "energy_uj"
    meter = Meter(tmp_path)
    assert meter.read() == 0
    damage(counter)
    assert [meter.read(), meter.read()] == [None, None]
    assert len(caplog.records) == 1
    assert meter.describe() == "unknown"


def test_one_package_of_two_that_cannot_be_read_is_no_half_of_the_truth(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 5)
    (domain(tmp_path, "intel-rapl:1", "package-1", 5) / "max_energy_range_uj").unlink()
    assert not Meter(tmp_path).known
