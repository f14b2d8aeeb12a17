"""How Adam changes a non-conflicting direction, and how to prevent it.

    python experiments/conflict/adam_and_surgery.py

There are three yes-or-no questions about real digits (scikit-learn's, 8 x 8): is the digit even, is
it at least 5, does it have a loop? One logistic regression answers them with the *same* 65 weights,
so the tasks must conflict. A solver finds a non-conflicting direction, and the optimizer makes a
step of it. The script counts uphill steps, which raise the loss of some task to first order: the
largest cosine between the step and a task's gradient on the same images is above 1e-6.

- Stochastic gradient descent keeps the solver's guarantee, as it must.
- Adam without momentum breaks it, because it divides each entry. `Preconditioned` restores it. It
  uses the divisor of the step before, which changes fast at first; so the first steps are shown
  separately.
- Adam with momentum adds old directions to the step. On all images these are close to the current
  direction, and the metric is enough. On minibatches they belong to other images, and no metric
  helps. An uphill step on a batch may still lower the loss on average; see the last column.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import SGD, Adam, Optimizer

from paretonas.solvers.base import WeightingSolver
from paretonas.solvers.dual_cone import UPGrad
from paretonas.solvers.mgda import MGDA
from paretonas.solvers.preconditioned import Preconditioned, divisor_of

UPHILL = 1e-6  # cosine above which a step counts as uphill: the solvers' own bound
Make = Callable[[list[Tensor]], Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda weights: SGD(weights, lr=0.5),
    "Adam, no momentum": lambda weights: Adam(weights, lr=0.01, betas=(0.0, 0.999)),
    "Adam": lambda weights: Adam(weights, lr=0.01),
}


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        seeds: starts, and draws of batches.
        steps: of each training.
        first: steps shown apart.
        batches: images per step; None is all of them.
        solvers: the inner ones.
    """

    seeds: int = 3
    steps: int = 300
    first: int = 10
    batches: tuple[int | None, ...] = (None, 64)
    solvers: tuple[type[WeightingSolver], ...] = (UPGrad, MGDA)


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Measure, print and return the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    torch.set_num_threads(1)
    table = summary(measure(settings or Settings()))
    with pd.option_context("display.width", 200, "display.max_columns", None):
        print(table.to_string(float_format=lambda number: f"{number:.3f}"))
    return table


def measure(settings: Settings) -> pd.DataFrame:
    """One row per training."""
    tasks = Tasks()
    rows = []
    for batch in settings.batches:
        for name, make in OPTIMIZERS.items():
            for inner in settings.solvers:
                for in_metric in (False, True) if name != "SGD" else (False,):
                    for seed in range(settings.seeds):
                        cosines, loss = train(
                            tasks, make, inner(), in_metric, batch, seed, settings
                        )
                        uphill = cosines > UPHILL
                        rows.append(
                            {
                                "images": batch or "all",
                                "optimizer": name,
                                "solver": f"Preconditioned({inner.__name__})"
                                if in_metric
                                else inner.__name__,
                                "uphill first %": 100 * uphill[: settings.first].mean(),
                                "uphill later %": 100 * uphill[settings.first :].mean(),
                                "worst cosine later": cosines[settings.first :].max(),
                                "mean cosine uphill": cosines[uphill].mean() if any(uphill) else 0,
                                "mean loss": loss,
                            }
                        )
    return pd.DataFrame(rows)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, and the worst of the worst."""
    groups = frame.groupby(["images", "optimizer", "solver"], sort=False)
    table = groups.mean()
    table["worst cosine later"] = groups["worst cosine later"].max()
    return table


class Tasks:
    """Three questions about digits, one logistic regression.

    Attributes:
        inputs: (images, 65), the last column 1.
        answers: (3, images), 0 or 1.
    """

    def __init__(self) -> None:
        digits = load_digits()
        pixels = torch.from_numpy(digits.data / 16.0)
        self.inputs = torch.cat([pixels, torch.ones(len(pixels), 1, dtype=pixels.dtype)], dim=1)
        label = torch.from_numpy(digits.target)
        loop = torch.isin(label, torch.tensor([0, 6, 8, 9]))
        self.answers = torch.stack([label % 2 == 0, label >= 5, loop]).double()

    def jacobian(self, weights: Tensor, images: Tensor) -> Tensor:
        """Gradients (3, 65) of the three mean losses."""
        inputs = self.inputs[images]
        wrong = torch.sigmoid(inputs @ weights) - self.answers[:, images]
        return wrong @ inputs / len(images)

    def loss(self, weights: Tensor) -> float:
        """Mean loss over tasks and images."""
        logits = (self.inputs @ weights).expand_as(self.answers)
        return float(binary_cross_entropy_with_logits(logits, self.answers))


def train(
    tasks: Tasks,
    make: Make,
    inner: WeightingSolver,
    in_metric: bool,
    batch: int | None,
    seed: int,
    settings: Settings,
) -> tuple[np.ndarray, float]:
    """Return for each step its largest cosine with a gradient, and the loss in the end."""
    generator = torch.Generator().manual_seed(seed)
    images = len(tasks.inputs)
    start = 0.1 * torch.randn(tasks.inputs.shape[1], generator=generator, dtype=torch.float64)
    weights = torch.nn.Parameter(start)
    optimizer = make([weights])
    solver = Preconditioned(inner, lambda: divisor_of(optimizer, [weights])) if in_metric else inner
    largest = []
    for _ in range(settings.steps):
        if batch is None:
            drawn = torch.arange(images)
        else:
            drawn = torch.randint(images, (batch,), generator=generator)
        before = weights.detach().clone()
        jacobian = tasks.jacobian(before, drawn)
        weights.grad = solver(jacobian).vector
        optimizer.step()
        step = weights.detach() - before
        cosines = torch.cosine_similarity(jacobian, step.unsqueeze(0))
        largest.append(float(cosines.max()))
    return np.array(largest), tasks.loss(weights.detach())


if __name__ == "__main__":
    main()
