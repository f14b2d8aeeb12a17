"""One recurrent network, one loss early and one late: where in time do they conflict?

    python experiments/conflict/through_time.py          # about 6 minutes on one core
    python experiments/conflict/through_time.py --quick  # a trial in a minute; writes nothing
    python experiments/conflict/through_time.py --show   # tables and figures of written rows

A network with 24 units reads real digits (MNIST, 14 x 14) row by row. After a digit it gets one
question; then it reads on, in another digit, and gets another question. There are three problems:

- "slant, then digit": how much the digit slants; and 7 rows later which digit it was;
- "digit, then same digit": which digit; and 7 rows later which digit it was;
- "digit, then next digit": which digit; and 14 rows later which digit the other one is.

Both losses train the same recurrent weights at every step of time: the gradient of a loss is the
sum of its contributions, one for each row. `by_step` separates them, so that the angle between both
losses can be measured for each row, and a solver can work there. Truncated backpropagation cuts the
late loss off from all rows except the last ones.

All methods get the same initial weights, batches, steps of Adam, clipping, and one learning rate,
the best of three on `valid` for single-task networks. Tuned weights are the best of six on `valid`
for each seed. delta-m is the mean over both tasks of how much larger the error is than that of a
single-task network, in percent. Errors are the percent of wrong digits, and the root mean square of
the slant in percent of its spread. All seeds are trained at once, in tensors with a leading
dimension: a solver that gets (r, m, n) solves each seed's problem separately.

The last part measures the length of the late loss's gradient with respect to earlier states, in
networks that read 14 x 14 pixels one by one: it vanishes or explodes with distance.

Writes `through_time.csv` (a row per training), `through_time_steps.csv` (by row of the image),
`through_time_norms.csv` (by distance) and `docs/where-conflict-appears/through-time.svg`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from common import BLUE, GREEN, HERE, ORANGE, PAGES, PINK, SKY, TUNED, YELLOW, Make, weighted
from overlapped_digits import slants
from torch import Tensor, nn
from torch.nn import functional

from paretonas.conflict import cosine_similarity
from paretonas.gradients.differentiate import Row, differentiate
from paretonas.gradients.flatten import flatten, unflatten
from paretonas.solvers import (
    IMTLG,
    MGDA,
    NashMTL,
    PriorityProjection,
    RandomWeights,
    UPGrad,
)
from search_spaces.images import mnist_5k

SIDE = 14  # rows and columns of a digit
NAMES = ("early", "late")
EARLY_ALONE, LATE_ALONE = "early alone", "late alone"
PLAIN = "mean"  # the plain sum, as the rows call it
RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # of the late weight to the early one


@dataclass(frozen=True)
class Problem:
    """What is asked when the first digit has been read, and after so many rows of the next."""

    early: str
    late: str
    rows_between: int


PROBLEMS = {
    "slant, then digit": Problem("slant", "digit", 7),
    "digit, then same digit": Problem("digit", "digit", 7),
    "digit, then next digit": Problem("digit", "next", 14),
}


@dataclass(frozen=True)
class Method:
    """How two losses become one step.

    Attributes:
        make: the solver, from a source of random numbers.
        cut: rows through which the late loss goes back; None is all.
        by_step: solve for each row of the image alone and add up.
        order: of the losses, as the solver gets them.
    """

    make: Make
    cut: int | None = None
    by_step: bool = False
    order: tuple[int, int] = (0, 1)


METHODS = {
    PLAIN: Method(weighted(1.0)),
    "RandomWeights": Method(lambda generator: RandomWeights(generator)),
    "late loss cut after 7 rows": Method(weighted(1.0), cut=7),
    "UPGrad": Method(lambda generator: UPGrad()),
    "UPGrad by step": Method(lambda generator: UPGrad(), by_step=True),
    "MGDA": Method(lambda generator: MGDA()),
    "MGDA by step": Method(lambda generator: MGDA(), by_step=True),
    "NashMTL": Method(lambda generator: NashMTL()),
    "IMTLG": Method(lambda generator: IMTLG()),
    "PriorityProjection, late first": Method(lambda generator: PriorityProjection(), order=(1, 0)),
}


ONLY_FIRST = ("UPGrad by step", "MGDA by step", "NashMTL", "IMTLG")  # shown on one problem


@dataclass(frozen=True)
class Settings(common.Trainings):
    """What is compared.

    Attributes:
        problems: by kind of cell, names in `PROBLEMS`.
        methods: names in `METHODS`, the mean among them.
        gated_methods: those for the gated cell, which costs three times as much.
        ratios: the grid of fixed weights, 1 among them.
        rates: learning rates to choose from.
        steps: of each training.
        batch: sequences per step.
        look_every: steps between two looks at the angles, in the mean's trainings.
        look_batch: sequences for a look, the same every time.
        folder: where the rows go; None writes nothing.
        figure: where the figure goes; None draws nothing.
    """

    problems: tuple[str, ...] = tuple(PROBLEMS)
    methods: tuple[str, ...] = tuple(METHODS)
    gated_methods: tuple[str, ...] = (PLAIN, "UPGrad", "MGDA")
    ratios: tuple[float, ...] = RATIOS
    rates: tuple[float, ...] = (2e-3, 4e-3, 8e-3)
    steps: int = 400
    batch: int = 64
    look_every: int = 20
    look_batch: int = 500
    folder: Path | None = HERE
    figure: Path | None = PAGES / "through-time.svg"


QUICK = {"gated_methods": (), "ratios": (1.0, 10.0), "rates": (4e-3,), "seeds": 2, "steps": 60}


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Train everything, say what came out, and return a row per training."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    names = ("through_time", "through_time_steps", "through_time_norms")
    files = [settings.folder and settings.folder / f"{name}.csv" for name in names]
    frames = common.written(show, lambda: measure(settings), *files)
    report(*frames, settings)
    return frames[0]


def measure(settings: Settings) -> list[pd.DataFrame]:
    """Trainings, contributions by row of the image, and lengths by distance."""
    return [*trained(settings), lengths_by_distance(range(settings.seeds))]


def trained(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All trainings, a row each; and the contributions by row of the image."""
    rate = best_rate(settings)
    rows, steps = [], []
    for problem in settings.problems:
        for kind in CELLS:
            gated = kind == "gated"
            if gated and (problem != settings.problems[0] or not settings.gated_methods):
                continue
            alone = {
                EARLY_ALONE: Method(weighted(1e-9)),
                LATE_ALONE: Method(weighted(1e9)),
            }
            grid = {} if gated else {grid_name(q): Method(weighted(q)) for q in settings.ratios}
            grid.pop(grid_name(1.0), None)  # that is the mean
            names = settings.gated_methods if gated else settings.methods
            if problem != settings.problems[0]:
                names = [name for name in names if name not in ONLY_FIRST]
            for name, method in {**alone, **{n: METHODS[n] for n in names}, **grid}.items():
                about = {"problem": problem, "cell": kind, "method": name}
                looking = name == PLAIN
                found, looked = train(PROBLEMS[problem], kind, method, rate, settings, looking)
                rows.append(found.assign(**about))
                if looking:
                    steps.append(looked.assign(problem=problem, cell=kind))
                print(f"{problem}, {kind}, {name}", flush=True)
    frame = judged(pd.concat(rows, ignore_index=True)).round(4)
    return frame.assign(rate=rate), pd.concat(steps, ignore_index=True).round(3)


