"""Write a network as an ONNX file, and check it in ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paretonas._atomic import replacing
from paretonas.export.exported import Exported, difference
from paretonas.export.program import program


def write_onnx(
    network: nn.Module, inputs: Tensor, path: Path, metadata: Mapping[str, str]
) -> Exported:
    """Write a model from ``images`` to ``logits`` for batches of any size.

    Args:
        network: the network, on the CPU, in evaluation mode.
        inputs: (batch, ...), the inputs for the comparison.
        path: the path to write.
        metadata: texts by name, which become the metadata of the model.

    Raises:
        ModuleNotFoundError: a package is missing; the message has the pip line.
        RuntimeError: ONNX Runtime does not give the network's outputs.
    """
    runtime = _runtime()
    with _quiet():
        model = torch.onnx.export(
            program(network, inputs),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    assert model is not None  # None only without dynamo
    model.model.metadata_props.update(metadata)
    with replacing(path) as draft:
        model.save(draft, external_data=False)
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        session = runtime.InferenceSession(draft, options, providers=["CPUExecutionProvider"])
        largest = 0.0
        for batch in (inputs, inputs[:1]):
            (logits,) = session.run(None, {"images": batch.clone().numpy()})
            with torch.no_grad():
                found = difference(network(batch.clone()), torch.from_numpy(logits), str(path))
            largest = max(largest, found)
    return Exported(path, path.stat().st_size, largest)


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
