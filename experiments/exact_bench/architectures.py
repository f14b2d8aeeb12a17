"""Accuracy first, and latency only orthogonal to it: solvers on alpha with a known true front.

    python experiments/exact_bench/architectures.py          # about a minute on one core
    python experiments/exact_bench/architectures.py --quick  # a trial in a minute; writes nothing
    python experiments/exact_bench/architectures.py --show   # tables and figures of written rows

All 256 architectures of `search_spaces.digits:small` were trained
(`search/ground_truth/digits_small.parquet`: real MNIST digits). So the expected error and latency
of architectures drawn from alpha are exact, and the true front is known. From the same random
starts, alpha descends the plain sum, weighted sums (rays), priorities and gradient surgery, with
and without a preference vector. `FirstInFull` means accuracy first: the full gradient of the error,
and the part of the latency's gradient that is not in conflict with it. `WithinBudget` follows only
the error while the expected latency is within a budget, and the latency above it. The script
measures the hypervolume. It also measures how many points of error are lost if the most accurate
architecture within a latency is wanted: the answer is the most likely architecture within the
budget, because the latency of each is known. `weights_and_alpha.py` trains weights and alpha
together.

Writes `architectures.csv` and, in `docs/where-conflict-appears/`, `architectures.svg`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from exact_table import ExactTable, expectation
from torch import Tensor

from paretonas.relaxation import one_hot_picks, probabilities
from paretonas.solvers import (
    EPO,
    MGDA,
    CAGrad,
    LinearScalarization,
    NashMTL,
    PriorityProjection,
    Solver,
    UPGrad,
)
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem
from paretonas.surrogates.alpha import optimize_alpha, rays, with_preference

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).parent
Row = dict[str, object]
CHOICES = ("width1", "width2", "early.0", "late.0", "late.1")


@dataclass(frozen=True, eq=False)
class FirstInFull(WeightingSolver):
    """The gradient that leads, in full, and of each other one what does not oppose it.

    The first objective leads; with limits, the second one where it is above its limit.

    Attributes:
        limits: (r,), of the second objective, in its scale; None is no limit.
    """

    limits: np.ndarray | None = None

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Taking the opposing part out of the others adds to the weight of the leader."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        ray = np.arange(len(norms))
        leader = np.zeros(len(norms), dtype=int)
        if self.limits is not None:
            leader = (problem.values[:, 1] > self.limits).astype(int)
        opposing = (np.maximum(-cosines[ray, leader], 0.0) * norms).sum(-1)
        length = norms[ray, leader]
        weights = np.ones_like(norms)
        weights[ray, leader] += opposing / np.where(length > 0, length, 1.0)
        return Answer(weights, state=state)


@dataclass(frozen=True, eq=False)
class WithinBudget(FirstInFull):
    """The first objective alone while the second is within its limit; above it, as its base."""

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Let nothing pull at the second objective where there is no need."""
        weights = super().weigh(problem, state).weights
        weights[problem.values[:, 1] <= self.limits] = (1.0, 0.0)
        return Answer(weights, state=state)


PLAIN = "sum"  # as the rows call the plain sum
SOLVERS: dict[str, Callable[[], Solver]] = {
    PLAIN: LinearScalarization,
    "error alone": lambda: WithinBudget(np.inf),
    "FirstInFull": FirstInFull,
    "PriorityProjection": PriorityProjection,
    "UPGrad": UPGrad,
    "MGDA": MGDA,
    "CAGrad": CAGrad,
    "NashMTL": NashMTL,
}
AIMED = (PLAIN, "PriorityProjection", "UPGrad", "MGDA", "CAGrad")


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        seeds: starts of alpha, and of networks.
        rays: descents side by side on the table.
        steps: of alpha on the table.
        rate: of Adam there; the best of .03 and .1 for the weighted sums.
        csv: where the rows go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    seeds: int = 5
    rays: int = 12
    steps: int = 150
    rate: float = 0.03
    csv: Path | None = HERE / "architectures.csv"
    figure: Path | None = HERE.parents[1] / "docs" / "where-conflict-appears" / "architectures.svg"


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Measure everything, print the tables, and return the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, no files")
    parser.add_argument("--show", action="store_true", help="run nothing, read what was written")
    settings, chosen = settings or Settings(), parser.parse_args(arguments)
    if chosen.show and settings.csv is not None:
        rows = pd.read_csv(settings.csv)
    else:
        if chosen.quick:
            settings = replace(settings, seeds=1, steps=60, csv=None, figure=None)
        torch.set_num_threads(1)
        rows = pd.DataFrame(measure(settings)).round(5)
        if settings.csv is not None:
            rows.to_csv(settings.csv, index=False)
    for table in (front_table(rows), budget_table(rows)):
        print(table.to_string(), end="\n\n")
    if settings.figure is not None:
        draw(rows, settings.figure)
    return rows


