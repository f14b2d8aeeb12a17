"""How much of the true front a search finds, compared with NSGA-II and random search.

    python experiments/search/search_quality.py

Needs the tables of `ground_truth.py`. All methods have equal cost: CPU seconds of one thread. These
are the supernet's training, the proxy evaluations (scores with inherited weights) and the search's
own overhead, as measured here, and the trainings, as measured for the table. At each number of
finalists of the gradient search

- NSGA-II and random search over the same supernet pay for the same weights. They make proxy
  evaluations for the time of the gradient search's proxy evaluations and overhead. Then they train
  the same number of finalists, spread over the front that they estimate; once by inherited loss and
  once by inherited error;
- NSGA-II, with two sets of operators, and random search train every candidate until the same total
  is spent.

The method overhead is billed only to the gradient search. Writes `search_quality.csv` (a row per
method, seed and budget), `search_ranking.csv` (rank correlations of the estimates) and
`docs/search_quality.png`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from baselines import by_number, by_pick, nsga2_order, random_order
from truth import SPACES, Array, TableTrainer, Truth, spread

from paretonas.gradient_search.plan import Plan
from paretonas.gradient_search.search import search
from paretonas.gradient_search.weights import inherited_scores
from paretonas.nn import Supernet
from paretonas.objectives.calibration import rank_correlation
from paretonas.relaxation import one_hot, probabilities, sizes_of
from paretonas.runs import Run
from paretonas.surrogates.alpha import Scale
from paretonas.surrogates.quality_model import QualityModel
from paretonas.tasks.task import metrics_of

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

HERE = Path(__file__).parent
OURS = "gradient search"
Row = dict[str, object]


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        spaces: names of `truth.SPACES`.
        seeds: how many.
        supernet_steps: weight steps; 1 leaves the supernet untrained.
        proxy_evaluations: with inherited weights.
        finalists: the budgets.
        csv: the folder for the tables.
        figure: the file of the figure.
    """

    spaces: tuple[str, ...] = tuple(SPACES)
    seeds: int = 5
    supernet_steps: tuple[int, ...] = (400, 1000)
    proxy_evaluations: int = 250
    finalists: tuple[int, ...] = (8, 12, 16, 24)
    csv: Path = HERE
    figure: Path = HERE.parents[1] / "docs" / "search_quality.png"


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Run all methods on all spaces, and say what came out."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    settings = settings or Settings()
    torch.set_num_threads(1)
    results: list[Row] = []
    rankings: list[Row] = []
    truths = {name: Truth(SPACES[name]) for name in settings.spaces}
    for seed, name, steps in product(range(settings.seeds), truths, settings.supernet_steps):
        about: Row = {"space": name, "supernet_steps": steps, "seed": seed}
        print(about, flush=True)
        found, ranking = compare(truths[name], steps, seed, settings)
        results += [about | row for row in found]
        rankings.append(about | ranking)
        frame, ranked = pd.DataFrame(results).round(5), pd.DataFrame(rankings).round(4)
        frame.to_csv(settings.csv / "search_quality.csv", index=False)
        ranked.to_csv(settings.csv / "search_ranking.csv", index=False)
    print(summary(frame).to_string())
    print(ranked.groupby(["space", "supernet_steps"]).median(numeric_only=True).T.to_string())
    draw(frame, settings)


