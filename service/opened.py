"""A model file opened for one size: its specification, its family, and the tensors its plan ends at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cache.onnx_import import ModelError, OnnxModel, at_size, load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.tuning import tuned
from service.families import Family, Size, bind, check_size, default_size
from service.model_spec import ModelSpec, load_spec
from service.profile import Profile, load_profile


@dataclass(frozen=True)
class OpenedModel:
    """model : as it is at `size` (W, H). outputs : tensors the plan ends at; None: the model's own outputs.

    profile : what a calibration found for this model, if there is one."""

    model: OnnxModel
    spec: ModelSpec
    family: Family
    size: Size
    outputs: Sequence[str] | None
    profile: Profile | None = None

    @property
    def budget(self) -> str:
        """What caching may cost: the profile's budget, "noise" without one."""
        return "noise" if self.profile is None else self.profile.budget

    @property
    def policy(self) -> Policy:
        """The default one with its thresholds times the specification's tolerance, and what the profile says."""
        policy, profile = Policy().scaled(self.spec.tolerance), self.profile
        return policy if profile is None else replace(policy, factors=profile.factors, blocks=profile.blocks)

    def compile(self, policy: Policy | None = None, admit: Callable[[Plan], None] = lambda plan: None) -> Plan:
        """The plan, tuned to this machine; takes a moment. Raises ModelError or GraphError with the reason.

        policy : None takes `self.policy`. admit : sees the plan before anything is computed in it, and may raise.
        """
        policy = policy or self.policy
        shape = (1, self.spec.channels, self.size[1], self.size[0])
        plan = Plan.compile(self.model, shape, self.outputs, self.spec.normalisation(), policy)
        admit(plan)
        return tuned(plan, self.model.sha256)


def open_model(
    path: str | Path, size: Size | None = None, spec: str | Path | None = None, profile: str | Path | None = None
) -> OpenedModel:
    """Read a model file and find out how to run it.

    size : (W, H) of the network's input; None takes the specification's, else the file's own. spec : its TOML
    specification; None takes the one beside the file, else a guess. profile : what a calibration wrote; None takes
    `NAME.profile.json` beside the file, if there is one; "" takes none.
    Raises ModelError, SpecError, ProfileError, FamilyError, GraphError or OSError with the reason.
    """
    try:
        model = load_model(path)
    except ModelError as error:
        raise ModelError(f"{Path(path).name}: {error}") from error
    found = load_spec(spec, model)
    chosen = size or default_size(model, found)
    check_size(model, found, chosen)
    family, outputs = bind(model, found, chosen)
    sized = at_size(model, (1, found.channels, chosen[1], chosen[0]))
    return OpenedModel(sized, found, family, chosen, outputs, load_profile(profile, path, model.sha256))
