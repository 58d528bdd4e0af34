"""Streams: tokens, resume, ownership, expiry, and the bound on their number."""

from __future__ import annotations

import time

import pytest

from clients.wire import ResumeReason
from service.streams import (
    GONE_KEPT,
    LEGAL,
    IllegalTransition,
    NotAuthorised,
    Secrets,
    Stream,
    StreamBusy,
    StreamManager,
    StreamState,
    StreamTaken,
    TooManyStreams,
)
from service.token_store import FILE, TokenStore


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


def test_an_id_of_the_callers_choice_is_not_taken_from_anybody() -> None:
    manager = StreamManager(max_streams=4, resume_s=10, reserved={"door"})
    stream, token = manager.create("m", stream_id="gate")
    assert ask(manager, "gate", token=token) == (stream, False)
    ask(manager, "anonymous")
    for taken in ("gate", "anonymous", "door"):
        with pytest.raises(StreamTaken, match=f"there is a stream '{taken}' already"):
            manager.create("m", stream_id=taken)
    assert len(manager) == 2
    manager.remove(stream)
    assert manager.create("m", stream_id="gate")[1] != token


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


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_expiry_by_the_clock_and_the_reason_afterwards() -> None:
    clock = Clock()
    manager = StreamManager(max_streams=4, resume_s=60, clock=clock)
    stream, _ = ask(manager, "door")
    attachment = Attachment()
    manager.attach(stream, attachment)
    stream.pipeline, stream.model = object(), "m"  # type: ignore[assignment]
    resume = stream.resume.mint()
    manager.detach(stream, attachment)
    clock.now += 59.9
    assert manager.sweep() == []
    assert ask(manager, "door", resume=resume) == (stream, True)
    assert manager.reason(stream, resume, "m") is None
    clock.now += 0.1
    assert manager.sweep() == [stream]
    again, resumes = ask(manager, "door", resume=resume)
    assert (again is stream, resumes) == (False, False)
    assert manager.reason(again, resume, "m") is ResumeReason.EXPIRED
    assert manager.reason(again, "wrong", "m") is ResumeReason.UNKNOWN
    assert manager.reason(again, None, "m") is None, "nobody asked"


def test_reasons_of_a_stream_that_is_there() -> None:
    manager = StreamManager(max_streams=4, resume_s=60)
    stream, _ = ask(manager, "door")
    oldest, older, newest = (stream.resume.mint() for _ in range(3))
    assert manager.reason(stream, newest, "m") is ResumeReason.NOT_CACHED
    stream.pipeline, stream.model = object(), "m"  # type: ignore[assignment]
    assert manager.reason(stream, newest, "other") is ResumeReason.OTHER_MODEL
    assert [manager.reason(stream, token, "m") for token in (oldest, older, newest)] == [
        ResumeReason.UNKNOWN,
        None,
        None,
    ]
    manager.remove(stream)
    again, _ = ask(manager, "door")
    assert manager.reason(again, newest, "m") is ResumeReason.DELETED


def test_each_stream_may_be_kept_for_a_time_of_its_own() -> None:
    clock = Clock()
    manager = StreamManager(max_streams=4, resume_s=60, max_resume_s=600, clock=clock)
    short, long, plain = (manager.create("m", seconds)[0] for seconds in (5, 10_000, None))
    assert [stream.resume_s for stream in (short, long, plain)] == [5, 600, 60]
    manager.keep_for(plain, None)
    assert plain.resume_s == 60
    clock.now += 59
    assert manager.sweep() == [], "there is time to connect to a stream that was just made"
    for stream in (short, long, plain):
        attachment = Attachment()
        manager.attach(stream, attachment)
        manager.detach(stream, attachment)
    clock.now += 5
    assert manager.sweep() == [short]
    clock.now += 55
    assert manager.sweep() == [plain]
    clock.now += 540
    assert manager.sweep() == [long]
    assert StreamManager(max_streams=4, resume_s=60, max_resume_s=1).create("m", 50)[0].resume_s == 50


