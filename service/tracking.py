"""Ids that stay with objects from frame to frame: ByteTrack over one stream's boxes.

Zhang et al., ByteTrack: Multi-Object Tracking by Associating Every Detection Box, ECCV 2022, as the package `trackers`
has it. That package is an extra (`afterimage[tracking]`) and takes over a second to import, so it is imported by
`load`, which is not for the event loop. Knows boxes and clocks, and neither models nor streams.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from clients.wire import Detection
from service.pipeline import Outcome

if TYPE_CHECKING:
    from trackers import ByteTrackTracker

LOW_SCORE = 0.1
"""Boxes down to this score carry on an id that a stronger box began; they are never shown for that."""
CONFIRM_FRAMES = 2
MIN_IOU = 0.1
LONG_SIDE = 1000.0
"""Frames are measured as if their longer side had so many pixels: the filters' noise is in pixels."""
FILTER_RATE = 30.0  # frames a second that the filters' noise is tuned for; steps of other lengths are scaled to it
SHORTEST_STEP_S = 1e-3
GAP_S = 30.0
"""After so long without a frame every object is a new one."""
REST_FRAMES = 10
"""Frames of equal boxes after which a filter's speed is as good as zero."""
MAX_BOXES = 128
MAX_TRACKS = 512  # of a class; those seen last are kept

MISSING = "this server cannot track: install the extra afterimage[tracking], or leave `tracks` out of `outputs`"


class TrackingUnavailable(RuntimeError):
    """The package that tracks is not installed."""


def is_available() -> bool:
    """Whether `load` would find the package; does not import it."""
    return importlib.util.find_spec("trackers") is not None


def load(lost_s: float) -> Tracker:
    """A tracker whose first frame is as fast as its later ones. Takes seconds the first time: not for the event loop.

    lost_s : how long an object that is not seen keeps its id, seconds
    Raises TrackingUnavailable.
    """
    if not is_available():
        raise TrackingUnavailable(MISSING)
    warm = Tracker(lost_s)
    box = Detection(xyxy=(0.0, 0.0, 9.0, 9.0), score=1.0, class_id=0, label="")
    try:
        for number in (1, 2):
            warm.update([box], (9, 9), 0, number, number)
    except ImportError as error:
        raise TrackingUnavailable(f"{MISSING} ({error})") from error
    return Tracker(lost_s)


@dataclass
class _Clock:
    """Seconds of the stream, from its frames' own clocks. Never stands still and never goes back.

    The sender's clock says when a frame was seen; where it does not move on (or is not kept), arrival has to do.
    A gap without frames is no absence: nobody looked. So a step is at most `longest_s`.
    """

    longest_s: float
    now_s: float = 0.0
    _captured_us: int | None = None
    _arrived_ns: int = 0

    def step(self, captured_us: int, arrived_ns: int) -> float:
        """Move on to a frame; returns the seconds since the last one as they were, 0 for the first."""
        first, moved = self._captured_us is None, captured_us - (self._captured_us or 0)
        passed = 0.0 if first else (moved / 1e6 if moved > 0 else (arrived_ns - self._arrived_ns) / 1e9)
        self._captured_us, self._arrived_ns = captured_us, arrived_ns
        self.now_s += min(max(passed, SHORTEST_STEP_S), self.longest_s)
        return passed


@dataclass
class _OneClass:
    """The objects of one class, and the stream's numbers for them."""

    tracker: ByteTrackTracker
    numbers: dict[int, int] = field(default_factory=dict)


