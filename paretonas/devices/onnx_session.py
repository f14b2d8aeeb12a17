"""ONNX Runtime as a backend: the file that is deployed, with pinned threads."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..export.draft import drafted
from ..export.onnx_file import fed, onnx_runtime, session_of
from .device import device_name
from .timer import Call, Load


class NotInOnnxError(ValueError):
    """A network that cannot be exported to ONNX.

    Args:
        what: ONNX cannot hold, such as "the network".
        reason: the exporter's first line.
        instead: what to do.

    Attributes:
        what: ONNX cannot hold.
        reason: the exporter's first line.
        instead: what to do.
    """

    def __init__(self, what: str, reason: str, instead: str) -> None:
        super().__init__(what, reason, instead)
        self.what, self.reason, self.instead = what, reason, instead

    def __str__(self) -> str:
        return f"ONNX cannot hold {self.what} ({self.reason}); {self.instead}"


class OnnxRuntime:
    """ONNX Runtime on the CPU.

    A network is exported by `drafted`, which mostly takes a tenth of a second. The file that
    `paretonas.export` writes takes as long to run, and seconds to write.

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


TORCH_INSTEAD = 'use --backend torch, in Python backend="torch"'


def exported(
    network: nn.Module, example: Any, instead: str = TORCH_INSTEAD
) -> tuple[bytes, dict[str, Any]]:
    """An ONNX model of a network, and an example of its inputs as arrays by name.

    Args:
        network: does not change.
        example: the inputs of one forward pass.
        instead: what to do if ONNX has no form of the network.

    Raises:
        NotInOnnxError: ONNX has no form of the network; with the exporter's first line.
        OSError: the model cannot be written.
        MemoryError: there is no memory for it.
    """
    try:
        draft = drafted(network, example)
    except (ModuleNotFoundError, OSError, MemoryError):  # such as a full disk
        raise
    except Exception as error:  # of whatever kind: exporters have many
        line = str(error).strip().partition("\n")[0] or type(error).__name__
        reason = line.partition(";")[0]  # what follows is advice for an export
        raise NotInOnnxError("the network", reason, instead) from error
    return draft.content, fed(session_of(draft.content), draft.inputs.nest)


@dataclass(frozen=True)
class NodeTimes:
    """What the nodes of a model took, each by the name that ONNX Runtime gives it.

    Attributes:
        seconds: (runs,) of each node, without the nodes inside it, in the order of the first run.
        origins: the node of the model that each does the work of; itself if it is of none.
    """

    seconds: dict[str, NDArray[np.float64]]
    origins: dict[str, str]

    @classmethod
    def of(cls, events: Sequence[Mapping[str, Any]], model: bytes) -> NodeTimes:
        """The times that ONNX Runtime has written down, here or on another machine.

        Args:
            events: of its profile; those of nodes and of whole runs are enough.
            model: the ONNX model that was run.
        """
        runs = list(_by_run(events))
        seconds: dict[str, NDArray[np.float64]] = {}
        kinds: dict[str, str] = {}
        for run, own in enumerate(runs):
            around: list[tuple[str, int]] = []  # nodes such as loops, and when they end
            for event in sorted(own, key=lambda event: (event["ts"], -event["dur"])):
                node = event["name"].removesuffix("_kernel_time")
                kinds[node] = event.get("args", {}).get("op_name", "")
                spent = (event["dur"] + 0.5) / 1e6  # it is cut to whole microseconds
                while around and around[-1][1] <= event["ts"]:
                    around.pop()
                if around:
                    seconds[around[-1][0]][run] -= spent
                seconds.setdefault(node, np.zeros(len(runs)))[run] += spent
                around.append((node, event["ts"] + event["dur"]))
        found = {node: own.clip(0.0) for node, own in seconds.items()}
        return cls(found, _origins(model, kinds))


def node_times(
    backend: OnnxRuntime, model: bytes, inputs: Mapping[str, Any], runs: Sequence[Call]
) -> NodeTimes:
    """The seconds of a model's nodes, as ONNX Runtime tells them.

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
    return NodeTimes.of(events, model)


def _by_run(events: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The events of the nodes of each run; that of the run comes after them."""
    nodes: list[Mapping[str, Any]] = []
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            nodes.append(event)
        elif name == "model_run":
            # What is inside a node was written before it.
            yield [node for node in reversed(nodes) if node["ts"] >= event["ts"]]
            nodes = []


def _origins(model: bytes, kinds: Mapping[str, str]) -> dict[str, str]:
    """For each node of ONNX Runtime the node of the model that it does the work of.

    A fused node has the name of one of its operations, mostly of the last. Of those before it, the
    one that has its kind does the work, such as the convolution before an activation.

    Args:
        model: the model as it was exported.
        kinds: the kind of each node of ONNX Runtime, such as ``Conv``, by its name.
    """
    import onnx

    nodes = list(_all_nodes(onnx.load_from_string(model).graph))
    makers = {output: node for node in nodes for output in node.output if output}
    known = makers | {node.name: node for node in nodes if node.name}
    ends = {name: _named(name, known) for name in kinds}
    alone = {end.name for end in ends.values() if end is not None}
    origins: dict[str, str] = {}
    for name, end in ends.items():
        kind, near = kinds[name].removeprefix("Fused"), [] if end is None else [end]
        seen: set[str] = set()
        for node in near:  # grows
            if node.op_type == kind:
                end = node
                break
            before = [makers[each] for each in node.input if each in makers]
            new = [n for n in before if n.name not in alone | seen]
            near += new
            seen |= {n.name for n in new}
        origins[name] = name if end is None else end.name
    return origins


def _all_nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph, and those inside loops and branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _all_nodes(inner)


def _named(name: str, known: Mapping[str, Any]) -> Any:
    """The node whose name, or that of its output, is in a name such as ``/Relu_output_0_nchwc``."""
    name = name.removeprefix("fused ")
    ends = [i for i, letter in enumerate(name) if letter in "_/"]
    for end in [len(name), *reversed(ends)]:
        if name[:end] in known:
            return known[name[:end]]
    return None
