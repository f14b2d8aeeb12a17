"""The size of the ONNX file of an architecture."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn

from ..devices.onnx_session import exported
from ..nn import Supernet
from ..space import Architecture, draw
from .cost_table import CostTable, Slot
from .onnx_options import naming_options
from .parts import hints, observer
from .table_objective import TableObjective
from .tabulate import cost_table

SAMPLED = 6  # architectures whose files are written for the table


@dataclass(frozen=True)
class FileSize(TableObjective):
    """KiB of the ONNX file of a network, without the texts about its architecture.

    The table has the bytes of weights and of operations, each with a factor, and a constant for
    what all files have. These three are fitted to a few files by least squares, none below 0: an
    exporter merges batch norms into convolutions. `measure` writes the file.

    Attributes:
        table: the KiB of each part.
    """

    name: str = "file_size"
    unit: str = "kib"

    @classmethod
    def of(cls, supernet: Supernet, example: Any) -> FileSize:
        """Tabulate the parts of a supernet's architectures.

        Raises:
            ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
            ValueError: ONNX cannot hold the network; the message names options that alone are to
                blame.
        """
        observe, rng = observer(supernet, example), Random(0)

        def counts(architecture: Architecture) -> tuple[float, float, float]:
            found = observe(architecture)
            return sum(found.parameter_bytes.values()), sum(map(len, found.runs.values())), 1.0

        drawn = [observe(draw(supernet.choices, rng)).architecture for _ in range(SAMPLED)]
        with naming_options(supernet, example):
            files = [file_bytes(supernet.extract(each), example) for each in drawn]
        matrix = np.array([counts(each) for each in drawn], dtype=np.float64)
        (of_weights, of_operations, constant), _ = nnls(matrix, np.array(files, dtype=np.float64))

        def kib(architecture: Architecture) -> dict[str, float]:
            found = observe(architecture)
            parts = {part: of_operations * len(runs) for part, runs in found.runs.items()}
            for part, held in found.parameter_bytes.items():
                parts[part] = parts.get(part, 0.0) + of_weights * held
            return {part: size / 1024 for part, size in parts.items()}

        table = cost_table(supernet.choices, kib, unit="kib", hints=hints(supernet))
        header = Slot("header", {}, torch.tensor(constant / 1024))
        slots = [*table.slots, header]
        return cls(CostTable(supernet.choices, slots, unit="kib", about=table.about))

    def measure(self, network: nn.Module, example: Any) -> float:
        """Write the file of a network."""
        return file_bytes(network, example) / 1024


def file_bytes(network: nn.Module, example: Any) -> int:
    """The bytes of the ONNX file of a network, which does not change.

    Raises:
        ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
        ValueError: ONNX cannot hold the network.
    """
    return len(exported(network, example, "minimize something else than file_size")[0])
