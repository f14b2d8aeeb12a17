"""What becomes of a trained network in int8: its metric, its latency and the size of its file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..arguments import call, moved
from ..devices.onnx_session import OnnxRuntime
from ..devices.timer import measure_together
from ..export.inputs import CALIBRATION, Inputs, keep_inputs, real_inputs
from ..export.packages import check_onnx
from ..forward import copied, handed, seeded
from ..nn import NetworkSpace
from ..point import Cell
from ..tasks.task import Task, value_of
from ..training import evaluate
from .latency import ALONE_SECONDS


@dataclass(frozen=True)
class Int8:
    """What the objectives of quantized networks share.

    Attributes:
        space: has the task, with the examples of the calibration.

    Raises:
        ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
    """

    space: NetworkSpace

    def __post_init__(self) -> None:
        check_onnx()  # now, and not after the first training

    def quantized(self, network: nn.Module, example: Any) -> Quantized:
        """The quantized network."""
        return quantized(network, example, self.space.load_task())


@dataclass(frozen=True)
class Int8Metric(Int8):
    """The metric of a task after the quantization of a trained network, on the validation split.

    The network is exported to ONNX and quantized (`paretonas.export.int8.quantize`); nothing is
    trained again. ONNX Runtime computes the metric. What the metric is on the test split is
    reported.

    Attributes:
        space: has the task: the examples of the calibration, and the metric.
    """

    @property
    def column(self) -> str:
        """The metric's column, such as ``"int8_error_percent"``."""
        return f"int8_{self.space.load_task().metric.column}"

    @property
    def maximize(self) -> bool:
        """Whether larger values of the metric are better."""
        return self.space.load_task().metric.maximize

    def measure(self, network: nn.Module, example: Any) -> dict[str, Cell]:
        """Quantize a network, and compute its metric."""
        task = self.space.load_task()
        runs, metric = self.quantized(network, example).network(), task.metric
        return {
            self.column: value_of(evaluate(runs, task, "valid"), metric),
            f"int8_test_{metric.column}": value_of(evaluate(runs, task, "test"), metric),
        }


@dataclass(frozen=True)
class Int8Latency(Int8):
    """Milliseconds of a forward pass of the quantized network in ONNX Runtime.

    Attributes:
        space: has the task, with the examples of the calibration.
        threads: the number of CPU threads.
    """

    threads: int = 1
    column: ClassVar[str] = "int8_latency_ms"
    noisy: ClassVar[bool] = True

    def measure(self, network: nn.Module, example: Any) -> dict[str, Cell]:
        """Quantize a network, and time it: the median, and the spread."""
        from ..export.onnx_file import fed, session_of

        content = self.quantized(network, example).content
        runner = OnnxRuntime(torch.device("cpu"), self.threads)
        inputs = fed(session_of(content), moved(handed(network, example), "cpu"))
        load = runner.opening(content, inputs)
        (found,) = measure_together([load], threads=self.threads, seconds=ALONE_SECONDS)
        return {self.column: found.median_ms, "int8_latency_spread_ms": found.spread_ms}


@dataclass(frozen=True)
class Int8FileSize(Int8):
    """KiB of the ONNX file of the quantized network.

    Attributes:
        space: has the task, with the examples of the calibration.
    """

    column: ClassVar[str] = "int8_file_kib"

    def measure(self, network: nn.Module, example: Any) -> float:
        """Quantize a network."""
        return len(self.quantized(network, example).content) / 1024


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantized network.

    Attributes:
        content: the ONNX file.
        output: an output of the network that it was.
    """

    content: bytes
    output: Any

    def network(self, threads: int = 1) -> nn.Module:
        """The file as a network, which ONNX Runtime runs on the CPU."""
        from ..export.onnx_file import OnnxNetwork, session_of

        return OnnxNetwork(session_of(self.content, threads), self.output)


_seen: WeakKeyDictionary[nn.Module, tuple[object, Quantized]] = WeakKeyDictionary()


def quantized(network: nn.Module, example: Any, task: Task) -> Quantized:
    """Quantize a network, calibrated on training inputs; the network does not change.

    What was made of a network is kept for the next objective, as long as its weights stay.

    Args:
        network: a trained network.
        example: the inputs of one forward pass: a batch of one.
        task: what it was trained for.

    Raises:
        ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
        ValueError: the network cannot be exported or quantized; the message names the operation.
    """
    state = tuple((t.data_ptr(), t._version) for t in network.state_dict().values())
    if network in _seen and _seen[network][0] == state:
        return _seen[network][1]
    from ..export.int8 import quantize
    from ..export.onnx_file import write_draft

    plain = copied(network).eval().cpu()
    inputs = Inputs.of(example, real_inputs(task, "train", CALIBRATION, example)).handed(plain)
    with seeded(0, plain), tempfile.TemporaryDirectory() as room:
        keep_inputs(plain, inputs)
        with torch.no_grad():
            output = call(plain, inputs.first(1))
        floats, integers = Path(room) / "float.onnx", Path(room) / "int8.onnx"
        write_draft(plain, inputs, floats)
        quantize(floats, integers, inputs)
        found = Quantized(integers.read_bytes(), output)
    _seen[network] = state, found
    return found
