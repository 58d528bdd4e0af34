"""The onnx package's own backend cases through the engine, and the page that says how each was answered.

`python -m tests.cache.backend_suite` writes docs/onnx-support.md.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, version_converter

from cache.onnx_import import ModelError, load_model
from cache.pass_through import PassThrough, has_random_op, open_plan
from cache.plan import Plan
from cache.session import Session
from cache.tail import TailError, runtime_session

PAGE = Path(__file__).parents[2] / "docs" / "onnx-support.md"
GROUPS = {
    "convolution": ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "CausalConvWithState"),
    "pooling": ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "MaxUnpool",
                "MaxRoiPool", "RoiAlign"),
    "resize": ("Resize", "Upsample"),
    "activation": ("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Selu", "Tanh",
                   "Softplus", "Softsign", "Mish", "Gelu", "Swish", "ThresholdedRelu", "Celu", "Shrink", "SwiGLU",
                   "Identity", "Dropout"),
    "channels and sums": ("BatchNormalization", "Concat", "Split", "Slice", "Gather", "Pad", "SpaceToDepth",
                          "DepthToSpace", "ReduceMean", "ReduceMax", "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum",
                          "Neg"),
}  # fmt: skip
HOWS = ("cached", "partly", "tail", "whole", "not run")
MEANING = {
    "cached": "every node cached",
    "partly": "some nodes cached, the rest in a tail run by ONNX Runtime",
    "tail": "an image model whose nodes are all in a tail",
    "whole": "no image input: run whole in ONNX Runtime (`PassThrough`)",
    "not run": "not run by ONNX Runtime either (its reason below), or a sequence or optional input, refused by design",
}
ELEMENTWISE = "activation"
BY_IMAGE = {*GROUPS["convolution"], *GROUPS["pooling"], *GROUPS["resize"], *GROUPS["activation"], "BatchNormalization",
            "SpaceToDepth", "DepthToSpace"}  # fmt: skip
"""Ops whose answer for a batch is that for its images one by one."""
REFUSALS = ("input 'x': expected a tensor", "input 'opt_in': expected a tensor")
"""What the importer refuses by design although ONNX Runtime runs it: sequences and optionals."""
NOT_CACHED = " is not a cached op in this form"
Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Case:
    """A case of the suite. sets : inputs and expected outputs."""

    name: str
    group: str
    model: Any
    sets: Sequence[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """How a case was answered (one of HOWS), why not wholly cached, and what was wrong ("" when nothing was)."""

    name: str
    group: str
    how: str
    reason: str = ""
    wrong: str = ""
    note: str = ""


@cache
def cases() -> tuple[Case, ...]:
    """The cases of the groups above, by name: node cases and the models exported from PyTorch."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        loaded = [case for kind in ("node", "pytorch-converted", "pytorch-operator")
                  for case in load_model_tests(kind=kind)]  # fmt: skip
    group_of = {op: group for group, ops in GROUPS.items() for op in ops}
    bases: dict[str, str] = {}
    found: dict[str, Case] = {}
    for case in sorted(loaded, key=lambda item: (item.kind != "node", "_expanded" in item.name)):
        model = case.model if case.model is not None else onnx.load(Path(case.model_dir) / "model.onnx")
        base = case.name.partition("_expanded")[0]
        ops = [node.op_type for node in model.graph.node]
        group = bases.get(base) if base != case.name else next((g for g in map(group_of.get, ops) if g), None)
        if case.kind == "node" and base == case.name:
            group = group_of.get(ops[0])
        if group is not None:
            bases[case.name] = group
            sets = case.data_sets if case.data_sets is not None else read_sets(Path(case.model_dir), model)
            sets = [(arrays(inputs), arrays(outputs)) for inputs, outputs in sets]
            found[case.name] = Case(case.name, group, recent(model), sets, case.rtol, case.atol)
    return tuple(found[name] for name in sorted(found))


def arrays(values: Sequence[Any]) -> list[Any]:
    """The same values, NumPy's scalars as arrays."""
    return [np.asarray(value) if isinstance(value, np.generic) else value for value in values]


def recent(model: Any) -> Any:
    """The model at opset 7 if it is older and onnx's own converter can bring it there."""
    if next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx")) >= 7:
        return model
    try:
        return version_converter.convert_version(model, 7)
    except Exception:  # the converter's errors share no base
        return model


def read_sets(directory: Path, model: Any) -> list[tuple[list[Any], list[Any]]]:
    """The inputs and outputs stored beside a model."""

    def read(path: Path) -> np.ndarray:
        return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))

    sets = []
    for folder in sorted(directory.glob("test_data_set_*")):
        parts = [[read(folder / f"{kind}_{i}.pb") for i in range(len(list(folder.glob(f"{kind}_*.pb"))))]
                 for kind in ("input", "output")]  # fmt: skip
        sets.append((parts[0], parts[1]))
    return sets


def runtime_inputs(model: Any) -> list[Any]:
    """The inputs that are no weights."""
    weights = {item.name for item in model.graph.initializer}
    return [item for item in model.graph.input if item.name not in weights]


