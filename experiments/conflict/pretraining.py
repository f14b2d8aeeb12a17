"""Three ways to pre-train one text encoder: which conflict, and does gradient surgery help?

    python experiments/conflict/pretraining.py          # about 10 minutes; --jobs N: N at once
    python experiments/conflict/pretraining.py --quick  # a trial in a minute; writes nothing
    python experiments/conflict/pretraining.py --show   # tables and figures of written rows

The text consists of the docstrings of ten modules of SciPy, without examples and references, in the
1,000 most frequent words. A passage is two "sentences" of 24 words. All tasks use the same input,
so the angles between them do not come from different data:

- *masked* (BERT): 15 % of the words are hidden; which words are they?
- *next* (BERT): does the second sentence follow the first, or is it from another passage?
- *replaced* (ELECTRA): 15 % of the words are replaced by a word that follows the word on their left
  at another place; which words? (ELECTRA draws them from a second network.)

The encoder (word and place embeddings, two layers of attention, width 32) is shared. The heads are
small; the head for masked words uses the shared word embeddings, as in BERT. Every training has the
same passages, corruptions, initial weights, steps of Adam and learning rate (if there are several,
the best on `valid` for single-task networks). Angles are measured on batches four times as large,
which are not used for training at that step.

Errors are in percent: masked words not found, wrong answers about sentences, and pairs of a
replaced and a kept word in the wrong order. delta-m is the mean over tasks of how much larger the
error is than that of single-task networks. Tuned weights are the best of four on `valid`, on a seed
that is not reported. The downstream task is to name the module of a passage of `test`, with 16
labeled passages of each of the ten modules (from `valid`; these labels are used for nothing else).
It is solved by logistic regression on the mean of the frozen features, and by fine-tuning of the
encoder.

Writes `pretraining.csv` (a row per training), `pretraining_conflict.csv` (angles in the trainings
on the plain mean) and `docs/where-conflict-appears/pretraining.svg`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from common import BLUE, GREEN, HERE, ORANGE, PAGES, PINK, TUNED, YELLOW, Make, Row
from scipy_passages import (
    MODULES,
    TASKS,
    Corruption,
    Encoder,
    Network,
    Passages,
    loss_of,
    passages,
)
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn

from paretonas import backward
from paretonas.conflict import Layers, Recorder
from paretonas.multitask import TaskGradients
from paretonas.solvers import (
    LinearScalarization,
    NashMTL,
    PCGrad,
    RandomWeights,
    Solver,
    UPGrad,
)

PLAIN = "plain mean"  # as the rows call the plain sum
APART = 100  # the seed by which the learning rate and the weights are chosen; it is not reported
GRID, NOTHING, COUNTS = "grid", "no pre-training", "counts of words"

METHODS: dict[str, Make] = {
    "RandomWeights": RandomWeights,
    "PCGrad": PCGrad,
    "UPGrad": lambda generator: UPGrad(),
    "NashMTL": lambda generator: NashMTL(),
}


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        modules: of SciPy, whose text is read.
        methods: names in `METHODS`.
        grid: weights of next sentence and of replaced words, that of masked words being 1.
        rates: learning rates to choose from.
        seeds: how many.
        vocabulary: how many different words are told apart.
        width: of the encoder.
        steps: of each pre-training.
        batch: passages per step.
        looks: at the angles, in the trainings on the plain mean.
        draws: of labeled passages for a linear model downstream.
        tune_steps: of each fine-tuning.
        processes: that train side by side.
        csv: where the rows go; the angles go beside; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    modules: tuple[str, ...] = MODULES
    methods: tuple[str, ...] = tuple(METHODS)
    grid: tuple[tuple[float, ...], tuple[float, ...]] = ((1.0, 5.0), (1.0, 10.0))
    rates: tuple[float, ...] = (1e-2,)
    seeds: int = 3
    vocabulary: int = 1000
    width: int = 32
    steps: int = 250
    batch: int = 24
    looks: int = 10
    draws: int = 2
    tune_steps: int = 60
    processes: int = 1
    csv: Path | None = HERE / "pretraining.csv"
    figure: Path | None = PAGES / "pretraining.svg"


@dataclass(frozen=True)
class Plan:
    """One training: a method's name, its tasks, their weights if they are fixed."""

    method: str
    seed: int
    rate: float
    tasks: tuple[str, ...] = TASKS
    weights: tuple[float, ...] | None = None