def test_the_token_of_a_stream_that_is_gone_says_so() -> None:
    clock = Clock()
    manager = StreamManager(max_streams=4, resume_s=1, clock=clock)
    stream, token = manager.create("m")
    clock.now += 1
    manager.sweep()
    with pytest.raises(NotAuthorised, match=r"no stream .* for this token; it was expired; make one"):
        ask(manager, stream.id, token=token)


def test_what_is_known_of_streams_that_are_gone_is_bounded() -> None:
    manager = StreamManager(max_streams=4, resume_s=1)
    for number in range(GONE_KEPT + 10):
        manager.remove(ask(manager, f"s{number}")[0])
    assert len(manager._gone) == GONE_KEPT
    assert "s9" not in manager._gone
    assert f"s{GONE_KEPT + 9}" in manager._gone


def test_a_life_goes_through_its_states() -> None:
    manager = StreamManager(max_streams=4, resume_s=60)
    stream, _ = ask(manager, "door")
    first, second = Attachment(), Attachment()
    assert stream.describe()["state"] == "made"
    manager.attach(stream, first)
    manager.attach(stream, second)
    manager.detach(stream, first)
    assert stream.state is StreamState.LIVE, "taken over"
    manager.detach(stream, second)
    assert stream.state is StreamState.KEPT
    manager.attach(stream, first)
    manager.remove(stream)
    manager.detach(stream, first)
    assert (stream.state, stream.attachment) == (StreamState.GONE, None), "deleted while connected"
    with pytest.raises(IllegalTransition, match="expected nothing after gone, got live"):
        manager.attach(stream, first)


def test_only_the_table_is_legal() -> None:
    for state in StreamState:
        for other in StreamState:
            stream = Stream("x", None, None, state=state)
            if other in LEGAL[state]:
                stream.move(other)
                assert stream.state is other
            else:
                with pytest.raises(IllegalTransition):
                    stream.move(other)
                assert stream.state is state
    reachable, found = {StreamState.MADE}, {StreamState.MADE}
    while found:
        found = {after for state in found for after in LEGAL[state]} - reachable
        reachable |= found
    assert reachable == set(StreamState)


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


def test_streams_with_a_token_outlive_the_server(tmp_path) -> None:
    """What they cached does not, and neither do streams without a token."""
    first = StreamManager(max_streams=4, resume_s=60, max_resume_s=600, store=TokenStore(tmp_path))
    stream, token = first.create("m", 120, owner="porch")
    ask(first, "anonymous")
    gone, gone_token = first.create("m")
    resume = stream.resume.mint()
    first.remove(gone)

    second = StreamManager(max_streams=4, resume_s=60, max_resume_s=600, store=TokenStore(tmp_path))
    assert [kept.id for kept in second.all()] == [stream.id]
    kept, resumes = ask(second, stream.id, token=token, resume=resume)
    assert (kept.model, kept.owner, kept.resume_s, resumes) == ("m", "porch", 120, False)
    assert kept.created_at == stream.created_at
    assert second.reason(kept, resume, "m") is ResumeReason.UNKNOWN
    with pytest.raises(NotAuthorised):
        ask(second, stream.id, token="wrong")
    with pytest.raises(NotAuthorised):
        ask(second, gone.id, token=gone_token)
    assert token not in (tmp_path / FILE).read_text()

    small = StreamManager(max_streams=1, resume_s=60, store=TokenStore(tmp_path))
    small.remove(small.all()[0])
    assert TokenStore(tmp_path).load() == ()


def test_a_kept_stream_expires_like_any_other(tmp_path) -> None:
    clock = Clock()
    StreamManager(max_streams=4, resume_s=60, store=TokenStore(tmp_path)).create("m")
    later = StreamManager(max_streams=4, resume_s=60, clock=clock, store=TokenStore(tmp_path))
    clock.now += 60
    assert len(later.sweep()) == 1
    assert TokenStore(tmp_path).load() == ()


