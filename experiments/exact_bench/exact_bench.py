"""Does gradient surgery help on alpha? Solvers on exact gradients of complete tables.

    python experiments/exact_bench/exact_bench.py --data DIR            # everything: six minutes
    python experiments/exact_bench/exact_bench.py --data DIR --quick    # few steps, few methods

DIR holds the benchmark tables nb201.parquet and nasbench_macro.parquet.

On a complete table the expected objectives and their gradients with respect to alpha are exact. So
the losses of a search can be separated: that of the gate estimator (`exact_gates.py`), of the
solver (hypervolume of the expected costs), and of the discretization (hypervolume of the
architectures). All methods optimize 24 rays for the same number of steps of Adam; the learning rate
is the best of three on three devices. Writes `exact_bench.csv` (a row per method, table and seed),
`exact_gates.csv` and `docs/exact-bench.svg`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import exact_gates
import matplotlib
import numpy as np
import pandas as pd
import torch
from exact_methods import Method, methods
from exact_table import (
    ExactTable,
    expectation,
    expectation_and_jacobian,
    hypervolume,
    load,
    rounded,
    stacked,
)
from torch import Tensor

from paretonas import relaxation
from paretonas.surrogates.alpha import rays

matplotlib.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
TUNED_ON = ("1080ti_256", "gold_6240", "samsung_a50")
RATES, TUNING_SEEDS = (0.03, 0.1, 0.3), (100,)
WHOLE = ("aimed", "set")  # families that run on all tables
VARIED = ("temperature", "start", "steps", "gates")  # families that keep the middle rate
OTHERS = ("energy", "three costs", "macro")  # the tables that are no device with two costs
SHOWN = ("relaxed", "argmax", "rounded", "polished", "distinct", "differ", "entropy_bits")
GAP = 0.01  # of the range of a cost, from which an expectation and its architecture differ


def main(arguments: Sequence[str] | None = None, out: Path | None = None) -> None:
    """Run everything, print the summary, write the results and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the two tables")
    parser.add_argument("--quick", action="store_true", help="few steps, few methods")
    chosen = parser.parse_args(arguments)
    if missing := [f for f in exact_gates.FILES if not (chosen.data / f).is_file()]:
        parser.error(f"--data must be a folder with {' and '.join(missing)}, got {chosen.data}")
    torch.set_num_threads(1)
    tables, listed = load(chosen.data), methods()
    begin = time.perf_counter()
    if chosen.quick:
        listed = [m for m in listed if m.name in ("LinearScalarization", "hypervolume weights")]
        results = run(listed, tables[:5], steps=20, seeds=range(2))
        gates = exact_gates.run(tables[0], alphas=2, draws=64)
    else:
        results = run(listed, tables)
        gates = exact_gates.run(tables[0])
    print(f"{time.perf_counter() - begin:.0f} s\n\n{exact_gates.summary(gates)}\n")
    print(summary(results).to_string())
    results.round(5).to_csv((out or HERE) / "exact_bench.csv", index=False)
    gates.round(4).to_csv((out or HERE) / "exact_gates.csv", index=False)
    draw(results, (out or HERE.parents[1] / "docs") / "exact-bench.svg")


def run(
    listed: Sequence[Method],
    tables: Sequence[ExactTable],
    *,
    steps: int = 100,
    seeds: Sequence[int] = range(5),
    count: int = 24,
    tuned_on: Sequence[str] = TUNED_ON,
) -> pd.DataFrame:
    """A row per method, table and seed; the learning rate is what does best on `tuned_on`."""
    tuning = [table for table in tables if table.name in tuned_on]
    checked = [table for table in tables if table.name not in (*tuned_on, *OTHERS)]
    rows = [row for table in tables for row in ceilings(table, count)]
    for method in listed:
        begin, rate = time.perf_counter(), RATES[1]
        if method.family not in VARIED:
            tried = pd.DataFrame(ends(method, tuning, RATES, TUNING_SEEDS, steps, count))
            rate = float(tried.groupby("rate")["rounded"].mean().idxmax())
        for group in alike(tables if method.family in WHOLE else checked):
            rows += ends(method, group, (rate,), seeds, steps, count)
        seconds = time.perf_counter() - begin
        print(f"{method.family}: {method.name}, {method.scale} ({seconds:.0f} s)", flush=True)
    frame = pd.DataFrame(rows)
    frame.insert(3, "tuned", frame["table"].isin(tuned_on))
    return frame


