"""Weights that a wrapper uses again keep the inner method's limit on length, on any gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paretonas import backward, solvers
from paretonas.solvers.base import WeightingSolver
from paretonas.solvers.problem import GradientProblem

WIDE = torch.float64
N = 4


def shared_out(m):
    """A preference with unequal entries."""
    steps = torch.arange(1, m + 1, dtype=WIDE)
    return steps / steps.sum()


def lengths(rows):
    return rows.norm(dim=-1)


def over_values(rows, values):
    return (lengths(rows) / values).max()


# How long a direction may be on these rows and values: of each method, said without its code.
LIMITS = {
    "NashMTL": (solvers.NashMTL, lambda rows, _: 1.0),
    "NashMTL, .3": (lambda: solvers.NashMTL(0.3), lambda rows, _: 0.3),
    "NashMTL, none": (lambda: solvers.NashMTL(None), lambda rows, _: math.sqrt(len(rows))),
    "FairGrad of 1": (lambda: solvers.FairGrad(1.0), lambda rows, _: math.sqrt(len(rows))),
    "FairGrad of .5": (
        lambda: solvers.FairGrad(0.5),
        lambda rows, _: lengths(rows).sqrt().sum() ** (1 / 1.5),
    ),
    "InverseMagnitude": (solvers.InverseMagnitude, lambda rows, _: len(rows)),
    "UPGrad": (solvers.UPGrad, lambda rows, _: lengths(rows).mean()),
    "DualProj": (solvers.DualProj, lambda rows, _: lengths(rows).mean()),
    "PriorityProjection": (solvers.PriorityProjection, lambda rows, _: lengths(rows)[0]),
    "PCGrad": (solvers.PCGrad, lambda rows, _: lengths(rows).sum()),
    "GradVac": (lambda: solvers.GradVac(beta=1e-9), lambda rows, _: lengths(rows).sum()),
    "CAGrad": (lambda: solvers.CAGrad(0.5), lambda rows, _: 1.5 * rows.mean(0).norm()),
    "ConFIG": (solvers.ConFIG, lambda rows, _: lengths(rows).sum()),
    "PMGDA": (solvers.PMGDA, lambda rows, _: lengths(rows).mean()),
    "AlignedMTL": (
        lambda: solvers.AlignedMTL("rmse"),
        lambda rows, _: rows.norm() / math.sqrt(len(rows)),
    ),
    "MGDA": (solvers.MGDA, lambda rows, _: lengths(rows).max()),
    "unit MGDA": (lambda: solvers.Normalized(solvers.MGDA()), lambda rows, _: 1.0),
    "unit UPGrad": (lambda: solvers.Normalized(solvers.UPGrad()), lambda rows, _: 1.0),
    "unit NashMTL": (lambda: solvers.Normalized(solvers.NashMTL()), lambda rows, _: 1.0),
    "relative MGDA": (lambda: solvers.Normalized(solvers.MGDA(), "loss"), over_values),
    "relative mean": (
        lambda: solvers.Normalized(solvers.LinearScalarization(), "loss"),
        over_values,
    ),
    "relative unit MGDA": (
        lambda: solvers.Normalized(solvers.MGDA(), "loss+"),
        lambda rows, values: 1 / values.min(),
    ),
}
AROUND = {
    "EveryKSteps": lambda inner, m: solvers.EveryKSteps(inner, 3),
    "MovingAverage": lambda inner, m: solvers.MovingAverage(inner, 0.7),
    "average, kept": lambda inner, m: solvers.EveryKSteps(solvers.MovingAverage(inner), 2),
    "kept, average": lambda inner, m: solvers.MovingAverage(solvers.EveryKSteps(inner, 2)),
    "kept twice": lambda inner, m: solvers.EveryKSteps(solvers.EveryKSteps(inner, 2), 2),
    "plain metric": lambda inner, m: solvers.EveryKSteps(
        solvers.Preconditioned(inner, torch.ones(N)), 3
    ),
}


@st.composite
def sequences(draw):
    """Jacobians of one m, rows of any scales among them nearly opposed ones, and their values."""
    m = draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    steps = []
    for kind in draw(st.lists(st.sampled_from(["any", "opposed", "zero"]), min_size=2, max_size=6)):
        rows = torch.randn(m, N, dtype=WIDE, generator=generator)
        if kind == "opposed":
            rows = (-1.0) ** torch.arange(m).unsqueeze(1) * rows[:1] + 1e-4 * rows
        powers = torch.empty(m, 1, dtype=WIDE).uniform_(-6, 6, generator=generator)
        rows = rows * 10**powers
        if kind == "zero":
            rows[0] = 0.0
        values = 10 ** torch.empty(m, dtype=WIDE).uniform_(-6, 6, generator=generator)
        steps.append((rows, values))
    return steps


def directions(solver, steps):
    state = None
    for rows, values in steps:
        direction = solver(rows, values, state)
        state = direction.state
        yield rows, values, direction


@pytest.mark.hypothesis
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("method", LIMITS)
def test_no_use_of_weights_is_longer_than_the_method_may_be(method, around):
    build, limit = LIMITS[method]

    @settings(max_examples=settings.default.max_examples // 20, database=None, deadline=None)
    @given(sequences())
    def hold(steps):
        solver = AROUND[around](build(), len(steps[0][0]))
        for rows, values, direction in directions(solver, steps):
            assert direction.vector.norm() <= (1 + 1e-5) * limit(rows, values)
            torch.testing.assert_close(
                direction.weights @ rows,
                direction.vector,
                rtol=0,
                atol=1e-9 * (direction.weights.abs() * lengths(rows)).sum().item(),
            )

    hold()


@pytest.mark.hypothesis
@pytest.mark.parametrize("method", LIMITS)
def test_the_method_alone_keeps_its_limit(method):
    """So the law above asks for nothing that the method does not promise itself."""
    build, limit = LIMITS[method]

    @settings(max_examples=settings.default.max_examples // 6, database=None, deadline=None)
    @given(sequences())
    def hold(steps):
        for rows, values in steps:
            vector = build()(rows, values).vector
            assert vector.norm() <= (1 + 1e-5) * limit(rows, values)
            seen = build().longest(GradientProblem(rows, values))
            assert vector.norm() <= (1 + 1e-5) * seen[0]

    hold()


def test_every_solver_is_within_what_it_calls_longest_and_so_is_what_wraps_it(build, values):
    """Unless it is learned without a bound, has no closed bound, or turns by targets."""
    torch.manual_seed(0)
    for m in (1, 2, 3, 5):
        inner = build(m)
        if not isinstance(inner, WeightingSolver) or isinstance(
            inner, solvers.FairGrad | solvers.GradVac
        ):
            continue
        for solver in (inner, solvers.EveryKSteps(inner, 3), solvers.MovingAverage(inner)):
            steps = torch.randn(12, m, N, dtype=WIDE)
            steps *= 10 ** torch.empty(12, m, 1, dtype=WIDE).uniform_(-6, 6)
            for rows, now, direction in directions(solver, [(rows, values(m)) for rows in steps]):
                longest = inner.longest(GradientProblem(rows, now))[0]
                assert direction.vector.norm() <= (1 + 1e-5) * longest


@pytest.mark.hypothesis
@pytest.mark.parametrize("alpha", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("around", AROUND)
def test_fair_weights_kept_are_no_longer_than_fresh_ones(alpha, around):
    @settings(max_examples=settings.default.max_examples // 20, database=None, deadline=None)
    @given(sequences())
    def hold(steps):
        solver = AROUND[around](solvers.FairGrad(alpha), len(steps[0][0]))
        for rows, _, direction in directions(solver, steps):
            fresh = solvers.FairGrad(alpha)(rows)
            if fresh.certificate.branch == "exact" and fresh.certificate.stationarity_gap > 1e-6:
                assert direction.vector.norm() <= (1 + 1e-5) * fresh.vector.norm()

    hold()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_fair_weights_kept_solve_their_own_equation_for_the_length(alpha):
    """|d|^2 = sum_i x_i^(1 - 1/alpha), whatever the gradients have become, up to the limit."""
    torch.manual_seed(0)
    solver, seen = solvers.EveryKSteps(solvers.FairGrad(alpha), 2), []
    for _ in range(20):
        rows = torch.rand(3, 5, dtype=WIDE) * 10 ** torch.empty(3, 1, dtype=WIDE).uniform_(
            -0.3, 0.1
        )
        first = solver(rows)
        turned = torch.rand(3, 5, dtype=WIDE)
        again = solver(turned, state=first.state)
        proportions = first.weights / first.weights.sum()
        torch.testing.assert_close(again.weights / again.weights.sum(), proportions)
        own = (again.weights ** (1 - 1 / alpha)).sum()
        longest = (
            first.vector.norm()
            if alpha > 1
            else lengths(turned).pow(1 - alpha).sum() ** (1 / (1 + alpha))
        )
        found = again.vector.norm()
        solved = torch.isclose(found, own.sqrt(), rtol=1e-6)
        seen.append(bool(solved))
        assert solved or torch.isclose(found, longest, rtol=1e-6)
    assert any(seen)


@pytest.mark.parametrize("alpha", [2.0, 5.0])
def test_where_gradients_cancel_fair_weights_kept_do_not_grow_without_end(alpha):
    """The equation would ask for (abs(d) / small)^((alpha - 1) / (alpha + 1)) times the length."""
    rows = torch.tensor([[1.0, 0.2], [0.2, 1.0]], dtype=WIDE)
    opposed = torch.tensor([[1.0, 0.0], [-1.0, 1e-6]], dtype=WIDE)
    for solver in (
        solvers.EveryKSteps(solvers.FairGrad(alpha), 2),
        solvers.MovingAverage(solvers.EveryKSteps(solvers.FairGrad(alpha), 2)),
    ):
        first = solver(rows)
        again = solver(opposed, state=first.state)
        assert again.vector.norm() <= (1 + 1e-9) * first.vector.norm()
    through = solvers.MovingAverage(solvers.FairGrad(alpha))
    first = through(rows)
    stationary = through(torch.tensor([[1.0, 0.0], [-1.0, 1e-9]], dtype=WIDE), state=first.state)
    assert stationary.vector.norm() == 0
    after = through(rows, state=stationary.state)
    assert 0 < after.vector.norm() <= first.vector.norm()


def test_weights_without_lengths_in_them_are_kept_as_they_are():
    """Convex ones: the published method, to the last bit."""
    torch.manual_seed(0)
    for inner in (
        solvers.MGDA(),
        solvers.LinearScalarization(shared_out(3)),
        solvers.Weighted(shared_out(3), solvers.MGDA()),
    ):
        solver = solvers.EveryKSteps(inner, 2)
        first = solver(torch.randn(3, 5))
        again = solver(1e6 * torch.randn(3, 5), state=first.state)
        assert torch.equal(first.weights, again.weights)


@pytest.mark.parametrize(
    "inner",
    [solvers.NashMTL(), solvers.FairGrad(), solvers.UPGrad(), solvers.Normalized(solvers.MGDA())],
)
def test_a_wrapper_that_keeps_nothing_is_the_inner_solver_to_the_bit(inner):
    torch.manual_seed(0)
    for solver in (solvers.EveryKSteps(inner, 1), solvers.MovingAverage(inner, 0.0)):
        state = None
        for rows in torch.randn(6, 3, 5):
            direction = solver(rows, state=state)
            state = direction.state
            assert torch.equal(direction.vector, inner(rows).vector)


def test_in_a_metric_the_limit_holds_in_the_metric():
    torch.manual_seed(0)
    divisor = torch.logspace(-3, 3, 5, dtype=WIDE)
    for solver in (
        solvers.EveryKSteps(solvers.Preconditioned(solvers.NashMTL(), divisor), 4),
        solvers.Preconditioned(solvers.EveryKSteps(solvers.NashMTL(), 4), divisor),
        solvers.MovingAverage(solvers.Preconditioned(solvers.NashMTL(), divisor)),
    ):
        state = None
        for _ in range(12):
            direction = solver(torch.randn(3, 5, dtype=WIDE) * 10 ** torch.randn(3, 1), state=state)
            state = direction.state
            assert (direction.vector / divisor.sqrt()).norm() <= 1 + 1e-9


@pytest.mark.parametrize("around", AROUND)
def test_each_ray_has_its_own_limit(around):
    torch.manual_seed(0)
    rays = torch.randn(6, 4, 3, N, dtype=WIDE) * 10 ** torch.randn(6, 4, 3, 1, dtype=WIDE)
    for inner in (
        solvers.NashMTL(),
        solvers.FairGrad(),
        solvers.UPGrad(),
        solvers.Normalized(solvers.MGDA()),
    ):
        solver, state, alone = AROUND[around](inner, 3), None, [None] * 4
        for rows in rays:
            together = solver(rows, state=state)
            state = together.state
            for k in range(4):
                one = solver(rows[k], state=alone[k])
                alone[k] = one.state
                torch.testing.assert_close(one.vector, together.vector[k], rtol=1e-9, atol=1e-12)


# one backward pass, after which only the sum of the gradients is known


class Seen:
    """A solver that does not say that it can do without gradients."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, jacobian, values=None, state=None):
        return self.inner(jacobian, values, state)


