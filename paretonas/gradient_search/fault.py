"""Find the option that failed finalists share, without more trainings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from ..finalists import SCORED, Finalist, with_finite_scores
from ..nn import Supernet
from ..point import FAILING, Failure
from ..probe import Probe
from ..space import Architecture
from ..tasks.task import Task, metrics_of
from ..training import evaluate
from .weights import RECENT

ENOUGH = 3  # failed finalists that accuse an option


def untrained_fault(
    supernet: Supernet,
    task: Task,
    architecture: Architecture,
    trained: Collection[Architecture],
    *,
    seed: int,
) -> list[Failure]:
    """The options that make a finalist fail before any training, when it is evaluated.

    Args:
        supernet: gives the networks.
        task: its validation and its test split are tried.
        architecture: the finalist that failed.
        trained: finalists that did not; none of their options is to blame.
        seed: of the weights.
    """

    def attempt(architecture: Architecture) -> None:
        network = supernet.fresh(architecture, seed=seed)
        valid, test = (evaluate(network, task, split) for split in SCORED)
        found = with_finite_scores(Finalist(architecture, network, valid, test), metrics_of(task))
        if isinstance(found, Failure):
            raise FloatingPointError(found.reason)

    try:
        attempt(architecture)
    except FAILING:
        probe = Probe(supernet, attempt, recent=[*trained][:RECENT], seed=seed)
        return probe.blame(architecture, proven=trained)
    return []


def shared_fault(
    supernet: Supernet, trained: Collection[Architecture], failed: Mapping[Architecture, str]
) -> list[Failure]:
    """The options that are to blame if several finalists failed for the same reason.

    These finalists share one option. Each of their other options is also in a finalist that did not
    fail, and no other option is in all of them. So neither another option nor a pair is to blame.

    Args:
        supernet: options that it has set aside are not named again.
        trained: finalists that did not fail.
        failed: why the others did.
    """
    proven = {pick for architecture in trained for pick in supernet.taken(architecture)}
    accused: dict[tuple[str, tuple[int, int]], list[set[tuple[int, int]]]] = defaultdict(list)
    for architecture, reason in failed.items():
        taken = {*supernet.taken(architecture)}
        suspects = taken - proven
        if len(suspects) == 1 and supernet.aside.keys().isdisjoint(taken):
            accused[reason, suspects.pop()].append(taken)
    found = []
    for (reason, (index, pick)), groups in accused.items():
        if len(groups) >= ENOUGH and len(set.intersection(*groups)) == 1:
            choice = supernet.choices[index]
            found.append(Failure(Architecture({choice.name: choice.options[pick]}), reason))
    return found
