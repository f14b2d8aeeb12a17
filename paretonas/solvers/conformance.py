"""`check_solver`: checks what every solver promises; it works for your own solvers too."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas._promises import demand, naming
from paretonas.gradients.rows import Jacobian
from paretonas.solvers.base import Direction, Solver
from paretonas.solvers.mgda import MGDA

__all__ = ["Claims", "check_solver"]

Rows = Float[Tensor, "m n"]
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
NEARLY_STATIONARY = 1e-5  # below this gap a direction may be rounding only


@dataclass(frozen=True)
class Claims:
    """Optional promises of a solver, for equal preferences on a first call.

    One more promise is an attribute of the solver, ``non_conflicting``: no gradient has an angle
    above 90 degrees with the direction.

    Attributes:
        equivariant: permuting the objectives does not change the direction.
        linear: the direction is linear in positive factors of the gradients.
        invariant: positive factors of the gradients change only the length of the direction.
        strongly_stationary: the direction is 0 only if a strictly positive combination of all
            gradients is 0.
        deterministic: the same input gives the same output.
    """

    equivariant: bool = False
    linear: bool = False
    invariant: bool = False
    strongly_stationary: bool = False
    deterministic: bool = True


def check_solver(
    solver: Solver, claims: Claims | None = None, *, objectives: Sequence[int] = (1, 2, 3, 6)
) -> None:
    """Check that a solver keeps its promises, on jacobians of many ranks and scales.

    Every solver must keep these rules. A direction is finite, has the shape and dtype of the
    gradients, and agrees with its weights and its certificate. Inputs are not changed. A state can
    be saved and loaded. Each ray of a batch gets the same answer as when it is solved alone. All
    forms of a jacobian give the same answer. Input that is not finite or does not fit is refused. A
    single objective is followed. The solver's own claims hold too: its attribute
    ``non_conflicting``, and ``claims``.

    The solver is copied before each call, so that its generator does not advance.

    Args:
        solver: an object, such as ``MGDA()``.
        claims: its optional promises; None is ``Claims()``.
        objectives: the numbers of objectives to check.

    Raises:
        AssertionError: a promise is broken; the message names it and the jacobian.

    >>> from paretonas.solvers import UPGrad
    >>> check_solver(UPGrad(), Claims(equivariant=True, linear=True, strongly_stationary=True))
    """
    if isinstance(solver, type):
        raise AssertionError(f"must be an object, got a class: write {solver.__name__}()")
    if not isinstance(solver, Solver):
        raise AssertionError(f"must be called as solver(jacobian, values, state), got {solver!r}")
    for m in objectives:
        check = _Check(solver, claims or Claims(), m)
        for label, rows in jacobians(m):
            check.answers(label, rows)
        check.keeps_dtypes()
        check.refuses()
        if m == 1:
            check.follows_a_lone_objective()
        if check.claims.deterministic:
            check.repeats()
            check.solves_rays_alone()
            check.takes_all_forms()
            check.goes_on_from_a_checkpoint()
        check.keeps_claims()


@dataclass(frozen=True)
class _Check:
    solver: Solver
    claims: Claims
    m: int

    @property
    def values(self) -> Float[Tensor, " m"]:
        return torch.linspace(0.9, 0.2, self.m, dtype=torch.float64)

    def call(self, label: str, rows: Jacobian, values: Tensor, state: object = None) -> Direction:
        with self.naming(label):
            return fresh_call(self.solver, rows, values, state)

    def answers(self, label: str, rows: Rows) -> None:
        before, values, given = rows.clone(), self.values, self.values
        direction = self.call(label, rows.requires_grad_(), values)
        rows = rows.detach()
        self.demand(torch.equal(rows, before), label, "changes the jacobian")
        self.demand(torch.equal(values, given), label, "changes the values")
        self.demand(isinstance(direction, Direction), label, "returns no Direction")
        vector, weights = direction.vector, direction.weights
        shape = tuple(vector.shape)
        fits = shape == tuple(rows.shape[1:])
        self.demand(fits, label, f"vector must have shape {tuple(rows.shape[1:])}, got {shape}")
        self.demand(not vector.requires_grad, label, "vector must have no graph")
        self.demand(bool(vector.isfinite().all()), label, "vector is not finite")
        if weights is not None:
            fits = weights.shape == (self.m,)
            self.demand(fits, label, f"weights must have shape ({self.m},), got {weights.shape}")
            terms = weights[:, None] * rows
            # Solvers return 0 if the terms of a direction cancel to the last digits.
            apart = (terms.sum(0) - vector).norm() <= 1e-7 * terms.norm(dim=-1).sum()
            self.demand(bool(apart), label, "vector is not weights @ jacobian")
        self.certifies(label, rows, direction)
        if getattr(self.solver, "non_conflicting", False):
            for dtype in (torch.float64, torch.float32):
                short = rows.to(dtype)
                found = conflict_of(short, self.call(label, short, self.values).vector)
                self.demand(found <= 1e-6, label, f"conflicts, with a cosine of {-found:.1e}")

    def certifies(self, label: str, rows: Rows, direction: Direction) -> None:
        certificate = direction.certificate
        with self.naming(label):
            cosine, residual = certificate.smallest_cosine, certificate.kkt_residual
            gap, rank = certificate.stationarity_gap, int(certificate.rank)
        shapes = [tuple(number.shape) for number in (cosine, residual, gap, certificate.rank)]
        self.demand(shapes == [()] * 4, label, f"a certificate has shapes (), got {shapes}")
        solved = bool(residual <= 1e-9)
        self.demand(solved, label, f"solved to a KKT residual of {residual.item():.1e} only")
        self.demand(-1e-9 <= gap.item() <= 1 + 1e-9, label, f"stationarity gap is {gap.item()}")
        self.demand(0 <= rank <= min(rows.shape), label, f"rank is {rank}")
        lit = rows.abs().amax(-1) > 0
        if lit.any() and gap > 1e-6:
            seen = (units(rows) @ unit(direction.vector))[lit].min()
            off = f"smallest cosine is {seen.item():.6f}, certified is {cosine.item():.6f}"
            self.demand(bool((cosine - seen).abs() < 1e-5), label, off)

    def keeps_dtypes(self) -> None:
        for dtype in DTYPES:
            label = f"gradients in {dtype}"
            rows, values = _normal(self.m, 6, seed=1).to(dtype), self.values.to(dtype)
            direction = self.call(label, rows, values)
            got = direction.vector.dtype
            self.demand(got == dtype, label, f"vector is in {got}")
            if direction.weights is not None:
                wide, got = torch.promote_types(dtype, torch.float32), direction.weights.dtype
                self.demand(got == wide, label, f"weights must be in {wide}, got {got}")
            if self.claims.deterministic:  # else each dtype draws other random numbers
                exact = self.call(label, rows.double(), values.double()).vector
                near = (direction.vector.double() - exact).abs().max() <= 8 * torch.finfo(
                    dtype
                ).eps * (1 + exact.abs().max())
                self.demand(bool(near), label, "the direction is not that of float64, rounded")

    def refuses(self) -> None:
        for bad in (math.nan, math.inf, -math.inf):
            rows, values = torch.ones(self.m, 4), torch.ones(self.m)
            rows[self.m - 1, 2] = bad
            named = f"row {self.m - 1}"
            self.expect_refusal(f"{bad} in {named} of the jacobian", rows, values, named)
            values[self.m - 1] = bad
            self.expect_refusal(f"{bad} among the values", torch.ones(self.m, 4), values, "values")
        good = torch.ones(self.m)
        self.expect_refusal("a jacobian (n,)", torch.ones(4), good, "jacobian")
        self.expect_refusal("a jacobian (0, n)", torch.ones(0, 4), good, "jacobian")
        whole = torch.ones(self.m, 4, dtype=torch.long)
        self.expect_refusal("a jacobian of whole numbers", whole, good, "floating point")
        more = torch.ones(self.m + 1)
        self.expect_refusal(f"values ({self.m + 1},)", torch.ones(self.m, 4), more, "values")

    def expect_refusal(self, label: str, rows: Tensor, values: Tensor, named: str) -> None:
        try:
            fresh_call(self.solver, rows, values)
        except (ValueError, TypeError) as error:
            self.demand(named in str(error), label, f"{error!r} does not say {named!r}")
        else:
            self.demand(False, label, "is not refused")

    def follows_a_lone_objective(self) -> None:
        rows = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
        apart = _apart(unit(self.call("a lone objective", rows, self.values).vector), rows[0] / 5)
        self.demand(apart < 1e-9, "a lone objective", "is not followed")

    def repeats(self) -> None:
        solver = copy.deepcopy(self.solver)
        for label, rows in jacobians(self.m):
            with self.naming(label):
                first, second = (solver(rows, self.values).vector for _ in range(2))
            self.demand(torch.equal(first, second), label, "two calls of one solver differ")

    def solves_rays_alone(self) -> None:
        label = "5 rays at once"
        rows = torch.stack([_normal(self.m, 7, seed) for seed in range(5)])
        values = torch.rand(5, self.m, generator=_seeded(7), dtype=torch.float64) + 0.1
        together = self.call(label, rows, values)
        shape = tuple(together.vector.shape)
        self.demand(shape == (5, 7), label, f"vector must have shape (5, 7), got {shape}")
        branches = together.certificate.branch
        self.demand(len(branches) == 5, label, f"must name a branch for each ray, got {branches}")
        for k in range(5):
            alone = self.call(f"ray {k} alone", rows[k], values[k]).vector
            self.demand(_apart(together.vector[k], alone) < 1e-9, label, "differ from each alone")

    def takes_all_forms(self) -> None:
        rows = _normal(self.m, 7, seed=3)
        whole = self.call("(m, n)", rows, self.values).vector
        forms: dict[str, Jacobian] = {
            "a list of rows": list(rows),
            "a list of blocks": [rows[:, :3], rows[:, 3:].reshape(self.m, 2, 2)],
            "a list of lists": [[row[:3], row[3:].reshape(2, 2)] for row in rows],
        }
        for label, form in forms.items():
            apart = _apart(self.call(label, form, self.values).vector, whole)
            self.demand(apart < 1e-9, label, "differs from one tensor")

    def goes_on_from_a_checkpoint(self) -> None:
        label = "a state"
        state: object = None
        for step in range(4):
            rows, values = _normal(self.m, 6, seed=step), self.values * (1 + 0.1 * step)
            try:
                saved = _reloaded(state)
            except Exception as error:
                rule = "must be plain values, which torch.load(weights_only=True) takes"
                raise AssertionError(
                    f"{self.m} objectives, {label}: {rule}, got {state!r}"
                ) from error
            going_on = self.call(label, rows, values, state)
            again = self.call(label, rows, values, saved).vector
            repeated = self.call(label, rows, values, state).vector
            same = torch.equal(going_on.vector, again)
            self.demand(same, label, "that was saved and loaded gives another direction")
            self.demand(torch.equal(going_on.vector, repeated), label, "is changed by the call")
            state = going_on.state

    def keeps_claims(self) -> None:
        for kind in KINDS:
            for n, seed in ((2, 0), (5, 1), (12, 2)):
                rows = full_digits(kind, self.m, n, seed)
                if stationarity_gap(rows) < NEARLY_STATIONARY:
                    continue
                label = f"{kind} gradients ({self.m}, {n})"
                for name, (measure, tolerance) in MEASURES.items():
                    if getattr(self.claims, name, False):
                        with self.naming(label):
                            off = measure(self.solver, rows, seed)
                        self.demand(off <= tolerance, label, f"is not {name}: off by {off:.1e}")
        if self.claims.strongly_stationary and self.m > 1:
            for seed in range(5):
                label = "no strictly positive combination is 0"
                rows = not_strongly_stationary(self.m, 8, seed)
                length = self.call(label, rows, equal_values(self.m)).vector.norm()
                moves = bool(length > 1e-6 * rows.norm(dim=1).mean())
                self.demand(moves, label, "is not strongly_stationary: stops there")

    def demand(self, kept: bool, label: str, otherwise: str) -> None:
        demand(kept, f"{self.m} objectives, {label}: {otherwise}")

    def naming(self, label: str) -> AbstractContextManager[None]:
        return naming(f"{self.m} objectives, {label}")


def fresh_call(
    solver: Solver, jacobian: Jacobian, values: Tensor, state: object = None
) -> Direction:
    """Call a copy of the solver, so that its own and torch's random numbers are the same again."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return copy.deepcopy(solver)(jacobian, values, state)


