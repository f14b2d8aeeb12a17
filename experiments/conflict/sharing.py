"""Hard or soft sharing: one encoder for two tasks, or two that a penalty keeps close.

    python experiments/conflict/sharing.py          # about 7 minutes on one core
    python experiments/conflict/sharing.py --quick  # a trial in half a minute; writes nothing
    python experiments/conflict/sharing.py --show   # tables and figures of written rows

Soft sharing trains a network for each task, from the same initial weights, and adds half the
squared distance between their encoders to the losses. The distance is a third objective: it is in
conflict with each task that needs different weights. Its weight leads from separate networks (0) to
one encoder (large). The weight is tuned on `valid`, or a solver gets the three losses.

There are two problems with few labels, where sharing may help. In the first, both digits of an
overlapped image (1,000 labels each) are at different places, so they need different features. In
the second, the digits of two collections, MNIST resized to 8 x 8 pixels (100 labels) and
scikit-learn's (50), need the same features. The heads of the perceptrons are linear and never
shared.

delta-m is the mean over tasks of how much larger the test error is than that of separate networks,
in percent of the latter. All trainings of a seed have the same initial weights, batches, steps and
learning rate, the best of three for separate networks on `valid`. `test` is only reported.

Writes `sharing.csv` (a row per training) and `docs/where-conflict-appears/sharing.svg`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import common
import matplotlib.pyplot as plt
import pandas as pd
import torch
from common import BLUE, GRAY, HERE, ORANGE, PAGES, PLAIN, SOLVERS, Make
from overlapped_digits import pairs
from torch import Tensor, nn
from torch.nn import functional

from paretonas import backward
from paretonas.conflict import Recorder
from paretonas.multitask import TaskGradients
from paretonas.solvers import (
    LinearScalarization,
)
from search_spaces.images import digits_8x8, mnist_5k

Split = tuple[Tensor, Tensor]  # images and their digits

SEPARATE, HARD, SOFT = "separate", "hard", "soft"
SOFT_TUNED = "soft, tuned weight"
PLACES, COLLECTIONS = "two places of one image", "two collections of digits"
COMPARED = (
    PLAIN, "RandomWeights", "GradNorm", "InverseMagnitude", "CAGrad", "IMTLG", "NashMTL", "UPGrad",
    "MGDA",
)  # fmt: skip


@dataclass(frozen=True)
class Settings(common.Trainings):
    """What is compared.

    Attributes:
        problems: of `PLACES` and `COLLECTIONS`.
        solvers: names in `SOLVERS`.
        weights: of the penalty, among which the fixed one is tuned.
        rates: learning rates to choose from.
        steps: of each training.
        batch: images per step and task.
        look_every: steps between two looks at gradients.
        csv: where the rows go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    problems: tuple[str, ...] = (PLACES, COLLECTIONS)
    solvers: tuple[str, ...] = COMPARED
    weights: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-8, 3))
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    steps: int = 400
    batch: int = 50
    look_every: int = 20
    csv: Path | None = HERE / "sharing.csv"
    figure: Path | None = PAGES / "sharing.svg"


QUICK = {"weights": (1e-2, 1.0), "rates": (3e-3,), "seeds": 1, "steps": 100}


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Train everything, and say what came out."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    (frame,) = common.written(show, lambda: [measure(settings)], settings.csv)
    for problem in dict.fromkeys(frame["problem"]):
        print(f"\n{problem}\n{summary(frame[frame['problem'] == problem]).to_string()}")
    if settings.figure is not None:
        draw(frame, settings.figure)
    return frame


def measure(settings: Settings) -> pd.DataFrame:
    """One row per training, and the tuned weight."""
    return judged(pd.DataFrame(trained(settings))).round(4)


def trained(settings: Settings) -> Iterator[dict[str, object]]:
    """One row per training."""
    for problem in settings.problems:
        rate = best_rate(problem, settings)
        print(f"{problem}: learning rate {rate:g}", flush=True)
        for seed in range(settings.seeds):
            for method, sharing, make, times in trainings(settings):
                found = train(problem, sharing, make, rate, seed, settings, times)
                yield {"problem": problem, "seed": seed, "method": method, **found}
            print(f"seed {seed} of {settings.seeds}", flush=True)


def best_rate(problem: str, settings: Settings) -> float:
    """The learning rate at which separate networks err least on `valid`."""
    if len(settings.rates) == 1:
        return settings.rates[0]
    plain = SOLVERS[PLAIN]
    found = [train(problem, SEPARATE, plain, rate, 0, settings) for rate in settings.rates]
    return common.best_of(settings.rates, [[row["valid_1"], row["valid_2"]] for row in found])


