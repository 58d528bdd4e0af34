"""Profiles: written, found beside a model, and refused where they are wrong."""

from __future__ import annotations

import json
import shutil

import pytest

from service.catalogue import find_model
from service.opened import open_model
from service.profile import Profile, ProfileError, load_profile, profile_path

GOOD = {"version": 1, "model": "ab" * 32, "size": [64, 48], "budget": "noise", "factors": {"a": 1.5}}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "m.profile.json"
    Profile.model_validate(GOOD).write(path)
    assert load_profile(path, "m.onnx", "ab" * 32) == Profile.model_validate(GOOD)
    assert load_profile(None, tmp_path / "m.onnx", "ab" * 32) is not None, "beside the model"
    assert load_profile("", tmp_path / "m.onnx", "ab" * 32) is None
    assert load_profile(None, tmp_path / "other.onnx", "ab" * 32) is None


@pytest.mark.parametrize(("change", "said"), [
    ({"factors": {"a": -1}}, "factors.a"), ({"size": [1]}, "size"), ({"version": 2}, "version"), ({"more": 1}, "more"),
    ({"blocks": {"a": 3}}, "blocks.a"),
    ({"model": "cd" * 32}, "made for another model"),
])  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, change, said):
    path = tmp_path / "m.profile.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(ProfileError, match=said):
        load_profile(path, "m.onnx", "ab" * 32)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_what_is_no_profile_is_refused(tmp_path, text):
    path = tmp_path / "m.profile.json"
    path.write_text(text)
    with pytest.raises(ProfileError, match="not a profile"):
        load_profile(path, "m.onnx", "")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "none.json", "m.onnx", "")


def test_a_model_opens_with_the_profile_beside_it(tmp_path):
    path = tmp_path / "people.onnx"
    shutil.copy(find_model("people"), path)
    plain = open_model(path, (64, 64))
    assert plain.profile is None
    step = next(s for s in plain.compile().steps if s.epsilon > 0)
    found = Profile(model=plain.model.sha256, size=(64, 64), budget="noise", factors={step.step.name: 2.0, "gone": 3.0})
    found.write(profile_path(path))
    opened = open_model(path, (64, 64))
    assert opened.profile == found
    scaled = next(s for s in opened.compile().steps if s.step.name == step.step.name)
    assert scaled.epsilon == pytest.approx(2 * step.epsilon)
    assert open_model(path, (64, 64), profile="").profile is None


def test_blocks_of_a_profile_reach_the_plan(tmp_path):
    plain = open_model(find_model("people"), (64, 64), profile="")
    before = plain.compile().steps[0]
    name = before.step.name
    found = Profile(model=plain.model.sha256, size=(64, 64), budget="noise", factors={}, blocks={name: 2, "gone": 1})
    path = tmp_path / "people.profile.json"
    found.write(path)
    after = open_model(find_model("people"), (64, 64), profile=path).compile().steps[0]
    assert after.block == max(2, after.step.method.grain)
    assert before.block == 4
