"""The Pareto front of a two-task network: one network per ray, or one hypernetwork for all rays.

    python experiments/conflict/two_task_front.py          # about 10 minutes; --jobs N: N at once
    python experiments/conflict/two_task_front.py --quick  # a trial in a minute; writes nothing
    python experiments/conflict/two_task_front.py --show   # tables and figures of written rows

Two digits overlap; the encoder ends in a neck that is too narrow for both, and there are two heads.
A ray (preference vector) says how much the first task counts; seven rays give seven trade-offs.
There are three ways to get them. Seven networks have seven fixed weightings; this grid is the
baseline. Or a solver with a preference vector trains each of seven networks along its ray. Or one
hypernetwork computes the weights of a network from a ray, trained on seven sampled rays in each
step. Each way has the same number of steps of Adam on the same batches. It also has the same number
of backward passes through networks, except that solvers that need gradients take two where others
take one. A second hypernetwork has one ray in each step, the budget of one network. The gradients
are those of all weights, so a hypernetwork and a network are treated in the same way.

The range of the rays around equal weights matters much, also for the grid. So it is chosen for each
solver, by the hypervolume of losses on `valid`, on a seed that is not reported. The learning rates
are chosen in the same way: for networks with linear scalarization, for hypernetworks with smooth
Tchebycheff. All hypernetworks have the range of rays of the latter. So does a grid with three times
the steps, which shows how far the trainings are from convergence. Losses and errors are relative to
guessing, so (1, 1) is the reference point of the hypervolume and the whole unit square counts
as 1. All results are on `test`; the distance from the rays is also measured on `train`, where
solvers work.

Writes `two_task_front.csv` (a row for each network, also for those of a hypernetwork) and two
figures in `docs/where-conflict-appears/`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import common
import matplotlib.pyplot as plt
import moocore
import numpy as np
import pandas as pd
import torch
from common import BLUE, GRAY, HERE, ORANGE, PAGES, PINK, SKY, Row
from jaxtyping import Float
from torch import Tensor, nn
from two_task_networks import (
    DIGITS,
    PROBLEMS,
    SLANT,
    Hypernetwork,
    OneEach,
    Perceptron,
    log_ratio,
    rays_at,
    sampled,
    splits,
)

from paretonas.conflict import cosine_similarity
from paretonas.solvers import (
    EPO,
    PMGDA,
    PMTL,
    LinearScalarization,
    SmoothTchebycheff,
    UPGrad,
    Weighted,
)
from paretonas.solvers.base import WeightingSolver

LINEAR, SMOOTH = "linear", "smooth Tchebycheff"
SOLVERS: dict[str, Callable[[Float[Tensor, "r 2"]], WeightingSolver]] = {
    LINEAR: LinearScalarization,
    SMOOTH: SmoothTchebycheff,
    "EPO": EPO,
    "PMTL": PMTL,
    "PMGDA": PMGDA,
    "UPGrad, weighted": lambda rays: Weighted(rays, UPGrad()),
}
AIMED = (SMOOTH, "EPO", "PMTL", "PMGDA")  # at preference_i * loss_i being the same
ONE = "equal weights, one network"
GRID, LONG, ALONE = "networks", "networks, 3 x steps", "single-task"
HYPER, SMALL = "hypernetwork", "hypernetwork, 1 ray"
GUESS = 0.95  # loss from which on a task counts as not learned
ONLY = 14.0  # log of a ratio of weights at which the other task has no say


@dataclass(frozen=True)
class Settings(common.Trainings):
    """What is compared.

    Attributes:
        problems: names in `PROBLEMS`.
        solvers: names in `SOLVERS`, for networks.
        hyper: names in `SOLVERS`, for hypernetworks.
        room: further widths (neck, hidden) for `DIGITS`, to see the front shrink.
        rays: how many networks, evenly spaced in the log of the ratio of the preferences.
        dense: how many networks to ask of a trained hypernetwork besides.
        spreads: logs of ratios that the rays may reach, to choose from.
        rates: of networks, to choose from.
        hyper_rates: of hypernetworks, to choose from.
        steps: of each training.
        hidden: width of the first layer.
        features: of a ray, from which a hypernetwork makes weights linearly.
        look_every: steps between two looks at the angle of the gradients.
        processes: that train side by side.
        csv: where the rows go; None writes nothing.
        figures: the folder for the figures; None draws nothing.
    """

    problems: tuple[str, ...] = tuple(PROBLEMS)
    solvers: tuple[str, ...] = tuple(SOLVERS)
    hyper: tuple[str, ...] = (LINEAR, SMOOTH, "EPO")
    room: tuple[tuple[int, int], ...] = ((8, 32), (16, 64), (32, 128))
    rays: int = 7
    dense: int = 21
    spreads: tuple[float, ...] = (0.4, 0.75, 1.5, 2.25)
    rates: tuple[float, ...] = (1e-2, 3e-2, 1e-1)
    hyper_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    steps: int = 600
    hidden: int = 32
    features: int = 16
    look_every: int = 25
    processes: int = 1
    csv: Path | None = HERE / "two_task_front.csv"
    figures: Path | None = PAGES


@dataclass(frozen=True)
class Plan:
    """One training: of a network per ray, or of a hypernetwork."""

    problem: str
    family: str
    solver: str
    seed: int
    rate: float
    spread: float
    neck: int
    hidden: int
    settings: Settings

    @property
    def steps(self) -> int:
        """How many: to see whether a front is done, three times as many."""
        return self.settings.steps * (3 if self.family == LONG else 1)


QUICK = {
    "room": (),
    "spreads": (1.5,),
    "rates": (3e-2,),
    "hyper_rates": (1e-2,),
    "seeds": 1,
    "steps": 60,
}


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """Train everything, and say what came out."""
    settings, show = common.read_command(__doc__, arguments, settings or Settings(), QUICK)
    (frame,) = common.written(show, lambda: [everything(settings)], settings.csv)
    for problem in dict.fromkeys(frame["problem"]):
        print(f"\n{problem}\n{summary(frame, problem).to_string()}")
    print(f"\nconflict\n{conflict(frame).to_string()}")
    print(f"\nroom\n{room(frame).to_string()}")
    if settings.figures is not None:
        settings.figures.mkdir(exist_ok=True)
        draw_fronts(frame, settings.figures / "two-task-front.svg")
        draw_volumes(frame, settings.figures / "two-task-front-volume.svg")
    return frame


def everything(settings: Settings) -> pd.DataFrame:
    """Tune on a seed of its own, then train all plans of all seeds."""
    with common.side_by_side(settings.processes) as each:
        return pd.DataFrame(compare(settings, each)).round(4)


Map = Callable[[Callable[[Plan], list[Row]], Iterable[Plan]], Iterator[list[Row]]]


def compare(settings: Settings, run: Map) -> list[Row]:
    """Choose rates and spreads on `valid`, with the seed after the last; then compare."""
    plans = []
    for name in settings.problems:
        neck, hidden, spreads = PROBLEMS[name].neck, settings.hidden, settings.spreads
        middle = spreads[(len(spreads) - 1) // 2]
        start = Plan(name, GRID, LINEAR, 0, 0.0, middle, neck, hidden, settings)
        (start,) = best([[replace(start, rate=rate) for rate in settings.rates]], run)
        grids = [replace(start, solver=solver) for solver in settings.solvers]
        grids = best([[replace(grid, spread=s) for s in spreads] for grid in grids], run)
        tuned = dict(zip(settings.solvers, grids, strict=True))
        hyper = replace(tuned[SMOOTH], family=HYPER)
        (hyper,) = best([[replace(hyper, rate=rate) for rate in settings.hyper_rates]], run)
        alone = replace(start, family=ALONE, spread=ONLY)
        long = replace(tuned[SMOOTH], family=LONG, solver=LINEAR)
        own = [alone, long, *grids]
        for solver in settings.hyper:
            own += [replace(hyper, family=family, solver=solver) for family in (HYPER, SMALL)]
        if name == DIGITS:
            own += [
                replace(plan, neck=neck, hidden=hidden)
                for neck, hidden in settings.room
                for plan in (alone, tuned[SMOOTH])
            ]
        plans += [replace(plan, seed=seed) for seed in range(settings.seeds) for plan in own]
    rows = []
    for plan, found in zip(plans, run(train, plans), strict=True):
        print(f"{plan.problem}, seed {plan.seed}: {plan.family}, {plan.solver}", flush=True)
        rows += found
    return rows


def best(groups: Sequence[Sequence[Plan]], run: Map) -> list[Plan]:
    """The plan of each group with the largest hypervolume of losses on `valid`."""
    flat = [replace(plan, seed=plan.settings.seeds) for group in groups for plan in group]
    scores = {}
    for plan, rows in zip(flat, run(train, flat), strict=True):
        points = pd.DataFrame([row for row in rows if row["on_grid"]])
        scores[replace(plan, seed=0)] = volume(points, "valid_loss")
        tried = f"{plan.family}, {plan.solver}, rate {plan.rate:g}, spread {plan.spread:g}"
        print(f"{plan.problem}: {tried}: {volume(points, 'valid_loss'):.4f}", flush=True)
    return [max(group, key=scores.__getitem__) for group in groups]


def train(plan: Plan) -> list[Row]:
    """Train, and look at the network of each ray: losses and errors on all splits, conflict."""
    torch.set_num_threads(1)
    settings = plan.settings
    inputs, answers = splits()["train"]
    form = Perceptron(PROBLEMS[plan.problem], plan.neck, plan.hidden)
    count = 2 if plan.family == ALONE else settings.rays
    grid = rays_at(torch.linspace(-plan.spread, plan.spread, count))
    torch.manual_seed(plan.seed)
    hyper = plan.family in (HYPER, SMALL)
    model = Hypernetwork(form, settings.features) if hyper else OneEach(form, count)
    optimizer = torch.optim.Adam(model.parameters(), plan.rate, fused=True)
    generator = torch.Generator().manual_seed(plan.seed)
    cosines: list[Tensor] = []
    began = time.process_time()
    for step, rows in zip(range(plan.steps), batches(plan), strict=False):
        optimizer.param_groups[0]["lr"] = plan.rate * (1 - step / plan.steps)
        rays = grid
        if hyper:
            rays = sampled(1 if plan.family == SMALL else count, plan.spread, generator)
        weights = model(rays)
        losses = form.losses(weights, inputs[rows], {k: a[rows] for k, a in answers.items()})
        optimizer.zero_grad()
        solver = SOLVERS[plan.solver](rays)
        look = not hyper and step % settings.look_every == 0
        if look or solver.needs_gradients:
            jacobian = jacobian_of(losses, weights)
            if look:
                cosines.append(cosine_similarity(jacobian[..., : form.shared])[:, 0, 1])
            direction = solver(jacobian, losses.detach()).vector
        else:  # one backward pass, of the weighted sum
            shares = solver.from_values(losses.detach()).weights
            direction = torch.autograd.grad((shares * losses).sum(), weights, retain_graph=hyper)[0]
        weights.backward(direction)  # down the hypernetwork, or into .grad
        optimizer.step()
    about: Row = {
        key: getattr(plan, key)
        for key in ("problem", "family", "solver", "seed", "rate", "spread", "neck", "hidden")
    }
    about["seconds"] = time.process_time() - began
    late = torch.stack(cosines[len(cosines) // 2 :]).mean(dim=0).tolist() if cosines else []
    found = looks(form, model, grid)
    for row, cosine in zip(found, late, strict=False):
        row["batch_cosine"] = cosine
    if plan.family == HYPER:
        dense = rays_at(torch.linspace(-plan.spread, plan.spread, settings.dense))
        found += [{**row, "on_grid": False} for row in looks(form, model, dense)]
    return [{**about, "on_grid": True, **row} for row in found]


def looks(form: Perceptron, model: nn.Module, rays: Float[Tensor, "r 2"]) -> list[Row]:
    """Losses and errors of the network of each ray, and the cosine of its tasks on all of train."""
    weights = model(rays)
    found: list[Row] = [{"log_ratio": float(z)} for z in log_ratio(rays)]
    for split, (inputs, answers) in splits().items():
        losses = form.losses(weights, inputs, answers)
        for row, (one, two) in zip(found, losses.tolist(), strict=True):
            row |= {f"{split}_loss_1": one, f"{split}_loss_2": two}
        if split == "test":
            with torch.no_grad():
                errors = form.errors(weights, inputs, answers)
            for row, (one, two) in zip(found, errors.tolist(), strict=True):
                row |= {"test_error_1": one, "test_error_2": two}
        if split == "train":
            shared = jacobian_of(losses, weights)[..., : form.shared]
            for row, cosine in zip(found, cosine_similarity(shared)[:, 0, 1], strict=True):
                row["cosine"] = float(cosine)
    return found


def jacobian_of(
    losses: Float[Tensor, "r 2"], weights: Float[Tensor, "r n"]
) -> Float[Tensor, "r 2 n"]:
    """Gradients for all rays: they do not interact, so that of a sum over them holds each."""
    columns = losses.unbind(dim=1)
    rows = [torch.autograd.grad(x.sum(), weights, retain_graph=True)[0] for x in columns]
    return torch.stack(rows, dim=1)


def batches(plan: Plan) -> Iterator[Tensor]:
    """Rows for each step, epoch after epoch: the same for every method."""
    generator = torch.Generator().manual_seed(1000 + plan.seed)
    total, batch = len(splits()["train"][0]), plan.settings.batch
    while True:
        order = torch.randperm(total, generator=generator)[: total - total % batch]
        yield from order.split(batch)


def volume(points: pd.DataFrame, key: str) -> float:
    """The hypervolume of two columns; 1 is the unit square, that is no loss at all."""
    return float(moocore.hypervolume(points[[f"{key}_1", f"{key}_2"]].to_numpy(), ref=[1.0, 1.0]))


def of(frame: pd.DataFrame, problem: str) -> pd.DataFrame:
    """The rows of the narrow network of a problem."""
    own = frame[frame["problem"] == problem]
    return own[(own["neck"] == own["neck"].iloc[0]) & (own["hidden"] == own["hidden"].iloc[0])]


def volumes(frame: pd.DataFrame, problem: str) -> pd.DataFrame:
    """Hypervolumes on test, a row per training; also of the network with equal weights alone."""
    own = of(frame, problem)
    middle = own["family"].eq(GRID) & own["solver"].eq(LINEAR) & own["log_ratio"].abs().lt(1e-6)
    own = pd.concat(
        [
            *(own[own["family"] == f] for f in (GRID, LONG, HYPER, SMALL)),
            own[middle].assign(family=ONE),
        ]
    )
    rows = []
    for (family, solver, seed), points in own.groupby(["family", "solver", "seed"], sort=False):
        grid = points[points["on_grid"]]
        rows.append(
            {
                "family": family,
                "solver": solver,
                "seed": seed,
                "loss": volume(grid, "test_loss"),
                "error": volume(grid, "test_error"),
                "lost": int((grid[["test_loss_1", "test_loss_2"]] > GUESS).any(axis=1).sum()),
                "loss_dense": volume(points, "test_loss"),
                "error_dense": volume(points, "test_error"),
                "points": int(
                    moocore.is_nondominated(grid[["test_loss_1", "test_loss_2"]].to_numpy()).sum()
                ),
            }
        )
    return pd.DataFrame(rows)


def summary(frame: pd.DataFrame, problem: str) -> pd.DataFrame:
    """How each way to a front did: medians over seeds with least and greatest.

    "won" counts the seeds in which the hypervolume is larger than that of the grid of linear
    scalarizations; "dense" is with all rays that a hypernetwork was asked for. "points" are those
    on the front, of one per ray, and "lost" are networks of which one task is hardly better than
    guessing, means over seeds. "off_ray" is the mean angle in degrees between a network's losses
    and its ray, for solvers that aim at preference_i * loss_i being the same. "seconds" are those
    of training.
    """
    found = volumes(frame, problem)
    keys = ["family", "solver"]
    grid = found[found["family"].eq(GRID) & found["solver"].eq(LINEAR)].set_index("seed")
    table = pd.DataFrame(index=pd.MultiIndex.from_frame(found[keys].drop_duplicates()))
    for key in ("loss", "error"):
        groups = found.groupby(keys, sort=False)[key]
        low, middle, high = (groups.quantile(q) for q in (0.0, 0.5, 1.0))
        table[key] = [
            f"{m:.3f} ({a:.3f} to {b:.3f})" for a, m, b in zip(low, middle, high, strict=True)
        ]
        wins = found[key].gt(found["seed"].map(grid[key])).groupby([found[k] for k in keys]).sum()
        table[f"{key}_won"] = [f"{wins[name]}/{len(grid)}" for name in table.index]
        dense = found.groupby(keys)[f"{key}_dense"].median().round(3)
        table[f"{key}_dense"] = [
            f"{dense[name]:.3f}" if name[0] == HYPER else "" for name in table.index
        ]
    for key in ("points", "lost"):
        means = found.groupby(keys)[key].mean().round(1)
        table[key] = [f"{means[name]:.1f}" for name in table.index]
    own = of(frame, problem)
    own = own[own["on_grid"]]
    for split in ("train", "test"):
        angles = off_ray(own, split).groupby([own[k] for k in keys]).mean().round(1)
        table[f"off_ray_{split}"] = [
            f"{angles[name]:.1f}" if name[1] in AIMED else "" for name in table.index
        ]
    for key in ("spread", "rate", "seconds"):
        values = own.groupby(keys)[key].median()
        table[key] = [f"{values[name]:.3g}" if name in values else "" for name in table.index]
    return table


def off_ray(rows: pd.DataFrame, split: str) -> pd.Series:
    """Degrees between the losses and the direction in which preference_i * loss_i is the same."""
    losses = rows[f"{split}_loss_1"] / rows[f"{split}_loss_2"]
    return np.degrees((np.arctan(losses) - np.arctan(np.exp(-rows["log_ratio"]))).abs())


def conflict(frame: pd.DataFrame) -> pd.DataFrame:
    """Cosine of the tasks on the encoder, by ray: on all of train at the end, and on batches."""
    tables = []
    for problem in dict.fromkeys(frame["problem"]):
        own = of(frame, problem)
        own = own[own["family"].isin([GRID, HYPER]) & own["on_grid"]]
        place = own.groupby(["family", "solver", "seed"]).cumcount() + 1
        keys = [own["problem"], own["family"], own["solver"]]
        for key in ("cosine", "batch_cosine"):
            means = own.groupby([*keys, place], sort=False)[key].mean().unstack().round(2)
            tables.append(pd.concat({key: means.dropna(how="all")}, names=["gradients"]))
    return pd.concat(tables)


def room(frame: pd.DataFrame) -> pd.DataFrame:
    """What competing costs at each width: the best trade-off against two single-task networks.

    "price" is the smallest mean excess of the losses over those of single-task networks, on test;
    "width" the range of the first loss over the points of the front.
    """
    own = frame[(frame["problem"] == frame["problem"].iloc[0]) & frame["on_grid"]]
    rows = []
    for (neck, hidden, seed), some in own.groupby(["neck", "hidden", "seed"]):
        alone = some[some["family"] == ALONE]
        ideal = np.array([alone["test_loss_1"].min(), alone["test_loss_2"].min()])
        front = some[some["family"].eq(GRID) & some["solver"].eq(SMOOTH)]
        losses = front[["test_loss_1", "test_loss_2"]].to_numpy()
        if len(losses):
            rows.append(
                {
                    "neck": neck,
                    "hidden": hidden,
                    "seed": seed,
                    "alone_1": ideal[0],
                    "alone_2": ideal[1],
                    "price": (losses - ideal).mean(axis=1).min(),
                    "volume": volume(front, "test_loss"),
                    "ideal_volume": np.prod(1 - ideal),
                }
            )
    table = pd.DataFrame(rows)
    return table.groupby(["neck", "hidden"]).median().drop(columns="seed").round(3)


COLORS = {GRID: BLUE, LONG: SKY, HYPER: ORANGE, SMALL: PINK, ONE: GRAY}
NAMES = {LONG: "3 x steps, ", HYPER: "hypernet, ", ONE: ONE}
AXES = {DIGITS: ("loss, left digit", "loss, right digit"), SLANT: ("loss, digit", "loss, slant")}


def draw_fronts(frame: pd.DataFrame, target: Path) -> None:
    """Losses on test: a row of panels per problem, a panel per way to a front."""
    ways = {
        "linear grid": (GRID, LINEAR),
        "smooth Tchebycheff": (GRID, SMOOTH),
        "EPO": (GRID, "EPO"),
        "weighted UPGrad": (GRID, "UPGrad, weighted"),
        "hypernet, linear": (HYPER, LINEAR),
        "hypernet, smooth T.": (HYPER, SMOOTH),
    }
    problems = list(dict.fromkeys(frame["problem"]))
    figure, panels = plt.subplots(
        len(problems), len(ways), figsize=(12, 2.7 * len(problems) + 0.5),
        sharex="row", sharey="row", squeeze=False, layout="constrained",
    )  # fmt: skip
    keys = ["test_loss_1", "test_loss_2"]
    for row, problem in zip(panels, problems, strict=True):
        own = of(frame, problem)
        alone = own[own["family"] == ALONE].groupby("seed")[keys].min().median()
        for axes, (title, (family, solver)) in zip(row, ways.items(), strict=True):
            some = own[own["family"].eq(family) & own["solver"].eq(solver)]
            axes.axvline(alone.iloc[0], color="#999999", lw=0.8, ls=":")
            axes.axhline(alone.iloc[1], color="#999999", lw=0.8, ls=":")
            axes.plot(*alone, "k*", ms=9)
            color = COLORS[family]
            for _, one in some[some["on_grid"]].groupby("seed"):
                axes.plot(*one[keys].to_numpy().T, "o", color=color, ms=3.5, alpha=0.35, mew=0)
            lines = some[some["on_grid"].eq(family == GRID) & some["seed"].eq(0)]
            axes.plot(*lines[keys].to_numpy().T, "-", color=color, lw=1.6)
            volumes = [volume(one, "test_loss") for _, one in some[some.on_grid].groupby("seed")]
            if volumes:
                axes.set_title(
                    f"{title}\nhypervolume {np.median(volumes):.2f}", color=color, fontsize=11
                )
            axes.set(xlim=(0, 1.08), ylim=(0, 1.08), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
            axes.set_xlabel(AXES[problem][0])
            row[0].set_ylabel(AXES[problem][1])
        if problem == problems[0]:
            label = "two single-task networks"
            row[0].annotate(label, alone, (4, -14), textcoords="offset points", fontsize=8)
    common.save(figure, target, salt=target.stem)


def draw_volumes(frame: pd.DataFrame, target: Path) -> None:
    """Hypervolume of each way with its seeds, a panel per problem; how room shrinks the front."""
    problems = list(dict.fromkeys(frame["problem"]))
    figure, panels = plt.subplots(
        1, len(problems) + 1, figsize=(12, 4.4), layout="constrained",
        width_ratios=[*[1] * len(problems), 1.1],
    )  # fmt: skip
    for axes, problem in zip(panels, problems, strict=False):
        found = volumes(frame, problem)
        ways = list(found[["family", "solver"]].drop_duplicates().itertuples(index=False))
        ways = [way for way in ways if way.family != SMALL]
        for place, way in enumerate(reversed(ways)):
            some = found[found["family"].eq(way.family) & found["solver"].eq(way.solver)]
            color = COLORS[way.family]
            axes.plot(some["loss"], [place] * len(some), "o", color=color, ms=4, alpha=0.45, mew=0)
            axes.plot(some["loss"].median(), place, "D", color=color, ms=6)
            if way.family == HYPER:
                axes.plot(some["loss_dense"].median(), place, "D", mfc="none", color=color, ms=6)
        names = [NAMES.get(way.family, "") + way.solver * (way.family != ONE) for way in ways]
        axes.set_yticks(range(len(ways)), names[::-1] if axes is panels[0] else [""] * len(ways))
        for label, way in zip(axes.get_yticklabels(), reversed(ways), strict=True):
            label.set_color(COLORS[way.family])
        grid = found[found["family"].eq(GRID) & found["solver"].eq(LINEAR)]["loss"].median()
        axes.axvline(grid, color=COLORS[GRID], lw=1, ls="--")
        axes.set(title=problem, xlabel="hypervolume of losses on test")
        axes.grid(axis="y", alpha=0.25)
    own = frame[(frame["problem"] == problems[0]) & frame["on_grid"]]
    own = own[own["family"].eq(GRID) & own["solver"].eq(SMOOTH)]
    keys = ["test_loss_1", "test_loss_2"]
    widths = list(own.groupby(["neck", "hidden"]))
    for shade, ((neck, _), some) in zip(
        plt.colormaps["viridis"](np.linspace(0.0, 0.8, len(widths))), widths, strict=True
    ):
        middle = some.assign(at=some["log_ratio"].round(3)).groupby("at")[keys].median()
        panels[-1].plot(*middle.to_numpy().T, "o-", color=shade, ms=4)
        end = middle.iloc[0]
        # The fronts of the widest two end in one place.
        beside = (-6, -15) if neck == widths[-1][0][0] else (7, -3)
        panels[-1].annotate(f"neck of {neck}", end, beside, textcoords="offset points", color=shade)
    panels[-1].set(
        title=f"{problems[0]}: more room, less front", xlim=(0, 1.2), ylim=(0, 1.05),
        xlabel=AXES[problems[0]][0], ylabel=AXES[problems[0]][1],
    )  # fmt: skip
    common.save(figure, target, salt=target.stem)


if __name__ == "__main__":
    main()
