"""Branches on one stem: are they in conflict, and does gradient surgery between them help?

    python experiments/conflict/branches.py          # about seven minutes on two cores
    python experiments/conflict/branches.py --quick  # a trial in a minute; writes nothing
    python experiments/conflict/branches.py --show   # tables and figures of written rows

An Inception-like module is trained on real digits (5,000 MNIST images at 14 x 14). It has a stem of
few filters and four parallel branches, 1x1, 3x3, 5x5 and pool. There are three forms:

- "one loss": the outputs of the branches are joined; there is one head and one cross-entropy. Its
  gradient on the stem is the sum of the gradients through each branch: four rows, which a solver
  can combine in another way. Head and branches get their plain gradients.
- "and auxiliary heads": the same, but during training each branch also has its own head, with 0.3
  of the loss; there is still one sum of four rows. The joined answer is evaluated.
- "own questions": each branch has its own head and question: 1x1, how much ink; 3x3, how much
  slant; 5x5, which digit; pool, does it have a loop. These are four tasks.

The conflict is measured on each batch, and sometimes on 1,000 training images at once, with little
noise. The harm of sharing is delta-m: the mean of how much larger the errors are than those of the
same network with an own stem for each branch, in percent (with own questions these are four
separate networks). More capacity means a shared stem with more filters. The solvers work on the
rows of the stem, with the same initial weights, batches, steps and rate of Adam: the best of three
on `valid` for the plain sum, for each form. "descent kept" is the cosine between a direction and
the plain sum: the remaining share of the steepest descent, for its length. A branch pays if a
direction raises its loss. Tuned weights are the best on `valid` of the plain sum and of each row
with five times the weight, for each seed.

Writes `branches.csv` (a row per training) and `docs/where-conflict-appears/branches.svg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from common import BLUE, HERE, ORANGE, PAGES, PLAIN, TUNED, Row
from overlapped_digits import slants
from torch import Tensor, nn
from torch.nn import functional

from paretonas.conflict import Recorder
from paretonas.multitask import TaskGradients
from paretonas.solvers import (
    MGDA,
    AlignedMTL,
    InverseMagnitude,
    LinearScalarization,
    NashMTL,
    PCGrad,
    Preconditioned,
    RandomWeights,
    Solver,
    UPGrad,
    divisor_of,
)
from search_spaces.images import mnist_5k

Answers = dict[str, Tensor]

BRANCHES = ("1x1", "3x3", "5x5", "pool")
QUESTIONS = {"ink": 1, "slant": 1, "digit": 10, "loop": 2}  # of each branch: outputs
JOINED, HELPED, APART = FORMS = ("one loss", "and auxiliary heads", "own questions")
OWN = "own stems"  # with the plain sum
HELP = 0.3  # weight of each auxiliary loss
HEAVY = 5.0  # weight of one branch among those that tuned weights choose from


@dataclass(frozen=True)
class About:
    """What some solvers have to know of the training around them."""

    generator: torch.Generator
    divisor: Callable[[], Tensor]


Make = Callable[[About], Solver]
METHODS: dict[str, Make] = {
    PLAIN: lambda about: LinearScalarization(),
    "RandomWeights": lambda about: RandomWeights(about.generator),
    "InverseMagnitude": lambda about: InverseMagnitude(),
    "UPGrad": lambda about: UPGrad(),
    "Preconditioned(UPGrad)": lambda about: Preconditioned(UPGrad(), about.divisor),
    "PCGrad": lambda about: PCGrad(),
    "MGDA": lambda about: MGDA(),
    "NashMTL": lambda about: NashMTL(),
    "AlignedMTL": lambda about: AlignedMTL(),
}


@dataclass(frozen=True)
class Settings(common.Trainings):
    """What is compared.

    Attributes:
        filters: of the stem; the first is where the solvers are compared.
        methods: names in `METHODS`.
        steps: of each training.
        batch: images per step.
        looks: how often the conflict is measured on 1,000 training images.
        processes: that train side by side.
        csv: where the rows go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    filters: tuple[int, ...] = (1, 2, 4)
    methods: tuple[str, ...] = tuple(METHODS)
    steps: int = 220
    batch: int = 50
    looks: int = 4
    processes: int = 2
    csv: Path | None = HERE / "branches.csv"
    figure: Path | None = PAGES / "branches.svg"


