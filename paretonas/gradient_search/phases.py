"""The one-shot search on one page: from a space to a front of measured networks.

Phase 1 is in `costs.py`; what each phase is made of is in `model.py` and `results.py`.

1. Costs: every option is tried once; latency is tabulated on this device, memory by liveness.
2. Weights: the supernet is trained on single paths, drawn fairly (weight sharing).
3. Alpha: architectures get a proxy evaluation, a score with inherited weights; a surrogate is
   fitted to the scores. A solver optimizes one distribution per ray for all objectives at once,
   through the surrogate and the cost tables. What alpha leads to is scored next, and so on.
4. Finalists: the architectures with the largest expected gain of the front are trained, from the
   supernet's weights or from fresh ones, and measured. Each result corrects the surrogate, and
   alpha is optimized again. Under limits on measured values the last finalists repair the front:
   they are chosen within limits that were corrected by the measurements (`measured_limits.py`).

What cannot run is set aside by name, an option or an architecture, and the search goes on.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from ..point import Outcome
from ..space import Architecture, size
from .clock import Pace
from .costs import tabulate
from .isolated import Evaluate, check_sendable, evaluating
from .model import Model
from .plan import proxy_evaluations_for
from .results import Results
from .settings import Settings
from .setup import Setup
from .step import Step
from .weights import WeightTraining

ROUNDS = 3  # of proxy evaluations, after the initial design
MORE = 20  # candidates within limits that were corrected, beside those that alpha leads to
FEWEST = 6  # proxy evaluations, however late it is
SHOWN, SAVED = 25, 200  # weight steps between two lines, and between two checkpoints
SAVED_SECONDS = 10.0  # after which a checkpoint is due with the next line


@dataclass(frozen=True)
class Batch:
    """Finalists to evaluate. A caller may send their outcomes; else the search evaluates them.

    Attributes:
        architectures: what to evaluate.
        proxy_evaluations: how many there were until now.
        weight_steps: how many steps of the supernet's weights.
    """

    architectures: Sequence[Architecture]
    proxy_evaluations: int
    weight_steps: int


Phases = Generator[Step | Batch, Sequence[Outcome] | None, None]


def all_phases(settings: Settings) -> Phases:
    """The four phases; the result of each feeds the next."""
    setup = yield from tabulate(settings)
    check_sendable(setup)
    training = yield from train_weights(setup)
    model = yield from score_candidates(setup, training)
    with evaluating(setup) as evaluate:
        yield from evaluate_finalists(setup, model, evaluate)


def train_weights(setup: Setup) -> Generator[Step, None, WeightTraining]:
    """Phase 2: the weights of the supernet, on fairly drawn single paths."""
    settings, steps = setup.settings, setup.plan.supernet_steps
    training = WeightTraining(
        setup.supernet,
        setup.task,
        settings.space.recipe,
        steps=steps,
        seed=settings.seed,
        restarts=setup.plan.restarts,
        paths=settings.paths,
    )
    if setup.saved:
        training.resume(setup.saved["weights"])
    losses: list[float] = []
    told = len(training.failures)
    clock, begun, first = settings.clock, settings.clock.gone(), training.done
    saved = begun
    for loss in training.run():
        losses += [loss] if math.isfinite(loss) else []
        setup.report.weights = training.done
        if clock.timed:  # as many steps as there is time for, by the pace so far
            setup.pace = (clock.gone() - begun) / (training.done - first)
            more = round((setup.weights_until - clock.gone()) / max(setup.pace, 1e-9))
            training.steps = training.done + max(0, more)
        for _, failure in training.failures[told:]:
            yield setup.set_aside("weights", failure)
        told = len(training.failures)
        if losses and (training.done % SHOWN == 0 or training.done == training.steps):
            mean = sum(losses) / len(losses)
            losses.clear()
            _plan_steps(setup, training)
            yield setup.report.step("weights", message=f"loss on single paths {mean:.3f}")
        late = clock.gone() - saved >= SAVED_SECONDS
        if training.done % SAVED == 0 or (late and training.done % SHOWN == 0):
            setup.save(training)
            saved = clock.gone()
    setup.report.weights = training.done
    _plan_steps(setup, training)
    return training


def _plan_steps(setup: Setup, training: WeightTraining) -> None:
    """Put into the plan how many steps there are, where time decides it."""
    if training.steps != setup.plan.supernet_steps:
        known = size(setup.supernet.choices)
        proxies = proxy_evaluations_for(training.steps, known)
        setup.plan_anew(supernet_steps=training.steps, proxy_evaluations=proxies)


def score_candidates(setup: Setup, training: WeightTraining) -> Generator[Step, None, Model]:
    """Phase 3: proxy evaluations of an initial design, then of what alpha leads to."""
    model = Model.of(setup, training)
    known = model.knowledge.inherited
    before, design = len(known), setup.plan.proxy_evaluations // 2
    for architecture in setup.feasible.design(design):
        if model.proxy_evaluations >= design or (len(known) >= FEWEST and setup.late()):
            break
        if architecture not in known and architecture not in model.failed():
            yield from model.score(architecture)
    if not known:  # few proxy evaluations, which all failed: one more, that works
        works = sorted(model.probe().working(), key=lambda a: not setup.feasible(a))
        for architecture in works[:1]:
            yield from model.score(architecture)
    if not known:
        first = next(iter(model.knowledge.failed["inherited"].values()), "none was found")
        raise RuntimeError(f"no architecture could be scored with inherited weights: {first}")
    if len(known) > before:
        yield setup.report.step("alpha", message=f"{len(known)} scored with inherited weights")
    for turn in range(model.turns + 1, ROUNDS + 1):
        due = design + math.ceil((setup.plan.proxy_evaluations - design) * turn / ROUNDS)
        if model.proxy_evaluations >= due or setup.late():
            continue
        yield from model.optimize_alpha()
        blamed = -1
        while blamed < len(setup.blamed):  # again, if an option of what was chosen is to blame
            blamed = len(setup.blamed)
            for architecture in model.choose(due - model.proxy_evaluations, "inherited"):
                if not setup.late():
                    yield from model.score(architecture)
        model.turns = turn
        step = setup.report.step("alpha", message=f"{len(known)} scored with inherited weights")
        model.save()
        yield step
    return model


def evaluate_finalists(setup: Setup, model: Model, evaluate: Evaluate) -> Phases:
    """Phase 4: train and measure what promises most, correct the surrogate, and so on.

    With a budget in seconds as many as there is time for; the last ones may be trained for fewer
    epochs than the others. Under limits on measured values the last ones repair the front.
    """
    knowledge, clock, workers = model.knowledge, setup.settings.clock, setup.settings.workers
    results, limits = Results(setup, model), setup.measured_limits
    later = results.resume()

    def left() -> float:  # for finalists; before the repair there is a measurement
        measures = limits.differ(results.points) and not model.repairs
        return clock.left() - (results.together if measures else 0.0)

    if clock.timed:
        results.keep_time()
    pace = _pace(setup, results, left()) if clock.timed else None
    batch = workers * max(1, math.ceil(setup.plan.finalists / 6 / workers))
    # However late it is, one batch is trained: without it there is no front at all.
    while (due := setup.plan.finalists - results.paid) > 0 and not (
        pace and results.paid and not pace.fits(clock.left())
    ):
        kept = limits.kept(setup.plan, workers, results.points)
        if kept >= due and not model.repairs:
            yield results.begin_repair()
            continue  # if there is still time
        begun = clock.gone()
        if model.repairs:
            model.restrict(limits.by_table(results.points))
        yield from model.optimize_alpha()
        if pace:
            batch = pace.batch(left())
        count = min(workers, due) if model.repairs else min(batch, due - kept)
        chosen = _choose(model, results, count)
        if not chosen and not later:
            if model.repairs or not kept:
                break
            yield results.begin_repair()
            continue
        failed, before = len(knowledge.failed["trained"]), list(results.points)
        # After an older checkpoint, what was measured belongs to this batch and to those to come.
        again = [outcome for outcome in later if outcome.architecture in chosen] or later
        later = [outcome for outcome in later if outcome not in again]
        for outcome in again:
            yield results.show(outcome)
        known = {*knowledge.tried("trained")} | model.failed()
        chosen = [a for a in chosen if a not in known][: setup.plan.finalists - results.paid]
        if pace:
            pace.turn = max(pace.turn, clock.gone() - begun)
            setup.train_for(pace.shortened(left()) if results.paid else pace.epochs)
        results.set_bar(chosen, before)
        begun, trained = clock.gone(), []
        if chosen:
            answer = yield Batch(chosen, model.proxy_evaluations, model.training.done)
            results.measures = answer is None
            for outcome in evaluate(chosen) if answer is None else answer:
                trained.append(results.epochs(outcome))
                yield results.show(outcome)
        yield from results.blame([*knowledge.failed["trained"]][failed:])
        if pace and chosen:
            results.keep_time()  # the front may have grown
            pace.see(clock.gone() - begun, trained)
            whole = setup.trained.recipe.epochs == pace.epochs
            _plan_finalists(setup, results.paid + (pace.finalists(left()) if whole else 0))
        model.save()
    for outcome in later:  # of batches that this plan does not have
        yield results.show(outcome)
    if pace:  # there is no time for more, also if this search is resumed
        _plan_finalists(setup, results.paid)
        setup.report.expect(0)
        model.save()
    yield results.end(pace)


def _choose(model: Model, results: Results, count: int) -> list[Architecture]:
    """The next finalists; in a repair what was measured beyond a limit is no rival of theirs."""
    if not model.repairs:
        return model.choose(count, "trained")
    setup, beyond = model.setup, results.beyond()
    for margins in (1, 0, -1):  # first what is sure to meet the limits, as long as there is such
        model.restrict(setup.measured_limits.by_table(results.points, margins=margins))
        chosen = model.choose(count, "trained", setup.feasible.design(MORE), beyond)
        if chosen:
            return chosen
    holds = len(beyond) < len(results.points)
    return [] if holds else model.nearest(count)  # one of them may hold by chance


def _pace(setup: Setup, results: Results, left: float) -> Pace:
    """What finalists will take; before the first one, for how many epochs they are trained."""
    recipe, workers = setup.plan.recipe, setup.settings.workers
    pace = Pace.of(setup.task, recipe, workers, setup.pace)
    if not results.paid:
        whole = Pace.of(setup.task, setup.settings.recipe, workers, setup.pace)
        wanted = math.ceil(4 / workers)  # groups: a front of fewer than four says little
        epochs = max(recipe.epochs if setup.budgets > 1 else 1, whole.shortened(left / wanted))
        setup.plan_anew(recipe=replace(recipe, epochs=epochs))
        pace = Pace.of(setup.task, setup.plan.recipe, workers, setup.pace)
        _plan_finalists(setup, pace.finalists(left))
    return pace


def _plan_finalists(setup: Setup, count: int) -> None:
    """Put into the plan how many finalists there is time for."""
    setup.plan_anew(finalists=min(count, size(setup.supernet.choices)))
