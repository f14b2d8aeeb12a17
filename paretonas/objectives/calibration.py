"""Calibration of a latency table: whole networks, timed end to end, correct the sum of the parts.

Two corrections are compared by cross-validation. A line scales and shifts the sum. A ridge
regression corrects the cost of each part in the table, too; it is a Gaussian process whose
covariance counts the parts that two architectures share (kernel ridge regression, Saunders et al.
1998). The errors of the cross-validation also give an interval for further networks (split
conformal prediction, Papadopoulos et al. 2002; CV+, arXiv 1905.02928).

In a space of so few architectures that all of them are timed, nothing needs to be predicted: what
was measured is the table.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from random import Random
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..devices.backend import Backend
from ..devices.timer import Load, Measurement, measure_together
from ..nn import Supernet
from ..point import FAILING
from ..space import Architecture, draw, every, size
from .cost_table import CostTable, Slot
from .parts import observer
from .tabulate import FEW

ARCHITECTURES = 24  # measured ones, spread over the range of the table
TOGETHER = 10  # of them, timed alternately
SECONDS = 3.0  # time for the measurement
LOADING_SECONDS = 5.0  # after which no more networks are loaded than needed
FOLDS = 8
FEWEST = 16  # architectures for a correction of parts, and for an interval
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # variance of a part's correction, to its cost
NOISES = (0.01, 0.02, 0.04, 0.08)  # standard deviation of a measured latency, to itself
COVERED = 0.9
CONSTANT = "constant"  # the name of the slot for what is in no part

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """How a latency table was corrected, and how well it predicts networks that it has not seen.

    Predictions are made by cross-validation. A line or a correction of parts is the best of 25 by
    their error, so the numbers are a little better than those of further networks will be.

    Attributes:
        correction: "line"; "parts" if the costs of parts were corrected as well; "transferred" if
            they are those of another device, corrected; or "measured", if all architectures were
            timed and nothing is predicted.
        shift_ms: the latency that is in no part, 0 or more.
        factor: the factor of the sum, positive; of a transferred table a median over networks.
        rank_correlation: Spearman's rank correlation of predicted and measured latency; None if
            there is nothing to rank.
        within_10_percent: the share of architectures whose prediction is so close.
        interval: predictions are within this share of the measured latency in 9 of 10 cases; None
            if there are too few architectures to say.
        architectures: the number of measured architectures that say so.
        predicted_ms: of each, by cross-validation.
        measured_ms: of each.
    """

    correction: str
    shift_ms: float
    factor: float
    rank_correlation: float | None
    within_10_percent: float
    interval: float | None
    architectures: int
    predicted_ms: tuple[float, ...]
    measured_ms: tuple[float, ...]

    @classmethod
    def told(cls, about: Mapping[str, Any]) -> Calibration | None:
        """The calibration that `about` of a table tells; None if it tells none, as older ones.

        It may come from a file: what is no calibration is None as well.
        """
        known: dict[str, Any] = {field.name: about.get(field.name) for field in fields(cls)}
        pairs = [known["predicted_ms"], known["measured_ms"]]
        optional = ("rank_correlation", "interval")
        numbers = ("shift_ms", "factor", "within_10_percent", "architectures", *optional)
        fine = (
            all(_is_number(known[n]) or (n in optional and known[n] is None) for n in numbers)
            and all(isinstance(p, list | tuple) and all(map(_is_number, p)) for p in pairs)
            and len(pairs[0]) == len(pairs[1])
            and (known["interval"] or 0) >= 0
        )
        return cls(**known) if fine else None

    @classmethod
    def of(
        cls,
        correction: str,
        shift: float,
        factor: float,
        predicted: Array,
        measured: Array,
        spread: float = 0.0,
    ) -> Calibration:
        """What predictions and measurements (n,) of the same architectures tell.

        The measurements were made together. So their errors do not show what another hour changes
        for all of them; the spread of a measurement, as a share of it, stands for that.
        """
        correlation = rank_correlation(predicted, measured)
        apart = np.sort(np.abs(_relative(predicted, measured)))
        rank = math.ceil((len(measured) + 1) * COVERED)
        return cls(
            correction=correction,
            shift_ms=shift,
            factor=factor,
            rank_correlation=None if np.isnan(correlation) else correlation,
            within_10_percent=float(np.mean(apart <= 0.1)),
            interval=math.hypot(apart[rank - 1], spread) if rank <= len(apart) else None,
            architectures=len(measured),
            predicted_ms=tuple(np.round(predicted, 6).tolist()),
            measured_ms=tuple(np.round(measured, 6).tolist()),
        )

    def about(self) -> dict[str, Any]:
        """As `about` of a table tells it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        if self.correction == "measured":
            return f"all {self.architectures} architectures were measured"
        rank = self.rank_correlation
        ranked = "" if rank is None else f", rank correlation {rank:.2f}"
        within = "" if self.interval is None else f"; 9 of 10 are within {self.interval:.0%}"
        return (
            f"over {self.architectures} measured networks, each predicted without itself: "
            f"{self.within_10_percent:.0%} within 10%{within}{ranked}"
        )


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # an int may be larger


