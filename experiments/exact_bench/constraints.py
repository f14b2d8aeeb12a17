"""How alpha meets a constraint: penalties, an augmented Lagrangian, or projection by a solver.

    python experiments/exact_bench/constraints.py --data DIR            # ten minutes
    python experiments/exact_bench/constraints.py --data DIR --quick    # one table, one seed
    python experiments/exact_bench/constraints.py --show                # the written rows

DIR holds the benchmark tables nb201.parquet and nasbench_macro.parquet.

On a complete table the expected objectives and their gradients with respect to alpha are exact. For
20 limits on a cost, spread over its range on the front, alpha is optimized as a search does it: the
same rays, scales, solver, number of steps and learning rate. What differs is how the limit enters:

- a penalty on the objective with the limit: `weight` times the excess is added to this value;
- a penalty on all objectives: it is added to each, so that no ray can ignore it;
- an augmented Lagrangian: a multiplier for each ray, updated after each step, is added to each;
- projection: the direction of the solver is changed as little as possible so that a violated cost
  falls at least as fast as a multiple of the direction's length, or of the cost's own gradient
  (`projected`, which the package uses with a multiple of 1);
- the dual cone: the gradient of a violated cost is one more row, with half of the weight, and the
  weighted sum is projected until it conflicts with no row (`DualProj`).

The rays end in architectures. Counted are the share of these that is feasible, and how much worse
the best feasible one is than the best feasible one of the whole table, in percentage points of the
error; the same with the neighbors of the rays' architectures, from which a search chooses. A search
never returns an architecture that is infeasible by its table. Writes `constraints.csv`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from exact_table import CELL, ERROR, LAYERS, ExactTable, expectation
from numpy.typing import NDArray
from torch import Tensor

from paretonas.relaxation import picks_of
from paretonas.solvers import DualProj, SmoothTchebycheff
from paretonas.surrogates.alpha import Scale, optimize_alpha, rays

HERE = Path(__file__).parent
LIMITS, RAYS, STEPS, SEEDS, START = 20, 28, 80, 3, 0.3
WEIGHTS = (5.0, 20.0)
TABLES = {
    "edge GPU": (CELL, (ERROR, "latency_edgegpu_ms")),
    "CPU": (CELL, (ERROR, "latency_gold_6240_ms")),
    "macro": (LAYERS, ("test_error", "params", "flops")),
}
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """A complete table, and limits on its second column, the first cost.

    Attributes:
        table: as in the exact bench.
        values: (N, m), the error in percent and the costs, in the order of the table's rows.
        limits: (k,), spread over the front of the error and the cost, in logarithms.
    """

    table: ExactTable
    values: Array
    limits: Array

    @classmethod
    def of(cls, name: str, folder: Path, count: int = LIMITS) -> Case:
        """Read a table; a cell that passes nothing has the worst values."""
        choices, columns = TABLES[name]
        file = "nasbench_macro.parquet" if choices == LAYERS else "nb201.parquet"
        rows = pd.read_parquet(folder / file)
        table = ExactTable.of(name, rows, choices, columns)
        there = rows[rows["connected"]] if "connected" in rows else rows
        low, high = (there[[*columns]].to_numpy(float) for _ in "12")
        values = low.min(0) + table.costs * (high.max(0) - low.min(0))
        two = replace(table, costs=table.costs[:, :2])
        on_front = values[two.front(), 1]
        ends = np.log([on_front.min(), on_front.max()])
        places = (np.arange(count) + 0.5) / count
        return cls(table, values, np.exp(ends[0] + places * (ends[1] - ends[0])))

    def logs(self, p: Tensor) -> Tensor:
        """(r, m), the logarithms of the expected values of distributions."""
        low = torch.from_numpy(self.values.min(0)).float()
        reach = torch.from_numpy(np.ptp(self.values, axis=0)).float()
        scaled = expectation(p[None], self.table.tensor[None].float(), self.table.sizes)[0]
        return (low + scaled * reach).log()

    def best(self, rows: NDArray[np.int64], limit: float) -> float:
        """The least error of the feasible ones among rows; NaN if there is none."""
        rows = rows[self.table.connected[rows]]
        feasible = self.values[rows, 1] <= limit
        return float(self.values[rows[feasible], 0].min()) if feasible.any() else np.nan


Way = Callable[[Case, Scale, Tensor, Any], tuple[Callable[[Tensor], Tensor], Any]]


def penalty_on_one(weight: float) -> Way:
    """The excess is added to the objective that has the limit."""

    def way(case: Case, scale: Scale, bounds: Tensor, solver: Any) -> Any:
        def relaxed(p: Tensor) -> Tensor:
            logs = case.logs(p)
            return scale(logs) + weight * scale.excess(logs, bounds)

        return relaxed, solver

    return way


def penalty_on_all(weight: float) -> Way:
    """The excess is added to every objective."""

    def way(case: Case, scale: Scale, bounds: Tensor, solver: Any) -> Any:
        def relaxed(p: Tensor) -> Tensor:
            logs = case.logs(p)
            return scale(logs) + weight * scale.excess(logs, bounds).sum(1, keepdim=True)

        return relaxed, solver

    return way


def augmented_lagrangian(weight: float) -> Way:
    """A multiplier for each ray, as Powell, Hestenes and Rockafellar have it for inequalities."""

    def way(case: Case, scale: Scale, bounds: Tensor, solver: Any) -> Any:
        multiplier = torch.zeros(len(bounds), 1)

        def relaxed(p: Tensor) -> Tensor:
            nonlocal multiplier
            logs = case.logs(p)
            excess = ((logs - bounds) / (scale.high - scale.low))[:, 1:2]
            shifted = torch.relu(multiplier + weight * excess)
            added = (shifted.square() - multiplier.square()) / (2 * weight)
            multiplier = shifted.detach()
            return scale(logs) + added

        return relaxed, solver

    return way


@dataclass(frozen=True, eq=False)
class Projected:
    """The direction of a solver, so that the last row, a cost with a limit, falls if violated.

    Attributes:
        solver: of the objectives.
        rate: how fast, in lengths of the direction; None: in that of the row.
    """

    solver: Any
    rate: float | None = 1.0

    def __call__(self, jacobian: Tensor, values: Tensor, state: object = None) -> Any:
        direction = self.solver(jacobian[:, :-1], values[:, :-1], state)
        row, vector = jacobian[:, -1], direction.vector
        length = row.norm(dim=1, keepdim=True)
        unit = row / length.clamp_min(1e-30)
        least = length if self.rate is None else self.rate * vector.norm(dim=1, keepdim=True)
        lacks = least - (unit * vector).sum(1, keepdim=True)
        push = torch.where(
            values[:, -1:] > 1e-3, torch.relu(lacks), 0.0
        )  # met: handed over as this
        return replace(direction, vector=vector + push * unit)


@dataclass(frozen=True, eq=False)
class InCone:
    """The weighted sum of all rows, the last one only if violated, projected on the dual cone."""

    preference: Tensor

    def __call__(self, jacobian: Tensor, values: Tensor, state: object = None) -> Any:
        violated = (values[:, -1:] > 1e-3).to(jacobian)
        own = 0.5 * violated + 1e-6
        rows = torch.cat([self.preference * (1 - own), own], dim=1)
        used = torch.cat([jacobian[:, :-1], jacobian[:, -1:] * violated[:, None]], dim=1)
        return DualProj(rows / rows.sum(1, keepdim=True))(used, values, state)


def by_solver(wrap: Callable[[Any], Any]) -> Way:
    """The signed excess is one more row, which the solver handles."""

    def way(case: Case, scale: Scale, bounds: Tensor, solver: Any) -> Any:
        def relaxed(p: Tensor) -> Tensor:
            logs = case.logs(p)
            excess = ((logs - bounds) / (scale.high - scale.low))[:, 1:2]
            return torch.cat([scale(logs), excess], dim=1)

        return relaxed, wrap(solver)

    return way


WAYS: dict[str, Way] = {
    "no constraint": penalty_on_one(0.0),
    **{f"penalty on one, {w:g}": penalty_on_one(w) for w in WEIGHTS},
    **{f"penalty on all, {w:g}": penalty_on_all(w) for w in WEIGHTS},
    **{f"augmented Lagrangian, {w:g}": augmented_lagrangian(w) for w in WEIGHTS},
    "projection, half the length": by_solver(lambda solver: Projected(solver, 0.5)),
    "projection, its length": by_solver(lambda solver: Projected(solver, 1.0)),
    "projection, twice the length": by_solver(lambda solver: Projected(solver, 2.0)),
    "projection, the cost's length": by_solver(lambda solver: Projected(solver, None)),
    "dual cone": by_solver(lambda solver: InCone(solver.preference)),
}


def run(case: Case, way: str, seed: int, steps: int = STEPS) -> Iterator[dict[str, object]]:
    """A row for each limit: what the rays end in."""
    m, limits = case.values.shape[1], case.limits
    spread = rays(m, RAYS)
    preference = spread.repeat(len(limits), 1)
    bounds = torch.full((len(preference), m), torch.inf)
    bounds[:, 1] = torch.from_numpy(limits).log().repeat_interleave(len(spread))
    scale = Scale.over(torch.from_numpy(case.values[case.table.connected]).float().log())
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(len(spread), sum(case.table.sizes), generator=generator)
    alpha = START * first.repeat(len(limits), 1)
    relaxed, solver = WAYS[way](case, scale, bounds, SmoothTchebycheff(preference=preference))
    for step in optimize_alpha(alpha, case.table.sizes, relaxed, solver, steps=steps, seed=seed):
        alpha = step.alpha
    picks = picks_of(alpha, case.table.sizes).numpy().reshape(len(limits), len(spread), -1)
    for limit, own in zip(limits, picks, strict=True):
        decided = case.table.rows_of(torch.from_numpy(own))
        pool = case.table.rows_of(torch.from_numpy(around(own, case.table.sizes)))
        known = case.best(np.arange(len(case.values)), limit)
        met = case.table.connected[decided] & (case.values[decided, 1] <= limit)
        yield {
            "table": case.table.name,
            "way": way,
            "seed": seed,
            "limit": limit,
            "feasible": met.mean(),
            "regret": case.best(decided, limit) - known,
            "regret_with_neighbors": case.best(pool, limit) - known,
        }


def around(picks: NDArray[np.int64], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Architectures (k, c), and all that differ from one of them in one pick."""
    found = [picks]
    for choice, options in enumerate(sizes):
        for option in range(options):
            near = picks.copy()
            near[:, choice] = option
            found.append(near)
    return np.concatenate(found)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """For each table and way: medians over limits and seeds, and how they spread."""
    frame = frame.assign(worst=frame["regret"].fillna(np.inf), within=frame["regret"] <= 1)
    groups = frame.groupby(["table", "way"], sort=False)
    seeds = frame.groupby(["table", "way", "seed"], sort=False)["feasible"].mean()
    share = 100 * seeds.groupby(["table", "way"], sort=False).agg(["median", "min", "max"])
    regret = groups["worst"].quantile([0.5, 0.75, 0.9]).unstack()
    near = groups["regret_with_neighbors"].quantile([0.5, 0.9]).unstack()
    columns = {
        "feasible %": share["median"],
        "least seed": share["min"],
        "most": share["max"],
        "no feasible %": 100 * groups["regret"].agg(lambda found: found.isna().mean()),
        "regret": regret[0.5],
        "quartile": regret[0.75],
        "90 %": regret[0.9],
        "within 1 %": 100 * groups["within"].mean(),
        "with neighbors": near[0.5],
        "90 % with": near[0.9],
    }
    return pd.DataFrame(columns).round(2)


def main(arguments: Sequence[str] | None = None, out: Path = HERE) -> None:
    """Run all ways on all tables, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with the two tables")
    parser.add_argument("--quick", action="store_true", help="one table, one seed, few steps")
    parser.add_argument("--show", action="store_true", help="print the written rows")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if chosen.show:
        print(summary(pd.read_csv(HERE / "constraints.csv")).to_string())
        return
    if chosen.data is None:
        parser.error("--data DIR is needed, the folder with the tables")
    names, seeds, steps = ([*TABLES], SEEDS, STEPS) if not chosen.quick else (["CPU"], 1, 10)
    cases = [Case.of(name, chosen.data, count=3 if chosen.quick else LIMITS) for name in names]
    rows = []
    for case, way in product(cases, WAYS):
        rows += [row for seed in range(seeds) for row in run(case, way, seed, steps)]
        print(f"{case.table.name}: {way}", flush=True)
    frame = pd.DataFrame(rows)
    print(summary(frame).to_string())
    if not chosen.quick:
        frame.round(5).to_csv(out / "constraints.csv", index=False)


if __name__ == "__main__":
    main()