def _reloaded(state: object) -> object:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: object = torch.load(file, weights_only=True)
    return loaded


# --- violation of a claim on one jacobian, 0 where it holds -------------------------------------


def conflict(solver: Solver, rows: Rows, seed: int) -> float:
    """Cosine of the widest angle above 90 degrees between a gradient and the direction."""
    return conflict_of(rows, _vector(solver, rows))


def conflict_of(rows: Rows, vector: Float[Tensor, " n"]) -> float:
    """The same for a known direction."""
    return max(0.0, -(units(rows) @ unit(vector)).min().item())


def equivariance(solver: Solver, rows: Rows, seed: int) -> float:
    """Relative change when the objectives are permuted."""
    order = torch.randperm(len(rows), generator=_seeded(seed))
    values = torch.linspace(0.2, 0.9, len(rows), dtype=torch.float64)
    plain, turned = _vector(solver, rows, values), _vector(solver, rows[order], values[order])
    return _apart(plain, turned)


def linearity(solver: Solver, rows: Rows, seed: int) -> float:
    """Relative difference between the sum of two answers and the answer for the summed factors."""
    one, two = _factors(2, len(rows), 1, seed=seed)
    parts = _vector(solver, one * rows), _vector(solver, two * rows)
    return _apart(parts[0] + parts[1], _vector(solver, (one + two) * rows), *parts)


