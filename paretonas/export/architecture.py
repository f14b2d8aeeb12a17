"""An architecture and its measurements as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from paretonas._atomic import replacing
from paretonas.export.exported import Exported
from paretonas.point import Point


def write_architecture(point: Point, path: Path, space: str = "") -> Exported:
    """Write the picks by name, and what was measured."""
    with replacing(path) as draft:
        draft.write_text(as_json(point, space) + "\n", encoding="utf-8")
    return Exported(path, path.stat().st_size)


def as_json(point: Point, space: str = "", input_shape: Sequence[int] | None = None) -> str:
    """The text of such a file; without the shape of one input where it is not known."""
    content: dict[str, object] = {
        "id": point.id,
        "architecture": dict(point.architecture),
        "objectives": dict(point.objectives),
        "reported": dict(point.reported),
    }
    if space:
        content["space"] = space
    if input_shape is not None:
        content["input_shape"] = list(input_shape)
    return json.dumps(content, indent=1, allow_nan=False)
