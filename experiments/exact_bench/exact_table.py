"""A complete benchmark table as a function of alpha: the expected objectives, exactly.

If every architecture of a space is in a table, the mean of an objective over architectures drawn
from alpha is a contraction of the table with one probability vector for each choice. It is exact
and differentiable, without a supernet, a surrogate or sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod
from pathlib import Path

import moocore
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
CELL = ("op_0_1", "op_0_2", "op_1_2", "op_0_3", "op_1_3", "op_2_3")
LAYERS = tuple(f"layer_{i}" for i in range(1, 9))
DEVICES = ("1080ti_1", "1080ti_256", "2080ti_32", "gold_6240", "silver_4114", "samsung_a50",
           "essential_ph_1", "edgegpu")  # fmt: skip
ERROR, ENERGY = "cifar10_valid_error_200ep", "energy_edgegpu_mJ"


@dataclass(frozen=True, eq=False)
class ExactTable:
    """All architectures of a space and what each costs, in the order of their picks.

    Attributes:
        name: as in the results.
        sizes: the number of options of each choice; row i has the picks that
            ``numpy.unravel_index(i, sizes)`` names.
        costs: (N, m), in [0, 1] over the connected rows; 1, the worst, where there is no path.
        connected: (N,).
    """

    name: str
    sizes: tuple[int, ...]
    costs: Array
    connected: NDArray[np.bool_]

    @classmethod
    def of(
        cls, name: str, rows: pd.DataFrame, choices: Sequence[str], costs: Sequence[str]
    ) -> ExactTable:
        """Sort the rows of a complete table by their picks and scale the costs."""
        codes = [rows[choice].astype("category").cat.codes.to_numpy() for choice in choices]
        order = np.lexsort(codes[::-1])
        values = rows[list(costs)].to_numpy(float)[order]
        whole = np.ones(len(rows), dtype=bool)
        connected = rows["connected"].to_numpy()[order] if "connected" in rows else whole
        low, high = values[connected].min(axis=0), values[connected].max(axis=0)
        scaled = np.where(connected[:, None], (values - low) / (high - low), 1.0)
        sizes = tuple(int(code.max()) + 1 for code in codes)
        if prod(sizes) != len(rows):
            raise ValueError(
                f"a complete table has {prod(sizes)} rows, one for each architecture of "
                f"{len(sizes)} choices, got {len(rows)}"
            )
        return cls(name, sizes, scaled, connected)

    def rooted(self) -> ExactTable:
        """The same table with the square root of each scaled cost: finer where costs are low."""
        return ExactTable(self.name, self.sizes, np.sqrt(self.costs), self.connected)

    @cached_property
    def tensor(self) -> Tensor:
        """(m, a, b): the costs by the picks of the first half of the choices and of the second."""
        half = prod(self.sizes[: len(self.sizes) // 2])
        return torch.from_numpy(self.costs.T.copy()).reshape(self.costs.shape[1], half, -1)

    @cached_property
    def whole(self) -> float:
        """The hypervolume of the true front, reference point 1."""
        return hypervolume(self.costs[self.connected])

    def rows_of(self, picks: Tensor) -> NDArray[np.int64]:
        """The rows of architectures (..., c)."""
        return self._rows(picks.numpy())

    def _rows(self, picks: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.ravel_multi_index(tuple(np.moveaxis(picks, -1, 0)), self.sizes)

    def fraction(self, rows: NDArray[np.int64]) -> float:
        """The part of the true hypervolume that these architectures cover."""
        return hypervolume(self.costs[rows[self.connected[rows]]]) / self.whole

    def polished(self, picks: NDArray[np.int64], preference: Array) -> NDArray[np.int64]:
        """Picks (k, c) after the best change of one pick, again and again, while a ray gains by it.

        A ray (k, m) gains where the largest of preference * cost falls. This looks at the exact
        costs of single architectures, which descent never does.
        """
        picks = picks.copy()
        changes = [(i, o) for i, size in enumerate(self.sizes) for o in range(size)]
        choice, option = np.array(changes).T
        while True:
            tries = np.repeat(picks[:, None], len(changes), axis=1)
            tries[:, np.arange(len(changes)), choice] = option
            worst = (preference[:, None] * self.costs[self._rows(tries)]).max(-1)
            now = (preference * self.costs[self._rows(picks)]).max(-1)
            gains = worst.min(1) < now
            if not gains.any():
                return picks
            picks[gains] = tries[np.arange(len(picks)), worst.argmin(1)][gains]

    def front(self) -> NDArray[np.int64]:
        """The rows that no other connected row dominates, the first of equals."""
        rows = np.flatnonzero(self.connected)
        return rows[moocore.is_nondominated(self.costs[rows], keep_weakly=False)]

    def best(self, count: int) -> NDArray[np.int64]:
        """So many rows, each chosen for the hypervolume that it adds: what nothing much exceeds."""
        left, chosen = list(self.front()), []
        while left and len(chosen) < count:
            chosen.append(max(left, key=lambda i: hypervolume(self.costs[[*chosen, i]])))
            left.remove(chosen[-1])
        return np.array(chosen)


def load(folder: Path) -> list[ExactTable]:
    """The tables of the bench: error by eight latencies and by energy, two with three costs."""
    cells = pd.read_parquet(folder / "nb201.parquet")
    networks = pd.read_parquet(folder / "nasbench_macro.parquet")
    latencies = {device: f"latency_{device}_ms" for device in DEVICES}
    costs = {device: (ERROR, latency) for device, latency in latencies.items()}
    costs |= {"energy": (ERROR, ENERGY), "three costs": (ERROR, latencies["edgegpu"], ENERGY)}
    return [
        *(ExactTable.of(name, cells, CELL, columns) for name, columns in costs.items()),
        ExactTable.of("macro", networks, LAYERS, ("test_error", "params", "flops")),
    ]


def stacked(tables: Sequence[ExactTable]) -> Tensor:
    """(t, m, a, b), of tables with the same choices and as many costs."""
    return torch.stack([table.tensor for table in tables])


def expectation(p: Tensor, tables: Tensor, sizes: Sequence[int]) -> Tensor:
    """The expected costs (t, k, m) under distributions (t, k, K), by tables (t, m, a, b)."""
    first, second = _halves(p, sizes)
    return ((first.unsqueeze(1) @ tables) * second.unsqueeze(1)).sum(dim=-1).mT


def expectation_and_jacobian(
    alpha: Tensor, p: Tensor, tables: Tensor, sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The expected costs (t, k, m), and their gradients (t, k, m, K) by what p was made from.

    A cost is linear in the likelihood of each half of the picks, so that the other half's is
    carried through the table once and serves for value and gradient.
    """
    first, second = _halves(p, sizes)
    by_second = first.detach().unsqueeze(1) @ tables
    by_first = second.detach().unsqueeze(1) @ tables.mT
    rows = [
        torch.autograd.grad(
            (first, second), alpha, (by_first[:, i], by_second[:, i]), retain_graph=True
        )[0]
        for i in range(tables.shape[1])
    ]
    values = (by_second * second.detach().unsqueeze(1)).sum(dim=-1).mT
    return values, torch.stack(rows, dim=2)


