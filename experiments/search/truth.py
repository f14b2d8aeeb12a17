"""The truth of a space whose architectures were trained; the experiments compare with it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import moocore
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paretonas.finalists import Finalist
from paretonas.nn import NetworkSpace, Supernet
from paretonas.objectives import DifferentiableObjective
from paretonas.relaxation import one_hot_picks, sizes_of
from paretonas.space import Architecture, decode, encode
from paretonas.tasks import Task
from paretonas.training import Recipe
from search_spaces import digits, signals

TABLES = Path(__file__).parent / "ground_truth"
SPACES = {"digits_small": digits.small, "signals": signals.space}

Array = NDArray[np.float64]


class Truth:
    """The table of `ground_truth.py`, read by row: row i is architecture i.

    The true error of an architecture is the mean of its validation and test error over all seeds,
    which varies less than anything that a search sees. A search sees the validation error of one.

    Args:
        space: as in `search_spaces`.
        costs: columns of the table; by default latency in ms by table, and memory in KiB.

    Attributes:
        space: as given.
        picks: (N, c).
        errors: (N,), the true ones, in percent.
        costs: (N, 2) by default.
        parameters: (N,), how many a network has.
        seconds: (N,), of training, one thread.
    """

    def __init__(
        self, space: NetworkSpace, costs: Sequence[str] = ("latency_ms", "memory_kib")
    ) -> None:
        self.space, self.choices = space, space.choices
        table = pd.read_parquet(TABLES / f"{space.name}.parquet")
        names = [choice.name for choice in self.choices]
        self.architectures = [Architecture(row) for row in table[names].to_dict("records")]
        self.picks = torch.tensor([encode(self.choices, a) for a in self.architectures])
        self._rows = {architecture: row for row, architecture in enumerate(self.architectures)}
        self._valid = table.filter(like="valid_error_percent_").to_numpy(float)
        test = table.filter(like="test_error_percent_").to_numpy(float)
        self.errors: Array = (self._valid.mean(axis=1) + test.mean(axis=1)) / 2
        self.costs: Array = table[[*costs]].to_numpy(float)
        self.parameters: Array = table["parameters"].to_numpy(float)
        self.seconds: Array = table["train_seconds"].to_numpy(float)
        points = np.column_stack([self.errors, self.costs])
        low, high = points.min(axis=0), points.max(axis=0)
        self._scaled: Array = (points - low) / (high - low)
        self._whole = self.hypervolume(range(len(points)))

    def row(self, picks: Sequence[int] | Mapping[str, str]) -> int:
        """Where an architecture is in the table."""
        named = picks if isinstance(picks, Mapping) else decode(self.choices, picks)
        return self._rows[Architecture(named)]

    @property
    def seeds(self) -> int:
        """How often each architecture was trained."""
        return int(self._valid.shape[1])

    def seen(self, seed: int) -> Array:
        """(N,) the validation errors after one training: all that a search of this seed sees."""
        return self._valid[:, seed % self.seeds]

    def hypervolume(self, rows: Sequence[int]) -> float:
        """Of the true values, each scaled to [0, 1] over the table; the reference is 1."""
        reference = [1] * self._scaled.shape[1]
        return float(moocore.hypervolume(self._scaled[list(rows)], ref=reference)) if rows else 0.0

    def regret(self, rows: Sequence[int]) -> float:
        """The share of the whole table's hypervolume that these architectures miss."""
        return 1 - self.hypervolume(rows) / self._whole

    def front(self, rows: Sequence[int], seed: int) -> list[int]:
        """Those of the rows that no other dominates by what a search of this seed sees."""
        return [rows[i] for i in nondominated(np.column_stack([self.seen(seed), self.costs])[rows])]

    def best(self, count: int) -> list[int]:
        """The best so many architectures, greedily: what the number of finalists alone allows."""
        return greedy(self._scaled, count, reference=1.0)

    def objectives(self) -> tuple[DifferentiableObjective, DifferentiableObjective]:
        """Latency and memory by the table."""
        latency, memory = self.costs.T
        return (
            Tabulated(self, latency, "latency", "ms"),
            Tabulated(self, memory, "memory", "kib"),
        )


@dataclass(frozen=True, eq=False)
class Tabulated(DifferentiableObjective):
    """A cost of which the table holds the value of every architecture."""

    truth: Truth
    values: Array
    name: str = "latency"
    unit: str = "ms"

    def __post_init__(self) -> None:
        rows = one_hot_picks(self.truth.picks, sizes_of(self.truth.choices))
        object.__setattr__(self, "_one_hot", rows)
        object.__setattr__(self, "_values", torch.from_numpy(self.values.astype(np.float32)))

    def relaxed(self, probabilities: Tensor) -> Tensor:
        """The mean over architectures, each as likely as its picks are together."""
        likely = (probabilities.clamp_min(1e-12).log() @ self._one_hot.T).exp()  # type: ignore
        mean: Tensor = likely @ self._values  # type: ignore[attr-defined]
        return mean

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The value in the table."""
        return float(self.values[self.truth.row(architecture)])


@dataclass
class TableTrainer:
    """Looks finalists up instead of training them, and notes who was asked for, and when.

    Attributes:
        rows: the finalists, in order.
        clock: for each the seconds of this process's CPU time when it was asked for.
        supernet: the search's, its weights trained.
    """

    truth: Truth
    rows: list[int] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    supernet: Supernet | None = None

    def __call__(
        self,
        supernet: Supernet,
        task: Task,
        recipe: Recipe,
        architectures: Sequence[Architecture],
        *,
        seed: int,
        workers: int,
    ) -> list[Finalist]:
        self.supernet = supernet
        asked = [self.truth.row(architecture) for architecture in architectures]
        self.rows += asked
        self.clock += [time.process_time()] * len(asked)
        errors = self.truth.seen(seed)[asked].tolist()
        scores = [{"loss": 0.0, "error_percent": error} for error in errors]
        return [
            Finalist(architecture, nn.Identity(), valid=score, test=score)
            for architecture, score in zip(architectures, scores, strict=True)
        ]


def nondominated(points: Array) -> list[int]:
    """The indices of the points that no other dominates, the first of equals."""
    return [int(i) for i in np.flatnonzero(moocore.is_nondominated(points, keep_weakly=False))]


def greedy(points: Array, count: int, reference: float) -> list[int]:
    """Choose points one after the other, each for the hypervolume that it adds."""
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        rest = [i for i in range(len(points)) if i not in chosen]
        worst = [reference] * points.shape[1]
        chosen.append(max(rest, key=lambda i: moocore.hypervolume(points[[*chosen, i]], ref=worst)))
    return chosen


def spread(points: Array, count: int) -> list[int]:
    """Choose points spread over the estimated front, then over the front behind it, and so on."""
    left, chosen = list(range(len(points))), []
    while left and len(chosen) < count:
        layer = [left[i] for i in nondominated(points[left])]
        low, high = points[layer].min(axis=0), points[layer].max(axis=0)
        scaled = (points[layer] - low) / np.where(high > low, high - low, 1)
        chosen += [layer[i] for i in greedy(scaled, count - len(chosen), reference=1.1)]
        left = [i for i in left if i not in layer]
    return chosen
