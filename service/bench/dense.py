"""`afterimage bench dense`: a frame computed in full, from uint8 pixels to output tensors, against other engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from service.bench.engines import OTHERS, OWN, EngineError, Own, Precision, compile_own, open_others
from service.bench.ingest import Frame
from service.bench.machine import Bystanders, machine, settle, use_threads
from service.bench.nodes import node_rows
from service.bench.rounds import Turn, geometric_mean, interleaved, prefixed, spread
from service.evaluate import relative_error
from service.opened import OpenedModel
from service.preprocess import fit
from service.scene import Scene

ROUNDS = 15


def dense(
    models: Sequence[tuple[str, OpenedModel]],
    *,
    threads: int = 1,
    against: Sequence[str] = OTHERS,
    precision: Precision = "float32",
    rounds: int = ROUNDS,
    nodes: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Measure each model in turn: {"models": rows of `measure`, "geometric_mean", ..., "machine"}, ready for JSON.

    progress : called with each model's name as its turn comes
    """
    others = Bystanders()
    use_threads(threads)
    rows = []
    for name, opened in models:
        progress(name)
        rows.append(measure(name, opened, threads, against, precision, rounds, nodes))
    return {
        "kind": "dense",
        "threads": threads,
        "precision": precision,
        "rounds": rounds,
        "against": list(against),
        "models": rows,
        "geometric_mean": geometric_mean([row["ratio_best"] for row in rows]),
        "geometric_mean_tensor": geometric_mean([row["ratio_best_tensor"] for row in rows]),
        "machine": machine() | {"other_programs_cores": others.cores()},
    }


def measure(
    name: str, opened: OpenedModel, threads: int, against: Sequence[str], precision: Precision, rounds: int,
    nodes: bool,
) -> dict[str, Any]:  # fmt: skip
    """One model's row.

    ours_ms : a frame from pixels to tensors by an invalidated session in exact mode; ours_keyframe_ms : the same of a
    session that goes on to use thresholds, which measures every map's spread as well. ENGINE_ms : each other's, null
    with ENGINE_reason where it cannot. All are medians, with _p10_ms and _p90_ms; *_tensor_ms start at the float
    tensor. ratio_best, ratio_best_tensor : the fastest other's time over ours, above 1 where we are faster.
    max_relative_error : largest difference from any of them over the output's largest magnitude.
    """
    plan = opened.compile()  # says what the others must end at, whatever they compute in
    engines, reasons = open_others(against, opened, plan, threads, precision)
    image = example(opened)
    turns: dict[str, Turn] = {}
    try:
        own_plan = compile_own(opened, precision)
    except EngineError as error:
        reasons[OWN] = str(error)
    else:
        engines = {OWN: Own(own_plan, threads), **engines}
        turns[f"{OWN}_keyframe"] = partial(Own(own_plan, threads, measured=True).frame, image)
    x = plan.tensor(image)
    for engine_name, engine in engines.items():
        turns[engine_name] = partial(engine.frame, image)
        turns[f"{engine_name}_tensor"] = partial(engine.tensor, x)
    outputs = {engine_name: engine.frame(image) for engine_name, engine in engines.items()}
    mine = outputs.pop(OWN, None)
    errors = [] if mine is None else [relative_error(mine, found) for found in outputs.values()]
    times = interleaved(turns, rounds, settle=settle if threads > 1 else None)
    row: dict[str, Any] = {
        "model": name,
        "size": f"{opened.size[0]}x{opened.size[1]}",
        "threads": threads,
        "precision": precision,
        "gmacs": round(plan.total_macs / 1e9, 4),
        "max_relative_error": max(errors, default=None),
    }
    for engine_name in (OWN, *against):
        row |= {f"{engine_name}_ms": None, f"{engine_name}_tensor_ms": None}
        row[f"{engine_name}_reason"] = reasons.get(engine_name)
    for turn, measured in times.items():
        row |= prefixed(turn, spread(measured))
    for engine_name, engine in engines.items():
        row[f"{engine_name}_ingest"] = engine.ingest
    row |= ratios(row, against)
    own = engines.get(OWN)
    if nodes and isinstance(own, Own):
        row["nodes"] = node_rows(own.session, image, rounds, threads)
    return row


def ratios(row: Mapping[str, Any], against: Sequence[str]) -> dict[str, Any]:
    """ENGINE_ratio of each, "best" (its name), "ratio_best", "ratio_best_tensor"; null without both sides.

    "ratio_best_min" is that of the least times, which a busy machine spoils last.
    """
    ran = [name for name in against if row[f"{name}_ms"] is not None]
    found: dict[str, Any] = {f"{name}_ratio": _ratio(row, name, "ms") for name in against}
    found["best"] = min(ran, key=lambda name: float(row[f"{name}_ms"]), default=None)
    for key, field in (("ratio_best", "ms"), ("ratio_best_tensor", "tensor_ms"), ("ratio_best_min", "min_ms")):
        each = [_ratio(row, name, field) for name in ran]
        found[key] = min((ratio for ratio in each if ratio is not None), default=None)
    return found


def _ratio(row: Mapping[str, Any], name: str, field: str) -> float | None:
    theirs, ours = row.get(f"{name}_{field}"), row.get(f"{OWN}_{field}")
    return None if theirs is None or ours is None else theirs / ours


def example(opened: OpenedModel) -> Frame:
    """A frame of the built-in scene as the network gets it: uint8[H, W, C]."""
    image: Frame = np.ascontiguousarray(fit(Scene(0).frame(0), opened.size, opened.spec)[0])
    return image
