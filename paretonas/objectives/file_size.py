"""The size of the ONNX file of an architecture."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from torch import nn

from ..export.inputs import Inputs, keep_inputs
from ..forward import copied, seeded
from ..nn import Supernet
from ..space import Architecture, draw
from .parts import hints, observer
from .table_objective import TableObjective
from .tabulate import cost_table

SAMPLED = 6  # architectures whose files are written for the table


@dataclass(frozen=True)
class FileSize(TableObjective):
    """KiB of the ONNX file of a network, without the texts about its architecture.

    The table has the bytes of weights and of operations, each with a factor that was fitted to a
    few files: an exporter merges batch norms into convolutions. `measure` writes the file.

    Attributes:
        table: the KiB of each part.
    """

    name: str = "file"
    unit: str = "kib"

    @classmethod
    def of(cls, supernet: Supernet, example: Any) -> FileSize:
        """Tabulate the parts of a supernet's architectures.

        Raises:
            ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
        """
        observe, rng = observer(supernet, example), Random(0)

        def counts(architecture: Architecture) -> tuple[float, float]:
            found = observe(architecture)
            return sum(found.parameter_bytes.values()), sum(map(len, found.runs.values()))

        drawn = [observe(draw(supernet.choices, rng)).architecture for _ in range(SAMPLED)]
        files = [file_bytes(supernet.extract(each), example) for each in drawn]
        matrix = np.array([counts(each) for each in drawn], dtype=np.float64)
        of_weights, of_operations = np.linalg.lstsq(matrix, np.array(files), rcond=None)[0]

        def kib(architecture: Architecture) -> dict[str, float]:
            found = observe(architecture)
            parts = {part: of_operations * len(runs) for part, runs in found.runs.items()}
            for part, held in found.parameter_bytes.items():
                parts[part] = parts.get(part, 0.0) + of_weights * held
            return {part: size / 1024 for part, size in parts.items()}

        return cls(cost_table(supernet.choices, kib, unit="kib", hints=hints(supernet)))

    def measure(self, network: nn.Module, example: Any) -> float:
        """Write the file of a network."""
        return file_bytes(network, example) / 1024


def file_bytes(network: nn.Module, example: Any) -> int:
    """The bytes of the ONNX file of a network, which does not change.

    Raises:
        ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
    """
    from ..export.onnx_file import write_draft

    plain = copied(network).eval().cpu()
    inputs = Inputs.of(example, example).handed(plain)
    with seeded(0, plain), tempfile.TemporaryDirectory() as room:
        keep_inputs(plain, inputs)
        path = Path(room) / "net.onnx"
        write_draft(plain, inputs, path)
        return path.stat().st_size
