"""A measured box by hand: round figures, so that plans can be worked out on paper."""

from __future__ import annotations

from typing import Any

from service.capacity.box import Box

MIB = 1 << 20


def model_row(**fields: Any) -> dict[str, Any]:
    """A model whose frames cost 2 ms still, 4 ms at a tenth, 8 ms at half, 20 ms whole, beside others as alone."""
    return {
        "model": "people", "size": "640x384", "keyframe_ms": 20.0, "refresh_ms": 0.001, "still_ms": 2.0,
        "still_tiles_ms": 1.0,
        "partial": [
            {"share": 0.1, "ms": 4.0, "tiles_ms": 3.0, "work": 0.2, "jpeg_bytes": 40_000, "tiles_bytes": 4_000},
            {"share": 0.5, "ms": 8.0, "tiles_ms": 7.0, "work": 0.7, "jpeg_bytes": 50_000, "tiles_bytes": 20_000},
        ],
        "pictures": [
            {"size": "640x384", "ms": 1.0, "bytes": 40_000},
            {"size": "1280x768", "ms": 5.0, "bytes": 120_000},
        ],
        "scaling": [{"threads": 1, "slowdown": 1.0}, {"threads": 2, "slowdown": 1.0}],
        "memory": {"shared": 100 * MIB, "stream": 10 * MIB, "thread": 5 * MIB},
        **fields,
    }  # fmt: skip


def box_fields(**fields: Any) -> dict[str, Any]:
    """What the file of such a box has."""
    return {
        "kind": "box", "name": "two cores", "date": "2026-01-02", "cores": 2, "workers": 2, "memory_bytes": 8 << 30,
        "models": [model_row()], **fields,
    }  # fmt: skip


def make_box(**fields: Any) -> Box:
    """Such a box."""
    return Box.model_validate(box_fields(**fields))
