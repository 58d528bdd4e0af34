"""What the service must know of a model beside its ONNX file: family, preprocessing, labels, thresholds.

The specification is guessed from the file and overridden field by field by `NAME.toml` beside `NAME.onnx`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from service import labels as label_lists
from service.explain import first_problem, unknown
from service.families.recognise import ModelFacts, read_facts, recognise

if TYPE_CHECKING:
    from cache.onnx_import import OnnxModel

FamilyName = Literal[
    "afterimage",
    "yolox",
    "nanodet",
    "fastestdet",
    "yunet",
    "ultraface",
    "ultralytics",
    "classification",
    "segmentation",
    "raw",
]
Fit = Literal["letterbox", "letterbox_centre", "stretch", "crop_centre"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class SpecError(ValueError):
    """A specification is wrong; the message names the field, what was expected and what came."""


def _as_size(value: object) -> object:
    """(W, H) from "640x384" or a pair."""
    if isinstance(value, str):
        parts = value.lower().split("x")
        if len(parts) == 2 and all(part.strip().isdigit() for part in parts):
            return (int(parts[0]), int(parts[1]))
        raise ValueError(f'expected a size such as "640x384" or [640, 384], got {value!r}')
    return value


def _as_values(value: object) -> object:
    """One number stands for all channels."""
    return (value,) if isinstance(value, int | float) else value


def _as_labels(value: object) -> object:
    """The name of a built-in list, or the names themselves."""
    if not isinstance(value, str):
        return value
    try:
        return label_lists.load(value)
    except KeyError as error:
        raise ValueError(f"{error.args[0]}; or give the names as an array") from None


_Side = Annotated[int, Field(ge=1, le=16384)]
_Values = Annotated[tuple[float, ...], BeforeValidator(_as_values), Field(min_length=1, max_length=3)]


class ModelSpec(BaseModel):
    """A model's specification. mean and std are in the order of the plan's channels (`colour`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: FamilyName = "raw"
    size: Annotated[tuple[_Side, _Side] | None, BeforeValidator(_as_size)] = None
    """Width and height of the network's input in pixels; None: the ONNX file's own."""
    stride: int | None = Field(None, ge=1)
    """Multiple that a size must have where the file accepts any; None: the family's."""
    colour: Literal["BGR", "RGB", "GRAY"] = "RGB"
    mean: _Values = (0.0,)
    std: _Values = (255.0,)
    """The network sees (v - mean) / std of each 0..255 value v."""
    fit: Fit = "stretch"
    pad_value: int = Field(0, ge=0, le=255)
    labels: Annotated[tuple[str, ...], BeforeValidator(_as_labels)] = ()
    """Class names in class order, or in TOML the name of a built-in list."""
    min_confidence: float = Field(0.25, ge=0, le=1)
    iou: float = Field(0.45, gt=0, le=1)
    """NMS drops a box that overlaps a better one of its class by this or more."""
    class_agnostic: bool = False
    tolerance: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Factor on the engine's default thresholds that this network bears without loss; networks trained with noise in
    the place of stale features bear more."""
    max_detections: int = Field(300, ge=1)
    top_k: int = Field(5, ge=1)
    scores: Literal["auto", "probability", "logits"] = "auto"
    """Classification and segmentation: whether the outputs are already probabilities."""
    mask_threshold: float = Field(0.5, gt=0, lt=1)
    min_region_px: int = Field(16, ge=1)
    """Regions of a mask that cover fewer plan pixels are dropped."""
    unclip_ratio: float = Field(0.0, ge=0)
    """Grow each region by area * ratio / perimeter, as PaddleOCR does for its shrunk text maps."""
    background: int | None = None
    layout: Literal["auto", "v5", "v8", "end2end"] = "auto"
    keypoint_shape: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _channels_agree(self) -> Self:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                expected = f"1 or {self.channels} values for {self.colour}"
                raise ValueError(f"{name}: expected {expected}, got {len(values)}")
        if min(self.std) <= 0:
            raise ValueError(f"std: expected values above 0, got {min(self.std)}")
        return self

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return 1 if self.colour == "GRAY" else 3

    def normalisation(self) -> NDArray[np.float32]:
        """Lookup table float32[256, C]: row v holds (v - mean) / std of each channel.

        It is v times a float32 slope plus a float32 shift, rounded once, so that a kernel need not look it up.
        """
        value = np.arange(256, dtype=np.float64)[:, None]
        mean = np.broadcast_to(np.asarray(self.mean, np.float64), (1, self.channels))
        std = np.broadcast_to(np.asarray(self.std, np.float64), (1, self.channels))
        slope, shift = (1 / std).astype(np.float32), (-mean / std).astype(np.float32)
        return np.ascontiguousarray(value * slope.astype(np.float64) + shift, dtype=np.float32)

    def label(self, class_id: int) -> str:
        """The class's name, "class 7" when the specification has none for it."""
        return self.labels[class_id] if 0 <= class_id < len(self.labels) else f"class {class_id}"


_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "afterimage": {"colour": "BGR", "mean": 0, "std": 1, "fit": "letterbox", "pad_value": 114},
    "yolox": {"colour": "BGR", "mean": 0, "std": 1, "fit": "letterbox", "pad_value": 114},
    "nanodet": {"colour": "BGR", "mean": IMAGENET_MEAN[::-1], "std": (57.375, 57.12, 58.395)},
    "fastestdet": {"colour": "BGR"},
    "yunet": {"colour": "BGR", "mean": 0, "std": 1, "fit": "letterbox", "labels": "face"},
    "ultraface": {"mean": 127, "std": 128, "labels": "face"},
    "ultralytics": {"fit": "letterbox_centre", "pad_value": 114},
    "classification": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "fit": "crop_centre"},
    "segmentation": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    "raw": {},
}


