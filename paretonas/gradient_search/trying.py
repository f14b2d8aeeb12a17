"""What does not run is found and set aside before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice

import torch

from ..arguments import moved
from ..finalists import SCORED
from ..forward import device_of, evaluating, generators_inside, held_generators, seeded
from ..nn import ShapeError, Supernet
from ..point import FAILING, Failure
from ..probe import Probe
from ..runs import Run
from ..space import Architecture
from ..tasks.passes import few
from ..tasks.supervised import Supervised
from ..tasks.task import OutputError, SplitName, Task, check_scores
from .settings import Settings
from .weights import FEW, trial

NETWORKS = 3  # that are scored before a split is refused


def try_options(settings: Settings, task: Task) -> list[Failure]:
    """What does not run, before anything is trained; a network that cannot run is refused."""
    network = settings.space.supernet(settings.seed).to(settings.device)
    _check_outputs(network, task)
    probe = trial(network, task, settings.space.recipe, seed=settings.seed)
    works = next(probe.working(), None)
    if works is None:
        works = probe.starts[0]
        try:
            probe.attempt(works)
        except SystemExit as error:
            reason = Failure.of(works, error)
            raise RuntimeError(f"no architecture runs; this is of {reason}") from error
        except Exception as error:
            error.add_note(f"(no architecture runs; this is of {works})")
            raise
    _check_outputs(network, task, works)
    _check_scores(task, probe, works)
    return probe.options()


def _check_outputs(supernet: Supernet, task: Task, gates: Architecture | None = None) -> None:
    """Run an architecture or a mixture once: what cannot be searched is refused before training.

    Raises:
        OutputError: outputs that do not fit the task.
        ShapeError: options of different shapes, in a mixture.
    """
    device = device_of(supernet)
    floating = (p.dtype for p in supernet.parameters() if p.is_floating_point())
    even = torch.ones((), dtype=next(floating, torch.float32), device=device)
    batch = moved(few(task, "train", 2), device, copies=True)
    mixture = [even.expand(len(c.options)) / len(c.options) for c in supernet.choices]
    try:
        with (
            evaluating(supernet),
            seeded(0, supernet),
            torch.no_grad(),
            supernet.path(mixture if gates is None else gates) as network,
        ):
            task.loss(network, batch)
    except (ShapeError, OutputError):
        raise
    except FAILING:  # one option may be to blame; the probe finds out
        return


def _check_scores(task: Task, probe: Probe, first: Architecture) -> None:
    """Score a network on both splits: what cannot be scored is refused before training.

    A few examples are enough, if the task can cut its batches. But a metric may fail on these, or
    on one network, and nowhere else: it is refused if it fails on the whole split, for several
    networks.

    Raises:
        ValueError: a split cannot be scored; the message names it, and the metric that fails.
    """
    supernet = probe.supernet
    held = [*held_generators(supernet), *generators_inside(task)]
    cuts = type(task).evaluate is Supervised.evaluate

    def score(architecture: Architecture, split: SplitName, *, whole: bool) -> None:
        with (
            evaluating(supernet),
            seeded(0, held=held),
            torch.no_grad(),
            supernet.path(architecture) as network,
        ):
            if isinstance(task, Supervised) and cuts and not whole:
                check_scores(task, task.evaluate_on(network, [few(task, split, FEW)]))
            else:
                check_scores(task, task.evaluate(network, split))

    for split in SCORED:
        reason, tried = "", islice(probe.working(), NETWORKS)
        for place, architecture in enumerate(chain([first], tried)):
            try:
                score(architecture, split, whole=place > 0)
                break
            except FAILING as error:
                reason = Failure.of(architecture, error).reason
        else:
            raise ValueError(f"the {split} split cannot be scored: {reason}")


def leave_out(supernet: Supernet, failures: Sequence[Failure]) -> None:
    """Set single options aside in a supernet."""
    for failure in failures:
        ((choice, option),) = failure.architecture.items()
        supernet.set_aside(choice, option, failure.reason)


def left_out_by(one: Supernet, other: Supernet) -> list[Failure]:
    """The options that one supernet has set aside, and the other has not yet."""
    found = []
    for (index, pick), reason in one.aside.items():
        if (index, pick) not in other.aside:
            choice = one.choices[index]
            found.append(Failure(Architecture({choice.name: choice.options[pick]}), reason))
    return found


def failures_of(saved: Sequence[tuple[Mapping[str, str], str]]) -> list[Failure]:
    """The failures of a checkpoint."""
    return [Failure(Architecture(picks), reason) for picks, reason in saved]


def record(run: Run | None, failure: Failure) -> None:
    """Write a failure down, if it is not there already."""
    if run and failure not in run.failures():
        run.record(failure)