def best_rate(settings: Settings) -> float:
    """The learning rate at which networks for one task have the smallest error on `valid`."""
    problem, one = PROBLEMS[settings.problems[0]], replace(settings, seeds=1)
    errors = np.array(
        [
            [
                train(problem, "plain", Method(weighted(q)), rate, one)[0][f"valid_{name}"].item()
                for name, q in zip(NAMES, (1e-9, 1e9), strict=True)
            ]
            for rate in settings.rates
        ]
    )
    print(pd.DataFrame(errors, settings.rates, list(NAMES)).to_string(), flush=True)
    return common.best_of(settings.rates, errors)


def grid_name(ratio: float) -> str:
    """Label of a fixed weighting."""
    return f"weights 1 : {ratio:g}"


def train(
    problem: Problem,
    kind: str,
    method: Method,
    rate: float,
    settings: Settings,
    looking: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train one network per seed: its errors; and its conflict by row, if looking."""
    data, seeds = sequences(problem), range(settings.seeds)
    reader = Reader(kind, seeds, problem)
    shared, heads = list(reader.cell.parameters()), reader.heads
    solver = method.make(torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(reader.parameters(), rate)
    looks = []
    for step, rows in zip(range(settings.steps), batches(data["train"], settings), strict=False):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / settings.steps)
        inputs = data["train"].inputs[rows]
        answers = [answer[rows] for answer in data["train"].answers]
        if looking and step % settings.look_every == 0:
            part = slice(settings.look_batch)
            seen = data["valid"].inputs[part].expand(len(seeds), -1, -1, -1)
            asked = [answer[part].expand(len(seeds), -1) for answer in data["valid"].answers]
            looks.append(profile(by_step(reader, seen, asked)).assign(training=step))
        if method.by_step:
            parts = by_step(reader, inputs, answers)[:, :, list(method.order)]
            vector = solver(parts.flatten(0, 1)).vector.unflatten(0, parts.shape[:2]).sum(1)
        losses = [loss(*each) for each in zip(reader(inputs, method.cut), answers, strict=True)]
        owns = [list(head.parameters()) for head in heads]
        by_loss, own_rows = differentiate([loss.sum() for loss in losses], shared, owns)
        if not method.by_step:
            jacobian = by_seed([by_loss[i] for i in method.order], shared)
            values = torch.stack([losses[i] for i in method.order], dim=-1).detach()
            vector = solver(jacobian, values).vector
        for parameter, gradient in zip(
            [*shared, *chain.from_iterable(owns)],
            [*unflatten(vector, shared), *chain.from_iterable(own_rows)],
            strict=True,
        ):
            parameter.grad = gradient
        clip(shared)
        optimizer.step()
    found = pd.DataFrame({"seed": list(seeds)})
    for split in data:
        outputs = reader(data[split].inputs.expand(len(seeds), -1, -1, -1))
        for name, output, answer in zip(NAMES, outputs, data[split].answers, strict=True):
            found[f"{split}_{name}"] = error(output, answer.expand(len(seeds), -1)).double().numpy()
    return found, pd.concat(looks, ignore_index=True) if looks else pd.DataFrame()


def by_step(reader: Reader, inputs: Tensor, answers: Sequence[Tensor]) -> Tensor:
    """Contributions (r, t, 2, n) of each step of time to both gradients; their sum is these.

    Every step reads with a copy of the weights of its own, so that its share can be told.
    """
    steps = inputs.shape[2]
    copies = [[p.clone() for p in reader.cell.parameters()] for _ in range(steps)]
    losses = [loss(*each) for each in zip(reader(inputs, at=copies), answers, strict=True)]
    parameters = list(chain.from_iterable(copies))
    rows, _ = differentiate([loss.sum() for loss in losses], parameters)
    return by_seed(rows, parameters).unflatten(-1, (steps, -1)).transpose(1, 2)


def by_seed(rows: Sequence[Row], parameters: Sequence[Tensor]) -> Tensor:
    """Jacobian (r, m, n) of parameters that have a leading dimension of r seeds."""
    seeds = len(parameters[0])
    return torch.stack([flatten(row, parameters, (seeds,)) for row in rows], dim=-2)


def profile(parts: Tensor) -> pd.DataFrame:
    """Angles and lengths of contributions (r, t, 2, n), by seed and row; row 0 is their sum."""
    parts = torch.cat([parts.sum(1, keepdim=True), parts], dim=1)
    seeds, steps = parts.shape[:2]
    lengths = parts.norm(dim=-1).flatten(0, 1).double()
    return pd.DataFrame(
        {
            "seed": np.repeat(np.arange(seeds), steps),
            "row": np.tile(np.arange(steps), seeds),
            "cosine": cosine_similarity(parts.flatten(0, 1))[:, 0, 1].numpy(),
            "early_norm": lengths[:, 0].numpy(),
            "late_norm": lengths[:, 1].numpy(),
        }
    )


class Cell(nn.Module):
    """r recurrent cells side by side: tanh, or gated (GRU) if it has three blocks of weights."""

    def __init__(self, seeds: Sequence[int], inputs: int, units: int, blocks: int) -> None:
        """Draw the weights of each seed; the recurrent ones are orthogonal."""
        super().__init__()
        into, across = [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            into.append(uniform(generator, inputs, blocks * units))
            pieces = [torch.empty(units, units) for _ in range(blocks)]
            across.append(
                torch.cat([nn.init.orthogonal_(p, generator=generator) for p in pieces], 1)
            )
        self.into = nn.Parameter(torch.stack(into))
        self.across = nn.Parameter(torch.stack(across))
        self.bias = nn.Parameter(torch.zeros(len(seeds), 1, blocks * units))

    def forward(self, seen: Tensor, state: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Read (r, k, inputs) and go from one state (r, k, units) to the next."""
        into, across, bias = weights
        units, seen = state.shape[-1], torch.baddbmm(bias, seen, into)
        if seen.shape[-1] == units:
            return torch.tanh(torch.baddbmm(seen, state, across))
        gates = torch.baddbmm(seen[..., : 2 * units], state, across[..., : 2 * units])
        keep, use = torch.sigmoid(gates).chunk(2, dim=-1)
        new = torch.baddbmm(seen[..., 2 * units :], use * state, across[..., 2 * units :])
        return keep * state + (1 - keep) * torch.tanh(new)


CELLS = {"plain": 1, "gated": 3}  # blocks of weights


class Head(nn.Module):
    """r linear layers side by side."""

    def __init__(self, seeds: Sequence[int], units: int, outputs: int) -> None:
        """Draw the weights of each seed."""
        super().__init__()
        drawn = [uniform(torch.Generator().manual_seed(100 + s), units, outputs) for s in seeds]
        self.weight = nn.Parameter(torch.stack(drawn))
        self.bias = nn.Parameter(torch.zeros(len(seeds), 1, outputs))

    def forward(self, state: Tensor) -> Tensor:
        """From (r, k, units) to (r, k, outputs)."""
        return torch.baddbmm(self.bias, state, self.weight)


class Reader(nn.Module):
    """r networks that read rows and answer twice."""

    def __init__(self, kind: str, seeds: Sequence[int], problem: Problem, units: int = 24) -> None:
        """Draw the weights of each seed."""
        super().__init__()
        self.cell = Cell(seeds, SIDE, units, CELLS[kind])
        asked = (problem.early, problem.late)
        self.heads = nn.ModuleList(Head(seeds, units, 1 if a == "slant" else 10) for a in asked)

    def forward(
        self, inputs: Tensor, cut: int | None = None, at: Sequence[Sequence[Tensor]] | None = None
    ) -> list[Tensor]:
        """Answer about (r, k, t, 14) after the first digit and at the end.

        Args:
            inputs: rows of two digits.
            cut: let gradients go back through so many rows from the end; at most those that are
                read after the first answer. None is all.
            at: weights of the cell for each step of time; None is its own.
        """
        steps, own = inputs.shape[2], list(self.cell.parameters())
        state = inputs.new_zeros(*inputs.shape[:2], self.cell.across.shape[1])
        answers = []
        for t in range(steps):
            if cut is not None and t == steps - cut:
                state = state.detach()
            state = self.cell(inputs[:, :, t], state, own if at is None else at[t])
            if t in (SIDE - 1, steps - 1):
                answers.append(self.heads[len(answers)](state))
        return answers


def uniform(generator: torch.Generator, inputs: int, outputs: int) -> Tensor:
    """Weights as those of `nn.Linear`."""
    return (2 * torch.rand(inputs, outputs, generator=generator) - 1) / inputs**0.5


def clip(parameters: Sequence[Tensor], most: float = 1.0) -> None:
    """Shorten the gradient of each seed to this length."""
    whole = torch.cat([p.grad.flatten(1) for p in parameters], dim=1).norm(dim=1)
    for p in parameters:
        p.grad /= (whole / most).clamp(min=1.0).reshape(-1, 1, 1)


@dataclass(frozen=True, eq=False)
class Sequences:
    """Rows (k, t, 14) of two digits; what is asked early and late, (k,) each."""

    inputs: Tensor
    answers: tuple[Tensor, Tensor]


@cache
def sequences(problem: Problem) -> dict[str, Sequences]:
    """The three splits, the same every time; the second digit is of the same split."""
    data, made = mnist_5k(), {}
    fitted = slants(data.train.inputs)
    for seed, name in enumerate(("train", "valid", "test")):
        split = getattr(data, name)
        rows = functional.avg_pool2d(split.inputs, 2).squeeze(1)
        other = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        told = {
            "digit": split.labels,
            "next": split.labels[other],
            "slant": (slants(split.inputs) - fitted.mean()) / fitted.std(),
        }
        inputs = torch.cat([rows, rows[other][:, : problem.rows_between]], dim=1)
        made[name] = Sequences(inputs, (told[problem.early], told[problem.late]))
    return made


def batches(split: Sequences, settings: Settings) -> Iterator[Tensor]:
    """Rows (r, k) for each step, the same for every method; each seed draws its own."""
    sources = [torch.Generator().manual_seed(1000 + seed) for seed in range(settings.seeds)]
    size = (settings.batch,)
    while True:
        yield torch.stack([torch.randint(len(split.inputs), size, generator=s) for s in sources])


def loss(outputs: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of a digit or mean square of a slant, (r,)."""
    if answers.is_floating_point():
        return (outputs[..., 0] - answers).square().mean(1)
    losses = functional.cross_entropy(outputs.flatten(0, 1), answers.flatten(), reduction="none")
    return losses.view(answers.shape).mean(1)


@torch.no_grad()
def error(outputs: Tensor, answers: Tensor) -> Tensor:
    """Percent of wrong digits, or root mean square of a slant in percent of its spread, (r,)."""
    if answers.is_floating_point():
        return 100 * loss(outputs, answers).sqrt()
    return 100 * (outputs.argmax(-1) != answers).float().mean(1)


NETWORKS = {  # blocks of weights, factor on orthogonal recurrent weights, bias of the gate to keep
    "plain, weights x 0.8": (1, 0.8, 0.0),
    "plain, orthogonal": (1, 1.0, 0.0),
    "plain, weights x 2": (1, 2.0, 0.0),
    "gated (GRU)": (3, 1.0, 0.0),
    "gated, told to keep": (3, 1.0, 4.0),
}


def lengths_by_distance(seeds: Sequence[int], units: int = 64, images: int = 64) -> pd.DataFrame:
    """How long the gradient at the end is with respect to the state so many steps before.

    Untrained networks read pixels one by one; lengths are relative to that of the last state.
    """
    pixels = functional.avg_pool2d(mnist_5k().train.inputs[:images], 2).flatten(1)
    labels = mnist_5k().train.labels[:images].expand(len(seeds), -1)
    frames = []
    for name, (blocks, factor, keep) in NETWORKS.items():
        cell, head = Cell(seeds, 1, units, blocks), Head(seeds, units, 10)
        bias = cell.bias.detach().clone()
        bias[..., : units if blocks > 1 else 0] = keep
        # Divided as torch.nn.RNN draws them, by the root of the units: pixels do not saturate it.
        weights = [cell.into / units**0.5, factor * cell.across, bias]
        state = torch.zeros(len(seeds), images, units, requires_grad=True)
        states = [state]
        for t in range(pixels.shape[1]):
            state = cell(pixels[:, t : t + 1].expand(len(seeds), -1, -1), state, weights)
            states.append(state)
        gradients = torch.autograd.grad(loss(head(state), labels).sum(), states)
        lengths = torch.stack([g.flatten(1).norm(dim=1) for g in gradients[::-1]])
        relative = (lengths / lengths[0])[::4].T
        frames.append(
            pd.DataFrame(
                {
                    "network": name,
                    "seed": np.repeat(list(seeds), relative.shape[1]),
                    "distance": np.tile(np.arange(0, len(states), 4), len(seeds)),
                    "length": [float(f"{v:.3g}") for v in relative.flatten()],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Add delta-m against the mean errors of single-task networks, and the tuned weights."""
    keys = ["problem", "cell"]
    for split in ("valid", "test"):
        parts = []
        for name, single in zip(NAMES, (EARLY_ALONE, LATE_ALONE), strict=True):
            column = f"{split}_{name}"
            alone = frame[frame["method"] == single].groupby(keys)[column].mean()
            own = pd.MultiIndex.from_frame(frame[keys])
            parts.append(frame[column] / alone.loc[own].to_numpy() - 1)
        frame[f"delta_m_{split}"] = 100 * sum(parts) / 2
    grid = frame[frame["method"].eq(PLAIN) | frame["method"].str.startswith("weights")]
    grid = grid[grid["cell"] == "plain"]
    best = frame.loc[grid.groupby(["problem", "seed"])["delta_m_valid"].idxmin()]
    tuned = best.assign(method=TUNED, chosen=best["method"])
    return pd.concat([frame, tuned], ignore_index=True)


def report(
    rows: pd.DataFrame, steps: pd.DataFrame, norms: pd.DataFrame, settings: Settings
) -> None:
    """Print the tables and draw the figure."""
    with pd.option_context("display.width", 200, "display.max_columns", None):
        for (problem, cell), own in rows.groupby(["problem", "cell"], sort=False):
            print(f"\n{problem}, {cell}\n{summary(own).to_string()}")
        print(f"\nconflict in the mean's trainings\n{conflict(rows, steps).to_string()}")
        print(f"\nby row of the image\n{by_row(steps).to_string()}")
        print(f"\nlength of the gradient by distance\n{by_distance(norms).to_string()}")
    if settings.figure is not None:
        draw(rows, steps, norms, settings.figure)


def summary(own: pd.DataFrame) -> pd.DataFrame:
    """Errors on test: medians with least and greatest; seeds with a smaller delta-m than mean."""
    groups = own.groupby("method", sort=False)
    shown = {"early": "test_early", "late": "test_late", "delta-m": "delta_m_test"}
    table = pd.DataFrame({key: groups[column].agg(common.spread) for key, column in shown.items()})
    table.loc[EARLY_ALONE, ["late", "delta-m"]] = ""
    table.loc[LATE_ALONE, ["early", "delta-m"]] = ""
    by_seed = own.pivot(index="seed", columns="method", values="delta_m_test")
    better = by_seed.lt(by_seed[PLAIN], axis=0).sum()
    table["better than mean"] = [f"{better[method]}/{len(by_seed)}" for method in table.index]
    table.loc[[EARLY_ALONE, LATE_ALONE, PLAIN], "better than mean"] = ""
    return table


def conflict(rows: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """How the losses got along in the mean's trainings, and which weights were chosen."""
    keys = ["problem", "cell"]
    whole = steps[steps["row"] == 0]
    shorter, longer = (whole[["early_norm", "late_norm"]].agg(f, axis=1) for f in ("min", "max"))
    whole = whole.assign(
        in_conflict_percent=100.0 * (whole["cosine"] < -0.05), length_ratio=shorter / longer
    )
    shown = ["cosine", "in_conflict_percent", "length_ratio"]
    table = whole.groupby(keys, sort=False)[shown].mean().round(2)
    chosen = rows[rows["method"] == TUNED].groupby(keys)["chosen"]
    table["chosen"] = chosen.agg(lambda names: ", ".join(n.rpartition(" ")[2] for n in names))
    return table


def by_row(steps: pd.DataFrame) -> pd.DataFrame:
    """Mean cosine, percent of looks in conflict, and lengths, at each row."""
    steps = steps.assign(in_conflict_percent=100.0 * (steps["cosine"] < -0.05))
    shown = ["cosine", "in_conflict_percent", "early_norm", "late_norm"]
    return steps.groupby(["problem", "cell", "row"], sort=False)[shown].mean().round(3)


def by_distance(norms: pd.DataFrame) -> pd.DataFrame:
    """Median over seeds of the length at some distances."""
    shown = norms[norms["distance"].isin([4, 20, 60, 100, 196])]
    return shown.pivot_table(
        index="network", columns="distance", values="length", aggfunc="median", sort=False
    ).map("{:.1e}".format)


BLUE, ORANGE, GREEN, PINK, SKY, RED = (
    BLUE, YELLOW, GREEN, PINK, SKY, ORANGE,
)  # fmt: skip


def draw(rows: pd.DataFrame, steps: pd.DataFrame, norms: pd.DataFrame, target: Path) -> None:
    """Angles over time and training; lengths by row and by distance; what it costs whom."""
    plt.rcParams["svg.hashsalt"] = "through time"
    figure, panels = plt.subplots(2, 2, figsize=(11, 8.4), layout="constrained")
    problem = rows["problem"].iloc[0]
    steps = steps[steps["problem"] == problem]
    draw_angles(figure, panels[0, 0], steps[(steps["cell"] == "plain") & (steps["seed"] == 0)])
    draw_rows(panels[0, 1], steps[steps["cell"] == "plain"])
    draw_errors(panels[1, 0], rows[(rows["problem"] == problem) & (rows["cell"] == "plain")])
    draw_distances(panels[1, 1], norms)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def draw_angles(figure: plt.Figure, axes: plt.Axes, own: pd.DataFrame) -> None:
    """A column for each look at one training, a line for each row that both losses see."""
    table = own[own["row"].between(1, SIDE)].pivot(index="row", columns="training", values="cosine")
    image = axes.pcolormesh(
        table.columns, table.index, table, cmap="RdBu", vmin=-1, vmax=1, rasterized=False
    )
    axes.invert_yaxis()
    axes.set(title="Both losses at the same row: red fights, blue agrees", xlabel="training step")
    axes.set_ylabel("row read (early loss after row 14)")
    figure.colorbar(image, ax=axes, label="cosine of the contributions, seed 0")


def draw_rows(axes: plt.Axes, own: pd.DataFrame) -> None:
    """How strongly angles differ from right ones, and how long contributions are, by row."""
    own = own[own["row"] > 0]
    by_row = own.assign(strength=own["cosine"].abs()).groupby("row")
    mean = by_row[["strength", "early_norm", "late_norm"]].mean()
    mean.loc[SIDE + 1 :, ["strength", "early_norm"]] = np.nan
    lines = {
        "early_norm": ("early loss: length", ORANGE, "-", (14.3, 0.2)),
        "late_norm": ("late loss: length", BLUE, "-", (15, 0.105)),
        "strength": ("|cosine| of both", "#333333", "--", (2.8, 0.42)),
    }
    for key, (name, color, style, place) in lines.items():
        axes.plot(mean.index, mean[key], color=color, lw=2, ls=style)
        axes.annotate(name, place, color=color)
    axes.axvline(SIDE, color="#999999", lw=1, ls=":")
    axes.set(title="Contributions of each row to the gradient", xlabel="row read", ylim=(0, None))
    axes.set_ylabel("mean over training and seeds")


def draw_errors(axes: plt.Axes, own: pd.DataFrame) -> None:
    """Median error of either task: fixed weights are a line, everything else a point."""
    medians = own.groupby("method")[["test_early", "test_late"]].median()
    grid = [grid_name(q) for q in RATIOS]
    line = medians.rename({PLAIN: grid_name(1.0)}).reindex(grid).dropna()
    axes.plot(line["test_early"], line["test_late"], "o-", color="#888888", ms=4, lw=1.2)
    for name, place in line.iterrows():
        label = str(name).removeprefix("weights ")
        axes.annotate(label, tuple(place), color="#666666", size=9, xytext=(4, -11),
                      textcoords="offset points")  # fmt: skip
    for name, (label, color, shift) in LABELS.items():
        if name in medians.index:
            place = tuple(medians.loc[name])
            axes.plot(*place, "s" if "by step" in name else "D", color=color, ms=7)
            axes.annotate(label, place, color=color, xytext=shift, textcoords="offset points")
    axes.axvline(medians.loc[EARLY_ALONE, "test_early"], color="#333333", lw=1, ls=":")
    axes.axhline(medians.loc[LATE_ALONE, "test_late"], color="#333333", lw=1, ls=":")
    axes.set(title="Errors on test; dotted: each task alone; gray: weights")
    axes.set(xlabel="early: error of the slant, % of its spread", ylabel="late: % of digits wrong")


LABELS = {  # label, color and place of each point
    "UPGrad": ("UPGrad", BLUE, (-20, -18)),
    "MGDA": ("MGDA", GREEN, (8, -3)),
    "NashMTL": ("NashMTL", SKY, (-18, 9)),
    "IMTLG": ("IMTLG", PINK, (-16, -18)),
    "UPGrad by step": ("UPGrad by step", BLUE, (9, -4)),
    "MGDA by step": ("MGDA by step", GREEN, (9, 0)),
    "late loss cut after 7 rows": ("late loss cut", RED, (9, -8)),
    "PriorityProjection, late first": ("late first\n(PriorityProjection)", ORANGE, (-58, 9)),
}


def draw_distances(axes: plt.Axes, norms: pd.DataFrame) -> None:
    """Length of the gradient against distance, a line per network, on a log axis."""
    places = {
        "plain, weights x 2": (PINK, (40, 1e6)),
        "gated, told to keep": (GREEN, (110, 2e0)),
        "plain, orthogonal": (BLUE, (110, 1e-4)),
        "plain, weights x 0.8": (RED, (104, 1e-9)),
        "gated (GRU)": (ORANGE, (5, 1e-9)),
    }
    for name, (color, place) in places.items():
        own = norms[norms["network"] == name]
        middle = own.groupby("distance")["length"].median()
        middle = middle[middle > 1e-14]
        axes.plot(middle.index, middle, color=color, lw=2)
        axes.annotate(name, place, color=color)
    axes.set(yscale="log", ylim=(1e-12, 1e12), xlabel="steps back from the loss")
    axes.set(title="Untrained networks on 196 pixels", ylabel="length relative to the last state")


if __name__ == "__main__":
    main()
