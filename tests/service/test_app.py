"""The HTTP routes through starlette's TestClient: health, models, streams, detection, and their errors."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest
from service_fakes import SIZE, FakeEngine, huge_jpeg, image, wait_until

from service.registry import Model, ModelFailed
from service.routes.forms import MAX_FIELDS

JPEG = {"content-type": "image/jpeg"}


def problem(response, status: int, code: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:afterimage:problem:{code}"
    assert body["title"]
    assert body["detail"]
    return body


def test_health_and_readiness(make_client, engine: FakeEngine) -> None:
    client = make_client()
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "default_model": "fake"}
    assert engine.compiles == 1
    client.app.state.service.draining = True
    assert "shutting down" in problem(client.get("/readyz"), 503, "not_ready")["detail"]
    client.app.state.service.draining = False


def test_not_ready_while_compiling(make_client, engine: FakeEngine) -> None:
    client = make_client()
    service = client.app.state.service
    service.warm = False
    assert "compiled" in problem(client.get("/readyz"), 503, "not_ready")["detail"]
    assert client.get("/healthz").status_code == 200


def broken():
    raise ModelFailed("broken: expected an image input, got none")


def test_a_default_model_that_fails_is_never_ready(make_client, engine: FakeEngine) -> None:
    good = engine.model()
    client = make_client(Model("broken", good.spec, good.family, SIZE, broken))
    detail = problem(client.get("/readyz"), 503, "not_ready")["detail"]
    assert "expected an image input" in detail
    assert client.get("/v1/models").json()["models"][0]["state"] == "failed"
    response = client.post("/v1/detect", content=image(), headers=JPEG)
    problem(response, 503, "model_failed")


def test_models(make_client, engine: FakeEngine) -> None:
    client = make_client(engine.model("a"), engine.model("b", labels=("cat",)))
    a, b = client.get("/v1/models").json()["models"]
    assert (a["name"], a["default"], a["state"], a["compiled"]) == ("a", True, "ready", True)
    assert (b["name"], b["default"], b["labels"], b["compiled"]) == ("b", False, ["cat"], False)
    assert b["size"] == [64, 48]


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp"])
def test_detect_raw(make_client, kind: str) -> None:
    media = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}[kind]
    response = make_client().post("/v1/detect", content=image(120, kind=kind), headers={"content-type": media})
    assert response.status_code == 200
    reply = response.json()
    assert (reply["model"], reply["width"], reply["height"]) == ("fake", 128, 96)
    (found,) = reply["detections"]
    assert (found["xyxy"], found["label"], found["score"]) == ([0, 0, 64, 96], "grey12", 0.75)
    assert reply["timing_ms"]["total"] > 0
    assert "masks" not in reply


def test_detect_multipart(make_client) -> None:
    response = make_client().post("/v1/detect", files={"image": ("x.png", image(50, kind=".png"))})
    assert response.json()["detections"][0]["class_id"] == 5


def test_detect_remembers_nothing(make_client, engine: FakeEngine) -> None:
    client = make_client(engine.model(), engine.model("other"))
    for _ in range(3):
        assert client.post("/v1/detect?model=other", content=image(), headers=JPEG).status_code == 200
    warm, session = engine.sessions
    assert warm.decisions == ["keyframe", "partial"], "compiled and run before a worker has it"
    assert session.decisions == ["keyframe"] * 3


def test_the_first_request_finds_the_default_models_session_made_and_warm(make_client, engine: FakeEngine) -> None:
    client = make_client()
    session = client.app.state.service.seats["fake"].pipeline._session
    assert session.decisions == ["keyframe"]
    assert client.post("/v1/detect", content=image(), headers=JPEG).status_code == 200
    assert session.decisions == ["keyframe"] * 2
    assert engine.sessions == [], "none was made for it"


def test_detect_coco(make_client) -> None:
    response = make_client().post("/v1/detect?format=coco", content=image(120), headers=JPEG)
    assert response.json() == [{"image_id": 0, "category_id": 12, "bbox": [0, 0, 64, 96], "score": 0.75}]


def test_detect_jpeg_is_annotated(make_client) -> None:
    response = make_client().post("/v1/detect?format=jpeg", content=image(120), headers=JPEG)
    assert response.headers["content-type"] == "image/jpeg"
    drawn = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (96, 128, 3)
    assert np.abs(drawn[:, 60:68].astype(int) - 120).max() > 40, "the box's right edge"
    assert np.abs(drawn[:, 80:].astype(int) - 120).max() < 40


def test_detect_other_kinds_of_models(make_client, engine: FakeEngine) -> None:
    models = [engine.model(kind, kind) for kind in ("classes", "mask", "raw")]
    client = make_client(*models)
    classes = client.post("/v1/detect?model=classes", content=image(30), headers=JPEG).json()
    assert [entry["class_id"] for entry in classes["classes"]] == [3, 0]
    assert "detections" not in classes
    mask = client.post("/v1/detect?model=mask", content=image(30), headers=JPEG).json()
    assert all(sum(entry["counts"]) == 48 for entry in mask["masks"])
    raw = client.post("/v1/detect?model=raw", content=image(30), headers=JPEG).json()
    assert raw["tensors"][0] == {"name": "grey", "dtype": "float64", "shape": [1, 1, 1], "data": [30.0]}
    response = client.post("/v1/detect?format=coco&model=classes", content=image(), headers=JPEG)
    problem(response, 400, "no_boxes")


@pytest.mark.parametrize(
    ("content", "media", "status", "code"),
    [
        (b"", "image/jpeg", 400, "empty_body"),
        (b"hello", "image/jpeg", 400, "bad_image"),
        (image()[:-50], "image/jpeg", 400, "incomplete_image"),
        (image(kind=".png"), "image/jpeg", 400, "wrong_image_type"),
        (huge_jpeg(), "image/jpeg", 413, "image_too_large"),
        (bytes(20_000), "image/jpeg", 413, "too_large"),
        (image(), "application/json", 415, "unsupported_media_type"),
        (image(), "multipart/form-data", 400, "bad_form"),
        (b"--x--", "multipart/form-data; boundary=x", 400, "bad_form"),
        (b"garbage", "multipart/form-data; boundary=x", 400, "bad_form"),
    ],
)
def test_detect_refusals(make_client, content: bytes, media: str, status: int, code: str) -> None:
    client = make_client(max_message_bytes=16_384)
    problem(client.post("/v1/detect", content=content, headers={"content-type": media}), status, code)
    assert client.post("/v1/detect", content=image(), headers=JPEG).status_code == 200


def test_an_image_that_costs_more_than_its_pixels(make_client) -> None:
    pixels = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    bomb = pixels[:-2] + pixels[pixels.rindex(b"\xff\xda") : -2] * 100 + b"\xff\xd9"
    body = problem(make_client().post("/v1/detect", content=bomb, headers=JPEG), 413, "image_too_large")
    assert "scans" in body["detail"]


def test_detect_refuses_forms_of_many_fields(make_client) -> None:
    client = make_client()
    files = {"image": ("x.jpg", image())}
    fields = {f"f{n}": "x" for n in range(MAX_FIELDS + 1)}
    problem(client.post("/v1/detect", files=files, data=fields), 400, "bad_form")
    problem(client.post("/v1/detect", files=files | {"other": ("y.jpg", image())}), 400, "bad_form")
    assert client.post("/v1/detect", files=files, data={"f": "x"}).status_code == 200


def test_a_body_of_unknown_length_is_bounded_too(make_client) -> None:
    client = make_client(max_message_bytes=16_384)
    chunks = (bytes(1000) for _ in range(1000))
    problem(client.post("/v1/detect", content=chunks, headers=JPEG), 413, "too_large")


def test_a_truncated_image_inside_a_form(make_client) -> None:
    response = make_client().post("/v1/detect", files={"image": ("x.jpg", image()[:-50])})
    assert problem(response, 400, "incomplete_image")


def test_bad_queries(make_client) -> None:
    client = make_client()
    problem(client.post("/v1/detect?format=xml", content=image(), headers=JPEG), 422, "bad_request")
    problem(client.post("/v1/detect?min_confidence=2", content=image(), headers=JPEG), 422, "bad_request")
    body = problem(client.post("/v1/detect?model=x", content=image(), headers=JPEG), 404, "unknown_model")
    assert "expected one of fake" in body["detail"]
    problem(client.get("/nowhere"), 404, "not_found")
    problem(client.get("/v1/detect"), 405, "method_not_allowed")


def test_an_engine_error_has_an_id_and_no_secrets(make_client, engine: FakeEngine, caplog) -> None:
    client = make_client()
    engine.failures.append(ZeroDivisionError("a secret inside"))
    response = client.post("/v1/detect", content=image(), headers=JPEG)
    body = problem(response, 500, "internal")
    assert body["error_id"] in caplog.text
    assert "secret" not in response.text
    assert client.post("/v1/detect", content=image(), headers=JPEG).status_code == 200


def test_detect_overload_is_refused_at_once(make_client, engine: FakeEngine) -> None:
    client = make_client(detect_queue=1)
    engine.gate.clear()
    answers: list[int] = []

    def post() -> None:
        answers.append(client.post("/v1/detect", content=image(), headers=JPEG).status_code)

    threads = [threading.Thread(target=post) for _ in range(2)]
    threads[0].start()
    assert engine.entered.acquire(timeout=5)
    threads[1].start()
    lane = client.app.state.service.seats["fake"].lane
    wait_until(lambda: len(lane.pending) == 1)
    response = client.post("/v1/detect", content=image(), headers=JPEG)
    problem(response, 503, "overloaded")
    assert response.headers["retry-after"] == "1"
    engine.gate.set()
    for thread in threads:
        thread.join(10)
    assert answers == [200, 200]


def test_detect_times_out(make_client, engine: FakeEngine) -> None:
    client = make_client(detect_timeout_s=0.1)
    engine.gate.clear()
    problem(client.post("/v1/detect", content=image(), headers=JPEG), 503, "overloaded")


def test_pages_of_other_origins_are_refused(make_client) -> None:
    client = make_client()
    evil = {"origin": "https://evil.example"}
    problem(client.post("/v1/detect", content=image(), headers=JPEG | evil), 403, "forbidden_origin")
    problem(client.post("/v1/streams", headers=evil), 403, "forbidden_origin")
    rebound = {"origin": "http://testserver"}  # the Host says so too, but this server listens on loopback
    problem(client.post("/v1/detect", content=image(), headers=JPEG | rebound), 403, "forbidden_origin")
    own = {"origin": "http://localhost", "host": "localhost"}
    assert client.post("/v1/detect", content=image(), headers=JPEG | own).status_code == 200


def test_streams_live_and_die(make_client) -> None:
    client = make_client(max_streams=2)
    made = client.post("/v1/streams", json={"model": "fake"})
    assert made.status_code == 201
    stream_id, token = made.json()["stream_id"], made.json()["token"]
    bearer = {"authorization": f"Bearer {token}"}
    path = f"/v1/streams/{stream_id}"
    problem(client.get(path), 401, "unauthorized")
    problem(client.delete(path, headers={"authorization": "Bearer x"}), 401, "unauthorized")
    state = client.get(path, headers=bearer).json()
    assert (state["model"], state["connected"], state["anonymous"]) == ("fake", False, False)
    counts = ("received", "results", "dropped", "refused", "failed", "paced", "evicted")
    assert state["frames"] == dict.fromkeys(counts, 0)
    assert state["age_ms"] is None
    assert token not in client.get("/v1/streams").text
    assert len(client.get("/v1/streams").json()["streams"]) == 1
    assert client.post("/v1/streams").status_code == 201
    response = client.post("/v1/streams")
    problem(response, 503, "overloaded")
    assert client.delete(path, headers=bearer).status_code == 204
    problem(client.get(path, headers=bearer), 404, "unknown_stream")
    problem(client.post("/v1/streams", json={"model": "x"}), 404, "unknown_model")
    problem(client.post("/v1/streams", json={"modle": "x"}), 422, "bad_request")


def test_a_stream_is_made_under_an_id_of_the_callers_choice(make_client) -> None:
    client = make_client(max_streams=3)
    made = client.post("/v1/streams/door-1", json={"model": "fake"})
    assert made.status_code == 201
    assert made.json()["stream_id"] == "door-1"
    assert made.json()["ws_url"].endswith("/v1/streams/door-1/ws")
    bearer = {"authorization": f"Bearer {made.json()['token']}"}
    problem(client.post("/v1/streams/door-1", headers=bearer), 409, "stream_exists")
    assert client.delete("/v1/streams/door-1", headers=bearer).status_code == 204
    assert client.post("/v1/streams/door-1").status_code == 201
    problem(client.post("/v1/streams/a.b"), 422, "bad_request")
    problem(client.post(f"/v1/streams/{'a' * 65}"), 422, "bad_request")


def test_a_stream_may_ask_how_long_it_is_kept(make_client) -> None:
    client = make_client(max_resume_s=300)
    made = [client.post("/v1/streams", json=body).json() for body in ({}, {"resume_s": 5}, {"resume_s": 3000})]
    assert [one["resume_s"] for one in made] == [60, 5, 300]
    headers = {"authorization": f"Bearer {made[1]['token']}"}
    state = client.get(f"/v1/streams/{made[1]['stream_id']}", headers=headers).json()
    assert (state["state"], state["resume_s"]) == ("made", 5)
    for wrong in (-1, 86_401, "long"):
        problem(client.post("/v1/streams", json={"resume_s": wrong}), 422, "bad_request")


def test_the_list_of_streams_is_off_without_anonymous_streams(make_client) -> None:
    problem(make_client(anonymous_streams=False).get("/v1/streams"), 403, "forbidden")


def test_the_first_request_finds_the_routes_built(make_client, monkeypatch: pytest.MonkeyPatch) -> None:
    client = make_client()
    built: list[object] = []
    monkeypatch.setattr("fastapi.routing._populate_api_route_state", lambda *args, **fields: built.append(args))
    assert client.post("/v1/detect", content=image(), headers=JPEG).status_code == 200
    assert built == []


def test_openapi_describes_every_route(make_client) -> None:
    paths = make_client().get("/openapi.json").json()["paths"]
    assert {
        "/healthz",
        "/readyz",
        "/v1/models",
        "/v1/detect",
        "/v1/streams",
        "/v1/streams/{stream_id}",
        "/v1/models/{name}/reload",
        "/v1/vision/detection",
        "/v2/models/{name}/infer",
    } <= set(paths)
    assert "image/png" in paths["/v1/detect"]["post"]["requestBody"]["content"]
