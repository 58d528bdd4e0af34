"""Which layers to replace, and with which ranks: the most work saved for an error of the outputs, or the other way.

Errors of different layers are as good as independent, and add in squares. What a layer's own error does to the outputs
is measured once, at one choice of ranks, and taken to be in proportion. Numbers alone; measuring is the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.compression.cost import time_ns
from service.compression.decompose import Form, Piece, Ranks, Shape, macs, matrices, pieces, sized
from service.compression.ranks import by_bayes, by_energy, lost, rounded
from service.compression.unfolding import Array

SHARES = (0.9995, 0.999, 0.998, 0.995, 0.99, 0.98, 0.965, 0.945, 0.92, 0.88, 0.83, 0.76, 0.67, 0.55, 0.4, 0.25)
"""Of energy, that ranks are tried at."""
_FINE = 50
_LEAST_LEFT = 0.1
"""Of what a cp form begins with, that fitting leaves at the most numbers."""


@dataclass(frozen=True)
class Rung:
    """One choice for a layer. saved : multiply-accumulates. loss : square of the relative error of its outputs or
    weights, estimated. gain : what choices are weighed by, beside the loss: those, or nanoseconds."""

    ranks: Ranks
    saved: int
    loss: float
    gain: float


_NOTHING = Rung((), 0, 0.0, 0.0)


@dataclass(frozen=True)
class Move:
    """From one rung of a layer to a further one. saved : multiply-accumulates, damage : square of the outputs' relative
    error, both more than the one before."""

    layer: str
    ranks: Ranks
    saved: int
    damage: float


@dataclass(frozen=True, eq=False)
class Shaped:
    """What is to be known of a layer here. spectra : singular values that its ranks cut, weighed by its inputs where
    those are known. plain : those of its weights alone."""

    form: Form
    shape: Shape
    size_in: tuple[int, int]
    size_out: tuple[int, int]
    spectra: tuple[Array, ...]
    plain: tuple[Array, ...]

    @property
    def before(self) -> int:
        """Multiply-accumulates of the layer as it is."""
        c_out, c_in, kh, kw = self.shape
        return self.size_out[0] * self.size_out[1] * c_out * c_in * kh * kw

    def after(self, ranks: Ranks) -> int:
        """Of its form with these ranks."""
        return macs(self.form, self.shape, ranks, self.size_in, self.size_out)

    def time_saved(self, ranks: Ranks) -> float:
        """Nanoseconds of a dense frame, guessed (`cost`), that its form with these ranks takes less."""
        whole = time_ns(Piece(self.shape), self.size_in, self.size_out)
        size, total = self.size_in, 0.0
        for piece, made in sized(self.form, self.shape, ranks, self.size_in, self.size_out):
            total += time_ns(piece, size, made)
            size = made
        return whole - total

    def at_energy(self, share: float) -> Ranks:
        """The ranks that keep a share of the squared singular values of each matrix, or of a cp form's all together,
        rounded to blocks."""
        return self._rounded([by_energy(values, share) for values in self._cut()])

    def by_bayes(self) -> Ranks:
        """The ranks that variational Bayes finds in the weights, whose noise it takes to be even; at least 1."""
        sizes = matrices(self.form, self.shape)
        found = [by_bayes(v, size) for v, size in zip(self.plain, sizes, strict=True)]
        return self._rounded([max(1, rank) for rank in ([sum(found)] if self.form == "cp" else found)])

    def loss(self, ranks: Ranks) -> float:
        """Squared relative error, from the singular values that are cut off: a bound; of a cp form an estimate, as what
        is cut off is where fitting begins. It takes away a share of that which is about the numbers in the factors over
        those in the weights: .7 of it is left at a share of .3, .3 at .7 (within a third, on layers with trained
        weights).
        """
        bound = min(1.0, sum(lost(values, rank) for values, rank in zip(self._cut(), ranks, strict=True)))
        if self.form != "cp":
            return bound
        numbers = sum(math.prod(piece.shape) for piece in pieces(self.form, self.shape, ranks))
        return bound * max(1 - numbers / math.prod(self.shape), _LEAST_LEFT)

    def _cut(self) -> tuple[Array, ...]:
        """The values that each rank cuts."""
        return (np.sort(np.concatenate(self.spectra))[::-1],) if self.form == "cp" else self.spectra

    def _rounded(self, ranks: Sequence[int]) -> Ranks:
        return tuple(rounded(rank, len(values)) for rank, values in zip(ranks, self._cut(), strict=True))


def ladder(layer: Shaped, by_time: bool = False) -> tuple[Rung, ...]:
    """Choices of ranks that save work, and time if that is what counts, from the one that loses least."""
    tried = [layer.by_bayes(), *(layer.at_energy(share) for share in SHARES)]
    if layer.form == "tucker2":  # one mode kept whole, which spares the 1x1 of it
        c_out, c_in = layer.shape[:2]
        tried = [ranks for r1, r2 in tried for ranks in ((r1, r2), (c_in, r2), (r1, c_out))]
    rungs: list[Rung] = []
    for ranks in dict.fromkeys(tried):
        saved = layer.before - layer.after(ranks)
        gain = layer.time_saved(ranks) if by_time else float(saved)
        if saved > 0 and gain > 0:
            rungs.append(Rung(ranks, saved, layer.loss(ranks), gain))
    return tuple(sorted(rungs, key=lambda rung: (rung.loss, -rung.gain)))


def hull(rungs: Sequence[Rung]) -> tuple[Rung, ...]:
    """The rungs between which no mixture would do better: each gains more than the one before, at a rising price."""
    kept = [_NOTHING]
    for rung in sorted(rungs, key=lambda rung: (rung.gain, rung.loss)):
        if rung.gain <= kept[-1].gain:
            continue
        while len(kept) > 1 and _price(kept[-2], kept[-1]) >= _price(kept[-1], rung):
            kept.pop()
        kept.append(rung)
    return tuple(kept[1:])


def _price(one: Rung, other: Rung) -> float:
    return (other.loss - one.loss) / (other.gain - one.gain)


def probe_of(rungs: Sequence[Rung]) -> Rung:
    """The rung at which a layer's sensitivity is measured: in the middle, where its error is neither noise nor all."""
    return rungs[len(rungs) // 2]


def moves(rungs: Mapping[str, Sequence[Rung]], sensitivity: Mapping[str, float]) -> tuple[Move, ...]:
    """All moves of all layers, the cheapest for what it gains first. Those of a layer come in their order.

    sensitivity : squared relative error of the outputs over that of the layer's.
    """
    found: list[tuple[float, int, Move]] = []
    for name, some in rungs.items():
        before = _NOTHING
        for rung in hull(some):
            damage = sensitivity[name] * (rung.loss - before.loss)
            move = Move(name, rung.ranks, rung.saved - before.saved, damage)
            found.append((damage / (rung.gain - before.gain), len(found), move))
            before = rung
    return tuple(move for _, _, move in sorted(found, key=lambda item: item[:2]))


def plan_of(chosen: Sequence[Move]) -> dict[str, Ranks]:
    """Ranks of each layer after some moves."""
    return {move.layer: move.ranks for move in chosen}


def count_for(moves: Sequence[Move], saved: int) -> int | None:
    """How many of the moves save so much; None if all of them do not."""
    total = 0
    for number, move in enumerate(moves):
        if total >= saved:
            return number
        total += move.saved
    return len(moves) if total >= saved else None


def within(moves: Sequence[Move], allowed: float, measure: Callable[[int], float]) -> tuple[int, float | None]:
    """How many of the moves keep the outputs' error at `allowed` or less, and the error of one where none do.

    measure : relative error of the outputs after the first n moves, n from 1. The search begins where the estimate
    lies, and ends at a number that was measured to hold, next to one that was measured not to (within a fiftieth).
    """
    good, bad, total = 0, len(moves) + 1, 0.0
    guess = 0
    for move in moves:
        total += move.damage
        guess += total <= allowed**2
    guess, step, least = max(1, guess), max(1, len(moves) // 8), None
    while bad - good > (1 + len(moves) // _FINE if good else 1):
        error = measure(guess)
        least = error if least is None else min(least, error)
        if error <= allowed:
            good = guess
        else:
            bad = guess
        if good and bad <= len(moves):
            guess = (good + bad) // 2
        elif good:
            guess, step = min(good + step, len(moves)), 2 * step
        else:
            guess, step = max(bad - step, 1), 2 * step
    return good, None if good else least
