"""Models by name: lazily loaded, compiled once, and clear about what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from own_model import write_model
from service_fakes import SIZE, FakeEngine, make_registry

from service.compiling import TooLittleMemory
from service.entry import ModelState
from service.registry import Model, ModelFailed, ModelRegistry, NoMemory, UnknownModel, load
from service.settings import ModelSource, Settings

YOLOX = Path(__file__).parents[3] / "shared/data/models/yolox_nano.onnx"


def test_names_and_default(engine: FakeEngine) -> None:
    registry = ModelRegistry()
    with pytest.raises(UnknownModel, match="no model is registered"):
        registry.resolve(None)
    registry.register(engine.model("a"))
    registry.register(engine.model("b"))
    assert (registry.names(), registry.default, registry.resolve("b")) == (("a", "b"), "a", "b")
    assert registry.get().name == "a"
    with pytest.raises(UnknownModel, match=r"unknown model 'c'; expected one of a, b"):
        registry.get("c")
    with pytest.raises(ValueError, match="'a' again"):
        registry.register(engine.model("a"))


def test_a_misspelt_name_gets_the_nearest_one(engine: FakeEngine) -> None:
    registry = ModelRegistry()
    registry.register(engine.model("people"))
    registry.register(engine.model("cars"))
    with pytest.raises(
        UnknownModel, match=r"unknown model 'peple'; expected one of people, cars; did you mean 'people'"
    ):
        registry.resolve("peple")


def test_without_models_the_built_in_one_is_served() -> None:
    registry = ModelRegistry.from_settings(Settings())
    assert (registry.names(), registry.default) == (("people",), "people")
    with pytest.raises(UnknownModel, match="expected one of people"):
        ModelRegistry.from_settings(Settings(default_model="door")).resolve(None)


def test_a_file_called_as_the_built_in_model_does_not_stand_in_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people").write_text("no model")
    assert ModelRegistry.from_settings(Settings()).get().spec.family == "afterimage"


def test_an_installation_without_the_built_in_model_says_so_once_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.catalogue.resources.files", lambda package: tmp_path / package)
    registry = ModelRegistry.from_settings(Settings())
    with pytest.raises(ModelFailed, match=r"^this installation has no built-in model"):
        registry.get()


def test_a_model_may_be_given_by_its_name() -> None:
    with pytest.raises(ModelFailed, match="no model 'peple'; did you mean people"):
        load("x", ModelSource(path=Path("peple")))


def test_number_of_models_is_bounded(engine: FakeEngine) -> None:
    registry = ModelRegistry(max_models=1)
    registry.register(engine.model("a"))
    with pytest.raises(ValueError, match="at most 1 models"):
        registry.register(engine.model("b"))


def test_a_plan_is_compiled_once_for_all_streams(engine: FakeEngine) -> None:
    model = engine.model()
    threads = [threading.Thread(target=model.open_session) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (engine.compiles, len(engine.sessions)) == (1, 8)
    assert len({id(session) for session in engine.sessions}) == 8


def test_warm_runs_the_model_twice(engine: FakeEngine) -> None:
    registry = ModelRegistry()
    registry.register(engine.model())
    assert registry.describe()[0]["compiled"] is False
    registry.warm()
    assert engine.sessions[0].decisions == ["keyframe", "partial"]
    assert registry.describe()[0]["compiled"] is True
    assert registry.describe()[0]["memory_bytes"] is None, "this engine does not say"


@pytest.mark.parametrize("content", [b"", b"this is a text file, not a model\n", bytes(1000)])
def test_what_is_no_model_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    registry = ModelRegistry.from_settings(Settings(models={"x": ModelSource(path=path)}))
    assert registry.describe()[0]["state"] == "registered"
    with pytest.raises(ModelFailed, match="x: not an ONNX model"):
        registry.get("x")
    assert registry.describe()[0]["state"] == "failed"
    assert "not an ONNX model" in registry.describe()[0]["error"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="x: "):
        load("x", ModelSource(path=tmp_path / "none.onnx"))


@pytest.mark.data
@pytest.mark.skipif(not YOLOX.exists(), reason="the real models are not beside the checkout")
def test_a_real_file_is_loaded_with_its_specification() -> None:
    model = load("yolox", ModelSource(path=YOLOX, size=(640, 384)))
    assert isinstance(model, Model)
    assert (model.spec.family, model.size) == ("yolox", (640, 384))
    assert model.spec.label(0) == "person"
    with pytest.raises(ModelFailed, match="multiple of 32"):
        load("yolox", ModelSource(path=YOLOX, size=(650, 384)))
    assert model.size != SIZE


def test_the_settings_say_how_models_are_computed(tmp_path: Path) -> None:
    source = ModelSource(path=write_model(tmp_path / "own.onnx"))
    settings = Settings(models={"own": source}, threads=3, exact=True, precision="strict", cache_dtype="float16")
    model = ModelRegistry.from_settings(settings).get("own")
    session = model.open_session()
    assert (session.threads, session.exact) == (3, True)
    assert (session.plan.policy.precision, session.plan.policy.cache_dtype) == ("strict", "float16")
    plain = load("own", source).open_session()
    assert (plain.threads, plain.exact) == (1, False)
    assert (plain.plan.policy.precision, plain.plan.policy.cache_dtype) == ("fast", "float32")


def test_what_an_engine_says_of_itself_is_known_once_it_is_compiled() -> None:
    engine = FakeEngine(stream_bytes=123, together=4)
    model = engine.model()
    assert (model.memory, model.together) == (None, None)
    model.ready()
    assert model.memory is not None
    assert model.memory.stream == 123
    assert model.together is not None
    assert model.together.limit == 4
    assert engine.sessions == [], "compiled, and no session made"
    silent = FakeEngine().model()
    silent.ready()
    assert (silent.memory, silent.together) == (None, None)


def test_a_model_for_which_there_is_no_memory_is_refused_with_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "own.onnx")
    left = [16 << 20]
    monkeypatch.setattr("service.room.available_bytes", lambda: left[0])
    with pytest.raises(
        NoMemory, match=r"^own: expected 1 MiB of memory for the model's file and 32 MiB to spare, 16 MiB"
    ):
        load("own", ModelSource(path=path))
    left[0] = 1 << 40
    model = load("own", ModelSource(path=path))
    left[0] = 16 << 20
    with pytest.raises(NoMemory, match="for a stream of own and the work space of a thread"):
        model.warm_apart()
    assert not model.compiled
    left[0] = 1 << 40
    model.warm_apart()
    assert model.compiled


def test_kernels_that_there_is_no_memory_to_compile_fail_their_model(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_none(recipe: object, work: object) -> None:
        raise TooLittleMemory("expected 240 MiB")

    monkeypatch.setattr("service.registry.run_compiled", compile_none)
    registry = make_registry(engine.model("own"))
    with pytest.raises(NoMemory, match="own: expected 240 MiB"):
        registry.warm("own")
    assert registry.state("own") is ModelState.FAILED


@pytest.mark.parametrize("there", [True, False])
def test_a_model_that_lacked_memory_once_is_loading_and_then_ready(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """there : whether its plan is, and only kernels of its frames are missing."""
    registry, states, short = make_registry(engine.model("own")), list[ModelState | None](), [True, False]

    def missing(recipe: object, work: Callable[[], None]) -> None:
        states.append(registry.state("own"))
        if there:
            work()
            states.append(registry.state("own"))
        if short.pop(0):
            raise TooLittleMemory("expected 240 MiB")
        work()

    monkeypatch.setattr("service.registry.run_compiled", missing)
    with pytest.raises(NoMemory):
        registry.warm("own")
    assert registry.state("own") is ModelState.FAILED
    registry.warm("own")
    assert registry.state("own") is ModelState.READY
    assert "error" not in registry.describe()[0]
    assert set(states) == {ModelState.LOADING}