def test_kept_streams_that_are_too_many_are_passed_over(tmp_path, caplog) -> None:
    first = StreamManager(max_streams=4, resume_s=60, store=TokenStore(tmp_path))
    kept = [first.create("m", owner="porch")[0].id for _ in range(3)]
    later = StreamManager(max_streams=4, resume_s=60, max_per_owner=2, store=TokenStore(tmp_path))
    assert [stream.id for stream in later.all()] == kept[:2]
    assert "is not taken up again: expected at most 2 streams of one key" in caplog.text


def test_streams_that_expire_together_are_written_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, saved = Clock(), []
    manager = StreamManager(max_streams=40, resume_s=60, clock=clock, store=TokenStore(tmp_path))
    for _ in range(20):
        manager.create("m")
    monkeypatch.setattr(TokenStore, "save", lambda self, streams: saved.append(len(streams)))
    clock.now += 60
    assert len(manager.sweep()) == 20
    assert saved == [0]


class Camera:
    def brief(self) -> dict:
        return {"state": "live"}


def test_reserved_ids_are_for_the_servers_own_cameras() -> None:
    manager = StreamManager(max_streams=1, resume_s=10, reserved={"door"})
    ask(manager, "other")
    for credentials in ({}, {"token": "x"}, {"owner": "key"}, {"resume": "x"}):
        with pytest.raises(NotAuthorised, match="'door' is a camera of the server's configuration"):
            ask(manager, "door", **credentials)
    stream = manager.create_own("door", None, Camera())
    assert manager.get("door") is stream, "whatever clients have taken"
    with pytest.raises(NotAuthorised, match="is a camera"):
        ask(manager, "door")
    assert (stream.brief()["source"], stream.brief()["anonymous"]) == ({"state": "live"}, False)
    assert manager.get("other").brief()["source"] is None
    manager.attach(stream, Attachment())
    assert [gone.id for gone in manager.sweep(now=time.monotonic() + 1e9)] == ["other"]


def test_a_stream_is_drafted_here_and_taken_up_elsewhere(tmp_path) -> None:
    here = StreamManager(max_streams=4, resume_s=60, max_resume_s=100)
    kept, token = here.draft("m", resume_s=1000, owner="porch")
    assert (len(here), kept.resume_s, kept.owner) == (0, 100, "porch")
    there = StreamManager(max_streams=1, resume_s=60, max_resume_s=100, store=TokenStore(tmp_path))
    with pytest.raises(NotAuthorised, match="no stream"):
        there.authorise(kept.id, token=token, anonymous=True)
    there.authorise(kept.id, token=token, anonymous=True, kept=kept)
    there.authorise(kept.id, token=None, anonymous=True, owner="porch", kept=kept)
    for wrong in ({"token": "x"}, {"token": None}, {"token": None, "owner": "gate"}):
        with pytest.raises(NotAuthorised):
            there.authorise(kept.id, anonymous=True, kept=kept, **wrong)
    assert len(there) == 0, "to be looked at it is not taken up"
    stream = there.adopt(kept)
    assert there.adopt(kept) is stream
    assert (stream.kept(), stream.state, stream.resume_s) == (kept, StreamState.MADE, 100)
    assert ask(there, kept.id, token=token) == (stream, False)
    assert TokenStore(tmp_path).load() == (kept,)
    with pytest.raises(TooManyStreams):
        there.adopt(here.draft("m")[0])


def test_a_stream_that_went_elsewhere_has_left_nothing_behind(tmp_path) -> None:
    freed: list[tuple[str, str]] = []
    manager = StreamManager(
        max_streams=4, resume_s=60, store=TokenStore(tmp_path), freed=lambda one: freed.append((one.id, one.ending))
    )
    stream, token = manager.create("m")
    manager.attach(stream, Attachment())
    resume = stream.resume.mint()
    kept = stream.kept()
    manager.remove(stream, None)
    assert (freed, stream.state) == ([(stream.id, "moved")], StreamState.GONE)
    assert TokenStore(tmp_path).load() == ()
    with pytest.raises(NotAuthorised, match=f"no stream '{stream.id}' for this token; make one"):
        ask(manager, stream.id, token=token)
    again = manager.adopt(kept)
    assert manager.reason(again, resume, "m") is ResumeReason.UNKNOWN, "it was not deleted"
