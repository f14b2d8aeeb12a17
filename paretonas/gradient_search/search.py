"""The gradient search on one page: from a space to a front of measured networks.

1. Costs: every option is tried once; latency is tabulated on this device, memory by liveness.
2. Weights: the supernet is trained on fairly drawn single paths.
3. Alpha: a surrogate is fitted to scores with inherited weights; a solver drives one distribution
   per ray down all objectives at once, through the surrogate and the cost tables; what the
   distributions lead to is scored next, and so on.
4. Finalists: the architectures expected to add most to the front are trained from fresh weights
   and measured; each result corrects the surrogate, and alpha is driven again.

What cannot run is set aside by name, an option or an architecture, and the search goes on.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._front_file import USUAL_OBJECTIVES
from .._lock import held
from ..constraint import Constraint
from ..data import Data
from ..devices import find_device, measure_latency
from ..front import Front, Point
from ..names import solver_of, space_of
from ..nn import NetworkSpace, ShapeError, Supernet
from ..objectives import DifferentiableObjective, Latency, Memory, Parameters
from ..objectives.calibration import rank_correlation
from ..point import FAILING, Failure
from ..probe import Probe
from ..relaxation import sizes_of
from ..runs import Run
from ..solvers import SmoothTchebycheff, Solver
from ..space import Architecture, size
from ..surrogates.alpha import AlphaStep, Scale, aimed, drive, rays
from ..surrogates.candidates import candidates
from ..surrogates.feasible import Affordable
from ..surrogates.knowledge import Knowledge, Level
from ..training import Recipe
from ..training.forward import evaluating, handed, seeded
from .costs import costs_of
from .fault import shared_fault, untrained_fault
from .finalists import Finalist, train_finalists
from .guessing import Guessing
from .plan import Budget, Plan, budget_of
from .weights import RECENT, WeightTraining, inherited_loss, trial

ROUNDS = 3  # of looking with inherited weights, after the first fair design
ALPHA_STEPS = 80  # each time alpha is driven
RAYS = 28
NEVER = -1e4  # alpha of an option that was set aside: its probability is 0


@dataclass(frozen=True, eq=False, repr=False)
class Step:
    """What a search has just done.

    Attributes:
        phase: costs, weights, alpha or finalists.
        step: how many weight steps are done, of the supernet and of the finalists.
        steps: how many there will be; 0 while that is not known.
        front: the measured points so far.
        seconds: since the search began.
        objectives: by column name; in the alpha phase their mean over the rays, for a finalist its
            measured values.
        cosines: between the objectives' gradients with respect to alpha, by pair of names.
        stationarity_gap: how far alpha is from Pareto stationary, mean over the rays.
        hypervolume: the share of the box below the reference that the front dominates.
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

    def __repr__(self) -> str:
        done = f"{self.step} of {self.steps} steps" if self.steps else f"{self.step} steps"
        said = f": {self.message}" if self.message else ""
        return f"Step({self.phase}, {done}, {len(self.front)} points{said})"


