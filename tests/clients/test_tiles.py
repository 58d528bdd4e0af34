"""Pixels in, messages out: what is sent whole, what as tiles, and what the other end makes of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from clients.python.tiles import NOISE_FRAMES, Encoded, TileEncoder, TilesUnavailable
from clients.wire import Op, TileRules, parse_tiles, reference_of
from service.codec import Limits, decode
from service.reference import Reference

RULES = TileRules(tile_px=16, difference=3.0)
SIZE = (70, 50)


def scene(size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """A soft gradient, other with every seed."""
    across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return np.stack([across + seed, down + 2 * seed, across + down], axis=2).clip(0, 255).astype(np.uint8)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Server:
    """The other end, which must take all that is sent."""

    def __init__(self) -> None:
        self.reference, self.seq = Reference(Limits(), 1 << 20), 0

    def take(self, encoded: Encoded) -> np.ndarray:
        self.seq += 1
        if encoded.op is Op.IMAGE:
            self.reference.take_whole(self.seq, encoded.payload, encoded.size, (self.seq,))
        else:
            tiles = parse_tiles(encoded.payload)
            assert tiles.count == encoded.tiles
            assert self.reference.take_tiles(self.seq, encoded.payload, tiles) is None
        return self.reference.at(self.seq).picture().image


def changed(frame: np.ndarray, *places: tuple[int, int], by: int = 40) -> np.ndarray:
    """The frame with other pixels in tiles at these rows and columns."""
    frame = frame.copy()
    for row, column in places:
        tile = frame[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
        tile[:] = np.where(tile < 128, tile + by, tile - by)
    return frame


def send(encoder: TileEncoder, frame: np.ndarray) -> Encoded:
    encoded = encoder.encode(frame)
    encoder.sent(encoded)
    return encoded


def test_only_what_changed_is_sent_and_the_server_sees_it() -> None:
    encoder, server, frame = TileEncoder(90, RULES), Server(), scene()
    first = send(encoder, frame)
    assert (first.op, first.tiles, first.size) == (Op.IMAGE, None, SIZE)
    np.testing.assert_array_equal(server.take(first), decode(first.payload))
    nothing = send(encoder, frame)
    assert (nothing.op, nothing.tiles, len(nothing.payload)) == (Op.TILES, 0, 15)
    server.take(nothing)
    frame = changed(frame, (0, 0), (3, 4), (1, 2))
    some = send(encoder, frame)
    assert some.tiles == 3
    assert parse_tiles(some.payload).base == reference_of(nothing.payload)
    seen = server.take(some)
    assert np.abs(seen.astype(int) - frame).mean() < 2
    assert np.abs(seen[48:, 64:].astype(int) - frame[48:, 64:]).max() < 16, "the corner, cut at both edges"
    assert len(some.payload) < len(first.payload)


def test_the_reference_is_what_was_sent_not_what_was_seen() -> None:
    encoder, frame = TileEncoder(80, RULES), scene()
    send(encoder, frame)
    for step in range(1, 4):
        assert send(encoder, changed(frame, (1, 1), by=step - 1)).tiles == 0, "too little each, and in all"
    assert send(encoder, changed(frame, (1, 1), by=3)).tiles == 1, "differences add up against what was sent"
    assert send(encoder, changed(frame, (1, 1), by=3)).tiles == 0


def test_a_frame_that_was_not_sent_leaves_no_trace() -> None:
    encoder, server, frame = TileEncoder(90, RULES), Server(), scene()
    server.take(send(encoder, frame))
    encoder.encode(changed(frame, (0, 0)))
    encoded = encoder.encode(changed(frame, (2, 2)))
    assert encoded.tiles == 1
    encoder.sent(encoded)
    seen = server.take(encoded)
    assert np.abs(seen.astype(int) - changed(frame, (2, 2))).mean() < 2


def test_the_callers_pixels_may_be_written_over() -> None:
    encoder, frame = TileEncoder(80, RULES), scene((64, 48))
    send(encoder, frame)
    frame[:16, :16] = 255
    assert send(encoder, frame).tiles == 1


def test_what_is_sent_whole() -> None:
    encoder, frame = TileEncoder(80, RULES), scene()
    assert send(encoder, frame).op is Op.IMAGE
    assert send(encoder, frame).op is Op.TILES
    encoder.forget()
    assert send(encoder, frame).op is Op.IMAGE, "nothing is known of what the server has"
    assert send(encoder, scene((64, 48))).op is Op.IMAGE, "another size"
    assert send(encoder, scene((64, 48))).op is Op.TILES
    textured = np.random.default_rng(4).integers(0, 256, (160, 160, 3), np.uint8)
    assert send(encoder, textured).op is Op.IMAGE
    left = [(row, column) for row in range(10) for column in range(5)]
    assert send(encoder, changed(textured, *left)).tiles == 50
    assert send(encoder, changed(textured, *left, (0, 9), by=80)).op is Op.IMAGE, "more than half has changed"


def test_tiles_that_take_as_much_as_a_whole_frame_are_sent_whole() -> None:
    encoder, flat = TileEncoder(80, RULES), np.full((96, 96, 3), 90, np.uint8)
    whole = send(encoder, flat)
    noisy = flat.copy()
    noisy[:32, :48] = np.random.default_rng(1).integers(0, 256, (32, 48, 3))
    again = send(encoder, noisy)
    assert again.op is Op.IMAGE
    assert len(again.payload) > 2 * len(whole.payload)


def test_without_rules_every_frame_is_whole() -> None:
    encoder = TileEncoder(80)
    assert [send(encoder, scene()).op for _ in range(3)] == [Op.IMAGE] * 3
    assert encoder.threshold == 0


def test_little_changes_are_sent_within_the_time_of_refresh() -> None:
    clock = Clock()
    encoder, server, frame = TileEncoder(95, RULES, refresh_s=10.0, clock=clock), Server(), scene()
    server.take(send(encoder, frame))
    frame = changed(frame, *[(row, column) for row in range(4) for column in range(5)], by=2)
    sent = []
    for _ in range(41):
        clock.now += 0.25
        encoded = send(encoder, frame)
        seen = server.take(encoded)
        sent.append(encoded.tiles)
    assert sum(sent) == 20
    assert max(sent) == 1, "in turn, not all at once"
    assert np.abs(seen.astype(int) - frame).mean() < 1.5
    for _ in range(41):
        clock.now += 0.25
        assert send(encoder, frame).tiles == 0, "what is the same to the bit is not sent again"


def test_a_noisy_camera_raises_the_threshold_to_a_bound() -> None:
    rng, encoder = np.random.default_rng(2), TileEncoder(80, RULES)
    grey = np.full((96, 128, 3), 120, np.uint8)

    def noisy(spread: int) -> np.ndarray:
        return (grey + rng.integers(-spread, spread + 1, grey.shape)).astype(np.uint8)

    sent = [send(encoder, noisy(8)) for _ in range(NOISE_FRAMES + 3)]
    assert sent[1].op is Op.IMAGE, "all of it differs"
    assert 6 < encoder.threshold < 12
    assert [encoded.tiles for encoded in sent[-2:]] == [0, 0]
    person = noisy(8)
    person[32:64, 32:64] = 20
    assert send(encoder, person).tiles == 4
    for _ in range(NOISE_FRAMES + 1):
        send(encoder, noisy(60))
    assert encoder.threshold == 4 * RULES.difference
    send(encoder, grey)
    send(encoder, grey)
    assert encoder.threshold == RULES.difference, "the noise is the least of the last frames"


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_other_pixels_are_refused(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected a frame uint8\[H, W, 3\], got"):
        TileEncoder(80, RULES).encode(frame)


@pytest.mark.parametrize("fields", [{"quality": 0}, {"quality": 101}, {"refresh_s": 0.0}])
def test_bounds(fields: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        TileEncoder(**fields)


def test_a_missing_module_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(TilesUnavailable, match="the extra `tiles`; missing: simplejpeg"):
        TileEncoder()
