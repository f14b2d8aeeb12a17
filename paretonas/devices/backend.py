"""What runs a network: the backends whose latency is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Protocol

import torch
from torch import nn

from ..export.packages import check_onnx
from ..forward import copied, seeded
from ..space import nearest
from .device import device_name, find_device
from .onnx_session import OnnxRuntime
from .timer import SECONDS, Call, Load, Measurement, loading, measure_together, repeated_network

__all__ = ["BACKENDS", "Backend", "default_backend", "find_backend", "measure_latency"]


class Backend(Protocol):
    """Runs networks on a device.

    Attributes:
        name: as on the command line.
        device: the torch device.
        threads: the number of CPU threads.
    """

    name: str
    device: torch.device
    threads: int

    def loading(self, network: nn.Module, example: Any) -> Load:
        """Gives calls of the network with the example; the network does not change."""
        ...

    def about(self) -> Mapping[str, Any]:
        """Device, threads and versions: what a latency depends on besides the network."""
        ...


class Eager:
    """PyTorch as it is, operation by operation."""

    name = "torch"

    def __init__(self, device: torch.device, threads: int) -> None:
        self.device, self.threads = device, threads

    def loading(self, network: nn.Module, example: Any) -> Load:
        """Gives calls of copies of the network."""
        return loading(network, example, self.device)

    def about(self) -> dict[str, Any]:
        """Device, threads and the version of torch."""
        return {
            "backend": self.name,
            "device": device_name(self.device),
            "threads": self.threads,
            "torch": torch.__version__,
        }


class Compiled(Eager):
    """`torch.compile`, which is compiled once for each network."""

    name = "torch.compile"

    def loading(self, network: nn.Module, example: Any) -> Load:
        """Gives the same call each time, since compiling takes long."""
        compiled: list[Call] = []

        def load() -> Call:
            if not compiled:
                plain = copied(network).to(self.device).eval()
                own = _Compiled(plain, torch.compile(_with_code_of_its_own(plain)))
                compiled.append(repeated_network(own, example, self.device))
            return compiled[0]

        return load


class _Compiled(nn.Module):
    """A compiled network, with the parameters that tell its device and type."""

    def __init__(self, network: nn.Module, compiled: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self._call = network, compiled

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


def _with_code_of_its_own(network: nn.Module) -> Callable[..., Any]:
    """A function that calls a network. Torch compiles a piece of code anew 8 times at most."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        return network(*args, **kwargs)

    code = forward.__code__.replace(co_name=f"forward_{id(network)}")
    return FunctionType(code, forward.__globals__, closure=forward.__closure__)


class CudaGraphs(Eager):
    """One CUDA graph of the whole network, as `torch.cuda.graph` captures it."""

    name = "cuda-graphs"

    def __init__(self, device: torch.device, threads: int) -> None:
        if device.type != "cuda":
            raise ValueError(f"the backend cuda-graphs needs the device cuda, got {device}")
        super().__init__(device, threads)

    def loading(self, network: nn.Module, example: Any) -> Load:
        """Gives the replay of a graph of a copy of the network."""

        def load() -> Call:
            call = repeated_network(copied(network).to(self.device).eval(), example, self.device)
            aside = torch.cuda.Stream(self.device)
            aside.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(aside):
                for _ in range(3):
                    call()
            torch.cuda.synchronize(self.device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                call()

            def replay() -> object:
                graph.replay()
                return call  # it holds the weights and inputs, which the graph reads

            return replay

        return load


BACKENDS: Mapping[str, Any] = {
    each.name: each for each in (Eager, OnnxRuntime, Compiled, CudaGraphs)
}
"""The backends by name."""
PREFERRED = OnnxRuntime.name


def find_backend(
    name: str | None = None, device: torch.device | str = "cpu", threads: int = 1
) -> Backend:
    """The backend called ``torch``, ``onnxruntime``, ``torch.compile`` or ``cuda-graphs``.

    Without a name, that of `default_backend`.

    Raises:
        ValueError: the name is unknown, or the backend does not run on the device.
        ModuleNotFoundError: its package is missing; the message has the pip line.
    """
    place = find_device(device) if isinstance(device, str) else device
    name = default_backend(place) if name is None else name
    if name not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise ValueError(
            f"the backend must be one of {known}, got {name!r}{nearest(name, [*BACKENDS])}"
        )
    backend: Backend = BACKENDS[name](place, threads)
    return backend


def default_backend(device: torch.device) -> str:
    """The backend whose file is exported by default, if its packages are installed: onnxruntime."""
    if device.type != "cpu":
        return Eager.name
    try:
        check_onnx()
    except ModuleNotFoundError:
        return Eager.name
    return PREFERRED


def measure_latency(
    network: nn.Module,
    example: Any,
    *,
    threads: int = 1,
    device: torch.device | str = "cpu",
    backend: str | None = None,
    seconds: float = SECONDS,
) -> Measurement:
    """Time the forward pass of a network in evaluation and inference mode.

    Copies of the network and of the example are timed; the example's floating tensors get the type
    of the network.

    Args:
        network: it does not change.
        example: the inputs, with their batch size: a tensor, or any nest of tensors.
        threads: the number of CPU threads.
        device: the device to run on.
        backend: what runs it; see `find_backend`. By default ONNX Runtime on a CPU, if its packages
            are installed; otherwise eager torch.
        seconds: how long about, at most.

    Raises:
        ValueError: `threads` is not positive, there is no such device or backend, or ONNX cannot
            hold the network; then take ``backend="torch"``.
    """
    runner = find_backend(backend, device, threads)
    load = runner.loading(network, example)
    with seeded(0, network):  # copies may share a generator with it
        return measure_together([load], threads=threads, device=runner.device, seconds=seconds)[0]
