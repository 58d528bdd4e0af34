"""Progress of the first start in the log."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from service.warming import compiled, progress_told


def kernel(folder: Path, name: str) -> None:
    (folder / "module").mkdir(exist_ok=True)
    (folder / "module" / f"{name}.nbc").touch()


def test_only_code_is_counted(tmp_path: Path) -> None:
    assert compiled(tmp_path / "nowhere") == 0
    kernel(tmp_path, "one")
    (tmp_path / "module/one.nbi").touch()
    assert compiled(tmp_path) == 1


async def warm(folder: Path, caplog: pytest.LogCaptureFixture, fresh: int) -> list[str]:
    """Entries while so many kernels come, one with each entry."""
    caplog.set_level(logging.INFO, "afterimage.warm")
    async with progress_told(folder, every_s=0.001):
        for number in range(fresh):
            kernel(folder, f"fresh-{number}")
            while not any(f"once: {number + 1} after" in message for message in caplog.messages):
                await asyncio.sleep(0.001)
    return caplog.messages


def test_kernels_that_come_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernel(tmp_path, "old")
    messages = asyncio.run(warm(tmp_path, caplog, 2))
    assert messages[-1].startswith("compiled 2 kernels for this CPU in ")
    assert str(tmp_path) in messages[-1]


def test_a_start_that_compiles_nothing_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernel(tmp_path, "old")
    assert asyncio.run(warm(tmp_path, caplog, 0)) == []


def test_what_fails_while_kernels_come_is_not_hidden(tmp_path: Path) -> None:
    async def fail() -> None:
        async with progress_told(tmp_path, every_s=0.001):
            raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        asyncio.run(fail())