@dataclass(frozen=True)
class Timed:
    """Architectures whose latency was measured.

    Attributes:
        architectures: n of them.
        ms: (n,) their latency in milliseconds, positive.
        fresh: how many of them, the first ones, tell how well a table predicts others.
        runs_as: for every architecture of the space the measured one that runs the same; None if
            others were not measured.
        spread: of a measurement, as a share of it: a second one may be so far from it.
    """

    architectures: Sequence[Architecture]
    ms: Array
    fresh: int
    runs_as: Mapping[Architecture, Architecture] | None = None
    spread: float = 0.0

    def of_all(self, supernet: Supernet, example: Any) -> Timed:
        """The same, with `runs_as` if these are all that there are."""
        known = _all(supernet, example)
        complete = bool(known) and {*known.values()} <= {*self.architectures}
        return replace(self, runs_as=known if complete else None)


def timed(
    table: CostTable,
    supernet: Supernet,
    example: Any,
    *,
    backend: Backend,
    loads: Mapping[Architecture, Load] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Timed:
    """Time architectures from the fastest to the slowest in a table.

    Args:
        table: the costs of parts.
        supernet: the network with choices.
        example: the inputs of one forward pass.
        backend: runs the networks.
        loads: gives calls of the networks in which the parts were measured. They are timed as well,
            but say nothing about how well the table predicts others.
        progress: called with the share that is done.
    """
    seen = dict(loads or {})
    others = spread_over(table, supernet, example, seen)
    report = progress or (lambda share: None)
    fresh = _loaded(others, seen, supernet, example, backend, lambda share: report(share / 2))
    chosen = [*fresh.items(), *seen.items()]
    found: list[Measurement] = []
    for begin in range(0, len(chosen), TOGETHER):
        group = chosen[begin : begin + TOGETHER]
        found += measure_together(
            [load for _, load in group],
            threads=backend.threads,
            device=backend.device,
            seconds=SECONDS * len(group) / len(chosen),
        )
        report(0.5 + (begin + len(group)) / len(chosen) / 2)
    architectures = [a for a, _ in chosen]
    ms, spread = np.array([[one.median_ms, one.spread_ms] for one in found]).T
    told = Timed(architectures, ms, len(fresh) or len(chosen), spread=float(np.median(spread / ms)))
    return told.of_all(supernet, example)


def corrected(table: CostTable, timed: Timed) -> CostTable:
    """A table corrected by measured networks; its `about` has the `Calibration`."""
    if timed.runs_as is not None:
        return _of_networks(table, timed, timed.runs_as)
    architectures, measured, fresh = timed.architectures, timed.ms, timed.fresh
    parts = Parts.of(table, architectures)
    models: list[_Model] = [_Model()]
    if len(architectures) >= FEWEST:
        models += [_Model(strength, noise) for strength in STRENGTHS for noise in NOISES]
    errors = [
        _relative(_cross_validated(model, parts, measured), measured)[:fresh] for model in models
    ]
    best = min(range(len(models)), key=lambda i: float(np.mean(errors[i] ** 2)))
    predicted = _cross_validated(models[best], parts, measured)[:fresh]
    factor, shift, changes = models[best].fit(parts, measured)
    measured = measured[:fresh]
    calibration = Calibration.of(
        "line" if best == 0 else "parts", shift, factor, predicted, measured, timed.spread
    )
    about = {**table.about, **calibration.about()}
    return changed(table, factor * parts.costs + changes, shift, about)


def _of_networks(
    table: CostTable, timed: Timed, runs_as: Mapping[Architecture, Architecture]
) -> CostTable:
    """The table that has what was measured of each architecture, and not the sums of another."""
    ms = dict(zip(timed.architectures, timed.ms.tolist(), strict=True))
    groups = {c.name: tuple((option,) for option in c.options) for c in table.choices}
    values = [ms[runs_as[architecture]] for architecture in every(table.choices)]
    shape = [len(choice.options) for choice in table.choices]
    slot = Slot("network", groups, torch.tensor(values, dtype=torch.float64).reshape(shape))
    known = tuple(np.round([*ms.values()], 6).tolist())
    calibration = Calibration("measured", 0.0, 1.0, None, 1.0, None, len(ms), known, known)
    about = {**table.about, **calibration.about()}
    return CostTable(table.choices, [slot], unit=table.unit, about=about)


def _all(supernet: Supernet, example: Any) -> dict[Architecture, Architecture]:
    """Every architecture, and the one that it runs as; none if there are too many to look at."""
    if size(supernet.choices) > FEW:
        return {}
    observe = observer(supernet, example)
    return {each: observe(each).architecture for each in every(supernet.choices)}


def changed(table: CostTable, costs: Array, shift: float, about: Mapping[str, Any]) -> CostTable:
    """A table with other costs, none of them negative, and a constant.

    Args:
        table: has the parts.
        costs: (N,) of all parts, in the order of `Parts`.
        shift: the constant.
        about: the origin of the costs.
    """
    made, begin = list[Slot](), 0
    for slot in table.slots:
        own = np.maximum(0.0, costs[begin : begin + slot.values.numel()])
        begin += slot.values.numel()
        if slot.name == CONSTANT and not slot.groups:
            shift += float(own.sum())
        else:
            made.append(
                Slot(slot.name, slot.groups, torch.from_numpy(own).reshape(slot.values.shape))
            )
    constant = Slot(CONSTANT, {}, torch.tensor(shift, dtype=torch.float64))
    made.insert(0, constant)
    return CostTable(table.choices, made, unit=table.unit, about=about)


def _loaded(
    candidates: Sequence[Architecture],
    known: Mapping[Architecture, Load],
    supernet: Supernet,
    example: Any,
    backend: Backend,
    progress: Callable[[float], None],
) -> dict[Architecture, Load]:
    """What loads the candidates that are not known: all, or fewer if that takes long."""
    found: dict[Architecture, Load] = {}

    def keep(architecture: Architecture) -> None:
        if architecture not in known:
            load = backend.loading(supernet.extract(architecture), example)
            load()()  # it may not run
            found[architecture] = load

    begun = perf_counter()
    for index, architecture in enumerate(candidates):
        progress(index / len(candidates))
        if len(found) >= FEWEST and perf_counter() - begun > LOADING_SECONDS:
            break
        try:
            keep(architecture)
        except FAILING:
            near = observer(supernet, example)(architecture).architecture
            if near == architecture:
                raise
            keep(near)
    return found


def spread_over(
    table: CostTable, supernet: Supernet, example: Any, seen: Collection[Architecture]
) -> list[Architecture]:
    """Two dozen architectures from the cheapest to the dearest, in random order.

    Args:
        table: the costs of parts.
        supernet: the network with choices.
        example: the inputs of one forward pass.
        seen: what is measured anyway; in a small space none of these is taken, so that all may be.
    """
    rng = Random(0)
    among = {*_all(supernet, example).values()} - {*seen}
    among = among or {supernet.canonical(draw(supernet.choices, rng)) for _ in range(400)}
    ranked = sorted(among, key=lambda a: (table.total_at(a), str(a)))
    count = min(ARCHITECTURES, len(ranked))
    indices = np.linspace(0, len(ranked) - 1, count).round().astype(int)
    chosen = list(dict.fromkeys(ranked[index] for index in indices))
    Random(1).shuffle(chosen)  # so that drift is not mistaken for size
    return chosen


@dataclass(frozen=True)
class Parts:
    """Which costs of a table some architectures have.

    Attributes:
        costs: (N,) all costs of the table.
        used: (n, N) 1 where an architecture has a cost.
    """

    costs: Array
    used: Array

    @classmethod
    def of(cls, table: CostTable, architectures: Sequence[Architecture]) -> Parts:
        sizes = [slot.values.numel() for slot in table.slots]
        starts = np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0)
        used = np.zeros((len(architectures), sum(sizes)))
        for row, architecture in zip(used, architectures, strict=True):
            for start, place in zip(starts, table.places(architecture), strict=True):
                row[int(start) + place] = 1.0
        costs = [slot.values.double().flatten().numpy() for slot in table.slots]
        return cls(np.concatenate([np.zeros(0), *costs]), used)

    def rows(self, kept: NDArray[np.intp]) -> Parts:
        """Only these architectures."""
        return Parts(self.costs, self.used[kept])


