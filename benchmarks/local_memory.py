"""Cache misses before and after: `python -m benchmarks.local_memory [--doc FILE]`.

Each case is the same work done in several ways (`benchmarks.local_memory_cases`): in one process natively, in turn, for
the times; in another one under valgrind's callgrind, whose caches are cachegrind's: L1 and L2 of this machine or of
one that is named (`--l1 32768,8,64 --l2 524288,8,64`), least recently used out first, no prefetching. Kernels are those
for AVX2 and FMA, which valgrind knows, compiled before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

from benchmarks.halo import HEAD, summary
from benchmarks.local_memory_cases import COUNTED, STREAMS, plan_of
from cache.policy import Policy
from kernels.target import VARIANT
from service.bench.document import replaced
from service.bench.machine import machine
from service.bench.synthetic import NETWORKS
from service.catalogue import find_model

LINE_BYTES = 64
HASWELL = (
    "64bit,avx,avx2,bmi,bmi2,cmov,cx16,f16c,fma,fxsr,lzcnt,mmx,movbe,popcnt,sse,sse2,sse3,sse4.1,sse4.2,ssse3"
)  # fmt: skip
BLAS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Haswell"}
"""One thread, and no more than AVX2: natively too, as valgrind knows no more."""
YOLOX = Path(__file__).parents[2] / "shared" / "data" / "models" / "yolox_nano.onnx"
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
LAYERS = ("56x56x128x128x3", "28x28x256x256x1")
"""Rows, columns, input and output channels, kernel."""
TOO_LONG = frozenset({("bands", "VGG-16 224x224")})
"""Cases that callgrind would take hours for: a halo is modelled for them, and nothing counted."""


@dataclass(frozen=True)
class Figure:
    """One way of a case, for one frame or call.

    l1, l2 : misses of data, of reads and writes. ms : of a core, natively, median.
    """

    case: str
    subject: str
    way: str
    instructions: int
    l1: int
    l2: int
    ms: float


def pinned_cpu() -> dict[str, str]:
    """Variables that have kernels compiled for one CPU, whatever valgrind says that it is.

    This one where it has AVX2 and no AVX-512, so that what is compiled is found; else one that has no more.
    """
    if VARIANT == "avx2":
        return {"NUMBA_CPU_NAME": get_host_cpu_name(), "NUMBA_CPU_FEATURES": get_host_cpu_features().flatten()}
    return {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in HASWELL.split(","))}


def cache_option(level: int) -> str:
    """Size, ways and line of a data cache of this machine, as valgrind takes them."""
    for folder in sorted(CACHES.glob("index*")):
        kind, at = ((folder / name).read_text().strip() for name in ("type", "level"))
        if kind in ("Data", "Unified") and int(at) == level:
            size = int((folder / "size").read_text().strip().removesuffix("K")) * 1024
            return f"{size},{(folder / 'ways_of_associativity').read_text().strip()},{LINE_BYTES}"
    raise SystemExit(f"expected a data cache of level {level} in {CACHES}, got none")


def bytes_of(cache: str) -> int:
    """The size that such an option says."""
    return int(cache.split(",")[0])


def totals(file: Path) -> dict[str, int]:
    """Events of a part that callgrind dumped."""
    lines = dict(
        line.split(": ", 1) for line in file.read_text().splitlines() if line.startswith(("events: ", "totals: "))
    )
    return dict(zip(lines["events"].split(), map(int, lines["totals"].split()), strict=True))


def run(cases: Sequence[Sequence[str]], rounds: int, before: Sequence[str] = ()) -> Iterator[dict[str, float]]:
    """Milliseconds of a core by way of each case as it is done, from one process. Raises CalledProcessError."""
    command = [*before, sys.executable, "-m", "benchmarks.local_memory_cases", str(rounds), json.dumps(cases)]
    environment = {**os.environ, **pinned_cpu(), **BLAS}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield from map(json.loads, process.stdout)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def measure(
    subjects: Sequence[str], cases: Sequence[Sequence[str]], rounds: int, caches: tuple[str, str],
    counted: Sequence[Figure] = (),
) -> Iterator[list[Figure]]:  # fmt: skip
    """Every way of each case: all are timed, then case after case is counted, with these caches of both levels; or
    taken from `counted`, where it is there."""
    times = list(run(cases, rounds))  # first, as it compiles what is not compiled yet
    known = {(f.case, f.subject, f.way): f for f in counted}
    left: list[tuple[str, Sequence[str], dict[str, float]]] = []
    for subject, case, ways in zip(subjects, cases, times, strict=True):
        each = ms_each(case[0], ways)
        if all((case[0], subject, way) in known for way in ways):
            yield [replace(known[case[0], subject, way], ms=ms) for way, ms in each.items()]
        else:
            left.append((subject, case, each))
    if left:
        yield from count(left, caches)


def ms_each(case: str, ways: Mapping[str, float]) -> dict[str, float]:
    """Of one frame, where a call takes one of each stream."""
    return {way: ms / (STREAMS if case == "streams" else 1) for way, ms in ways.items()}


def count(
    left: Sequence[tuple[str, Sequence[str], Mapping[str, float]]], caches: tuple[str, str]
) -> Iterator[list[Figure]]:
    """The figures of cases whose times are known, as callgrind gives them. left : subject, case, times by way."""
    first, second = caches
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        valgrind = [
            "valgrind", "--quiet", "--tool=callgrind", "--cache-sim=yes", "--instr-atstart=no",
            f"--I1={first}", f"--D1={first}", f"--LL={second}", f"--callgrind-out-file={out}",
        ]  # fmt: skip
        parts = 0
        for (subject, case, each), _ in zip(left, run([case for _, case, _ in left], 0, valgrind), strict=True):
            calls = COUNTED * (STREAMS if case[0] == "streams" else 1)
            figures = []
            for way, ms in each.items():
                parts += 2
                part = totals(out.with_name(f"out.{parts}"))
                l1, l2 = ((part[f"{level}mr"] + part[f"{level}mw"]) // calls for level in ("D1", "DL"))
                figures.append(Figure(case[0], subject, way, part["Ir"] // calls, l1, l2, ms))
            yield figures


def table(figures: Sequence[Figure]) -> str:
    """A row for each way, ratios to the first way of its case."""
    head = "| what | way | L1 misses, MB | L2 misses, MB | of the first | instructions | time |"
    lines = [head, "|---" * 7 + "|"]
    first = figures[0]
    for f in figures:
        if (f.case, f.subject) != (first.case, first.subject):
            first = f
        if f is first:
            lines.append(f"| {f.subject} | {f.way} | {_mb(f.l1)} | {_mb(f.l2)} | 1 | 1 | 1 |")
        else:
            ratios = (f.l2 / first.l2, f.instructions / first.instructions, f.ms / first.ms)
            lines.append(f"| | {f.way} | {_mb(f.l1)} | {_mb(f.l2)} | " + " | ".join(f"{r:.2f}" for r in ratios) + " |")
    return "\n".join(lines)


def told(caches: Sequence[str]) -> str:
    """With which caches was counted, and on what was timed."""
    sizes = (f"{bytes_of(cache) // 1024} KiB of L{level} in {cache.split(',')[1]} ways"
             for level, cache in enumerate(caches, 1))  # fmt: skip
    own = " and ".join(f"{bytes_of(cache_option(level)) // 1024} KiB of L{level}" for level in (1, 2))
    return f"Counted with {' and '.join(sizes)}; timed on {machine()['cpu']}, which has {own}, by code for AVX2."


def _mb(lines: int) -> str:
    return f"{lines * LINE_BYTES / 1e6:.2f}"


def subjects(folder: Path) -> list[tuple[str, list[str]]]:
    """Names of subjects with the arguments of their cases. Networks that are written on the spot go to `folder`."""
    networks = {"people": (str(find_model("people")), "640x384")}
    if YOLOX.exists():
        networks["YOLOX-nano"] = (str(YOLOX), "640x384")
    for label, name in (("MobileNetV2", "mobilenet"), ("VGG-16", "vgg16")):
        path = folder / f"{name}.onnx"
        path.write_bytes(NETWORKS[name]((224, 224)))
        networks[label] = (str(path), "224x224")
    wanted = {
        "separable": ("MobileNetV2", "YOLOX-nano"),
        "streams": ("people", "YOLOX-nano"),
        "bands": ("people", "YOLOX-nano", "MobileNetV2", "VGG-16"),
    }
    found = [(layer_name(shape), ["layer", shape]) for shape in LAYERS]
    for section, names in wanted.items():
        for name in names:
            if name in networks:
                found.append((f"{name} {networks[name][1]}", [section, *networks[name]]))
    return found


def halos(chosen: Sequence[tuple[str, Sequence[str]]], l2_bytes: int) -> str:
    """The model of `benchmarks.halo` for the networks that go in bands."""
    plans = {name: plan_of(*case[1:], Policy()) for name, case in chosen if case[0] == "bands"}
    return "\n".join([HEAD, *(summary(name, plan, l2_bytes) for name, plan in plans.items())])


def layer_name(shape: str) -> str:
    """For people."""
    height, width, inputs, outputs, kernel = shape.split("x")
    return f"{kernel}x{kernel} {inputs} to {outputs}, {height}x{width}"


def command(
    only: Annotated[list[str] | None, typer.Option(help="Words, one of which names of cases have to hold.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Native calls of each way.")] = 20,
    l1: Annotated[str, typer.Option(help="Bytes, ways and line of L1 as valgrind takes them; this machine's.")] = "",
    l2: Annotated[str, typer.Option(help="The same of L2.")] = "",
    counted: Annotated[Path | None, typer.Option(help="Take counts from this file of --json, and time again.")] = None,
    doc: Annotated[Path | None, typer.Option(help="Write the tables between this document's markers.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Cache misses and times of the same work done in several ways."""
    figures: list[Figure] = []
    caches = (l1 or cache_option(1), l2 or cache_option(2))

    def show(section: str, rows: str) -> None:
        print(f"{section}\n{rows}", flush=True)
        if doc is not None:
            text = doc.read_text(encoding="utf-8")
            doc.write_text(replaced(text, f"local-memory-{section}", rows), encoding="utf-8")

    former = [Figure(**one) for one in json.loads(counted.read_text())] if counted is not None else []
    with tempfile.TemporaryDirectory() as folder:
        chosen = [
            (name, case)
            for name, case in subjects(Path(folder))
            if not only or any(word in f"{case[0]} {name}" for word in only)
        ]
        show("caches", told(caches))
        if any(case[0] == "bands" for _, case in chosen):
            show("halo", halos(chosen, bytes_of(caches[1])))
        chosen = [(name, case) for name, case in chosen if (case[0], name) not in TOO_LONG]
        names, cases = [name for name, _ in chosen], [case for _, case in chosen]
        for found in measure(names, cases, rounds, caches, former):
            figures += found
            section = found[0].case  # its table grows, as hours of counting may be cut short
            show(section, table([f for f in figures if f.case == section]))
            if json_path is not None:
                json_path.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
