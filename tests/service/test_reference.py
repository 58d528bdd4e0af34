"""The picture that both ends share: what is taken and refused, and that results are those of the whole picture."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from own_model import SIZE, write_model

from clients.wire import TilesPayload, encode_tiles, grid_of, parse_tiles, reference_of
from service.admission import Overloaded
from service.caches import Caches
from service.codec import CodecError, Limits
from service.codec import decode as decode_image
from service.pipeline import FramePipeline
from service.preprocess import fit
from service.reference import QUEUED_FRAMES, TILE_PX, Reference, ReferenceLost
from service.registry import Engine, Model, load
from service.room import Room
from service.settings import ModelSource

TILE = TILE_PX


def jpeg(pixels: np.ndarray) -> bytes:
    """Good enough to tell tiles apart, and with the colour of each unit on its own."""
    fields = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    ok, data = cv2.imencode(".jpg", pixels, fields)
    assert ok
    return data.tobytes()


def picture_of(size: tuple[int, int], seed: int) -> np.ndarray:
    """Soft noise, so that a JPEG of it is close to it."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 8 + 2, size[0] // 8 + 2, 3), np.uint8)
    return cv2.resize(noise, size, interpolation=cv2.INTER_LINEAR)


class Sender:
    """The other end, as plainly as can be. shown : what the server should have, from the bytes that were sent."""

    def __init__(self) -> None:
        self.name = 0
        self.shown = np.zeros((0, 0, 3), np.uint8)

    def whole(self, size: tuple[int, int], seed: int) -> bytes:
        payload = jpeg(picture_of(size, seed))
        self.shown, self.name = decode_image(payload), reference_of(payload)
        return payload

    def tiles(self, places: list[int], seed: int, columns: int = 3) -> bytes:
        """New contents for some places of the frame's grid."""
        height, width = self.shown.shape[:2]
        rows, across = grid_of(width, height, TILE)
        changed = np.zeros(rows * across, bool)
        changed[[place % changed.size for place in places]] = True
        at = np.flatnonzero(changed)
        columns, image = min(columns, at.size), b""
        if at.size:
            high = -(-at.size // columns)
            mosaic = picture_of((columns * TILE, high * TILE), seed)
            image = jpeg(mosaic)
            decoded = decode_image(image, apart=True)
            for index, place in enumerate(at):
                (y, x), (row, column) = divmod(index, columns), divmod(place, across)
                cell = decoded[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE]
                target = self.shown[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                target[:] = cell[: target.shape[0], : target.shape[1]]
        bitmap = np.packbits(changed).tobytes()
        payload = encode_tiles(TilesPayload(self.name, width, height, TILE, columns, bitmap, image))
        self.name = reference_of(payload)
        return payload


def taken(reference: Reference, seq: int, payload: bytes) -> str | None:
    return reference.take_tiles(seq, payload, parse_tiles(payload))


def opened(max_bytes: int = 1 << 20) -> tuple[Reference, Sender]:
    """A reference that has had a whole frame, number 1."""
    reference, sender = Reference(Limits(), max_bytes), Sender()
    reference.take_whole(1, sender.whole((70, 50), 1), (70, 50), (1,))
    return reference, sender


def test_tiles_are_put_together() -> None:
    reference, sender = opened()
    first = reference.at(1).picture()
    np.testing.assert_array_equal(first.image, sender.shown)
    assert first.changed is None
    assert taken(reference, 2, sender.tiles([0, 7, 19], 2)) is None
    assert taken(reference, 3, sender.tiles([], 3)) is None
    assert taken(reference, 4, sender.tiles([7, 8], 4)) is None
    found = reference.at(4).picture()
    np.testing.assert_array_equal(found.image, sender.shown)
    assert found.changed is not None
    assert np.flatnonzero(found.changed).tolist() == [0, 7, 8, 19]
    again = reference.at(4).picture()
    assert again.changed is not None
    assert not again.changed.any()
    assert reference.describe()["frames"] == 3
    assert reference.describe()["picture_bytes"] == 80 * 64 * 3


def test_who_keeps_a_frames_image_keeps_it_as_it_was() -> None:
    reference, sender = opened()
    before, kept = sender.shown.copy(), reference.at(1).picture().image
    assert taken(reference, 2, sender.tiles([0, 3], 2)) is None
    assert (reference.at(2).picture().image != kept).any()
    np.testing.assert_array_equal(kept, before)
    again = reference.at(2).picture().image
    assert taken(reference, 3, sender.tiles([], 3)) is None
    assert reference.at(3).picture().image is again, "nothing is copied where nothing changed"


def test_a_frame_sees_nothing_that_came_after_it() -> None:
    reference, sender = opened()
    first = sender.shown.copy()
    assert taken(reference, 2, sender.tiles([3], 2)) is None
    second = sender.shown.copy()
    reference.take_whole(3, sender.whole((70, 50), 9), (70, 50), (1, 2, 3))
    for seq, expected in ((1, first), (2, second), (3, sender.shown)):
        np.testing.assert_array_equal(reference.at(seq).picture().image, expected)


def test_what_a_whole_frame_replaces_is_not_kept() -> None:
    reference, sender = opened()
    assert taken(reference, 2, sender.tiles([3], 2)) is None
    assert reference.describe()["queued_bytes"] > 0
    reference.take_whole(3, sender.whole((70, 50), 9), (70, 50), (3,))
    assert reference.describe()["queued_bytes"] == 0
    np.testing.assert_array_equal(reference.at(3).picture().image, sender.shown)


@pytest.mark.parametrize("field", ["base", "width", "height", "tile_px"])
def test_tiles_of_something_else_are_refused_until_a_whole_frame(field: str) -> None:
    reference, sender = opened()
    good = sender.tiles([], 2)
    tiles = parse_tiles(good)
    assert "expected tiles on" in reference.take_tiles(2, good, replace(tiles, **{field: getattr(tiles, field) + 1}))
    assert "whole frame first" in taken(reference, 3, good)
    reference.take_whole(4, sender.whole((40, 40), 5), (40, 40), (4,))
    assert taken(reference, 5, sender.tiles([1], 6)) is None
    np.testing.assert_array_equal(reference.at(5).picture().image, sender.shown)
    assert reference.describe()["mismatches"] == 2


def test_nothing_lies_on_nothing() -> None:
    reference, (_, sender) = Reference(Limits(), 1000), opened()
    assert "whole frame first" in taken(reference, 1, sender.tiles([], 1))


def test_what_waits_is_bounded_in_bytes_and_pixels() -> None:
    reference, sender = opened(max_bytes=4000)
    refusals = [taken(reference, seq, sender.tiles([0, 1, 2], seq)) for seq in range(2, 20)]
    first = next(index for index, refusal in enumerate(refusals) if refusal)
    assert 1 < first < 10
    assert "more than 4000 bytes" in refusals[first]
    assert "whole frame first" in refusals[first + 1]
    assert reference.describe()["queued_bytes"] <= 4000

    reference, sender = opened()
    refusals = [taken(reference, seq, sender.tiles(list(range(20)), seq)) for seq in range(2, 20)]
    first = next(index for index, refusal in enumerate(refusals) if refusal)
    assert first == 70 * 50 * QUEUED_FRAMES // (21 * TILE**2)
    assert "pixels of tiles wait" in refusals[first]


def test_what_waits_is_bounded_in_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.reference.QUEUED_MESSAGES", 4)
    reference, sender = opened()
    refusals = [taken(reference, seq, sender.tiles([0], seq)) for seq in range(2, 7)]
    assert [bool(refusal) for refusal in refusals] == [False, False, False, True, True], "with the whole frame"
    assert "or 4 messages of tiles wait" in str(refusals[3])


def test_an_error_of_the_machine_loses_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, sender = opened()
    reference.at(1).picture()
    assert taken(reference, 2, sender.tiles([3], 2)) is None
    with monkeypatch.context() as patch:
        patch.setattr("service.reference.grid_of", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError):
            reference.at(2).picture()
    changed = reference.at(2).picture().changed
    assert changed is not None
    assert np.flatnonzero(changed).tolist() == [3]


def broken(payload: bytes) -> bytes:
    """A payload whose mosaic has a good header and no end that a decoder would find."""
    tiles = parse_tiles(payload)
    at = tiles.image.index(b"\xff\xda")
    return encode_tiles(replace(tiles, image=tiles.image[: at + 2] + b"\xff\xd9"))


def test_a_mosaic_that_cannot_be_decoded_loses_the_reference() -> None:
    reference, sender = opened()
    bad = broken(sender.tiles([1], 2))
    assert taken(reference, 2, bad) is None
    sender.name = reference_of(bad)
    assert taken(reference, 3, sender.tiles([2], 3)) is None
    with pytest.raises(CodecError) as caught:
        reference.at(2).picture()
    assert not isinstance(caught.value, ReferenceLost)
    with pytest.raises(ReferenceLost):
        reference.at(3).picture()
    assert "whole frame first" in taken(reference, 4, sender.tiles([2], 3))
    reference.take_whole(5, sender.whole((70, 50), 5), (70, 50), (5,))
    np.testing.assert_array_equal(reference.at(5).picture().image, sender.shown)


def test_what_there_is_no_memory_to_decode_waits() -> None:
    left = [1 << 40]
    limits, sender = Limits(room=Room(lambda: left[0], itertools.count().__next__).hold), Sender()
    reference = Reference(limits, 1 << 24)
    reference.take_whole(1, sender.whole((1200, 900), 1), (1200, 900), (1,))
    left[0] = 0
    with pytest.raises(Overloaded):
        reference.at(1).picture()
    left[0] = 1 << 40
    np.testing.assert_array_equal(reference.at(1).picture().image, sender.shown)
    assert taken(reference, 2, sender.tiles([3], 2)) is None
    many = list(range(2000))
    assert taken(reference, 3, sender.tiles(many, 3, columns=60)) is None
    waiting = reference.describe()["queued_bytes"]
    left[0] = 0
    with pytest.raises(Overloaded):
        reference.at(3).picture()
    assert 0 < reference.describe()["queued_bytes"] < waiting, "the small tiles lie on it already"
    assert taken(reference, 4, sender.tiles([5], 4)) is None
    left[0] = 1 << 40
    found = reference.at(4).picture()
    np.testing.assert_array_equal(found.image, sender.shown)
    assert found.changed is not None
    assert found.changed.flat[[3, 5]].all()
    assert (reference.describe()["queued_bytes"], reference._waiting_pixels) == (0, 0)


def test_a_whole_frame_behind_a_broken_one_stands() -> None:
    reference, sender = opened()
    assert taken(reference, 2, broken(sender.tiles([1], 2))) is None
    reference.take_whole(3, sender.whole((70, 50), 5), (70, 50), (1, 2, 3))
    with pytest.raises(CodecError):
        reference.at(2).picture()
    assert taken(reference, 4, sender.tiles([1], 6)) is None
    np.testing.assert_array_equal(reference.at(4).picture().image, sender.shown)


@cache
def own_model() -> Model:
    """A small network of the product's own family, computed exactly."""
    with TemporaryDirectory() as folder:
        model = load("own", ModelSource(path=write_model(Path(folder) / "own.onnx")), Engine(exact=True))
        model.warm()
    return model


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Kernels are compiled once, and not while examples are drawn."""
    own_model()


PLACES = st.lists(st.integers(0, 200), max_size=6)
SIZES = st.sampled_from([SIZE, (96, 40), (80, 64), (70, 50), (150, 130), (30, 20)])


class Pictures(RuleBasedStateMachine):
    """Every frame that is computed gives, bit for bit, what a new session gives for the whole picture."""

    def __init__(self) -> None:
        super().__init__()
        self.sender, self.seq, self.lost = Sender(), 0, True

    @initialize(
        how=st.sampled_from(["letterbox", "letterbox_centre", "stretch", "crop_centre"]),
        colour=st.sampled_from(["BGR", "RGB"]),
    )
    def open(self, how: str, colour: str) -> None:
        model = own_model()
        self.model = replace(model, spec=model.spec.model_copy(update={"fit": how, "colour": colour}))
        self.caches = Caches()
        self.pipeline = FramePipeline(self.model, None, Limits(), caches=self.caches)
        self.dense = self.model.open_session()
        self.connect()

    @rule()
    def connect(self) -> None:
        self.reference, self.lost = Reference(Limits(), 1 << 20), True

    @rule(size=SIZES, seed=st.integers(0, 99), computed=st.booleans())
    def whole(self, size: tuple[int, int], seed: int, computed: bool) -> None:
        self.seq, self.lost = self.seq + 1, False
        waits = (self.seq,) if computed else ()
        self.reference.take_whole(self.seq, self.sender.whole(size, seed), size, waits)
        self.compute(computed)

    @precondition(lambda self: not self.lost)
    @rule(places=PLACES, seed=st.integers(0, 99), columns=st.integers(1, 4), computed=st.booleans())
    def tiles(self, places: list[int], seed: int, columns: int, computed: bool) -> None:
        self.seq += 1
        if taken(self.reference, self.seq, self.sender.tiles(places, seed, columns)) is not None:
            self.lost = True  # too much waits
            return
        self.compute(computed)

    @precondition(lambda self: not self.lost)
    @rule(places=PLACES, seed=st.integers(0, 99), how=st.sampled_from(["error", "mosaic", "reset", "full"]))
    def trouble(self, places: list[int], seed: int, how: str) -> None:
        self.seq += 1
        payload = self.sender.tiles(places or [0], seed)
        if how == "mosaic":
            payload, self.lost = broken(payload), True
        if taken(self.reference, self.seq, payload) is not None:
            self.lost = True
            return
        if how == "mosaic":
            with pytest.raises(CodecError):
                self.pipeline.run(self.reference.at(self.seq))
        elif how == "reset":
            assert self.pipeline.run(self.reference.at(self.seq), reset=True).decision == "keyframe"
        elif how == "error":
            self.fail()
        else:  # it is decoded for nothing: what follows must not go on from what the session has not seen
            self.pipeline.prepare(self.reference.at(self.seq))

    @rule(seed=st.integers(0, 99), size=SIZES)
    def something_else(self, seed: int, size: tuple[int, int]) -> None:
        self.pipeline.run_pixels(picture_of(size, seed))

    @rule()
    def evict(self) -> None:
        self.pipeline.evict()
        self.caches.forget(self.pipeline)

    @rule()
    def reset(self) -> None:
        self.pipeline.reset()

    def fail(self) -> None:
        """A frame whose computation fails."""
        session = self.pipeline.session
        with pytest.MonkeyPatch.context() as patch, suppress(ZeroDivisionError):
            patch.setattr(session, "push", lambda *_, **__: 1 // 0)
            self.pipeline.run(self.reference.at(self.seq))
            raise AssertionError("the frame did not fail")

    def compute(self, wanted: bool) -> None:
        if not wanted:
            return
        pipeline = self.pipeline
        with pipeline.held():
            prepared = pipeline.prepare(self.reference.at(self.seq))
            found = {name: value.copy() for name, value in pipeline.push(prepared).outputs.items()}
            outcome = pipeline.finish(prepared, self.last(prepared))
        np.testing.assert_array_equal(outcome.image, self.sender.shown)
        frame, _ = fit(self.sender.shown, self.model.size, self.model.spec)
        np.testing.assert_array_equal(prepared.frame, frame)
        self.dense.reset()
        for name, value in self.dense.push(frame).outputs.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)

    def last(self, prepared):
        """What the session says of the same frame again: nothing has changed in it."""
        again = self.pipeline.push(replace(prepared, within=None))
        assert again.changed_tiles == 0
        return again


Pictures.TestCase.settings = settings(max_examples=25, stateful_step_count=14, deadline=None)
TestPictures = Pictures.TestCase