def image_model(model: Any, inputs: Arrays, shape: Sequence[int]) -> bytes:
    """The model with its first input of another shape, its other inputs bound as weights, its outputs of open sizes."""
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    bound.ir_version = max(model.ir_version, 4)
    declared = runtime_inputs(bound)
    dims = declared[0].type.tensor_type.shape.dim
    del dims[:]
    for size in shape:
        dims.add().dim_value = size
    for item, value in zip(declared[1:], inputs[1:], strict=True):
        bound.graph.initializer.append(numpy_helper.from_array(value, item.name))
        bound.graph.input.remove(item)
    lifted = len(shape) - inputs[0].ndim
    for item in bound.graph.output:
        dims = item.type.tensor_type.shape.dim
        rank = len(dims) + lifted
        del dims[:]
        for _ in range(rank):
            dims.add()
    return bytes(bound.SerializeToString())


def image_shape(case: Case, inputs: Sequence[Any]) -> tuple[int, ...] | None:
    """The shape (N, C, H, W) in which the engine can see the first input; pointwise cases of lower rank are lifted."""
    tensors = [isinstance(value, np.ndarray) for value in inputs]
    if not tensors or not all(tensors) or inputs[0].dtype != np.float32 or inputs[0].size == 0:
        return None
    rank = inputs[0].ndim
    lifted = case.group == ELEMENTWISE and 0 < rank < 4 and all(value.ndim <= rank for value in inputs[1:])
    nodes = case.model.graph.node
    training = any(a.name == "training_mode" and a.i for node in nodes for a in node.attribute)
    by_image = case.group != "channels and sums" or (all(n.op_type in BY_IMAGE for n in nodes) and not training)
    if rank == 4 and (inputs[0].shape[0] == 1 or by_image):
        return tuple(inputs[0].shape)
    return (*(1,) * (4 - rank), *inputs[0].shape) if lifted else None


def run(case: Case) -> Outcome:
    """Answer one case on every set of its data; the last set says how."""
    outcome = Outcome(case.name, case.group, "not run", "no data")
    for inputs, expected in case.sets:
        reference, refused = runtime_answer(case, inputs)
        try:
            answer, outcome = answer_case(case, inputs)
        except (ModelError, TailError) as error:
            reason = refused or first_line(error)
            outcome = Outcome(case.name, case.group, "not run", reason)
            refusal = reason.startswith(REFUSALS)
            return (
                outcome
                if reference is None or refusal
                else replace(outcome, wrong=f"ONNX Runtime runs it, here: {reason}")
            )
        outcome = judge(case, outcome, answer, expected, reference)
        if outcome.wrong:
            return outcome
        if refused:
            outcome = replace(outcome, note=f"ONNX Runtime: {refused}")
    return outcome


def answer_case(case: Case, inputs: list[Any]) -> tuple[list[Any], Outcome]:
    """The engine's answer and how it came about; images of a batch go through one exact session, one by one."""
    shape = image_shape(case, inputs)
    if shape is not None:
        engine = open_plan(load_model(image_model(case.model, inputs, (1, *shape[1:]))))
        assert isinstance(engine, Plan), "the image of this case has the shape of one"
        session = Session(engine, exact=True)
        images = np.ascontiguousarray(inputs[0].reshape(shape))
        parts = [[value.copy() for value in session.push_tensor(images[i : i + 1]).outputs.values()]
                 for i in range(len(images))]  # fmt: skip
        tails = engine.partition.tails
        how = "cached" if not tails else "partly" if engine.partition.cached else "tail"
        outcome = Outcome(case.name, case.group, how, reason_of([r for tail in tails for r in tail.reasons]))
        return [np.concatenate(column) for column in zip(*parts, strict=True)], outcome
    engine = open_plan(load_model(case.model.SerializeToString()))
    if isinstance(engine, Plan):  # an image in name, but of no size: what it takes is decided by the data
        engine = PassThrough(load_model(case.model.SerializeToString()), "expected an image with pixels, got none")
    feeds = dict(zip(engine.input_names, inputs, strict=True))
    answer = engine.run(feeds)
    again = engine.run(feeds)
    same = all(answer.outputs[n].tobytes() == again.outputs[n].tobytes() for n in engine.output_names)
    outcome = Outcome(case.name, case.group, "whole", engine.reason)
    if not (again.reused or has_random_op(load_model(case.model.SerializeToString()))) or not same:
        outcome = replace(outcome, wrong="the same inputs a second time were not answered from memory")
    return [answer.outputs[name] for name in engine.output_names], outcome


def reason_of(reasons: Sequence[str]) -> str:
    """The reasons of all tails in one: ops without a normal form together."""
    ops = dict.fromkeys(reason.removesuffix(NOT_CACHED) for reason in reasons if reason.endswith(NOT_CACHED))
    others = dict.fromkeys(reason for reason in reasons if not reason.endswith(NOT_CACHED))
    return "; ".join([*([f"no cached op in this form: {', '.join(ops)}"] if ops else []), *others])


