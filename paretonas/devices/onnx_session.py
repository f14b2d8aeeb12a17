"""ONNX Runtime as a backend: the file that is deployed, with pinned threads."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..arguments import Arguments, moved, tensors
from ..export.onnx_file import onnx_runtime, session_of
from ..forward import copied, handed
from .device import device_name
from .timer import Call, Load


class NotInOnnxError(ValueError):
    """A network that cannot be exported to ONNX."""


class OnnxRuntime:
    """ONNX Runtime on the CPU.

    A network is exported by `torch.onnx.export` with ``dynamo=False``, which takes a tenth of a
    second. The file that `paretonas.export` writes takes as long to run, and seconds to write.

    Raises:
        ValueError: the device is not the CPU.
        ModuleNotFoundError: a package is missing; the message has the pip line.
    """

    name = "onnxruntime"

    def __init__(self, device: torch.device, threads: int) -> None:
        if device.type != "cpu":
            raise ValueError(f"the backend onnxruntime runs on the CPU, got the device {device}")
        self._version = onnx_runtime().__version__
        self.device, self.threads = device, threads

    def loading(self, network: nn.Module, example: Any) -> Load:
        """Gives calls of new sessions of the exported network."""
        return self.opening(*exported(network, example))

    def opening(self, model: bytes | Path, inputs: Mapping[str, Any]) -> Load:
        """Gives calls of new sessions of an ONNX model, as bytes or by its path."""

        def load() -> Call:
            session = session_of(model, self.threads)
            names = [each.name for each in session.get_inputs()]
            fed = {name: inputs[name].copy() for name in names}
            return lambda: session.run(None, fed)

        return load

    def about(self) -> dict[str, Any]:
        """Device, threads and the version of ONNX Runtime."""
        return {
            "backend": self.name,
            "device": device_name(self.device),
            "threads": self.threads,
            "onnxruntime": self._version,
        }


def exported(network: nn.Module, example: Any) -> tuple[bytes, dict[str, Any]]:
    """An ONNX model of a network for inputs of one size, and its inputs as arrays by name.

    Raises:
        NotInOnnxError: ONNX has no form of the network; with the exporter's first line.
    """
    plain = copied(network).eval().cpu()
    given = Arguments.of(moved(handed(plain, example), "cpu"))
    flat = _Flat(plain, given)
    names = [f"input_{index}" for index in range(len(flat.inputs))]
    with _quiet(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        inputs = tuple(flat.inputs)
        try:
            torch.onnx.export(flat, inputs, path, input_names=names, dynamo=False, verbose=False)
        except Exception as first:
            try:
                program = torch.onnx.export(
                    flat, inputs, input_names=names, dynamo=True, verbose=False
                )
            except Exception:
                line = str(first).strip().partition("\n")[0]
                raise NotInOnnxError(
                    f"ONNX cannot hold the network ({line}); use --backend torch"
                ) from first
            assert program is not None  # None only without dynamo
            program.save(path, external_data=False)
        model = path.read_bytes()
    arrays = {name: each.numpy() for name, each in zip(names, flat.inputs, strict=True)}
    return model, arrays


class _Flat(nn.Module):
    """A network that takes tensors alone, and gives a tuple of tensors."""

    def __init__(self, network: nn.Module, given: Arguments) -> None:
        super().__init__()
        self.network = network
        leaves, self._nest = tree_flatten((given.args, given.kwargs))
        self.inputs = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        self._rest = [None if isinstance(leaf, Tensor) else (leaf,) for leaf in leaves]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        left = iter(inputs)
        leaves = [next(left) if rest is None else rest[0] for rest in self._rest]
        args, kwargs = tree_unflatten(leaves, self._nest)
        return tuple(tensors(self.network(*args, **kwargs)))


def node_times(
    backend: OnnxRuntime, model: bytes, inputs: Mapping[str, Any], runs: Sequence[Call]
) -> list[dict[str, float]]:
    """For each run of a model the seconds of its nodes, in their order, by name.

    Args:
        backend: makes the session.
        model: an ONNX model.
        inputs: its inputs by name.
        runs: called after each run; their number is that of the runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = session_of(model, backend.threads, profile=str(Path(folder) / "profile"))
        names = [each.name for each in session.get_inputs()]
        fed = {name: inputs[name] for name in names}
        for after in runs:
            session.run(None, fed)
            after()
        events = json.loads(Path(session.end_profiling()).read_text())
    found: list[dict[str, float]] = [{} for _ in runs]
    counts: dict[str, int] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            node = name.removesuffix("_kernel_time")
            run = counts.get(node, 0)
            counts[node] = run + 1
            found[run][node] = event["dur"] / 1e6
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings of the exporter: it is old, and traces what it cannot understand."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
