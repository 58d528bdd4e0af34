"""Energy that the machine took, where it tells: never a guess.

Looked for in this order: the packages of powercap (RAPL of Intel and AMD, one counter for each socket), then the sensor
on a board's supply (INA3221 on Jetson boards, whose power is added up over time). What lies inside a package (cores,
graphics) is part of its counter and not added again; memory and the rest of the machine are in no package. Reads files
under /sys alone, and knows no metrics.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

log = logging.getLogger("afterimage.energy")

SUPPLIES = ("VDD_IN", "POM_5V_IN")
"""Labels of the one channel that everything on a board hangs on; the others are parts of it."""

Unknown: TypeAlias = Literal["unknown"]


class _Source(Protocol):
    name: str

    def joules(self) -> float:
        """Since it was made. Raises OSError or ValueError where a file cannot be read."""


class _NotThere(Exception):
    """This machine has no such sensor, or does not let us read it; the message says which."""


def _number(path: Path) -> int:
    return int(path.read_text("ascii").strip())


@dataclass
class _Package:
    """One counter that goes round. span_uj : what it counts to before it is at 0 again."""

    path: Path
    span_uj: int
    last_uj: int
    total_uj: int = 0

    def joules(self) -> float:
        now = _number(self.path)
        self.total_uj += now - self.last_uj if now >= self.last_uj else now + self.span_uj - self.last_uj
        self.last_uj = now
        return self.total_uj / 1e6


class _Powercap:
    """The package domains under /sys/class/powercap. Raises _NotThere where there is none, or one cannot be read."""

    name = "rapl"

    def __init__(self, root: Path) -> None:
        self._packages = []
        for domain in sorted((root / "class/powercap").glob("intel-rapl:*")):
            if domain.name.count(":") != 1 or not _text(domain / "name").startswith("package-"):
                continue  # a part of a package, or (psys) all of them once more
            try:
                counter = domain / "energy_uj"
                self._packages.append(_Package(counter, _number(domain / "max_energy_range_uj"), _number(counter)))
            except (OSError, ValueError) as error:
                raise _NotThere(f"{counter}: {_said(error)}") from error
        if not self._packages:
            raise _NotThere("no package domain in /sys/class/powercap")

    def joules(self) -> float:
        return sum(package.joules() for package in self._packages)


class _Supply:
    """The supply of a board, by an INA3221 under /sys/class/hwmon: volts times amperes, added up by the trapezoid rule.

    Raises _NotThere where there is none.
    """

    name = "ina3221"

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._volts, self._amperes = self._find(root)
        self._total = 0.0
        try:
            self._watts, self._read_s = self._power(), clock()
        except (OSError, ValueError) as error:
            raise _NotThere(f"{self._volts.parent}: {_said(error)}") from error

    def joules(self) -> float:
        watts, now = self._power(), self._clock()
        self._total += (watts + self._watts) / 2 * (now - self._read_s)
        self._watts, self._read_s = watts, now
        return self._total

    @staticmethod
    def _find(root: Path) -> tuple[Path, Path]:
        for monitor in sorted((root / "class/hwmon").glob("hwmon*")):
            if _text(monitor / "name") != "ina3221":
                continue
            for label in sorted(monitor.glob("in*_label")):
                if _text(label) in SUPPLIES:
                    channel = label.name.removeprefix("in").removesuffix("_label")
                    return monitor / f"in{channel}_input", monitor / f"curr{channel}_input"
        raise _NotThere("no board supply in /sys/class/hwmon")

    def _power(self) -> float:
        return _number(self._volts) * _number(self._amperes) / 1e6  # mV times mA


class Meter:
    """The energy of this machine's packages, or of its board, since the meter was made. Thread-safe.

    root : of the sysfs tree. clock : seconds, never back.

    A counter goes round in some minutes at full load, and power is only known when it is asked for: `read` must be
    called every few seconds.
    """

    def __init__(self, root: Path = Path("/sys"), clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._source: _Source | None = None
        reasons = []
        for open_source in (lambda: _Powercap(root), lambda: _Supply(root, clock)):
            try:
                self._source = open_source()
                return
            except _NotThere as reason:
                reasons.append(str(reason))
        log.info("energy: unknown (%s)", "; ".join(reasons))

    @property
    def known(self) -> bool:
        """Whether there is anything to read."""
        return self._source is not None

    @property
    def source(self) -> str:
        """Where figures come from: "rapl", "ina3221", or "unknown"."""
        source = self._source
        return "unknown" if source is None else source.name

    def read(self) -> float | None:
        """Joules since the meter was made; None where the machine does not tell, for good once a reading fails."""
        with self._lock:
            if self._source is None:
                return None
            try:
                return self._source.joules()
            except (OSError, ValueError) as error:
                log.warning("energy: unknown from now on (%s)", _said(error))
                self._source = None
                return None

    def describe(self) -> dict[str, float | str] | Unknown:
        """For people: joules and where they come from, or "unknown"."""
        source, joules = self.source, self.read()
        return "unknown" if joules is None else {"joules": round(joules, 3), "source": source}


def _text(path: Path) -> str:
    """A short file's text; nothing where it cannot be read."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _said(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
