"""The blocking chosen from a CPU's features, and the key of the on-disk kernel cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kernels import cache_folder, target, writable

AVX512 = frozenset({"avx2", "fma", "avx512f", "avx512vl", "avx512bw", "avx512dq"})
X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"


@pytest.mark.parametrize(
    ("features", "triple", "expected"),
    [
        (AVX512, X86, "avx512"),
        (AVX512 - {"avx512dq"}, X86, "avx2"),
        (frozenset({"avx512f", "avx2", "fma"}), X86, "avx2"),
        (frozenset({"avx2", "fma"}), X86, "avx2"),
        (frozenset({"avx2"}), X86, "generic"),
        (frozenset({"sse2"}), X86, "generic"),
        (frozenset({"neon"}), ARM, "neon"),
        (frozenset(), "arm64-apple-darwin23", "neon"),
    ],
)
def test_variant(features: frozenset[str], triple: str, expected: str) -> None:
    assert target.variant(features, triple) == expected


CPUINFO = """processor\t: 0
Features\t: fp asimd crc32 atomics asimddp{more}
CPU part\t: 0xd0b
"""


@pytest.mark.parametrize(("more", "expected"), [("", ["dotprod"]), (" bf16 i8mm", ["dotprod", "i8mm"])])
def test_products_of_bytes_that_llvm_overlooks(more: str, expected: list[str]) -> None:
    assert target.unread_features(CPUINFO.format(more=more)) == expected


def test_an_arm_cpu_without_products_of_bytes() -> None:
    assert target.unread_features("Features\t: fp asimd crc32\nflags\t: asimddp\n") == []


def test_numba_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO.format(more=""))
    monkeypatch.setattr(target, "VARIANT", "neon")
    monkeypatch.setattr(target.numba.config, "CPU_FEATURES", None)
    target.complete_features(tmp_path / "none")
    assert target.numba.config.CPU_FEATURES is None
    target.complete_features(tmp_path / "cpuinfo")
    assert "dotprod" in target.cpu_features()
    assert {name for name, present in target.llvm.get_host_cpu_features().items() if present} < target.cpu_features()
    monkeypatch.setattr(target.numba.config, "CPU_FEATURES", "+neon")
    target.complete_features(tmp_path / "cpuinfo")
    assert target.cpu_features() == {"neon"}


def test_host_values_come_from_its_blocking() -> None:
    assert target.BLOCKINGS[target.VARIANT] == target.HOST
    assert (target.HOST.pixels, target.HOST.vectors) == (target.PIXELS, target.MAX_VECTORS)


@pytest.mark.parametrize("blocking", target.BLOCKINGS.values())
def test_calls_fill_a_chunk(blocking: target.Blocking) -> None:
    from kernels.layout import CHUNK, LONG_CHUNK, WIDEST

    assert CHUNK % blocking.pixels == 0, "a chunk's last call would write past its tables"
    assert all(CHUNK % (block * block) == 0 for block in (1, 2, 4))
    # Wide calls come in units that leave whole narrow ones.
    assert all(2 * wide % blocking.pixels == 0 for wide in blocking.wide)
    assert max(blocking.wide, default=0) <= WIDEST
    assert LONG_CHUNK % CHUNK == 0


def test_source_key_follows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(target.__file__).parent
    for path in folder.glob("*.py"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(target, "__file__", str(tmp_path / "target.py"))
    first = target.source_key()
    assert first == target.source_key()
    edited = tmp_path / "emit.py"
    edited.write_text(edited.read_text() + "\n# edited\n")
    assert target.source_key() != first


def test_source_key_follows_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    first = target.source_key()
    monkeypatch.setattr(target, "cpu_features", lambda: frozenset({"sse2"}))
    assert target.source_key() != first


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFTERIMAGE_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("AFTERIMAGE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "afterimage"


def test_a_cache_folder_that_cannot_be_written_is_replaced(tmp_path: Path) -> None:
    made = tmp_path / "new" / "kernels"
    assert writable(made) == made
    assert made.is_dir()
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        other = writable(blocked / "kernels")
    assert other.is_dir()
    other.rmdir()
