"""One solver for the tasks on the weights and for tasks and operations on alpha.

    python experiments/conflict/weights_and_alpha.py          # about five minutes on one core
    python experiments/conflict/weights_and_alpha.py --quick  # a short trial; writes nothing
    python experiments/conflict/weights_and_alpha.py --show   # table and figure of written rows

A supernet of 36 architectures on 8 x 8 digits has two tasks: which digit, and how much slant. One
solver object gets the two task losses for the weights. The same object gets the two losses on other
images and the expected number of operations, which is exact, for alpha: `together` is the function
to read. The units are changed: the slant's loss ten times as large, operations thirty times. Tuned
weights are the best of nine for the sum, by the mean rank of inherited errors on `valid` and
operations. All 36 are trained fully to judge the picks: distance to the true front and mean cost,
with all three costs scaled to [0, 1] over the space.

Writes `weights_and_alpha.csv` and, in `docs/where-conflict-appears/`, `weights_and_alpha.svg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import common
import matplotlib.pyplot as plt
import moocore
import numpy as np
import pandas as pd
import torch
from adversarial import KeepFirst
from common import BLUE, GRAY, HERE, ORANGE, PAGES, TUNED, Row
from overlapped_digits import slants
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.flop_counter import FlopCounterMode

from paretonas import backward
from paretonas.conflict import Recorded, Recorder
from paretonas.data import Split
from paretonas.nn import Linear, OneOf, Supernet, Width
from paretonas.relaxation import one_hot_picks, picks_of, probabilities, sizes_of
from paretonas.solvers import LinearScalarization, NashMTL, PriorityProjection, Solver, UPGrad
from paretonas.space import Architecture, decode, every
from search_spaces.digits import Residual
from search_spaces.images import digits_8x8

PLAIN = "sum"  # as the rows call the plain sum
SOLVERS: dict[str, Callable[[], Solver]] = {
    PLAIN: LinearScalarization,
    "FirstInFull": KeepFirst,
    "PriorityProjection": PriorityProjection,
    "UPGrad": UPGrad,
    "NashMTL": NashMTL,
}
UNITS = {"as they are": (1.0, 1.0), "slant x 10": (10.0, 1.0), "operations x 30": (1.0, 30.0)}
LAST = 0.2  # temperature of alpha's softmax at the end; 1 at first


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        seeds: of networks and batches.
        steps: of weights and alpha together; the first third moves the weights alone.
        epochs: of training an architecture properly.
        grid: fixed weights of slant and operations that are tuned over.
        solvers: names in `SOLVERS`.
        csv: where the rows go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    seeds: int = 5
    steps: int = 150
    epochs: int = 6
    grid: tuple[float, ...] = (0.1, 1.0, 10.0)
    solvers: tuple[str, ...] = tuple(SOLVERS)
    csv: Path | None = HERE / "weights_and_alpha.csv"
    figure: Path | None = PAGES / "weights_and_alpha.svg"


QUICK = {"seeds": 1, "steps": 30, "epochs": 1, "grid": (1.0,)}


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Measure everything, print the table, and return the rows."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    (rows,) = common.written(show, lambda: [measure(settings)], settings.csv)
    print(joint_table(rows).to_string())
    if settings.figure is not None:
        draw(rows, settings.figure)
    return rows


def measure(settings: Settings) -> pd.DataFrame:
    """All rows, judged by the truth."""
    return judged(pd.DataFrame(searched(settings))).round(5)


def searched(settings: Settings) -> Iterator[Row]:
    """The truth, and what each method picks."""
    for seed in range(settings.seeds):
        yield from truth(seed, settings)
        for name, units in UNITS.items():
            for solver in settings.solvers:
                found = together(SOLVERS[solver](), units, seed, settings)
                yield {"part": "joint", "seed": seed, "units": name, "method": solver, **found}
        for units in product(settings.grid, repeat=2):  # for the sum, weights are units
            found = together(LinearScalarization(), units, seed, settings)
            label = "1 : {} : {}".format(*units)
            yield {"part": "grid", "seed": seed, "method": label, **found}
        print(f"seed {seed}", flush=True)


class TwoQuestions(nn.Module):
    """A residual perceptron with choices; ten outputs for the digit, one for the slant."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(8, 16, 32, 64)
        self.stem = nn.Sequential(nn.Flatten(), Linear(64, self.width), nn.ReLU())
        self.block1, self.block2 = self.block(), self.block()
        self.head = Linear(self.width, 11)

    def block(self) -> OneOf:
        """Nothing, a dense layer, or two through a narrow waist."""
        dense = nn.Sequential(Linear(self.width, self.width), nn.ReLU())
        waist = nn.Sequential(Linear(self.width, 4), nn.ReLU(), Linear(4, self.width))
        return OneOf({"skip": nn.Identity(), "waist": Residual(waist), "dense": Residual(dense)})

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.block2(self.block1(self.stem(x))))
        return y


