"""What a compression did, for people and for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerReport:
    """One node with weights.

    name : of the node in the file. form : what stands in its place (`decompose`); "" where it is left. shape : of its
    weights. ranks : of the form. macs_before, macs_after : multiply-accumulates of a dense run; 0 where not known.
    error : of its outputs on the frames that were fitted to, root mean square over that of the original's. reason : why
    it is left as it is.
    """

    name: str
    form: str = ""
    shape: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    macs_before: int = 0
    macs_after: int = 0
    error: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """What came of it.

    target : what was asked for, such as "budget 0.05". size : (W, H) of the input at which all was measured. frames :
    fitted to, and held back for `output_error` and `agreement`; in_sample : where these are the same one, as there is
    no other. macs, bytes : of a dense run up to the outputs that are used, and of the file. output_error : root mean
    square of the difference of the outputs over that of the original's, the root mean square over outputs. agreement :
    by name, 0 to 1; None where the frames hold nothing to compare.
    """

    model: str
    method: str
    target: str
    corrected: bool
    size: tuple[int, int]
    frames: tuple[int, int]
    layers: tuple[LayerReport, ...]
    macs_before: int
    macs_after: int
    bytes_before: int
    bytes_after: int
    output_error: float
    agreement: Mapping[str, float] | None
    in_sample: bool = False

    @property
    def replaced(self) -> tuple[LayerReport, ...]:
        """Layers that others stand in the place of."""
        return tuple(layer for layer in self.layers if layer.form)

    @property
    def macs_share(self) -> float:
        """Multiply-accumulates left."""
        return self.macs_after / self.macs_before if self.macs_before else 1.0

    def as_json(self) -> dict[str, Any]:
        """The fields, and `macs_share`."""
        return {**asdict(self), "macs_share": self.macs_share}