def trainings(settings: Settings) -> Iterator[tuple[str, str, Make, int]]:
    """What is trained from each seed: its name, the sharing, the solver, how wide."""
    plain = SOLVERS[PLAIN]
    yield SEPARATE, SEPARATE, plain, 1
    yield HARD, HARD, plain, 1
    yield "hard, twice as wide", HARD, plain, 2
    yield "hard, UPGrad", HARD, SOLVERS["UPGrad"], 1
    for weight in settings.weights:
        three = torch.tensor([1.0, 1.0, weight]) / (2 + weight)
        yield f"weight {weight:.3g}", SOFT, lambda _, w=three: LinearScalarization(w), 1
    for solver in settings.solvers:
        yield f"soft, {solver}", SOFT, SOLVERS[solver], 1


@cache
def data_of(problem: str) -> dict[str, list[Split]]:
    """The images and digits of both tasks, by split; few are labeled for training."""
    if problem == PLACES:
        made = {
            split: [(part.inputs, part.answers[task]) for task in ("left", "right")]
            for split, part in pairs().items()
        }
        made["train"] = [(images[:1000], digits[:1000]) for images, digits in made["train"]]
        return made
    made = {}
    for split in ("train", "valid", "test"):
        large, small = getattr(mnist_5k(), split), getattr(digits_8x8(), split)
        reduced = functional.avg_pool2d(large.inputs[:, :, 2:-2, 2:-2], 3)
        made[split] = [(reduced, large.labels), (small.inputs, small.labels)]
    for i, labels in enumerate((100, 50)):
        images, digits = (part[:labels] for part in made["train"][i])
        made["train"][i] = images, digits
        mean, deviation = images.mean(), images.std()
        for parts in made.values():
            parts[i] = (parts[i][0] - mean) / deviation, parts[i][1]
    return made


def encoder_of(problem: str, times: int) -> nn.Sequential:
    """A perceptron, so many times as wide."""
    pixels, hidden, features = (324, 64, 24) if problem == PLACES else (64, 32, 16)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, hidden * times),
        nn.ReLU(),
        nn.Linear(hidden * times, features * times),
        nn.ReLU(),
    )


def apart(one: nn.Module, other: nn.Module) -> Tensor:
    """Half the squared distance between two encoders."""
    each = zip(one.parameters(), other.parameters(), strict=True)
    return torch.stack([(p - q).square().sum() for p, q in each]).sum() / 2


def train(
    problem: str,
    sharing: str,
    make: Make,
    rate: float,
    seed: int,
    settings: Settings,
    times: int = 1,
) -> dict[str, float]:
    """Train for both tasks: their errors, the distance, and how the objectives got along."""
    data = data_of(problem)
    encoders = []
    for _ in range(1 if sharing == HARD else 2):
        torch.manual_seed(seed)  # both start from the same weights
        encoders.append(encoder_of(problem, times))
    heads = [nn.Linear(encoders[0][-2].out_features, 10) for _ in range(2)]
    shared = [p for encoder in encoders for p in encoder.parameters()]
    own = [list(head.parameters()) for head in heads]
    optimizer = torch.optim.Adam([*shared, *own[0], *own[1]], rate, fused=True)
    generator = torch.Generator().manual_seed(1000 + seed)
    solver, state = make(torch.Generator().manual_seed(seed)), None
    recorder = Recorder(("one", "two", "distance")[: 3 if sharing == SOFT else 2])
    for step in range(settings.steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / settings.steps)
        losses = []
        for i, (images, digits) in enumerate(data["train"]):
            rows = torch.randint(len(images), (settings.batch,), generator=generator)
            losses.append(
                functional.cross_entropy(
                    heads[i](encoders[i % len(encoders)](images[rows])), digits[rows]
                )
            )
        if sharing == SOFT:
            losses.append(apart(*encoders))
        if step % settings.look_every == 0:
            gradients = TaskGradients(shared, heads=[*own, []][: len(losses)])
            gradients.add(losses, retain_graph=True)
            recorder.record(gradients.rows, step=step)
        optimizer.zero_grad()
        direction = backward(
            losses, shared, heads=[*own, []][: len(losses)], solver=solver, state=state
        )
        state = direction.state
        optimizer.step()
    found: dict[str, float] = {}
    with torch.no_grad():
        for split, parts in data.items():
            for i, (images, digits) in enumerate(parts):
                guess = heads[i](encoders[i % len(encoders)](images)).argmax(dim=1)
                found[f"{split}_{i + 1}"] = 100 * float((guess != digits).float().mean())
        size = sum(float(p.square().sum()) for p in shared) / len(encoders)
        found["apart"] = (2 * float(apart(encoders[0], encoders[-1])) / size) ** 0.5
    seen = recorder.frame().groupby("pair", observed=True)["cosine"].mean()
    found["cosine_tasks"] = seen["one / two"]
    if sharing == SOFT:
        found["cosine_distance"] = (seen["one / distance"] + seen["two / distance"]) / 2
    return found


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Add delta-m against the mean errors of separate networks, and the tuned weight."""
    alone = frame[frame["method"] == SEPARATE]
    for split in ("valid", "test"):
        errors = [f"{split}_1", f"{split}_2"]
        frame[f"delta_m_{split}"] = common.delta_m(frame, alone, ["problem"], errors)
    grid = frame[frame["method"].str.startswith("weight ")]
    best = frame.loc[grid.groupby(["problem", "seed"])["delta_m_valid"].idxmin()]
    return pd.concat([frame, best.assign(method=SOFT_TUNED)], ignore_index=True)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One problem: delta-m and errors on test, medians over seeds; ranks in the mean errors."""
    rows = frame[~frame["method"].str.startswith("weight ")]
    groups = rows.groupby("method")
    delta = groups["delta_m_test"]
    table = pd.DataFrame({"delta_m": delta.median().round(1)})
    table["least to greatest"] = [
        f"{low:.1f} to {high:.1f}" for low, high in zip(delta.min(), delta.max(), strict=True)
    ]
    table = table.join(groups[["train_1", "train_2", "test_1", "test_2"]].median().round(1))
    ranks = groups[["test_1", "test_2"]].mean().rank()
    table["mean_rank"] = ranks.mean(axis=1).round(1)
    return table.join(
        groups[["apart", "cosine_tasks", "cosine_distance"]].median().round(2)
    ).sort_values("delta_m")


