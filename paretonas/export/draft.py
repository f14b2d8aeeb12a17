"""The ONNX file of a network for a measurement, in memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paretonas.arguments import call, moved
from paretonas.export.inputs import Inputs, keep_inputs
from paretonas.export.onnx_file import write_draft
from paretonas.forward import copied, seeded


@dataclass(frozen=True, eq=False)
class Draft:
    """The ONNX file of a network.

    Attributes:
        content: of the file.
        inputs: a copy of what it was written with, on the CPU, in the network's floating type.
        output: an output of the network, for one example.
    """

    content: bytes
    inputs: Inputs
    output: Any


def drafted(network: nn.Module, example: Any, real: Any | None = None) -> Draft:
    """Write a network with `write_draft`; the network and the inputs do not change.

    Args:
        network: on any device, in any mode; the file has its evaluation mode.
        example: the inputs of one forward pass: a batch of one.
        real: more inputs, with which the file is checked; by default the example.

    Raises:
        ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
        Exception: what the exporters raise, if none can write the network.
    """
    plain = copied(network).eval().cpu()
    given = example if real is None else real
    inputs = Inputs.of(moved(example, "cpu"), moved(given, "cpu")).handed(plain)
    with seeded(0, plain), tempfile.TemporaryDirectory() as room:
        keep_inputs(plain, inputs)
        with torch.no_grad():
            output = call(plain, inputs.first(1))
        path = Path(room) / "network.onnx"
        write_draft(plain, inputs, path)
        return Draft(path.read_bytes(), inputs, output)
