"""POST /v1/join: a code for a key."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def client(make_client, tmp_path: Path):
    return make_client(lan=True, state_folder=tmp_path, join_key_s=1234, max_auth_failures_per_min=3)


def test_a_code_is_traded_once_for_a_key_that_works(client) -> None:
    code = client.app.state.service.access.joins.new_code()
    answer = client.post("/v1/join", json={"code": code})
    assert (answer.status_code, answer.json()["ends_in_s"]) == (201, 1234)
    assert answer.headers["cache-control"] == "no-store"
    bearer = {"authorization": f"Bearer {answer.json()['key']}"}
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/models", headers=bearer).status_code == 200
    made = client.post("/v1/streams", headers=bearer)
    assert made.status_code == 201
    again = client.post("/v1/join", json={"code": code})
    assert (again.status_code, again.json()["code"]) == (401, "unauthorized")


def test_wrong_codes_are_answered_so_often_and_lock_nobody_out(client) -> None:
    answers = [client.post("/v1/join", json={"code": f"wrong{number}"}) for number in range(5)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert answers[-1].json()["code"] == "too_many_failures"
    code = client.app.state.service.access.joins.new_code()
    assert client.post("/v1/join", json={"code": code}).status_code == 201


@pytest.mark.parametrize("body", [{}, {"code": ""}, {"code": "x" * 129}, {"code": 7}, {"code": "x", "more": 1}, []])
def test_what_is_no_code_is_refused(client, body: object) -> None:
    assert client.post("/v1/join", json=body).status_code == 422


def test_pages_of_other_origins_may_not_ask(client) -> None:
    code = client.app.state.service.access.joins.new_code()
    answer = client.post("/v1/join", json={"code": code}, headers={"origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden_origin")
    assert client.app.state.service.access.joins.open, "and the code is still good"


def test_a_server_without_codes_says_so(make_client) -> None:
    answer = make_client().post("/v1/join", json={"code": "x"})
    assert (answer.status_code, answer.json()["code"]) == (404, "no_codes")
