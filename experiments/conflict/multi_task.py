"""Which solver for several tasks in one network: all of them on real digits, and tuned weights.

    python experiments/conflict/multi_task.py          # about 15 minutes on one core
    python experiments/conflict/multi_task.py --quick  # a trial in a minute; writes nothing
    python experiments/conflict/multi_task.py --show   # tables and figures of written rows

Two digits overlap; there is one narrow encoder and two heads. The three problems are: both digits;
the left digit and the slant of the right one, in units that make the second loss ten times as
large; the same in units that make it ten times smaller. Every solver of the package that needs no
preference vector is used with its published defaults, and with the same network, initial weights,
batches and steps of Adam. All have one learning rate, the best of three on `valid` for single-task
networks, so it favors no method; Adam divides by the length of the gradient, so one rate means
steps of one size. Tuned weights are the best of nine fixed ones on `valid` for each seed: nine
trainings.

delta-m is the mean over tasks of how much larger the error is than that of a single-task network,
in percent of the latter: 0 is as good as separate networks, below 0 is better. Errors are the
percent of wrong digits and the root mean square of the slant. On accuracies, as in most papers, a
digit's part would be about ten times smaller. An encoder of twice the width, with the plain mean,
shows the effect of capacity. `test` is only used for the report.

Writes `multi_task.csv` (a row per training) and `docs/multi_task.png`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from common import BLUE, DOCS, HERE, ORANGE, TUNED, YELLOW, Row
from overlapped_digits import Network, Pairs, Task, pairs
from torch import Tensor

from paretonas import backward, solvers
from paretonas.conflict import Recorder
from paretonas.multitask import TaskGradients
from paretonas.solvers.preconditioned import divisor_of

PROBLEMS = {
    "two digits": (Task("left"), Task("right")),
    "digit and slant x 10": (Task("left"), Task("slant", 10.0)),
    "digit and slant x 0.1": (Task("left"), Task("slant", 0.1)),
}
PLAIN = "mean"  # the plain sum, as the rows call it
ALONE, WIDE = "single-task networks", "mean, twice as wide"
RATIOS = tuple(10.0 ** (k / 2) for k in range(-4, 5))  # of the second weight to the first


@dataclass(frozen=True)
class About:
    """What some solvers have to know of the training around them."""

    generator: torch.Generator
    steps_per_epoch: int
    divisor: Callable[[], Tensor]


METHODS: dict[str, dict[str, Callable[[About], solvers.Solver]]] = {
    "baseline": {
        PLAIN: lambda about: solvers.LinearScalarization(),
        "RandomWeights": lambda about: solvers.RandomWeights(about.generator),
    },
    "from losses": {
        "UncertaintyWeighting": lambda about: solvers.UncertaintyWeighting(),
        "IMTLL": lambda about: solvers.IMTLL(),
        "DynamicWeightAverage": lambda about: solvers.DynamicWeightAverage(about.steps_per_epoch),
        "FAMO": lambda about: solvers.FAMO(),
    },
    "from gradients": {
        "GradNorm": lambda about: solvers.GradNorm(),
        "InverseMagnitude": lambda about: solvers.InverseMagnitude(),
        "MGDA": lambda about: solvers.MGDA(),
        "Normalized(MGDA, l2)": lambda about: solvers.Normalized(solvers.MGDA(), by="l2"),
        "Normalized(MGDA, loss+)": lambda about: solvers.Normalized(solvers.MGDA(), by="loss+"),
        "MovingAverage(MGDA)": lambda about: solvers.MovingAverage(solvers.MGDA()),
        "PCGrad": lambda about: solvers.PCGrad(about.generator),
        "GradVac": lambda about: solvers.GradVac(generator=about.generator),
        "GradDrop": lambda about: solvers.GradDrop(generator=about.generator),
        "CAGrad": lambda about: solvers.CAGrad(),
        "IMTLG": lambda about: solvers.IMTLG(),
        "NashMTL": lambda about: solvers.NashMTL(),
        "FairGrad": lambda about: solvers.FairGrad(),
        "AlignedMTL": lambda about: solvers.AlignedMTL(),
        "UPGrad": lambda about: solvers.UPGrad(),
        "Preconditioned(UPGrad)": lambda about: solvers.Preconditioned(
            solvers.UPGrad(), about.divisor
        ),
        "DualProj": lambda about: solvers.DualProj(),
        "ConFIG": lambda about: solvers.ConFIG(),
        "SAMGS": lambda about: solvers.SAMGS(),
        "SAMGS(gamma=0.7)": lambda about: solvers.SAMGS(gamma=0.7),  # its code's setting for images
        "PriorityProjection": lambda about: solvers.PriorityProjection(),
    },
}


@dataclass(frozen=True)
class Settings(common.Trainings):
    """What is compared.

    Attributes:
        problems: names in `PROBLEMS`.
        kinds: of methods, names in `METHODS`.
        ratios: the grid of fixed weights, 1 among them.
        steps: of each training.
        look_every: steps between two looks at the angle of the gradients.
        csv: where the rows go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    problems: tuple[str, ...] = tuple(PROBLEMS)
    kinds: tuple[str, ...] = tuple(METHODS)
    ratios: tuple[float, ...] = RATIOS
    steps: int = 360
    look_every: int = 20
    csv: Path | None = HERE / "multi_task.csv"
    figure: Path | None = DOCS / "multi_task.png"


