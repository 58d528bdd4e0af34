"""DeepStack's shape: what comes back, in what order, and errors that its clients can read."""

from __future__ import annotations

import numpy as np
import pytest
from service_fakes import FakeEngine, huge_jpeg, image

from service.families.base import Detections

URL = "/v1/vision/detection"


def post(client, url: str = URL, content: bytes | None = None, **fields: str):
    return client.post(url, data=fields, files={"image": content or image(120)})


def detecting(model, rows: list[tuple[float, int]], xyxy: tuple[float, ...] = (0, 0, 32, 48)):
    """A model that finds boxes of these scores and classes in every frame."""
    scores, classes = zip(*rows, strict=True)
    boxes = np.asarray([xyxy] * len(rows), np.float32)
    found = Detections(boxes, np.asarray(scores, np.float32), np.asarray(classes, np.int32))
    model.family.decode = lambda outputs, spec, size: found.select(found.score > spec.min_confidence)
    return model


def test_a_reply(make_client) -> None:
    response = post(make_client(), min_confidence="0.5", api_key="")
    assert response.status_code == 200
    reply = response.json()
    assert reply["predictions"] == [
        {"confidence": 0.75, "label": "grey12", "x_min": 0, "y_min": 0, "x_max": 64, "y_max": 96}
    ]
    assert (reply["success"], reply["code"], reply["count"], reply["command"]) == (True, 200, 1, "detect")
    assert (reply["message"], reply["moduleId"]) == ("Found grey12", "afterimage")
    assert all(isinstance(reply[name], int) for name in ("inferenceMs", "processMs", "analysisRoundTripMs"))


def test_nothing_found_is_a_success(make_client) -> None:
    reply = post(make_client(), min_confidence="0.9").json()
    assert (reply["success"], reply["predictions"], reply["count"]) == (True, [], 0)
    assert reply["message"] == "No objects found"


def test_best_first_and_no_more_than_20(make_client, engine: FakeEngine) -> None:
    rows = [(0.41 + 0.01 * (n * 7 % 30), n % 5) for n in range(30)]
    found = post(make_client(detecting(engine.model(), rows))).json()["predictions"]
    scores = [one["confidence"] for one in found]
    assert len(scores) == 20
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 0.7


def test_who_names_no_confidence_gets_nothing_below_0_4(make_client, engine: FakeEngine) -> None:
    client = make_client(detecting(engine.model(min_confidence=0.1), [(0.3, 1), (0.45, 2)]))
    assert [one["label"] for one in post(client).json()["predictions"]] == ["grey2"]
    assert post(client, min_confidence="").json()["count"] == 1
    assert post(client, min_confidence="0.2").json()["count"] == 2


def test_boxes_are_whole_pixels_inside_the_image(make_client, engine: FakeEngine) -> None:
    client = make_client(detecting(engine.model(), [(0.9, 1)], (-5.3, 1.26, 70.0, 60.0)))
    (one,) = post(client).json()["predictions"]
    sides = [one[name] for name in ("x_min", "y_min", "x_max", "y_max")]
    assert sides == [0, 3, 128, 96]
    assert all(type(side) is int for side in sides)


def test_faces_are_for_the_face_call_and_vehicles_are_cars(make_client, engine: FakeEngine) -> None:
    model = detecting(engine.model(labels=("person", "face", "vehicle")), [(0.9, 1), (0.8, 0), (0.7, 2)])
    client = make_client(model)
    assert [one["label"] for one in post(client).json()["predictions"]] == ["person", "car"]
    assert [one["label"] for one in post(client, "/v1/vision/face").json()["predictions"]] == ["face"]
    custom = post(client, "/v1/vision/custom/fake.onnx").json()
    assert [one["label"] for one in custom["predictions"]] == ["face", "person", "car"]
    assert custom["command"] == "custom"


def test_labels_may_be_called_otherwise_or_not(make_client, engine: FakeEngine) -> None:
    model = detecting(engine.model(labels=("person", "vehicle")), [(0.9, 0), (0.8, 1)])
    client = make_client(model, deepstack_labels={"person": "human"})
    assert [one["label"] for one in post(client).json()["predictions"]] == ["human", "vehicle"]


def test_a_model_of_faces_alone_answers_both_calls(make_client, engine: FakeEngine) -> None:
    client = make_client(detecting(engine.model(labels=("face",)), [(0.9, 0)]))
    assert post(client).json()["count"] == post(client, "/v1/vision/face").json()["count"] == 1


def test_the_list_of_models(make_client, engine: FakeEngine) -> None:
    client = make_client(engine.model("a"), engine.model("b"))
    for response in (
        client.get("/v1/vision/custom/list"),
        client.post("/v1/vision/custom/list"),
        client.post("/v1/vision/custom/list", data={"api_key": "x"}, files={"none": b""}),
    ):
        assert (response.json()["success"], response.json()["models"]) == (True, ["a", "b"])


def test_no_update_is_available(make_client) -> None:
    reply = make_client().get("/v1/status/updateavailable").json()
    assert (reply["success"], reply["updateAvailable"]) == (True, False)


def failed(response, status: int, says: str) -> None:
    reply = response.json()
    assert (response.status_code, reply["success"], reply["code"]) == (status, False, status), reply
    assert says in reply["error"]
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("given", ["2", "-0.1", "much", "nan", "inf"])
def test_a_confidence_that_is_none(make_client, given: str) -> None:
    failed(post(make_client(), min_confidence=given), 400, "expected a number from 0 to 1")


def test_errors(make_client, engine: FakeEngine) -> None:
    client = make_client(engine.model(), engine.model("classes", "classes"), max_message_bytes=60_000)
    failed(post(client, content=b"no image"), 400, "expected a JPEG, PNG or WebP image")
    failed(post(client, content=image()[:-50]), 400, "too early")
    failed(post(client, content=huge_jpeg()), 413, "pixels")
    failed(post(client, content=bytes(70_000)), 413, "at most 60000 bytes")
    failed(client.post(URL, data={"image": "text"}, files={"other": b"x"}), 400, "expected a file in the field 'image'")
    failed(client.post(URL, content=image(), headers={"content-type": "image/jpeg"}), 415, "multipart/form-data")
    failed(post(client, "/v1/vision/custom/none"), 404, "unknown model 'none'")
    failed(post(client, "/v1/vision/custom/classes"), 400, "expected a model that finds boxes")
    failed(post(client, "/v1/vision/face"), 404, "finds no faces")
    failed(post(client, "/v1/vision/face/recognize"), 404, "/v1/vision/face/recognize is not served here")
    failed(post(client, "/v1/vision/scene"), 404, "not served")
    failed(client.put(URL), 405, "Method Not Allowed")


def test_an_engine_error_and_an_overload(make_client, engine: FakeEngine, caplog) -> None:
    client = make_client()
    engine.failures.append(ZeroDivisionError("secret"))
    response = post(client)
    failed(response, 500, "the log has it as")
    assert "secret" not in response.text
    client.app.state.service.draining = True
    failed(post(client), 503, "shutting down")
    client.app.state.service.draining = False


def test_pages_of_other_origins_are_refused(make_client) -> None:
    response = make_client().post(URL, files={"image": image()}, headers={"origin": "https://evil.example"})
    failed(response, 403, "origin")
