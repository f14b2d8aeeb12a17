"""Limits on measured values: what a table must promise so that they hold when they are measured.

A table tells only roughly what is measured on a trained network. The finalists that were measured
tell by how much it is wrong, and how sure that is. So a limit on what is measured becomes a limit
on the table, within which the last finalists are chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..constraint import Constraint
from ..dominance import at_limit
from ..objectives import DifferentiableObjective, MeasuredObjective
from ..objectives.base import AnyObjective, is_noisy
from ..objectives.calibration import Calibration, fit, rank_correlation
from ..objectives.table_objective import TableObjective
from ..point import Point
from .plan import Plan

COVERED = 0.9  # of further networks are measured to be no more than predicted
RELATED = 0.8  # rank correlation with a cost that stands for what has no table
ENOUGH = 4  # networks that tell it
EXACT = 1e-6  # relative difference of what is told and measured, that counts as none
LEAST = 1e-9  # of a limit, where the table must promise what no network has

Array = NDArray[np.float64]
Line = tuple[float, float]  # factor and shift


@dataclass(frozen=True)
class Correction:
    """What is measured, predicted from a table: ``factor * table + shift``.

    Attributes:
        factor: of the table, positive.
        shift: what is added, 0 or more.
        margin: 9 of 10 further networks are no more than this share above the prediction; if fewer
            than 9 networks were measured, n of n + 1.
        error: the root of the mean squared relative error, of predictions without the network
            itself; infinite if there is one network only.
    """

    factor: float
    shift: float
    margin: float
    error: float

    @classmethod
    def of(
        cls, table: Sequence[float], measured: Sequence[float], known: float = 0.0
    ) -> Correction:
        """Learn from networks that were measured.

        A factor alone and a robust line are compared: each network is predicted from the others.
        The errors of the better one also give the margin, as in the jackknife (Barber et al. 2021,
        arXiv 1905.02928).

        Args:
            table: (n,) what it says, positive.
            measured: (n,) what was measured, positive.
            known: the margin if there is only one network.
        """
        promised, found = np.asarray(table, dtype=float), np.asarray(measured, dtype=float)
        if len(found) == 1:
            return cls(*_factor(promised, found), known, math.inf)
        errors = {model: _left_out(model, promised, found) for model in (_factor, fit)}
        model = min(errors, key=lambda each: float(np.mean(errors[each] ** 2)))
        rank = min(len(found), math.ceil((len(found) + 1) * COVERED))
        margin = max(0.0, float(np.sort(errors[model])[rank - 1]))
        error = math.sqrt(float(np.mean(errors[model] ** 2)))
        return cls(*model(promised, found), margin, error)

    def by_table(self, limit: float, *, margins: int) -> float:
        """The limit on the table that goes with a limit on what is measured.

        Args:
            limit: on what is measured, positive.
            margins: 1: networks will meet it as often as `margin` says; 0: in one of two cases; -1:
                hardly ever.
        """
        within = limit * (1 + self.margin) ** -margins
        return max((within - self.shift) / self.factor, LEAST * limit)


def _factor(table: Array, measured: Array) -> Line:
    return float(np.median(measured / table)), 0.0


def _left_out(model: Callable[[Array, Array], Line], table: Array, measured: Array) -> Array:
    """(n,) By which share each network is above what the others predict."""
    errors = []
    for out in range(len(measured)):
        factor, shift = model(np.delete(table, out), np.delete(measured, out))
        errors.append(measured[out] / (factor * table[out] + shift) - 1)
    return np.array(errors)


@dataclass(frozen=True)
class MeasuredLimits:
    """The limits of a search on what is measured on trained networks.

    Attributes:
        constraint: all limits, on what points have.
        columns: the limited ones that are measured, and less of which is better.
        noisy: those of them of which two measurements differ.
        costs: what is known by table, of those columns or of others.
    """

    constraint: Constraint
    columns: tuple[str, ...]
    noisy: frozenset[str]
    costs: tuple[DifferentiableObjective, ...]

    @classmethod
    def of(
        cls,
        constraint: Constraint,
        objectives: Sequence[AnyObjective],
        costs: Sequence[DifferentiableObjective],
    ) -> MeasuredLimits:
        """The limits on those of the objectives that are measured."""
        measured = {one.column: one for one in objectives if isinstance(one, MeasuredObjective)}
        columns = [c for c in constraint.limits if c in measured and c not in constraint.at_least]
        noisy = frozenset(column for column in columns if is_noisy(measured[column]))
        return cls(constraint, tuple(columns), noisy, tuple(costs))

    def kept(self, plan: Plan, workers: int, points: Sequence[Point]) -> int:
        """How many of the finalists are kept, to be chosen by what was measured of the others.

        It is 0 if tables tell exactly what is measured.

        Args:
            plan: how many there are, and the share that is kept.
            workers: how many are trained at once.
            points: what was measured so far.
        """
        if not self.differ(points):
            return 0
        groups = math.ceil(plan.repair * plan.finalists / workers)
        return max(0, min(groups * workers, plan.finalists - workers))

    def by_table(self, points: Sequence[Point], *, margins: int = 1) -> Constraint:
        """The limits on tables within which networks are expected to meet all limits.

        Args:
            points: what was measured so far.
            margins: as of `Correction.by_table`.
        """
        limits = dict(self.constraint.limits)
        for column in sorted(self.columns, key=lambda each: not self._own(each)):
            asked = self.constraint.limits[column]
            if asked > 0 and (found := self._correction(column, points)):
                cost, correction = found
                limit = correction.by_table(asked, margins=margins)
                if cost.column != column:  # it may have a limit of its own
                    limit = min(limit, limits.get(cost.column, limit))
                limits[cost.column] = limit
        return Constraint(limits, self.constraint.at_least)

    def _own(self, column: str) -> list[DifferentiableObjective]:
        return [cost for cost in self.costs if cost.column == column]

    def differ(self, points: Sequence[Point]) -> bool:
        """Whether something limited was measured otherwise than its table tells, or has none."""
        return any(self._differs(column, points) for column in self.columns)

    def _differs(self, column: str, points: Sequence[Point]) -> bool:
        own = self._own(column)
        return (
            not own
            or column in self.noisy
            or not all(
                math.isclose(own[0].exact(p.architecture), p.objectives[column], rel_tol=EXACT)
                for p in points
            )
        )

    def _correction(
        self, column: str, points: Sequence[Point]
    ) -> tuple[DifferentiableObjective, Correction] | None:
        """What predicts a column, and how; what has no table is predicted by the nearest cost."""
        own, found = self._own(column), []
        for cost in own or self.costs:
            pairs = [(cost.exact(p.architecture), p.objectives[column]) for p in points]
            pairs = [pair for pair in pairs if min(pair) > 0]
            if not pairs:
                continue
            table, measured = zip(*pairs, strict=True)
            related = len(pairs) >= ENOUGH and rank_correlation(table, measured) >= RELATED
            if own or related:
                found.append((cost, Correction.of(table, measured, _interval(cost))))
        return min(found, key=lambda each: each[1].error, default=None)


def _interval(cost: DifferentiableObjective) -> float:
    """The interval that a calibrated table tells of itself."""
    told = Calibration.told(cost.table.about) if isinstance(cost, TableObjective) else None
    return told.interval or 0.0 if told else 0.0


def unmet(points: Sequence[Point], constraint: Constraint) -> str:
    """What to say if no trained network meets a constraint: which is nearest, and what it has."""
    if not points:
        return f"no trained network meets {constraint}"
    nearest = _nearest(points, constraint)
    tie = ", within its spread of the limit" if at_limit(nearest, constraint) else ""
    told = constraint.unmet([nearest.objectives], "trained network")
    return f"{told} ({nearest.id}{tie})" if nearest.id else f"{told}{tie}"


def _nearest(points: Sequence[Point], constraint: Constraint) -> Point:
    return min(points, key=lambda point: constraint.violation(point.objectives))


def verdict(points: Sequence[Point], constraint: Constraint) -> dict[str, Any]:
    """What ``run.json`` tells of the limits.

    Returns:
        The constraint; the points that a second measurement may find on the other side of a limit;
        and if none is within all limits, the nearest with its values.
    """
    ties = [point.id for point in points if at_limit(point, constraint)]
    told: dict[str, Any] = {"asked": str(constraint), "ties": ties, "nearest": None}
    if points and not any(constraint.satisfied(point.objectives) for point in points):
        nearest = _nearest(points, constraint)
        values: Mapping[str, float] = nearest.objectives
        told["nearest"] = {"id": nearest.id, **{name: values[name] for name in constraint.limits}}
    return told
