"""A network runs without a trace: inputs, modes and global generators stay as they were."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def handed(network: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs as a network is given them: a copy, which it may overwrite, in its floating type.

    The type is that of the network's first floating parameter, or buffer where it has no parameter.
    """
    held = chain(network.parameters(), network.buffers())
    dtype = next((t.dtype for t in held if t.is_floating_point()), inputs.dtype)
    return inputs.detach().to(dtype, copy=True)


def copied(network: nn.Module, memo: dict[int, Any] | None = None) -> Any:
    """A deep copy, with the results of earlier forward passes that a network keeps detached.

    Python's own refuses these: activations that are looked at later, weights under a weight norm.
    """
    memo = {} if memo is None else memo
    for module in network.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(network, memo)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The evaluation mode; every module gets its own mode back afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All global generators start from a seed, and are as they were afterwards.

    They are those of torch on the CPU and on CUDA devices in use, of `random` and of numpy. Threads
    share them: only one at a time may be in here.
    """
    before = Generators.now()
    # Not torch.manual_seed, which also decides what CUDA will draw once it is in use.
    torch.default_generator.manual_seed(seed % 2**63)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed % 2**63)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        before.put_back()


@dataclass(frozen=True, eq=False)
class Generators:
    """The states of the global generators at one time."""

    cpu: Tensor
    cuda: list[Tensor]
    python: tuple[Any, ...]
    numpy: dict[str, Any]

    @classmethod
    def now(cls) -> Generators:
        """The present states."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        state = np.random.get_state(legacy=False)
        assert isinstance(state, dict)
        return cls(torch.get_rng_state(), cuda, random.getstate(), state)

    def put_back(self) -> None:
        """Let the generators go on from here."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        random.setstate(self.python)
        np.random.set_state(self.numpy)

    def moved(self) -> bool:
        """Whether anything was drawn since."""
        now = Generators.now()
        return not (
            torch.equal(self.cpu, now.cpu)
            and len(self.cuda) == len(now.cuda)
            and all(torch.equal(a, b) for a, b in zip(self.cuda, now.cuda, strict=True))
            and self.python == now.python
            and pickle.dumps(self.numpy) == pickle.dumps(now.numpy)
        )