def losses_of(outputs: Tensor, labels: Tensor, slant: Tensor) -> list[Tensor]:
    """Cross-entropy of the digit, mean square of the slant."""
    return [cross_entropy(outputs[:, :10], labels), mse_loss(outputs[:, 10], slant)]


def errors_of(outputs: Tensor, labels: Tensor, slant: Tensor) -> tuple[float, float]:
    """Percent of wrong digits; root mean square of the slant, in percent of its spread."""
    wrong = (outputs[:, :10].argmax(dim=1) != labels).double().mean()
    return 100 * float(wrong), 100 * float(mse_loss(outputs[:, 10], slant).sqrt())


def slant_of(inputs: Tensor) -> Tensor:
    """How far the ink leans, by second moments, in standard deviations over the training images."""
    mean, deviation = _moments()
    return (slants(inputs) - mean) / deviation


@cache
def _moments() -> tuple[float, float]:
    lean = slants(digits_8x8().train.inputs)
    return float(lean.mean()), float(lean.std())


def together(solver: Solver, units: tuple[float, float], seed: int, settings: Settings) -> Row:
    """One solver for the tasks on the weights, and for tasks and operations on alpha."""
    torch.manual_seed(seed)
    data = digits_8x8()
    supernet = Supernet(TwoQuestions())
    sizes = sizes_of(supernet.choices)
    cost, onehots = operations(supernet)
    cost = cost / cost.mean()
    alpha = nn.Parameter(torch.zeros(sum(sizes)))
    weights = list(supernet.parameters())
    by_weights, by_alpha = torch.optim.Adam(weights, 1e-2), torch.optim.Adam([alpha], 0.1)
    of_weights = of_alpha = None
    tasks_seen = Recorder(("digit", "slant"), every=10)
    all_seen = Recorder(("digit", "slant", "operations"), every=10)
    on_weights, on_alpha = Recorded(solver, tasks_seen), Recorded(solver, all_seen)  # one object

    def losses(split: Split, p: Tensor) -> list[Tensor]:
        rows = torch.randint(len(split), (64,))
        inputs, labels = split.inputs[rows], split.labels[rows]
        digit, slant = losses_of(supernet(inputs, p.split(sizes)), labels, slant_of(inputs))
        return [digit, units[0] * slant]

    for step in range(settings.steps):
        p = probabilities(alpha, sizes, LAST ** (step / settings.steps))
        by_weights.zero_grad()
        tasks = losses(data.train, p.detach())
        of_weights = backward(tasks, weights, solver=on_weights, state=of_weights).state
        by_weights.step()
        if step >= settings.steps // 3:
            by_alpha.zero_grad()
            all_three = [*losses(data.valid, p), units[1] * expected(p, cost, onehots, sizes)]
            heads = [[], [], []]  # the weights stay
            direction = backward(all_three, [alpha], solver=on_alpha, heads=heads, state=of_alpha)
            of_alpha = direction.state
            by_alpha.step()
    picks = picks_of(alpha.detach(), sizes)
    architecture = decode(supernet.choices, picks.tolist())
    p = probabilities(alpha.detach(), sizes, LAST)
    found: Row = {"architecture": str(architecture)}
    found["cosine_tasks"] = tasks_seen.frame()["cosine"].mean()
    pairs = all_seen.frame().groupby("pair", observed=True)["cosine"].mean()
    found["cosine_digit_operations"] = pairs.get("digit / operations", np.nan)
    found["decided"] = float(p[one_hot_picks(picks, sizes) > 0].min())
    for name, split in (("valid", data.valid), ("test", data.test)):
        with torch.no_grad():
            outputs = supernet(split.inputs, architecture)
        digit, slant = errors_of(outputs, split.labels, slant_of(split.inputs))
        found |= {f"digit_{name}": digit, f"slant_{name}": slant}
    return found


def operations(supernet: Supernet) -> tuple[Tensor, Tensor]:
    """Thousands of operations of each architecture (36,), and their picks in zeros and ones."""
    each = list(every(supernet.choices))
    sizes = sizes_of(supernet.choices)
    grid = torch.tensor(list(product(*(range(size) for size in sizes))))
    cost = torch.tensor([counted(supernet, architecture) for architecture in each])
    return cost, one_hot_picks(grid, sizes)


def expected(p: Tensor, cost: Tensor, onehots: Tensor, sizes: Sequence[int]) -> Tensor:
    """The mean cost of architectures drawn pick by pick, exactly: their likelihoods times cost."""
    taken = [part.sum(dim=1) for part in (p * onehots).split(list(sizes), dim=1)]
    return torch.stack(taken).prod(dim=0) @ cost