def search(
    space: NetworkSpace | str,
    *,
    objectives: Sequence[DifferentiableObjective] | str | os.PathLike[str] | None = None,
    solver: Solver | str | None = None,
    constraint: Constraint | str | None = None,
    budget: Budget | Plan | str | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    rays: int = RAYS,
    run: Run | None = None,
    trainer: Callable[..., Sequence[Finalist | Failure]] = train_finalists,
) -> Iterator[Step]:
    """Search a space for its front of error, latency and memory: one run, one supernet.

    Texts are understood as on the command line: ``search("toy", solver="MGDA", budget="90s",
    constraint="latency<=2ms")``. What cannot be understood is refused before anything runs.

    Every step is yielded; the last one carries the front of measured points. Stop at any time: what
    is on the front stays there, and with a `run` the search goes on from its last checkpoint.

    An option that raises, or gives what is not finite, is set aside and never taken again; so is an
    architecture that fails alone. A step's message tells it, and `Run.failures` lists it. A
    finalist that fails is billed like any other.

    Args:
        space: the network with its choices, the data and the recipe; or its name, such as "toy" or
            "my_file:space".
        objectives: what is minimized beside the error; by default latency (tabulated on the device,
            then measured) and memory. Or the file of a cost table, for these two.
        solver: turns the gradients with respect to alpha into a direction; one with a `preference`
            gets the rays, any other is wrapped in `Weighted`. By default smooth Tchebycheff.
            Or its name.
        constraint: limits that points on the front must meet, such as "latency<=2ms".
        budget: weight steps or seconds, such as "600steps" or "90s", or a whole plan.
        seed: with the same objectives, threads and budget in steps, a CPU run repeats bit for bit.
        device: auto, cpu or cuda.
        threads: that latency is measured with.
        rays: how many preferences are searched at once, at least.
        run: where to write; continued if it has a checkpoint. One search at a time can.
        trainer: trains and scores finalists; see `train_finalists`. Where it raises for several,
            they are handed to it one by one.

    Raises:
        ValueError: the budget makes no step possible, or no architecture meets the constraint by
            the tables. (A limit on the error is not known before: then the front stays empty.) A
            choice has no option left that runs. A name or a text that means nothing. Another
            process, or another search of this one, is at work in the run's folder.
        TypeError: an argument of another kind, or a class in the place of an object.
        FloatingPointError: the supernet diverges whatever the path.
        Exception: what the network raises, if it does so in every architecture.

    References:
        Smooth Tchebycheff: Lin et al. 2024 (arXiv 2402.19078). Single-path supernet: Guo et al.
        2020 (arXiv 1904.00420). See `Surrogate`, `acquire` and `fair_paths` for the other parts.
    """
    if run is not None and not isinstance(run, Run):
        raise TypeError(f"run must be what Run.create or Run.open gives, got {run!r}")
    space = space_of(space)
    costs = None if objectives is None else costs_of(objectives, space)
    columns: Sequence[str] = USUAL_OBJECTIVES
    if costs is not None:
        columns = ("error_percent", *(cost.column for cost in costs))
    return _steps(
        space,
        costs=costs,
        solver=SmoothTchebycheff() if solver is None else solver_of(solver),
        constraint=Constraint({}) if constraint is None else Constraint.of(constraint, columns),
        budget=Budget() if budget is None else budget_of(budget),
        seed=seed,
        device=find_device(device),
        threads=threads,
        count=rays,
        run=run,
        trainer=trainer,
    )


def _steps(space: NetworkSpace, *, run: Run | None, **asked: Any) -> Iterator[Step]:
    """The steps of a search whose arguments are understood."""
    with held(run.folder) if run else nullcontext():
        threads_before = torch.get_num_threads()
        job = _Search(space, run=run, **asked)
        # Operations are small here: several threads would wait for each other more than they work.
        # The cores are used by training finalists side by side.
        torch.set_num_threads(1)
        try:
            yield from job.tabulate()
            yield from job.train_weights()
            yield from job.look_around()
            yield from job.train_finalists()
        finally:
            torch.set_num_threads(threads_before)


