"""A generator with two losses: fool the critic, and something else. Where is the conflict?

    python experiments/conflict/adversarial.py          # about a quarter of an hour on one core
    python experiments/conflict/adversarial.py --quick  # a trial in a minute; writes nothing
    python experiments/conflict/adversarial.py --show   # tables and figures of written rows

Real digits (MNIST, 14 x 14), perceptrons for generator and critic. Beside the adversarial loss,
the generator gets one of these:

- "completion": reconstruction. The generator gets the upper half of a digit and draws the lower
  half, as in pix2pix. The mean absolute error leads to the blurred mean of all digits that fit, the
  critic to one realistic digit.
- "classes": the critic's auxiliary classification, as in AC-GAN. The generator gets the digit to
  draw as an input.
- "feature matching": the mean features of a batch of generated digits, in a trained network, must
  equal those of real ones.
- "perceptual mean": each generated digit must have the mean features of real digits. This is
  feature matching plus the variance of the features, so it is smallest if all digits are the same.

Both feature losses are in units of the variance of real digits, so the perceptual mean loss of real
digits is 1. All methods get the same initial weights, batches, steps of Adam and training of the
critic. All seeds are trained at once, in tensors with a leading dimension: a solver that gets (r,
m, n) solves each seed's problem separately.

The measures compare 1,000 generated digits with 1,000 real ones of `test`, with a classifier that
no loss uses: the Frechet distance of its features; coverage, the share of real digits with a
generated one in their neighborhood; precision, the share of generated digits in the neighborhood of
a real one; spread, the mean distance between two generated digits relative to real ones (with
"classes", of one class); classes, the effective number of digits drawn; wrong, the percent of
digits that are not classified as they should be; pixels, the mean absolute error of the lower half
in percent.

Writes `adversarial.csv` (a row per training), `adversarial_digits.csv` (some generated digits) and
`docs/where-conflict-appears/adversarial.png`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from common import BLUE, GRAY, GREEN, HERE, ORANGE, PAGES, PINK, SKY, YELLOW
from torch import Tensor, nn
from torch.nn import functional

from paretonas.conflict import cosine_similarity, magnitude_similarity
from paretonas.data import Split
from paretonas.gradients.differentiate import differentiate
from paretonas.gradients.flatten import flatten, unflatten
from paretonas.solvers import (
    MGDA,
    LinearScalarization,
    NashMTL,
    PriorityProjection,
    RandomWeights,
    Solver,
    UPGrad,
)
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem
from search_spaces.images import mnist_5k

PIXELS, HALF, NOISE = 14 * 14, 14 * 7, 16
PLAIN = "sum"  # as the rows call the plain sum
RANDOM, REAL = "random weights", "real digits"
ADVERSARY, ALONE = "adversary alone", "other loss alone"


@dataclass(frozen=True, eq=False)
class KeepFirst(WeightingSolver):
    """Follow the first gradient whole, and the second as far as it does the first no harm.

    PriorityProjection lets the second loss do no more than veto; here it pulls too, with what is
    left of its gradient at right angles to the first, if they conflict. So does each further one.
    """

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Weigh the others by 1, and the first by 1 and what they take from it."""
        lengths, cosines = problem.gram.norms, problem.gram.cosines[:, 0]
        weights = np.ones(lengths.shape)
        own = np.where(lengths[:, 0] > 0, lengths[:, 0], 1.0)
        weights[:, 0] += (np.maximum(-cosines, 0.0) * lengths).sum(axis=1) / own
        return Answer(weights, state=state)


@dataclass(frozen=True)
class Method:
    """A solver, and whether it gets the adversarial loss first."""

    solver: Solver
    adversary_first: bool = False


def fixed(ratio: float) -> Method:
    """Weights in this ratio, other loss to adversarial one."""
    return Method(LinearScalarization(torch.tensor([ratio, 1.0]) / (1 + ratio)))


METHODS = {
    PLAIN: fixed(1.0),
    "UPGrad": Method(UPGrad()),
    "MGDA": Method(MGDA()),
    "NashMTL": Method(NashMTL()),
    "PriorityProjection": Method(PriorityProjection()),
    "PriorityProjection, adversary first": Method(PriorityProjection(), adversary_first=True),
    "KeepFirst": Method(KeepFirst()),
    "KeepFirst, adversary first": Method(KeepFirst(), adversary_first=True),
}


