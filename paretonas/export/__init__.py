"""Export a picked architecture to files that other programs can open."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from paretonas._callable import CallablePackage
from paretonas.export.architecture import metadata, preparation, write_architecture
from paretonas.export.exported import Exported
from paretonas.export.inputs import CALIBRATION, Inputs, keep_inputs, real_inputs
from paretonas.forward import copied, seeded
from paretonas.point import Point
from paretonas.space import nearest
from paretonas.tasks.task import Task

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["FORMATS", "Exported", "export"]

FORMATS = ("onnx", "onnx-int8", "torch", "safetensors", "json", "graphml")
"""The formats of `export`."""

sys.modules[__name__].__class__ = CallablePackage


def export(
    network: nn.Module,
    point: Point,
    example: Any,
    format: str,
    out: str | os.PathLike[str],
    *,
    images: Any | None = None,
    graph: nx.DiGraph[str] | None = None,
    space: str = "",
    task: Task | None = None,
) -> Exported:
    """Write a trained network, or its architecture, to one file; a half file is never left.

    ``onnx`` and ``torch`` (a `torch.export` program) run without paretonas, on batches of any size.
    Each file is loaded again and must give the outputs of the network. ``onnx-int8`` is the ONNX
    file, quantized to 8-bit integers and calibrated on training inputs; its outputs differ, and the
    result says by how much. ``safetensors`` is the
    weights, with a JSON file of the architecture next to it. ``json`` is only that JSON file.
    ``graphml`` is the graph of operations. The network and the inputs do not change; the network
    gets copies of the inputs, in its own floating type.

    Args:
        network: the trained network; exported in evaluation mode, on the CPU.
        point: the architecture and its measurements.
        example: one or more inputs, (batch, ...), which give the shape: a tensor, or any nest of
            tensors (a tuple for positional arguments, a dict for keyword arguments).
        format: one of `FORMATS`.
        out: the path to write; an old file is replaced, except a foreign JSON file next to weights.
        images: real inputs, (batch, ...), for the comparison of outputs; by default the example. In
            a nest, the dimensions that count examples are found by their number in the two.
        graph: the graph for ``graphml``; its attributes become plain types.
        space: the search space of the choices, stored with the architecture.
        task: the task of the training; its preprocessing is stored with the architecture, and
            ``onnx-int8`` is calibrated on its training inputs, otherwise on the images.

    Raises:
        ValueError: the format is unknown, the path cannot be written, there is a foreign JSON file
            next to weights, the example has no batch dimension, the images have another shape,
            ``graphml`` has no graph, or the network cannot be quantized.
        ModuleNotFoundError: packages for ONNX are missing; the message has the pip line.
        RuntimeError: the written file does not give the network's outputs; the file is deleted.
    """
    path = Path(out)
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}{nearest(format, FORMATS)}")
    inputs = Inputs.of(example, example if images is None else images)
    prepared = None if task is None else preparation(task, network, example)
    if format == "json":
        return write_architecture(point, path, space, prepared)
    if format == "graphml":
        from paretonas.export.graphml import write_graphml

        if graph is None:
            raise ValueError("graphml needs the graph of the architecture; pass graph=")
        return write_graphml(graph, path)
    plain = copied(network).eval().cpu()
    inputs = inputs.handed(plain)
    told = metadata(point, space, inputs.shapes(plain), prepared)
    with seeded(0, plain):  # in case the network uses random numbers
        keep_inputs(plain, inputs)
        match format:
            case "onnx":
                from paretonas.export.onnx_file import write_onnx

                return write_onnx(plain, inputs, path, told)
            case "onnx-int8":
                from paretonas.export.int8 import write_int8

                training = inputs
                if task is not None:
                    seen = real_inputs(task, "train", CALIBRATION, example)
                    training = Inputs.of(example, seen).handed(plain)
                return write_int8(plain, inputs, training, path, told)
            case "torch":
                from paretonas.export.program import write_program

                return write_program(plain, inputs, path, told)
            case _:
                from paretonas.export.weights import write_weights

                return write_weights(plain, path, told)
