"""Models by name: loaded on first use, compiled once per size, shared by all streams.

The engine is reached through two small protocols and one factory (`Model.compile`), so that whatever has a
session's shape can be registered.
"""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache.change import TileGrid
from cache.graph import GraphError
from cache.memory import Memory, memory_of
from cache.onnx_import import ModelError
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from cache.tail import TailError
from cache.together import push_together
from service.catalogue import BUILT_IN, CatalogueError, built_in, find_model
from service.compiling import Recipe, TooLittleMemory, run_compiled
from service.entry import Entry, ModelState, describe
from service.families import Family, FamilyError, Size
from service.model_spec import ModelSpec, SpecError
from service.opened import OpenedModel, open_model
from service.room import Room
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
    def tiles(self) -> NDArray[np.bool_]: ...
    @property
    def stages(self) -> NDArray[np.float64]: ...
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

    @property
    def grid(self) -> TileGrid: ...
    def push(
        self, frame: NDArray[np.uint8], /, at_s: float | None = None, within: NDArray[np.bool_] | None = None
    ) -> EngineResult: ...
    def push_tensor(self, x: NDArray[np.float32], /) -> EngineResult: ...
    def reset(self) -> None: ...
    def scale_thresholds(self, factors: float, /) -> None: ...


SessionFactory: TypeAlias = Callable[[], EngineSession]


class Together(Protocol):
    """Pushes frames of several sessions of one plan at once, where that is faster: weights are read once."""

    @property
    def limit(self) -> int:
        """Most sessions of one call; 1: never."""

    def push(
        self,
        sessions: Sequence[EngineSession],
        frames: Sequence[NDArray[np.uint8]],
        at_s: Sequence[float | None] | None = None,
        within: Sequence[NDArray[np.bool_] | None] | None = None,
        /,
    ) -> Sequence[EngineResult | Exception]:
        """A result, or what went wrong, for each session; one's error leaves the others as they are."""


