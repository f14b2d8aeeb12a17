"""ONNX Runtime as a backend: the file that is deployed, with pinned threads."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..arguments import moved
from ..export.inputs import Inputs, keep_inputs
from ..export.onnx_file import fed, onnx_runtime, session_of, write_draft
from ..forward import copied, handed, seeded
from .device import device_name
from .timer import Call, Load


class NotInOnnxError(ValueError):
    """A network that cannot be exported to ONNX."""


class OnnxRuntime:
    """ONNX Runtime on the CPU.

    A network is exported by `write_draft`, which mostly takes a tenth of a
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
    """An ONNX model of a network, and an example of its inputs as arrays by name.

    Raises:
        NotInOnnxError: ONNX has no form of the network; with the exporter's first line.
    """
    plain = copied(network).eval().cpu()
    try:
        inputs = Inputs.of(moved(example, "cpu"), moved(example, "cpu")).handed(plain)
        with seeded(0, plain), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            keep_inputs(plain, inputs)
            write_draft(plain, inputs, path)
            model = path.read_bytes()
    except ModuleNotFoundError:
        raise
    except Exception as error:  # of whatever kind: exporters have many
        line = str(error).strip().partition("\n")[0]
        raise NotInOnnxError(
            f"ONNX cannot hold the network ({line}); use --backend torch"
        ) from error
    return model, fed(session_of(model), handed(plain, example))


def node_times(
    backend: OnnxRuntime, model: bytes, inputs: Mapping[str, Any], runs: Sequence[Call]
) -> list[dict[str, float]]:
    """For each run of a model the seconds of its nodes, in their order, by name.

    A node that ONNX Runtime has made of several has the name of the one that does the work: what
    was a convolution before it was fused with an activation still has its name. What ONNX Runtime
    has added has a name of its own.

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
    ran = [
        (event["name"].removesuffix("_kernel_time"), event)
        for event in events
        if event.get("cat") == "Node" and event.get("name", "").endswith("_kernel_time")
    ]
    origin = origins(model, {node: event["args"]["op_name"] for node, event in ran})
    for node, event in ran:
        run = counts.get(node, 0)
        counts[node] = run + 1
        own = found[run]
        own[origin[node]] = own.get(origin[node], 0.0) + event["dur"] / 1e6
    return found


def origins(model: bytes, kinds: Mapping[str, str]) -> dict[str, str]:
    """Of nodes that run, the nodes of the model that they were; others keep their names.

    A fused node is called ``fused NAME``, or ``OUTPUT_nchwc`` by the last output of what it was.

    Args:
        model: an ONNX model.
        kinds: the kind of operation of each node that runs, by name.
    """
    import onnx

    graph = onnx.load_from_string(model).graph
    names = {node.name for node in graph.node}
    makers = {output: node for node in graph.node for output in node.output}
    found: dict[str, str] = {}
    for name, kind in kinds.items():  # what is what it was
        made = makers.get(name.removesuffix("_nchwc"))
        if name.removeprefix("fused ") in names:
            found[name] = name.removeprefix("fused ")
        elif made is not None and made.op_type == kind:
            found[name] = made.name
    for name in [name for name in kinds if name not in found]:
        made, taken = makers.get(name.removesuffix("_nchwc")), {*found.values()}
        found[name] = name if made is None else made.name
        before, seen = [] if made is None else [made], set[str]()
        while before:
            node = before.pop(0)
            if node.op_type == kinds[name] and node.name not in taken:
                found[name] = node.name
                break
            seen.add(node.name)
            inputs = [makers[i] for i in node.input if i in makers]
            before += [each for each in inputs if each.name not in seen]
    return found