def invariance(solver: Solver, rows: Rows, seed: int) -> float:
    """Change of the unit direction when the gradients are multiplied by factors."""
    scaled = _factors(len(rows), 1, seed=seed) * rows
    return _apart(unit(_vector(solver, rows)), unit(_vector(solver, scaled)))


def repetition(solver: Solver, rows: Rows, seed: int) -> float:
    """Relative difference between two calls of one solver."""
    copied, values = copy.deepcopy(solver), equal_values(len(rows))
    with torch.random.fork_rng(devices=[]):
        return _apart(*(copied(rows, values).vector for _ in range(2)))


MEASURES: dict[str, tuple[Callable[[Solver, Rows, int], float], float]] = {
    "non_conflicting": (conflict, 1e-6),
    "equivariant": (equivariance, 1e-6),
    "linear": (linearity, 1e-6),
    "invariant": (invariance, 1e-6),
    "deterministic": (repetition, 1e-12),
}
"""For each claim, a function that measures its violation, and the tolerance for rounding."""


def equal_values(m: int) -> Float[Tensor, " m"]:
    """Values that favor no objective."""
    return torch.full((m,), 0.5, dtype=torch.float64)


def stationarity_gap(rows: Rows) -> float:
    """Length of the shortest convex combination, relative to the mean length."""
    return MGDA()(rows).certificate.stationarity_gap.item()