def draw(frame: pd.DataFrame, target: Path) -> None:
    """Draw delta-m against the weight of the penalty, and against the distance that came of it."""
    problems = list(dict.fromkeys(frame["problem"]))
    figure, panels = plt.subplots(
        2, len(problems), figsize=(11, 9), layout="constrained", squeeze=False
    )
    for (above, below), problem in zip(panels.T, problems, strict=True):
        rows = frame[frame["problem"] == problem]
        grid = rows[rows["method"].str.startswith("weight ")]
        weights = grid["method"].str.removeprefix("weight ").astype(float)
        delta = grid.groupby(weights)["delta_m_test"]
        above.plot(delta.median().index, delta.median(), "o-", color=BLUE, lw=2)
        above.fill_between(
            delta.median().index, delta.min(), delta.max(), color=BLUE, alpha=0.15, lw=0
        )
        middle = rows.groupby("method")[["delta_m_test", "apart"]].median()
        for method, color in ((SEPARATE, GRAY), (HARD, ORANGE)):
            level = middle.loc[method, "delta_m_test"]
            above.axhline(level, color=color, lw=1.5, ls="--")
            above.annotate(method, (weights.max(), level), ha="right", va="bottom", color=color)
        above.set_xscale("log")
        above.set(title=problem, xlabel="fixed weight of the distance", ylabel="delta-m on test, %")
        order = [m for m in middle.index if not m.startswith("weight ")]
        order.sort(key=lambda method: -middle.loc[method, "delta_m_test"])
        for place, method in enumerate(order):
            values = rows.loc[rows["method"] == method, "delta_m_test"]
            color = ORANGE if method.startswith("hard") else BLUE
            color = {SEPARATE: GRAY, SOFT_TUNED: "black"}.get(method, color)
            if values.median() > 100:
                below.annotate(
                    f"{values.median():.0f} >", (0.98, place), ha="right", va="center",
                    xycoords=("axes fraction", "data"), color=color,
                )  # fmt: skip
                continue
            below.plot([values.min(), values.max()], [place] * 2, color=color, lw=1.5, alpha=0.5)
            below.plot(values, [place] * len(values), "o", color=color, ms=3, alpha=0.5)
            below.plot(middle.loc[method, "delta_m_test"], place, "D", color=color, ms=6)
        below.axvline(0, color=GRAY, lw=1)
        below.set_yticks(range(len(order)), order)
        below.set_ylim(-0.6, len(order) - 0.4)
        below.grid(axis="y", alpha=0.25)
        below.set(xlabel=f"delta-m on test, %: median and range of {rows['seed'].nunique()} seeds")
    common.save(figure, target, salt="sharing")


if __name__ == "__main__":
    main()
