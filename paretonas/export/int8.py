"""Quantize an ONNX file to int8: post-training static quantization of weights and activations."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paretonas._atomic import replacing
from paretonas.arguments import call, count, tensors
from paretonas.export.exported import Exported
from paretonas.export.inputs import Inputs
from paretonas.export.onnx_file import fed, session_of, write_onnx

BATCH = 32  # examples of calibration in one run


def write_int8(
    network: nn.Module, inputs: Inputs, training: Inputs, path: Path, metadata: Mapping[str, str]
) -> Exported:
    """Write a model of 8-bit integers for batches of any size, named as `write_onnx` names it.

    Args:
        network: the network, on the CPU, in evaluation mode; its outputs become a list of tensors.
        inputs: the inputs for the comparison.
        training: inputs of the training, for the calibration.
        path: the path to write.
        metadata: texts by name, which become the metadata of the model.

    Returns:
        The file, and the largest difference of its outputs from those of the network.

    Raises:
        ModuleNotFoundError: a package is missing; the message has the pip line.
        ValueError: the network cannot be quantized; the message names the operations.
    """
    with replacing(path) as draft:
        floats = draft.with_name("float.onnx")
        write_onnx(network, inputs, floats, metadata)
        quantize(floats, draft, training)
        session, given = session_of(draft), inputs.first(inputs.examples())
        found = [torch.from_numpy(y) for y in session.run(None, fed(session, given))]
        with torch.no_grad():
            expected = tensors(call(network, given))
    apart = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    return Exported(path, path.stat().st_size, apart)


def quantize(source: Path, target: Path, inputs: Inputs) -> None:
    """Write a file with 8-bit integers in the place of floats, as far as ONNX Runtime has kernels.

    The ranges of the activations are those that the inputs cause. Weights have one scale for each
    output channel. The file has pairs of ``QuantizeLinear`` and ``DequantizeLinear`` around each
    quantized operation, as Jacob et al. (2018, arXiv:1712.05877) quantize; a runtime fuses them.

    Args:
        source: an ONNX file, for batches of any size.
        target: the path to write.
        inputs: of the training, for the calibration.

    Raises:
        ModuleNotFoundError: a package is missing; the message has the pip line.
        ValueError: nothing in the network can be quantized, or an operation prevents it; the
            message names the operations.
    """
    session = session_of(source)  # first of all, it says which package is missing
    import onnx
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    feeds = [fed(session, part) for part in _batches(inputs)]
    with tempfile.TemporaryDirectory() as room, _quiet():
        folded = Path(room) / "folded.onnx"
        quant_pre_process(source, folded, skip_symbolic_shape=True)

        def attempt(operations: Sequence[str] | None = None) -> None:
            quantize_static(
                folded,
                target,
                _Reader(feeds),
                op_types_to_quantize=operations,
                per_channel=True,
            )

        present = sorted({node.op_type for node in onnx.load(folded).graph.node})
        try:
            attempt()
        except Exception as error:  # of whatever kind
            raise ValueError(
                f"the network cannot be quantized: {_culprits(attempt, present)}: "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
    model = onnx.load(target)
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ValueError(
            "nothing in the network can be quantized to int8: ONNX Runtime has no integers for "
            f"{', '.join(present) or 'an empty graph'}"
        )
    before = {each.key: each.value for each in onnx.load(source).metadata_props}
    onnx.helper.set_model_props(model, before)
    onnx.save(model, target)


def _culprits(attempt: Any, present: Sequence[str]) -> str:
    """The operations whose quantization alone fails too."""
    failing = []
    for operation in present:
        try:
            attempt([operation])
        except Exception:
            failing.append(operation)
    return ", ".join(failing or present)


def _batches(inputs: Inputs) -> Iterator[Any]:
    examples = count(inputs.nest)
    for start in range(0, examples, BATCH):
        yield inputs.part(start, min(BATCH, examples - start))


class _Reader:
    """Gives the arrays of one batch after another, as `CalibrationDataReader` does."""

    def __init__(self, feeds: Sequence[dict[str, Any]]) -> None:
        self._left = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the advice of the quantizer on the root logger."""
    root = logging.root
    level, handlers = root.level, [*root.handlers]  # its advice adds a handler, if there is none
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
