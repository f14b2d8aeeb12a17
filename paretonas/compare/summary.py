"""What the seeds of each method say together, in long form: one number a row.

========================== ==================================================================
measure                    statistics
========================== ==================================================================
hypervolume_fraction,      median, q1 and q3 (the quartiles), mean, iqm (interquartile mean),
hypervolume_regret,        iqm_low and iqm_high (its 95 % bootstrap interval over seeds) and the
igd_plus                   worst seed: min, for regret and IGD+ max. `evaluations` says after how
                           many.
hypervolume_fraction       against the first method, on the same seeds: median_difference, p
                           (Wilcoxon's signed-rank test, two-sided, exact) and p_holm (corrected
                           for the number of methods)
evaluations_to_95_percent  median over seeds (empty: half of them or more did not get there) and
                           seeds_reached; likewise 90, 97 and 99
runs                       finished, failed
what the `Ledger` counts,   total over seeds, median over seeds
such as evaluations
thinking_seconds_per_-     median over seeds
evaluation
feasible_evaluations       only with a constraint: median over seeds
feasible_runs              likewise: how many runs found a feasible architecture (count)
least_violation            likewise: min and median over seeds; a sum of parts of the limits
front_points               found (points of the reference front that any seed found), found_alone
                           (that no other method found)
========================== ==================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from paretonas.compare.anytime import Array
from paretonas.compare.statistics import (
    bootstrap_interval,
    holm,
    interquartile_mean,
    signed_rank_p,
)
from paretonas.evaluation import Ledger
from paretonas.point import Point

if TYPE_CHECKING:
    from paretonas.compare.comparison import Comparison

TARGETS = (90, 95, 97, 99)  # percent of the reference front's hypervolume
_FIXED = (24, 50, 100, 200)
_BILLED = tuple(field.name for field in fields(Ledger))


class Row(NamedTuple):
    """One number of the summary.

    Attributes:
        method: whose.
        measure: of what.
        evaluations: after how many, where that matters.
        statistic: what kind of number.
        value: the number; None where there is none.
    """

    method: str
    measure: str
    evaluations: int | None
    statistic: str
    value: float | None


def summarize(comparison: Comparison) -> Iterator[Row]:
    """All rows, method by method."""
    tests = list(_tests(comparison))
    points = _front_points(comparison)
    for method in comparison.methods:
        yield from _scores(comparison, method)
        yield from (row for row in tests if row.method == method)
        yield from _targets(comparison, method)
        yield from _bill(comparison, method)
        if comparison.problem.constraint:
            yield from _feasible(comparison, method)
        others = set().union(*(points[name] for name in comparison.methods if name != method))
        yield Row(method, "front_points", None, "found", len(points[method]))
        yield Row(method, "front_points", None, "found_alone", len(points[method] - others))


def checkpoints(budget: int) -> list[int]:
    """After how many evaluations scores are summed up: an eighth, a quarter, half and all.

    >>> checkpoints(120)
    [15, 24, 30, 50, 60, 100, 120]
    """
    parts = {math.ceil(budget / part) for part in (8, 4, 2, 1)}
    return sorted(parts | {fixed for fixed in _FIXED if fixed <= budget})


def evaluations_to(fraction: Array, percent: float) -> float:
    """The first evaluation after which this share was reached; infinite if it never was."""
    reached = fraction >= percent / 100 - 1e-12
    return float(reached.argmax() + 1) if reached.any() else math.inf


def disagreement(comparison: Comparison) -> str:
    """Where seeds contradict the medians: the method that leads is not ahead with most seeds.

    Returns:
        A sentence, or nothing where the seeds agree or two methods share the lead.
    """
    last: dict[str, dict[int, float]] = {}
    for (method, seed), curve in comparison.curves.items():
        last.setdefault(method, {})[seed] = float(curve.fraction[-1])
    middle = {method: float(np.median([*found.values()])) for method, found in last.items()}
    leads = [method for method, value in middle.items() if value == max(middle.values())]
    if len(leads) != 1:
        return ""
    (lead,) = leads
    told = []
    for method, found in last.items():
        shared = [seed for seed in found if seed in last[lead] and method != lead]
        ahead = sum(last[lead][seed] > found[seed] for seed in shared)
        if shared and 2 * ahead <= len(shared):
            told.append(f"of {method} with {ahead} of {len(shared)} seeds")
    if not told:
        return ""
    return f"Seeds disagree: {lead} has the highest median, but is ahead {', '.join(told)} only."


def feasibility(comparison: Comparison) -> str:
    """What a constraint leaves: a sentence on the methods; nothing where there is no constraint."""
    constraint = comparison.problem.constraint
    if not constraint:
        return ""
    if least := comparison.least_violation():
        return (
            f"No run found an architecture with {constraint}: all scores and fronts are of those "
            f"with the least violation, {100 * least:.3g} % of the limits."
        )
    told = [f"Scores and fronts are of architectures with {constraint}."]
    for method in comparison.methods:
        runs = [seed for name, seed in comparison.records if name == method]
        without = [seed for seed in runs if comparison.least_violation(method, seed)]
        if without:
            told.append(f"{method} found none with {len(without)} of {len(runs)} seeds.")
        least = comparison.least_violation(method)
        if runs and len(without) == len(runs) and math.isfinite(least):
            told.append(
                f"Its front shows the least violation instead, {100 * least:.3g} % of the limits."
            )
    return " ".join(told)


def objectives_of(comparison: Comparison, name: Callable[[str], str] = str) -> str:
    """The objectives and their directions, as in "latency_ms minimized, accuracy maximized".

    Where latency is an objective also what runs the networks: "latency_ms (onnxruntime) minimized".
    """
    problem, runners = comparison.problem, comparison.backends
    return ", ".join(
        f"{name(column)}{f' ({runners[column]})' if column in runners else ''} "
        f"{'maximized' if column in problem.maximize else 'minimized'}"
        for column in problem.columns
    )


def _scores(comparison: Comparison, method: str) -> Iterator[Row]:
    curves = [curve for (name, _), curve in comparison.curves.items() if name == method]
    if not curves:
        return
    measures: list[tuple[str, Array, str, Callable[[Array], float]]] = [
        ("hypervolume_fraction", np.array([c.fraction for c in curves]), "min", np.min),
        ("hypervolume_regret", 1 - np.array([c.fraction for c in curves]), "max", np.max),
        ("igd_plus", np.array([c.igd_plus for c in curves]), "max", np.max),
    ]
    for at in checkpoints(comparison.budget):
        for measure, values, worst, extreme in measures:
            now = values[:, at - 1]
            low, high = bootstrap_interval(now)
            statistics = {
                "mean": now.mean(),
                "median": np.median(now),
                "q1": np.percentile(now, 25),
                "q3": np.percentile(now, 75),
                "iqm": interquartile_mean(now),
                "iqm_low": low,
                "iqm_high": high,
                worst: extreme(now),
            }
            for statistic, value in statistics.items():
                yield Row(method, measure, at, statistic, float(value))


def _tests(comparison: Comparison) -> Iterator[Row]:
    """Each method against the first, over the seeds that both finished."""
    first, *others = comparison.methods
    curves = comparison.curves
    for at in checkpoints(comparison.budget):
        found = {}
        for method in others:
            seeds = [s for s in range(comparison.seeds) if {(first, s), (method, s)} <= {*curves}]
            differences = np.array(
                [
                    curves[method, seed].fraction[at - 1] - curves[first, seed].fraction[at - 1]
                    for seed in seeds
                ]
            )
            if len(differences):
                found[method] = (float(np.median(differences)), signed_rank_p(differences))
        corrected = holm([p for _, p in found.values()])
        for (method, (median, p)), p_holm in zip(found.items(), corrected, strict=True):
            yield Row(method, "hypervolume_fraction", at, "median_difference", median)
            yield Row(method, "hypervolume_fraction", at, "p", p)
            yield Row(method, "hypervolume_fraction", at, "p_holm", p_holm)


def _targets(comparison: Comparison, method: str) -> Iterator[Row]:
    curves = [curve for (name, _), curve in comparison.curves.items() if name == method]
    for percent in TARGETS:
        needed = [evaluations_to(curve.fraction, percent) for curve in curves]
        middle = _middle(needed)
        reached = sum(map(math.isfinite, needed))
        measure = f"evaluations_to_{percent}_percent"
        yield Row(method, measure, None, "median", middle)
        yield Row(method, measure, None, "seeds_reached", reached)


def _bill(comparison: Comparison, method: str) -> Iterator[Row]:
    ledgers = [r.ledger for (name, _), r in comparison.records.items() if name == method]
    failed = sum(broken.method == method for broken in comparison.broken)
    yield Row(method, "runs", None, "finished", len(ledgers))
    yield Row(method, "runs", None, "failed", failed)
    for measure in _BILLED:
        values = [float(getattr(ledger, measure)) for ledger in ledgers]
        yield Row(method, measure, None, "total", sum(values))
        yield Row(method, measure, None, "median", _middle(values))
    each = [
        ledger.thinking_seconds / max(1, ledger.evaluations + ledger.weight_evaluations)
        for ledger in ledgers
    ]
    yield Row(method, "thinking_seconds_per_evaluation", None, "median", _middle(each))


def _feasible(comparison: Comparison, method: str) -> Iterator[Row]:
    problem = comparison.problem
    records = [record for (name, _), record in comparison.records.items() if name == method]
    found = [[o for o in r.outcomes if isinstance(o, Point)] for r in records]
    violations = [[problem.violation(point) for point in points] for points in found]
    counts = [float(row.count(0.0)) for row in violations]
    least = [min(row, default=math.inf) for row in violations]
    yield Row(method, "feasible_evaluations", None, "median", _middle(counts))
    yield Row(method, "feasible_runs", None, "count", sum(count > 0 for count in counts))
    yield Row(method, "least_violation", None, "min", _middle([min(least, default=math.inf)]))
    yield Row(method, "least_violation", None, "median", _middle(least))


def _front_points(comparison: Comparison) -> dict[str, set[bytes]]:
    """Which points of the reference front each method found, with any seed."""
    best = {row.tobytes() for row in comparison.reference.front}
    found: dict[str, set[bytes]] = {method: set() for method in comparison.methods}
    for (method, _), curve in comparison.curves.items():
        found[method] |= best & {row.tobytes() for row in curve.front}
    return found


def _middle(values: list[float]) -> float | None:
    """The median; None if there is none or it is infinite."""
    ordered = sorted(values)
    count = len(ordered)
    if not count or math.isinf(ordered[count // 2]):
        return None
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
