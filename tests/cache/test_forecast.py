"""Whole or in part: by what partial frames have cost."""

from __future__ import annotations

from cache.forecast import LEAST, Forecast


def test_without_experience_only_nearly_everything_is_whole():
    found = Forecast(1000, 0.9, 0.95)
    assert found.most_changed == found.limit == 950


def test_frames_that_cost_as_much_as_whole_ones_become_whole():
    forecast = Forecast(1000, 0.9, 0.95)
    forecast.learn(500, 0.9)  # as in exact mode: everything that is reached is recomputed
    assert forecast.most_changed == 500
    assert forecast.limit == 950


def test_frames_that_stay_cheap_stay_partial():
    forecast = Forecast(1000, 0.9, 0.95)
    forecast.learn(600, 0.5)  # a camera that moves
    assert forecast.most_changed == 950


def test_little_changes_teach_nothing_of_large_ones():
    forecast = Forecast(1000, 0.9, 0.95)
    forecast.learn(10, 0.3)
    assert forecast.most_changed == 950
    forecast.learn(400, 1.0)
    forecast.learn(400, 1.0)
    assert forecast.most_changed == 360
    forecast.learn(300, 1.0)
    assert forecast.most_changed >= int(LEAST * 1000)


def test_partial_frames_are_tried_again():
    forecast = Forecast(1000, 0.9, 0.95)
    forecast.learn(500, 1.0)
    before = forecast.most_changed
    for _ in range(30):
        forecast.fade()
    assert forecast.most_changed > before
