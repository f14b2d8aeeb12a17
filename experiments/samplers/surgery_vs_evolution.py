"""Surgery against evolution and Bayesian optimization on real tables, at equal budgets.

    python experiments/samplers/surgery_vs_evolution.py --data DIR --out DIR [--tables NAME ...]

`DIR` holds ``nb201.parquet`` and ``nasbench_macro.parquet``; NAS-Bench-Graph comes from the package
nas-bench-graph. Every method is billed by `paretonas.samplers.sample` and scored by
`paretonas.compare` against the true front: objectives are scaled to [0, 1] over the allowed rows,
logarithmic where the table says so, with the reference point at 1. Slow methods stop earlier on
tables where the others need many evaluations; methods are compared after the same number of
evaluations. The script writes folders ``runs-TABLE`` and ``runs-TABLE-slow``, from which an
interrupted comparison continues, and two tables:

- ``surgery_vs_evolution.csv``: for each table and method, after 10, 24, 50, 100, 200 and 500
  evaluations, the mean over seeds of the fraction of the true hypervolume, its deviation, and the
  worst seed;
- ``surgery_vs_evolution_reach.csv``: how many evaluations the mean needs to reach 95, 97 and 99 %,
  and the median over seeds (empty if this is more than the budget, which is also given); and the
  method overhead in seconds per evaluation;

and ``surgery.svg`` for NAS-Bench-201 with two objectives and ``surgery-others.svg`` for the other
tables. Each shows the hypervolume regret by evaluations, mean and worst seed.

The settings of surgery were chosen on `TUNED`; the other tables were used only afterwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from paretonas.compare import Comparison, compare
from paretonas.problem import Problem
from paretonas.samplers.methods import methods
from paretonas.table import Table
from search_spaces import nas_bench_graph

DEVICES = {
    "1080ti_1": "latency_1080ti_1_ms",
    "1080ti_256": "latency_1080ti_256_ms",
    "2080ti_32": "latency_2080ti_32_ms",
    "gold_6240": "latency_gold_6240_ms",
    "silver_4114": "latency_silver_4114_ms",
    "samsung_a50": "latency_samsung_a50_ms",
    "essential_ph_1": "latency_essential_ph_1_ms",
    "edgegpu": "latency_edgegpu_ms",
}
ERROR = "cifar10_valid_error_200ep"
EDGES = tuple(f"op_{source}_{target}" for target in range(1, 4) for source in range(target))
TUNED = (
    *(f"nb201_{device}" for device in ("1080ti_1", "silver_4114", "essential_ph_1", "edgegpu")),
    *(f"graph_{dataset}" for dataset in ("cora", "cs", "photo", "arxiv")),
    "macro",
)
METHODS = (
    "surgery",
    "nsga2",
    "nsga2-steady",
    "smsemoa",
    "tpe",
    "optuna-nsga2",
    "ridge",
    "local",
    "random",
)
SLOW = ("surgery", "gp")
MARKS = (10, 24, 50, 100, 200, 500)
TARGETS = (0.95, 0.97, 0.99)


@dataclass(frozen=True)
class Case:
    """A table to search.

    Attributes:
        read: reads it, from the folder of tables.
        log: columns that count by their ratios.
        budget: evaluations of a method.
        slow_budget: of those in `SLOW`.
    """

    read: Callable[[Path], Table]
    log: tuple[str, ...] = ()
    budget: int = 200
    slow_budget: int = 200


def cases() -> dict[str, Case]:
    """All tables by name."""
    found = {
        f"nb201_{device}": Case(lambda data, column=column: nb201(data, [ERROR, column]))
        for device, column in DEVICES.items()
    }
    three = [ERROR, "latency_edgegpu_ms", "energy_edgegpu_mJ"]
    found["nb201_three"] = Case(lambda data: nb201(data, three))
    found["macro"] = Case(macro)
    for dataset in nas_bench_graph.DATASETS:
        found[f"graph_{dataset}"] = Case(
            lambda data, dataset=dataset: nas_bench_graph.load(dataset),
            nas_bench_graph.COLUMNS[1:],
            budget=500,
            slow_budget=100,
        )
    return found


def nb201(data: Path, columns: list[str]) -> Table:
    """NAS-Bench-201 with some of its objectives."""
    return Table.read(data / "nb201.parquet", EDGES, columns, where="connected")


def macro(data: Path) -> Table:
    """NAS-Bench-Macro: error, parameters, operations."""
    layers = [f"layer_{number}" for number in range(1, 9)]
    return Table.read(data / "nasbench_macro.parquet", layers, ["test_error", "params", "flops"])


def scores(name: str, comparison: Comparison) -> Iterator[dict[str, object]]:
    """What each method reached after so many evaluations."""
    for method, curves in fractions(comparison):
        for mark in (mark for mark in MARKS if mark <= curves.shape[1]):
            reached = curves[:, mark - 1]
            yield {
                "table": name,
                "method": method,
                "evaluations": mark,
                "seeds": len(reached),
                "mean": round(reached.mean(), 5),
                "deviation": round(reached.std(ddof=1), 5) if len(reached) > 1 else None,
                "worst": round(reached.min(), 5),
            }


def reaches(name: str, comparison: Comparison) -> Iterator[dict[str, object]]:
    """How many evaluations each method needs, and how long it thinks."""
    for method, curves in fractions(comparison):
        records = [r for (m, _), r in comparison.records.items() if m == method]
        bills = [record.ledger for record in records]
        thinking = np.median([bill.thinking_seconds / bill.evaluations for bill in bills])
        for target in TARGETS:
            yield {
                "table": name,
                "method": method,
                "target": target,
                "of_the_mean": first(curves.mean(axis=0), target),
                "budget": comparison.budget,
                "median": median([first(curve, target) for curve in curves]),
                "thinking_seconds_per_evaluation": round(float(thinking), 4),
            }


def fractions(comparison: Comparison) -> Iterator[tuple[str, np.ndarray]]:
    """Each method with a row of hypervolume fractions for each seed."""
    for method in comparison.methods:
        yield (
            method,
            np.array([c.fraction for (m, _), c in comparison.curves.items() if m == method]),
        )


def draw(curves: dict[str, dict[str, np.ndarray]], out: Path) -> None:
    """A panel per table: how much of the true hypervolume is missing, mean and worst seed."""
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    size = (3.2 * columns, 2.6 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True)
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    methods = list(dict.fromkeys(method for table in curves.values() for method in table))
    colors = dict(zip(methods, plt.get_cmap("tab10").colors, strict=False))
    for axis, (name, table) in zip(axes.flat, curves.items(), strict=False):
        for method, fraction in table.items():
            regret = np.maximum(1 - fraction, 1e-4)
            evaluations = np.arange(1, fraction.shape[1] + 1)
            color, ours = colors[method], method == "surgery"
            axis.plot(evaluations, regret.mean(0), color=color, lw=2 if ours else 1.2, label=method)
            if method in ("surgery", "nsga2"):
                axis.plot(evaluations, regret.max(0), color=color, lw=0.7, ls=":")
        axis.set(yscale="log", title=name, xlim=(5, None), ylim=(4e-4, 0.7))
        axis.title.set_size(9)
        axis.grid(alpha=0.25)
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=len(names), frameon=False, fontsize=9)
    figure.supxlabel("evaluations", fontsize=9, y=0.055)
    figure.supylabel("hypervolume regret (dotted: worst seed)", fontsize=9)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)


def first(curve: np.ndarray, target: float) -> int | None:
    """The number of evaluations after which a curve is at the target."""
    there = np.flatnonzero(curve >= target)
    return int(there[0]) + 1 if len(there) else None


def median(counts: list[int | None]) -> float | None:
    """The median, where half of the seeds or more got there."""
    value = float(np.median([np.inf if count is None else count for count in counts]))
    return value if np.isfinite(value) else None


def main() -> None:
    """Compare on all tables, and write the two tables of results after each."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--out", type=Path, default=Path("surgery_vs_evolution"))
    parser.add_argument("--tables", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--methods", nargs="+", choices=methods, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, help="evaluations, for all tables and methods")
    parser.add_argument("--jobs", type=int, default=None)
    options = parser.parse_args()
    found: tuple[list[dict[str, object]], list[dict[str, object]]] = ([], [])
    curves: dict[str, dict[str, np.ndarray]] = {}
    for name in options.tables:
        case = known[name]
        table = case.read(options.data)
        curves[name] = {}
        slow = [method for method in options.methods if method in SLOW]
        others = [method for method in options.methods if method not in SLOW]
        for chosen, budget, end in ((slow, case.slow_budget, "-slow"), (others, case.budget, "")):
            if not chosen:
                continue
            comparison = compare(
                Problem(table, log=case.log),
                chosen,
                budget=budget if options.budget is None else options.budget,
                seeds=options.seeds,
                jobs=options.jobs,
                folder=options.out / f"runs-{name}{end}",
            )
            # Only against the true front are the fractions of two comparisons alike.
            assert comparison.reference.true
            found[0].extend(scores(name, comparison))
            found[1].extend(reaches(name, comparison))
            curves[name] |= dict(fractions(comparison))
        for rows, stem in zip(
            found, ("surgery_vs_evolution", "surgery_vs_evolution_reach"), strict=True
        ):
            frame = pd.DataFrame(rows)
            frame.to_csv(options.out / f"{stem}.csv", index=False, lineterminator="\n")
        devices = {d: curves[f"nb201_{d}"] for d in DEVICES if f"nb201_{d}" in curves}
        rest = {n: c for n, c in curves.items() if n.removeprefix("nb201_") not in DEVICES}
        for stem, shown in (("surgery", devices), ("surgery-others", rest)):
            if shown:
                draw(shown, options.out / f"{stem}.svg")
        last = pd.DataFrame(found[0])
        print(
            last[last["table"] == name].pivot(index="method", columns="evaluations", values="mean")
        )


if __name__ == "__main__":
    main()
