"""The memory that a training step of a network holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..forward import copied, seeded
from ..nn import NetworkSpace
from ..tasks.passes import one_pass
from ..tasks.task import sized
from ..training import Updates


@dataclass(frozen=True)
class TrainingMemory:
    """KiB that a training step holds before its backward pass, at the recipe's batch size.

    These are the parameters and buffers, a gradient for each parameter that is trained, the state
    of the recipe's optimizer, and what autograd saves for the backward pass, which includes inputs,
    targets and what the loss needs. An average of the weights and a teacher are not counted, nor
    what kernels allocate while they run.

    Attributes:
        space: has the task, with its batches, and the recipe.
        column: its name in files.
    """

    space: NetworkSpace
    column: ClassVar[str] = "training_memory_kib"

    def measure(self, network: nn.Module, example: Any) -> dict[str, float]:
        """Train a copy of a network for one step; the parts of the sum are reported."""
        parts = step_bytes(copied(network).cpu(), self.space)
        told = {f"training_memory_{name}_kib": size / 1024 for name, size in parts.items()}
        return {self.column: sum(told.values()), **told}


def step_bytes(network: nn.Module, space: NetworkSpace) -> dict[str, int]:
    """The bytes of weights, gradients, optimizer state and saved activations of one step.

    The network, on the CPU, is trained for the step.
    """
    task = sized(space.load_task(), space.recipe.batch_size)
    batch = next(iter(one_pass(task, "train", seed=0, epoch=0)))
    held = [*network.parameters(), *network.buffers()]
    weights = {tensor.untyped_storage().data_ptr() for tensor in held}
    saved: dict[int, Tensor] = {}  # kept, so that no other tensor gets their memory

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in weights:
            saved.setdefault(storage, tensor.detach())
        return tensor

    with seeded(0, network), torch.enable_grad():
        network.train()
        updates = Updates(network, task, space.recipe, 1)
        with saved_tensors_hooks(save, lambda tensor: tensor):
            updates.step(batch)
    state = [v for each in updates.optimizer.state.values() for v in each.values()]
    return {
        "weights": _bytes(held),
        "gradients": _bytes([p for p in network.parameters() if p.requires_grad]),
        "optimizer": _bytes([value for value in state if isinstance(value, Tensor)]),
        "activations": sum(tensor.untyped_storage().nbytes() for tensor in saved.values()),
    }


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
