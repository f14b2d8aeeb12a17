"""What a network is called with: a tensor, or any nest of tensors, for any signature."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import GetAttrKey, register_pytree_node, tree_leaves, tree_map

__all__ = ["Arguments"]


class Arguments:
    """Positional and keyword arguments of one forward pass.

    They are needed only where both kinds are used. A tuple or a list stands for positional
    arguments, a dict for keyword arguments, and anything else for one argument. So
    ``Arguments((a, b))`` hands a tuple to a network as its one argument.

    >>> given = Arguments(torch.zeros(1, 3), mask=torch.ones(1, 3))
    >>> given
    Arguments(Tensor(1, 3), mask=Tensor(1, 3))
    >>> call(nn.Bilinear(2, 2, 1), (torch.zeros(5, 2), torch.ones(5, 2))).shape
    torch.Size([5, 1])

    Attributes:
        args: the positional arguments.
        kwargs: the keyword arguments.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def __repr__(self) -> str:
        named = (f"{name}={_shown(value)}" for name, value in self.kwargs.items())
        return f"Arguments({', '.join([*map(_shown, self.args), *named])})"

    @classmethod
    def of(cls, inputs: Any) -> Arguments:
        """The arguments that inputs stand for."""
        if isinstance(inputs, Arguments):
            return inputs
        if isinstance(inputs, Mapping) and all(isinstance(name, str) for name in inputs):
            return cls(**inputs)
        if isinstance(inputs, list) or type(inputs) is tuple:  # a named tuple is one argument
            return cls(*inputs)
        return cls(inputs)


def _parts(given: Arguments) -> tuple[list[Any], None]:
    return [list(given.args), given.kwargs], None


def _whole(parts: Iterable[Any], _: object) -> Arguments:
    args, kwargs = parts
    return Arguments(*args, **kwargs)


def _named_parts(given: Arguments) -> tuple[list[tuple[Any, Any]], None]:
    return [(GetAttrKey("args"), list(given.args)), (GetAttrKey("kwargs"), given.kwargs)], None


register_pytree_node(Arguments, _parts, _whole, flatten_with_keys_fn=_named_parts)


def call(network: Callable[..., Any], inputs: Any) -> Any:
    """The output of a network for inputs."""
    given = Arguments.of(inputs)
    return network(*given.args, **given.kwargs)


def tensors(nest: Any) -> list[Tensor]:
    """The tensors of a nest, in order."""
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]


def mapped(function: Callable[[Tensor], Any], nest: Any) -> Any:
    """The same nest with each tensor replaced; other values stay."""
    return tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, nest)


def moved(nest: Any, device: torch.device | str, *, copies: bool = False) -> Any:
    """The same nest on a device.

    Objects with a method `to`, such as a `PackedSequence` or a batch of graphs, move themselves.

    Args:
        nest: tensors, and anything else, in lists, tuples and dicts.
        device: the device.
        copies: whether to copy what is there already.
    """

    def move(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            # To the host a copy must have ended before it is read.
            ahead = torch.device(device).type != "cpu"
            return leaf.to(device, non_blocking=ahead, copy=copies)
        if _moves(leaf):
            return (copy.deepcopy(leaf) if copies else leaf).to(device)
        return leaf

    return tree_map(move, nest, is_leaf=_moves)


def count(inputs: Any) -> int:
    """The number of examples of a batch: the size of the first dimension of its first tensor.

    Raises:
        ValueError: there is no tensor with a dimension.
    """
    for tensor in tensors(inputs):
        if tensor.ndim:
            return len(tensor)
    raise ValueError(f"a batch needs a tensor with a first dimension of examples, got {inputs!r}")


def first(inputs: Any, examples: int) -> Any:
    """The first examples of a batch: the first rows of each tensor with a row per example."""
    whole = count(inputs)
    return mapped(lambda t: t[:examples] if t.ndim and len(t) == whole else t, inputs)


def _moves(leaf: Any) -> bool:
    return not isinstance(leaf, Tensor | nn.Module) and callable(getattr(leaf, "to", None))


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"Tensor({', '.join(map(str, value.shape))})"
    return repr(value)
