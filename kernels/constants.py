"""The numbers that kernels, their emitters and their callers agree on."""

from __future__ import annotations

LANES = 16
HALF = 8  # lanes of half a block
VECTOR_BYTES = 64

# Activation kinds, as the kernels take them.
IDENTITY, RELU, CLIP, PRELU, SILU, SIGMOID, HARD_SWISH, HARD_SIGMOID = range(8)

# What the exit of a kernel does with its results.
STORE, TEST_RMS, TEST_BITS = range(3)
UNMARKED = -1.0  # the limit of STORE where whoever asked knows what is written

# What `combine` does with two maps.
ADD, SUB, MUL, MAX, MIN = range(5)

# What a maximum over nothing gives: the lowest finite float32.
LOWEST = -3.4028234663852886e38
