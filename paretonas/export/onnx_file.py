"""Write a network as an ONNX file, and check it in ONNX Runtime."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paretonas._atomic import replacing
from paretonas.arguments import call, tensors
from paretonas.export.exported import Exported, difference
from paretonas.export.inputs import Inputs, output_names
from paretonas.export.program import program


def write_onnx(
    network: nn.Module, inputs: Inputs, path: Path, metadata: Mapping[str, str]
) -> Exported:
    """Write a model for batches of any size.

    A floating input is called ``images``, and an output ``logits``. Several are named by
    `Inputs.names` and `output_names`; outputs that are not tensors are left out.

    Args:
        network: the network, on the CPU, in evaluation mode; its outputs become a list of tensors.
        inputs: the inputs for the comparison.
        path: the path to write.
        metadata: texts by name, which become the metadata of the model.

    Raises:
        ModuleNotFoundError: a package is missing; the message has the pip line.
        RuntimeError: ONNX Runtime does not give the network's outputs.
    """
    runtime = _runtime()
    names = inputs.names(network)
    with torch.no_grad():
        results = output_names(call(network, inputs.first(1)), names)
    network.register_forward_hook(_separate, with_kwargs=True)
    with _quiet():
        model = torch.onnx.export(
            program(network, inputs),
            dynamo=True,
            input_names=names,
            output_names=results,
            verbose=False,
        )
    assert model is not None  # None only without dynamo
    _name_batch(model.model.graph, inputs)
    _forget_the_source(model.model)
    model.model.metadata_props.update(metadata)
    with replacing(path) as draft:
        model.save(draft, external_data=False)
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        session = runtime.InferenceSession(draft, options, providers=["CPUExecutionProvider"])
        largest = 0.0
        for count in (inputs.examples(), 1):
            found = [
                torch.from_numpy(y) for y in session.run(None, fed(session, inputs.first(count)))
            ]
            with torch.no_grad():
                expected = call(network, inputs.first(count))
            largest = max(largest, difference(expected, found, str(path)))
    return Exported(path, path.stat().st_size, largest)


def _name_batch(graph: Any, inputs: Inputs) -> None:
    """Call the dimensions of the examples ``batch``, where torch gives them a name like ``s77``."""
    pairs = zip(graph.inputs, inputs.batch, strict=True)
    torchs = {re.escape(str(value.shape[dim])) for value, dim in pairs if dim is not None}
    if not torchs:
        return
    values = {id(value): value for value in (*graph.inputs, *graph.outputs)}
    for node in graph.all_nodes():
        values |= {id(value): value for value in node.outputs}
    for value in values.values():
        for dim, size in enumerate(value.shape or ()):
            # A name, or arithmetic on names; None is a size that is not known.
            if not isinstance(size, int) and size.value is not None:
                value.shape[dim] = re.sub(rf"\b({'|'.join(torchs)})\b", "batch", str(size))


def _forget_the_source(model: Any) -> None:
    """Drop the lines of Python code of each operation: of a small network, half of the file."""
    for thing in (model.graph, *model.graph.all_nodes(), *model.functions.values()):
        thing.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.metadata_props.clear()


def fed(session: Any, inputs: Any) -> dict[str, Any]:
    """The arrays of a nest of inputs by their names in a file."""
    names = [each.name for each in session.get_inputs()]
    return {n: t.numpy() for n, t in zip(names, tensors(inputs), strict=True)}


def _separate(_: nn.Module, args: Any, kwargs: Any, output: Any) -> list[Tensor]:
    """The tensors of an output; copies of those that are an input or come twice."""
    seen, found = {id(tensor) for tensor in tensors((args, kwargs))}, []
    for tensor in tensors(output):
        found.append(tensor.clone() if id(tensor) in seen else tensor)
        seen.add(id(tensor))
    return found


def _runtime() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"ONNX needs {error.name}: pip install 'paretonas[onnx]'", name=error.name
        ) from error
    return onnxruntime


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress messages of the exporter: torchvision is missing, and it uses deprecated code."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec.*is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
