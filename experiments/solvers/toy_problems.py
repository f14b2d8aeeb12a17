"""Where each solver ends on the two-parameter problems of the papers on gradient surgery.

    python experiments/solvers/toy_problems.py                      # all: a quarter of an hour
    python experiments/solvers/toy_problems.py --only MGDA SAMGS    # these methods
    python experiments/solvers/toy_problems.py --steps 0.1          # a tenth of the steps

There are two objectives of two parameters: a plateau with a valley for x2 > 0, two bowls for x2 <
0, or, in one of them, two minima. Adam has a learning rate of 1e-3, as published, and uses float64,
because some methods end elsewhere in float32. All starts of a problem run at the same time, as rays
of one call.

The direction alone does not decide if a method reaches the front from a start: with two objectives
NashMTL, IMTLG and ConFIG have the same direction, but Adam sees different lengths. Writes
`toy_problems.csv` (a row per method, problem and start) and `docs/toy_problems.svg`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch

from paretonas import solvers

matplotlib.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
LEARNING_RATE, BETAS, EPSILON = 1e-3, (0.9, 0.999), 1e-8  # of Adam
EVERY = 50  # steps between the recorded positions
RESTING = 1e-9  # a runner none of whose starts got farther than this in that time has stopped
NEAR = 0.15  # distance at which a place counts as reached
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Toy:
    """One problem as published.

    Attributes:
        starts: (k, 2).
        steps: of Adam; a runner goes on to the most of any of its problems, what follows is cut.
        scale: of the first objective.
        optima: the minima of the sum of both objectives.
        two: whether the bowls are those with two minima.
    """

    starts: Array
    steps: int
    scale: float = 1.0
    optima: tuple[tuple[float, float], ...] = ((0.0, -8.355),)
    two: bool = False


def _points(*pairs: tuple[float, float]) -> Array:
    return np.array(pairs)


NASH = _points((-8.5, 7.5), (0, 0), (9, 9), (-7.5, -0.5), (9, -1))
SAM = _points((-8, 5), (-3, 7.5), (0, 10), (3, 7.5), (8, 5), (-10, -3), (10, -3))
TWO = _points((-3.5, 5.5), (3.5, 5.5), (-6.5, 2.5), (6.5, 2.5), (0, 10), (0, -8))
TOYS: dict[str, Toy] = {
    "nash": Toy(NASH, 35_000, scale=0.1),
    "nash, unscaled": Toy(NASH, 35_000),
    "cagrad": Toy(_points((-8.5, 7.5), (-8.5, -5), (9, 9)), 100_000),
    "sam-gs": Toy(SAM, 20_000),
    "grid": Toy(_points(*product(np.linspace(-10, 10, 11), repeat=2)), 35_000, scale=0.1),
    "two minima": Toy(TWO, 21_000, optima=((-5.45, -10.84), (5.45, -10.84)), two=True),
}


@dataclass(frozen=True, eq=False)
class Method:
    """A solver, as its paper ran it.

    Attributes:
        build: makes the solver.
        other: makes it for a problem on which it had other settings.
        clip: the length to which the direction is shortened before Adam.
    """

    build: Callable[[], solvers.Solver]
    other: Mapping[str, Callable[[], solvers.Solver]] = field(default_factory=dict)
    clip: float = np.inf


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


METHODS: dict[str, Method] = {
    "LinearScalarization": Method(solvers.LinearScalarization),
    "RandomWeights": Method(lambda: solvers.RandomWeights(_seeded())),
    "UncertaintyWeighting": Method(solvers.UncertaintyWeighting),
    "DynamicWeightAverage": Method(solvers.DynamicWeightAverage),
    "GradNorm": Method(solvers.GradNorm),
    "FAMO": Method(lambda: solvers.FAMO(weight_decay=0.0), clip=1.0),
    "IMTLL": Method(solvers.IMTLL),
    "InverseMagnitude": Method(solvers.InverseMagnitude),
    "MGDA": Method(solvers.MGDA),
    "PCGrad": Method(solvers.PCGrad),
    "GradVac": Method(solvers.GradVac),
    "GradDrop": Method(lambda: solvers.GradDrop(generator=_seeded())),
    "CAGrad": Method(solvers.CAGrad, {"cagrad": lambda: solvers.CAGrad(c=0.5)}),
    "IMTLG": Method(solvers.IMTLG),
    "NashMTL": Method(solvers.NashMTL),
    "FairGrad": Method(solvers.FairGrad),
    "AlignedMTL": Method(solvers.AlignedMTL),
    "UPGrad": Method(solvers.UPGrad),
    "DualProj": Method(solvers.DualProj),
    "ConFIG": Method(solvers.ConFIG),
    "PriorityProjection": Method(solvers.PriorityProjection),
    "SAMGS": Method(solvers.SAMGS, {"two minima": lambda: solvers.SAMGS(beta2=0.9)}),
    "Tchebycheff": Method(solvers.Tchebycheff),
    "SmoothTchebycheff": Method(lambda: solvers.SmoothTchebycheff(mu=0.1)),
    "EPO": Method(solvers.EPO),
    "PMTL": Method(solvers.PMTL),
    "PMGDA": Method(solvers.PMGDA),
}


def main(arguments: Sequence[str] | None = None, out: Path | None = None) -> None:
    """Run the methods on all problems, print where they end, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=float, default=1.0, help="part of the published steps")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results, paths = run({name: METHODS[name] for name in chosen.only}, part=chosen.steps)
    print(summary(results).to_string())
    results.round(4).to_csv((out or HERE) / "toy_problems.csv", index=False)
    draw(results, paths, (out or HERE.parents[1] / "docs") / "toy_problems.svg")


