"""Sigmoid against ReLU: where gradients vanish, where they conflict, and how solvers help.

    python experiments/conflict/activations.py          # about six minutes on two cores
    python experiments/conflict/activations.py --quick  # a trial in a minute; writes nothing
    python experiments/conflict/activations.py --show   # tables and figures of written rows

Four questions, on real digits (5,000 MNIST images) wherever there is data:

1. "layers": how long is the gradient on each layer of a perceptron of ten, before training? Usual
   initial weights: Xavier for sigmoid and tanh, He for ReLU.
2. "samples": what is the angle between the gradients of two images of different digits on the
   second of two hidden layers, before and after training? Each gradient is an outer product. So the
   cosine is the cosine of the layer's inputs times that of the errors propagated back to it:
   exactly 0 if no unit is active for both. "4 winners" keeps the 4 largest of 64 units.
3. A ReLU layer of three units and two tasks with opposite goals: the tasks have separate units,
   share one, or share all. The table shows what each solver returns. Nothing is random: the numbers
   are computed when they are shown.
4. "tasks": vanishing as dominance. Two digits overlap, and 24 units are shared. The left digit is
   read from them directly, the right one through more layers of the same activation, which shrink
   the gradient. Errors are compared with single-task networks (delta-m, the mean over tasks of how
   much larger the error is, in percent), for the plain sum and for solvers. All have the same
   initial weights, batches and steps of Adam. Its rate is the best of three on `valid` for
   single-task networks, for each activation. Tuned weights have the best delta-m on `valid`, for
   each seed.

Writes `activations.csv` (a row per layer, network or training; `part` says which) and
`docs/where-conflict-appears/activations.svg`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import common
import matplotlib.pyplot as plt
import pandas as pd
import torch
from common import BLUE, HERE, ORANGE, PAGES, PINK, PLAIN, SOLVERS, TUNED, Make, Row
from overlapped_digits import pairs
from torch import Tensor, nn
from torch.nn import functional

from paretonas import backward
from paretonas.conflict import Recorded, Recorder, cosine_similarity, pair_states
from paretonas.solvers import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    DualProj,
    LinearScalarization,
    NashMTL,
    PCGrad,
    PriorityProjection,
    Solver,
    UPGrad,
)
from search_spaces.images import mnist_5k

SIGMOID, TANH, RELU, WINNERS = ACTIVATIONS = ("sigmoid", "tanh", "ReLU", "ReLU, 4 winners")
ALONE = "one task alone"
COSINES = ("size_of_cosine", "of_inputs", "of_errors", "between_digits")
SIDES = ("left", "right")
RATIOS = (3.0, 10.0, 30.0, 100.0)  # of the right digit's weight to the left one's

EXAMPLES = {  # inputs of task a and of task b to three units, see `unit_gradients`
    "disjoint": ((2.0, 1.0, 0.0), (1.0, 2.0, 0.0)),
    "one shared": ((2.0, 1.0, 1.0), (1.0, 2.0, 1.0)),
    "all shared": ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
}

METHODS = {
    name: SOLVERS[name]
    for name in (
        PLAIN, "RandomWeights", "UPGrad", "PCGrad", "MGDA", "AlignedMTL", "InverseMagnitude",
        "IMTLG", "NashMTL",
    )
}  # fmt: skip
ON_UNITS: dict[str, Solver] = {
    PLAIN: LinearScalarization(),
    "UPGrad": UPGrad(),
    "DualProj": DualProj(),
    "PCGrad": PCGrad(),
    "CAGrad": CAGrad(),
    "MGDA": MGDA(),
    "NashMTL": NashMTL(),
    "IMTLG": IMTLG(),
    "ConFIG": ConFIG(),
    "AlignedMTL": AlignedMTL(),
    "PriorityProjection": PriorityProjection(),
}


@dataclass(frozen=True)
class Settings(common.Trainings):
    """What is measured.

    Attributes:
        depths: layers between the shared one and the right digit's head.
        deep: that of them at which the solvers are compared.
        methods: names in `METHODS`, for the comparison.
        steps: of each training.
        processes: that train side by side.
        csv: where the rows go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    depths: tuple[int, ...] = (0, 1, 2, 3)
    deep: int = 3
    methods: tuple[str, ...] = tuple(METHODS)
    steps: int = 400
    processes: int = 2
    csv: Path | None = HERE / "activations.csv"
    figure: Path | None = PAGES / "activations.svg"


