"""An architecture and its measurements as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paretonas._atomic import replacing
from paretonas.arguments import count, tensors
from paretonas.export.exported import Exported
from paretonas.export.inputs import Inputs, real_inputs
from paretonas.forward import handed
from paretonas.point import Point
from paretonas.tasks.task import Task

FORMAT = 1
EXAMPLES = 10_000
NUMBERS = 2**24


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


def preparation(task: Task, network: nn.Module, example: Any) -> dict[str, Any]:
    """How raw inputs are prepared, and statistics of the prepared training inputs.

    The statistics are those of the first training examples, of at most 2^24 numbers in all. For
    several inputs they are by name. Without a `Preprocessing` only the statistics are known.
    """
    numbers = sum(tensor.numel() for tensor in tensors(example)) / count(example)
    examples = min(EXAMPLES, max(1, int(NUMBERS / max(1, numbers))))
    inputs = Inputs.of(example, real_inputs(task, "train", examples, example))
    types = [tensor.dtype for tensor in tensors(handed(network, example))]
    parts = zip(tensors(inputs.nest), inputs.batch, types, strict=True)
    found = [_statistics(tensor, dim, dtype) for tensor, dim, dtype in parts]
    named = dict(zip(inputs.names(network), found, strict=True))
    stated = getattr(task, "preprocessing", None)
    seen = found[0] if isinstance(inputs.nest, Tensor) else named
    if stated is None:
        return {"stated": False, "training_inputs": seen}
    return {
        "stated": True,
        "formula": "(raw * scale - mean) / std",
        **asdict(stated),
        "training_inputs": seen,
    }


def _statistics(inputs: Tensor, batch: int | None, dtype: torch.dtype) -> dict[str, Any]:
    """Statistics of inputs that the network gets as a type, which may differ from theirs.

    The shape is that of one example, without the dimension that counts examples.
    """
    told: dict[str, Any] = {
        "dtype": str(dtype).removeprefix("torch."),
        "shape": [size for dim, size in enumerate(inputs.shape) if dim != batch],
    }
    finite = inputs[inputs.isfinite()] if inputs.is_floating_point() else inputs.flatten()
    if inputs.dtype == torch.bool or inputs.is_complex() or not len(finite):
        return told
    told |= {"min": finite.min().item(), "max": finite.max().item()}
    if inputs.is_floating_point():
        parts = finite.split(2**20)  # all at once in double precision would need much memory
        mean = sum(float(part.double().sum()) for part in parts) / len(finite)
        square = sum(float((part.double() - mean).square().sum()) for part in parts) / len(finite)
        told |= {"mean": mean, "std": math.sqrt(square)}
    return told


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
        "format": FORMAT,
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