def guess_spec(model: OnnxModel) -> ModelSpec:
    """The specification that the ONNX file's metadata, shapes and names suggest; family "raw" if none."""
    return _build(read_facts(model), {})


def load_spec(path: str | Path | None, model: OnnxModel) -> ModelSpec:
    """The guessed specification with the fields of a TOML file put over it.

    path : the TOML file; None takes `NAME.toml` beside the model's own file, if there is one.
    Raises SpecError for a missing or malformed file, an unknown field or a wrong value.
    """
    if path is None:
        beside = Path(model.path).with_suffix(".toml") if model.path else None
        if beside is None or not beside.is_file():
            return guess_spec(model)
        path = beside
    try:
        given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from error
    try:
        return _build(read_facts(model), given)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error.__cause__


def _build(facts: ModelFacts, given: Mapping[str, Any]) -> ModelSpec:
    """Defaults of the family (the given one, else the guessed one), then the guess, then what was given."""
    for key in given:
        if key not in ModelSpec.model_fields:
            raise SpecError(unknown(key, list(ModelSpec.model_fields), "field"))
    guessed = recognise(facts)
    family = given.get("family", guessed["family"])
    if family not in _DEFAULTS:
        raise SpecError(unknown(str(family), list(_DEFAULTS), "family"))
    fields = dict(_DEFAULTS[family])
    if family == guessed["family"]:
        fields |= _by_facts(family, facts) | guessed
    elif "labels" in guessed:
        fields["labels"] = guessed["labels"]
    if facts.channels == 1 and "colour" not in given:
        fields |= {"colour": "GRAY", "mean": 0, "std": 255}
    fields |= given
    if given.get("colour") == "GRAY":
        fields |= {key: 0 if key == "mean" else 255 for key in ("mean", "std") if key not in given}
    try:
        return ModelSpec.model_validate({**fields, "family": family})
    except ValidationError as error:
        raise SpecError(first_problem(error, ModelSpec)) from error


def _by_facts(family: str, facts: ModelFacts) -> dict[str, Any]:
    """One-channel segmentation with a dynamic size is a text detector (PaddleOCR's DB head)."""
    if family != "segmentation" or not facts.outputs or facts.outputs[0].shape[1:2] != (1,):
        return {}
    if facts.width is not None or facts.channels != 3:
        return {}
    # PaddleOCR applies the RGB constants to its BGR images, and the model is trained so.
    text = {"colour": "BGR", "labels": "text", "mask_threshold": 0.3, "min_confidence": 0.6}
    return {**text, "unclip_ratio": 1.5, "fit": "letterbox", "stride": 32}