@dataclass(frozen=True)
class Engine:
    """How a model is computed; fields as `cache.session.Session` and `cache.policy.Policy` name them."""

    exact: bool = False
    threads: int = 1
    precision: Literal["fast", "strict"] = "fast"
    cache_dtype: Literal["float32", "float16"] = "float32"
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    fft_kept: float = 1.0

    @classmethod
    def of(cls, settings: Settings) -> Engine:
        """As the settings say."""
        return cls(
            settings.exact, settings.threads, settings.precision, settings.cache_dtype, settings.compute_dtype,
            settings.fft_kept,
        )  # fmt: skip

    def policy(self, opened: OpenedModel) -> Policy:
        """The policy of an opened model's plan."""
        return replace(
            opened.policy, precision=self.precision, cache_dtype=self.cache_dtype,
            compute_dtype=self.compute_dtype, fft_kept=self.fft_kept,
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

    @property
    def together(self) -> Together:
        """How frames of several sessions go through the plan at once."""
        return _PlanTogether(self.plan.together)


@dataclass(frozen=True)
class _PlanTogether:
    limit: int

    def push(
        self,
        sessions: Sequence[EngineSession],
        frames: Sequence[NDArray[np.uint8]],
        at_s: Sequence[float | None] | None = None,
        within: Sequence[NDArray[np.bool_] | None] | None = None,
        /,
    ) -> Sequence[EngineResult | Exception]:
        return push_together([s for s in sessions if isinstance(s, Session)], frames, at_s, within)


class UnknownModel(LookupError):
    """No model of that name; the message lists those that exist."""


class ModelFailed(RuntimeError):
    """A model that is registered cannot be loaded or compiled; the message says why."""


class NoMemory(ModelFailed):
    """There is not the memory to load or compile a model now; the message has the figures."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor that the network gives."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass
class Model:
    """A loaded model.

    size : of the plan, (W, H). compile : gives what makes sessions of it; slow, called once. budget : what its
    thresholds are to keep, as `service.calibration.budget.Budget` reads it. input_name : of the network's image.
    recipe : what another process needs to compile its kernels; None: they are compiled here.
    version : 1, and one more with each reload. outputs : the tensors of its sessions, known once it is warm.
    successor : what has taken its place in a reload. error : why it could not be compiled, the last time.
    """

    name: str
    spec: ModelSpec
    family: Family
    size: Size
    compile: Callable[[], SessionFactory]
    budget: str = "noise"
    input_name: str = "images"
    recipe: Recipe | None = None
    version: int = 1
    outputs: tuple[TensorInfo, ...] = ()
    successor: Model | None = field(default=None, repr=False)
    error: str | None = None
    _factory: SessionFactory | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _count_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _tries: int = field(default=0, repr=False)

    @property
    def compiling(self) -> bool:
        """Whether it is being compiled or warmed, here or in another process."""
        return self._tries > 0

    @property
    def compiled(self) -> bool:
        """Whether sessions can be opened without compiling first."""
        return self._factory is not None

    @property
    def memory(self) -> Memory | None:
        """What it takes; None before it is compiled, and of an engine that does not say."""
        found = getattr(self._factory, "memory", None)
        return found if isinstance(found, Memory) else None

    @property
    def together(self) -> Together | None:
        """Pushes several of its sessions at once; None before it is compiled, and of an engine that cannot."""
        found: Together | None = getattr(self._factory, "together", None)
        return found

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
        return self.ready()()

    def ready(self) -> SessionFactory:
        """What makes its sessions; compiles the plan on first use (seconds). Not for the event loop."""
        with self._lock:
            if self._factory is None:
                self._factory = self._compile()
            return self._factory

    def newest(self) -> Model:
        """What stands in its place after reloads: itself, where there was none."""
        model = self
        while model.successor is not None:
            model = model.successor
        return model

    def warm_apart(self) -> None:
        """As `warm`; kernels that are not there yet are compiled in another process. Raises ModelFailed."""
        with self._trying():
            try:
                run_compiled(self.recipe, self.warm)
            except TooLittleMemory as error:
                self.error = f"{self.name}: {error}"
                raise NoMemory(self.error) from None
            self.error = None  # of another thread's try, that failed meanwhile

    def warm(self) -> None:
        """Compile, then run a grey and a changed frame: the first real one is then as fast as the rest."""
        session = self.open_session()
        width, height = self.size
        frame = np.full((height, width, self.spec.channels), 114, np.uint8)
        outputs = session.push(frame).outputs
        self.outputs = tuple(TensorInfo(name, value.dtype, tuple(value.shape)) for name, value in outputs.items())
        self.family.decode(outputs, self.spec, self.size)
        frame[: height // 2, : width // 2] = 30
        self.family.decode(session.push(frame).outputs, self.spec, self.size)

    def _compile(self) -> SessionFactory:
        with self._trying():
            try:
                return self.compile()
            except ModelFailed as error:
                self.error = str(error)
                raise

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """`compiling`, until the last of those who try has left: one may try within another, or beside it."""
        with self._count_lock:
            self._tries += 1
        self.error = None
        try:
            yield
        finally:
            with self._count_lock:
                self._tries -= 1


FILE_COPIES = 3
"""Of a model's file, in memory while it is read: its bytes, its graph, and the weights as kernels read them."""


def load(name: str, source: ModelSource, engine: Engine = FLOAT32) -> Model:
    """Load an ONNX file, or a model by its name, and its specification. Raises ModelFailed with the reason."""
    try:
        path = find_model(str(source.path))
        admit(name, FILE_COPIES * path.stat().st_size, "the model's file")
        opened = open_model(path, source.size, source.spec)
    except CatalogueError as error:
        raise ModelFailed(str(error)) from error
    except (ModelError, SpecError, FamilyError, GraphError, OSError) as error:
        raise ModelFailed(f"{name}: {error}") from error

    def admit_plan(plan: Plan) -> None:
        memory = memory_of(plan, engine.exact)
        admit(name, memory.stream + memory.thread, f"a stream of {name} and the work space of a thread")

    def compile_plan() -> SessionFactory:
        try:
            plan = opened.compile(engine.policy(opened), admit_plan)
        except (ModelError, FamilyError, GraphError, TailError) as error:
            raise ModelFailed(f"{name}: {error}") from error
        return PlanSessions(plan, engine, memory_of(plan, engine.exact))

    image, how = opened.model.inputs[0].name, recipe(name, source, engine)
    return Model(
        name, opened.spec, opened.family, opened.size, compile_plan, opened.budget, input_name=image, recipe=how
    )


def admit(name: str, nbytes: int, what: str) -> None:
    """Raise NoMemory where so many bytes are not left."""
    if (reason := Room().lacks(nbytes, what)) is not None:
        raise NoMemory(f"{name}: {reason}")


def recipe(name: str, source: ModelSource, engine: Engine) -> Recipe:
    """What `load` was given, as JSON."""
    return {"name": name, "source": source.model_dump(mode="json"), "engine": asdict(engine)}


def load_built_in(engine: Engine = FLOAT32) -> Model:
    """Load the model that travels with the product. Raises ModelFailed with the reason."""
    try:
        source = ModelSource(path=built_in())
    except CatalogueError as error:
        raise ModelFailed(str(error)) from error
    return load(BUILT_IN, source, engine)


class ModelRegistry:
    """Thread-safe. The first model registered is the default unless another is named."""

    def __init__(self, *, default: str | None = None, max_models: int = 16) -> None:
        self._entries: dict[str, Entry] = {}
        self._default = default
        self._max_models = max_models
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> ModelRegistry:
        """A registry of the models that the settings name, else of the built-in one; none is loaded yet."""
        registry = cls(default=settings.default_model, max_models=settings.max_models)
        engine = Engine.of(settings)
        if not settings.models:
            registry._add(BUILT_IN, Entry(lambda: load_built_in(engine)))
        for name, source in settings.models.items():
            registry.register_source(name, source, engine)
        return registry

    @property
    def default(self) -> str | None:
        """Name of the model for requests that name none."""
        return self._default or next(iter(tuple(self._entries)), None)

    def names(self) -> tuple[str, ...]:
        """All names, in order of registration."""
        return tuple(self._entries)

    def register(self, model: Model) -> None:
        """Add a model that is loaded already. ValueError if the name is taken or the registry is full."""
        self._add(model.name, Entry(lambda: model, model=model))

    def register_source(self, name: str, source: ModelSource, engine: Engine = FLOAT32) -> None:
        """Add a model to be loaded on first use, or another file for one that failed.

        ValueError if the name is taken or the registry is full.
        """
        self._add(name, Entry(lambda: load(name, source, engine)))

    def get(self, name: str | None = None) -> Model:
        """The model, loaded if it is not yet (not for the event loop).

        Raises UnknownModel, or ModelFailed with the reason.
        """
        entry = self._entry(name)
        with entry.lock:
            if entry.model is None:
                entry.loading, entry.error = True, None
                try:
                    entry.model = entry.loader()
                except ModelFailed as error:
                    entry.error = str(error)
                    raise
                finally:
                    entry.loading = False
            return entry.model

    def warm(self, name: str | None = None) -> Model:
        """Load, compile and run a model (None: the default). Raises UnknownModel or ModelFailed."""
        model = self.get(name)
        model.warm_apart()
        return model

    def prepare(self, name: str) -> Model:
        """Load, compile and run what a name's file holds now, beside the model that is served; `replace` changes them.

        Raises UnknownModel, or ModelFailed with the reason; the model that is served stays as it is.
        """
        entry = self._entry(name)
        fresh = entry.loader()
        if fresh is entry.model:
            raise ModelFailed(f"{name}: expected a model that was loaded from a file, this one was not")
        fresh.warm_apart()
        return fresh

    def replace(self, name: str, fresh: Model) -> None:
        """Serve a prepared model under a name from now on; sessions of the old one live on. Raises UnknownModel."""
        entry = self._entry(name)
        with entry.lock:
            old, entry.model, entry.error = entry.model, fresh, None
            if old is not None:
                fresh.version = old.version + 1
                old.successor = fresh

    def state(self, name: str) -> ModelState | None:
        """How far a model is; None if there is none of that name."""
        entry = self._entries.get(name)
        return None if entry is None else entry.state

    def retire(self, name: str) -> None:
        """Let no request have the model any more: it is being unloaded. Raises UnknownModel."""
        self._entry(name).unloading = True

    def remove(self, name: str) -> None:
        """Forget a model and its name; the default, if it was that, is then the first that is left."""
        with self._lock:
            self._entries.pop(name, None)
            if self._default == name:
                self._default = None

    def resolve(self, name: str | None) -> str:
        """The name that requests for `name` (None: the default) mean. Raises UnknownModel; loads nothing."""
        chosen = name if name is not None else self.default
        if chosen is None:
            raise UnknownModel("no model is registered; start the server with one")
        if chosen not in self._entries:
            near = difflib.get_close_matches(chosen, self._entries, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownModel(f"unknown model {chosen!r}; expected one of {', '.join(self._entries) or 'none'}{hint}")
        if self._entries[chosen].unloading:
            raise UnknownModel(f"model {chosen!r} is being unloaded")
        return chosen

    def loaded(self) -> list[Model]:
        """The models that are loaded, in order of registration."""
        return [entry.model for entry in tuple(self._entries.values()) if entry.model is not None]

    def describe(self) -> list[dict[str, Any]]:
        """For GET /v1/models; loads nothing."""
        return [describe(name, entry, name == self.default) for name, entry in tuple(self._entries.items())]

    def _entry(self, name: str | None) -> Entry:
        chosen = self.resolve(name)
        entry = self._entries.get(chosen)
        if entry is None:
            raise UnknownModel(f"model {chosen!r} was unloaded")
        return entry

    def _add(self, name: str, entry: Entry) -> None:
        with self._lock:
            known = self._entries.get(name)
            if known is not None and known.state is not ModelState.FAILED:
                raise ValueError(f"expected a new model name, got {name!r} again")
            if known is None and len(self._entries) >= self._max_models:
                raise ValueError(f"expected at most {self._max_models} models, got one more: {name!r}")
            self._entries[name] = entry
