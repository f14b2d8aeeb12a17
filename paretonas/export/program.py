"""Write a network as a `torch.export` program, which torch loads without paretonas."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._dynamo.exc import UserError, UserErrorType

from paretonas._atomic import replacing
from paretonas.export.exported import Exported, difference


def write_program(
    network: nn.Module, inputs: Tensor, path: Path, metadata: Mapping[str, str]
) -> Exported:
    """Write a program for batches of any size; each text of the metadata is an extra file in it.

    Load it with ``torch.export.load(path).module()``. With ``extra_files={"NAME.json": ""}`` torch
    fills this dictionary with the texts.

    Raises:
        RuntimeError: the loaded program does not give the network's outputs.
    """
    extra = {f"{name}.json": text for name, text in metadata.items()}
    content = io.BytesIO()
    torch.export.save(program(network, inputs), content, extra_files=extra)
    with replacing(path) as draft:
        draft.write_bytes(content.getvalue())
        # Write through memory: with a path torch requires the suffix .pt2, but the user chooses it.
        loaded = torch.export.load(io.BytesIO(draft.read_bytes())).module()
        with torch.no_grad():
            largest = max(
                difference(network(batch.clone()), loaded(batch.clone()), str(path))
                for batch in (inputs, inputs[:1])
            )
    return Exported(path, path.stat().st_size, largest)


def program(network: nn.Module, inputs: Tensor) -> torch.export.ExportedProgram:
    """Trace the network for batches of any size.

    Raises:
        ValueError: its forward pass fixes the number of examples.
    """
    # torch would treat the sizes 0 and 1 as constants.
    pair = torch.cat([inputs[:1], inputs[:1]])
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            return torch.export.export(network, (pair,), dynamic_shapes=({0: batch},))
    except UserError as error:
        if error.error_type is not UserErrorType.CONSTRAINT_VIOLATION:
            raise
        raise ValueError(
            "a file serves batches of any size, but the network's forward pass fixes the number of "
            "examples, as len(x) and int(x.shape[0]) do: write x.shape[0] there; the weights "
            "alone can be exported as they are (safetensors)"
        ) from error