QUICK = {
    "depths": (0, 3), "methods": (PLAIN, "UPGrad", "NashMTL"), "rates": (1e-2,), "seeds": 1,
    "steps": 40, "processes": 1,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Measure everything, print what came out and return the rows."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    (frame,) = common.written(show, lambda: [measure(settings)], settings.csv, digits="%.6g")
    for table in (vanishing(frame), angles(frame), on_units(), by_depth(frame), summary(frame)):
        print(table.to_string(), end="\n\n")
    if settings.figure is not None:
        draw(frame, settings.figure)
    return frame


def measure(settings: Settings) -> pd.DataFrame:
    """All parts, a row per layer, sample or training."""
    rows = [row for seed in range(settings.seeds) for row in (*layers(seed), *samples(seed))]
    return judged(pd.DataFrame([*rows, *tasks(settings)]))


class Winners(nn.Module):
    """ReLU of the four largest units of each image, 0 elsewhere."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Keep the largest."""
        least = inputs.topk(4, dim=1).values[:, -1:]
        return torch.where(inputs >= least, inputs.relu(), 0.0)


def layer(units: int, above: int, activation: str) -> nn.Sequential:
    """A linear layer with the initial weights that its activation asks for, and the latter."""
    linear = nn.Linear(units, above)
    if activation in (RELU, WINNERS):
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    else:
        nn.init.xavier_normal_(linear.weight)
    nn.init.zeros_(linear.bias)
    made = {SIGMOID: nn.Sigmoid, TANH: nn.Tanh, RELU: nn.ReLU, WINNERS: Winners}
    return nn.Sequential(linear, made[activation]())


def small_images(split: str, count: int) -> tuple[Tensor, Tensor]:
    """The first images of a split at 14 x 14, flat, and their digits."""
    chosen = getattr(mnist_5k(), split)
    return functional.avg_pool2d(chosen.inputs[:count], 2).flatten(1), chosen.labels[:count]


def layers(seed: int) -> Iterator[Row]:
    """Length of the gradient on the weights of each of ten layers, before training."""
    inputs, labels = small_images("train", 1000)
    for activation in (SIGMOID, TANH, RELU):
        torch.manual_seed(seed)
        hidden = [layer(196 if k == 0 else 32, 32, activation) for k in range(9)]
        network = nn.Sequential(*hidden, nn.Linear(32, 10))
        functional.cross_entropy(network(inputs), labels).backward()
        weights = [p for p in network.parameters() if p.ndim == 2]
        for k, weight in enumerate(weights, 1):
            about = {"part": "layers", "seed": seed, "activation": activation}
            yield {**about, "layer": k, "norm": float(weight.grad.norm())}


def samples(seed: int, steps: int = 200) -> Iterator[Row]:
    """At what angles the gradients of images of different digits meet on the second layer."""
    inputs, labels = small_images("train", 3000)
    seen, digits = small_images("valid", 300)
    for activation in ACTIVATIONS:
        torch.manual_seed(seed)
        first, second = layer(196, 64, activation), layer(64, 64, activation)
        head = nn.Linear(64, 10)
        network = nn.Sequential(first, second, head)
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        for step in range(steps + 1):
            if step in (0, steps):
                about = {"part": "samples", "seed": seed, "activation": activation, "step": step}
                yield {**about, **met(second, head, first(seen).detach(), digits)}
            drawn = torch.randint(len(labels), (64,))
            optimizer.zero_grad()
            functional.cross_entropy(network(inputs[drawn]), labels[drawn]).backward()
            optimizer.step()


def met(hidden: nn.Module, head: nn.Module, inputs: Tensor, labels: Tensor) -> Row:
    """How the gradients of single images, and of the ten digits as tasks, get along."""
    rows, errors, active = by_sample(hidden, head, inputs, labels)
    different = torch.triu(labels[:, None] != labels, diagonal=1)
    states = pair_states(rows)[different]
    shared = (active.float() @ active.float().T)[different]
    cosines = [cosine_similarity(part)[different].abs() for part in (rows, inputs, errors)]
    digits = torch.stack([rows[labels == digit].mean(0) for digit in labels.unique()])
    one, other = torch.triu_indices(len(digits), len(digits), 1)
    return {
        "conflict_percent": 100 * float((states < 0).float().mean()),
        "orthogonal_percent": 100 * float((states == 0).float().mean()),
        "agreement_percent": 100 * float((states > 0).float().mean()),
        "disjoint_percent": 100 * float((shared == 0).float().mean()),
        "active_percent": 100 * float(active.float().mean()),
        "size_of_cosine": float(cosines[0].mean()),
        "of_inputs": float(cosines[1].mean()),
        "of_errors": float(cosines[2].mean()),
        "between_digits": float(cosine_similarity(digits)[one, other].mean()),
    }


def by_sample(
    hidden: nn.Module, head: nn.Module, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Each image's gradient on the layer's weights, (k, n), its errors and its active units.

    Errors are the gradient before the activation, (k, units). A unit is active where the slope of
    its activation is not 0: for sigmoid and tanh, nearly always.
    """
    linear, activation = hidden
    before = linear(inputs).detach().requires_grad_()
    after = activation(before)
    losses = functional.cross_entropy(head(after), labels, reduction="sum")
    (errors,) = torch.autograd.grad(losses, before, retain_graph=True)
    (slopes,) = torch.autograd.grad(after.sum(), before)
    return (errors[:, :, None] * inputs[:, None, :]).flatten(1), errors, slopes != 0


def on_units() -> pd.DataFrame:
    """What solvers return for two tasks on a ReLU layer, by what the tasks share.

    As text: the two cosines of the direction with the tasks' gradients, and its length relative to
    that of the mean where the tasks are disjoint.
    """
    cases = {name: unit_gradients(name) for name in EXAMPLES}
    unit = LinearScalarization()(cases["disjoint"]).vector.norm()
    table: dict[str, dict[str, str]] = {}
    for method, solver in ON_UNITS.items():
        table[method] = {}
        for case, rows in cases.items():
            vector = solver(rows).vector
            size = float(vector.norm() / unit)
            both = functional.cosine_similarity(rows, vector.expand_as(rows)).tolist()
            said = f"{both[0]:+.2f} {both[1]:+.2f}, {size:.2f}"
            table[method][case] = said if size > 1e-6 else "stands still"
    return pd.DataFrame(table).T


def unit_gradients(case: str) -> Tensor:
    """Gradients of two tasks on the nine weights of three ReLU units, b's three times as long.

    Task a wants the units up that its example makes active, task b wants them down for its own. The
    first unit is active where the first input is the larger, the second where the second is, the
    third where the third input is there at all.
    """
    a, b = torch.tensor(EXAMPLES[case], dtype=torch.float64)
    rows = [[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    weights = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    losses = (-(weights @ a).relu().sum(), 3 * (weights @ b).relu().sum())
    return torch.stack([torch.autograd.grad(loss, weights)[0].flatten() for loss in losses])


class Network(nn.Module):
    """One layer of shared units; the left digit is read from it, the right one through others."""

    def __init__(self, activation: str, depth: int) -> None:
        super().__init__()
        self.shared = layer(18 * 18, 24, activation)
        self.left = nn.Linear(24, 10)
        between = [layer(24, 24, activation) for _ in range(depth)]
        self.right = nn.Sequential(*between, nn.Linear(24, 10))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Answer both questions."""
        code = self.shared(inputs.flatten(1))
        return self.left(code), self.right(code)


def train(
    activation: str,
    depth: int,
    make: Make,
    rate: float,
    seed: int,
    settings: Settings,
    *,
    asked: tuple[int, ...] = (0, 1),
    times: int = 1,
) -> Row:
    """Train one network for one or both digits: errors, and how the two got along."""
    torch.manual_seed(seed)
    network = Network(activation, depth)
    shared = list(network.shared.parameters())
    heads = [[*head.parameters()] for head in (network.left, network.right)]
    optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    recorder = Recorder([SIDES[k] for k in asked])
    generator = torch.Generator().manual_seed(1000 + seed)
    solver, state = Recorded(make(generator), recorder), None
    split = pairs()["train"]
    drawn = torch.Generator().manual_seed(seed)
    for _ in range(times * settings.steps):
        rows = torch.randint(len(split.inputs), (settings.batch,), generator=drawn)
        answers = network(split.inputs[rows])
        losses = [
            functional.cross_entropy(answers[k], split.answers[SIDES[k]][rows]) for k in asked
        ]
        optimizer.zero_grad()
        own = [heads[k] for k in asked]
        state = backward(losses, shared, solver=solver, heads=own, state=state).state
        optimizer.step()
    found: Row = {}
    with torch.no_grad():
        for name in ("valid", "test"):
            answers = network(pairs()[name].inputs)
            for k in asked:
                wrong = answers[k].argmax(dim=1) != pairs()[name].answers[SIDES[k]]
                found[f"{name}_{SIDES[k]}"] = 100 * float(wrong.float().mean())
    if len(asked) == 2:
        norms = recorder.task_frame().groupby("task", observed=True)["norm"].median()
        found["cosine"] = recorder.frame()["cosine"].mean()
        found["in_conflict_percent"] = 100 * (recorder.frame()["state"] == "conflict").mean()
        found["norm_left"], found["norm_right"] = norms["left"], norms["right"]
    return found


def tasks(settings: Settings) -> list[Row]:
    """All trainings on overlapped digits, a row each."""
    rates = {name: best_rate(name, settings) for name in (SIGMOID, TANH, RELU)}
    jobs = [(name, rates[name], k, settings) for name in rates for k in range(settings.seeds)]
    with common.side_by_side(settings.processes) as each:
        return [row for rows in each(compare, *zip(*jobs, strict=True)) for row in rows]


def compare(activation: str, rate: float, seed: int, settings: Settings) -> list[Row]:
    """All trainings of one activation and seed."""
    torch.set_num_threads(1)
    about = {"part": "tasks", "seed": seed, "activation": activation, "rate": rate}
    plain, rows = METHODS[PLAIN], []
    left = train(activation, 0, plain, rate, seed, settings, asked=(0,))
    for depth in settings.depths if activation != TANH else (settings.deep,):
        right = train(activation, depth, plain, rate, seed, settings, asked=(1,))
        rows.append({**about, "depth": depth, "method": ALONE, **left, **right})
        for method, make, times in compared(activation, depth, settings):
            found = train(activation, depth, make, rate, seed, settings, times=times)
            rows.append({**about, "depth": depth, "method": method, **found})
    print(f"{activation}, seed {seed}", flush=True)
    return rows


def compared(activation: str, depth: int, settings: Settings) -> Iterator[tuple[str, Make, int]]:
    """Names, solvers and how many times the steps, for one activation at one depth."""
    whole = depth == settings.deep and activation != TANH
    for method in settings.methods if whole else (PLAIN, "NashMTL"):
        yield method, METHODS[method], 1
    if whole:
        for method in (PLAIN, "NashMTL"):
            yield f"{method}, 3 x steps", METHODS[method], 3
        for ratio in RATIOS:
            yield f"1 : {ratio:g}", common.weighted(ratio), 1


def best_rate(activation: str, settings: Settings) -> float:
    """The rate with the smallest error on `valid` of networks for one task, over both tasks."""
    if len(settings.rates) == 1:
        return settings.rates[0]
    errors = []
    for rate in settings.rates:
        each = [
            train(activation, settings.deep, METHODS[PLAIN], rate, 0, settings, asked=(k,))
            for k in (0, 1)
        ]
        errors.append([each[0]["valid_left"], each[1]["valid_right"]])
    return common.best_of(settings.rates, errors)


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Add delta-m against the mean errors of networks for one task, and the tuned weights."""
    own = frame["part"] == "tasks"
    keys, alone = ["activation", "depth"], frame[own & (frame["method"] == ALONE)]
    for split in ("valid", "test"):
        errors = [f"{split}_left", f"{split}_right"]
        frame.loc[own, f"delta_m_{split}"] = common.delta_m(frame[own], alone, keys, errors)
    grid = own & frame["method"].astype(str).str.startswith("1 : ")
    deep = frame.loc[grid, "depth"].max()
    plain = own & (frame["method"] == PLAIN) & (frame["depth"] == deep)
    plain &= frame["activation"].isin(frame.loc[grid, "activation"])
    best = frame.loc[frame[grid | plain].groupby(["activation", "seed"])["delta_m_valid"].idxmin()]
    best = best.assign(weights=best["method"], method=TUNED)
    return pd.concat([frame[~grid], best], ignore_index=True)


def vanishing(frame: pd.DataFrame) -> pd.DataFrame:
    """Length of the gradient by layer, medians over seeds; the last layer is the head."""
    part = frame[frame["part"] == "layers"]
    table = part.groupby(["layer", "activation"])["norm"].median().unstack()
    return table[[SIGMOID, TANH, RELU]].map("{:.2g}".format)


def angles(frame: pd.DataFrame) -> pd.DataFrame:
    """How two images of different digits get along on the hidden layer, means over seeds."""
    part = frame[frame["part"] == "samples"]
    shown = [name for name in part if name.endswith("_percent") and name != "in_conflict_percent"]
    keys = ["activation", "step"]
    means = part.groupby(keys, sort=False)[[*shown, *COSINES]]
    return means.mean().round(2)


def by_depth(frame: pd.DataFrame) -> pd.DataFrame:
    """Errors on test by depth, and what the tasks' gradients look like on the shared layer."""
    part = frame[(frame["part"] == "tasks") & frame["method"].isin([ALONE, PLAIN, "NashMTL"])]
    groups = part.groupby(["activation", "depth", "method"], sort=False)
    table = pd.DataFrame({"left": groups["test_left"].agg(common.spread)})
    table["right"] = groups["test_right"].agg(common.spread)
    shown = groups[["norm_left", "norm_right", "cosine", "in_conflict_percent"]].median()
    table["norm right / left"] = (shown["norm_right"] / shown["norm_left"]).map("{:.2g}".format)
    table["cosine"] = shown["cosine"].round(2)
    table["in conflict, %"] = shown["in_conflict_percent"].round(0)
    return table


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Every method at the depth of comparison: errors, delta-m, seeds better than the plain sum."""
    part = frame[(frame["part"] == "tasks") & frame["activation"].isin([SIGMOID, RELU])]
    part = part[part["depth"] == part.loc[part["method"] == TUNED, "depth"].max()]
    groups = part.groupby(["activation", "method"], sort=False)
    table = pd.DataFrame({"left": groups["test_left"].agg(common.spread)})
    table["right"] = groups["test_right"].agg(common.spread)
    table["delta-m, %"] = groups["delta_m_test"].agg(common.spread, 0)
    seeds = part.pivot(index=["activation", "seed"], columns="method", values="delta_m_test")
    wins = seeds.lt(seeds[PLAIN], axis=0).groupby("activation").sum()
    count = part["seed"].nunique()
    table["seeds better"] = [f"{wins.loc[key]}/{count}" for key in table.index]
    return table.sort_index(level=0, sort_remaining=False, ascending=False)


def draw(frame: pd.DataFrame, target: Path) -> None:
    """The vanishing gradient, the angles of two images, and the price of depth."""
    colors = {SIGMOID: ORANGE, TANH: PINK, RELU: BLUE}
    figure, (lengths, meetings, errors) = plt.subplots(
        1, 3, figsize=(10.5, 3.9), layout="constrained", width_ratios=[1, 1.15, 1.15]
    )
    norms = frame[frame["part"] == "layers"].groupby(["activation", "layer"])["norm"].median()
    for activation, color in colors.items():
        line = norms[activation]
        lengths.semilogy(line.index, line, "o-", color=color, ms=4)
        at, offset = {SIGMOID: (6, (8, -8)), TANH: (1, (0, -16)), RELU: (1, (0, 8))}[activation]
        place = {"xytext": offset, "textcoords": "offset points"}
        lengths.annotate(activation, (at, line.loc[at]), color=color, **place)
    lengths.set(
        title="length of the gradient", xlabel="layer, 1 is next to the image", ylim=(None, 4)
    )
    lengths.set_xticks([1, 4, 7, 10])
    part = frame[frame["part"] == "samples"]
    means = part[part["step"] > 0].groupby("activation").mean(numeric_only=True)
    shades = {"conflict": ORANGE, "orthogonal": "#cccccc", "agreement": BLUE}
    for place, activation in enumerate(reversed(ACTIVATIONS)):
        start = 0.0
        for state, color in shades.items():
            share = means.loc[activation, f"{state}_percent"]
            meetings.barh(place, share, left=start, color=color, height=0.62)
            if share > 8:
                ink = "black" if state == "orthogonal" else "white"
                look = {"color": ink, "ha": "center", "va": "center", "zorder": 3}
                paper = {"facecolor": color, "edgecolor": "none", "pad": 1.5}
                middle = start + share / 2
                meetings.text(middle, place, f"{share:.0f}", bbox=paper, **look)
            start += share
        disjoint = means.loc[activation, "disjoint_percent"]
        if disjoint > 0:
            begin = means.loc[activation, "conflict_percent"]
            meetings.barh(place, disjoint, left=begin, height=0.62, fill=False, hatch="///", lw=0)
    meetings.set_yticks(
        range(len(ACTIVATIONS)), [name.replace(", ", "\n") for name in reversed(ACTIVATIONS)]
    )
    meetings.set(
        title="two images of different digits", xlim=(0, 100), xlabel="% of pairs, after training"
    )
    handles = [plt.Rectangle((0, 0), 1, 1, color=c, label=s) for s, c in shades.items()]
    handles.append(
        plt.Rectangle((0, 0), 1, 1, fill=False, hatch="///", lw=0, label="no unit shared")
    )
    meetings.legend(
        handles=handles, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2)
    )
    both = frame[(frame["part"] == "tasks") & frame["activation"].isin([SIGMOID, RELU])]
    styles = {PLAIN: ("-", "o"), "NashMTL": ("--", "s"), ALONE: (":", "^")}
    for (activation, method), (line, marker) in (
        ((a, m), style) for a in (SIGMOID, RELU) for m, style in styles.items()
    ):
        own = both[(both["activation"] == activation) & (both["method"] == method)]
        groups = own.groupby("depth")["test_right"]
        errors.plot(groups.median(), line, marker=marker, ms=5, color=colors[activation])
        errors.fill_between(
            groups.min().index,
            groups.min(),
            groups.max(),
            color=colors[activation],
            alpha=0.12,
            lw=0,
        )
    handles = [
        plt.Line2D([], [], ls=s, marker=m, color="#555555", label=n) for n, (s, m) in styles.items()
    ]
    errors.legend(handles=handles, frameon=False, loc="upper left", fontsize=9)
    errors.set(title="the task behind more layers", ylabel="its test error, %", ylim=(0, 100))
    errors.set_xlabel("layers before its head")
    errors.set_xticks(sorted(both["depth"].unique()))
    for activation, offset in ((SIGMOID, (-8, 8)), (RELU, (-8, -26))):
        plain = both[(both["activation"] == activation) & (both["method"] == PLAIN)]
        medians = plain.groupby("depth")["test_right"].median()
        text = {"xytext": offset, "textcoords": "offset points", "ha": "right"}
        place = (medians.index[-2], medians.iloc[-2])
        errors.annotate(activation, place, color=colors[activation], **text)
    common.save(figure, target, salt="activations")


if __name__ == "__main__":
    main()