def alike(tables: Sequence[ExactTable]) -> list[list[ExactTable]]:
    """Tables with the same choices and as many costs, together."""
    groups: dict[tuple[tuple[int, ...], int], list[ExactTable]] = {}
    for table in tables:
        groups.setdefault((table.sizes, table.costs.shape[1]), []).append(table)
    return list(groups.values())


def ends(
    method: Method, tables: Sequence[ExactTable], rates: Sequence[float], seeds: Sequence[int],
    steps: int, count: int,
) -> Iterator[dict[str, object]]:  # fmt: skip
    """Drive all tables, rates and seeds side by side, and score where each ends."""
    sizes, m = tables[0].sizes, tables[0].costs.shape[1]
    steps = round(steps * method.longer)
    scaled = [t.rooted() if method.scale == "root" else t for t in tables]
    driven = stacked(scaled)
    preference = directions(m, count // method.starts).repeat(method.starts, 1)
    r, sets = len(preference), [(rate, seed) for rate in rates for seed in seeds]
    alpha = drive(method, driven, sizes, preference, sets, steps)
    p = relaxation.probabilities(alpha, sizes, method.temperatures[1])
    expected = expectation(p, stacked(tables), sizes)
    argmax = relaxation.picks_of(p, sizes)
    by_choice = rounded(p, driven, sizes)
    entropy = -(p * p.clamp_min(1e-300).log2()).sum(-1) / len(sizes)
    for i, table in enumerate(tables):
        for k, (rate, seed) in enumerate(sets):
            own = slice(k * r, (k + 1) * r)
            values, rows = expected[i, own].numpy(), table.rows_of(argmax[i, own])
            better = scaled[i].polished(by_choice[i, own].numpy(), preference.numpy())
            yield {
                "method": method.name,
                "family": method.family,
                "scale": method.scale,
                "table": table.name,
                "seed": seed,
                "rate": rate,
                "gradients": steps * r * m,
                "relaxed": hypervolume(values) / table.whole,
                "argmax": table.fraction(rows),
                "rounded": table.fraction(table.rows_of(by_choice[i, own])),
                "polished": table.fraction(table.rows_of(torch.from_numpy(better))),
                "distinct": len(np.unique(rows)),
                "differ": (np.abs(values - table.costs[rows]).max(1) > GAP).mean(),
                "entropy_bits": float(entropy[i, own].mean()),
            }


def drive(
    method: Method, tables: Tensor, sizes: Sequence[int], preference: Tensor,
    sets: Sequence[tuple[float, int]], steps: int,
) -> Tensor:  # fmt: skip
    """Alpha (t, sets * r, K) after so many steps of Adam, each set from its seed at its rate."""
    (t, m), r, size = tables.shape[:2], len(preference), sum(sizes)
    first = [
        torch.randn(r, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for _, seed in sets
    ]
    alpha = (method.spread * torch.cat(first)).repeat(t, 1, 1).requires_grad_()
    step_size = torch.tensor([rate for rate, _ in sets]).double().repeat_interleave(r).unsqueeze(-1)
    solver = method.build(preference.repeat(t * len(sets), 1), r, steps)
    generator, state = torch.Generator().manual_seed(0), None
    mean, square = torch.zeros_like(alpha), torch.zeros_like(alpha)
    for step in range(steps):
        high, low = method.temperatures
        temperature = high * (low / high) ** (step / max(1, steps - 1))
        p = method.gates(alpha, sizes, temperature, generator)
        values, jacobian = expectation_and_jacobian(alpha, p, tables, sizes)
        torch.manual_seed(step)
        above = values.reshape(-1, m).clamp_min(1e-3)
        direction = solver(jacobian.reshape(-1, m, size), above, state)
        state, gradient = direction.state, direction.vector.reshape(alpha.shape)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        spread = (square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        alpha = alpha.detach() - step_size * mean / (1 - 0.9 ** (step + 1)) / spread
        alpha.requires_grad_()
    return alpha.detach()


def directions(m: int, count: int) -> Tensor:
    """The largest lattice of at most so many rays (r, m)."""
    fits = [lattice for n in range(2, count + 1) if len(lattice := rays(m, n)) <= count]
    exact = fits[-1].double()
    return exact / exact.sum(-1, keepdim=True)


def ceilings(table: ExactTable, count: int) -> Iterator[dict[str, object]]:
    """What the best architectures, and the best of each ray, would reach without any descent."""
    preference = directions(table.costs.shape[1], count).numpy()
    found = {("best architectures", "linear"): table.best(count)}
    for scale, costs in (("linear", table.costs), ("root", table.rooted().costs)):
        weighed = costs[:, None, :] * preference
        found["Linear, global optimum", scale] = weighed.sum(-1).argmin(0)
        found["Tchebycheff, global optimum", scale] = weighed.max(-1).argmin(0)
    for (name, scale), rows in found.items():
        part = table.fraction(rows)
        yield {"method": name, "family": "ceiling", "scale": scale, "table": table.name, "seed": 0,
               "argmax": part, "rounded": part, "polished": part,
               "distinct": len(set(rows.tolist()))}  # fmt: skip


def checked_on(rows: pd.DataFrame) -> pd.Series:
    """Whether rows are of a device that no learning rate was chosen on."""
    return ~rows["tuned"] & ~rows["table"].isin(OTHERS)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """By method, over the devices not tuned on: means of the medians over seeds, and of the worst.

    Then the rounded fraction for the devices tuned on and for the other tables.
    """
    keys = ["family", "method", "scale"]
    groups = results.groupby([*keys, "table"], sort=False)
    medians = groups[list(SHOWN)].median()
    medians["worst"], medians["tuned"] = groups["rounded"].min(), groups["tuned"].first()
    medians = medians.reset_index()
    checked = medians[checked_on(medians)].groupby(keys, sort=False)
    table = checked[[*SHOWN, "worst"]].mean()
    table["rate"] = results.groupby(keys, sort=False)["rate"].first()
    parts = {"tuned on": medians["tuned"]} | {n: medians["table"] == n for n in OTHERS}
    for name, inside in parts.items():
        means = medians[inside].groupby(keys, sort=False)[["rounded", "polished"]].mean()
        table[[f"{name}, rounded", f"{name}, polished"]] = means
    return table.round(4)


LEAST = 0.95  # fraction at which the picture begins
MARKS = {"relaxed": ("|", "0.45", "expected costs"),
         "argmax": ("o", "#92c5de", "likeliest architectures"),
         "rounded": ("o", "#2166ac", "rounded choice by choice"),
         "polished": ("D", "#1b7837", "then polished")}  # fmt: skip


def draw(results: pd.DataFrame, file: Path) -> None:
    """Fractions of the true hypervolume, devices not tuned on: a panel per scale."""
    keys = ["scale", "method"]
    shown = results[checked_on(results)]
    medians = shown.groupby(["family", *keys, "table"])[list(MARKS)].median()
    mean = medians.groupby(["family", *keys]).mean()
    ceiling = mean.loc["ceiling"]["argmax"]
    both = mean.loc[mean.index.isin(WHOLE, level=0)].droplevel(0)
    order = both.groupby("method")["rounded"].agg(["size", "max"])
    names = order[order["size"] == order["size"].max()].sort_values("max").index
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "paretonas", "font.size": 9})
    figure, panels = plt.subplots(
        1, 2, figsize=(9.6, 1.6 + 0.24 * len(names)), layout="constrained", sharey=True
    )
    for axes, scale in zip(panels, ("linear", "root"), strict=True):
        rows = both.loc[[(scale, name) for name in names if (scale, name) in both.index]]
        places = [names.get_loc(name) for _, name in rows.index]
        axes.axvline(1.0, color="0.3", lw=0.8)
        axes.axvline(ceiling[scale, "Linear, global optimum"], color="0.3", lw=0.8, ls=":")
        for column, (mark, color, label) in MARKS.items():
            inside = rows[column].clip(lower=LEAST)
            axes.plot(inside, places, mark, color=color, ms=8 if mark == "|" else 5, label=label)
        for place, worth in zip(places, rows["rounded"], strict=True):
            if worth < LEAST:
                axes.annotate(f"  {worth:.3f}", (LEAST, place), va="center", fontsize=8)
        axes.set(title=f"descending the {scale} costs", xlabel="fraction of the true hypervolume")
        axes.set_xlim(LEAST - 0.001, 1.002)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    handles, labels = panels[0].get_legend_handles_labels()
    dotted = plt.Line2D([], [], color="0.3", ls=":", lw=0.8)
    figure.legend([*handles, dotted], [*labels, "every ray at its linear optimum"],
                  loc="outside upper center", ncols=4, frameon=False)  # fmt: skip
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