@dataclass(frozen=True)
class _Model:
    """A line through the sums, and with a strength a correction of each cost."""

    strength: float = 0.0
    noise: float = 1.0

    def fit(self, parts: Parts, measured: Array) -> tuple[float, float, Array]:
        """Factor and shift of the sum, and (N,) what is added to each cost."""
        factor, shift = fit(parts.used @ parts.costs, measured)
        if not self.strength:
            return factor, shift, np.zeros(len(parts.costs))
        # A part of hardly any cost may have one, such as a part that is fused into another: about
        # a sixtieth of a network, as a small part. What costs 0 does not run, and is not corrected.
        scale = factor * parts.costs + np.where(parts.costs > 0, np.median(measured) / 60, 0.0)
        shared = self.strength * (parts.used * scale**2) @ parts.used.T
        rest = measured - shift - factor * (parts.used @ parts.costs)
        dual = np.linalg.solve(shared + np.diag((self.noise * measured) ** 2), rest)
        return factor, shift, self.strength * scale**2 * (parts.used.T @ dual)


def _cross_validated(model: _Model, parts: Parts, measured: Array) -> Array:
    """(n,) what a model predicts that was fitted without the fold of an architecture."""
    predicted = np.zeros(len(measured))
    folds = min(FOLDS, len(measured))
    for fold in range(folds):
        out = np.arange(len(measured)) % folds == fold
        kept = np.flatnonzero(~out)
        if len(kept) == 0:
            kept = np.flatnonzero(out)
        factor, shift, changes = model.fit(parts.rows(kept), measured[kept])
        costs = np.maximum(0.0, factor * parts.costs + changes)
        predicted[out] = shift + parts.used[out] @ costs
    return predicted