class _Search:
    """One search: its four phases, and the state they share."""

    def __init__(
        self,
        space: NetworkSpace,
        *,
        costs: Sequence[DifferentiableObjective] | None,
        solver: Solver,
        constraint: Constraint,
        budget: Budget | Plan,
        seed: int,
        device: torch.device,
        threads: int,
        count: int,
        run: Run | None,
        trainer: Callable[..., Sequence[Finalist | Failure]],
    ) -> None:
        self.start = time.perf_counter()
        self.space, self.solver, self.constraint, self.budget = space, solver, constraint, budget
        self.seed, self.device, self.threads, self.count = seed, device, threads, count
        self.run, self.trainer = run, trainer
        self.saved: dict[str, Any] = (run.resume() if run else None) or {}
        self.data: Data = space.data().to(device)
        self.guessing = Guessing.on(self.data.valid)
        self.supernet: Supernet = space.supernet(seed).to(device)
        if run:
            _check_same(run, self._known_as())
            run.tell(space=self._known_as())
        self.aside = self._try_options()
        self.blamed: list[Failure] = []  # options, by looks and by finalists
        self._leave_out(self.supernet, self.aside)
        self.workers = _cores() if device.type == "cpu" else 1
        self.costs = None if costs is None else tuple(costs)
        self.plan: Plan | None = None
        self.steps_done = 0
        self.turns = 0  # of looking around, done
        self.points: list[Point] = []  # every finalist, in the order of measuring
        self.front = Front(["error_percent"])

    # --- the four phases ----------------------------------------------------------------------

    def tabulate(self) -> Iterator[Step]:
        """Phase 1: what each option costs, and with it the plan."""
        if self.run:
            self.run.tell(guessing=asdict(self.guessing))
        example = self.data.example.cpu()
        supernet = self.space.supernet(self.seed)  # on the CPU, where tables are made
        self._leave_out(supernet, self.aside)
        for failure in self.aside:
            yield self._set_aside("costs", failure)
        if self.costs is None:
            yield self._step("costs", message="measuring what each option costs on this device")
            latency = Latency.profile(supernet, example, device=self.device, threads=self.threads)
            self.costs = (latency, Memory.of(supernet, example))
        self.parameters = Parameters.of(supernet, example)
        for (index, pick), reason in supernet.aside.items():
            if (index, pick) not in self.supernet.aside:  # what does not run on the example
                choice = supernet.choices[index]
                self.supernet.set_aside(choice.name, choice.options[pick], reason)
                failure = Failure(Architecture({choice.name: choice.options[pick]}), reason)
                self.aside.append(failure)
                yield self._set_aside("costs", failure)
        self.columns = ("error_percent", *(cost.column for cost in self.costs))
        self.constraint.satisfied(dict.fromkeys(self.columns, 0.0))  # refuses other names
        self.front = Front(self.columns)
        self.rays = rays(len(self.columns), self.count)
        self.solver = aimed(self.solver, self.rays)
        self.alpha = torch.zeros(len(self.rays), sum(sizes_of(self.supernet.choices)))
        self.knowledge = Knowledge(
            self.supernet.choices, self.costs, resolution=100 / len(self.data.valid)
        )
        self.affordable = Affordable(self.supernet, self.costs, self.constraint, seed=self.seed)
        self.plan = self._make_plan()
        yield self._step(
            "costs",
            message=f"plan: {self.plan.supernet_steps} weight steps, {self.plan.looks} looks with "
            f"inherited weights, {self.plan.finalists} finalists",
        )

    def train_weights(self) -> Iterator[Step]:
        """Phase 2: the supernet's weights, on fairly drawn single paths."""
        assert self.plan is not None
        self.training = WeightTraining(
            self.supernet,
            self.data.train,
            self.space.recipe,
            steps=self.plan.supernet_steps,
            seed=self.seed,
        )
        if self.saved:
            self.training.resume(self.saved["weights"])
        losses: list[float] = []
        told = len(self.training.failures)
        for loss in self.training.run():
            losses += [loss] if math.isfinite(loss) else []
            self.steps_done = self.training.done
            for _, failure in self.training.failures[told:]:
                yield self._set_aside("weights", failure)
            told = len(self.training.failures)
            due = self.training.done % 25 == 0 or self.training.done == self.training.steps
            if due and losses:
                mean = sum(losses) / len(losses)
                losses.clear()
                yield self._step("weights", message=f"loss on single paths {mean:.3f}")
            if self.training.done % 200 == 0:
                self._save()
        self.steps_done = self.training.done

    def look_around(self) -> Iterator[Step]:
        """Phase 3: score with inherited weights, fit, drive alpha, score where it leads."""
        assert self.plan is not None
        if self.saved:
            self.knowledge.resume(self.saved["knowledge"])
            self.alpha, self.turns = self.saved["alpha"], self.saved["turns"]
            blamed = self.saved.get("blamed", [])  # older ones have none
            self.blamed = [Failure(Architecture(picks), reason) for picks, reason in blamed]
            self._leave_out(self.supernet, self.blamed)
        known = self.knowledge.inherited
        before, design = len(known), self.plan.looks // 2
        for architecture in self.affordable.design(design):
            if self._looked() >= design:
                break
            if architecture in known or architecture in self._failed():
                continue
            if not self._left_out(architecture):
                yield from self._look(architecture)
        if not known:  # few looks, which all failed: one more, that works
            works = sorted(self._probe().working(), key=lambda a: not self.affordable(a))
            for architecture in works[:1]:
                yield from self._look(architecture)
        if not known:
            first = next(iter(self.knowledge.failed["inherited"].values()), "none was found")
            raise RuntimeError(f"no architecture could be scored with inherited weights: {first}")
        if len(known) > before:
            yield self._step("alpha", message=f"{len(known)} scored with inherited weights")
        for turn in range(self.turns + 1, ROUNDS + 1):
            due = design + math.ceil((self.plan.looks - design) * turn / ROUNDS)
            if self._looked() >= due or self._late():
                continue
            yield from self._drive()
            blamed = -1
            while blamed < len(self.blamed):  # what was chosen with an option that is to blame
                blamed = len(self.blamed)
                for architecture in self._choose(due - self._looked(), "inherited"):
                    if not self._left_out(architecture):
                        yield from self._look(architecture)
            self.turns = turn
            step = self._step("alpha", message=f"{len(known)} scored with inherited weights")
            self._save()
            yield step

    def train_finalists(self) -> Iterator[Step]:
        """Phase 4: train and measure the most promising, correct the surrogate, and again."""
        assert self.plan is not None
        recorded = self.run.outcomes() if self.run else []
        if self.run:  # what a damaged line held is not known any more, and may be trained again
            self.knowledge.forget_all_but({outcome.architecture for outcome in recorded})
        # What was measured after the checkpoint is part of a batch that is chosen once more.
        later: list[Point | Failure] = []
        picks = len(self.supernet.choices)
        for outcome in recorded:
            if outcome.architecture in self.knowledge.failed["trained"]:
                self.steps_done += self._steps_each()
            elif outcome.architecture in self._failed() or len(outcome.architecture) < picks:
                continue  # an option is found to be to blame once more
            elif isinstance(outcome, Point) and outcome.architecture in self.knowledge.trained:
                self._enter(outcome)
            else:
                later.append(outcome)
        batch = self.workers * max(1, math.ceil(self.plan.finalists / 6 / self.workers))
        # However late it is, one batch is trained: without it there is no front at all.
        while (due := self.plan.finalists - self._tried()) > 0 and not (
            self._tried() and self._late()
        ):
            yield from self._drive()
            chosen = self._choose(min(batch, due), "trained")
            if not chosen and not later:
                break
            tried = len(self.knowledge.failed["trained"])
            for outcome in later:
                yield self._show(outcome)
            later.clear()
            known = self.knowledge.trained.keys() | self._failed()
            chosen = [a for a in chosen if a not in known][: self.plan.finalists - self._tried()]
            for finalist in self._train(chosen):
                yield self._judge(finalist)
            failed = [*self.knowledge.failed["trained"]][tried:]
            yield from self._blame_finalists(failed)
            self._save()
        if self.run:
            self.run.write_front(self.front)
            self.run.save_weights("supernet", self.supernet.state_dict())
        reasons = [*self.knowledge.failed["trained"].values()]
        some = bool(self.points) or not reasons
        trust = self._trust() if some else f"all finalists failed: {reasons[0]}"
        last_words = filter(None, [self.guessing.remark(self.front), trust])
        yield self._step("finalists", message="; ".join(last_words))

    # --- what they are made of ----------------------------------------------------------------

    def _known_as(self) -> dict[str, Any]:
        """What tells the space of a run from others."""
        choices = {choice.name: list(choice.options) for choice in self.supernet.choices}
        return {"name": self.space.name, "choices": choices}

    def _try_options(self) -> list[Failure]:
        """What does not run, before anything is trained; a network that cannot run is refused."""
        if "aside" in self.saved:
            return [Failure(Architecture(picks), why) for picks, why in self.saved["aside"]]
        _check_outputs(self.supernet, self.data)
        network = self.space.supernet(self.seed).to(self.device)
        probe = trial(network, self.data.train, seed=self.seed)
        works = next(probe.working(), None)
        if works is None:
            first = probe.starts[0]
            try:
                probe.attempt(first)
            except SystemExit as error:
                reason = Failure.of(first, error)
                raise RuntimeError(f"no architecture runs; this is of {reason}") from error
            except Exception as error:
                error.add_note(f"(no architecture runs; this is of {first})")
                raise
        _check_outputs(network, self.data, works)
        return probe.options()

    def _leave_out(self, supernet: Supernet, failures: Sequence[Failure]) -> None:
        for failure in failures:
            ((choice, option),) = failure.architecture.items()
            supernet.set_aside(choice, option, failure.reason)

    def _set_aside(self, phase: str, failure: Failure) -> Step:
        """Write a failure down, if it is not there already, and show it."""
        if self.run and failure not in self.run.failures():
            self.run.record(failure)
        return self._step(phase, message=f"set aside {failure}")

    def _failed(self) -> set[Architecture]:
        """What was set aside."""
        told = [*self.aside, *self.blamed, *(failure for _, failure in self.training.failures)]
        return {failure.architecture for failure in told}.union(*self.knowledge.failed.values())

    def _looked(self) -> int:
        return len(self.knowledge.inherited) + len(self.knowledge.failed["inherited"])

    def _tried(self) -> int:
        return len(self.points) + len(self.knowledge.failed["trained"])

    def _make_plan(self) -> Plan:
        if self.saved:
            plan = self.saved["plan"]
            return Plan(**{**plan, "recipe": Recipe(**plan["recipe"])})
        if isinstance(self.budget, Plan):
            return self.budget
        known = (self.space.recipe, len(self.data.train), size(self.supernet.choices))
        if self.budget.steps is not None:
            return Plan.of(self.budget.steps, *known)
        seconds, each = self.budget.seconds or 0.0, self._seconds_per_step()
        spent = time.perf_counter() - self.start
        try:
            return Plan.of(max(0, int((seconds - spent) / each)), *known)
        except ValueError as error:
            raise ValueError(
                f"{error}: {spent:.1f} of {seconds:g} s went into the tables of costs and a trial, "
                f"and a step takes about {each:.3g} s"
            ) from error

    def _seconds_per_step(self) -> float:
        """Of wall time a weight step, everything else spread over the weight steps."""
        supernet = self.space.supernet(self.seed).to(self.device)
        self._leave_out(supernet, self.aside)
        training = WeightTraining(
            supernet, self.data.train, self.space.recipe, steps=24, seed=self.seed
        )
        clocks = [time.perf_counter() for _ in training.run()]
        step = (clocks[-1] - clocks[3]) / (len(clocks) - 4)
        # Of ten steps three train the supernet, with looks and alpha beside them; seven train
        # finalists, side by side on the cores, with alpha and the measuring between them.
        return step * (0.3 * 1.8 + 0.7 * (1.1 / self.workers + 0.3))

    def _late(self) -> bool:
        seconds = self.budget.seconds if isinstance(self.budget, Budget) else None
        return seconds is not None and time.perf_counter() - self.start > seconds

    def _look(self, architecture: Architecture) -> Iterator[Step]:
        """Score with inherited weights; shows only what fails."""
        try:
            loss = inherited_loss(self.supernet, self.data.valid, architecture)
            self.knowledge.inherited[architecture] = loss
        except FAILING as error:
            failure = Failure.of(architecture, error)
            self.knowledge.failed["inherited"][architecture] = failure.reason
            found = self._probe().blame(architecture, proven=self.knowledge.inherited)
            if not found:
                yield self._set_aside("alpha", failure)
            yield from self._blame("alpha", found)

    def _probe(self) -> Probe:
        """Of options by their scores with inherited weights."""
        score = partial(inherited_loss, self.supernet, self.data.valid)
        recent = [*self.knowledge.inherited][:RECENT]
        return Probe(self.supernet, score, recent=recent, seed=self.seed)

    def _blame(self, phase: str, failures: Sequence[Failure]) -> Iterator[Step]:
        """Never take again the options that are to blame."""
        for failure in failures:
            self.blamed.append(failure)
            self._leave_out(self.supernet, [failure])
            yield self._set_aside(phase, failure)

    def _blame_finalists(self, architectures: Sequence[Architecture]) -> Iterator[Step]:
        """Find the options for which finalists have failed."""
        trained, failed = self.knowledge.trained, self.knowledge.failed["trained"]
        for architecture in architectures:
            if not self._left_out(architecture):
                found = untrained_fault(
                    self.supernet, self.data, architecture, trained, seed=self.seed
                )
                yield from self._blame("finalists", found)
        if architectures:
            yield from self._blame("finalists", shared_fault(self.supernet, trained, failed))

    def _left_out(self, architecture: Architecture) -> bool:
        """Whether an option was set aside since the architecture was proposed."""
        return not self.supernet.aside.keys().isdisjoint(self.supernet.taken(architecture))

    def _choose(self, count: int, level: Level) -> list[Architecture]:
        known = self.knowledge.trained if level == "trained" else self.knowledge.inherited
        pool = candidates(
            self.supernet,
            self.alpha,
            self.knowledge.leaders(),
            seed=self.seed * 7919 + len(known),
        )
        failed = self._failed()
        failed |= {self.supernet.canonical(a) for a in known}  # names change with what is left
        pool = [a for a in pool if a not in failed and self.affordable(a)]
        return self.knowledge.choose(pool, count, level, seed=self.seed)

    @property
    def _costs(self) -> tuple[DifferentiableObjective, ...]:
        assert self.costs is not None
        return self.costs

    def _drive(self) -> Iterator[Step]:
        """Fit the surrogate anew and drive alpha through it."""
        self.knowledge.fit()
        sizes = sizes_of(self.supernet.choices)
        for index, pick in self.supernet.aside:
            self.alpha[:, sum(sizes[:index]) + pick] = NEVER
        scale = Scale.of(self.knowledge.values())
        surrogate = self.knowledge.surrogate
        shown = torch.zeros(len(self.columns))  # without what is added for going beyond a limit

        def relaxed(p: Tensor) -> Tensor:
            nonlocal shown
            costs = [cost.relaxed(p).clamp_min(1e-9).log() for cost in self._costs]
            logs = torch.stack([surrogate.relaxed(p), *costs], dim=1)
            shown = logs.detach().exp().mean(dim=0)
            return scale(logs) + 5 * scale.excess(logs, self.columns, self.constraint.limits)

        last: AlphaStep | None = None
        known = len(self.knowledge.inherited) + len(self.knowledge.trained)
        steps = drive(
            self.alpha,
            sizes,
            relaxed,
            self.solver,
            steps=ALPHA_STEPS,
            seed=self.seed * 7919 + known,
        )
        for number, last in enumerate(steps, start=1):
            if number % (ALPHA_STEPS // 4) == 0:
                yield self._alpha_step(last, shown)
        assert last is not None
        self.alpha = last.alpha

    def _alpha_step(self, last: AlphaStep, shown: Tensor) -> Step:
        names = self._pairs()
        cosines = {f"{a}_{b}": float(last.cosines[i, j]) for (a, i), (b, j) in names}
        return self._step(
            "alpha",
            objectives=dict(zip(self.columns, shown.tolist(), strict=True)),
            cosines=cosines,
            stationarity_gap=float(last.direction.certificate.stationarity_gap.mean()),
        )

    def _pairs(self) -> list[tuple[tuple[str, int], tuple[str, int]]]:
        names = ["error", *(cost.name for cost in self._costs)]
        numbered = [(name, index) for index, name in enumerate(names)]
        return [(a, b) for b in numbered for a in numbered[: b[1]]]

    def _train(self, architectures: Sequence[Architecture]) -> Sequence[Finalist | Failure]:
        assert self.plan is not None
        if not architectures:
            return []
        try:
            return self.trainer(
                self.supernet,
                self.data,
                self.plan.recipe,
                architectures,
                seed=self.seed,
                workers=self.workers,
            )
        except FAILING as error:  # a trainer that raises for one of them
            if len(architectures) == 1:
                return [Failure.of(architectures[0], error)]
            return [found for each in architectures for found in self._train([each])]

    def _judge(self, finalist: Finalist | Failure) -> Step:
        """Measure a finalist, write it down, and show it."""
        outcome = self._measure(finalist) if isinstance(finalist, Finalist) else finalist
        if self.run:
            if isinstance(finalist, Finalist) and isinstance(outcome, Point):
                self.run.save_weights(outcome.id, finalist.network.state_dict())
            self.run.record(outcome)
        return self._show(outcome)

    def _show(self, point: Point | Failure) -> Step:
        """Put what was measured on the front if it belongs there."""
        if isinstance(point, Failure):
            self.knowledge.failed["trained"][point.architecture] = point.reason
            self.steps_done += self._steps_each()
            return self._step("finalists", message=f"set aside {point}")
        entered = self._enter(point)
        if self.run:
            self.run.write_front(self.front)
        verdict = "is on the front" if entered else "is not on the front"
        return self._step("finalists", objectives=point.objectives, message=f"{point.id} {verdict}")

    def _measure(self, finalist: Finalist) -> Point | Failure:
        try:
            point = self._measured(finalist)
        except FAILING as error:
            return Failure.of(finalist.architecture, error)
        values = {"the loss": finalist.valid.loss, **point.objectives}
        for name, value in values.items():
            if not math.isfinite(value):
                return Failure(point.architecture, f"{name} is {value}")
        return point

    def _measured(self, finalist: Finalist) -> Point:
        architecture = finalist.architecture
        objectives = {"error_percent": finalist.valid.error_percent}
        reported: dict[str, float | int | str] = {
            "test_error_percent": finalist.test.error_percent,
            "parameters": int(self.parameters.exact(architecture)),
        }
        for cost in self._costs:
            objectives[cost.column] = cost.exact(architecture)
            if isinstance(cost, Latency):
                measured = measure_latency(
                    finalist.network, self.data.example, threads=self.threads, device=self.device
                )
                reported["latency_table_ms"] = objectives[cost.column]
                reported["latency_spread_ms"] = measured.spread_ms
                objectives[cost.column] = measured.median_ms
        reported["origin"] = "search"
        reported = {name: value for name, value in reported.items() if name not in objectives}
        name = self.run.next_id() if self.run else f"a{len(self.points) + 1:02d}"
        return Point(architecture, objectives, reported, id=name)

    def _enter(self, point: Point) -> bool:
        self.points.append(point)
        self.knowledge.trained[point.architecture] = point.objectives["error_percent"]
        self.steps_done += self._steps_each()
        return self.constraint.satisfied(point.objectives) and self.front.add(point)

    def _trust(self) -> str:
        """How well the table ranks what was measured."""
        pairs = [
            (float(point.reported["latency_table_ms"]), point.objectives["latency_ms"])
            for point in self.points
            if "latency_table_ms" in point.reported
        ]
        correlation = rank_correlation(*np.array(pairs).T) if len(pairs) > 2 else math.nan
        if math.isnan(correlation):
            return "too few finalists to compare table and measured latency"
        return (
            "rank correlation of table and measured latency over "
            f"{len(pairs)} finalists: {correlation:.2f}"
        )

    def _hypervolume(self) -> float | None:
        """The share that the front dominates of the box up to chance and the costliest seen."""
        if not len(self.front):
            return None
        chance = 100 * (1 - 1 / self.data.classes)
        seen = self.knowledge.costs_of(list(self.knowledge.inherited)).max(axis=0)
        reference = [chance, *seen]
        box = float(np.prod(reference))
        return self.front.hypervolume(reference) / box if box > 0 else None  # what costs nothing

    def _step(self, phase: str, **known: Any) -> Step:
        plan = self.plan
        total = 0 if plan is None else plan.supernet_steps + plan.finalists * self._steps_each()
        step = Step(
            phase,
            self.steps_done,
            total,
            self.front,
            time.perf_counter() - self.start,
            hypervolume=self._hypervolume(),
            **known,
        )
        if self.run and phase != "costs":
            self.run.log(_row(step, self.columns, [f"{a}_{b}" for (a, _), (b, _) in self._pairs()]))
        return step

    def _steps_each(self) -> int:
        """Weight steps that a finalist takes."""
        assert self.plan is not None
        recipe = self.plan.recipe
        return recipe.epochs * math.ceil(len(self.data.train) / recipe.batch_size)

    def _save(self) -> None:
        if self.run and self.plan:
            self.run.save(
                {
                    "plan": asdict(self.plan),
                    "aside": [(dict(f.architecture), f.reason) for f in self.aside],
                    "blamed": [(dict(f.architecture), f.reason) for f in self.blamed],
                    "weights": self.training.state(),
                    "knowledge": self.knowledge.state(),
                    "alpha": self.alpha,
                    "turns": self.turns,
                }
            )


def _row(
    step: Step, columns: Sequence[str], pairs: Sequence[str]
) -> dict[str, float | int | str | None]:
    """A line of history.csv."""
    return {
        "step": step.step,
        "phase": step.phase,
        "seconds": round(step.seconds, 3),
        **{column: step.objectives.get(column) for column in columns},
        **{f"cosine_{pair}": step.cosines.get(pair) for pair in pairs},
        "stationarity_gap": step.stationarity_gap,
        "hypervolume": step.hypervolume,
    }


def _check_same(run: Run, space: Mapping[str, Any]) -> None:
    """Refuse to go on with another space than the run's; older runs do not tell theirs.

    Raises:
        ValueError: the space has another name or other choices.
    """
    before = run.about.get("space")
    if not isinstance(before, dict) or before == space:
        return
    if before.get("name") != space["name"]:
        what = f"{before.get('name')!r}, not of {space['name']!r}"
    else:
        what = f"{space['name']!r}, but with other choices or options"
    raise ValueError(f"{run.folder} is a run on the space {what}")


def _check_outputs(supernet: Supernet, data: Data, gates: Architecture | None = None) -> None:
    """Run an architecture or a mixture once: what cannot be searched is refused before training.

    Raises:
        ValueError: outputs that are not one score per class.
        ShapeError: options of different shapes, in a mixture.
    """
    x = handed(supernet, data.train.inputs[:2])
    mixture = [torch.full((len(c.options),), 1 / len(c.options)).to(x) for c in supernet.choices]
    try:
        with evaluating(supernet), seeded(0, supernet), torch.no_grad():
            y = supernet(x, mixture if gates is None else gates)
    except ShapeError:
        raise
    except FAILING:  # one option may be to blame; the probe finds out
        return
    if y.ndim != 2 or y.shape[1] < data.classes:
        raise ValueError(
            f"the network must give a score for each of {data.classes} classes, "
            f"got shape {tuple(y.shape)} for two examples"
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
