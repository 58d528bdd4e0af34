"""A profile: thresholds that a calibration found for one model, a small file beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.explain import first_problem

SUFFIX = ".profile.json"

_Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ProfileError(ValueError):
    """A profile is wrong, or another model's; the message says what was expected and what came."""


class Profile(BaseModel):
    """model : SHA-256 of the model file. size : (W, H) that it was found at. budget : what it keeps. factors : on the
    default threshold of each step of the plan, by name. blocks : block of those steps that decide more finely than they
    do by default, px. measured : what came of it, for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    model: str
    size: tuple[int, int]
    budget: str
    factors: dict[str, _Factor]
    blocks: dict[str, Literal[1, 2, 4]] = {}
    measured: dict[str, Any] = {}

    def write(self, path: Path) -> None:
        """Write the file, in one step."""
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)


def profile_path(model: str | Path) -> Path:
    """Where the profile of a model file lies."""
    return Path(model).with_suffix(SUFFIX)


def load_profile(path: str | Path | None, model: str | Path, sha256: str) -> Profile | None:
    """The profile of a model file; None where it has none.

    path : None takes the one beside the model, if there is one; "" takes none. sha256 : of the model's bytes.
    Raises ProfileError for a file that is missing, no profile, or another model's.
    """
    if path == "":
        return None
    if path is None:
        path = profile_path(model)
        if not path.is_file():
            return None
    try:
        found = Profile.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ProfileError(f"{path}: not a profile: {first_problem(error, Profile)}") from error
    except ValueError as error:
        raise ProfileError(f"{path}: not a profile: {error}") from error
    if found.model != sha256:
        raise ProfileError(
            f"{path}: made for another model (SHA-256 {found.model[:12]}..., this one's is {sha256[:12]}...); "
            "calibrate anew, or remove the file"
        )
    return found
