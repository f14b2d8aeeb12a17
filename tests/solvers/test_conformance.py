"""The check catches a solver that breaks one promise, and leaves alone what it is handed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from paretonas.solvers import RandomWeights
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.certificate import Certificate
from paretonas.solvers.conformance import Claims, check_solver
from paretonas.solvers.problem import GradientProblem


@dataclass(frozen=True, eq=False)
class Sum(WeightingSolver):
    """The sum of the gradients, which breaks no promise."""

    def weigh(self, problem, state):
        return Answer(np.ones((problem.r, problem.m)), state=state)


class NeverConflicts(Sum):
    non_conflicting: ClassVar[bool] = True

    def __call__(self, jacobian, values=None, state=None):
        return Sum()(jacobian, values, state)


class Forgetful(Sum):
    """Numbers in its state, changed by the call."""

    def weigh(self, problem, state):
        state = {"calls": 0} if state is None else state
        state["calls"] += 1
        return Answer(np.full((problem.r, problem.m), float(state["calls"])), state=state)


class Hiding(Sum):
    """Keeps on itself what belongs in the state."""

    def weigh(self, problem, state):
        object.__setattr__(self, "calls", getattr(self, "calls", 0) + 1)
        return Answer(np.full((problem.r, problem.m), float(self.calls)), state=state)


class Unsaved(Sum):
    def weigh(self, problem, state):
        return Answer(np.ones((problem.r, problem.m)), state=Claims())


class First(Sum):
    def weigh(self, problem, state):
        return Answer(np.eye(problem.m)[:1].repeat(problem.r, 0), state=state)


class Lengths(Sum):
    def weigh(self, problem, state):
        return Answer(problem.gram.norms, state=state)


class Unsolved(Sum):
    def weigh(self, problem, state):
        return Answer(np.ones((problem.r, problem.m)), lambda: np.full(problem.r, 1e-3))


class Together(Sum):
    """Rays that move each other."""

    def weigh(self, problem, state):
        weights = np.ones((problem.r, problem.m)) * problem.values.sum()
        return Answer(weights, state=state)


class Changed(Sum):
    """What comes back is changed by `of`, or what goes in."""

    def __call__(self, jacobian, values=None, state=None):
        return self.of(super().__call__(jacobian, values, state), jacobian)


class Wide(Changed):
    def of(self, direction, jacobian):
        return replace(direction, vector=direction.vector.double())


class Halved(Changed):
    def of(self, direction, jacobian):
        return replace(direction, vector=direction.vector / 2)


class Uphill(Changed):
    def of(self, direction, jacobian):
        return replace(direction, vector=-direction.vector, weights=-direction.weights)


class Boasting(Changed):
    """The certificate is that of another direction."""

    def of(self, direction, jacobian):
        problem = GradientProblem(jacobian)
        weights = np.eye(problem.m)[:1].repeat(problem.r, 0)
        return replace(direction, certificate=Certificate(problem, weights))


class InPlace(Changed):
    def of(self, direction, jacobian):
        jacobian.detach().mul_(2) if isinstance(jacobian, torch.Tensor) else None
        return direction


class Trusting(Changed):
    """Non-finite entries go through."""

    def __call__(self, jacobian, values=None, state=None):
        clean = jacobian.nan_to_num() if isinstance(jacobian, torch.Tensor) else jacobian
        return Sum()(clean, values, state)


class OnlyTensors(Sum):
    def __call__(self, jacobian, values=None, state=None):
        assert isinstance(jacobian, torch.Tensor)
        return super().__call__(jacobian, values, state)


class Drawing(Sum):
    def weigh(self, problem, state):
        return Answer(torch.rand(problem.r, problem.m).double().numpy(), state=state)


@pytest.mark.parametrize(
    ("solver", "claims", "message"),
    [
        (Sum, Claims(), "must be an object, got a class: write Sum()"),
        ("MGDA", Claims(), r"must be called as solver\(jacobian, values, state\), got 'MGDA'"),
        (NeverConflicts(), Claims(), "2 objectives, .*: conflicts, with a cosine of -"),
        (Forgetful(), Claims(), "a state: is changed by the call|loaded gives another direction"),
        (Hiding(), Claims(), "two calls of one solver differ"),
        (Drawing(), Claims(), "two calls of one solver differ"),
        (Unsaved(), Claims(), r"a state: must be plain values.*, got Claims\("),
        (First(), Claims(equivariant=True), "is not equivariant"),
        (First(), Claims(strongly_stationary=True), None),
        (Lengths(), Claims(linear=True), "is not linear"),
        (Sum(), Claims(invariant=True), "is not invariant"),
        (Unsolved(), Claims(), "solved to a KKT residual of 1.0e-03 only"),
        (Together(), Claims(), "5 rays at once: differ from each alone"),
        (Wide(), Claims(), "gradients in torch.float32: vector is in torch.float64"),
        (Halved(), Claims(), "vector is not weights @ jacobian"),
        (Uphill(), Claims(), "smallest cosine is -1.000000, certified is 1.000000"),
        (Boasting(), Claims(), "smallest cosine is .*, certified is"),
        (InPlace(), Claims(), "changes the jacobian"),
        (Trusting(), Claims(), "nan in row 0 of the jacobian: is not refused"),
        (OnlyTensors(), Claims(), "a list of rows: AssertionError"),
    ],
)
def test_a_broken_promise_is_found(solver, claims, message):
    if message is None:
        return check_solver(solver, claims)
    with pytest.raises(AssertionError, match=message):
        check_solver(solver, claims)


def test_what_breaks_no_promise_passes():
    check_solver(Sum(), Claims(equivariant=True, linear=True, strongly_stationary=True))
    check_solver(Drawing(), Claims(deterministic=False))


def test_generators_are_where_they_were():
    own = torch.Generator().manual_seed(5)
    before, world = own.get_state(), torch.random.get_rng_state()
    check_solver(RandomWeights(generator=own), Claims(deterministic=False))
    check_solver(RandomWeights(), Claims(deterministic=False))
    assert torch.equal(own.get_state(), before)
    assert torch.equal(torch.random.get_rng_state(), world)


def test_the_solver_of_the_page_is_that_of_the_package_which_strict_types_are_checked_on():
    root = Path(__file__).parents[2]
    page = (root / "docs" / "adding-a-solver.md").read_text()
    shown = page.partition("```python run my_solver.py\n")[2].partition("```")[0]
    assert shown == (root / "paretonas" / "solvers" / "inverse_magnitude.py").read_text()
