"""Streams: tokens, resume, ownership, expiry, and the bound on their number."""

from __future__ import annotations

import time

import pytest

from service.streams import NotAuthorised, Secrets, Stream, StreamBusy, StreamManager, TooManyStreams


class Attachment:
    def end(self, close_code: int, reason: str) -> None:
        raise AssertionError("nobody ends connections here")


def ask(manager: StreamManager, stream_id: str, **fields) -> tuple[Stream, bool]:
    return manager.open(stream_id, **{"token": None, "resume": None, "anonymous": True, **fields})


def test_secrets_keep_the_newest_few_as_hashes() -> None:
    secrets = Secrets(keep=2)
    first, second, third = secrets.mint(), secrets.mint(), secrets.mint()
    assert [secrets.matches(token) for token in (first, second, third, "", None)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert third not in repr(vars(secrets))
    assert len(third) >= 43


def test_a_stream_with_a_token_needs_it() -> None:
    manager = StreamManager(max_streams=4, resume_s=10)
    stream, token = manager.create("m")
    assert ask(manager, stream.id, token=token) == (stream, False)
    for wrong in (None, "x", token[:-1]):
        with pytest.raises(NotAuthorised, match="expected the token"):
            ask(manager, stream.id, token=wrong)
    with pytest.raises(NotAuthorised, match="no stream 'other'"):
        ask(manager, "other", token=token)


def test_anonymous_streams() -> None:
    manager = StreamManager(max_streams=4, resume_s=10)
    with pytest.raises(NotAuthorised):
        ask(manager, "door", anonymous=False)
    stream, resumes = ask(manager, "door")
    assert (stream.id, resumes) == ("door", False)
    manager.attach(stream, Attachment())
    with pytest.raises(StreamBusy, match="'door'"):
        ask(manager, "door")


def test_resume_needs_a_cache_and_the_right_secret() -> None:
    manager = StreamManager(max_streams=4, resume_s=10)
    stream, _ = ask(manager, "door")
    resume = stream.resume.mint()
    assert ask(manager, "door", resume=resume) == (stream, False), "there is nothing to resume yet"
    stream.pipeline = object()  # type: ignore[assignment]
    assert ask(manager, "door", resume=resume) == (stream, True)
    assert ask(manager, "door", resume="wrong") == (stream, False)


def test_expiry_counts_from_the_loss_of_the_connection() -> None:
    freed: list[str] = []
    manager = StreamManager(max_streams=4, resume_s=10, freed=lambda stream: freed.append(stream.id))
    stream, _ = ask(manager, "door")
    attachment = Attachment()
    manager.attach(stream, attachment)
    now = time.monotonic()
    assert manager.sweep(now + 1000) == [], "a connected stream does not expire"
    manager.detach(stream, Attachment())
    assert stream.attachment is attachment, "only its own connection can leave it"
    manager.detach(stream, attachment)
    assert manager.sweep(now + 9) == []
    assert manager.sweep(now + 11) == [stream]
    assert (freed, len(manager), manager.get("door")) == (["door"], 0, None)
    manager.remove(stream)
    assert freed == ["door"]


def test_number_is_bounded_and_expired_ones_make_room() -> None:
    manager = StreamManager(max_streams=1, resume_s=0)
    first, _ = ask(manager, "a")
    attachment = Attachment()
    manager.attach(first, attachment)
    with pytest.raises(TooManyStreams, match="at most 1"):
        manager.create("m")
    manager.detach(first, attachment)
    second, _ = manager.create("m")
    assert manager.all() == [second]


def test_a_stream_says_why_it_ended() -> None:
    freed: list[Stream] = []
    manager = StreamManager(max_streams=4, resume_s=0, freed=freed.append)
    first, second = (manager.create("m")[0] for _ in range(2))
    manager.remove(first)
    assert manager.sweep() == [second]
    assert [stream.ending for stream in freed] == ["removed", "expired"]


def test_the_list_is_brief_and_a_stream_alone_tells_all() -> None:
    stream = Stream("door", "m", None)
    stream.figures.received(1000)
    stream.figures.computed(1, "keyframe", "no stored frame", 1.0, (1, 2, 3, 4, 10))
    brief, whole = stream.brief(), stream.describe()
    assert brief.items() <= whole.items()
    assert brief["last"]["reason"] == "no stored frame"
    assert "latency_ms" not in brief
    assert whole["latency_ms"]["infer"] == {"p50": 4, "p99": 4}
    assert (whole["policy"], whole["window"], whole["waiting"], whole["audit"]) == (None, None, 0, None)
