"""Frames of several streams of one model through the engine at once. Runs in a worker thread; knows no lanes.

Each stream's frame is decoded, audited and described by its own pipeline, and one's error is its own: only the network
is run for all of them together (`service.registry.Together`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from service.caches import CacheFull
from service.pipeline import FramePipeline, Outcome, Prepared
from service.reference import Referenced
from service.registry import EngineResult, Together


@dataclass(frozen=True)
class Request:
    """One encoded image of one stream; fields as the arguments of `FramePipeline.run`."""

    pipeline: FramePipeline
    data: bytes | Referenced = field(repr=False)
    min_confidence: float | None = None
    reset: bool = False


Tell = Callable[[int, Outcome | Exception], None]


def run_together(requests: Sequence[Request], tell: Tell) -> None:
    """Compute one image of each stream.

    requests : of different pipelines; of one model, else they are computed one after the other. tell : called once for
    each, with its index, as soon as it is known what became of it; must not raise. After an error that stream's
    session has been reset, unless its image could not be decoded, or not for want of memory (`FramePipeline.run`).
    """
    alone: list[int] = []  # for which there is no memory beside the others
    with ExitStack() as stack:
        ready: list[tuple[int, FramePipeline, Prepared]] = []
        for index, request in enumerate(requests):
            pipeline = request.pipeline
            try:
                stack.enter_context(pipeline.held())
                prepared = pipeline.prepare(request.data, min_confidence=request.min_confidence, reset=request.reset)
            except CacheFull:
                alone.append(index)
            except Exception as error:
                tell(index, error)
            else:
                ready.append((index, pipeline, prepared))
        for (index, pipeline, prepared), result in zip(ready, _push(ready), strict=True):
            tell(index, _finish(pipeline, prepared, result))
    for index in alone:
        tell(index, _run(requests[index]))


def _push(ready: Sequence[tuple[int, FramePipeline, Prepared]]) -> Iterator[EngineResult | Exception]:
    """A result or an error for each; where the engine cannot take them together, one after the other as asked for."""
    models = {id(pipeline.model) for _, pipeline, _ in ready}  # two, where one of a name was reloaded a moment ago
    together: Together | None = ready[0][1].model.together if len(models) == 1 else None
    if together is None or not 1 < len(ready) <= together.limit:
        for _, pipeline, prepared in ready:
            yield _alone(pipeline, prepared)
        return
    found: Sequence[EngineResult | Exception]
    try:
        sessions = [pipeline.session for _, pipeline, _ in ready]
        frames, times = [each.frame for _, _, each in ready], [each.at_s for _, _, each in ready]
        found = together.push(sessions, frames, times, [each.within for _, _, each in ready])
        if len(found) != len(ready):
            raise RuntimeError(f"expected {len(ready)} results of the engine, got {len(found)}")
    except Exception as error:
        found = [error] * len(ready)
    yield from found


def _run(request: Request) -> Outcome | Exception:
    try:
        return request.pipeline.run(request.data, min_confidence=request.min_confidence, reset=request.reset)
    except Exception as error:
        return error


def _alone(pipeline: FramePipeline, prepared: Prepared) -> EngineResult | Exception:
    try:
        return pipeline.push(prepared)
    except Exception as error:
        return error


def _finish(pipeline: FramePipeline, prepared: Prepared, result: EngineResult | Exception) -> Outcome | Exception:
    try:
        if isinstance(result, Exception):
            raise result
        return pipeline.finish(prepared, result)
    except Exception as error:
        pipeline.reset()
        return error
