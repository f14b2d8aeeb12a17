"""The gradient search on one page: from a space to a front of measured networks.

1. Costs: latency is tabulated on this device, memory by liveness.
2. Weights: the supernet is trained on fairly drawn single paths.
3. Alpha: a surrogate is fitted to scores with inherited weights; a solver drives one distribution per
   ray down all objectives at once, through the surrogate and the cost tables; what the
   distributions lead to is scored next, and so on.
4. Finalists: the architectures expected to add most to the front are trained from fresh weights and
   measured; each result corrects the surrogate, and alpha is driven again.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..constraint import Constraint
from ..data import Data
from ..devices import measure_latency
from ..front import Front, Point
from ..nn import NetworkSpace, Supernet
from ..objectives import Latency, Memory, Objective, Parameters
from ..objectives.profile import rank_correlation
from ..objectives.surrogate import Evidence, Surrogate
from ..relaxation import picks_of, probabilities, sizes_of
from ..runs import Run
from ..solvers import SmoothTchebycheff, Solver
from ..space import Architecture, decode, draw, encode, neighbors, size
from .acquire import acquire
from .alpha import AlphaStep, Relaxed, Scale, aimed, drive, rays
from .finalists import Finalist, train_finalists
from .plan import DEFAULT_STEPS, SUPERNET_SHARE, Budget, Plan
from .weights import WeightTraining, fair_paths, inherited_loss

ROUNDS = 3  # of looking with inherited weights, after the first fair design
ALPHA_STEPS = 80  # each time alpha is driven
DRAWS = 24  # of the surrogate, for choosing what to evaluate


@dataclass(frozen=True, eq=False)
class Step:
    """What a search has just done.

    Attributes:
        phase: costs, weights, alpha or finalists.
        step: how many weight steps (or, before these, tabulated costs) are done.
        steps: how many there will be.
        objectives: by column name; in the alpha phase their mean over the rays, for a finalist its
            measured values.
        cosines: between the objectives' gradients with respect to alpha, by pair of names.
        stationarity_gap: how far alpha is from Pareto stationary, mean over the rays.
        hypervolume: the share of the box below the reference that the front dominates.
        front: the measured points so far.
        seconds: since the search began.
        message: what a person should read.
    """

    phase: str
    step: int
    steps: int
    front: Front
    seconds: float
    objectives: Mapping[str, float] = field(default_factory=dict)
    cosines: Mapping[str, float] = field(default_factory=dict)
    stationarity_gap: float | None = None
    hypervolume: float | None = None
    message: str = ""


def search(
    space: NetworkSpace,
    *,
    costs: Sequence[Objective] | None = None,
    solver: Solver | None = None,
    constraint: Constraint | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    count: int = 28,
    run: Run | None = None,
) -> Iterator[Step]:
    """Search a space for its front of error, latency and memory; one run, one supernet.

    Every step is yielded; the last one carries the front of measured points. Stop at any time: what
    is on the front stays there, and with a `run` the search goes on from its last checkpoint.

    Args:
        space: the network with its choices, the data and the recipe.
        costs: what is minimized beside the error; by default latency (tabulated on the device, then
            measured) and memory.
        solver: turns the gradients with respect to alpha into a direction; one with a `preference`
            gets the rays, any other is wrapped in `Weighted`. By default smooth Tchebycheff.
        constraint: limits that points on the front must meet.
        budget: weight steps or seconds.
        seed: with the same costs, budget in steps and thread count, a CPU run repeats bit for bit.
        device: cpu or cuda.
        threads: that latency is measured with.
        count: of rays, at least.
        run: where to write; continued if it has a checkpoint.

    Raises:
        ValueError: the budget makes no step possible, or no architecture meets the constraint.

    References:
        Smooth Tchebycheff: Lin et al. 2024 (arXiv 2402.19078). Single-path supernet: Guo et al.
        2020 (arXiv 1904.00420). See `Surrogate`, `acquire` and `fair_paths` for the other parts.
    """
    job = _Search(space, costs, solver, constraint, budget, seed, device, threads, count, run)
    try:
        yield from job.tabulate()
        yield from job.train_weights()
        yield from job.look_around()
        yield from job.train_finalists()
    finally:
        torch.set_num_threads(job.threads_before)


class _Search:
    """One search: what its four phases share."""

    def __init__(
        self,
        space: NetworkSpace,
        costs: Sequence[Objective] | None,
        solver: Solver | None,
        constraint: Constraint | None,
        budget: Budget | None,
        seed: int,
        device: str,
        threads: int,
        count: int,
        run: Run | None,
    ) -> None:
        self.start = time.perf_counter()
        self.threads_before = torch.get_num_threads()
        self.workers = _cores() if device == "cpu" else 1
        self.space, self.seed, self.device, self.threads = space, seed, device, threads
        self.budget = budget or Budget(steps=DEFAULT_STEPS)
        self.constraint, self.run = constraint, run
        self.data: Data = space.data().to(device)
        self.supernet: Supernet = space.supernet(seed).to(device)
        self.choices = self.supernet.choices
        self.sizes = sizes_of(self.choices)
        check_outputs(self.supernet, self.data)
        self.given_costs, self.costs = costs, tuple(costs or ())
        self.solver, self.count = solver, count
        self.alpha = torch.zeros(0)
        self.surrogate: Surrogate | None = None
        self.hyper: Tensor | None = None
        self.inherited: dict[Architecture, float] = {}  # log loss with inherited weights
        self.trained: dict[Architecture, Point] = {}
        self.saved: dict[str, Any] = (run.resume() if run else None) or {}

    # --- the four phases ---------------------------------------------------------------------

    def tabulate(self) -> Iterator[Step]:
        """Phase 1: the cost of every option, and with it the plan."""
        example = self.data.example.cpu()
        if self.given_costs is None:
            self.front = Front(["error_percent", "latency_ms", "memory_kib"])
            yield self._step("costs", message="measuring what each option costs")
            latency = Latency.profile(
                self.supernet, example, device=self.device, threads=self.threads
            )
            self.costs = (latency, Memory.of(self.supernet, example))
        self.columns = ("error_percent", *(cost.column for cost in self.costs))
        self.front = Front(self.columns)
        self.parameters = Parameters.of(self.supernet, example)
        self.rays = rays(len(self.columns), self.count)
        self.alpha = torch.zeros(len(self.rays), sum(self.sizes))
        self.solver = aimed(self.solver or SmoothTchebycheff(), self.rays)
        self.limits = dict(self.constraint.limits) if self.constraint else {}
        torch.set_num_threads(self.workers)
        self.plan = self._plan()
        yield self._step(
            "costs",
            message=f"plan: {self.plan.supernet_steps} weight steps, {self.plan.looks} looks with "
            f"inherited weights, {self.plan.finalists} finalists",
        )

    def train_weights(self) -> Iterator[Step]:
        """Phase 2: the supernet's weights, on fairly drawn single paths."""
        training = WeightTraining(
            self.supernet,
            self.data.train,
            self.space.recipe,
            steps=self.plan.supernet_steps,
            seed=self.seed,
        )
        if "weights" in self.saved:
            training.resume(self.saved["weights"])
        self.weights = training
        losses: list[float] = []
        for loss in training.run():
            losses.append(loss)
            if training.done % 25 == 0 or training.done == training.steps:
                mean = sum(losses) / len(losses)
                losses.clear()
                yield self._step("weights", message=f"loss on single paths {mean:.3f}")
            if training.done % 200 == 0:
                self._save()
        self._save()

    def look_around(self) -> Iterator[Step]:
        """Phase 3: score with inherited weights, fit, drive alpha, and score where it leads."""
        for picks, value in self.saved.get("inherited", []):
            self.inherited[decode(self.choices, picks)] = value
        self.alpha = self.saved.get("alpha", self.alpha)
        self.hyper = self.saved.get("hyper")
        design = self.plan.looks // 2
        paths = fair_paths(self.choices, Random(self.seed))
        misses = 0
        while len(self.inherited) < design and misses < 100 * design:
            before = len(self.inherited)
            self._look(self.supernet.canonical(next(paths)))
            misses += len(self.inherited) == before
        yield self._step("alpha", message=f"{len(self.inherited)} scored with inherited weights")
        for turn in range(ROUNDS):
            due = design + math.ceil((self.plan.looks - design) * (turn + 1) / ROUNDS)
            if len(self.inherited) >= due:
                continue
            self._fit()
            yield from self._drive()
            candidates = self._candidates(self.inherited)
            for architecture in self._choose(candidates, due - len(self.inherited), self.inherited):
                self._look(architecture)
            self._save()
            yield self._step(
                "alpha", message=f"{len(self.inherited)} scored with inherited weights"
            )

    def train_finalists(self) -> Iterator[Step]:
        """Phase 4: train and measure the most promising, correct the surrogate, and again."""
        for point in self.run.evaluations() if self.run else []:
            self.trained[point.architecture] = point
            self._enter(point)
        batch = self.workers * max(1, math.ceil(self.plan.finalists / 6 / self.workers))
        while (due := self.plan.finalists - len(self.trained)) > 0 and not self._late():
            self._fit()
            yield from self._drive()
            candidates = self._candidates(self.trained)
            chosen = self._choose(candidates, min(batch, due), self.trained)
            if not chosen:
                break
            finalists = train_finalists(
                self.supernet,
                self.data,
                self.plan.recipe,
                chosen,
                seed=self.seed,
                workers=self.workers,
            )
            for finalist in finalists:
                point = self._measure(finalist)
                self.trained[point.architecture] = point
                entered = self._enter(point)
                if self.run:
                    self.run.record(point)
                    self.run.save_weights(point.id, finalist.network.state_dict())
                    self.run.write_front(self.front)
                verdict = "on the front" if entered else "not on the front"
                yield self._step(
                    "finalists", objectives=point.objectives, message=f"{point.id} {verdict}"
                )
            self._save()
        if self.run:
            self.run.write_front(self.front)
            self.run.save_weights("supernet", self.supernet.state_dict())
        yield self._step("finalists", message=self._trust())

    # --- what they are made of ---------------------------------------------------------------

    def _plan(self) -> Plan:
        if "plan" in self.saved:
            saved = self.saved["plan"]
            return Plan(
                saved["supernet_steps"],
                saved["looks"],
                saved["finalists"],
                replace(self.space.recipe, epochs=saved["epochs"]),
            )
        steps = self.budget.steps
        if steps is None:
            assert self.budget.seconds is not None
            left = self.budget.seconds - (time.perf_counter() - self.start)
            steps = int(max(0.0, left) / self._seconds_per_step())
        return Plan.of(steps, self.space.recipe, len(self.data.train), size(self.choices))

    def _seconds_per_step(self) -> float:
        """Of wall time, with all that a search does beside its weight steps spread over them."""
        trial = self.space.supernet(self.seed).to(self.device)
        training = WeightTraining(
            trial, self.data.train, self.space.recipe, steps=24, seed=self.seed
        )
        start = time.perf_counter()
        for _ in training.run():
            pass
        step = (time.perf_counter() - start) / training.done
        return step * (SUPERNET_SHARE * 1.6 + (1 - SUPERNET_SHARE) * 1.3 / self.workers)

    def _late(self) -> bool:
        spent = time.perf_counter() - self.start
        return self.budget.seconds is not None and spent > self.budget.seconds

    def _look(self, architecture: Architecture) -> None:
        if architecture not in self.inherited:
            loss = inherited_loss(self.supernet, self.data.valid, architecture)
            self.inherited[architecture] = math.log(max(loss, 1e-6))

    def _fit(self) -> None:
        known = [*self.inherited, *self.trained]
        errors = [math.log(point.objectives["error_percent"] + self._half) for point in
                  self.trained.values()]
        evidence = Evidence(
            torch.tensor([encode(self.choices, a) for a in known]),
            torch.tensor([*self.inherited.values(), *errors], dtype=torch.float64),
            torch.tensor([0] * len(self.inherited) + [1] * len(self.trained)),
        )
        self.surrogate = Surrogate.fit(self.sizes, evidence, self.hyper)
        self.hyper = self.surrogate.hyper

    @property
    def _half(self) -> float:
        """Half an example in percent: keeps the logarithm of an error of zero finite."""
        return 50 / len(self.data.valid)

    def _known_values(self, architectures: Sequence[Architecture]) -> Tensor:
        """(k, m): the predicted error and the costs."""
        assert self.surrogate is not None
        picks = torch.tensor([encode(self.choices, a) for a in architectures])
        errors = self.surrogate.mean(picks).exp()
        return torch.column_stack([errors, torch.from_numpy(self._costs_of(architectures))])

    def _costs_of(self, architectures: Sequence[Architecture]) -> np.ndarray:
        return np.array([[cost.exact(a) for cost in self.costs] for a in architectures])

    def _drive(self) -> Iterator[Step]:
        assert self.surrogate is not None and self.solver is not None
        scale = Scale.of(self._known_values(list(self.inherited) + list(self.trained)))
        limits = [
            None if name not in self.limits else math.log(max(self.limits[name], 1e-9))
            for name in self.columns
        ]

        def objective(index: int) -> Relaxed:
            def value(p: Tensor) -> Tensor:
                log = (
                    self.surrogate.relaxed(p)
                    if index == 0
                    else self.costs[index - 1].relaxed(p).clamp_min(1e-9).log()
                )
                span = scale.high[index] - scale.low[index]
                scaled = (log - scale.low[index]) / span
                limit = limits[index]
                if limit is not None:
                    scaled = scaled + 5 * torch.relu(log - limit) / span
                return scaled

            return value

        objectives = [objective(index) for index in range(len(self.columns))]
        last: AlphaStep | None = None
        steps = drive(self.alpha, self.sizes, objectives, self.solver, steps=ALPHA_STEPS)
        for number, last in enumerate(steps, start=1):
            if number % 20 == 0:
                yield self._alpha_step(last, scale)
        assert last is not None
        self.alpha = last.alpha

    def _alpha_step(self, last: AlphaStep, scale: Scale) -> Step:
        spread = last.values * (scale.high - scale.low) + scale.low
        names = [column.rsplit("_", 1)[0] for column in self.columns]
        pairs = [(i, j) for j in range(len(names)) for i in range(j)]
        return self._step(
            "alpha",
            objectives=dict(zip(self.columns, spread.exp().mean(dim=0).tolist(), strict=True)),
            cosines={f"{names[i]}_{names[j]}": float(last.cosines[i, j]) for i, j in pairs},
            stationarity_gap=float(last.direction.certificate.stationarity_gap.mean()),
        )

    def _candidates(self, known: Mapping[Architecture, object]) -> list[Architecture]:
        """Where alpha leads: each ray decided, drawn from, and every neighbor by one pick."""
        p = probabilities(self.alpha, self.sizes, 0.5)
        decided = [self._decode(row) for row in picks_of(p, self.sizes)]
        generator = torch.Generator().manual_seed(self.seed * 7919 + len(known))
        drawn = [
            self._decode(row)
            for _ in range(4)
            for row in torch.stack(
                [
                    torch.multinomial(part, 1, generator=generator)[:, 0]
                    for part in p.split(list(self.sizes), dim=1)
                ],
                dim=1,
            )
        ]
        centers = dict.fromkeys([*decided, *(point.architecture for point in self.front)])
        near = [
            self.supernet.canonical(other) for a in centers for other in neighbors(self.choices, a)
        ]
        rng = Random(f"{self.seed} {len(known)}")
        anywhere = [self.supernet.canonical(draw(self.choices, rng)) for _ in range(20)]
        pool = dict.fromkeys([*decided, *drawn, *near, *anywhere])
        return [a for a in pool if a not in known and self._allowed(a)]

    def _decode(self, picks: Tensor) -> Architecture:
        return self.supernet.canonical(decode(self.choices, picks.tolist()))

    def _allowed(self, architecture: Architecture) -> bool:
        return all(
            cost.exact(architecture) <= self.limits.get(cost.column, math.inf)
            for cost in self.costs
        )

    def _choose(
        self,
        candidates: Sequence[Architecture],
        count: int,
        known: Mapping[Architecture, object],
    ) -> list[Architecture]:
        assert self.surrogate is not None
        if not candidates:
            return []
        both = [*known, *candidates]
        generator = torch.Generator().manual_seed(self.seed * 104_729 + len(known))
        picks = torch.tensor([encode(self.choices, a) for a in both])
        level = 1 if known is self.trained else 0
        draws = self.surrogate.sample(picks, DRAWS, generator, level).exp().numpy()
        costs = self._costs_of(both)
        worst = self._costs_of([*self.inherited, *self.trained]).max(axis=0)
        reference = np.array([np.median(draws.max(axis=1)), *worst]) * 1.05
        chosen = acquire(draws, costs, reference, count, known=len(known))
        return [both[index] for index in chosen]

    def _measure(self, finalist: Finalist) -> Point:
        architecture = finalist.architecture
        values = {cost.column: cost.exact(architecture) for cost in self.costs}
        reported: dict[str, float | int | str] = {
            "test_error_percent": finalist.test.error_percent,
            "parameters": int(self.parameters.exact(architecture)),
        }
        for cost in self.costs:
            if isinstance(cost, Latency):
                reported["latency_table_ms"] = values[cost.column]
                measured = measure_latency(
                    finalist.network, self.data.example, threads=self.threads, device=self.device
                )
                values[cost.column] = measured.median_ms
                reported["latency_spread_ms"] = measured.spread_ms
        reported["origin"] = "search"
        objectives = {"error_percent": finalist.valid.error_percent, **values}
        return Point(architecture, objectives, reported, id=f"a{len(self.trained) + 1:02d}")

    def _enter(self, point: Point) -> bool:
        if self.constraint and not self.constraint.satisfied(point.objectives):
            return False
        return self.front.add(point)

    def _trust(self) -> str:
        """How well the table ranks what was measured."""
        pairs = [
            (float(point.reported["latency_table_ms"]), point.objectives["latency_ms"])
            for point in self.trained.values()
            if "latency_table_ms" in point.reported
        ]
        if len(pairs) < 3:
            return "too few finalists to compare table and measured latency"
        table, measured = np.array(pairs).T
        return (
            "rank correlation of table and measured latency over "
            f"{len(pairs)} finalists: {rank_correlation(table, measured):.2f}"
        )

    def _hypervolume(self) -> float | None:
        """The share of the box below the reference: chance, and the costliest looked at."""
        if not len(self.front) or not self.inherited:
            return None
        chance = 100 * (1 - 1 / self.data.classes)
        reference = [chance, *self._costs_of(list(self.inherited)).max(axis=0)]
        return self.front.hypervolume(reference) / float(np.prod(reference))

    def _step(
        self,
        phase: str,
        *,
        objectives: Mapping[str, float] | None = None,
        cosines: Mapping[str, float] | None = None,
        stationarity_gap: float | None = None,
        message: str = "",
    ) -> Step:
        plan: Plan | None = getattr(self, "plan", None)
        training: WeightTraining | None = getattr(self, "weights", None)
        each = 0 if plan is None else plan.recipe.epochs * math.ceil(
            len(self.data.train) / plan.recipe.batch_size
        )
        step = Step(
            phase=phase,
            step=(training.done if training else 0) + each * len(self.trained),
            steps=0 if plan is None else plan.supernet_steps + each * plan.finalists,
            front=self.front,
            seconds=time.perf_counter() - self.start,
            objectives=dict(objectives or {}),
            cosines=dict(cosines or {}),
            stationarity_gap=stationarity_gap,
            hypervolume=self._hypervolume(),
            message=message,
        )
        if self.run and phase != "costs":
            self.run.log(
                {
                    "step": step.step,
                    "phase": phase,
                    "seconds": round(step.seconds, 3),
                    **{name: step.objectives.get(name) for name in self.columns},
                    **self._cosine_columns(step),
                    "stationarity_gap": stationarity_gap,
                    "hypervolume": step.hypervolume,
                }
            )
        return step

    def _cosine_columns(self, step: Step) -> dict[str, float | None]:
        names = [column.rsplit("_", 1)[0] for column in self.columns]
        pairs = [f"{a}_{b}" for j, b in enumerate(names) for a in names[:j]]
        return {f"cosine_{pair}": step.cosines.get(pair) for pair in pairs}

    def _save(self) -> None:
        if self.run is None:
            return
        self.run.save(
            {
                "plan": {
                    "supernet_steps": self.plan.supernet_steps,
                    "looks": self.plan.looks,
                    "finalists": self.plan.finalists,
                    "epochs": self.plan.recipe.epochs,
                },
                "weights": self.weights.state(),
                "inherited": [
                    (list(encode(self.choices, a)), value) for a, value in self.inherited.items()
                ],
                "alpha": self.alpha,
                "hyper": self.hyper,
            }
        )


def check_outputs(supernet: Supernet, data: Data) -> None:
    """Run a mixture once, so that what cannot be searched is refused before anything is trained.

    Raises:
        ValueError: options of different shapes, or outputs that are not one score per class.
    """
    gates = [torch.full((len(c.options),), 1 / len(c.options)) for c in supernet.choices]
    with torch.no_grad():
        x = data.train.inputs[:2]
        y = supernet(x, [gate.to(x) for gate in gates])
    if y.ndim != 2 or y.shape[1] < data.classes:
        raise ValueError(
            f"the network must give a score for each of {data.classes} classes, "
            f"got shape {tuple(y.shape)} for two examples"
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
