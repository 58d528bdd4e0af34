"""Models by name: loaded on first use, compiled once per size, shared by all streams.

The engine is reached through two small protocols and one factory (`Model.compile`), so that whatever has a
session's shape can be registered.
"""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache.graph import GraphError
from cache.memory import Memory, memory_of
from cache.onnx_import import ModelError
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from cache.tail import TailError
from service.catalogue import BUILT_IN, CatalogueError, built_in, find_model
from service.families import Family, FamilyError, Size
from service.model_spec import ModelSpec, SpecError
from service.opened import OpenedModel, open_model
from service.settings import ModelSource, Settings

log = logging.getLogger("afterimage.registry")


class EngineResult(Protocol):
    """What the service reads of one frame's result (`cache.session.FrameResult`)."""

    @property
    def outputs(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def compute_fraction(self) -> float: ...
    @property
    def changed_tiles(self) -> int: ...
    @property
    def decision(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def diff_ns(self) -> int: ...
    @property
    def infer_ns(self) -> int: ...


class EngineSession(Protocol):
    """All mutable state of one stream; one worker at a time holds it (`cache.session.Session`)."""

    def push(self, frame: NDArray[np.uint8], /) -> EngineResult: ...
    def reset(self) -> None: ...
    def scale_thresholds(self, factors: float, /) -> None: ...


SessionFactory: TypeAlias = Callable[[], EngineSession]


@dataclass(frozen=True)
class Engine:
    """How a model is computed; fields as `cache.session.Session` and `cache.policy.Policy` name them."""

    exact: bool = False
    threads: int = 1
    precision: Literal["fast", "strict"] = "fast"
    cache_dtype: Literal["float32", "float16"] = "float32"
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    @classmethod
    def of(cls, settings: Settings) -> Engine:
        """As the settings say."""
        return cls(
            settings.exact, settings.threads, settings.precision, settings.cache_dtype, settings.compute_dtype
        )  # fmt: skip

    def policy(self, opened: OpenedModel) -> Policy:
        """The policy of an opened model's plan."""
        return replace(
            opened.policy, precision=self.precision, cache_dtype=self.cache_dtype,
            compute_dtype=self.compute_dtype,
        )  # fmt: skip


FLOAT32 = Engine()


@dataclass(frozen=True)
class PlanSessions:
    """Makes sessions of a plan.

    memory : what the plan and each session take.
    """

    plan: Plan
    engine: Engine
    memory: Memory

    def __call__(self) -> EngineSession:
        """A new session, with nothing cached."""
        return Session(self.plan, exact=self.engine.exact, threads=self.engine.threads)

    def dense(self) -> EngineSession:
        """A session for whole frames, on one core."""
        return Session(self.plan, exact=True)


class UnknownModel(LookupError):
    """No model of that name; the message lists those that exist."""


class ModelFailed(RuntimeError):
    """A model that is registered cannot be loaded or compiled; the message says why."""


class ModelState(StrEnum):
    """How far a registered model is."""

    REGISTERED = "registered"
    READY = "ready"
    FAILED = "failed"


@dataclass
class Model:
    """A loaded model.

    size : of the plan, (W, H). compile : gives what makes sessions of it; slow, called once. budget : what its
    thresholds are to keep, as `service.calibration.budget.Budget` reads it.
    """

    name: str
    spec: ModelSpec
    family: Family
    size: Size
    compile: Callable[[], SessionFactory]
    budget: str = "noise"
    _factory: SessionFactory | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def compiled(self) -> bool:
        """Whether sessions can be opened without compiling first."""
        return self._factory is not None

    @property
    def memory(self) -> Memory | None:
        """What it takes; None before it is compiled, and of an engine that does not say."""
        return self._factory.memory if isinstance(self._factory, PlanSessions) else None

    @property
    def auditable(self) -> bool:
        """Whether its sessions have thresholds, and `open_dense` works; False before it is compiled."""
        return isinstance(self._factory, PlanSessions) and not self._factory.engine.exact

    def open_dense(self) -> EngineSession:
        """A session of the same plan for whole frames. Raises ModelFailed where the model is not `auditable`."""
        if not isinstance(self._factory, PlanSessions):
            raise ModelFailed(f"{self.name}: expected a compiled plan, got none")
        return self._factory.dense()

    def open_session(self) -> EngineSession:
        """A new session; compiles the plan on first use (seconds). Not for the event loop."""
        with self._lock:
            if self._factory is None:
                self._factory = self.compile()
            factory = self._factory
        return factory()

    def warm(self) -> None:
        """Compile, then run a grey and a changed frame: the first real one is then as fast as the rest."""
        session = self.open_session()
        width, height = self.size
        frame = np.full((height, width, self.spec.channels), 114, np.uint8)
        self.family.decode(session.push(frame).outputs, self.spec, self.size)
        frame[: height // 2, : width // 2] = 30
        self.family.decode(session.push(frame).outputs, self.spec, self.size)


def load(name: str, source: ModelSource, engine: Engine = FLOAT32) -> Model:
    """Load an ONNX file, or a model by its name, and its specification. Raises ModelFailed with the reason."""
    try:
        opened = open_model(find_model(str(source.path)), source.size, source.spec)
    except CatalogueError as error:
        raise ModelFailed(str(error)) from error
    except (ModelError, SpecError, FamilyError, GraphError, OSError) as error:
        raise ModelFailed(f"{name}: {error}") from error

    def compile_plan() -> SessionFactory:
        try:
            plan = opened.compile(engine.policy(opened))
        except (ModelError, FamilyError, GraphError, TailError) as error:
            raise ModelFailed(f"{name}: {error}") from error
        return PlanSessions(plan, engine, memory_of(plan, engine.exact))

    return Model(name, opened.spec, opened.family, opened.size, compile_plan, opened.budget)


def load_built_in(engine: Engine = FLOAT32) -> Model:
    """Load the model that travels with the product. Raises ModelFailed with the reason."""
    try:
        source = ModelSource(path=built_in())
    except CatalogueError as error:
        raise ModelFailed(str(error)) from error
    return load(BUILT_IN, source, engine)


@dataclass
class _Entry:
    loader: Callable[[], Model]
    lock: threading.Lock = field(default_factory=threading.Lock)
    model: Model | None = None
    error: str | None = None


class ModelRegistry:
    """Thread-safe. The first model registered is the default unless another is named."""

    def __init__(self, *, default: str | None = None, max_models: int = 16) -> None:
        self._entries: dict[str, _Entry] = {}
        self._default = default
        self._max_models = max_models
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> ModelRegistry:
        """A registry of the models that the settings name, else of the built-in one; none is loaded yet."""
        registry = cls(default=settings.default_model, max_models=settings.max_models)
        engine = Engine.of(settings)
        if not settings.models:
            registry._add(BUILT_IN, _Entry(lambda: load_built_in(engine)))
        for name, source in settings.models.items():
            registry.register_source(name, source, engine)
        return registry

    @property
    def default(self) -> str | None:
        """Name of the model for requests that name none."""
        return self._default or next(iter(self._entries), None)

    def names(self) -> tuple[str, ...]:
        """All names, in order of registration."""
        return tuple(self._entries)

    def register(self, model: Model) -> None:
        """Add a model that is loaded already. ValueError if the name is taken or the registry is full."""
        self._add(model.name, _Entry(lambda: model, model=model))

    def register_source(self, name: str, source: ModelSource, engine: Engine = FLOAT32) -> None:
        """Add a model to be loaded on first use. ValueError if the name is taken or the registry is full."""
        self._add(name, _Entry(lambda: load(name, source, engine)))

    def get(self, name: str | None = None) -> Model:
        """The model, loaded if it is not yet (not for the event loop).

        Raises UnknownModel, or ModelFailed with the reason.
        """
        entry = self._entry(name)
        with entry.lock:
            if entry.model is None:
                try:
                    entry.model = entry.loader()
                except ModelFailed as error:
                    entry.error = str(error)
                    raise
                entry.error = None
            return entry.model

    def warm(self) -> None:
        """Load, compile and run the default model. Raises UnknownModel or ModelFailed."""
        model = self.get()
        try:
            model.warm()
        except ModelFailed as error:
            self._entry(model.name).error = str(error)
            raise

    def resolve(self, name: str | None) -> str:
        """The name that requests for `name` (None: the default) mean. Raises UnknownModel; loads nothing."""
        chosen = name if name is not None else self.default
        if chosen is None:
            raise UnknownModel("no model is registered; start the server with one")
        if chosen not in self._entries:
            near = difflib.get_close_matches(chosen, self._entries, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownModel(f"unknown model {chosen!r}; expected one of {', '.join(self._entries) or 'none'}{hint}")
        return chosen

    def loaded(self) -> list[Model]:
        """The models that are loaded, in order of registration."""
        return [entry.model for entry in self._entries.values() if entry.model is not None]

    def describe(self) -> list[dict[str, Any]]:
        """For GET /v1/models; loads nothing."""
        return [_describe(name, entry, name == self.default) for name, entry in self._entries.items()]

    def _entry(self, name: str | None) -> _Entry:
        return self._entries[self.resolve(name)]

    def _add(self, name: str, entry: _Entry) -> None:
        with self._lock:
            if name in self._entries:
                raise ValueError(f"expected a new model name, got {name!r} again")
            if len(self._entries) >= self._max_models:
                raise ValueError(f"expected at most {self._max_models} models, got one more: {name!r}")
            self._entries[name] = entry


def _describe(name: str, entry: _Entry, is_default: bool) -> dict[str, Any]:
    state = ModelState.FAILED if entry.error else ModelState.READY if entry.model else ModelState.REGISTERED
    described: dict[str, Any] = {"name": name, "default": is_default, "state": state.value}
    if entry.error:
        described["error"] = entry.error
    if entry.model is not None:
        model = entry.model
        described |= {
            "family": model.spec.family,
            "size": list(model.size),
            "labels": list(model.spec.labels),
            "min_confidence": model.spec.min_confidence,
            "compiled": model.compiled,
            "memory_bytes": None if model.memory is None else model.memory.as_dict(),
        }
    return described
