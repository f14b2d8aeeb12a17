"""Weights as safetensors, with the architecture beside them."""

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
    """Write the state dict, and beside it NAME.json, which says what network the weights fit.

    The metadata, texts by name, is in the file; its ``architecture`` is the other file.
    The old NAME.json is replaced if it was written so with the old weights, and by nothing else.

    Raises:
        ValueError: the path itself ends in ``.json``, or there is another NAME.json.
        RuntimeError: the file does not bring back every weight.
    """
    plan = path.with_suffix(".json")
    if plan == path:
        raise ValueError(f"{path} would be both weights and architecture; name it .safetensors")
    if os.path.lexists(plan) and not _belongs(plan, path):
        raise ValueError(
            f"{plan} exists and is not of these weights, whose architecture would stand there; "
            "name other weights with --out FILE"
        )
    # Cloned, since the format refuses tensors that share memory.
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
    """Whether the plan is the one that was written beside these weights."""
    try:
        with safe_open(weights, "pt") as file:
            told = (file.metadata() or {}).get("architecture", "")
        return plan.read_text(encoding="utf-8") == f"{told}\n"
    except (OSError, ValueError, SafetensorError):
        return False