def compare(
    truth: Truth, steps: int, seed: int, settings: Settings
) -> tuple[list[Row], dict[str, float]]:
    """All methods with one seed, the gradient search first: it sets the budgets."""
    start = time.process_time()
    trainer = TableTrainer(truth)
    most = max(settings.finalists)
    plan = Plan(steps, settings.proxy_evaluations, most, truth.space.recipe)
    weights_end = start
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(folder, {}, "cpu", seed)
        costs = truth.objectives()
        for step in search(
            truth.space, objectives=costs, budget=plan, seed=seed, run=run, trainer=trainer
        ):
            torch.set_num_threads(1)  # the search takes every core there is
            if step.phase == "weights":
                weights_end = time.process_time()
        state = run.resume()
    assert trainer.supernet is not None
    loss, error, seconds_per_proxy = inherited(truth, trainer.supernet)

    rows: list[Row] = []

    def report(
        method: str, count: int, front: Sequence[int], seconds: float, proxy_evaluations: int
    ) -> None:
        rows.append(
            {
                "method": method,
                "finalists": count,
                "cpu_seconds": seconds,
                "evaluations": proxy_evaluations,
                "regret": truth.regret(front),
            }
        )

    for count in settings.finalists:
        chosen = trainer.rows[:count]
        trained = float(truth.seconds[chosen].sum())
        thinking = trainer.clock[len(chosen) - 1] - weights_end
        base = weights_end - start + thinking
        total = base + trained
        front = truth.front(chosen, seed)
        report(OURS, count, front, total, settings.proxy_evaluations)
        report(
            "its finalists, chosen by the truth", count, chosen, total, settings.proxy_evaluations
        )
        report("the best finalists there are", count, truth.best(count), total, 0)
        proxy_evaluations = max(1, round(thinking / seconds_per_proxy))
        for kind, seen in (("loss", loss), ("error", error)):
            orders = {
                "NSGA-II": nsga2_order(truth, seen, seed, by_pick(20)),
                "random": random_order(truth, seed),
            }
            for method, order in orders.items():
                known = list(islice(order, proxy_evaluations))
                points = np.column_stack([seen, truth.costs])[known]
                chosen = [known[i] for i in spread(points, count)]
                seconds = base + float(truth.seconds[chosen].sum())
                front = truth.front(chosen, seed)
                report(f"{method}, inherited {kind}", count, front, seconds, len(known))
        orders = {
            "NSGA-II": nsga2_order(truth, truth.seen(seed), seed, by_pick(5)),
            "NSGA-II with SBX": nsga2_order(truth, truth.seen(seed), seed, by_number(5)),
            "random": random_order(truth, seed),
        }
        for method, order in orders.items():
            chosen = list(affordable(order, truth.seconds, total))
            front = truth.front(chosen, seed)
            report(f"{method}, trained", count, front, total, len(chosen))
    return rows, worth(truth, trainer.rows, state, loss, error, seed)


def affordable(order: Iterable[int], seconds: Array, total: float) -> Iterator[int]:
    """As many of them as can be trained."""
    for row in order:
        total -= seconds[row]
        if total < 0:
            return
        yield row


def inherited(truth: Truth, supernet: Supernet) -> tuple[Array, Array, float]:
    """The loss and the error in percent of all architectures, and CPU seconds for one."""
    task = truth.space.load_task()
    start = time.process_time()
    scores = [inherited_scores(supernet, task, each) for each in truth.architectures]
    seconds = (time.process_time() - start) / len(scores)
    loss, error = (np.array([each[name] for each in scores]) for name in ("loss", "error_percent"))
    return loss, error, seconds


