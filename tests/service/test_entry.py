"""The states of a model, from registered to gone."""

from __future__ import annotations

import threading

import pytest
from service_fakes import FakeEngine, wait_until

from service.entry import ModelState
from service.registry import Model, ModelFailed, ModelRegistry, UnknownModel


@pytest.fixture
def registry(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    """One model, `a`, from a file that `engine` stands for; with `engine.failures` its loader fails."""

    def load(name: str, source: object, engine_of_settings: object) -> Model:
        assert engine.gate.wait(10)
        if engine.failures:
            raise engine.failures.popleft()
        return engine.model(name)

    monkeypatch.setattr("service.registry.load", load)
    registry = ModelRegistry()
    registry.register_source("a", None)
    return registry


def test_registered_loading_ready(registry: ModelRegistry, engine: FakeEngine) -> None:
    assert registry.state("a") is ModelState.REGISTERED
    engine.gate.clear()
    thread = threading.Thread(target=registry.warm)
    thread.start()
    wait_until(lambda: registry.state("a") is ModelState.LOADING)
    engine.gate.set()
    thread.join(10)
    assert registry.state("a") is ModelState.READY
    assert registry.describe()[0]["version"] == 1


def test_compiling_is_loading_too(engine: FakeEngine) -> None:
    held = threading.Event()

    def compile_when_told():
        assert held.wait(10)
        return engine.compile()

    model = engine.model()
    model.compile = compile_when_told
    registry = ModelRegistry()
    registry.register(model)
    assert registry.state("fake") is ModelState.REGISTERED, "loaded, and nothing can be computed yet"
    thread = threading.Thread(target=model.open_session)
    thread.start()
    wait_until(lambda: registry.state("fake") is ModelState.LOADING)
    held.set()
    thread.join(10)
    assert registry.state("fake") is ModelState.READY


def test_failed_and_another_try(registry: ModelRegistry, engine: FakeEngine) -> None:
    engine.failures.append(ModelFailed("a: no such file"))
    with pytest.raises(ModelFailed):
        registry.get("a")
    assert registry.state("a") is ModelState.FAILED
    assert registry.describe()[0]["error"] == "a: no such file"
    registry.register_source("a", None)
    assert registry.state("a") is ModelState.REGISTERED
    registry.warm()
    assert "error" not in registry.describe()[0]
    with pytest.raises(ValueError, match="'a' again"):
        registry.register_source("a", None)


def test_unloading_and_gone(registry: ModelRegistry) -> None:
    registry.warm()
    registry.retire("a")
    assert registry.state("a") is ModelState.UNLOADING
    with pytest.raises(UnknownModel, match="'a' is being unloaded"):
        registry.resolve("a")
    registry.remove("a")
    assert (registry.state("a"), registry.names(), registry.default) == (None, (), None)


def test_a_reload_that_fails_changes_nothing(registry: ModelRegistry, engine: FakeEngine) -> None:
    model = registry.warm()
    engine.failures.append(ModelFailed("a: cut short"))
    with pytest.raises(ModelFailed, match="cut short"):
        registry.prepare("a")
    assert (registry.state("a"), registry.get("a"), model.newest()) == (ModelState.READY, model, model)


def test_versions_count_and_old_models_know_the_newest(registry: ModelRegistry) -> None:
    first = registry.warm()
    for version in (2, 3):
        registry.replace("a", registry.prepare("a"))
        assert registry.get("a").version == version
    assert first.newest() is registry.get("a")


def test_the_first_that_is_left_becomes_the_default(engine: FakeEngine) -> None:
    registry = ModelRegistry(default="b")
    for name in ("a", "b"):
        registry.register(engine.model(name))
    assert registry.default == "b"
    registry.remove("b")
    assert registry.default == "a"


def test_a_model_without_a_file_has_nothing_to_load_again(engine: FakeEngine) -> None:
    registry = ModelRegistry()
    registry.register(engine.model("a"))
    with pytest.raises(ModelFailed, match="loaded from a file"):
        registry.prepare("a")
