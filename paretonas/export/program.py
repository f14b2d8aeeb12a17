"""Write a network as a `torch.export` program, which torch loads without paretonas."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paretonas._atomic import replacing
from paretonas.arguments import Arguments, call, tensors
from paretonas.export.exported import Exported, difference
from paretonas.export.inputs import Inputs


def write_program(
    network: nn.Module, inputs: Inputs, path: Path, metadata: Mapping[str, str]
) -> Exported:
    """Write a program for batches of any size; each text of the metadata is an extra file in it.

    Load it with ``torch.export.load(path).module()`` and call it like the network. With
    ``extra_files={"NAME.json": ""}`` torch fills this dictionary with the texts.

    A named tuple in the output becomes a dict, since the file does not hold its class.

    Raises:
        ValueError: the inputs or outputs are in containers that a file cannot hold.
        RuntimeError: the loaded program does not give the network's outputs.
    """
    extra = {f"{name}.json": text for name, text in metadata.items()}
    content = io.BytesIO()
    network.register_forward_hook(lambda *given: _without_classes(given[-1]))
    try:
        torch.export.save(program(network, inputs), content, extra_files=extra)
    except NotImplementedError as error:
        raise ValueError(
            "the inputs and outputs of a torch program are tensors in lists, tuples and dicts, "
            f"others cannot be stored: {error}"
        ) from error
    with replacing(path) as draft:
        draft.write_bytes(content.getvalue())
        # Write through memory: with a path torch requires the suffix .pt2, but the user chooses it.
        loaded = torch.export.load(io.BytesIO(draft.read_bytes())).module()
        with torch.no_grad():
            largest = max(
                difference(
                    call(network, inputs.first(count)), call(loaded, inputs.first(count)), str(path)
                )
                for count in (inputs.examples(), 1)
            )
    return Exported(path, path.stat().st_size, largest)


def program(network: nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    """Trace the network for batches of any size.

    Raises:
        ValueError: its forward pass fixes the number of examples, or torch cannot trace it.
    """
    pair = inputs.pair()
    given = Arguments.of(pair)
    batch = torch.export.Dim("batch", min=1)
    shapes = torch.export.ShapesCollection()
    for tensor, dim in zip(tensors(pair), inputs.batch, strict=True):
        if dim is not None:
            shapes[tensor] = {dim: batch}
    dynamic = shapes.dynamic_shapes(network, given.args, given.kwargs)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Recurrent layers of torch collect their weights again; the program has the weights.
            warnings.filterwarnings("ignore", r".*_flat_weights.* assigned during export")
            return torch.export.export(network, given.args, given.kwargs, dynamic_shapes=dynamic)
    except Exception as error:  # of whatever kind: the tracer of torch names many
        if not _fixes_batch(error):
            raise _untraceable(error) from error
        raise ValueError(
            "a file serves batches of any size, but the network's forward pass fixes the number of "
            "examples, as len(x) and int(x.shape[0]) do: write x.shape[0] there; the weights "
            "alone can be exported as they are (safetensors)"
        ) from error


def _fixes_batch(error: Exception) -> bool:
    from torch._dynamo.exc import UserError, UserErrorType  # slow to import, and rarely needed

    violation = UserErrorType.CONSTRAINT_VIOLATION
    return isinstance(error, UserError) and error.error_type is violation


def _untraceable(error: Exception) -> ValueError:
    first = " ".join((str(error).strip().splitlines() or [""])[0].split())
    return ValueError(
        "torch.export cannot trace this network, so neither onnx nor torch can hold it; the "
        f"weights alone can be exported (safetensors). It says {type(error).__name__}: {first}"
    )


def _without_classes(output: Any) -> Any:
    """The same nest with a dict in place of each named tuple."""
    if isinstance(output, tuple) and hasattr(output, "_asdict"):
        output = output._asdict()
    if type(output) in (list, tuple):
        return type(output)(map(_without_classes, output))
    if type(output) is dict:
        return {name: _without_classes(value) for name, value in output.items()}
    return output
