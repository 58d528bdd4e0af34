from __future__ import annotations

import stat

import pytest

from service.token_store import FILE, MAX_BYTES, KeptStream, TokenStore

DOOR = KeptStream(id="door", model="people", token="ab" * 32, created_at=1.5, owner="porch", resume_s=5.0)
YARD = KeptStream(id="yard_-1", model=None, token="cd" * 32, created_at=2.5)


def test_what_is_kept_comes_back_and_nobody_else_reads_it(tmp_path) -> None:
    store = TokenStore(tmp_path / "deep" / "folder")
    assert store.load() == ()
    store.save((DOOR, YARD))
    assert TokenStore(tmp_path / "deep" / "folder").load() == (DOOR, YARD)
    file = tmp_path / "deep" / "folder" / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    store.save(())
    assert store.load() == ()
    assert [path.name for path in file.parent.iterdir()] == [FILE]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version":2}',
        b'{"streams":[{"id":"../x","model":null,"token":"","created_at":0}]}',
        b"\xff",
    ],
)
def test_a_file_that_is_no_such_file_is_said_and_passed_over(tmp_path, caplog, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert TokenStore(tmp_path).load() == ()
    assert "cannot be used" in caplog.text


def test_a_file_that_is_too_large_is_not_read(tmp_path, caplog) -> None:
    with (tmp_path / FILE).open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert TokenStore(tmp_path).load() == ()
    assert f"expected at most {MAX_BYTES} bytes" in caplog.text


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("in the way")
    store = TokenStore(tmp_path / "file" / "folder")
    store.save((DOOR,))
    store.save((DOOR, YARD))
    assert caplog.text.count("cannot be written") == 1
