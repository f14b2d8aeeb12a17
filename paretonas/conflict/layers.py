"""The layer of each column of a jacobian."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from paretonas.gradients.rows import Jacobian


def module_of(name: str) -> str:
    """The name of the module that holds a parameter.

    >>> module_of("encoder.0.weight"), module_of("scale")
    ('encoder.0', 'scale')
    """
    return name.rpartition(".")[0] or name


@dataclass(frozen=True)
class Layers:
    """The layer of each parameter, to measure in which layers of a network gradients conflict.

    Attributes:
        owners: name of the layer of each parameter, in the order of the jacobian's columns.
        sizes: number of entries of each parameter.

    >>> import torch
    >>> from paretonas.conflict import cosine_similarity
    >>> network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    >>> layers = Layers.of(network.named_parameters())
    >>> J = torch.tensor([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, -1.0, 0.0]])
    >>> for name, part in layers.split(J).items():
    ...     print(name, cosine_similarity(part)[0, 1].item())
    0 1.0
    1 -1.0
    """

    owners: tuple[str, ...]
    sizes: tuple[int, ...]

    @staticmethod
    def of(
        parameters: Iterable[tuple[str, Tensor]], layer: Callable[[str], str] = module_of
    ) -> Layers:
        """Take names and sizes from ``named_parameters()``; frozen parameters are left out.

        Args:
            parameters: names and parameters, in the order of the jacobian's columns.
            layer: a function from the name of a parameter to the name of its layer, by default its
                module; ``str`` makes every parameter a separate layer.

        Raises:
            ValueError: no parameter requires grad.
        """
        trained = [(layer(name), p.numel()) for name, p in parameters if p.requires_grad]
        if not trained:
            raise ValueError("layers need at least one parameter that requires grad, got none")
        owners, sizes = zip(*trained, strict=True)
        return Layers(owners, sizes)

    @property
    def names(self) -> tuple[str, ...]:
        """The layers, each once, in the order of their first parameters."""
        return tuple(dict.fromkeys(self.owners))

    def split(self, jacobian: Jacobian) -> dict[str, Jacobian]:
        """Return the jacobian of each layer, as views if possible.

        A layer on which no objective depends gets zeros.

        Args:
            jacobian: the gradients, in any form that a solver takes.

        Raises:
            ValueError: the jacobian is not over these parameters.
        """
        if isinstance(jacobian, Tensor):
            return {
                name: _joined(jacobian, columns)
                for name, columns in self._columns(jacobian).items()
            }
        rows = list(jacobian)
        if all(isinstance(row, Tensor) and row.ndim == 1 for row in rows):
            flat = cast("list[Tensor]", rows)
            return {
                name: [_joined(row, columns) for row in flat]
                for name, columns in self._columns(flat[0]).items()
            }
        if all(isinstance(row, Tensor) for row in rows):
            blocks = cast("list[Tensor]", rows)
            self._check([block[0].numel() for block in blocks])
            return {name: [blocks[k] for k in places] for name, places in self._places().items()}
        lists = cast("list[Sequence[Tensor | None]]", rows)
        self._check([_size(column) for column in zip(*lists, strict=True)])
        return {name: _picked(lists, places) for name, places in self._places().items()}

    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {name: [] for name in self.names}
        for k, owner in enumerate(self.owners):
            places[owner].append(k)
        return places

    def _columns(self, rows: Tensor) -> dict[str, list[tuple[int, int]]]:
        if rows.shape[-1] != sum(self.sizes):
            raise ValueError(
                f"the layers have {sum(self.sizes)} entries in {len(self.sizes)} parameters, but "
                f"the jacobian has {rows.shape[-1]} columns: take both over the same parameters"
            )
        columns: dict[str, list[tuple[int, int]]] = {name: [] for name in self.names}
        start = 0
        for owner, size in zip(self.owners, self.sizes, strict=True):
            ranges = columns[owner]
            if ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], start + size)
            else:
                ranges.append((start, start + size))
            start += size
        return columns

    def _check(self, found: Sequence[int | None]) -> None:
        # None is the size of a parameter on which no objective depends.
        fits = len(found) == len(self.sizes) and all(
            size is None or size == own for size, own in zip(found, self.sizes, strict=True)
        )
        if not fits:
            raise ValueError(
                f"the layers have parameters of sizes {list(self.sizes)}, but the jacobian has "
                f"{list(found)}: take both over the same parameters"
            )


def _joined(rows: Tensor, columns: list[tuple[int, int]]) -> Tensor:
    parts = [rows[..., start:end] for start, end in columns]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _size(column: Sequence[Tensor | None]) -> int | None:
    return next((piece.numel() for piece in column if piece is not None), None)


def _picked(rows: list[Sequence[Tensor | None]], places: list[int]) -> Jacobian:
    reached = [k for k in places if any(row[k] is not None for row in rows)]
    if not reached:
        return torch.zeros(len(rows), 1)
    return [[row[k] for k in reached] for row in rows]
