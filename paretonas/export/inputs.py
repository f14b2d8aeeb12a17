"""The inputs of an exported network: their names in a file, and which dimensions are examples."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten, tree_flatten_with_path

from paretonas.arguments import Arguments, call, count, mapped, moved, tensors
from paretonas.forward import handed
from paretonas.tasks.passes import few
from paretonas.tasks.task import SplitName, Task

CALIBRATION = 128  # training examples that a quantization sees


@dataclass(frozen=True)
class Inputs:
    """Inputs of a network, and the dimension of each tensor that counts the examples.

    Attributes:
        nest: a tensor, or any nest of tensors.
        batch: the dimension of each tensor in order; None for a tensor without such a dimension.
    """

    nest: Any
    batch: tuple[int | None, ...]

    @classmethod
    def of(cls, example: Any, images: Any) -> Inputs:
        """Find the dimensions of the examples by a comparison of two batches.

        A dimension counts examples if its sizes are the sizes of both batches. If these are equal,
        it is the first dimension. All other dimensions must be equal.

        Raises:
            ValueError: there is no batch, or the two differ in their nests or other dimensions.
        """
        _refuse_without_batch(example)
        kinds = [
            (nest, [isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves])
            for leaves, nest in map(tree_flatten, (example, images))
        ]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"the images must have the example's shape {_told(example)}, got {_told(images)}"
            )
        pairs = list(zip(tensors(example), tensors(images), strict=True))
        sizes = next(
            ((len(a), len(b)) for a, b in pairs if a.ndim and len(a) != len(b)),
            (count(example), count(images)),
        )
        found = []
        for a, b in pairs:
            both = list(zip(a.shape, b.shape, strict=True))
            dim = both.index(sizes) if sizes in both else None
            if sizes[0] == sizes[1] and dim != 0:
                dim = None
            if any(m != n for index, (m, n) in enumerate(both) if index != dim):
                raise ValueError(
                    f"the images must have the example's shape {tuple(a.shape[1:])}, "
                    f"got {tuple(b.shape[1:])}"
                )
            found.append(dim)
        return cls(images, tuple(found))

    def handed(self, network: nn.Module) -> Inputs:
        """The same for a network on the CPU: a copy, with the floating type of the network."""
        return Inputs(moved(handed(network, self.nest), "cpu"), self.batch)

    def examples(self) -> int:
        """The number of examples."""
        return next(t.shape[d] for t, d in self._pairs() if d is not None)

    def first(self, examples: int) -> Any:
        """A copy of the first examples."""
        dims = iter(self.batch)
        return mapped(lambda t: _narrow(t, next(dims), examples).clone(), self.nest)

    def part(self, start: int, examples: int) -> Any:
        """Some examples from one on."""
        dims = iter(self.batch)

        def cut(tensor: Tensor) -> Tensor:
            dim = next(dims)
            return tensor if dim is None else tensor.narrow(dim, start, examples)

        return mapped(cut, self.nest)

    def pair(self) -> Any:
        """The first example twice, since torch would treat the sizes 0 and 1 as constants."""
        dims = iter(self.batch)

        def twice(tensor: Tensor) -> Tensor:
            dim = next(dims)
            one = _narrow(tensor, dim, 1).clone()
            return one if dim is None else torch.cat([one, one], dim)

        return mapped(twice, self.nest)

    def names(self, network: nn.Module) -> list[str]:
        """The names of the tensors in a file.

        One floating tensor is called ``images``. Otherwise a name is that of the argument of
        forward; for a nest in an argument followed by its key or index, as in ``state_0``.
        """
        lone = self.nest if isinstance(self.nest, Tensor) else None
        if lone is not None and lone.is_floating_point():
            return ["images"]
        given = Arguments.of(self.nest)
        named = [*zip(_positional(network), given.args, strict=False), *given.kwargs.items()]
        return _unlike(name for start, value in named for name in _paths(start, value))

    def shapes(self, network: nn.Module) -> dict[str, Any]:
        """The facts about the inputs for the metadata of a file, by the name of the fact."""
        told: dict[str, Any] = {}
        if isinstance(self.nest, Tensor):
            told["input_shape"] = list(self.nest.shape[1:])
        if not isinstance(self.nest, Tensor) or not self.nest.is_floating_point():
            told["inputs"] = {
                name: {
                    "dtype": str(tensor.dtype).removeprefix("torch."),
                    "shape": ["batch" if i == dim else n for i, n in enumerate(tensor.shape)],
                }
                for name, (tensor, dim) in zip(self.names(network), self._pairs(), strict=True)
            }
        return told

    def _pairs(self) -> Iterator[tuple[Tensor, int | None]]:
        return zip(tensors(self.nest), self.batch, strict=True)


def real_inputs(task: Task, split: SplitName, examples: int, example: Any) -> Any:
    """The first inputs of a split, on the CPU; the example if they have other shapes or nests.

    A batch may be ``(inputs, targets)``, or the inputs alone; its sequences may be longer.
    """
    batch = moved(few(task, split, examples), "cpu")
    pair = isinstance(batch, list | tuple) and len(batch) == 2
    for inputs in (batch[0], batch) if pair else (batch,):
        try:
            found = Inputs.of(example, inputs)
        except ValueError:  # it is not what the network takes
            continue
        return found.first(examples)
    return example


def output_names(output: Any, taken: Iterable[str]) -> list[str]:
    """The names of the tensors of an output in a file.

    One tensor is called ``logits``, those of a dict by their keys, others ``output_0`` and so on.
    """
    if isinstance(output, Tensor):
        return ["logits"]
    names = [name for name in _paths("output" if type(output) in (list, tuple) else "", output)]
    taken = set(taken)
    return _unlike(f"output_{name}" if name in taken else name for name in names)


def keep_inputs(network: nn.Module, inputs: Inputs) -> None:
    """If a network changes its inputs, make it work on copies, also in files that are traced."""
    before, given = inputs.first(1), inputs.first(1)
    with torch.no_grad():
        call(network, given)
    if not all(map(_same, tensors(before), tensors(given))):
        network.register_forward_pre_hook(
            lambda _, args, kwargs: mapped(Tensor.clone, (args, kwargs)), with_kwargs=True
        )


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | (one != one)).all())


def _refuse_without_batch(example: Any) -> None:
    found = tensors(example)
    single = len(found) == 1 and found[0].is_floating_point()  # of one number is not a batch
    if not any(t.ndim > single for t in found) or count(example) == 0:
        raise ValueError(
            f"the example needs a batch of inputs, (batch, ...), got shape {_told(example)}"
        )


def _narrow(tensor: Tensor, dim: int | None, examples: int) -> Tensor:
    return tensor if dim is None else tensor.narrow(dim, 0, min(examples, tensor.shape[dim]))


def _positional(network: nn.Module) -> Iterator[str]:
    """The names of the positional arguments of forward; those of ``*rest`` are ``rest_0``, ..."""
    for name, parameter in inspect.signature(network.forward).parameters.items():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            yield from (f"{name}_{index}" for index in range(1000))
        yield name


def _paths(start: str, nest: Any) -> Iterator[str]:
    """A name for each tensor of a nest, from its place in it."""
    for path, leaf in tree_flatten_with_path(nest)[0]:
        if isinstance(leaf, Tensor):
            yield "_".join(re.findall(r"\w+", f"{start} {keystr(path)}")) or "output"


def _unlike(names: Iterable[str]) -> list[str]:
    """The names; a repeated one is followed by ``_``."""
    found: list[str] = []
    for name in names:
        while name in found:
            name += "_"
        found.append(name)
    return found


def _told(nest: Any) -> str:
    if isinstance(nest, Tensor):
        return str(tuple(nest.shape))
    if isinstance(nest, Mapping):
        return f"{{{', '.join(f'{name}: {_told(value)}' for name, value in nest.items())}}}"
    if isinstance(nest, list | tuple):
        return f"({', '.join(map(_told, nest))})"
    return repr(nest)