RAY = torch.tensor([0.3, 0.7])


@pytest.mark.parametrize(
    "make",
    [
        lambda: solvers.EveryKSteps(solvers.NashMTL(), 3),
        lambda: solvers.EveryKSteps(solvers.FairGrad(), 3),
        lambda: solvers.EveryKSteps(solvers.InverseMagnitude(), 3),
        lambda: solvers.EveryKSteps(solvers.Normalized(solvers.MGDA()), 3),
        lambda: solvers.MovingAverage(solvers.EveryKSteps(solvers.NashMTL(), 3)),
        lambda: solvers.Weighted(RAY, solvers.EveryKSteps(solvers.FairGrad(), 3)),
        lambda: solvers.Weighted(RAY, solvers.EveryKSteps(solvers.NashMTL(), 3)),
        lambda: solvers.Preconditioned(
            solvers.EveryKSteps(solvers.FairGrad(), 3), torch.linspace(0.1, 2.0, 6)
        ),
        lambda: solvers.MovingAverage(solvers.Normalized(solvers.LinearScalarization(), "loss")),
        lambda: solvers.EveryKSteps(solvers.Normalized(solvers.UncertaintyWeighting(), "loss"), 3),
    ],
)
def test_one_pass_gives_the_direction_that_all_rows_give(make):
    torch.manual_seed(0)
    scales = 10 ** torch.empty(8, 2).uniform_(-2, 2)
    points = torch.randn(8, 2, 6)
    found = []
    for solver in (make(), Seen(make())):
        weight, state = nn.Parameter(torch.ones(6)), None
        for scale, point in zip(scales, points, strict=True):
            losses = list(scale * ((weight * point).sum(-1).square() + 0.1))
            direction = backward(losses, [weight], solver=solver, state=state, heads=[[], []])
            state = direction.state
            found.append((direction.vector, direction.weights))
    for one_pass, rows in zip(found[:8], found[8:], strict=True):
        torch.testing.assert_close(one_pass, rows, rtol=1e-4, atol=1e-6)