def worth(
    truth: Truth,
    finalists: Sequence[int],
    state: Mapping[str, object],
    loss: Array,
    error: Array,
    seed: int,
) -> dict[str, float]:
    """What estimates of the error are worth, by Spearman correlation with the truth; and the gap.

    The gap is how far the rays' relaxed objectives are from those of their decided architectures,
    by the same surrogate, in parts of each objective's range in logarithms: the mean over rays.
    """
    costs = truth.objectives()
    knowledge = QualityModel(truth.choices, costs, metrics_of(truth.space.load_task()))
    knowledge.resume(state["knowledge"])  # type: ignore[arg-type]
    knowledge.fit()
    (surrogate,) = knowledge.surrogates
    predicted = surrogate.mean(truth.picks).numpy()
    sizes = sizes_of(truth.choices)
    p = probabilities(state["alpha"], sizes, temperature=0.3)  # type: ignore[arg-type]
    scale = Scale.over(knowledge.coordinates())

    def values(p: torch.Tensor) -> torch.Tensor:
        logs = [cost.relaxed(p).log() for cost in costs]
        return scale(torch.stack([surrogate.relaxed(p), *logs], dim=1))

    gap = (values(p) - values(one_hot(p, sizes))).abs().mean(dim=0).tolist()
    good = np.flatnonzero(truth.errors <= np.median(truth.errors))
    return {
        "inherited_loss": rank_correlation(loss, truth.errors),
        "inherited_error": rank_correlation(error, truth.errors),
        "inherited_loss_better_half": rank_correlation(loss[good], truth.errors[good]),
        "surrogate": rank_correlation(predicted, truth.errors),
        "surrogate_better_half": rank_correlation(predicted[good], truth.errors[good]),
        "one_training": rank_correlation(truth.seen(seed), truth.errors),
        "one_training_better_half": rank_correlation(truth.seen(seed)[good], truth.errors[good]),
        "gap_error": gap[0],
        "gap_latency": gap[1],
        "gap_memory": gap[2],
    }


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Median regret in percent with quartiles, its ratio to the gradient search's, and seconds."""
    keys = ["space", "supernet_steps", "finalists", "method"]
    regret = frame.groupby(keys, sort=False)["regret"]
    table = (100 * regret.quantile([0.25, 0.5, 0.75]).unstack()).round(2)
    table.columns = ["lower quartile", "median", "upper quartile"]
    ours = table.xs(OURS, level="method")["median"]
    table["ours / it"] = (ours / table["median"]).round(2)
    table["cpu_seconds"] = frame.groupby(keys, sort=False)["cpu_seconds"].median().round(1)
    table["evaluations"] = frame.groupby(keys, sort=False)["evaluations"].median()
    return table


def draw(frame: pd.DataFrame, settings: Settings) -> None:
    """Median regret over the budget, with quartiles; of each kind of a baseline the better."""
    colors = {"NSGA-II": "#c44e52", "random": "#8c8c8c", "gradient": "#1f6fb2"}
    lines = {OURS: "-", "inherited": "--", "trained": ":"}
    shown = frame[frame["supernet_steps"] == settings.supernet_steps[-1]]
    figure, panels = plt.subplots(
        1, len(settings.spaces), figsize=(5 * len(settings.spaces), 4.2), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axes, space in zip(panels[0], settings.spaces, strict=True):
        own = shown[shown["space"] == space]
        for method in best_of_kinds(own):
            rows = own[own["method"] == method].groupby("finalists")
            seconds = rows["cpu_seconds"].median()
            low, middle, high = (100 * rows["regret"].quantile(q) for q in (0.25, 0.5, 0.75))
            color = colors[method.replace(",", "").split()[0]]
            style = next(line for kind, line in lines.items() if kind in method)
            axes.plot(seconds, middle, style, color=color, marker="o", ms=4, label=method)
            axes.fill_between(seconds, low, high, color=color, alpha=0.12, lw=0)
        axes.set(title=space, xlabel="CPU seconds, all told", yscale="log")
        for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            set_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0][0].set_ylabel("regret: % of the true hypervolume missed")
    panels[0][-1].legend(fontsize=8, frameon=False)
    figure.savefig(settings.figure, dpi=130)
    plt.close(figure)


def best_of_kinds(frame: pd.DataFrame) -> list[str]:
    """The methods to show: of each baseline the best by inherited scores, and the best trained."""
    medians = frame.groupby("method")["regret"].median()
    methods = [OURS]
    for name, kind in product(("NSGA-II", "random"), ("inherited", "trained")):
        same = [m for m in medians.index if m.startswith(name) and kind in m]
        methods.append(min(same, key=lambda method: medians[method]))
    return methods


if __name__ == "__main__":
    main()