QUICK = {
    "modules": ("integrate", "ndimage"), "methods": ("UPGrad",), "grid": ((1.0,), (1.0,)),
    "rates": (1e-2,), "seeds": 1, "steps": 40, "looks": 4, "draws": 1, "tune_steps": 20,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Train everything, and say what came out."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    if show:
        frame, angles = pd.read_csv(settings.csv), pd.read_csv(beside(settings.csv))
    else:
        with common.side_by_side(settings.processes) as each:
            frame, angles = everything(settings, partial(each, partial(train, settings)))
    report(frame, angles, settings)
    return frame


def beside(csv: Path) -> Path:
    """Where the angles go."""
    return csv.with_name(f"{csv.stem}_conflict.csv")


Trained = tuple[Row, pd.DataFrame]


def everything(
    settings: Settings, each: Callable[[Iterable[Plan]], Iterable[Trained]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose the learning rate, then the weights, then train all methods on all seeds."""
    alone = [Plan(task, APART, rate, (task,)) for rate in settings.rates for task in TASKS]
    singles = [row for row, _ in each(alone)]
    losses = np.array([row[f"valid_{row['method']}_loss"] for row in singles], dtype=float)
    losses = losses.reshape(len(settings.rates), len(TASKS))
    rate = common.best_of(settings.rates, losses)
    print(pd.DataFrame(losses, settings.rates, TASKS).round(4).to_string())

    grid = [(1.0, a, b) for a in settings.grid[0] for b in settings.grid[1]]
    plans = [Plan(GRID, APART, rate, weights=weights) for weights in grid]
    rows = [row for row, _ in each(plans)]
    rows += [row for row in singles if row["rate"] == rate]
    costs = judged(pd.DataFrame(rows), "valid")["delta_m_valid"].to_numpy()[: len(grid)]
    tuned = grid[int(costs.argmin())]
    print(f"learning rate {rate:g}, tuned weights {tuned}", flush=True)

    plans = [
        plan for seed in range(settings.seeds) for plan in compared(seed, rate, tuned, settings)
    ]
    splits = passages(settings.modules, settings.vocabulary)
    weigh = TfidfTransformer().fit(counts(splits["train"].words, settings.vocabulary))
    angles = []
    for plan, (row, seen) in zip(plans, each(plans), strict=True):
        rows.append(row)
        angles.append(seen)
        print(f"seed {plan.seed}: {plan.method}", flush=True)
        if plan.method == NOTHING:  # the last one of a seed
            seen_as = partial(counted, weigh, settings.vocabulary)
            cost = probed(seen_as, splits, plan.seed, settings.draws)
            rows.append({"method": COUNTS, "seed": plan.seed, "probe": cost})
            frame = judged(judged(pd.DataFrame(rows), "valid"), "test").round(4)
            table = pd.concat([own for own in angles if len(own)], ignore_index=True).round(4)
            if settings.csv is not None:
                frame.to_csv(settings.csv, index=False)
                table.to_csv(beside(settings.csv), index=False)
    return frame, table


def compared(
    seed: int, rate: float, tuned: tuple[float, ...], settings: Settings
) -> Iterator[Plan]:
    """All trainings of one seed."""
    yield from (Plan(task, seed, rate, (task,)) for task in TASKS)
    yield from (Plan(" + ".join(two), seed, rate, two) for two in combinations(TASKS, 2))
    yield Plan(PLAIN, seed, rate)
    yield Plan(TUNED, seed, rate, weights=tuned)
    yield from (Plan(method, seed, rate) for method in settings.methods)
    yield Plan(NOTHING, seed, rate, ())


def train(settings: Settings, plan: Plan) -> Trained:
    """Pre-train one network: its errors before and after a downstream task, and the angles."""
    torch.set_num_threads(1)
    splits = passages(settings.modules, settings.vocabulary)
    words = splits["train"].words
    corrupt = Corruption(words, settings.vocabulary)
    torch.manual_seed(plan.seed)
    network = Network(settings.vocabulary, settings.width)
    shared = list(network.encoder.parameters())
    heads = [list(network.heads[task].parameters()) for task in plan.tasks]
    optimizer = torch.optim.Adam(
        [*shared, *(p for head in heads for p in head)], plan.rate, fused=True
    )
    generator = torch.Generator().manual_seed(1000 + plan.seed)
    looking = torch.Generator().manual_seed(2000 + plan.seed)
    solver = solver_of(plan)
    layers = Layers.of(network.encoder.named_parameters(), lambda name: name.partition(".")[0])
    recorder = Recorder(plan.tasks, layers=layers)
    every = max(1, settings.steps // settings.looks)
    state: object = None
    seconds = []
    for step in range(settings.steps if plan.tasks else 0):
        if plan.method == PLAIN and step % every == 0:
            rows = torch.randint(len(words), (4 * settings.batch,), generator=looking)
            gradients = TaskGradients(shared, heads=heads)
            gradients.add(network.losses(corrupt(words[rows], looking), plan.tasks))
            recorder.record(gradients.rows, step=step)
        warm = min(1.0, (step + 1) / (0.1 * settings.steps))
        optimizer.param_groups[0]["lr"] = plan.rate * warm * (1 - step / settings.steps)
        rows = torch.randint(len(words), (settings.batch,), generator=generator)
        batch = corrupt(words[rows], generator)
        start = time.process_time()
        losses = network.losses(batch, plan.tasks)
        optimizer.zero_grad()
        state = backward(losses, shared, solver=solver, heads=heads, state=state).state
        optimizer.step()
        seconds.append(time.process_time() - start)
    row: Row = {"method": plan.method, "seed": plan.seed, "rate": plan.rate}
    row["weights"] = " ".join(f"{weight:g}" for weight in plan.weights or ())
    if plan.tasks:
        row["milliseconds"] = 1e3 * float(np.median(seconds))
    split = "valid" if plan.seed == APART else "test"
    for name, cost in errors(network, splits[split].words, corrupt, plan.tasks).items():
        row[f"{split}_{name}"] = cost
    if split == "test":
        row["probe"] = probed(partial(means, network.encoder), splits, plan.seed, settings.draws)
        row["fine_tuned"] = fine_tuned(network.encoder, splits, plan.seed, settings.tune_steps)
    seen = [recorder.frame().assign(layer="all"), recorder.layer_frame()]
    return row, pd.concat(seen, ignore_index=True).assign(seed=plan.seed)


def solver_of(plan: Plan) -> Solver:
    """The solver that a plan asks for."""
    if plan.weights is not None:
        return LinearScalarization(torch.tensor(plan.weights) / sum(plan.weights))
    if plan.method in METHODS:
        return METHODS[plan.method](torch.Generator().manual_seed(plan.seed))
    return LinearScalarization()


@torch.no_grad()
def errors(
    network: Network, words: Tensor, corrupt: Corruption, tasks: Sequence[str]
) -> dict[str, float]:
    """Error in percent and loss of each task, on corruptions that are always the same."""
    network.eval()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(words), generator=generator)
    parts = [
        network.answers(corrupt(words[rows], generator), tasks) if tasks else []
        for rows in order.split(256)
    ]
    found = {}
    for task, each in zip(tasks, zip(*parts, strict=True), strict=True):
        scores, truth = (torch.cat(pieces) for pieces in zip(*each, strict=True))
        if task == "masked":
            right = (scores.argmax(1) == truth).float().mean().item()
        elif task == "next":
            right = ((scores > 0) == truth.bool()).float().mean().item()
        else:
            right = float(roc_auc_score(truth, scores))
        found[task] = 100 * (1 - right)
        found[f"{task}_loss"] = loss_of(scores, truth).item()
    return found


def labeled(split: Passages, seed: int, count: int = 16) -> tuple[Passages, Passages]:
    """So many passages of each module to learn from, and as many to choose by, where there are."""
    generator = torch.Generator().manual_seed(seed)
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for label in split.labels.unique():
        own = (split.labels == label).nonzero().squeeze(1)
        own = own[torch.randperm(len(own), generator=generator)]
        parts[0].append(own[:count])
        parts[1].append(own[count : 2 * count])
    one, two = (torch.cat(rows) for rows in parts)
    return (
        Passages(split.words[one], split.labels[one]),
        Passages(split.words[two], split.labels[two]),
    )


def probed(
    seen: Callable[[Tensor], np.ndarray], splits: dict[str, Passages], seed: int, draws: int
) -> float:
    """Error downstream of a linear model on what is seen of passages, mean over labeled draws."""
    test = seen(splits["test"].words)
    found = []
    for draw in range(draws):
        known, other = labeled(splits["valid"], draws * seed + draw)
        inputs, choices = seen(known.words), seen(other.words)
        models = [
            LogisticRegression(C=cost, max_iter=2000).fit(inputs, known.labels.numpy())
            for cost in (0.01, 0.1, 1.0, 10.0)
        ]
        best = min(models, key=lambda model: wrong(model.predict(choices), other.labels))
        found.append(wrong(best.predict(test), splits["test"].labels))
    return float(np.mean(found))


@torch.no_grad()
def means(encoder: Encoder, words: Tensor) -> np.ndarray:
    """The mean of the features of each passage."""
    return torch.cat([encoder(part).mean(1) for part in words.split(256)]).numpy()


def counts(words: Tensor, vocabulary: int) -> np.ndarray:
    """How often each passage has each word: what can be known without any network."""
    return np.stack([np.bincount(row, minlength=vocabulary) for row in words.numpy()])


def counted(weigh: TfidfTransformer, vocabulary: int, words: Tensor) -> np.ndarray:
    """The counts of words, rare ones weighing more."""
    return weigh.transform(counts(words, vocabulary))


def wrong(predicted: np.ndarray, labels: Tensor) -> float:
    """Percent of passages misplaced, every module counting the same."""
    return 100 * (1 - balanced_accuracy_score(labels.numpy(), predicted))


def fine_tuned(encoder: Encoder, splits: dict[str, Passages], seed: int, steps: int) -> float:
    """Error downstream after training the encoder on, with a new head that starts at zero."""
    known, _ = labeled(splits["valid"], seed)
    generator = torch.Generator().manual_seed(seed)
    own, head = (
        deepcopy(encoder),
        nn.Linear(encoder.words.embedding_dim, len(known.labels.unique())),
    )
    nn.init.zeros_(head.weight)
    optimizer = torch.optim.Adam([*own.parameters(), *head.parameters()], 4e-3, fused=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / steps)
        rows = torch.randint(len(known.labels), (32,), generator=generator)
        optimizer.zero_grad()
        loss_of(head(own(known.words[rows]).mean(1)), known.labels[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        scores = head(torch.from_numpy(means(own, splits["test"].words)))
    return wrong(scores.argmax(1).numpy(), splits["test"].labels)


def judged(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """Add how much larger, in percent, each error is than that of networks for the task alone."""
    for task in TASKS:
        alone = frame.loc[frame["method"] == task, f"{split}_{task}"].mean()
        frame[f"more_{split}_{task}"] = 100 * (frame[f"{split}_{task}"] / alone - 1)
    more = frame[[f"more_{split}_{task}" for task in TASKS]]
    frame[f"delta_m_{split}"] = more.mean(axis=1, skipna=False)
    return frame


def report(frame: pd.DataFrame, angles: pd.DataFrame, settings: Settings) -> None:
    """Print the tables and draw the figure."""
    tried = frame[frame["method"] == GRID].set_index("weights")
    print(tried[[f"more_valid_{task}" for task in TASKS] + ["delta_m_valid"]].round(1).to_string())
    reported = frame[frame["probe"].notna()]
    print(summary(reported).to_string())
    print(agreement(angles).to_string())
    if settings.figure is not None:
        draw(reported, angles, settings.figure)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Errors on test and downstream: medians with least and greatest; seeds won from the mean."""
    columns = [*(f"test_{task}" for task in TASKS), "delta_m_test", "probe", "fine_tuned"]
    groups = frame.groupby("method", sort=False)[columns]
    low, middle, high = groups.min(), groups.median(), groups.max()
    table = pd.DataFrame(index=middle.index)
    for column in columns:
        cells = zip(low[column], middle[column], high[column], strict=True)
        table[column] = [
            "" if np.isnan(m) else f"{m:.1f} ({a:.1f} to {b:.1f})" for a, m, b in cells
        ]
    for column in ("delta_m_test", "probe"):
        by_seed = frame.pivot(index="seed", columns="method", values=column)
        wins = by_seed.lt(by_seed[PLAIN], axis=0).sum()
        table[f"won_{column}"] = [wins[method] for method in table.index]
    table["milliseconds"] = frame.groupby("method")["milliseconds"].median().round(1)
    return table


def agreement(angles: pd.DataFrame) -> pd.DataFrame:
    """How each pair got along, by thirds of the training and by layer."""
    third = 3 * angles["step"] // (angles["step"].max() + 1)
    table = angles.assign(third=third.map({0: "first", 1: "second", 2: "last"}))
    whole = table[table["layer"] == "all"]
    cosines = whole.pivot_table(index="pair", columns="third", values="cosine", sort=False)
    deep = table[table["layer"] != "all"]
    by_layer = deep.pivot_table(index="pair", columns="layer", values="cosine", sort=False)
    others = whole.groupby("pair", sort=False).agg(
        in_conflict_percent=("state", lambda states: 100 * (states == "conflict").mean()),
        magnitude_similarity=("magnitude_similarity", "mean"),
    )
    return cosines.join(by_layer).join(others).round(3)


def draw(frame: pd.DataFrame, angles: pd.DataFrame, target: Path) -> None:
    """Angles over training and by layer; what each method does to each task and downstream."""
    colors = {"masked": BLUE, "next": ORANGE, "replaced": GREEN}
    between = {
        "masked / next": PINK,
        "masked / replaced": BLUE,
        "next / replaced": YELLOW,
    }
    plt.rcParams["svg.hashsalt"] = "pretraining"
    figure, ((over, deep), (each, after)) = plt.subplots(
        2, 2, figsize=(12, 9), layout="constrained", height_ratios=[1, 1.5], width_ratios=[1.6, 1]
    )
    whole = angles[angles["layer"] == "all"]
    layers = [layer for layer in angles["layer"].unique() if layer != "all"]
    ends: dict[str, float] = {}
    for k, (pair, color) in enumerate(between.items()):
        own = whole[whole["pair"] == pair].groupby("step")["cosine"]
        over.fill_between(own.median().index, own.min(), own.max(), color=color, alpha=0.2, lw=0)
        over.plot(own.median(), color=color, lw=2)
        ends[pair] = own.median().iloc[-3:].mean()
        cosines = angles[angles["pair"] == pair].groupby("layer")["cosine"].mean()
        deep.barh(
            [place + 0.25 * (1 - k) for place in range(len(layers))],
            [cosines[layer] for layer in layers], height=0.22, color=color,
        )  # fmt: skip
    for place, pair in zip((0.2, 0.5, 0.8), sorted(ends, key=lambda pair: ends[pair]), strict=True):
        over.text(1.01, place, pair, color=between[pair], transform=over.transAxes, va="center")
    over.set(title="Cosine of the gradients, on the plain mean", xlabel="step", ylim=(-0.3, 0.3))
    deep.set_yticks(range(len(layers)), [layer.replace("_", " ") for layer in layers])
    deep.set(title="By layer, mean over training", xlim=(-0.3, 0.3))
    deep.invert_yaxis()
    over.axhline(0, color="#555555", lw=1)
    deep.axvline(0, color="#555555", lw=1)

    order = [name for name in frame["method"].unique() if name not in (*TASKS, NOTHING, COUNTS)]
    for k, (task, color) in enumerate(colors.items()):
        own = frame.groupby("method")[f"more_test_{task}"]
        for place, method in enumerate(order):
            values, y = own.get_group(method), place + 0.22 * (k - 1)
            each.plot([values.min(), values.max()], [y, y], color=color, lw=1.5, alpha=0.6)
            each.plot(values.median(), y, "o", color=color, ms=6, label=None if place else task)
    each.axvline(0, color="#555555", lw=1)
    each.set_yticks(range(len(order)), order)
    each.invert_yaxis()
    each.legend(title="task", frameon=False)
    each.set(title="Error against the task alone", xlabel="% more (right is worse)")
    last = [*order, *TASKS, NOTHING, COUNTS]
    for place, method in enumerate(last):
        for column, color, marker in (("probe", "#555555", "o"), ("fine_tuned", "#000000", "D")):
            values = frame.loc[frame["method"] == method, column]
            after.plot([values.min(), values.max()], [place] * 2, color=color, lw=1.5, alpha=0.5)
            label = None if place else column.replace("_", " ")
            after.plot(values.median(), place, marker, color=color, ms=5, mfc="none", label=label)
    after.set_yticks(range(len(last)), last)
    after.invert_yaxis()
    after.set(title="Downstream: module of a passage", xlabel="% wrong")
    after.legend(frameon=False, loc="center left")
    for axes in (each, after):
        axes.grid(axis="y", alpha=0.25)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
