"""`afterimage verify`: one model on one clip, incrementally and densely, on this engine and on ONNX Runtime."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.fft import lacking
from cache.onnx_import import extract
from cache.policy import Policy
from cache.session import Session
from cache.tail import TailRunner
from service.audits.clip import ClipAudits
from service.audits.measure import Measure
from service.calibration.budget import Budget
from service.evaluate import Decoder, Incremental, evaluate, relative_error
from service.families.base import Outputs
from service.opened import OpenedModel
from service.preprocess import fit

Image = NDArray[np.uint8]


def verify(
    opened: OpenedModel,
    frames: Iterable[Image],
    *,
    exact: bool = False,
    policy: Policy | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Compare an incremental run with a dense one, frame by frame; the figures of `service.evaluate.evaluate`.

    frames : uint8[H, W, 3] BGR of any size. policy : None takes the default. Where it asks for less than float32, the
    dense run that frames are compared with is in float32, so that agreement tells what the precision costs too (but for
    `exact`, which compares like with like); "onnxruntime_error" is that of a dense frame in the policy's precision.
    "bfloat16_nodes" : nodes computed so on this machine; "fft_nodes" : by Fourier transforms; "fft_lacking" : nodes
    that might be, were the library there. "budget" : that of the model's profile, "default" without one. "decisions" :
    frames by what was done with them; "reasons" : by why, numbers left out. "audit" : what audits find on a second
    stream of the same frames, whose thresholds follow them (`service.audits.clip`); None for `exact`, which has none.
    """
    policy = policy or opened.policy
    plan, spec, size = opened.compile(policy), opened.spec, opened.size
    full = replace(policy, cache_dtype="float32", compute_dtype="float32", fft_kept=1.0 if policy.fft_kept else 0.0)
    is_reduced = full != policy and not exact
    # `whole` recomputes every frame in full: thresholds play no part, and exact saves measuring spreads.
    stream, whole = Session(plan, exact=exact), Session(opened.compile(full) if is_reduced else plan, exact=True)
    audits = None if exact else ClipAudits(Session(plan), Measure(opened, Budget.parse(opened.budget)))
    first: list[Image] = []
    decisions: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    runtime = TailRunner(
        extract(opened.model, {plan.input_name: plan.input_shape}, plan.output_names),
        [plan.input_name],
        plan.output_names,
    )

    def prepared(frame: Image) -> Image:
        return fit(frame, size, spec)[0]

    def incremental(frame: Image) -> Incremental:
        if not first:
            first.append(frame.copy())
        result = stream.push(prepared(frame))
        decisions[result.decision] += 1
        reasons[kind_of(result.reason)] += 1
        return Incremental(result.outputs, result.compute_fraction)

    def dense(frame: Image) -> Any:
        whole.reset()
        return whole.push(prepared(frame)).outputs

    def reference(frame: Image) -> Any:
        image = prepared(frame)
        return runtime.run({plan.input_name: plan.tensor(image)})

    def audit(frame: Image, full: Outputs, noisy: Outputs) -> None:
        if audits is not None and audits.frame(prepared(frame)):
            audits.compare(full, noisy)

    decoder = Decoder(opened.family, spec, size)
    report = evaluate(
        frames, incremental, dense, decoder, reference=None if is_reduced else reference, audit=audit, progress=progress
    )
    if is_reduced:
        own = Session(plan, exact=True).push(prepared(first[0])).outputs
        report["onnxruntime_error"] = relative_error(own, reference(first[0]))
    budget = "exact" if exact else "default" if opened.profile is None else opened.profile.budget
    return {
        **report, "bfloat16_nodes": plan.bfloat16_nodes, "fft_nodes": plan.fft_nodes,
        "fft_lacking": lacking(plan.graph), "budget": budget, "decisions": dict(decisions),
        "reasons": dict(reasons),
        "audit": None if audits is None else audits.report(),
    }  # fmt: skip


def kind_of(reason: str) -> str:
    """A frame's reason without its numbers: "12 of 3840 tiles changed" is "tiles changed"."""
    plain = re.sub(r"-?\d+( of \d+)? |\(-?\d+, -?\d+\) px", "", reason)
    return " ".join(plain.split()).replace(" ,", ",")