def _relative(predicted: Array, measured: Array) -> Array:
    return predicted / measured - 1


def fit(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Factor and shift of a robust line through the points; neither is negative.

    The slope is the median over pairs of points (Theil 1950, Sen 1968), so a few disturbed
    measurements have no effect. If the slope or the shift would be negative, the line goes through
    zero.
    """
    low, high = np.triu_indices(len(predicted), 1)
    apart = predicted[high] - predicted[low]
    rises = (measured[high] - measured[low])[apart != 0] / apart[apart != 0]
    if len(rises) > 0:
        factor = float(np.median(rises))
        shift = float(np.median(measured - factor * predicted))
        if factor > 0 and shift >= 0:
            return factor, shift
    return float(np.median(measured / predicted)), 0.0


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rank correlation; ties share their mean rank. It is nan if nothing can be ranked.

    >>> rank_correlation([1, 2, 3], [10, 30, 20])
    0.5
    """
    ranks = [_ranks(np.asarray(values, dtype=float)) for values in (one, other)]
    if len(ranks[0]) == 0 or min(np.ptp(rank) for rank in ranks) == 0:
        return float("nan")
    first, second = (rank - rank.mean() for rank in ranks)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _ranks(values: np.ndarray) -> np.ndarray:
    below = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    return np.asarray(below + (equal - 1) / 2)