def runtime_answer(case: Case, inputs: list[Any]) -> tuple[list[Any] | None, str]:
    """ONNX Runtime's own answer to the case as it stands, or None and its reason."""
    try:
        session = runtime_session(case.model.SerializeToString())
        names = [item.name for item in runtime_inputs(case.model)]
        return session.run(None, dict(zip(names, inputs, strict=True))), ""
    except Exception as error:  # ONNX Runtime's exception classes share no base but Exception
        return None, first_line(error)


def judge(case: Case, outcome: Outcome, answer: list[Any], expected: list[Any], reference: list[Any] | None) -> Outcome:
    """Compare with the case's own outputs, and with ONNX Runtime's where it has any."""
    if outcome.wrong:
        return outcome
    if len(answer) != len(expected):
        return replace(outcome, wrong=f"expected {len(expected)} outputs, got {len(answer)}")
    missed = first_gap(answer, expected, case.rtol, case.atol)
    if reference is None:
        return replace(outcome, wrong=missed and f"the case says: {missed}")
    apart = first_gap(answer, reference, 1e-5, 1e-6)
    if apart:
        other = first_gap(reference, expected, case.rtol, case.atol)
        if other and not missed:
            return replace(outcome, note=f"ONNX Runtime's own answer is not the case's: {other}")
        return replace(outcome, wrong=f"ONNX Runtime says: {apart}")
    if missed:
        return replace(
            outcome, note=f"ONNX Runtime's own answer is not the case's, and this is ONNX Runtime's: {missed}"
        )
    return outcome


def first_gap(found: Sequence[Any], expected: Sequence[Any], rtol: float, atol: float) -> str:
    """What differs first, "" when nothing does. Shapes may differ by leading ones (a lifted case)."""
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        one, other = np.asarray(one), np.asarray(other)
        lead = one.ndim - other.ndim
        if one.dtype != other.dtype or one.shape != (1,) * lead + other.shape:
            return f"output {index} is {one.dtype}{list(one.shape)}, expected {other.dtype}{list(other.shape)}"
        if one.dtype.kind not in "fiub":
            one, other = one.astype(np.float32), other.astype(np.float32)
        one, other = one.reshape(other.shape).astype(np.float64), other.astype(np.float64)
        scale = float(np.abs(other[np.isfinite(other)]).max(initial=0.0))
        if not np.allclose(one, other, rtol=rtol, atol=max(atol, 1e-6 * scale), equal_nan=True):
            with np.errstate(invalid="ignore"):
                return f"output {index} differs by up to {float(np.nanmax(np.abs(one - other))):.3g}"
    return ""


def first_line(error: Exception) -> str:
    """ONNX Runtime's reason without its source file and codes."""
    text = str(error).strip().splitlines()[0]
    text = text.removeprefix("ONNX Runtime cannot run this model: ")
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return re.sub(r"/onnxruntime_src/\S+:\d+ .*?\) (const )?", "", text)


@cache
def outcomes() -> tuple[Outcome, ...]:
    """Every case's outcome."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(run(case) for case in cases())


def render(found: Sequence[Outcome]) -> str:
    """The page."""
    lines = [
        "# ONNX support",
        "",
        "How the engine answers the `onnx` package's own backend test cases. Written by",
        "`python -m tests.cache.backend_suite`; a test compares every case with the case's own outputs and with ONNX",
        "Runtime, and this page with what it found.",
        "",
        f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}: {len(found)} cases, "
        f"{sum(item.how != 'not run' for item in found)} answered, each as the case says or,",
        "in the few listed last, as ONNX Runtime does.",
        "",
        "A case's first input is the image, its other inputs are bound as weights. A batch is pushed image by image.",
        "Pointwise cases of a lower rank are given leading dimensions of 1.",
        "",
        "| group | " + " | ".join(HOWS) + " | all |",
        "|---" * (len(HOWS) + 2) + "|",
    ]
    for group in (*GROUPS, None):
        counts = Counter(item.how for item in found if group in (None, item.group))
        cells = [group or "all", *(str(counts[how]) for how in HOWS), str(counts.total())]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- *{how}*: {meaning}." for how, meaning in MEANING.items())]
    titles = {"not run": "Not run", "partly": "Partly in a tail", "tail": "Wholly in a tail", "whole": "Run whole"}
    for how, title in titles.items():
        chosen = [item for item in found if item.how == how]
        lines += ["", f"## {title}", ""]
        lines += list(reason_table(chosen)) if chosen else ["None."]
    noted = [replace(item, reason=item.note) for item in found if item.note]
    lines += ["", "## Where ONNX Runtime's own answer is not the case's", ""]
    lines += list(reason_table(noted)) if noted else ["None."]
    return "\n".join(lines) + "\n"


def reason_table(found: Sequence[Outcome]) -> Iterator[str]:
    """Cases by reason."""
    yield "| reason | cases |"
    yield "|---|---|"
    by_reason: dict[str, list[str]] = {}
    for item in found:
        by_reason.setdefault(item.reason, []).append(item.name.removeprefix("test_"))
    for reason, names in sorted(by_reason.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        yield f"| {reason.replace('|', chr(92) + '|')} | {', '.join(f'`{name}`' for name in names)} |"


if __name__ == "__main__":
    PAGE.write_text(render(outcomes()), encoding="utf-8")
