"""What becomes of a trained network in int8: its metric, its latency and the size of its file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..arguments import moved, tensors
from ..devices.onnx_session import OnnxRuntime
from ..devices.timer import measure_together
from ..export.draft import drafted
from ..export.inputs import CALIBRATION, real_inputs
from ..export.packages import check_onnx
from ..forward import handed
from ..metric import Metric
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

    @cached_property
    def metric(self) -> Metric:
        """The main metric of the task."""
        return self.space.load_task().metric

    @property
    def name(self) -> str:
        """The metric's name, such as ``"int8_error"``."""
        return f"int8_{self.metric.name}"

    @property
    def column(self) -> str:
        """The metric's column, such as ``"int8_error_percent"``."""
        return f"int8_{self.metric.column}"

    @property
    def maximize(self) -> bool:
        """Whether larger values of the metric are better."""
        return self.metric.maximize

    def measure(self, network: nn.Module, example: Any) -> dict[str, Cell]:
        """Quantize a network, and compute its metric."""
        task, metric = self.space.load_task(), self.metric
        runs = self.quantized(network, example).network()
        tested = "_".join(filter(None, (self.name, "test", metric.unit)))
        return {
            self.column: value_of(evaluate(runs, task, "valid"), metric),
            tested: value_of(evaluate(runs, task, "test"), metric),
        }


@dataclass(frozen=True)
class Int8Latency(Int8):
    """Milliseconds of a forward pass of the quantized network in ONNX Runtime.

    Attributes:
        space: has the task, with the examples of the calibration.
        threads: the number of CPU threads.
        column: its name in files.
        noisy: two measurements of one network differ.
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
        column: its name in files.
    """

    column: ClassVar[str] = "int8_file_size_kib"

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


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a network was quantized with, and what was found."""

    state: object
    example: Any
    task: Task
    found: Quantized


_seen: WeakKeyDictionary[nn.Module, _Seen] = WeakKeyDictionary()


def quantized(network: nn.Module, example: Any, task: Task) -> Quantized:
    """Quantize a network, calibrated on training inputs; the network does not change.

    What was made of a network is kept for the next objective, as long as its weights stay, and the
    example and the task are the same.

    Args:
        network: a trained network.
        example: the inputs of one forward pass: a batch of one.
        task: what it was trained for.

    Raises:
        ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
        ValueError: the network cannot be exported or quantized; the message names the operation.
    """
    held = [*network.state_dict().values(), *tensors(example)]
    state = tuple((t.data_ptr(), t._version) for t in held)
    seen = _seen.get(network)
    if seen and seen.state == state and seen.example is example and seen.task is task:
        return seen.found
    from ..export.int8 import quantize

    draft = drafted(network, example, real_inputs(task, "train", CALIBRATION, example))
    with tempfile.TemporaryDirectory() as room:
        floats, integers = Path(room) / "float.onnx", Path(room) / "int8.onnx"
        floats.write_bytes(draft.content)
        quantize(floats, integers, draft.inputs)
        found = Quantized(integers.read_bytes(), draft.output)
    _seen[network] = _Seen(state, example, task, found)
    return found