QUICK = {"ratios": (0.1, 1.0, 10.0), "seeds": 1, "steps": 90}


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Train everything, and say what came out."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    if show:
        report(pd.read_csv(settings.csv), settings)
        return
    rate = best_rate(settings)
    rows: list[Row] = []
    for seed in range(settings.seeds):
        for row in compare(seed, rate, settings):
            rows.append(row)
            print(f"seed {seed}: {row['problem']}, {row['method']}", flush=True)
        frame = judged(pd.DataFrame(rows)).round(4)
        if settings.csv is not None:
            frame.to_csv(settings.csv, index=False)
    print(f"learning rate {rate:g}")
    report(frame, settings)


def report(frame: pd.DataFrame, settings: Settings) -> None:
    """Print the tables and draw the figure."""
    print(summary(frame).to_string())
    print(conflict(frame).to_string())
    if settings.figure is not None:
        draw(frame, settings.figure)


def best_rate(settings: Settings) -> float:
    """The learning rate at which networks for one task have the smallest error on `valid`."""
    alone = {task.asks: task for name in settings.problems for task in PROBLEMS[name]}
    plain = METHODS["baseline"][PLAIN]
    errors = np.array(
        [
            [train((task,), plain, rate, 0, settings)["valid_1"] for task in alone.values()]
            for rate in settings.rates
        ],
        dtype=float,
    )
    print(pd.DataFrame(errors, settings.rates, list(alone)).to_string(), flush=True)
    return common.best_of(settings.rates, errors)


def compare(seed: int, rate: float, settings: Settings) -> Iterator[Row]:
    """All trainings of one seed, a row each."""
    plain = METHODS["baseline"][PLAIN]
    alone: dict[str, Row] = {}
    for name in settings.problems:
        tasks = PROBLEMS[name]
        for task in tasks:
            if task.asks not in alone:
                alone[task.asks] = train((replace(task, scale=1.0),), plain, rate, seed, settings)
        one, two = (alone[task.asks] for task in tasks)
        about: Row = {"problem": name, "seed": seed}
        yield {
            **about,
            "method": ALONE,
            "kind": ALONE,
            **{f"{split}_1": one[f"{split}_1"] for split in pairs()},
            **{f"{split}_2": two[f"{split}_1"] for split in pairs()},
            "milliseconds": one["milliseconds"] + two["milliseconds"],
        }
        for kind in settings.kinds:
            for method, make in METHODS[kind].items():
                found = train(tasks, make, rate, seed, settings)
                yield {**about, "method": method, "kind": kind, "ratio": 1.0, **found}
        found = train(tasks, plain, rate, seed, settings, times=2)
        yield {**about, "method": WIDE, "kind": "baseline", "ratio": 1.0, **found}
        for ratio in settings.ratios:
            if ratio != 1:  # that is the mean
                found = train(tasks, fixed(ratio), rate, seed, settings)
                label = f"weights 1 : {ratio:.3g}"
                yield {**about, "method": label, "kind": "grid", "ratio": ratio, **found}


def fixed(ratio: float) -> Callable[[About], solvers.Solver]:
    """Weights in this ratio, second to first."""
    return lambda about: solvers.LinearScalarization(torch.tensor([1.0, ratio]) / (1 + ratio))