class Tracker:
    """Ids of one stream's objects, from 1 in the order in which they were confirmed; none is used twice.

    Classes are tracked apart, so that a box never takes its id along into another class. Not thread-safe: the worker
    that has the stream's session has it. Memory is bounded: MAX_TRACKS objects of a class, and only classes that are
    in view or were within `lost_s`.
    """

    def __init__(self, lost_s: float) -> None:
        self._lost_s = lost_s
        self._classes: dict[int, _OneClass] = {}
        self._given = 0
        self.reset()

    @property
    def given(self) -> int:
        """How many ids have been given so far: objects seen."""
        return self._given

    def reset(self) -> None:
        """Forget every object; numbers go on."""
        self._classes.clear()
        self._clock = _Clock(self._lost_s / 2)
        self._shape: tuple[float, float] | None = None
        self._last: tuple[float, list[Detection]] = (0.0, [])
        self._ids: list[int | None] = []
        self._same_since_s, self._same_frames = 0.0, 0

    def follow(self, outcome: Outcome, shown: float, captured_us: int, arrived_ns: int) -> Outcome:
        """An outcome whose boxes have ids where they are known, without those that score below `shown`.

        The boxes should go down to `weakest(shown)`. captured_us : the sender's clock; arrived_ns : ours. A model
        without boxes is left as it is.
        """
        boxes = outcome.found.detections
        if boxes is None:
            return outcome
        tracked = self.update(boxes, (outcome.width, outcome.height), shown, captured_us, arrived_ns)
        return replace(outcome, found=replace(outcome.found, detections=tracked))

    def update(
        self,
        boxes: Sequence[Detection],
        size: tuple[int, int],
        shown: float,
        captured_us: int,
        arrived_ns: int,
    ) -> tuple[Detection, ...]:
        """The boxes of one frame of (W, H) pixels that score `shown` or more, in their order, with ids.

        After an error every object has been forgotten.
        """
        try:
            ids = self._track(list(boxes), size, shown, captured_us, arrived_ns)
        except BaseException:
            self.reset()
            raise
        return tuple(
            box if number is None else msgspec.structs.replace(box, track_id=number)
            for box, number in zip(boxes, ids, strict=True)
            if box.score >= shown
        )

    def _track(
        self, boxes: list[Detection], size: tuple[int, int], shown: float, captured_us: int, arrived_ns: int
    ) -> list[int | None]:
        scale = LONG_SIDE / max(size)
        shape = (round(size[0] * scale, -1), round(size[1] * scale, -1))
        if self._shape is not None and shape != self._shape:
            self.reset()
        self._shape = shape
        before_s = self._clock.now_s
        if self._clock.step(captured_us, arrived_ns) > GAP_S:
            self._classes.clear()
            self._same_frames = 0
        if (shown, boxes) != self._last:
            self._last, self._same_since_s, self._same_frames = (shown, boxes), self._clock.now_s, 0
        elif self._at_rest():
            self._clock.now_s = before_s  # for the filters no time has passed either
            return self._ids
        self._same_frames += 1
        self._ids = self._associate(boxes, scale, shown)
        return self._ids

    def _at_rest(self) -> bool:
        """Whether more of the same boxes would change nothing: speeds are zero, and what was lost is forgotten."""
        return self._same_frames >= REST_FRAMES and self._clock.now_s - self._same_since_s > self._lost_s

    def _associate(self, boxes: list[Detection], scale: float, shown: float) -> list[int | None]:
        ids: list[int | None] = [None] * len(boxes)
        strongest = sorted(range(len(boxes)), key=lambda row: -boxes[row].score)[:MAX_BOXES]
        rows: dict[int, list[int]] = {class_id: [] for class_id in self._classes}
        for row in strongest:
            rows.setdefault(boxes[row].class_id, []).append(row)
        for class_id in sorted(rows):
            for row, number in self._of_class(class_id, rows[class_id], boxes, scale, shown):
                ids[row] = number
        return ids

    def _of_class(
        self, class_id: int, rows: list[int], boxes: list[Detection], scale: float, shown: float
    ) -> list[tuple[int, int]]:
        """Rows of one class with the stream's number of the object in each, where it is confirmed."""
        import supervision

        one = self._classes.get(class_id)
        if one is None:
            if not any(boxes[row].score >= shown for row in rows):
                return []
            one = self._classes[class_id] = _OneClass(self._make())
        one.tracker.track_activation_threshold = one.tracker.high_conf_det_threshold = shown
        found = supervision.Detections(
            xyxy=np.asarray([boxes[row].xyxy for row in rows], np.float64).reshape(-1, 4) * scale,
            confidence=np.asarray([boxes[row].score for row in rows], np.float64),
            data={"row": np.asarray(rows, np.int64)},
        )
        answer = one.tracker.update(found, timestamp=self._clock.now_s)
        self._bound(class_id, one)
        if not len(answer) or answer.tracker_id is None:
            return []
        pairs = zip(answer.data["row"], answer.tracker_id, strict=True)
        confirmed = sorted((int(row), int(local)) for row, local in pairs if local >= 0)
        return [(row, self._number(one, local)) for row, local in confirmed]

    def _make(self) -> ByteTrackTracker:
        from trackers import ByteTrackTracker

        return ByteTrackTracker(
            lost_track_buffer=max(1, round(self._lost_s * 30)),  # counted in thirtieths of a second, whatever the rate
            frame_rate=FILTER_RATE,
            minimum_consecutive_frames=CONFIRM_FRAMES,
            minimum_iou_threshold=MIN_IOU,
        )

    def _number(self, one: _OneClass, local: int) -> int:
        if local not in one.numbers:
            self._given += 1
            one.numbers[local] = self._given
        return one.numbers[local]

    def _bound(self, class_id: int, one: _OneClass) -> None:
        """Forget what can come back no more, and what is too much."""
        tracks = one.tracker.tracks
        if not tracks:
            del self._classes[class_id]
            return
        if len(tracks) > MAX_TRACKS:
            one.tracker.tracks = sorted(tracks, key=lambda track: track.time_since_update)[:MAX_TRACKS]
        alive = {track.tracker_id for track in one.tracker.tracks}
        one.numbers = {local: number for local, number in one.numbers.items() if local in alive}


def weakest(shown: float) -> float:
    """The score down to which boxes should be decoded where those from `shown` on are shown."""
    return min(LOW_SCORE, shown)