def test_where_lengths_are_unknown_the_limit_is_that_of_the_last_solved_call():
    solver = solvers.EveryKSteps(solvers.UPGrad(), 2)
    rows = torch.tensor([[1.0, 1.0], [-1e-6, 0.0]])  # the short gradient gets a weight of 5e5
    first = solver(rows)
    limit = lengths(rows).mean()
    kept = solver.from_values(torch.ones(2), first.state)
    vector = kept.weights @ torch.ones(2, 2)
    factor = solver.length_factor(kept, vector)
    torch.testing.assert_close((factor * vector).norm(), limit.double(), check_dtype=False)
    assert solver.length_factor(kept, torch.tensor([1e-3, 0.0])) == 1


def test_nothing_is_fitted_where_nothing_is_kept():
    weighting = solvers.LinearScalarization().from_values(torch.ones(2))
    assert weighting.limit is None
    assert solvers.LinearScalarization().length_factor(weighting, torch.tensor([1e9])) == 1


class Plain(WeightingSolver):
    """A method of somebody else that says nothing about lengths."""

    def weigh(self, problem, state):
        return solvers.UPGrad().weigh(problem, state)


def test_a_method_that_says_nothing_has_no_limit():
    solver = solvers.EveryKSteps(Plain(), 2)
    first = solver(torch.eye(2))
    again = solver(1e9 * torch.eye(2), state=first.state)
    assert torch.equal(first.weights, again.weights)


