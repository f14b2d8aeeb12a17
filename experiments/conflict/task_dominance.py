"""One task overfits while the other underfits: unequal data, unequal weights, small capacity.

    python experiments/conflict/task_dominance.py          # about 7 minutes on one core
    python experiments/conflict/task_dominance.py --quick  # half a minute; writes nothing
    python experiments/conflict/task_dominance.py --show   # tables and figures of written rows

Two digits overlap; there is one narrow perceptron and a linear head for each digit. The left digit
has labels in 9,000 images. The right one has labels in 9,000 images or in 500; its loss counts once
or ten times. Each step uses 50 labeled images for each task, so the network soon overfits to few
labels, and a loss that counts ten times dominates the shared encoder.

For the plain sum the script shows errors on train and test, and `paretonas.conflict` on 500
training images for each task. Then it tests what helps if both are unequal: capacity (wider
networks), weights (random, tuned on `valid`, learned, or from the lengths of gradients), gradient
surgery, and separate layers: from a single head for both tasks, which gets the task as two extra
inputs, to heads of two layers.

delta-m is the mean over tasks of how much larger the test error is than that of single-task
networks with the same width and labels, in percent of the latter. All trainings of a seed have the
same initial weights, batches, steps and learning rate, the best of three for single tasks on
`valid`. `test` is only used for the report.

Writes `task_dominance.csv` (a row per training), `task_dominance_course.csv` (the course of two of
them) and `docs/where-conflict-appears/task-dominance.svg`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from common import BLUE, GRAY, GREEN, HERE, ORANGE, PAGES, PLAIN, SOLVERS, TUNED, Make
from overlapped_digits import Pairs, pairs
from torch import Tensor, nn
from torch.nn import functional

from paretonas import backward
from paretonas.conflict import Recorder
from paretonas.multitask import TaskGradients

TASKS = ("left", "right")
ALONE, LENGTHS = "single-task", "InverseMagnitude"
METHODS = {
    name: SOLVERS[name]
    for name in (
        PLAIN, "RandomWeights", "UncertaintyWeighting", "GradNorm", LENGTHS, "MGDA", "UPGrad",
        "CAGrad", "NashMTL",
    )
}  # fmt: skip
ONE_HEAD, LINEAR, DEEP = "one head, told the question", "linear heads", "heads of two layers"


@dataclass(frozen=True)
class Case:
    """What is unequal, and how much room there is.

    Attributes:
        labels: images in which the right digit is labeled; the left one is in 9,000.
        weight: factor of the right digit's loss, as given; a method may change it.
        width: features at the end of the encoder, a quarter of its hidden units.
        heads: where the tasks part, one of three.
    """

    labels: int = 9000
    weight: float = 1.0
    width: int = 8
    heads: str = LINEAR


@dataclass(frozen=True)
class Settings(common.Trainings):
    """What is compared.

    Attributes:
        narrow, roomy: widths at which the cures are compared.
        widths: of the sweep.
        few: labels of the right digit where data are unequal.
        heavy: factor of the right digit's loss where weights are unequal.
        methods: names in `METHODS`, `PLAIN` first.
        ratios: factors on the right digit's loss among which weights are tuned.
        steps: of each training.
        batch: images per step and task.
        look_every: steps between two looks at gradients.
        csv, course: where rows and courses go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    narrow: int = 8
    roomy: int = 32
    widths: tuple[int, ...] = (8, 16, 32, 64)
    few: int = 500
    heavy: float = 10.0
    methods: tuple[str, ...] = tuple(METHODS)
    ratios: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-5, 1))
    steps: int = 400
    batch: int = 50
    look_every: int = 20
    csv: Path | None = HERE / "task_dominance.csv"
    course: Path | None = HERE / "task_dominance_course.csv"
    figure: Path | None = PAGES / "task-dominance.svg"