def unit(vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Divide by the length, in float64 and without overflow; 0 stays 0."""
    scaled: Tensor = vector.double() / vector.double().abs().max().clamp_min(1e-300)
    length: Tensor = scaled.norm().clamp_min(1e-300)
    return scaled / length


def units(rows: Rows) -> Rows:
    """Divide each row by its length."""
    return torch.stack([unit(row) for row in rows])


def _vector(solver: Solver, rows: Rows, values: Tensor | None = None) -> Float[Tensor, " n"]:
    given = equal_values(len(rows)) if values is None else values
    return fresh_call(solver, rows, given).vector


def _apart(one: Tensor, other: Tensor, *more: Tensor) -> float:
    size = max(float(vector.norm()) for vector in (one, other, *more))
    return float((one - other).norm()) / max(size, 1e-300)


# --- jacobians -----------------------------------------------------------------------------------

KINDS = ("random", "conflicting", "low rank", "apart", "duplicates", "agreeing", "wide")


def full_digits(kind: str, m: int, n: int, seed: int) -> Rows:
    """A jacobian of one of ``KINDS`` with full digits; its direction may still be rounding only."""
    generator = _seeded(seed)
    rows = torch.randn(m, n, dtype=torch.float64, generator=generator)
    if kind == "conflicting":
        rows = rows - 2 * rows.mean(0) + 0.3 * torch.randn(1, n, generator=generator)
    elif kind == "low rank":
        rank = min(m, n, 2)
        rows = torch.randn(m, rank, dtype=torch.float64, generator=generator) @ rows[:rank]
    elif kind == "apart":
        rows = rows * torch.logspace(-3, 3, m, dtype=torch.float64).unsqueeze(1)
    elif kind == "duplicates":
        rows[-1] = rows[0]
    elif kind == "agreeing":
        rows = rows.abs() + 0.1
    elif kind == "wide":
        rows = rows * 10 ** torch.empty(m, 1).uniform_(-2, 2, generator=generator)
    return rows


def not_strongly_stationary(m: int, n: int, seed: int) -> Rows:
    """Rows without a strictly positive combination that is 0; a convex combination may be 0.

    The first row is orthogonal to all others, so its weight in a combination that is 0 must be 0.
    The second row is minus a positive combination of the rest.
    """
    rows = _normal(m, n, seed)
    axis = unit(rows[0])
    rows[1:] -= (rows[1:] @ axis).unsqueeze(1) * axis
    if m > 2:
        rows[1] = -rows[2:].mean(0)
    return rows


def jacobians(m: int) -> Iterator[tuple[str, Rows]]:
    """Jacobians of all scales and ranks, in float64, each with a name; the same on every run."""
    for n in (1, 4, 40):
        for index, (kind, make) in enumerate(EXTREMES.items()):
            rows = _normal(m, n, seed=100 * index + n)
            yield f"{kind} ({m}, {n})", make(rows)


def _with_last(rows: Rows, last: Float[Tensor, " n"]) -> Rows:
    return torch.cat([rows[:-1], last.unsqueeze(0)]) if len(rows) > 1 else rows


def _signs(rows: Rows) -> Float[Tensor, "m 1"]:
    return (-1.0) ** torch.arange(len(rows), dtype=rows.dtype).unsqueeze(1)


def _zero_row(rows: Rows) -> Rows:
    rows[len(rows) // 2] = 0.0
    return rows


EXTREMES: dict[str, Callable[[Rows], Rows]] = {
    "random": lambda rows: rows,
    "rank 1": lambda rows: rows[:, :1] * rows[:1],
    "low rank": lambda rows: rows[:, : min(2, len(rows))] @ rows[:2] if rows.shape[1] > 1 else rows,
    "duplicates": lambda rows: _with_last(rows, rows[0]),
    "stationary pair": lambda rows: _with_last(rows, -3.0 * rows[0]),
    "stationary": lambda rows: _with_last(rows, -rows[:-1].sum(0)),
    "zero row": _zero_row,
    "all zero": torch.zeros_like,
    "nearly parallel": lambda rows: rows[:1] + 1e-4 * rows.flip(0),
    "nearly opposite": lambda rows: _signs(rows) * (rows[:1] + 1e-4 * rows.flip(0)),
    "agreeing": lambda rows: rows.abs() + 0.1,
    "rows 1e6 apart": lambda rows: (
        rows * torch.logspace(-3, 3, len(rows), dtype=rows.dtype)[:, None]
    ),
    "tiny": lambda rows: 1e-30 * rows,
    "huge": lambda rows: 1e30 * rows,
}


def _normal(m: int, n: int, seed: int) -> Rows:
    return torch.randn(m, n, dtype=torch.float64, generator=_seeded(seed))


def _factors(*shape: int, seed: int) -> Tensor:
    return 10 ** torch.empty(*shape, dtype=torch.float64).uniform_(-1, 1, generator=_seeded(seed))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
