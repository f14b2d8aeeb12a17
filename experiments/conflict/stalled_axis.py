"""A projection that removes too much: an axis stalls, and the certificate shows it.

    python experiments/conflict/stalled_axis.py          # about a minute on one core
    python experiments/conflict/stalled_axis.py --quick  # a trial in a minute; writes nothing
    python experiments/conflict/stalled_axis.py --show   # tables and figures of written rows

Three clients train one softmax regression on real 8 x 8 digits (scikit-learn's), with all weights
shared. Two clients have digits 0 to 4, different images, and one has 5 to 9. Four rules turn their
gradients, on all images of the clients, into a direction for SGD or Adam. If each gradient is
projected off *all* others, it is in conflict with none, but the common part of the two similar
clients is lost. With a priority projection the third client makes no progress. The script reads at
every step the certificate (smallest cosine, stationarity gap) and the length of the direction
relative to the mean gradient. A weighted mean of the gradients is never shorter than the gap.

Writes `stalled_axis.csv` (a row per training) and `docs/where-conflict-appears/stalled_axis.svg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from common import BLUE, HERE, ORANGE, PAGES, Row
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, Optimizer

from paretonas.conflict import cosine_similarity
from paretonas.solvers import LinearScalarization, PriorityProjection, Solver, UPGrad
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem
from search_spaces.images import digits_8x8

Step = Callable[[list[Tensor]], Optimizer]


@dataclass(frozen=True, eq=False)
class OffAllOthers(WeightingSolver):
    """Aggressive on purpose: each gradient keeps only what no other has, then the mean.

    In conflict or not, a gradient is projected off the span of all others. The direction conflicts
    with nothing, since what is left of gradient i is orthogonal to every other gradient; and two
    gradients that agree lose what they agree on.
    """

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Least squares for each gradient, in the space of cosines."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        left = np.zeros_like(cosines)
        for i in range(problem.m):
            others = [j for j in range(problem.m) if j != i]
            pull = np.linalg.pinv(cosines[:, others][:, :, others], hermitian=True)
            left[:, i, others] = -np.vecmat(cosines[:, i, others], pull)
            left[:, i, i] = 1.0
        terms = (norms[..., None] * left).mean(-2)
        return Answer(terms / np.where(norms > 0, norms, 1.0), state=state)


PLAIN = "mean"  # the plain sum, as the rows call it
SOLVERS: dict[str, Callable[[], WeightingSolver]] = {
    PLAIN: LinearScalarization,
    "UPGrad": UPGrad,
    "PriorityProjection": PriorityProjection,
    "off all others": OffAllOthers,
}


STEPPED_BY: dict[str, Step] = {
    "SGD": lambda weights: SGD(weights, lr=0.1),
    "Adam": lambda weights: Adam(weights, lr=0.003),
}


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        seeds: how the images are dealt to the clients.
        steps: of each training.
        csv: where the rows go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    seeds: int = 5
    steps: int = 300
    csv: Path | None = HERE / "stalled_axis.csv"
    figure: Path | None = PAGES / "stalled_axis.svg"


QUICK = {"seeds": 1, "steps": 60}


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Train everything, print the table, and return the rows."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    (rows,) = common.written(show, lambda: [measure(settings)], settings.csv)
    print(table(rows).to_string())
    if settings.figure is not None:
        draw(rows, settings.figure)
    return rows


def measure(settings: Settings) -> pd.DataFrame:
    """A row per training."""
    return pd.DataFrame(
        row for seed in range(settings.seeds) for row in trained(seed, settings)
    ).round(5)


@dataclass(frozen=True, eq=False)
class Clients:
    """Three clients with different digits, one softmax regression.

    Attributes:
        inputs: (clients, images, 65) of each client, the last column 1.
        labels: (clients, images).
        asked: digits of the test split, (images, 65).
        answers: (images,).
    """

    inputs: Tensor
    labels: Tensor
    asked: Tensor
    answers: Tensor

    @classmethod
    def of(cls, seed: int) -> Clients:
        """Deal the training split: half of the low digits to each of the first two clients."""
        data = digits_8x8()
        generator = torch.Generator().manual_seed(seed)
        low = (data.train.labels < 5).nonzero().squeeze(1)
        high = (data.train.labels >= 5).nonzero().squeeze(1)
        low, high = (rows[torch.randperm(len(rows), generator=generator)] for rows in (low, high))
        count = len(low) // 2
        dealt = [low[:count], low[count : 2 * count], high[:count]]
        inputs = with_one(data.train.inputs)
        return cls(
            torch.stack([inputs[rows] for rows in dealt]),
            torch.stack([data.train.labels[rows] for rows in dealt]),
            with_one(data.test.inputs),
            data.test.labels,
        )

    def losses(self, weights: Tensor) -> list[Tensor]:
        """Cross-entropy of each client."""
        each = zip(self.inputs, self.labels, strict=True)
        return [cross_entropy(inputs @ weights, labels) for inputs, labels in each]

    def errors(self, weights: Tensor) -> tuple[float, float]:
        """Percent of wrong low and high digits of the test split."""
        wrong = ((self.asked @ weights).argmax(dim=1) != self.answers).double()
        low = self.answers < 5
        return 100 * float(wrong[low].mean()), 100 * float(wrong[~low].mean())


def with_one(images: Tensor) -> Tensor:
    """Pixels in float64 and a column of ones."""
    pixels = images.flatten(1).double()
    return torch.cat([pixels, torch.ones(len(pixels), 1, dtype=pixels.dtype)], dim=1)


def trained(seed: int, settings: Settings) -> Iterator[Row]:
    """The rules of projection, with what their certificates say."""
    for optimizer, make in STEPPED_BY.items():
        for name, solver in SOLVERS.items():
            seen = seen_in(Clients.of(seed), make, solver(), settings.steps)
            last = seen.iloc[-1]
            row = {
                "seed": seed,
                "optimizer": optimizer,
                "solver": name,
                "cosine_alike": seen["alike"].mean(),
                "cosine_unlike": seen["unlike"].mean(),
                "gap": seen["gap"].median(),
                "smallest_cosine": seen["smallest_cosine"].median(),
                "relative_length": seen["length"].median(),
                "error_low": last["error_low"],
                "error_high": last["error_high"],
            }
            yield row
        print(f"seed {seed}, {optimizer}", flush=True)


def seen_in(clients: Clients, make: Step, solver: Solver, steps: int) -> pd.DataFrame:
    """Train on all images of the clients: what is seen at each step."""
    weights = torch.nn.Parameter(torch.zeros(65, 10, dtype=torch.float64))
    optimizer = make([weights])
    rows = []
    for _ in range(steps):
        losses = clients.losses(weights)
        gradients = [torch.autograd.grad(loss, weights)[0].flatten() for loss in losses]
        jacobian = torch.stack(gradients)
        direction = solver(jacobian)
        certificate, angles = direction.certificate, cosine_similarity(jacobian)
        weights.grad = direction.vector.view_as(weights)
        optimizer.step()
        low, high = clients.errors(weights.detach())
        rows.append(
            {
                "alike": float(angles[0, 1]),
                "unlike": float(angles[0, 2]),
                "gap": float(certificate.stationarity_gap),
                "smallest_cosine": float(certificate.smallest_cosine),
                "length": float(direction.vector.norm() / jacobian.norm(dim=1).mean()),
                "error_low": low,
                "error_high": high,
            }
        )
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """By optimizer and solver."""
    groups = rows.groupby(["optimizer", "solver"], sort=False)
    digits = {"cosine_alike": 2, "cosine_unlike": 2, "gap": 3, "smallest_cosine": 3}
    digits |= {"relative_length": 3, "error_low": 1, "error_high": 1}
    return pd.DataFrame({name: groups[name].agg(common.spread, n) for name, n in digits.items()})


def draw(rows: pd.DataFrame, file: Path) -> None:
    """Errors on both halves of the digits, and what the certificate says."""
    plt.rcParams.update({"svg.fonttype": "none", "font.size": 9})
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained", sharey=True)
    names = list(dict.fromkeys(rows["solver"]))[::-1]
    for axes, optimizer in zip(panels, STEPPED_BY, strict=True):
        own = rows[rows["optimizer"] == optimizer]
        for place, name in enumerate(names):
            mine = own[own["solver"] == name]
            for column, color in (("error_low", BLUE), ("error_high", ORANGE)):
                axes.plot(mine[column], [place] * len(mine), "o", color=color, ms=3, alpha=0.5)
                axes.plot(mine[column].median(), place, "D", color=color, ms=6)
            seen = mine[["smallest_cosine", "relative_length", "gap"]].median().abs()
            note = "smallest cosine {:.2f}, length {:.2f}, gap {:.2f}".format(*seen)
            axes.annotate(note, (50, place + 0.2), ha="center", color="#666666", fontsize=8)
        axes.set(title=f"stepped by {optimizer}", xlabel="wrong digits, %")
        axes.set(xlim=(-4, 104), ylim=(-0.6, len(names) - 0.4))
        axes.grid(axis="y", alpha=0.25)
    panels[0].set_yticks(range(len(names)), names)
    for color, label in ((BLUE, "digits 0 to 4: two clients"), (ORANGE, "5 to 9: one client")):
        panels[0].plot([], [], "D", color=color, label=label)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    common.save(figure, file)


if __name__ == "__main__":
    main()