QUICK = {
    "widths": (8, 32), "methods": (PLAIN, "GradNorm", LENGTHS, "UPGrad"), "ratios": (0.1, 1),
    "rates": (1e-2,), "seeds": 1, "steps": 100,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Train everything, and say what came out."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    frame, course = common.written(show, lambda: measure(settings), settings.csv, settings.course)
    for title, table in tables(frame, settings).items():
        print(f"\n{title}\n{table.to_string()}")
    if settings.figure is not None:
        draw(frame, course, settings)
    return frame


def measure(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per training, and the courses of the two trainings that the figure shows."""
    rate = best_rate(settings)
    print(f"learning rate {rate:g}")
    rows, courses = [], []
    for seed in range(settings.seeds):
        for method, case, tasks, make in trainings(settings):
            found, course = train(case, tasks, make, rate, seed, settings)
            rows.append({"seed": seed, "method": method, **vars(case), **found})
            if tasks == TASKS and method in (PLAIN, LENGTHS) and case == unequal(settings):
                courses.append(course.assign(seed=seed, method=method))
        print(f"seed {seed} of {settings.seeds}: {len(rows)} trainings", flush=True)
    return judged(pd.DataFrame(rows)).round(4), pd.concat(courses).round(4)


def unequal(settings: Settings, width: int | None = None) -> Case:
    """Few labels and a heavy loss; little room unless said otherwise."""
    return Case(settings.few, settings.heavy, width or settings.narrow)


def trainings(settings: Settings) -> Iterator[tuple[str, Case, tuple[str, ...], Make]]:
    """All trainings of one seed."""
    plain, both = METHODS[PLAIN], unequal(settings)
    widths = sorted({*settings.widths, settings.narrow, settings.roomy})
    for width in widths:
        yield ALONE, Case(width=width), ("left",), plain
        for labels in (9000, settings.few):
            yield ALONE, Case(labels, width=width), ("right",), plain
    for labels, weight in ((9000, 1.0), (settings.few, 1.0), (9000, settings.heavy)):
        yield PLAIN, Case(labels, weight, settings.narrow), TASKS, plain
    for width in (settings.narrow, settings.roomy):
        case = unequal(settings, width)
        for method in settings.methods:
            yield method, case, TASKS, METHODS[method]
        for ratio in settings.ratios:
            if ratio != 1:  # that is the sum
                yield f"x {ratio:.3g}", case, TASKS, common.weighted(ratio)
    for method in (PLAIN, LENGTHS):
        for width in widths:
            if width not in (settings.narrow, settings.roomy):
                yield method, unequal(settings, width), TASKS, METHODS[method]
        for heads in (ONE_HEAD, DEEP):
            yield method, replace(both, heads=heads), TASKS, METHODS[method]


class Network(nn.Module):
    """A perceptron for an encoder; heads as the case says."""

    def __init__(self, case: Case, tasks: Sequence[str]) -> None:
        """Draw the weights, those of the encoder first."""
        super().__init__()
        self.single = case.heads == ONE_HEAD
        extra = 2 if self.single else 0
        first = [nn.Linear(18 * 18 + extra, 4 * case.width), nn.ReLU()]
        if case.heads == DEEP:
            self.encoder = nn.Sequential(*first)
            self.heads = nn.ModuleList(
                nn.Sequential(*second_of(case), nn.Linear(case.width, 10)) for _ in tasks
            )
        else:
            self.encoder = nn.Sequential(*first, *second_of(case))
            self.heads = nn.ModuleList(
                nn.Linear(case.width, 10) for _ in range(1 if self.single else len(tasks))
            )

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Answer each task's question about its own images."""
        inputs = [image.flatten(1) for image in images]
        if self.single:
            asked = torch.eye(2)
            inputs = [
                torch.cat([image, asked[i].expand(len(image), 2)], dim=1)
                for i, image in enumerate(inputs)
            ]
        parts = self.encoder(torch.cat(inputs)).split([len(image) for image in inputs])
        heads = [self.heads[0]] * len(parts) if self.single else self.heads
        return [head(part) for head, part in zip(heads, parts, strict=True)]

    def shared(self) -> list[Tensor]:
        """Parameters that both tasks reach."""
        own = self.heads.parameters() if self.single else ()
        return [*self.encoder.parameters(), *own]

    def own(self, tasks: Sequence[str]) -> list[list[Tensor]]:
        """Parameters of each task alone."""
        return [[] if self.single else list(self.heads[i].parameters()) for i in range(len(tasks))]


def second_of(case: Case) -> list[nn.Module]:
    """The encoder's second layer, which a deep head has for itself."""
    return [nn.Linear(4 * case.width, case.width), nn.ReLU()]


def best_rate(settings: Settings) -> float:
    """The learning rate at which narrow networks for one task err least on `valid`."""
    if len(settings.rates) == 1:
        return settings.rates[0]
    alone = (("left", 9000), ("right", 9000), ("right", settings.few))
    errors = np.empty((len(settings.rates), len(alone)))
    for i, rate in enumerate(settings.rates):
        for j, (task, labels) in enumerate(alone):
            case = Case(labels, width=settings.narrow)
            found, _ = train(case, (task,), METHODS[PLAIN], rate, 0, settings)
            errors[i, j] = found[f"valid_{task}"]
    return common.best_of(settings.rates, errors)


def train(
    case: Case, tasks: Sequence[str], make: Make, rate: float, seed: int, settings: Settings
) -> tuple[dict[str, float], pd.DataFrame]:
    """Train one network: its errors, how its tasks got along, and how it went."""
    data = pairs()
    torch.manual_seed(seed)
    network = Network(case, tasks)
    shared, own = network.shared(), network.own(tasks)
    optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    labels = {"left": 9000, "right": case.labels}
    factors = {"left": 1.0, "right": case.weight}
    draws = [torch.Generator().manual_seed(10 * seed + TASKS.index(task)) for task in tasks]
    probe = [torch.arange(min(500, labels[task])) for task in tasks]
    solver, state = make(torch.Generator().manual_seed(seed)), None
    recorder = Recorder(tasks)
    course = []

    def losses_of(rows: Sequence[Tensor]) -> list[Tensor]:
        outputs = network([data["train"].inputs[index] for index in rows])
        return [
            factors[task] * functional.cross_entropy(out, data["train"].answers[task][index])
            for task, out, index in zip(tasks, outputs, rows, strict=True)
        ]

    for step in range(settings.steps):
        if step % settings.look_every == 0 and len(tasks) > 1:
            gradients = TaskGradients(shared, heads=own)
            gradients.add(losses_of(probe))
            recorder.record(gradients.rows, step=step)
            course.append({"step": step, **errors_of(network, tasks, data, labels, 500)})
        optimizer.param_groups[0]["lr"] = rate * (1 - step / settings.steps)
        rows = [
            torch.randint(labels[task], (settings.batch,), generator=draw)
            for task, draw in zip(tasks, draws, strict=True)
        ]
        optimizer.zero_grad()
        direction = backward(losses_of(rows), shared, heads=own, solver=solver, state=state)
        state = direction.state
        optimizer.step()
    found = errors_of(network, tasks, data, labels)
    if len(tasks) == 1:
        return found, pd.DataFrame()
    pair, each = recorder.frame(), recorder.task_frame()
    leading = each.loc[each["task"] == TASKS[1], "dominance"].to_numpy()
    third = -(-len(leading) // 3)
    found |= {
        "cosine": pair["cosine"].mean(),
        "in_conflict_percent": 100 * (pair["state"] == "conflict").mean(),
        "magnitude_similarity": pair["magnitude_similarity"].mean(),
        "dominance_early": leading[:third].mean(),
        "dominance_late": leading[-third:].mean(),
    }
    return found, pd.DataFrame(course).assign(cosine=pair["cosine"], dominance=leading)


@torch.no_grad()
def errors_of(
    network: Network,
    tasks: Sequence[str],
    data: dict[str, Pairs],
    labels: dict[str, int],
    most: int | None = None,
) -> dict[str, float]:
    """Percent of wrong digits: on the labeled images of train, on valid and on test."""
    errors = {}
    for split, part in data.items():
        known = [labels[task] if split == "train" else len(part.inputs) for task in tasks]
        counts = [count if most is None else min(most, count) for count in known]
        outputs = network([part.inputs[:count] for count in counts])
        for task, out, count in zip(tasks, outputs, counts, strict=True):
            wrong = out.argmax(dim=1) != part.answers[task][:count]
            errors[f"{split}_{task}"] = 100 * float(wrong.float().mean())
    return errors


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Add delta-m against the mean errors of single-task networks of the same width and labels."""
    alone = frame[frame["method"] == ALONE]
    several = frame["method"] != ALONE
    for split in ("valid", "test"):
        left = alone.groupby("width")[f"{split}_left"].mean()
        right = alone.groupby(["width", "labels"])[f"{split}_right"].mean()
        rows = frame[several]
        places = pd.MultiIndex.from_frame(rows[["width", "labels"]])
        ratios = (
            rows[f"{split}_left"] / left.loc[rows["width"]].to_numpy(),
            rows[f"{split}_right"] / right.loc[places].to_numpy(),
        )
        frame.loc[several, f"delta_m_{split}"] = 100 * (sum(ratios) / 2 - 1)
    return frame


def tables(frame: pd.DataFrame, settings: Settings) -> dict[str, pd.DataFrame]:
    """What the page shows: medians over seeds, least and greatest where there is room."""
    errors = [f"{split}_{task}" for task in TASKS for split in ("train", "test")]
    alone = frame[frame["method"] == ALONE]
    narrow = frame["width"].eq(settings.narrow)
    plain = frame[narrow & frame["heads"].eq(LINEAR) & frame["method"].isin([ALONE, PLAIN])]
    harm = plain.groupby(["method", "labels", "weight"])[errors].median()
    for task in TASKS:
        harm[f"gap_{task}"] = harm[f"test_{task}"] - harm[f"train_{task}"]
    told = ["dominance_early", "dominance_late", "magnitude_similarity", "cosine"]
    told.append("in_conflict_percent")
    seen = plain[plain["method"] == PLAIN].groupby(["labels", "weight"])[told].median()
    both = frame[frame["labels"].eq(settings.few) & frame["weight"].eq(settings.heavy)]
    both = both[both["method"].isin([PLAIN, LENGTHS])]
    depth = both[both["width"] == settings.narrow].groupby(["heads", "method"])
    room = both[both["heads"] == LINEAR].groupby(["method", "width"])
    lonely = alone[alone["labels"].eq(settings.few) | alone["train_left"].notna()]
    room = pd.concat(
        [
            room[[*errors, "delta_m_test"]].median(),
            lonely.groupby(["method", "width"])[errors].median(),
        ]
    )
    return {
        "Errors, percent; medians": harm.round(1),
        "Conflict under plain summation; medians": seen.round(2),
        "More room, both unequal; medians": room.round(1),
        "Where the tasks part, both unequal; medians": depth[[*errors, "cosine", "delta_m_test"]]
        .median()
        .round(2),
        f"Cures, both unequal, {settings.narrow} features": cures(frame, settings, settings.narrow),
        f"Cures, both unequal, {settings.roomy} features": cures(frame, settings, settings.roomy),
    }


def cures(frame: pd.DataFrame, settings: Settings, width: int) -> pd.DataFrame:
    """Each method with delta-m, errors, and its rank among the methods in each task's mean error.

    "seeds_won" are those with a smaller delta-m than tuned weights.
    """
    rows = compared(frame, settings, width)
    groups = rows.groupby("method")
    delta = groups["delta_m_test"]
    table = pd.DataFrame({"delta_m": delta.median().round(1)})
    table["least to greatest"] = [
        f"{low:.1f} to {high:.1f}" for low, high in zip(delta.min(), delta.max(), strict=True)
    ]
    errors = [f"{split}_{task}" for task in TASKS for split in ("train", "test")]
    table = table.join(groups[errors].median().round(1))
    means = groups[["test_left", "test_right"]].mean()
    table["mean_rank"] = means.rank().mean(axis=1).round(1)
    by_seed = rows.pivot(index="seed", columns="method", values="delta_m_test")
    wins = by_seed.lt(by_seed[TUNED], axis=0).sum()
    table["seeds_won"] = [f"{wins[method]}/{len(by_seed)}" for method in table.index]
    return table.sort_values("delta_m")


def compared(frame: pd.DataFrame, settings: Settings, width: int) -> pd.DataFrame:
    """The methods where data and weights are unequal, and fixed weights tuned on `valid`."""
    rows = frame[frame["method"] != ALONE]
    for key, value in vars(unequal(settings, width)).items():
        rows = rows[rows[key] == value]
    grid = rows[rows["method"].str.startswith("x ") | rows["method"].eq(PLAIN)]
    tuned = rows.loc[grid.groupby("seed")["delta_m_valid"].idxmin()].assign(method=TUNED)
    return pd.concat([rows[~rows["method"].str.startswith("x ")], tuned])


def draw(frame: pd.DataFrame, course: pd.DataFrame, settings: Settings) -> None:
    """Draw how it goes, who leads, what room does, and the cures."""
    figure, grid = plt.subplots(2, 2, figsize=(11, 8.6), layout="constrained")
    (went, leads), (room, cured) = grid
    plain = course[course["method"] == PLAIN].groupby("step").median(numeric_only=True)
    for task, color in zip(TASKS, (BLUE, ORANGE), strict=True):
        for split, line in (("train", "--"), ("valid", "-")):
            went.plot(plain.index, plain[f"{split}_{task}"], line, color=color, lw=2)
    narrow = frame[frame["method"].eq(ALONE) & frame["width"].eq(settings.narrow)]
    alone = narrow.groupby("labels")["valid_left"].median()[9000]
    went.axhline(alone, color=GRAY, lw=1)
    went.annotate(
        "left digit alone, valid", (plain.index[-1], alone), ha="right", va="bottom", color=GRAY
    )
    end = plain.iloc[-1]
    for text, place, color in (
        ("left digit: underfits, train = valid", end["valid_left"] - 8, BLUE),
        ("right digit, valid: overfits", end["valid_right"] + 2, ORANGE),
        ("right digit, train", end["train_right"] + 1, ORANGE),
    ):
        went.annotate(text, (plain.index[-1], place), ha="right", va="bottom", color=color)
    title = f"{settings.few} labels and a loss x {settings.heavy:g} on the right"
    went.set(title=f"Plain sum, {title}", xlabel="step", ylim=(-2, 100))
    went.set_ylabel("wrong, % (solid: valid, dashed: train)")
    for method, color in ((PLAIN, ORANGE), (LENGTHS, GREEN)):
        own = course[course["method"] == method].groupby("step")["dominance"]
        middle = own.median()
        leads.plot(middle.index, middle, color=color, lw=2, label=method)
        leads.fill_between(middle.index, own.min(), own.max(), color=color, alpha=0.15, lw=0)
    leads.axhline(0.5, color=GRAY, lw=1)
    leads.legend(frameon=False, loc="lower left")
    leads.set(
        title="Who leads: the right digit's share of length", xlabel="step", ylim=(0, 1.02),
        ylabel="dominance of the right digit's gradient",
    )  # fmt: skip
    both = frame[frame["labels"].eq(settings.few) & frame["weight"].eq(settings.heavy)]
    both = both[both["heads"] == LINEAR]
    lonely = frame[frame["method"].eq(ALONE) & frame["valid_left"].notna()]
    for name, rows, color in (
        (PLAIN, both[both["method"] == PLAIN], ORANGE),
        (LENGTHS, both[both["method"] == LENGTHS], GREEN),
        ("left digit alone", lonely, GRAY),
    ):
        own = rows.groupby("width")["test_left"]
        room.plot(own.median().index, own.median(), "o-", color=color, lw=2, label=name)
        room.fill_between(own.median().index, own.min(), own.max(), color=color, alpha=0.15, lw=0)
    room.set_xscale("log", base=2)
    room.set_xticks(settings.widths, [str(width) for width in settings.widths])
    room.set(title="Room relieves the task that is starved", xlabel="features of the encoder")
    room.set(ylabel="left digit wrong on test, %", ylim=(0, None))
    room.legend(frameon=False)
    looks = ((settings.narrow, 0.15, {"marker": "D"}), (settings.roomy, -0.15, {"marker": "o"}))
    for width, shift, style in looks:
        rows = compared(frame, settings, width)
        if width == settings.narrow:
            order = rows.groupby("method")["delta_m_test"].median().sort_values(ascending=False)
        color = ORANGE if width == settings.narrow else BLUE
        for place, method in enumerate(order.index):
            values, at = rows.loc[rows["method"] == method, "delta_m_test"], place + shift
            cured.plot([values.min(), values.max()], [at, at], color=color, lw=1.5, alpha=0.5)
            cured.plot(values.median(), at, color=color, ls="", ms=6, **style)
        cured.plot([], [], color=color, ls="", label=f"{width} features", **style)
    cured.legend(frameon=False)
    cured.axvline(0, color=GRAY, lw=1)
    cured.set_yticks(range(len(order)), order.index)
    cured.grid(axis="y", alpha=0.25)
    seeds = frame["seed"].nunique()
    title = f"Cures: median and range of {seeds} seeds"
    cured.set(title=title, xlabel="delta-m against single-task networks, % (0: as good)")
    common.save(figure, settings.figure, salt="task-dominance")


if __name__ == "__main__":
    main()