def counted(supernet: Supernet, architecture: Architecture) -> float:
    """Thousands of additions and multiplications for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        supernet.extract(architecture).eval()(torch.zeros(1, 1, 8, 8))
    return counter.get_total_flops() / 1e3


def truth(seed: int, settings: Settings) -> Iterator[Row]:
    """Every architecture trained properly, on both questions with the units taken out."""
    data = digits_8x8()
    torch.manual_seed(seed)
    space = Supernet(TwoQuestions())
    for architecture in every(space.choices):
        torch.manual_seed(seed)
        network = Supernet(TwoQuestions()).extract(architecture)
        steps = settings.epochs * (len(data.train) // 64)
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            rows = torch.randint(len(data.train), (64,))
            inputs, labels = data.train.inputs[rows], data.train.labels[rows]
            optimizer.zero_grad()
            sum(losses_of(network(inputs), labels, slant_of(inputs))).backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            outputs = network(data.test.inputs)
        digit, slant = errors_of(outputs, data.test.labels, slant_of(data.test.inputs))
        yield {
            "part": "truth", "seed": seed, "architecture": str(architecture), "digit_test": digit,
            "slant_test": slant, "kiloflops": counted(space, architecture),
        }  # fmt: skip


COSTS = ["digit_test", "slant_test", "kiloflops"]


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the tuned weights, and what each picked architecture is worth when trained properly."""
    known = rows[rows["part"] == "truth"].groupby("architecture")[COSTS].mean()
    scaled = (known - known.min()) / (known.max() - known.min())
    points = scaled.to_numpy()
    front = points[moocore.is_nondominated(points, keep_weakly=True)]
    picked = rows["part"].isin(["joint", "grid"])
    own = scaled.reindex(rows.loc[picked, "architecture"]).to_numpy()
    beyond = np.maximum(own[:, None] - front[None], 0.0)
    rows.loc[picked, "distance"] = np.sqrt((beyond**2).sum(-1)).min(1)
    rows.loc[picked, "regret"] = own.mean(1) - points.mean(1).min()
    rows.loc[picked, "true_digit"] = known.reindex(rows.loc[picked, "architecture"])[
        "digit_test"
    ].to_numpy()
    rows.loc[picked, "kiloflops"] = known.reindex(rows.loc[picked, "architecture"])[
        "kiloflops"
    ].to_numpy()
    # What someone who tunes sees: inherited errors on valid, and operations.
    grid = rows[rows["part"] == "grid"]
    seen = grid.groupby("seed")[["digit_valid", "slant_valid", "kiloflops"]].rank().mean(axis=1)
    best = rows.loc[seen.groupby(grid["seed"]).idxmin()]
    tuned = best.assign(part="joint", method=TUNED, units="as they are")
    return pd.concat([rows, tuned], ignore_index=True)


def joint_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What was picked with both at once, by method and units."""
    own = rows[rows["part"] == "joint"]
    groups = own.groupby(["method", "units"], sort=False)
    return pd.DataFrame(
        {
            "kiloflops": groups["kiloflops"].agg(common.spread, 2),
            "distance": groups["distance"].agg(common.spread, 2),
            "regret": groups["regret"].agg(common.spread, 2),
            "digit_test": groups["digit_test"].agg(common.spread, 1),
            "slant_test": groups["slant_test"].agg(common.spread, 0),
            "cosine_tasks": groups["cosine_tasks"].median().round(2),
            "cosine_operations": groups["cosine_digit_operations"].median().round(2),
            "decided": groups["decided"].median().round(2),
            "picked": groups["architecture"].agg(lambda picks: picks.mode().iloc[0]),
        }
    )


def draw(rows: pd.DataFrame, file: Path) -> None:
    """What other units do to the picked architecture, and how far it is from the true front."""
    plt.rcParams.update({"svg.fonttype": "none", "font.size": 9})
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained", sharey=True)
    own = rows[rows["part"] == "joint"]
    names = list(dict.fromkeys(own["method"]))[::-1]
    marks = {"as they are": ("o", GRAY), "slant x 10": ("^", ORANGE)}
    marks |= {"operations x 30": ("v", BLUE)}
    for axes, column in zip(panels, ("kiloflops", "regret"), strict=True):
        for place, name in enumerate(names):
            for shift, (units, (mark, color)) in zip((0.2, 0.0, -0.2), marks.items(), strict=True):
                values = own.loc[own["method"].eq(name) & own["units"].eq(units), column]
                axes.plot(values, [place + shift] * len(values), mark, color=color, ms=3, alpha=0.5)
                if len(values):
                    axes.plot(values.median(), place + shift, mark, color=color, ms=7)
        axes.grid(axis="y", alpha=0.25)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set(xscale="log", title="what the pick costs", ylim=(-0.5, len(names) - 0.5))
    panels[0].set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    panels[0].minorticks_off()
    panels[0].set_xlabel("operations of the picked network, thousands")
    panels[1].set(title="what the pick is worth", xlabel="mean scaled cost above the best of 36")
    for units, (mark, color) in marks.items():
        panels[0].plot([], [], mark, color=color, label=units)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    common.save(figure, file)


if __name__ == "__main__":
    main()
