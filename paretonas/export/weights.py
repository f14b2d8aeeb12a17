"""Write weights as safetensors, with a JSON file of the architecture next to them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from paretonas._atomic import replacing
from paretonas.export.exported import Exported


def write_weights(network: nn.Module, path: Path, metadata: Mapping[str, str]) -> Exported:
    """Write the state dict, and next to it NAME.json, the architecture that the weights fit.

    The file holds the metadata, texts by name; its ``architecture`` is the content of NAME.json.

    An old NAME.json is replaced only if it was written together with the old weights.

    Raises:
        ValueError: the path ends in ``.json``, or there is a foreign NAME.json.
        RuntimeError: reading the file does not give back every weight.
    """
    plan = path.with_suffix(".json")
    if plan == path:
        raise ValueError(f"{path} would be both weights and architecture; name it .safetensors")
    if os.path.lexists(plan) and not _belongs(plan, path):
        raise ValueError(
            f"the architecture of these weights would be written to {plan}, which exists and "
            "belongs to something else; name other weights with --out FILE"
        )
    # Clone, since the format refuses tensors that share memory.
    state = {name: value.contiguous().clone() for name, value in network.state_dict().items()}
    with replacing(plan) as plan_draft, replacing(path) as draft:
        plan_draft.write_text(metadata["architecture"] + "\n", encoding="utf-8")
        safetensors.torch.save_file(state, draft, metadata=dict(metadata))
        back = safetensors.torch.load_file(draft)
        for name, value in state.items():
            if not torch.equal(back[name], value):
                raise RuntimeError(f"{path} does not bring back {name}")
    return Exported(path, path.stat().st_size, beside=(plan,))


def _belongs(plan: Path, weights: Path) -> bool:
    """Whether the JSON file was written together with these weights."""
    try:
        with safe_open(weights, "pt") as file:
            told = (file.metadata() or {}).get("architecture", "")
        return plan.read_text(encoding="utf-8") == f"{told}\n"
    except (OSError, ValueError, SafetensorError):
        return False
