"""Does the conflict depend on the encoder? A perceptron, a convolutional and a recurrent one.

    python experiments/conflict/encoders.py          # about 7 minutes on one core
    python experiments/conflict/encoders.py --quick  # a trial in half a minute; writes nothing
    python experiments/conflict/encoders.py --show   # tables and figures of written rows

Encoders with about 8,000 weights and 16 features each get the same images of two overlapped digits,
the left one higher and the right one lower; two linear heads name them. A perceptron gets all
pixels at once, a small convolutional network gets neighborhoods, and a gated recurrent unit reads
two rows at a time, from the top or from the bottom.

`paretonas.conflict` measures the gradients of 500 training images, for the whole encoder and for
each layer. The methods are the plain sum, random weights, solvers, and weights tuned on `valid`
(the right digit's loss counts .3, 1 or 3 times). delta-m is the mean over tasks of how much larger
the test error is than that of the same encoder for this task alone, in percent of the latter. So
each encoder is compared with itself. All trainings of a seed and an encoder have the same initial
weights, batches and steps; each encoder has the best of three learning rates for single tasks on
`valid`. `test` is only reported.

Writes `encoders.csv` (a row per training), `encoders_layers.csv` (the angles, layer by layer) and
`docs/where-conflict-appears/encoders.svg`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from common import BLUE, GRAY, HERE, ORANGE, PAGES, PINK, PLAIN, SOLVERS, TUNED, Make
from overlapped_digits import pairs
from torch import Tensor, nn
from torch.nn import functional

from paretonas import backward
from paretonas.conflict import Layers, Recorder
from paretonas.multitask import TaskGradients

FEATURES = 16
ALONE = "single-task"
TASKS = ("left", "right")
METHODS = {
    name: SOLVERS[name]
    for name in (PLAIN, "RandomWeights", "InverseMagnitude", "UPGrad", "NashMTL")
}
WHOLE = "whole encoder"


def perceptron() -> nn.Module:
    """All pixels at once."""
    return chain(
        flat=nn.Flatten(),
        first=nn.Linear(324, 23),
        a=nn.ReLU(),
        last=nn.Linear(23, FEATURES),
        b=nn.ReLU(),
    )


def convolutional() -> nn.Module:
    """Neighborhoods, then their places."""
    return chain(
        first=nn.Conv2d(1, 8, 5, stride=2),  # 7 x 7
        a=nn.ReLU(),
        second=nn.Conv2d(8, 24, 3, stride=2),  # 3 x 3
        b=nn.ReLU(),
        flat=nn.Flatten(),
        third=nn.Linear(216, 26),
        c=nn.ReLU(),
        last=nn.Linear(26, FEATURES),
        d=nn.ReLU(),
    )


def chain(**layers: nn.Module) -> nn.Module:
    """The layers one after the other, under their names."""
    return nn.Sequential(OrderedDict(layers))


class Recurrent(nn.Module):
    """Two rows of pixels after the other; the features are made of the last state."""

    def __init__(self, upwards: bool = False) -> None:
        """Draw the weights."""
        super().__init__()
        self.upwards = upwards
        self.rows = nn.GRU(36, 35, batch_first=True)
        self.last = nn.Linear(35, FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        """Read from the top, or upwards."""
        states, _ = self.rows(self.read(images))
        return self.last(states[:, -1]).relu()

    def read(self, images: Tensor) -> Tensor:
        """Put two rows of pixels in each of nine places."""
        return (images.flip(2) if self.upwards else images).reshape(-1, 9, 36)


ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": perceptron,
    "convolutional": convolutional,
    "recurrent": Recurrent,
    "recurrent, upwards": lambda: Recurrent(upwards=True),
}


@dataclass(frozen=True)
class Settings(common.Trainings):
    """What is compared.

    Attributes:
        encoders: names in `ENCODERS`.
        methods: names in `METHODS`, `PLAIN` first.
        ratios: of the right digit's weight to the left one's, among which weights are tuned.
        steps: of each training.
        look_every: steps between two looks at gradients, under plain summation.
        csv, layers: where rows and angles by layer go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    encoders: tuple[str, ...] = tuple(ENCODERS)
    methods: tuple[str, ...] = tuple(METHODS)
    ratios: tuple[float, ...] = (0.3, 3.0)
    steps: int = 300
    look_every: int = 30
    csv: Path | None = HERE / "encoders.csv"
    layers: Path | None = HERE / "encoders_layers.csv"
    figure: Path | None = PAGES / "encoders.svg"


QUICK = {"methods": (PLAIN, "UPGrad"), "ratios": (0.3,), "rates": (1e-2,), "seeds": 1, "steps": 60}


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Train everything, and say what came out."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    frame, layers = common.written(show, lambda: measure(settings), settings.csv, settings.layers)
    for title, table in tables(frame, layers).items():
        print(f"\n{title}\n{table.to_string()}")
    if settings.figure is not None:
        draw(frame, layers, settings.figure)
    return frame