def train(
    tasks: Sequence[Task],
    make: Callable[[About], solvers.Solver],
    rate: float,
    seed: int,
    settings: Settings,
    times: int = 1,
) -> Row:
    """Train one network, so many times as wide: its errors, its cost, how its tasks got along."""
    data = pairs()
    torch.manual_seed(seed)
    network = Network(tasks, times)
    shared = list(network.encoder.parameters())
    heads = [list(head.parameters()) for head in network.heads]
    optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    per_epoch = len(data["train"].inputs) // settings.batch
    generator = torch.Generator().manual_seed(seed)
    solver = make(About(generator, per_epoch, lambda: divisor_of(optimizer, shared)))
    recorder = Recorder([task.asks for task in tasks])
    state: object = None
    seconds = []
    for step, rows in zip(
        range(settings.steps), batches(data["train"], settings, seed), strict=False
    ):
        inputs = data["train"].inputs[rows]
        answers = [data["train"].answers[task.asks][rows] for task in tasks]

        optimizer.param_groups[0]["lr"] = rate * (1 - step / settings.steps)
        start = time.process_time()
        losses = losses_of(network, tasks, inputs, answers)
        looking = time.process_time()
        if step % settings.look_every == 0:
            gradients = TaskGradients(shared, heads=heads)
            gradients.add(losses, retain_graph=True)
            recorder.record(gradients.rows, step=step)
        looked = time.process_time()
        optimizer.zero_grad()
        direction = backward(losses, shared, solver=solver, heads=heads, state=state)
        state = direction.state
        if isinstance(solver, solvers.FAMO):
            torch.nn.utils.clip_grad_norm_(shared, 1.0)
        optimizer.step()
        if isinstance(solver, solvers.FAMO):
            with torch.no_grad():
                after = torch.stack(losses_of(network, tasks, inputs, answers))
            state = solver.observe(state, after)
        seconds.append(time.process_time() - looked + looking - start)
    found: Row = {}
    for split in data:
        for i, error in enumerate(errors_of(network, tasks, data[split]), 1):
            found[f"{split}_{i}"] = error
    found["milliseconds"] = 1e3 * float(np.median(seconds))
    if len(tasks) > 1:
        seen = recorder.frame()
        found["cosine"] = seen["cosine"].mean()
        found["in_conflict_percent"] = 100 * (seen["state"] == "conflict").mean()
        found["magnitude_similarity"] = seen["magnitude_similarity"].mean()
    return found


def batches(split: Pairs, settings: Settings, seed: int) -> Iterator[Tensor]:
    """Rows for each step, epoch after epoch: the same for every method."""
    generator = torch.Generator().manual_seed(1000 + seed)
    whole = len(split.inputs) - len(split.inputs) % settings.batch
    while True:
        order = torch.randperm(len(split.inputs), generator=generator)[:whole]
        yield from order.split(settings.batch)


def losses_of(
    network: Network, tasks: Sequence[Task], inputs: Tensor, answers: Sequence[Tensor]
) -> list[Tensor]:
    """The loss of each task on one batch."""
    each = zip(tasks, network(inputs), answers, strict=True)
    return [task.loss(outputs, answer) for task, outputs, answer in each]


@torch.no_grad()
def errors_of(network: Network, tasks: Sequence[Task], split: Pairs) -> list[float]:
    """The error of each task on a split."""
    each = zip(tasks, network(split.inputs), strict=True)
    return [task.error(outputs, split.answers[task.asks]) for task, outputs in each]


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Add delta-m against the mean errors of single-task networks, and the tuned weights."""
    alone = frame[frame["method"] == ALONE]
    for split in ("valid", "test"):
        errors = [f"{split}_1", f"{split}_2"]
        frame[f"delta_m_{split}"] = common.delta_m(frame, alone, ["problem"], errors)
    grid = frame[frame["kind"].eq("grid") | frame["method"].eq(PLAIN)]
    best = frame.loc[grid.groupby(["problem", "seed"])["delta_m_valid"].idxmin()]
    return pd.concat([frame, best.assign(method=TUNED, kind="baseline")], ignore_index=True)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """delta-m on test: medians with least and greatest; ranks; what a step costs.

    The rank is among the methods in each task's mean error over seeds, averaged over tasks and
    problems. "seeds won" are those with a smaller delta-m than tuned weights, over all problems.
    """
    shown = frame[frame["kind"] != "grid"]
    groups = shown.groupby(["method", "problem"], sort=False)["delta_m_test"]
    low, middle, high = (groups.quantile(q).unstack(sort=False) for q in (0.0, 0.5, 1.0))
    table = pd.DataFrame(
        {
            problem: [
                f"{m:.1f} ({a:.1f} to {b:.1f})"
                for a, m, b in zip(low[problem], middle[problem], high[problem], strict=True)
            ]
            for problem in middle
        },
        index=middle.index,
    )
    table["mean"] = middle.mean(axis=1).round(1)
    ranked = shown[~shown["method"].isin([ALONE, WIDE])]
    errors = ranked.groupby(["method", "problem"])[["test_1", "test_2"]].mean().unstack()
    table["mean_rank"] = errors.rank().mean(axis=1).round(1)
    by_seed = shown.pivot(index=["problem", "seed"], columns="method", values="delta_m_test")
    wins = by_seed.lt(by_seed[TUNED], axis=0).sum()
    table["seeds_won"] = [f"{wins[method]}/{len(by_seed)}" for method in table.index]
    table["trainings"] = 1
    table.loc[ALONE, "trainings"] = 2
    table.loc[TUNED, "trainings"] = 1 + frame.loc[frame["kind"] == "grid", "ratio"].nunique()
    cost = shown.groupby("method")["milliseconds"].median()
    table["milliseconds"] = cost.round(2)
    table["cost"] = (cost / cost[PLAIN]).round(2)
    return table.sort_values("mean")


def conflict(frame: pd.DataFrame) -> pd.DataFrame:
    """How the tasks got along in the mean's trainings, and which weights were chosen."""
    keys = ["cosine", "in_conflict_percent", "magnitude_similarity"]
    table = frame[frame["method"] == PLAIN].groupby("problem", sort=False)[keys].mean().round(3)
    chosen = frame[frame["method"] == TUNED].groupby("problem")["ratio"]
    table["chosen_ratios"] = chosen.agg(lambda ratios: ", ".join(f"{q:.3g}" for q in ratios))
    return table