def named(name: str) -> Method:
    """A method by its name in the tables."""
    if name in METHODS:
        return METHODS[name]
    if name == RANDOM:  # a new generator: a used one would go on from problem to problem
        return Method(RandomWeights(torch.Generator().manual_seed(0)))
    if name.startswith("weights"):
        return fixed(float(name.split()[1]))
    return fixed({ADVERSARY: 1e-9, ALONE: 1e9}[name])


COMPARED = {  # problem: what is tried on it
    "completion": (
        ALONE, PLAIN, *(f"weights {ratio} : 1" for ratio in (3, 10, 30, 100)), RANDOM, "UPGrad",
        "MGDA", "NashMTL", "PriorityProjection", "PriorityProjection, adversary first", "KeepFirst",
    ),
    "feature matching": (
        ADVERSARY, PLAIN, *(f"weights {ratio} : 1" for ratio in (0.1, 10)), RANDOM, "UPGrad",
        "NashMTL", "PriorityProjection, adversary first",
    ),
    "perceptual mean": (
        PLAIN, *(f"weights {ratio} : 1" for ratio in (0.01, 0.1)), RANDOM, "UPGrad", "NashMTL",
        "PriorityProjection, adversary first", "KeepFirst, adversary first",
    ),
    "classes": (
        ADVERSARY, PLAIN, *(f"weights {ratio} : 1" for ratio in (0.1, 0.3)), RANDOM, "UPGrad",
        "NashMTL", "PriorityProjection, adversary first", "KeepFirst, adversary first",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        compared: for each problem, names of methods; see `named`.
        seeds: how many.
        steps: of each training.
        batch: digits per step.
        rate: learning rate of generator and critic.
        jitter: deviation of the noise on all that the critic sees, which keeps it from learning
            single digits by heart.
        look_every: steps between two looks at the angle.
        folder: where the rows go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    compared: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: COMPARED)
    seeds: int = 5
    steps: int = 500
    batch: int = 64
    rate: float = 2e-3
    jitter: float = 0.4
    look_every: int = 20
    folder: Path | None = HERE
    figure: Path | None = PAGES / "adversarial.png"


QUICK = {"seeds": 1, "steps": 30}


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Train everything, say what came out, and return a row per training."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    names = ("adversarial", "adversarial_digits")
    if show:
        frames = [pd.read_csv(settings.folder / f"{name}.csv") for name in names]
        report(*frames, settings)
        return frames[0]
    rows, pictures = [real_digits()], [picture(digits()["test"].inputs, REAL, REAL)]
    for problem, methods in settings.compared.items():
        for name in methods:
            found, drawn = train(problem, named(name), settings)
            rows.append(found.assign(problem=problem, method=name))
            pictures.append(picture(drawn[0], problem, name))
            print(f"{problem}, {name}", flush=True)
            frames = [pd.concat(parts, ignore_index=True).round(4) for parts in (rows, pictures)]
            if settings.folder is not None:
                for file, frame in zip(names, frames, strict=True):
                    frame.to_csv(settings.folder / f"{file}.csv", index=False)
    report(*frames, settings)
    return frames[0]


def train(problem: str, method: Method, settings: Settings) -> tuple[pd.DataFrame, Tensor]:
    """Train one generator per seed: its measures and its conflict; digits that it draws."""
    seeds = range(settings.seeds)
    told = {"completion": HALF, "classes": 10}.get(problem, 0)
    generator = Stack(seeds, (told + NOISE, 128, 128, HALF if problem == "completion" else PIXELS))
    critic = Stack([100 + s for s in seeds], (PIXELS, 128, 64, 11 if problem == "classes" else 1))
    drawing, judging = (
        torch.optim.Adam(stack.parameters(), settings.rate, betas=(0.5, 0.99))
        for stack in (generator, critic)
    )
    parameters, cosines, alike = list(generator.parameters()), [], []
    for step, batch in zip(
        range(settings.steps), batches(digits()["train"], settings), strict=False
    ):
        real, labels, noise, jitter = batch
        drawn = draw(problem, generator, real, labels, noise)
        judging.zero_grad()
        critic_loss(critic, real + jitter, drawn.detach() + jitter, labels).sum().backward()
        judging.step()

        judged = critic(drawn + jitter)
        losses = [other_loss(problem, judged, drawn, real, labels), fooled(judged)]
        if method.adversary_first:
            losses = losses[::-1]
        by_loss, _ = differentiate([loss.sum() for loss in losses], parameters)
        flat = [flatten(row, parameters, (len(seeds),)) for row in by_loss]
        rows = torch.stack(flat, dim=-2)
        if step % settings.look_every == 0:
            cosines.append(cosine_similarity(rows)[:, 0, 1])
            alike.append(magnitude_similarity(rows)[:, 0, 1])
        values = torch.stack(losses, dim=-1).detach()
        vector = method.solver(rows, values).vector
        for parameter, gradient in zip(parameters, unflatten(vector, parameters), strict=True):
            parameter.grad = gradient
        drawing.step()
    found = pd.DataFrame({"seed": list(seeds)})
    seen = torch.stack(cosines)
    found["cosine"] = seen.mean(0).numpy()
    found["in_conflict_percent"] = 100 * (seen < -0.05).double().mean(0).numpy()
    found["magnitude_similarity"] = torch.stack(alike).mean(0).numpy()
    test = digits()["test"]
    images = test.inputs.expand(len(seeds), -1, -1)
    labels = test.labels.expand(len(seeds), -1)
    noise = torch.randn(len(test), NOISE, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        made = draw(problem, generator, images, labels, noise.expand(len(seeds), -1, -1))
    asked = test.labels if problem in ("completion", "classes") else None
    measured = pd.DataFrame([measures(one, asked, within=problem == "classes") for one in made])
    if problem == "completion":
        measured["pixels"] = 100 * (made - images)[..., HALF:].abs().mean((1, 2)).double().numpy()
    found = pd.concat([found, measured], axis=1)
    return found, made


def draw(problem: str, generator: Stack, real: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
    """Digits (r, k, 196) with gray values in [0, 1], from noise and what the generator is told."""
    if problem == "completion":
        upper = real[..., :HALF]
        lower = generator(torch.cat([upper, noise], dim=-1)).sigmoid()
        return torch.cat([upper, lower], dim=-1)
    if problem == "classes":
        noise = torch.cat([functional.one_hot(labels, 10).float(), noise], dim=-1)
    return generator(noise).sigmoid()


def other_loss(problem: str, judged: Tensor, drawn: Tensor, real: Tensor, labels: Tensor) -> Tensor:
    """What the generator is asked beside fooling the critic, (r,)."""
    if problem == "completion":
        return (drawn - real)[..., HALF:].abs().mean((1, 2))
    if problem == "classes":
        return classified(judged, labels)
    features = perceived(drawn)
    if problem == "feature matching":
        return features.mean(1).square().mean(1)
    return features.square().mean((1, 2))


def fooled(outputs: Tensor) -> Tensor:
    """The generator's adversarial loss, not saturating, (r,)."""
    return functional.softplus(-outputs[..., 0]).mean(1)


def classified(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the critic's classes, (r,)."""
    losses = functional.cross_entropy(
        outputs[..., 1:].flatten(0, 1), labels.flatten(), reduction="none"
    )
    return losses.view(labels.shape).mean(1)


def critic_loss(critic: Stack, real: Tensor, drawn: Tensor, labels: Tensor) -> Tensor:
    """Tell real from drawn digits; where it has classes, name those of both, (r,)."""
    of_real, of_drawn = critic(real), critic(drawn)
    loss = (functional.softplus(-of_real) + functional.softplus(of_drawn))[..., 0].mean(1)
    if of_real.shape[-1] > 1:
        loss = loss + classified(of_real, labels) + classified(of_drawn, labels)
    return loss


class Stack(nn.Module):
    """r perceptrons side by side."""

    def __init__(self, seeds: Sequence[int], widths: Sequence[int]) -> None:
        """Draw the weights of each seed as `nn.Linear` does."""
        super().__init__()
        sources = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in pairwise(widths):
            drawn = torch.stack([torch.rand(inputs, outputs, generator=s) for s in sources])
            self.weights.append(nn.Parameter((2 * drawn - 1) / inputs**0.5))
            self.biases.append(nn.Parameter(torch.zeros(len(seeds), 1, outputs)))

    def forward(self, inputs: Tensor) -> Tensor:
        """From (r, k, inputs) to (r, k, outputs)."""
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if k:
                inputs = functional.leaky_relu(inputs, 0.2)
            inputs = torch.baddbmm(bias, inputs, weight)
        return inputs


def batches(split: Split, settings: Settings) -> Iterator[tuple[Tensor, ...]]:
    """Digits, labels, noise to draw from, noise on what the critic sees: for each seed its own."""
    sources = [torch.Generator().manual_seed(1000 + seed) for seed in range(settings.seeds)]
    size = settings.batch
    while True:
        rows = torch.stack([torch.randint(len(split), (size,), generator=s) for s in sources])
        noise = torch.stack([torch.randn(size, NOISE + PIXELS, generator=s) for s in sources])
        given, seen = noise.split([NOISE, PIXELS], dim=-1)
        yield split.inputs[rows], split.labels[rows], given, settings.jitter * seen


@cache
def digits() -> dict[str, Split]:
    """The three splits: (k, 196), gray values in [0, 1]."""
    data, made = mnist_5k(), {}
    for name in ("train", "valid", "test"):
        split = getattr(data, name)
        gray = functional.avg_pool2d(0.31 * split.inputs + 0.13, 2)
        made[name] = Split(gray.flatten(1).clamp(0, 1), split.labels)
    return made


class Classifier(nn.Module):
    """Ten classes from 32 bounded features."""

    def __init__(self, features: nn.Module) -> None:
        """Put classes on top."""
        super().__init__()
        self.features, self.classes = features, nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of ten classes."""
        return self.classes(self.features(inputs))


def convolutions() -> nn.Module:
    """The features that measure."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 14, 14)),
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(144, 32), nn.Tanh(),
    )  # fmt: skip


def perceptron() -> nn.Module:
    """The features that are matched."""
    return nn.Sequential(nn.Linear(PIXELS, 64), nn.ReLU(), nn.Linear(64, 32), nn.Tanh())


@cache
def classifier(features: Callable[[], nn.Module], steps: int = 600) -> Classifier:
    """One trained on real digits."""
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        network, train = Classifier(features()), digits()["train"]
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
            rows = torch.randint(len(train), (64,))
            optimizer.zero_grad()
            functional.cross_entropy(network(train.inputs[rows]), train.labels[rows]).backward()
            optimizer.step()
    return network.requires_grad_(False)


def perceived(drawn: Tensor) -> Tensor:
    """Features (r, k, 32) of which real digits have mean 0 and variance 1."""
    mean, deviation = real_moments()
    features = classifier(perceptron).features(drawn.flatten(0, 1))
    return ((features - mean) / deviation).unflatten(0, drawn.shape[:2])


@cache
def real_moments() -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the features of real digits."""
    features = classifier(perceptron).features(digits()["train"].inputs)
    return features.mean(0), features.std(0, correction=0)


@torch.no_grad()
def measures(drawn: Tensor, asked: Tensor | None, within: bool = False) -> dict[str, float]:
    """How real and how diverse (k, 196) digits are, against those of `test`."""
    judge, real = classifier(convolutions), digits()["test"]
    own, theirs = judge.features(drawn), judge.features(real.inputs)
    named = judge(drawn).argmax(1)
    share = torch.bincount(named, minlength=10) / len(named)
    precision, coverage = neighborhoods(own, theirs)
    groups = asked if within and asked is not None else torch.zeros(len(own), dtype=torch.long)
    real_groups = real.labels if within else torch.zeros(len(theirs), dtype=torch.long)
    found = {
        "frechet": frechet(own, theirs),
        "precision": precision,
        "coverage": coverage,
        "spread": spread(drawn, groups) / spread(real.inputs, real_groups),
        "classes": float(torch.special.entr(share).sum().exp()),
    }
    if asked is not None:
        found["wrong"] = 100 * float((named != asked).float().mean())
    return found


def neighborhoods(own: Tensor, real: Tensor, nearest: int = 5) -> tuple[float, float]:
    """Precision and coverage: a neighborhood reaches to the 5th nearest other real point."""
    radius = torch.cdist(real, real).kthvalue(nearest + 1, dim=1).values  # itself is the first
    inside = torch.cdist(real, own) <= radius[:, None]
    return float(inside.any(0).float().mean()), float(inside.any(1).float().mean())


def frechet(one: Tensor, other: Tensor) -> float:
    """Frechet distance between two normal distributions with these points' moments."""
    one, other = one.double(), other.double()
    first, second = one.T.cov(), other.T.cov()
    cross = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    apart = (one.mean(0) - other.mean(0)).square().sum()
    return float(apart + first.trace() + second.trace() - 2 * cross)


def spread(points: Tensor, groups: Tensor) -> float:
    """Mean distance between two points of a group, in the mean of groups."""
    parts = [points[groups == group] for group in groups.unique()]
    return float(torch.stack([torch.pdist(part).mean() for part in parts]).mean())


def real_digits() -> pd.DataFrame:
    """What real digits of one split are worth against those of another."""
    valid = digits()["valid"]
    found = measures(valid.inputs, valid.labels)
    return pd.DataFrame([{"problem": REAL, "method": REAL, "seed": 0, **found}])


def picture(drawn: Tensor, problem: str, method: str) -> pd.DataFrame:
    """One drawing for each class of `test`, its gray values as hexadecimal digits."""
    labels = digits()["test"].labels
    first = [int((labels == c).nonzero()[0]) for c in range(10)]
    codes = ["".join(f"{int(v):x}" for v in (15 * drawn[k]).round()) for k in first]
    about = {"problem": problem, "method": method}
    return pd.DataFrame({**about, "digit": range(10), "pixels": codes})


def report(frame: pd.DataFrame, pictures: pd.DataFrame, settings: Settings) -> None:
    """Print the tables and draw the figure."""
    with pd.option_context("display.width", 200, "display.max_columns", None):
        for problem, own in frame.groupby("problem", sort=False):
            print(f"\n{problem}\n{summary(own).to_string()}")
        print(f"\nconflict in the sum's trainings\n{conflict(frame).to_string()}")
    if settings.figure is not None:
        draw_all(frame, pictures, settings.figure)


SHOWN = ("pixels", "frechet", "coverage", "precision", "spread", "classes", "wrong")


def summary(own: pd.DataFrame) -> pd.DataFrame:
    """Measures on test: medians with least and greatest."""
    groups = own.groupby("method", sort=False)
    shown = [key for key in SHOWN if key in own and own[key].notna().all()]
    return pd.DataFrame({key: groups[key].agg(span) for key in shown})


def span(values: pd.Series) -> str:
    """Median with least and greatest, with three digits."""
    return f"{values.median():.3g} ({values.min():.3g} to {values.max():.3g})"


def conflict(frame: pd.DataFrame) -> pd.DataFrame:
    """How the losses got along in the sum's trainings."""
    keys = ["cosine", "in_conflict_percent", "magnitude_similarity"]
    return frame[frame["method"] == PLAIN].groupby("problem", sort=False)[keys].mean().round(2)


COLORS = {
    "UPGrad": BLUE, "NashMTL": SKY, "MGDA": GREEN, RANDOM: PINK,
    "PriorityProjection": YELLOW,
    "PriorityProjection, adversary first": YELLOW, "KeepFirst": ORANGE,
    "KeepFirst, adversary first": ORANGE, ADVERSARY: "#000000", ALONE: "#000000",
}  # fmt: skip
GALLERY = {  # problem: the methods whose digits are shown
    "completion": (REAL, ALONE, PLAIN, "NashMTL", "KeepFirst"),
    "classes": (ADVERSARY, PLAIN, "weights 0.1 : 1", "KeepFirst, adversary first"),
    "perceptual mean": ("feature matching", PLAIN, "UPGrad", "KeepFirst, adversary first"),
}


def draw_all(frame: pd.DataFrame, pictures: pd.DataFrame, target: Path) -> None:
    """What each pair of losses trades, above; some digits of seed 0, below."""
    figure, panels = plt.subplots(
        2, 3, figsize=(13, 7.2), layout="constrained", height_ratios=(1.7, 1)
    )
    draw_plane(panels[0, 0], frame, "completion", "pixels", "frechet")
    panels[0, 0].set(
        title="Completion: reconstruction and adversary",
        xlabel="reconstruction: mean absolute error of pixels, %",
        ylabel="realism: Frechet distance (lower is better)",
    )
    draw_plane(panels[0, 1], frame, "classes", "wrong", "spread")
    panels[0, 1].set(
        title="Classes: classification and adversary",
        xlabel="digits that are not what was asked for, %",
        ylabel="spread within a class (1: as real digits)",
    )
    draw_coverage(panels[0, 2], frame)
    for axes, (problem, methods) in zip(panels[1], GALLERY.items(), strict=True):
        show_digits(axes, pictures, problem, methods)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    plt.close(figure)


def draw_plane(axes: plt.Axes, frame: pd.DataFrame, problem: str, x: str, y: str) -> None:
    """Medians of two measures: fixed weights are a line, everything else a point."""
    own = frame[frame["problem"] == problem]
    if own.empty:  # this problem was not asked for
        return
    medians = own.groupby("method")[[x, y]].median()
    weights = {n: n.removeprefix("weights ") for n in medians.index if n.startswith("weights")}
    weights |= {PLAIN: "1 : 1"} if PLAIN in medians.index else {}
    line = medians.loc[sorted(weights, key=lambda n: float(weights[n].split()[0]))]
    axes.plot(*line.to_numpy().T, "o-", color=GRAY, ms=4, lw=1.2)
    reach, labeled = np.ptp(medians.to_numpy(), axis=0), []
    for name, place in line.iterrows():
        if all((np.abs(place - other) / reach).max() > 0.1 for other in labeled):
            labeled.append(place)
            axes.annotate(weights[str(name)], tuple(place), (6, -11), color=GRAY, size=9,
                          textcoords="offset points")  # fmt: skip
    for name, color in COLORS.items():
        if name in medians.index:
            mark = "^" if name.endswith("adversary first") else "D"
            label = "reconstruction alone" if name == ALONE else name
            axes.plot(*medians.loc[name], mark, color=color, ms=6, ls="", label=label)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.margins(0.12)


def draw_coverage(axes: plt.Axes, frame: pd.DataFrame) -> None:
    """Coverage beside either feature loss, median and seeds."""
    colors = {"feature matching": BLUE, "perceptual mean": ORANGE}
    own = frame[frame["problem"].isin(colors)]
    order = list(own.groupby(["problem", "method"], sort=False))[::-1]
    for place, ((problem, method), rows) in enumerate(order):
        color = GRAY if method == ADVERSARY else colors[problem]
        axes.barh(place, rows["coverage"].median(), color=color, alpha=0.6)
        axes.plot(rows["coverage"], [place] * len(rows), "o", color=color, ms=4)
    axes.set_yticks(range(len(order)), [method for (_, method), _ in order], size=7)
    for label, ((problem, method), _) in zip(axes.get_yticklabels(), order, strict=True):
        label.set_color(GRAY if method == ADVERSARY else colors[problem])
    for place, (problem, color) in enumerate(colors.items()):
        axes.text(0.98, 0.08 - 0.05 * place, problem, color=color, ha="right",
                  transform=axes.transAxes)  # fmt: skip
    axes.set(title="Two feature losses", xlabel="coverage of real digits")


def show_digits(
    axes: plt.Axes, pictures: pd.DataFrame, problem: str, methods: Sequence[str]
) -> None:
    """A line of digits per method."""
    lines, labels = [], []
    for method in methods:
        key = (method, PLAIN) if method in COMPARED else (problem, method)
        key = (REAL, REAL) if method == REAL else key
        own = pictures[(pictures["problem"] == key[0]) & (pictures["method"] == key[1])]
        if len(own):
            lines.append(np.hstack([image(code) for code in own["pixels"]]))
            labels.append(f"{method}\n(sum)" if method in COMPARED else method.replace(", ", ",\n"))
    if not lines:  # this problem was not asked for
        return
    axes.imshow(np.vstack(lines), cmap="gray_r", aspect="equal", interpolation="nearest")
    axes.set_yticks([14 * k + 6.5 for k in range(len(labels))], labels, size=8)
    axes.set(xticks=[], title=f"{problem}, seed 0")
    for k in range(1, len(labels)):
        axes.axhline(14 * k - 0.5, color="white", lw=2)


def image(code: str) -> np.ndarray:
    """Gray values (14, 14) from hexadecimal digits."""
    return np.array([int(c, 16) for c in code]).reshape(14, 14) / 15


if __name__ == "__main__":
    main()