def measure(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per training; and one per look, layer and training by plain summation."""
    rows, looks = [], []
    for encoder in settings.encoders:
        rate = best_rate(encoder, settings)
        print(f"{encoder}: learning rate {rate:g}", flush=True)
        for seed in range(settings.seeds):
            for method, tasks, make in trainings(settings):
                about = {"encoder": encoder, "seed": seed, "method": method}
                recorder = Recorder(tasks) if method == PLAIN else None
                rows.append(about | train(encoder, tasks, make, rate, seed, settings, recorder))
                if recorder is not None:
                    whole = recorder.frame().assign(layer=WHOLE)
                    seen = pd.concat([whole, recorder.layer_frame()], ignore_index=True)
                    looks.append(seen.assign(layer=seen["layer"].astype(str), **about))
            print(f"seed {seed} of {settings.seeds}", flush=True)
    kept = ["encoder", "seed", "step", "layer", "cosine", "magnitude_similarity", "state"]
    return judged(pd.DataFrame(rows)).round(4), pd.concat(looks)[kept].round(4)


def best_rate(encoder: str, settings: Settings) -> float:
    """The learning rate at which this encoder has the smallest errors on `valid`, task by task."""
    if len(settings.rates) == 1:
        return settings.rates[0]
    errors = np.empty((len(settings.rates), len(TASKS)))
    for i, rate in enumerate(settings.rates):
        for j, task in enumerate(TASKS):
            found = train(encoder, (task,), METHODS[PLAIN], rate, 0, settings)
            errors[i, j] = found[f"valid_{task}"]
    return common.best_of(settings.rates, errors)


def trainings(settings: Settings) -> Iterator[tuple[str, tuple[str, ...], Make]]:
    """All trainings of one seed and encoder: method, tasks, solver."""
    for task in TASKS:
        yield ALONE, (task,), METHODS[PLAIN]
    for method in settings.methods:
        yield method, TASKS, METHODS[method]
    for ratio in settings.ratios:
        yield f"x {ratio:.3g}", TASKS, common.weighted(ratio)


def train(
    encoder: str,
    tasks: Sequence[str],
    make: Make,
    rate: float,
    seed: int,
    settings: Settings,
    recorder: Recorder | None = None,
) -> dict[str, float]:
    """Train one network; let the recorder look, if there is one. Errors on all splits."""
    data = pairs()
    train_inputs, train_answers = data["train"].inputs, data["train"].answers
    torch.manual_seed(seed)
    network = ENCODERS[encoder]()
    heads = [nn.Linear(FEATURES, 10) for _ in tasks]
    shared, own = list(network.parameters()), [list(head.parameters()) for head in heads]
    optimizer = torch.optim.Adam([*shared, *(p for head in own for p in head)], rate, fused=True)
    generator = torch.Generator().manual_seed(1000 + seed)
    solver, state = make(torch.Generator().manual_seed(seed)), None
    if recorder is not None:
        recorder.layers = Layers.of(network.named_parameters(), layer_of)

    def losses_of(rows: Tensor) -> list[Tensor]:
        features = network(train_inputs[rows])
        return [
            functional.cross_entropy(head(features), train_answers[task][rows])
            for task, head in zip(tasks, heads, strict=True)
        ]

    for step in range(settings.steps):
        if recorder is not None and step % settings.look_every == 0:
            gradients = TaskGradients(shared, heads=own)
            gradients.add(losses_of(torch.arange(500)))
            recorder.record(gradients.rows, step=step)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / settings.steps)
        rows = torch.randint(len(train_inputs), (settings.batch,), generator=generator)
        optimizer.zero_grad()
        direction = backward(losses_of(rows), shared, heads=own, solver=solver, state=state)
        state = direction.state
        optimizer.step()
    found = {}
    with torch.no_grad():
        for split, part in data.items():
            features = network(part.inputs)
            for task, head in zip(tasks, heads, strict=True):
                wrong = head(features).argmax(dim=1) != part.answers[task]
                found[f"{split}_{task}"] = 100 * float(wrong.float().mean())
    return found


def layer_of(parameter: str) -> str:
    """Name the layer of a parameter; of a gated unit, tell what comes in from what comes back."""
    for mark, name in (("_ih_", "input"), ("_hh_", "recurrent")):
        if mark in parameter:
            return name
    return parameter.partition(".")[0]


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Add delta-m against single tasks on the same encoder (means of errors), and tuned weights."""
    several = frame["method"] != ALONE
    for split in ("valid", "test"):
        errors = [f"{split}_{task}" for task in TASKS]
        found = common.delta_m(frame[several], frame[~several], ["encoder"], errors)
        frame.loc[several, f"delta_m_{split}"] = found
    grid = frame[frame["method"].str.startswith("x ") | frame["method"].eq(PLAIN)]
    best = frame.loc[grid.groupby(["encoder", "seed"])["delta_m_valid"].idxmin()]
    return pd.concat([frame, best.assign(method=TUNED)], ignore_index=True)


def tables(frame: pd.DataFrame, layers: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What the page shows."""
    errors = [f"{split}_{task}" for task in TASKS for split in ("train", "test")]
    plain = frame[frame["method"].isin([ALONE, PLAIN])]
    harm = plain.groupby(["encoder", "method"], sort=False)[errors].median()
    seen = layers[layers["layer"] == WHOLE]
    seen = seen.assign(in_conflict_percent=100.0 * (seen["state"] == "conflict"))
    told = ["cosine", "in_conflict_percent", "magnitude_similarity"]
    angles = seen.groupby(["encoder", "seed"], sort=False)[told].mean()
    angles = angles.groupby("encoder", sort=False).agg(["median", "min", "max"])
    by_layer = layers.groupby(["encoder", "layer"], sort=False)["cosine"].mean()
    shown = compared(frame)
    groups = shown.groupby(["method", "encoder"])
    delta = groups["delta_m_test"].agg(["median", "min", "max"]).round(1)
    cells = delta.apply(lambda row: f"{row['median']} ({row['min']} to {row['max']})", axis=1)
    cures = cells.unstack()[list(dict.fromkeys(frame["encoder"]))]
    ranks = groups[["test_left", "test_right"]].mean().unstack().rank()
    cures["mean_rank"] = ranks.mean(axis=1).round(1)
    both = groups[["test_left", "test_right"]].median().unstack()
    return {
        "Errors, percent; medians": harm.round(1),
        "Conflict under plain summation, over the looks of a training": angles.round(2),
        "Mean cosine by layer": by_layer.round(2).to_frame(),
        "delta-m on test: medians, least to greatest": cures.sort_values("mean_rank"),
        "Test errors: medians": both.round(1),
    }


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """The methods, without the grid of fixed weights."""
    return frame[frame["method"].ne(ALONE) & ~frame["method"].str.startswith("x ")]


def draw(frame: pd.DataFrame, layers: pd.DataFrame, target: Path) -> None:
    """Draw who loses what, the angle over the training and by layer, and the cures."""
    colors = dict(zip(ENCODERS, ("#555555", BLUE, ORANGE, PINK), strict=True))
    figure, ((harm, course), (cures, parts)) = plt.subplots(
        2, 2, figsize=(11, 8.6), layout="constrained"
    )
    names: list[str] = []
    methods = list(dict.fromkeys(compared(frame)["method"]))
    for k, (encoder, rows) in enumerate(frame.groupby("encoder", sort=False)):
        color = colors[str(encoder)]
        errors = rows.groupby("method")[["test_left", "test_right"]].median()
        for shift, task in ((-0.15, "left"), (0.15, "right")):
            before, after = errors.loc[[ALONE, PLAIN], f"test_{task}"]
            harm.annotate(
                "", (after, k + shift), (before, k + shift),
                arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2},
            )  # fmt: skip
            harm.annotate(f"  {task}", (after, k + shift), color=color, va="center")
            harm.plot([before, after], [k + shift] * 2, ".", color=color)
        own = layers[layers["encoder"] == encoder]
        cosine = own[own["layer"] == WHOLE].groupby("step")["cosine"]
        middle = cosine.median()
        course.plot(middle.index, middle, color=color, lw=2, label=encoder)
        course.fill_between(middle.index, cosine.min(), cosine.max(), color=color, alpha=0.1, lw=0)
        for layer, values in own[own["layer"] != WHOLE].groupby("layer", sort=False)["cosine"]:
            parts.barh(len(names), values.mean(), color=color)
            names.append(str(layer))
        for place, method in enumerate(methods):
            values = rows.loc[rows["method"] == method, "delta_m_test"]
            at = place + 0.18 * (k - 1.5)
            cures.plot([values.min(), values.max()], [at, at], color=color, lw=1.5, alpha=0.5)
            cures.plot(values.median(), at, "D", color=color, ms=5)
    harm.set_yticks(range(len(colors)), colors)
    harm.set(title="From a network for each digit to a shared one", xlabel="wrong on test, %")
    harm.set(ylim=(len(colors) - 0.5, -0.5), xlim=(0, None))
    course.axhline(0, color=GRAY, lw=1)
    course.legend(frameon=False)
    course.set(title="Plain sum: median and range", xlabel="step")
    course.set_ylabel("cosine between the gradients")
    cures.axvline(0, color=GRAY, lw=1)
    cures.set_yticks(range(len(methods)), methods)
    cures.invert_yaxis()
    seeds = frame["seed"].nunique()
    cures.set(title=f"Cures: median and range of {seeds} seeds", xlabel="delta-m on test, %")
    parts.axvline(0, color=GRAY, lw=1)
    parts.set_yticks(range(len(names)), names)
    parts.invert_yaxis()
    parts.set(title="Plain sum, by layer, from the pixels down", xlabel="mean cosine")
    common.save(figure, target, salt="encoders")


if __name__ == "__main__":
    main()