def draw(frame: pd.DataFrame, target: Path) -> None:
    """delta-m of each method with its seeds, a panel per problem, and the cost of a step."""
    colors = {"baseline": "#555555", "from losses": YELLOW, "from gradients": BLUE}
    shown = frame[frame["kind"].isin(list(colors))]
    problems = list(dict.fromkeys(shown["problem"]))
    medians = shown.groupby(["method", "problem"])["delta_m_test"].median().unstack()
    order = list(medians.mean(axis=1).sort_values(ascending=False).index)
    kinds = shown.groupby("method")["kind"].first()
    figure, panels = plt.subplots(
        1, len(problems) + 1, figsize=(3.4 * len(problems) + 4, 0.25 * len(order) + 1.4),
        sharey=True, layout="constrained", width_ratios=[*[3] * len(problems), 1.6],
    )  # fmt: skip
    for axes, problem in zip(panels, problems, strict=False):
        own = shown[shown["problem"] == problem]
        end = 1.5 * medians.loc[PLAIN, problem]
        for place, method in enumerate(order):
            values = own.loc[own["method"] == method, "delta_m_test"]
            color, middle = colors[kinds[method]], values.median()
            if middle > end:
                axes.plot(end, place, ">", color=color, ms=7)
                axes.annotate(f"{middle:.0f}  ", (end, place), ha="right", va="center", color=color)
                continue
            axes.plot([values.min(), values.max()], [place] * 2, color=color, lw=1.5, alpha=0.5)
            axes.plot(values, [place] * len(values), "o", color=color, ms=3, alpha=0.5)
            axes.plot(middle, place, "D", color=color, ms=6)
        axes.axvline(medians.loc[TUNED, problem], color=ORANGE, lw=1.2, label=TUNED)
        axes.axvline(medians.loc[PLAIN, problem], color="#555555", lw=1.2, ls="--", label=PLAIN)
        seeds = own["seed"].nunique()
        axes.set(title=problem, xlabel=f"delta-m, %: median and range of {seeds} seeds")
        axes.set_xlim(right=1.03 * end)
        axes.grid(axis="y", alpha=0.25)
    cost = shown.groupby("method")["milliseconds"].median()
    bars = [cost[method] / cost[PLAIN] for method in order]
    panels[-1].barh(range(len(order)), bars, color=[colors[kinds[method]] for method in order])
    panels[-1].set(title="cost of a step", xlabel="CPU time, mean = 1")
    panels[0].set_yticks(range(len(order)), order)
    panels[0].set_ylim(-0.7, len(order) - 0.3)
    for label in panels[0].get_yticklabels():
        label.set_color(colors[kinds[label.get_text()]])
    handles = [plt.Line2D([], [], marker="D", ls="", color=c, label=k) for k, c in colors.items()]
    figure.legend(
        handles=[*handles, *panels[0].get_legend_handles_labels()[0]],
        loc="outside lower center", ncols=5, frameon=False,
    )  # fmt: skip
    figure.savefig(target, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