QUICK = {
    "filters": (1,), "methods": (PLAIN, "UPGrad"), "rates": (1e-2,), "seeds": 1, "steps": 30,
    "looks": 2, "processes": 1,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Train everything, print what came out and return a row per training."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    (frame,) = common.written(show, lambda: [measure(settings)], settings.csv, digits="%.6g")
    print(harm(frame).to_string(), summary(frame).to_string(), pulls(frame).to_string(), sep="\n\n")
    if settings.figure is not None:
        draw(frame, settings.figure)
    return frame


class Module(nn.Module):
    """A stem, four branches side by side, and heads: joined, auxiliary, for each its question.

    Branches and heads are drawn first, so that a seed draws the same ones whatever the stems.
    """

    def __init__(self, filters: int, stems: int = 1) -> None:
        super().__init__()
        wide = 4  # channels of each branch
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(filters, wide, 1),
                nn.Conv2d(filters, wide, 3, padding=1),
                nn.Conv2d(filters, wide, 5, padding=2),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(filters, wide, 1)),
            ]
        )
        self.joined = nn.Linear(len(BRANCHES) * wide * 9, 10)
        self.auxiliary = nn.ModuleList(nn.Linear(wide * 9, 10) for _ in BRANCHES)
        self.own = nn.ModuleList(nn.Linear(wide * 9, outputs) for outputs in QUESTIONS.values())
        self.stems = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            for _ in range(stems)
        )

    def stem(self, images: Tensor) -> list[Tensor]:
        """What each branch sees, (k, filters, 7, 7)."""
        seen = [stem(images) for stem in self.stems]
        return seen if len(seen) == len(BRANCHES) else seen * len(BRANCHES)

    def forward(self, seen: Sequence[Tensor]) -> list[Tensor]:
        """What each branch says, (k, 36)."""
        each = zip(self.branches, seen, strict=True)
        return [functional.max_pool2d(branch(one).relu(), 2).flatten(1) for branch, one in each]

    def losses(self, seen: Sequence[Tensor], form: str, answers: Answers) -> list[Tensor]:
        """One loss, or that of each question."""
        said = self(seen)
        if form == APART:
            each = zip(self.own, said, QUESTIONS, strict=True)
            return [loss_of(head(one), answers[question]) for head, one, question in each]
        loss = loss_of(self.joined(torch.cat(said, dim=1)), answers["digit"])
        if form == HELPED:
            each = zip(self.auxiliary, said, strict=True)
            loss = loss + HELP * sum(loss_of(head(one), answers["digit"]) for head, one in each)
        return [loss]


