"""How the optimizer changes a direction: momentum, Nesterov momentum, Adam, step size.

    python experiments/conflict/optimizers.py          # about four minutes on one core
    python experiments/conflict/optimizers.py --quick  # a trial in a minute; writes nothing
    python experiments/conflict/optimizers.py --show   # tables and figures of written rows

A solver guarantees something about a direction, but the optimizer takes a different step.

- *promise*: the three questions of `adam_and_surgery.py` (one logistic regression with 65 shared
  weights). Momentum keeps directions of the past in the step. Nesterov momentum computes the
  gradients at the point to which the momentum leads, so the solver sees a conflict before the step.
  The script counts the steps that raise the loss of some task to first order, on the images of the
  step. It also measures how much of each task's gain over all images later steps lose again.
- *rate*: the three tasks of `conflict_aware_rate.py`, for several learning rates: is a rate that
  decreases in conflict better than a smaller constant rate?

`stalled_axis.py` shows a projection that removes too much.

Writes `optimizers.csv` (a row per training) and `docs/where-conflict-appears/optimizers.svg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import adam_and_surgery
import common
import conflict_aware_rate
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from adam_and_surgery import UPHILL
from common import BLUE, GRAY, HERE, ORANGE, PAGES, Row
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import SGD, Optimizer

from paretonas.conflict import cosine_similarity
from paretonas.solvers import LinearScalarization, UPGrad
from paretonas.solvers.base import WeightingSolver
from paretonas.solvers.preconditioned import Preconditioned, divisor_of

Step = Callable[[list[Tensor]], Optimizer]


PLAIN = "mean"  # the plain sum, as the rows call it
SOLVERS = {PLAIN: LinearScalarization, "UPGrad": UPGrad}
RATES = {"SGD": 0.5, "Adam, no momentum": 0.01, "Adam": 0.01}  # as in adam_and_surgery


def momentum(rate: float, look_ahead: bool) -> Step:
    """Stochastic gradient descent with a momentum of 0.9."""
    return lambda weights: SGD(weights, lr=rate, momentum=0.9, nesterov=look_ahead)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        seeds: starts, and draws of batches.
        steps: of each training of *promise*.
        first: steps of *promise* that are not counted.
        batches: images per step of *promise*; None is all of them.
        rates: of momentum and look-ahead in *promise*.
        schedule_rates: of *rate*.
        schedule_steps: of *rate*.
        csv: where the rows go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    seeds: int = 5
    steps: int = 300
    first: int = 10
    batches: tuple[int | None, ...] = (None, 64)
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    schedule_rates: tuple[float, ...] = (0.1, 0.2, 0.3)
    schedule_steps: int = 500
    csv: Path | None = HERE / "optimizers.csv"
    figure: Path | None = PAGES / "optimizers.svg"


QUICK = {"seeds": 1, "steps": 60, "rates": (0.1,), "schedule_rates": (0.1,), "schedule_steps": 60}


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Train everything, print the tables, and return the rows."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    (rows,) = common.written(show, lambda: [measure(settings).round(5)], settings.csv)
    for table in (promise_table(rows), rate_table(rows)):
        print(table.to_string(), end="\n\n")
    if settings.figure is not None:
        draw(rows, settings.figure)
    return rows


def measure(settings: Settings) -> pd.DataFrame:
    """A row per training."""
    rows: list[Row] = []
    for seed in range(settings.seeds):
        for part in (promise, rate):
            for row in part(seed, settings):
                rows.append({"part": part.__name__, "seed": seed, **row})
            print(f"seed {seed}: {part.__name__}", flush=True)
    return pd.DataFrame(rows)


def promise(seed: int, settings: Settings) -> Iterator[Row]:
    """Every optimizer after the mean and after surgery."""
    made = [(name, RATES[name], make) for name, make in adam_and_surgery.OPTIMIZERS.items()]
    for size in settings.rates:
        made.append(("momentum", size, momentum(size, False)))
        made.append(("Nesterov", size, momentum(size, True)))
    for batch in settings.batches:
        for name, size, make in made:
            for solver, in_metric in ((PLAIN, False), ("UPGrad", False), ("UPGrad", True)):
                if in_metric and "Adam" not in name:
                    continue
                found = descend(make, SOLVERS[solver](), in_metric, batch, seed, settings)
                yield {
                    "images": batch or "all",
                    "optimizer": name,
                    "rate": size,
                    "solver": f"Preconditioned({solver})" if in_metric else solver,
                    **found,
                }


def descend(
    make: Step,
    inner: WeightingSolver,
    in_metric: bool,
    batch: int | None,
    seed: int,
    settings: Settings,
) -> Row:
    """Train the logistic regression: steps uphill, loss given back, loss in the end."""
    tasks = adam_and_surgery.Tasks()
    images = len(tasks.inputs)
    generator = torch.Generator().manual_seed(seed)
    start = 0.1 * torch.randn(tasks.inputs.shape[1], generator=generator, dtype=torch.float64)
    weights = torch.nn.Parameter(start)
    optimizer = make([weights])
    solver = Preconditioned(inner, lambda: divisor_of(optimizer, [weights])) if in_metric else inner
    largest, conflicts, losses = [], [], []
    for _ in range(settings.steps):
        drawn = torch.arange(images)
        if batch is not None:
            drawn = torch.randint(images, (batch,), generator=generator)
        before = weights.detach().clone()
        jacobian = tasks.jacobian(before, drawn)
        conflicts.append(float(cosine_similarity(jacobian).min()))
        weights.grad = solver(jacobian).vector
        optimizer.step()
        step = weights.detach() - before
        largest.append(float(torch.cosine_similarity(jacobian, step.unsqueeze(0)).max()))
        losses.append(task_losses(tasks, weights.detach()))
    cosines = np.array(largest[settings.first :])
    changes = np.diff(np.array(losses), axis=0)
    return {
        "smallest_cosine_between": float(np.mean(conflicts)),
        "uphill_percent": 100 * float((cosines > UPHILL).mean()),
        "mean_cosine_uphill": float(cosines[cosines > UPHILL].mean())
        if any(cosines > UPHILL)
        else 0,
        "given_back_percent": 100 * changes.clip(min=0).sum() / -changes.clip(max=0).sum(),
        "loss": float(np.mean(losses[-1])),
    }


def task_losses(tasks: adam_and_surgery.Tasks, weights: Tensor) -> list[float]:
    """The loss of each question over all images."""
    logits = (tasks.inputs @ weights).expand_as(tasks.answers)
    each = binary_cross_entropy_with_logits(logits, tasks.answers, reduction="none")
    return [float(loss) for loss in each.mean(dim=1)]


def rate(seed: int, settings: Settings) -> Iterator[Row]:
    """Constant learning rates, and those that give way where gradients conflict."""
    for size in settings.schedule_rates:
        for name in ("constant", "default"):
            schedule = conflict_aware_rate.SETTINGS[name]
            try:
                found = conflict_aware_rate.train(schedule, size, settings.schedule_steps, seed)
            except ValueError:  # gradients that are not finite are refused
                found = [np.nan] * 3
            names = ("loss_class", "loss_ink", "loss_image")
            yield {
                "solver": "UPGrad",
                "schedule": name,
                "rate": size,
                **dict(zip(names, found, strict=True)),
            }


def promise_table(rows: pd.DataFrame) -> pd.DataFrame:
    """By optimizer and rate."""
    own = rows[rows["part"] == "promise"]
    groups = own.groupby(["images", "optimizer", "rate", "solver"])
    return pd.DataFrame(
        {
            "between": groups["smallest_cosine_between"].median().round(2),
            "uphill_percent": groups["uphill_percent"].agg(common.spread, 0),
            "cosine_uphill": groups["mean_cosine_uphill"].agg(common.spread, 2),
            "given_back_percent": groups["given_back_percent"].agg(common.spread, 1),
            "loss": groups["loss"].agg(common.spread, 4),
        }
    )


def rate_table(rows: pd.DataFrame) -> pd.DataFrame:
    """By rate and schedule, on all images after training."""
    names = ["loss_class", "loss_ink", "loss_image"]
    own = rows[rows["part"] == "rate"]
    own = own.assign(loss_sum=own[names].sum(axis=1, skipna=False))
    groups = own.groupby(["rate", "schedule"])
    table = groups[[*names, "loss_sum"]].agg(common.spread, 3)
    table["diverged"] = groups["loss_sum"].agg(lambda losses: losses.isna().sum())
    return table


def draw(rows: pd.DataFrame, file: Path) -> None:
    """Steps uphill by optimizer, how much look-ahead and heavy ball give back."""
    plt.rcParams.update({"svg.fonttype": "none", "font.size": 9})
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    draw_uphill(rows[rows["part"] == "promise"], panels[0])
    draw_given_back(rows[rows["part"] == "promise"], panels[1])
    common.save(figure, file)


def draw_uphill(own: pd.DataFrame, axes: plt.Axes) -> None:
    """After surgery: how many steps point uphill for some task."""
    shown = [
        ("SGD", "UPGrad"), ("Nesterov", "UPGrad"), ("momentum", "UPGrad"),
        ("Adam, no momentum", "UPGrad"), ("Adam, no momentum", "Preconditioned(UPGrad)"),
        ("Adam", "UPGrad"), ("Adam", "Preconditioned(UPGrad)"),
    ]  # fmt: skip
    for place, (optimizer, solver) in enumerate(reversed(shown)):
        mine = own[(own["optimizer"] == optimizer) & (own["solver"] == solver)]
        if optimizer in ("momentum", "Nesterov"):
            mine = mine[mine["rate"] == 0.1]
        for images, color in (("all", BLUE), ("64", ORANGE)):
            values = mine.loc[mine["images"].astype(str) == images, "uphill_percent"]
            axes.plot(values, [place] * len(values), "o", color=color, ms=3, alpha=0.5)
            axes.plot(values.median(), place, "D", color=color, ms=6)
    labels = [name + (", in its metric" if "Pre" in solver else "") for name, solver in shown]
    axes.set_yticks(range(len(shown)), labels[::-1])
    axes.set(title="after UPGrad, which conflicts with no task", xlim=(-4, 104))
    axes.set_xlabel("steps uphill for some task, %")
    axes.grid(axis="y", alpha=0.25)
    for color, label in ((BLUE, "all images"), (ORANGE, "batches of 64")):
        axes.plot([], [], "D", color=color, label=label)
    axes.legend(frameon=False, loc="upper right")


def draw_given_back(own: pd.DataFrame, axes: plt.Axes) -> None:
    """Heavy ball against look-ahead over learning rates."""
    for optimizer, color in (("momentum", ORANGE), ("Nesterov", BLUE)):
        for images, line in (("all", "-"), ("64", "--")):
            mine = own[own["images"].astype(str).eq(images) & own["solver"].eq("UPGrad")]
            groups = mine[mine["optimizer"] == optimizer].groupby("rate")["given_back_percent"]
            middle = groups.median()
            axes.plot(middle.index, middle, line, color=color, marker="o", ms=4)
            axes.fill_between(
                middle.index, groups.min(), groups.max(), color=color, alpha=0.15, lw=0
            )
    for label, color in (("heavy ball", ORANGE), ("look-ahead", BLUE)):
        axes.plot([], [], color=color, label=label)
    for label, line in (("all images", "-"), ("batches of 64", "--")):
        axes.plot([], [], line, color=GRAY, label=label)
    axes.set(xscale="log", title="momentum 0.9 after UPGrad")
    axes.set(xlabel="learning rate", ylabel="of the tasks' gains given back, %", ylim=(-2, 102))
    axes.set_xticks([0.03, 0.1, 0.3, 1.0], ["0.03", "0.1", "0.3", "1"])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.07), fontsize=8)


if __name__ == "__main__":
    main()
