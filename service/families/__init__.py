"""Model families: how outputs become results. `create` makes the one that a specification names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from cache.onnx_import import import_graph, native_shape
from service.families.afterimage import Afterimage
from service.families.base import (
    Classification,
    Detections,
    Family,
    FamilyError,
    Mask,
    RawOutputs,
    Result,
    Size,
    boxes_of,
)
from service.families.classification import Classifier
from service.families.fastestdet import FastestDet
from service.families.nanodet import NanoDet
from service.families.raw import Raw
from service.families.segmentation import Segmenter
from service.families.ultraface import UltraFace
from service.families.ultralytics import Ultralytics
from service.families.yolox import YoloX
from service.families.yunet import YuNet

if TYPE_CHECKING:
    from cache.onnx_import import OnnxModel
    from service.model_spec import ModelSpec

__all__ = [
    "FAMILIES",
    "Classification",
    "Detections",
    "Family",
    "FamilyError",
    "Mask",
    "RawOutputs",
    "Result",
    "Size",
    "bind",
    "boxes_of",
    "check_size",
    "create",
    "default_size",
]

FAMILIES: Mapping[str, type[Family]] = MappingProxyType(
    {
        family.name: family
        for family in (
            Afterimage,
            YoloX,
            NanoDet,
            FastestDet,
            YuNet,
            UltraFace,
            Ultralytics,
            Classifier,
            Segmenter,
            Raw,
        )
    }
)

_SIZE_IF_DYNAMIC: Size = (640, 384)
_STRIDE_IF_DYNAMIC = 32


def create(spec: ModelSpec) -> Family:
    """A new decoder of the family that the specification names; one per model, shared by its streams."""
    return FAMILIES[spec.family]()


def bind(model: OnnxModel, spec: ModelSpec, size: Size) -> tuple[Family, Sequence[str] | None]:
    """A new family for the model, and the tensors that its plan must end at (None: the model's outputs).

    The heads are looked for at the file's own size, as the file's tail may work at no other; a plan of any
    `size` (W, H) may then end at them. Raises ModelError, GraphError or FamilyError.
    """
    family = create(spec)
    shape = native_shape(model) or (1, spec.channels, size[1], size[0])
    return family, family.outputs(model, import_graph(model, shape))


def default_size(model: OnnxModel, spec: ModelSpec) -> Size:
    """Plan size (W, H): the specification's, else the file's own, else 640x384 for a dynamic file."""
    if spec.size is not None:
        return spec.size
    height, width = _spatial(model)
    return (width or _SIZE_IF_DYNAMIC[0], height or _SIZE_IF_DYNAMIC[1])


def check_size(model: OnnxModel, spec: ModelSpec, size: Size) -> None:
    """Raise FamilyError, saying what is possible, if the model cannot run at `size` (W, H)."""
    if min(size) < 1:
        raise FamilyError(f"expected a size of at least 1x1, got {size[0]}x{size[1]}")
    height, width = _spatial(model)
    family_stride = FAMILIES[spec.family].stride
    fixed = family_stride is None
    for side, native, name in ((size[0], width, "width"), (size[1], height, "height")):
        if native is not None and side == native:
            continue
        if fixed and native is not None:
            raise FamilyError(f"{spec.family}: this file takes only {name} {native}, got {side}")
        stride = spec.stride or family_stride or _STRIDE_IF_DYNAMIC
        if side % stride:
            raise FamilyError(f"{spec.family}: expected a {name} that is a multiple of {stride}, got {side}")


def _spatial(model: OnnxModel) -> tuple[int | None, int | None]:
    """Height and width of the file's image input; None where dynamic."""
    shape = (model.inputs[0].shape if model.inputs else None) or ()
    return (shape[2], shape[3]) if len(shape) == 4 else (None, None)
