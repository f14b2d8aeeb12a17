"""An architecture and its measurements as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from paretonas._atomic import replacing
from paretonas.export.exported import Exported
from paretonas.point import Point
from paretonas.tasks.passes import few
from paretonas.tasks.task import Task


def write_architecture(
    point: Point, path: Path, space: str = "", prepared: Mapping[str, Any] | None = None
) -> Exported:
    """Write the picks by name, the measurements, and how inputs are prepared."""
    with replacing(path) as draft:
        draft.write_text(as_json(point, space, prepared=prepared) + "\n", encoding="utf-8")
    return Exported(path, path.stat().st_size)


def metadata(
    point: Point, space: str, inputs: Mapping[str, Any], prepared: Mapping[str, Any] | None
) -> dict[str, str]:
    """The metadata of a model file: the architecture, and how inputs are prepared, each as JSON."""
    told = {} if prepared is None else {"preprocessing": _as_text(prepared)}
    return {"architecture": as_json(point, space, inputs, prepared), **told}


def preparation(task: Task, dtype: torch.dtype) -> dict[str, Any]:
    """How raw inputs are prepared, and statistics of the prepared training inputs.

    The `dtype` is that of the network's inputs, which may differ from that of the data. Without a
    `Preprocessing` only the range, mean and standard deviation are known.
    """
    inputs = few(task, "train", 10_000)[0]
    stated = getattr(task, "preprocessing", None)
    parts = inputs.split(1024)  # all at once in double precision would need much memory
    mean = sum(float(part.double().sum()) for part in parts) / inputs.numel()
    square = sum(float((part.double() - mean).square().sum()) for part in parts) / inputs.numel()
    seen = {
        "dtype": str(dtype).removeprefix("torch."),
        "shape": list(inputs.shape[1:]),
        "min": float(inputs.min()),
        "max": float(inputs.max()),
        "mean": mean,
        "std": math.sqrt(square),
    }
    if stated is None:
        return {"stated": False, "training_inputs": seen}
    return {
        "stated": True,
        "formula": "(raw * scale - mean) / std",
        **asdict(stated),
        "training_inputs": seen,
    }


def as_json(
    point: Point,
    space: str = "",
    inputs: Mapping[str, Any] | None = None,
    prepared: Mapping[str, Any] | None = None,
) -> str:
    """The text of such a file; unknown facts about the inputs are left out.

    The inputs are facts by name: the ``input_shape`` of a tensor without the batch, or the
    ``inputs`` by name, each with its ``dtype`` and ``shape``.
    """
    content: dict[str, object] = {
        "id": point.id,
        "architecture": dict(point.architecture),
        "objectives": dict(point.objectives),
        "reported": dict(point.reported),
    }
    if space:
        content["space"] = space
    content |= inputs or {}
    if prepared is not None:
        content["preprocessing"] = dict(prepared)
    return _as_text(content)


def _as_text(content: object) -> str:
    return json.dumps(content, indent=1, allow_nan=False)
