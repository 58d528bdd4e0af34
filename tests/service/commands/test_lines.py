"""Lines of JSON: every field, and what is left out of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from clients.python import FrameRefused, FrameResult, FramesLost
from clients.wire import Changes, ClassScore, Detection, Mask, Result, Tensor, Timing
from service.commands.lines import line_of


def result(**fields: Any) -> FrameResult:
    made = Result(
        seq=3, ack=3, capture_ts_us=1_764_346_960_123_456, dropped=2, compute_fraction=0.07, changed_tiles=5,
        timing_ms=Timing(queue=0.1, decode=1.0, diff=0.2, infer=5.0, total=7.0), decision="partial", width=64,
        height=48, **fields,
    )  # fmt: skip
    return FrameResult(3, made, 8.12345)


def test_a_result_has_what_a_pipe_needs() -> None:
    box = Detection(xyxy=(1, 2, 3, 4), score=0.5, class_id=1, label="face", keypoints=((1.0, 2.0, 0.9),), track_id=9)
    plain = Detection(xyxy=(5, 6, 7, 8), score=0.25, class_id=0, label="person")
    line = line_of(result(detections=(box, plain)))
    assert line["time"] == "2025-11-28T16:22:40.123Z"
    assert (line["seq"], line["decision"], line["compute_fraction"], line["changed_tiles"]) == (3, "partial", 0.07, 5)
    assert (line["width"], line["height"], line["round_trip_ms"], line["dropped"]) == (64, 48, 8.123, 2)
    assert line["timing_ms"] == {"queue": 0.1, "decode": 1.0, "diff": 0.2, "infer": 5.0, "total": 7.0}
    assert line["detections"] == [
        {"label": "face", "class_id": 1, "score": 0.5, "xyxy": [1, 2, 3, 4], "track_id": 9,
         "keypoints": [[1.0, 2.0, 0.9]]},
        {"label": "person", "class_id": 0, "score": 0.25, "xyxy": [5, 6, 7, 8]},
    ]  # fmt: skip
    assert {"evicted", "classes", "masks", "tensors", "stages"}.isdisjoint(line)
    assert json.loads(json.dumps(line)) == line


def test_what_is_long_is_told_in_short() -> None:
    mask = Mask(class_id=2, label="road", size=(4, 5), counts=(5, 10, 5), xyxy=(0, 0, 64, 48))
    tensor = Tensor(name="out", dtype="float32", shape=(1, 2), data=(1.0, 2.0))
    changes = Changes(size=(1, 2), counts=(1, 1), xyxy=(0, 0, 64, 48), stages=(0.5, 1.0))
    line = line_of(
        result(
            masks=(mask,), tensors=(tensor,), classes=(ClassScore(class_id=1, label="tabby", score=0.5),),
            changes=changes, evicted=True,
        )
    )  # fmt: skip
    assert line["masks"] == [{"label": "road", "class_id": 2, "share": 0.5, "xyxy": [0, 0, 64, 48]}]
    assert line["tensors"] == [{"name": "out", "dtype": "float32", "shape": [1, 2]}]
    assert line["classes"] == [{"class_id": 1, "label": "tabby", "score": 0.5}]
    assert (line["stages"], line["evicted"], line["detections"]) == ([0.5, 1.0], True, [])


def test_frames_without_a_result_are_told_apart() -> None:
    assert line_of(FrameRefused(4, "bad_image", "no image")) == {
        "refused": {"seq": 4, "code": "bad_image", "detail": "no image"}
    }
    assert line_of(FramesLost((5, 6))) == {"lost": {"seqs": [5, 6]}}


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq_reads_it() -> None:
    face = Detection(xyxy=(1, 2, 3, 4), score=0.5, class_id=1, label="face")
    lines = [line_of(result(detections=(face, face))), line_of(FramesLost((5,))), {"summary": {"results": 1}}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    program = 'select(.seq) | [.detections[] | select(.label == "face")] | length'
    run = subprocess.run(["jq", program], input=text, capture_output=True, text=True, timeout=20, check=True)
    assert run.stdout.split() == ["2"]