def _halves(p: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    # How likely the picks of the first half of the choices are (..., a), and of the second.
    parts = p.split(list(sizes), dim=-1)
    half = len(sizes) // 2
    return reduce(_outer, parts[:half]), reduce(_outer, parts[half:])


def _outer(left: Tensor, right: Tensor) -> Tensor:
    return (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(-2)


def rounded(p: Tensor, tables: Tensor, sizes: Sequence[int]) -> Tensor:
    """Picks (t, k, c) for distributions (t, k, K), choice by choice, the most decided first.

    Each choice takes the option that keeps the expected costs, over the choices still open, nearest
    to where the distribution aimed: with the smallest largest ratio to its own expected costs.
    """
    aim = expectation(p, tables, sizes).clamp_min(1e-3)
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    option = torch.cat([torch.arange(size) for size in sizes])
    p, taken = p.clone(), torch.zeros(*p.shape[:2], len(sizes), dtype=torch.bool)
    for _ in sizes:
        decided = torch.stack([part.amax(-1) for part in p.split(list(sizes), -1)], -1)
        choice = decided.masked_fill(taken, -1.0).argmax(-1, keepdim=True)
        tries = [
            torch.where(owner == choice, (option == o).to(p.dtype), p) for o in range(max(sizes))
        ]
        worst = torch.stack([(expectation(q, tables, sizes) / aim).amax(-1) for q in tries])
        few = torch.tensor(sizes)[choice.squeeze(-1)]
        beyond = torch.arange(max(sizes)).reshape(-1, 1, 1) >= few
        best = worst.masked_fill(beyond, torch.inf).argmin(0)
        p = torch.stack(tries).gather(0, best[None, ..., None].expand(1, *p.shape))[0]
        taken.scatter_(-1, choice, True)
    return torch.stack([part.argmax(-1) for part in p.split(list(sizes), -1)], -1)


def hypervolume(points: Array) -> float:
    """Of costs (k, m); the reference point is 1."""
    inside = points[(points < 1).all(axis=-1)]
    return float(moocore.hypervolume(inside, ref=[1.0] * points.shape[-1])) if len(inside) else 0.0
