"""Rules by stride, by node, and for vectors."""

from __future__ import annotations

import pytest

from cache.policy import DEFAULT_LEVELS, Level, Policy


def test_defaults_are_tight_early_and_loose_late():
    epsilons = [level.epsilon for level in DEFAULT_LEVELS]
    blocks = [level.block for level in DEFAULT_LEVELS]
    assert epsilons == sorted(epsilons)
    assert blocks == sorted(blocks, reverse=True)


def test_rules_by_stride_node_and_vector():
    own = Level(1, 0.5, 1)
    policy = Policy(nodes={"special": own}, global_epsilon=0.07)
    assert policy.level("a", 2, False) == Level(2, 0.03, 4)
    assert policy.level("a", 3, False).epsilon == 0.06
    assert policy.level("a", 16, False).block == 2
    assert policy.level("a", 64, False).block == 1
    assert policy.level("a", 384, True).epsilon == 0.07
    assert policy.level("special", 2, False) is own


def test_a_policy_is_scaled_in_what_nodes_tolerate():
    policy = Policy(nodes={"a": Level(8, 0.1, 2)}, global_epsilon=0.07, tile=4)
    double = policy.scaled(2)
    assert [level.epsilon for level in double.levels] == [2 * level.epsilon for level in policy.levels]
    assert (double.global_epsilon, double.nodes["a"]) == (0.14, Level(8, 0.2, 2))
    assert (double.tile, double.tile_difference) == (policy.tile, policy.tile_difference)
    assert [level.block for level in double.levels] == [level.block for level in policy.levels]
    assert policy.scaled(1) == policy


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_a_factor_that_scales_nothing_is_refused(factor):
    with pytest.raises(ValueError, match="expected a factor above 0, got"):
        Policy().scaled(factor)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile": 5}, "expected a tile of 4, 8 or 16 px, got 5"),
        ({"levels": (Level(float("inf"), 0.1, 3),)}, "expected a block of 1, 2 or 4 px, got 3"),
        ({"levels": (Level(float("inf"), -1.0, 1),)}, "expected a threshold of 0 or more, got -1.0"),
        ({"levels": (Level(float("inf"), 0.1, 1), Level(8, 0.1, 1))}, "expected levels by ascending stride"),
        ({"levels": (Level(8, 0.1, 1),)}, "expected the last level to cover every stride"),
        ({"cache_dtype": "half"}, 'expected a cache_dtype of "float32" or "float16", got \'half\''),
        ({"fft_kept": 1.5}, "expected fft_kept of 0 to 1, got 1.5"),
        ({"compute_dtype": "float16"}, 'expected a compute_dtype of "float32" or "bfloat16", got \'float16\''),
    ],
)
def test_bad_rules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Policy(**arguments)