def digits_table() -> tuple[ExactTable, np.ndarray]:
    """The trained architectures, and their mean error in percent and latency in ms."""
    frame = pd.read_parquet(HERE.parent / "search" / "ground_truth" / "digits_small.parquet")
    frame["error"] = frame.filter(like="error_percent").mean(axis=1)
    frame = frame.sort_values(list(CHOICES), ignore_index=True)
    table = ExactTable.of("digits_small", frame, CHOICES, ("error", "latency_ms"))
    return table, frame[["error", "latency_ms"]].to_numpy()


def measure(settings: Settings) -> Iterator[Row]:
    """Descents of alpha, their fronts, and their answers to budgets; all seeds side by side."""
    table, unscaled = digits_table()
    count, seeds = settings.rays, settings.seeds
    preference = rays(2, count).double().repeat(seeds, 1)
    limits, span = np.linspace(0, 1, count + 1)[1:], np.ptp(unscaled[:, 0])
    budgets = np.tile(limits, seeds)
    methods: dict[str, tuple[str, Solver, bool]] = {
        name: ("no aim", make(), False) for name, make in SOLVERS.items()
    }
    for name in AIMED:
        methods[f"{name}, rays"] = ("rays", with_preference(SOLVERS[name](), preference), False)
    methods["EPO on square roots, rays"] = ("rays", with_preference(EPO(), preference), True)
    methods["FirstInFull, budgets"] = ("budgets", FirstInFull(budgets), False)
    methods["WithinBudget, budgets"] = ("budgets", WithinBudget(budgets), False)
    for name, (family, solver, root) in methods.items():
        alphas, seen = descend(table, solver, root, settings)
        print(name, flush=True)
        for seed, alpha in enumerate(alphas.split(count)):
            about = {"seed": seed, "method": name, "family": family}
            answers = np.array([likeliest(alpha, table, limit) for limit in limits])
            ends = answers.diagonal() if family == "budgets" else likeliest(alpha, table, 1.0)
            yield {
                "part": "front",
                **about,
                "hypervolume": table.fraction(ends),
                "distinct": len(set(ends.tolist())),
                "cosine": seen["cosine"].iloc[: settings.steps // 3].mean(),  # of all seeds
            }
            for k, limit in enumerate(limits):
                # Rays have to be looked through; a budget has its own descent, a plain one is one.
                tried = table.costs[answers[k] if family == "rays" else answers[k, [k]], 0]
                best = table.costs[table.costs[:, 1] <= limit, 0].min()
                lost = span * float(tried.min() - best)
                found = {"limit": limit, "looked_at": len(tried), "lost": lost}
                yield {"part": "budget", **about, **found}
        for step in range(0, settings.steps, max(1, settings.steps // 30)):
            for k in PATHS.get(name, ()):
                low, high = unscaled.min(axis=0), unscaled.max(axis=0)
                error, latency = low + np.array(seen["values"][step][k]) * (high - low)
                about = {"part": "path", "method": name, "family": family, "ray": k, "step": step}
                yield {**about, "error_percent": error, "latency_ms": latency}


PATHS = {
    PLAIN: (0,),
    "PriorityProjection": (0,),
    "FirstInFull": (0,),
    "WithinBudget, budgets": (1, 3),
}


def descend(
    table: ExactTable, solver: Solver, root: bool, settings: Settings
) -> tuple[Tensor, pd.DataFrame]:
    """Alpha at the end of the descents of all seeds, and what was seen on the way."""
    shape = (settings.rays, sum(table.sizes))
    generators = [torch.Generator().manual_seed(seed) for seed in range(settings.seeds)]
    alpha = torch.cat([torch.randn(shape, generator=each) for each in generators]).double()
    whole = table.tensor.unsqueeze(0)

    def relaxed(p: Tensor) -> Tensor:
        values = expectation(p.unsqueeze(0), whole, table.sizes)[0]
        return values.clamp_min(1e-9).sqrt() if root else values

    rows = []
    for step in optimize_alpha(
        alpha, table.sizes, relaxed, solver,
        steps=settings.steps, learning_rate=settings.rate,
    ):  # fmt: skip
        alpha = step.alpha
        rows.append({"cosine": float(step.cosines[0, 1]), "values": step.values.tolist()})
    return alpha, pd.DataFrame(rows)


def likeliest(alpha: Tensor, table: ExactTable, limit: float) -> np.ndarray:
    """For each alpha, the row of the likeliest architecture whose latency is within the limit."""
    every = np.array(np.unravel_index(np.arange(len(table.costs)), table.sizes)).T
    picks = torch.from_numpy(every)
    logs = probabilities(alpha, table.sizes).log() @ one_hot_picks(picks, table.sizes).double().T
    logs[:, torch.from_numpy(table.costs[:, 1] > limit)] = -torch.inf
    return logs.argmax(dim=1).numpy()


def spread(values: pd.Series, digits: int) -> str:
    """Median, with least and greatest."""
    low, middle, high = (values.quantile(q) for q in (0.0, 0.5, 1.0))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def front_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Fractions of the true hypervolume by method, over seeds."""
    groups = rows[rows["part"] == "front"].groupby(["family", "method"], sort=False)
    return pd.DataFrame(
        {
            "hypervolume": groups["hypervolume"].agg(spread, 3),
            "distinct": groups["distinct"].median(),
            "cosine": groups["cosine"].median().round(2),
        }
    )


def budget_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Answers to "the most accurate within a budget", over budgets, for each seed; then spreads."""
    keys = ["family", "method"]
    own = rows[rows["part"] == "budget"]
    seeds = own.groupby([*keys, "seed"], sort=False)[["looked_at", "lost"]].mean()
    groups = seeds.groupby(keys, sort=False)
    return pd.DataFrame(
        {"looked_at": groups["looked_at"].first(), "points_lost": groups["lost"].agg(spread, 2)}
    )


FAMILIES = {"no aim": "#777777", "rays": "#0072b2", "budgets": "#d55e00"}
LINES = {
    (PLAIN, 0): ("#777777", PLAIN),
    ("PriorityProjection", 0): ("#cc79a7", "PriorityProjection"),
    ("FirstInFull", 0): ("#009e73", "FirstInFull"),
    ("WithinBudget, budgets", 1): ("#d55e00", "WithinBudget"),
    ("WithinBudget, budgets", 3): ("#d55e00", ""),
}


def draw(rows: pd.DataFrame, file: Path) -> None:
    """Paths of the expected costs and hypervolume by method."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "paretonas", "font.size": 9})
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
    draw_paths(rows[rows["part"] == "path"], panels[0])
    draw_hypervolume(rows[rows["part"] == "front"], panels[1])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def draw_paths(own: pd.DataFrame, axes: Axes) -> None:
    """From one random start, over all architectures."""
    table, unscaled = digits_table()
    front = unscaled[table.front()]
    front = front[front[:, 1].argsort()]
    axes.plot(unscaled[:, 1], unscaled[:, 0], ".", color="0.8", ms=4)
    axes.step(front[:, 1], front[:, 0], where="post", color="0.3", lw=1)
    limits = np.linspace(*unscaled[:, 1][[unscaled[:, 1].argmin(), unscaled[:, 1].argmax()]], 13)
    for (method, ray), (color, label) in LINES.items():
        path = own[(own["method"] == method) & (own["ray"] == ray)]
        axes.plot(path["latency_ms"], path["error_percent"], color=color, lw=1.8, label=label)
        axes.plot(*path[["latency_ms", "error_percent"]].iloc[-1], "o", color=color, ms=6)
        if "budgets" in method:
            axes.axvline(limits[ray + 1], color=color, lw=0.8, ls=":")
    axes.set(title="accuracy first, on alpha", xlabel="latency, ms", ylabel="error, %")
    axes.set_ylim(2.5, 8.5)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend([h for h, text in zip(handles, labels, strict=True) if text],
                [text for text in labels if text], frameon=False, loc="upper right")  # fmt: skip


def draw_hypervolume(own: pd.DataFrame, axes: Axes) -> None:
    """Twelve descents each."""
    order = own.groupby("method")["hypervolume"].median().sort_values().index
    for place, method in enumerate(order):
        mine = own[own["method"] == method]
        color = FAMILIES[mine["family"].iloc[0]]
        axes.plot(mine["hypervolume"], [place] * len(mine), "o", color=color, ms=3, alpha=0.5)
        axes.plot(mine["hypervolume"].median(), place, "D", color=color, ms=6)
    axes.set_yticks(range(len(order)), order)
    axes.set(title="fronts of twelve descents", xlabel="fraction of the true hypervolume")
    axes.grid(axis="y", alpha=0.25)
    for family, color in FAMILIES.items():
        axes.plot([], [], "D", color=color, label=family)
    axes.legend(frameon=False, loc="center left")


if __name__ == "__main__":
    main()