def trained(solver, steps=300):
    """Two tasks by SGD at a learning rate of .1: the final loss, and the longest direction."""
    torch.manual_seed(0)
    inputs, longest, state = torch.randn(256, 8), 0.0, None
    targets = torch.tanh(inputs @ torch.randn(8, 2))
    trunk = nn.Sequential(nn.Linear(8, 16), nn.Tanh())
    heads = nn.ModuleList(nn.Linear(16, 1) for _ in range(2))
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.1)

    def losses(batch):
        features = trunk(inputs[batch])
        return [
            (head(features)[:, 0] - targets[batch, k]).square().mean()
            for k, head in enumerate(heads)
        ]

    for _ in range(steps):
        optimizer.zero_grad()
        direction = backward(
            losses(torch.randint(256, (8,))), trunk.parameters(), solver=solver, state=state
        )
        state = direction.state
        longest = max(longest, direction.vector.norm().item())
        optimizer.step()
    return sum(loss.item() for loss in losses(slice(None))), longest


@pytest.mark.parametrize("wrap", [lambda s: solvers.EveryKSteps(s, 4), solvers.MovingAverage])
def test_training_with_kept_weights_ends_near_the_method_alone(wrap):
    alone, _ = trained(solvers.NashMTL())
    kept, longest = trained(wrap(solvers.NashMTL()))
    assert longest <= 1 + 1e-5
    assert kept < 2 * alone + 0.02