@dataclass(frozen=True, eq=False)
class Runner:
    """A method on the problems for which it has the same settings: their starts are its rays."""

    method: str
    solver: solvers.Solver
    clip: float
    toys: Mapping[str, Toy]


def run(
    methods: Mapping[str, Method], part: float = 1.0, toys: Mapping[str, Toy] = TOYS
) -> tuple[pd.DataFrame, dict[tuple[str, str], Array]]:
    """Run all methods: a row per method, problem and start; the paths (t, k, 2) by the first two.

    All of them walk side by side, the long problems apart from the others.
    """
    rows, paths = [], {}
    for long in (False, True):
        runners = []
        for name, method in methods.items():
            settings: dict[Callable[[], solvers.Solver], dict[str, Toy]] = {}
            for key, toy in toys.items():
                if (toy.steps > 50_000) == long:
                    settings.setdefault(method.other.get(key, method.build), {})[key] = toy
            runners += [Runner(name, build(), method.clip, own) for build, own in settings.items()]
        path, first = descend(runners, part), 0
        for runner in runners:
            for key, toy in runner.toys.items():
                last = first + len(toy.starts)
                own = path[: round(part * toy.steps) // EVERY + 1, first:last]
                paths[runner.method, key], first = own, last
                rows += [{"method": runner.method, "problem": key} | row for row in ends(toy, own)]
    order = {name: k for k, name in enumerate(methods)}
    frame = pd.DataFrame(rows)
    return frame.sort_values("method", key=lambda names: names.map(order), kind="stable"), paths


def descend(runners: Sequence[Runner], part: float) -> Array:
    """Positions (t, r, 2) after every `EVERY` steps, the starts first; r rays of all runners."""
    toys = [toy for runner in runners for toy in runner.toys.values()]
    if not toys:
        return np.zeros((1, 0, 2))
    counts = [len(toy.starts) for toy in toys]
    x = np.concatenate([toy.starts for toy in toys]).astype(float)
    scale, two = (np.repeat([getattr(t, key) for t in toys], counts) for key in ("scale", "two"))
    lowest = np.where(two, -51.0, -21.0)[:, None] * np.stack([scale, np.ones_like(scale)], 1)
    ends_of = np.cumsum([sum(len(toy.starts) for toy in r.toys.values()) for r in runners])
    parts = [
        slice(end - begin, end)
        for begin, end in zip(np.diff(ends_of, prepend=0), ends_of, strict=True)
    ]
    states: list[object] = [None] * len(runners)
    gradient, mean, square = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    moving = np.ones((len(x), 1))
    path = [x.copy()]
    for step in range(1, round(part * max(toy.steps for toy in toys)) + 1):
        values, jacobian = evaluate(x, scale, two)
        # Methods that want positive losses count from what no loss gets below.
        above, rows = torch.from_numpy(values - lowest), torch.from_numpy(jacobian)
        for k, (runner, own) in enumerate(zip(runners, parts, strict=True)):
            if not moving[own.start]:
                continue
            direction = runner.solver(rows[own], above[own], states[k])
            states[k] = direction.state
            gradient[own] = direction.vector.numpy()
            if runner.clip < np.inf:
                length = np.sqrt((gradient[own] ** 2).sum(1, keepdims=True))
                gradient[own] *= np.minimum(1.0, runner.clip / np.maximum(length, 1e-300))
        mean += (1 - BETAS[0]) * (gradient - mean)
        square += (1 - BETAS[1]) * (gradient * gradient - square)
        spread = np.sqrt(square / (1 - BETAS[1] ** step)) + EPSILON
        x -= LEARNING_RATE / (1 - BETAS[0] ** step) * moving * mean / spread
        if step % EVERY == 0:
            for own in parts:
                moving[own] = np.abs(x[own] - path[-1][own]).max() > RESTING
            path.append(x.copy())
    return np.stack(path)


def ends(toy: Toy, path: Array) -> Iterator[dict[str, object]]:
    """What came out, a row per start."""
    on_front = reached_front(path, toy)
    for start, end, hits in zip(path[0], path[-1], on_front.T, strict=True):
        yield {
            "start_1": start[0],
            "start_2": start[1],
            "end_1": end[0],
            "end_2": end[1],
            "front": bool(hits[-1]),
            "optimum": any(np.hypot(*(end - best)) < NEAR for best in toy.optima),
            "front_step": EVERY * int(hits.argmax()) if hits.any() else np.nan,
        }


def evaluate(x: Array, scale: Array, two: Array) -> tuple[Array, Array]:
    """Both objectives (r, 2) at x (r, 2), and their gradients (r, 2, 2)."""
    x1, x2 = x[:, 0], x[:, 1]
    bend = np.tanh(x2)
    u = np.stack([0.5 * (-x1 - 7) + bend, 0.5 * (-x1 + 3) - bend + 2])  # objectives first
    steep = 1 - bend * bend
    size = np.abs(u)
    inside = np.where(size > 5e-6, 1 / np.where(size > 5e-6, u, 1.0), 0.0)
    ridge = np.log(np.maximum(size, 5e-6)) + 6
    q, q1, q2 = _bowl(x1, x2)
    if two.any():
        q[:, two], q1[:, two], q2[:, two] = _sextic(x1[two], x2[two])
    half = np.tanh(0.5 * x2)
    up, down = np.maximum(half, 0), np.maximum(-half, 0)
    turn = 0.5 * (1 - half * half)
    up2, down2 = turn * (half >= 0), -turn * (half <= 0)  # at 0 both, as torch.clamp has it
    values = ridge * up + q * down
    by_1 = -0.5 * inside * up + q1 * down
    by_2 = inside * np.stack([steep, -steep]) * up + ridge * up2 + q2 * down + q * down2
    values[0] *= scale
    by_1[0] *= scale
    by_2[0] *= scale
    return values.T.copy(), np.stack([by_1, by_2], -1).transpose(1, 0, 2).copy()


def _bowl(x1: Array, x2: Array) -> tuple[Array, Array, Array]:
    away = np.stack([x1 - 7, x1 + 7])
    q = (away * away + 0.1 * (x2 + 8) ** 2) / 10 - 20
    return q, away / 5, np.broadcast_to(0.02 * (x2 + 8), q.shape).copy()


def _sextic(x1: Array, x2: Array) -> tuple[Array, Array, Array]:
    a, b = np.stack([x1 - 5.45, x1 + 5.45]) / 4, np.stack([x1 - 5.5, x1 + 5.5]) / 4
    c = x2 / 4
    q = 0.1 * (a**6 + c**6) - (b**4 + c**4) - 1.5 * (b**2 + c**2) + 1.5
    q1 = (0.6 * a**5 - 4 * b**3 - 3 * b) / 4
    return q, q1, np.broadcast_to((0.6 * c**5 - 4 * c**3 - 3 * c) / 4, q.shape).copy()


def reached_front(x: Array, toy: Toy) -> Array:
    """Whether points (..., 2) are within `NEAR` of the Pareto set; for two minima, of an optimum.

    The Pareto set of the bowls is a bent line between their minima, x2 from -8.355 to -8.434.
    """
    if toy.two:
        return np.any([np.hypot(*np.moveaxis(x - p, -1, 0)) < NEAR for p in toy.optima], axis=0)
    outside = np.maximum(np.abs(x[..., 0]) - 7.0, 0.0)
    return np.hypot(outside, x[..., 1] - _front_line(np.clip(x[..., 0], -7, 7))) < NEAR


def _front_line(x1: Array) -> Array:
    return -8.3551 - 0.0794 * (x1 / 7) ** 2


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Starts that end on the front and at the optimum; on the grid, their share and median step."""
    table = {}
    for problem, rows in results.groupby("problem", sort=False):
        by = rows.groupby("method", sort=False)
        front, best, count = by["front"].sum(), by["optimum"].sum(), by.size()
        if problem == "grid":
            table["grid, front"] = (front / count).map("{:.3f}".format)
            table["grid, median step"] = by["front_step"].median()
        elif problem == "two minima":
            table["two minima, optima"] = best.astype(str) + f"/{count.iloc[0]}"
        else:
            table[str(problem)] = front.astype(str) + "/" + best.astype(str)
    return pd.DataFrame(table)


SHOWN = (
    "LinearScalarization", "MGDA", "PCGrad", "CAGrad", "IMTLG", "NashMTL", "FairGrad", "AlignedMTL",
    "ConFIG", "FAMO", "SmoothTchebycheff", "SAMGS",
)  # fmt: skip


def draw(results: pd.DataFrame, paths: Mapping[tuple[str, str], Array], file: Path) -> None:
    """The paths of SHOWN, or of what else has run, over the sum of both objectives."""
    methods = [name for name in SHOWN if (name, "sam-gs") in paths]
    methods = methods or list(dict.fromkeys(results["method"]))
    columns = min(4, len(methods))
    count = -(-len(methods) // columns)
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "paretonas", "font.size": 9})
    figure, panels = plt.subplots(
        count, columns, figsize=(2.2 * columns, 2.3 * count), layout="constrained", squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    side = np.linspace(-11, 11, 110)
    places = np.stack([a.ravel() for a in np.meshgrid(side, side)], 1)
    ones = np.ones(len(places))
    height = evaluate(places, ones, ones < 0)[0].sum(1).reshape(len(side), -1)
    colors = {"optimum": "#1b7837", "front": "#2166ac", "elsewhere": "#d6604d"}
    for axes in panels.flat[len(methods) :]:
        axes.set_visible(False)
    for axes, name in zip(panels.flat, methods, strict=False):
        axes.imshow(
            np.digitize(height, np.quantile(height, np.linspace(0, 1, 25))),
            extent=(-11, 11, -11, 11), origin="lower", cmap="Greys_r", vmin=-15,
        )  # fmt: skip
        front = np.linspace(-7, 7, 29)
        axes.plot(front, _front_line(front), color="black", lw=3, alpha=0.35, solid_capstyle="butt")
        path = paths[name, "sam-gs"]
        here = results[(results["method"] == name) & (results["problem"] == "sam-gs")]
        for k, (_, row) in enumerate(here.iterrows()):
            color = colors[
                "optimum" if row["optimum"] else "front" if row["front"] else "elsewhere"
            ]
            axes.plot(*path[::8, k].T, color=color, lw=1.2)
            axes.plot(*path[0, k], "o", ms=3, mfc="white", mec=color)
            axes.plot(*path[-1, k], "o", ms=4, color=color)
        axes.set_title(f"{name}: {here['front'].sum()} of {len(here)}", fontsize=9)
    figure.supxlabel("x1", fontsize=9)
    figure.supylabel("x2", fontsize=9)
    labels = {
        "optimum": "ends at the best sum",
        "front": "elsewhere on the front (gray bar)",
        "elsewhere": "not on the front after 20,000 steps",
    }
    lines = [plt.Line2D([], [], color=colors[key], label=text) for key, text in labels.items()]
    figure.legend(handles=lines, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