def loss_of(outputs: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of classes, mean square of a number."""
    if answers.is_floating_point():
        return functional.mse_loss(outputs[:, 0], answers)
    return functional.cross_entropy(outputs, answers)


def error_of(outputs: Tensor, answers: Tensor) -> float:
    """Percent of wrong classes, or root mean square in percent of the spread."""
    if answers.is_floating_point():
        return 100 * float(functional.mse_loss(outputs[:, 0], answers).sqrt())
    return 100 * float((outputs.argmax(dim=1) != answers).float().mean())


def by_branch(network: Module, form: str, inputs: Tensor, answers: Answers) -> list[Tensor]:
    """Four scalars: their gradients on the stem are those that come through each branch.

    With own questions they are the losses. Of one loss they are made in two passes: the first,
    through heads and branches, leaves in each copy of the stem's output what comes back through one
    branch (and their own gradients in ``.grad`` of heads and branches); the stem is then left to be
    differentiated. The values mean nothing there, so solvers that read losses have no use.
    """
    seen = network.stem(inputs)
    if form == APART:
        return network.losses(seen, form, answers)
    copies = [one.detach().requires_grad_() for one in seen]
    network.losses(copies, form, answers)[0].backward()
    return [(one * copy.grad).sum() for one, copy in zip(seen, copies, strict=True)]


def train(
    form: str, make: Make, rate: float, seed: int, settings: Settings, filters: int, stems: int = 1
) -> Row:
    """Train one network with a solver on its stem: its errors, and how its branches got along."""
    data = images()
    inputs, answers = data["train"]
    first = {question: answer[:1000] for question, answer in answers.items()}
    torch.manual_seed(seed)
    network = Module(filters, stems)
    shared = list(network.stems.parameters())
    each = zip(network.branches, network.own, strict=True)
    heads = [[*b.parameters(), *h.parameters()] if form == APART else [] for b, h in each]
    optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    generator = torch.Generator().manual_seed(seed)
    solver, state = make(About(generator, lambda: divisor_of(optimizer, shared))), None
    on_batch, on_all, kept = Recorder(BRANCHES), Recorder(BRANCHES), []
    for step, chosen in enumerate(batches(len(inputs), settings, seed)):
        if step % -(-settings.steps // settings.looks) == 0:
            gradients = TaskGradients(shared, heads=heads)
            gradients.add(by_branch(network, form, inputs[:1000], first))
            on_all.record(gradients.rows, step=step)
        optimizer.zero_grad()
        gradients = TaskGradients(shared, heads=heads)
        drawn = {question: answer[chosen] for question, answer in answers.items()}
        gradients.add(by_branch(network, form, inputs[chosen], drawn))
        rows, total = gradients.rows, summed(gradients.rows)
        direction = gradients.resolve(solver, state)
        state = direction.state
        on_batch.record(rows, step=step, weights=direction.weights)
        kept.append(float(functional.cosine_similarity(direction.vector, total, dim=0)))
        optimizer.step()
    found: Row = {"descent_kept": np.mean(kept)}
    for split in ("valid", "test"):
        for question, error in errors(network, form, *data[split]).items():
            found[f"{split} {question}"] = error
    pairs, tasks = on_batch.frame(), on_batch.task_frame()
    found["in_conflict_percent"] = 100 * (pairs["state"] == "conflict").mean()
    found["paying_percent"] = 100 * (tasks["contribution"] < 0).mean()
    for name, share in tasks.groupby("task", observed=True)["dominance"].mean().items():
        found[f"length {name}"] = share
    for pair, cosine in on_all.frame().groupby("pair", observed=True)["cosine"].mean().items():
        found[f"cosine {pair}"] = cosine
    return found


def summed(rows: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """The plain sum, flat; a stem of one branch alone is reached by one row."""
    reached = ([g for g in column if g is not None] for column in zip(*rows, strict=True))
    return torch.cat([torch.stack(column).sum(0).flatten() for column in reached])


@cache
def images() -> dict[str, tuple[Tensor, Answers]]:
    """Images at 14 x 14 for each split, and the answers to all questions; numbers standardized."""
    data = mnist_5k()
    made, loops = {}, torch.tensor([0, 6, 8, 9])
    for name in ("train", "valid", "test"):
        split = getattr(data, name)
        numbers = {"ink": split.inputs.mean(dim=(1, 2, 3)), "slant": slants(split.inputs)}
        answers = {"digit": split.labels, "loop": torch.isin(split.labels, loops).long()}
        for question, number in numbers.items():
            ours = made["train"][2][question] if made else number
            answers[question] = (number - ours.mean()) / ours.std()
        made[name] = (functional.avg_pool2d(split.inputs, 2), answers, numbers)
    return {name: (inputs, answers) for name, (inputs, answers, _) in made.items()}


def batches(count: int, settings: Settings, seed: int) -> Iterator[Tensor]:
    """Images for each step: the same for every method."""
    generator = torch.Generator().manual_seed(1000 + seed)
    for _ in range(settings.steps):
        yield torch.randint(count, (settings.batch,), generator=generator)


@torch.no_grad()
def errors(network: Module, form: str, inputs: Tensor, answers: Answers) -> dict[str, float]:
    """The error of each question: the digit alone, by all branches joined, or all four."""
    said = network(network.stem(inputs))
    if form != APART:
        return {"digit": error_of(network.joined(torch.cat(said, dim=1)), answers["digit"])}
    each = zip(network.own, said, QUESTIONS, strict=True)
    return {question: error_of(head(one), answers[question]) for head, one, question in each}


def measure(settings: Settings) -> pd.DataFrame:
    """A row per training."""
    return judged(pd.DataFrame(trainings(settings)))


def trainings(settings: Settings) -> list[Row]:
    """All trainings, a row each."""
    rates = {form: best_rate(form, settings) for form in FORMS}
    jobs = [(form, rates[form], seed, settings) for form in FORMS for seed in range(settings.seeds)]
    with common.side_by_side(settings.processes) as each:
        return [row for rows in each(compare, *zip(*jobs, strict=True)) for row in rows]


def compare(form: str, rate: float, seed: int, settings: Settings) -> list[Row]:
    """All trainings of one form and seed."""
    torch.set_num_threads(1)
    first, plain = settings.filters[0], METHODS[PLAIN]
    cases: list[tuple[str, Make, int, int]] = []
    for f in settings.filters if form != HELPED else (first,):
        cases += [(PLAIN, plain, f, 1), (OWN, plain, f, len(BRANCHES))]
    others = settings.methods if form != HELPED else (PLAIN, "UPGrad")
    cases += [(name, METHODS[name], first, 1) for name in others if name != PLAIN]
    if form != HELPED:
        cases += [(f"{HEAVY:g} x {b}", heavy(b), first, 1) for b in BRANCHES]
    rows = []
    for method, make, filters, stems in cases:
        found = train(form, make, rate, seed, settings, filters, stems)
        about = {"form": form, "filters": filters, "method": method, "seed": seed}
        rows.append({**about, "rate": rate, **found})
    print(f"{form}, seed {seed}: {len(cases)} trainings", flush=True)
    return rows


def best_rate(form: str, settings: Settings) -> float:
    """The rate with the smallest errors on `valid` for the plain sum, over questions."""
    if len(settings.rates) == 1:
        return settings.rates[0]
    rows = [
        {"rate": rate} | train(form, METHODS[PLAIN], rate, seed, settings, settings.filters[0])
        for rate in settings.rates
        for seed in range(min(2, settings.seeds))
    ]
    means = pd.DataFrame(rows).groupby("rate").mean().filter(regex="^valid ")
    return float((means / means.min()).mean(axis=1).idxmin())


def heavy(branch: str) -> Make:
    """Fixed weights: one branch counts more."""
    weights = torch.tensor([HEAVY if name == branch else 1.0 for name in BRANCHES])
    return lambda about: LinearScalarization(weights / weights.sum())


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Add delta-m against own stems, and the best fixed weights on `valid`, seed by seed."""
    keys, own = ["form", "filters"], frame[frame["method"] == OWN]
    for split in ("valid", "test"):
        errors = [name for name in frame if name.startswith(f"{split} ")]
        frame[f"delta_m_{split}"] = common.delta_m(frame, own, keys, errors)
    grid = frame["method"].str.startswith(f"{HEAVY:g} x ")
    same = (frame["filters"] == frame["filters"].iloc[0]) & (frame["form"] != HELPED)
    fixed = frame[grid | (same & (frame["method"] == PLAIN))]
    best = frame.loc[fixed.groupby(["form", "seed"])["delta_m_valid"].idxmin()]
    best = best.assign(weights=best["method"], method=TUNED)
    return pd.concat([frame[~grid], best], ignore_index=True)


def harm(frame: pd.DataFrame) -> pd.DataFrame:
    """Errors by the stem, and how the branches got along in the plain sum's trainings."""
    both = frame[frame["method"].isin([PLAIN, OWN])]
    both = both.assign(form=pd.Categorical(both["form"], FORMS))
    groups = both.sort_values("method", ascending=False).groupby(
        ["form", "filters", "method"], observed=True
    )
    table = pd.DataFrame({q: groups[f"test {q}"].median().round(1) for q in QUESTIONS})
    table["delta-m, %"] = groups["delta_m_test"].agg(common.spread)
    table["pairs in conflict, %"] = groups["in_conflict_percent"].median().round(0)
    table["branches that pay, %"] = groups["paying_percent"].median().round(1)
    return table


def pulls(frame: pd.DataFrame) -> pd.DataFrame:
    """Share of length of each branch, cosines on 1,000 images; plain sum, medians over seeds."""
    plain = frame[frame["method"] == PLAIN]
    shown = [name for name in frame if name.startswith(("length ", "cosine "))]
    return plain.groupby(["form", "filters"], sort=False)[shown].median().round(2).T


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Every method at the first width, and its delta-m less that of the plain sum, in points."""
    same = differences(frame[frame["filters"] == frame["filters"].iloc[0]])
    same["form"] = pd.Categorical(same["form"], FORMS)
    groups = same.groupby(["form", "method"], sort=False, observed=True)
    table = pd.DataFrame({q: groups[f"test {q}"].median().round(1) for q in QUESTIONS})
    table["delta-m, %"] = groups["delta_m_test"].agg(common.spread)
    table["against plain sum"] = groups["difference"].mean().map("{:+.1f}".format)
    better = groups["difference"].agg(lambda d: (d < 0).sum())
    table["seeds better"] = [f"{better[key]}/{same['seed'].nunique()}" for key in table.index]
    table["descent kept"] = groups["descent_kept"].median().round(2)
    table["branches that pay, %"] = groups["paying_percent"].median().round(1)
    return table.sort_index(level=0, sort_remaining=False)


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    """delta-m of each training less that of the plain sum with the same seed."""
    keys = ["form", "filters", "seed"]
    plain = frame[frame["method"] == PLAIN].set_index(keys)["delta_m_test"]
    at = pd.MultiIndex.from_frame(frame[keys])
    return frame.assign(difference=frame["delta_m_test"] - plain.loc[at].to_numpy())


def draw(frame: pd.DataFrame, target: Path) -> None:
    """Cosines of the pairs, the harm of sharing, and what each method gains."""
    colors = {JOINED: BLUE, APART: ORANGE}
    figure, (angles, sharing, gains) = plt.subplots(
        1, 3, figsize=(10.5, 4.2), layout="constrained", width_ratios=[1, 0.9, 1.15]
    )
    same = differences(frame[frame["filters"] == frame["filters"].iloc[0]])
    pairs = [name for name in frame if name.startswith("cosine ")]
    methods = [OWN, *(m for m in dict.fromkeys(same["method"]) if m not in (PLAIN, OWN))]
    widths = sorted(frame["filters"].unique())
    for form, shift in ((JOINED, 0.14), (APART, -0.14)):
        own = same[same["form"] == form].groupby("method")
        plain = own.get_group(PLAIN)
        dots(angles, [plain[pair] for pair in pairs], shift, colors[form])
        gained = own["difference"]
        dots(gains, [gained.get_group(m) for m in methods], shift, colors[form])
        by_width = frame[(frame["form"] == form) & (frame["method"] == PLAIN)].groupby("filters")
        shared = [by_width["delta_m_test"].get_group(f) for f in widths]
        for place, values in enumerate(shared):
            sharing.plot([place] * len(values), values, "o", ms=3, alpha=0.5, color=colors[form])
        sharing.plot([values.median() for values in shared], "D-", ms=6, color=colors[form])
    named(angles, [pair.removeprefix("cosine ") for pair in pairs])
    angles.set(title="do branches agree on the stem?", xlim=(-1, 1))
    angles.set_xlabel("cosine on 1,000 images\nconflict < 0 < agreement")
    sharing.axhline(0, color="#555555", lw=1)
    sharing.set_xticks(range(len(widths)), [str(f) for f in widths])
    sharing.set(title="what sharing costs", xlabel="filters of the stem")
    sharing.set_ylabel("delta-m, % (own stems: 0)")
    named(gains, methods)
    gains.axhline(len(methods) - 1.5, color="#999999", lw=0.8, ls=":")
    gains.set(
        title="does surgery help?", xlabel="delta-m less that of the plain sum\nbetter < 0 < worse"
    )
    handles = [plt.Line2D([], [], marker="D", ls="", color=c, label=f) for f, c in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    common.save(figure, target, salt="branches")


def dots(axes: plt.Axes, columns: Sequence[pd.Series], shift: float, color: str) -> None:
    """A line of dots for each, the first on top, and the median."""
    for place, values in enumerate(reversed(columns)):
        axes.plot(values, [place + shift] * len(values), "o", ms=3, alpha=0.5, color=color)
        axes.plot(values.median(), place + shift, "D", ms=6, color=color)


def named(axes: plt.Axes, names: Sequence[str]) -> None:
    """Names beside the lines of dots, and where nothing is gained or lost."""
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.axvline(0, color="#555555", lw=1)
    axes.grid(axis="y", alpha=0.25)


if __name__ == "__main__":
    main()
