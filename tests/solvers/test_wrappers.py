"""Solvers around solvers: what each passes on, what it changes, and in which metric."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from paretonas.solvers.base import Direction, WeightingSolver
from paretonas.solvers.certificate import Certificate
from paretonas.solvers.dual_cone import UPGrad
from paretonas.solvers.every import EveryKSteps
from paretonas.solvers.fair_grad import FairGrad
from paretonas.solvers.famo import FAMO
from paretonas.solvers.inverse_magnitude import InverseMagnitude
from paretonas.solvers.linear import LinearScalarization
from paretonas.solvers.mgda import MGDA
from paretonas.solvers.moving_average import MovingAverage
from paretonas.solvers.nash_mtl import NashMTL
from paretonas.solvers.normalized import Normalized
from paretonas.solvers.preconditioned import Preconditioned, divisor_of
from paretonas.solvers.problem import GradientProblem
from paretonas.solvers.uncertainty import UncertaintyWeighting
from paretonas.solvers.weighted import Weighted

RAY = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
AROUND = {
    "MovingAverage": lambda inner: MovingAverage(inner, 0.5),
    "EveryKSteps": lambda inner: EveryKSteps(inner, 2),
    "Normalized": Normalized,
    "Weighted": lambda inner: Weighted(RAY, inner),
    "Preconditioned": lambda inner: Preconditioned(inner, torch.linspace(0.1, 3.0, 6)),
}


@pytest.fixture
def jacobians():
    """Ten random jacobians of three objectives in float64."""
    torch.manual_seed(4)
    return torch.randn(10, 3, 6, dtype=torch.float64)


@pytest.fixture(params=list(AROUND))
def around(request):
    """Every wrapper in turn."""
    return AROUND[request.param]


def _calls(solver, jacobians, values=None):
    """The weights of successive calls, and the last direction."""
    state, found = None, []
    for k, jacobian in enumerate(jacobians):
        direction = solver(jacobian, None if values is None else values[k], state)
        state = direction.state
        found.append(direction.weights)
    return torch.stack(found), direction


@dataclass(frozen=True, eq=False)
class Counting(WeightingSolver):
    """MGDA that notes when it is asked, and counts in its state."""

    asked: list[object] = field(default_factory=list)

    def weigh(self, problem, state):
        self.asked.append(state)
        return MGDA().weigh(problem, (state or 0) + 1)


# moving average


def test_an_average_without_momentum_is_the_inner_solver(jacobians):
    found, _ = _calls(MovingAverage(MGDA(), momentum=0.0), jacobians)
    expected, _ = _calls(MGDA(), jacobians)
    assert torch.equal(found, expected)


def test_the_average_is_exponential_and_starts_at_the_first_answer(jacobians):
    inner, _ = _calls(MGDA(), jacobians)
    found, last = _calls(MovingAverage(MGDA(), momentum=0.8), jacobians)
    average = inner[0]
    for weights, expected in zip(inner[1:], found[1:], strict=True):
        average = 0.8 * average + 0.2 * weights
        torch.testing.assert_close(average, expected)
    torch.testing.assert_close(last.vector, average @ jacobians[-1])


def test_an_average_can_conflict_and_its_certificate_says_so():
    solver = MovingAverage(MGDA(), momentum=0.9)
    first = solver(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    second = solver(torch.tensor([[10.0, 0.0], [-1.0, 0.1]]), state=first.state)
    assert not solver.non_conflicting
    assert second.certificate.smallest_cosine < -0.9


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got"):
        MovingAverage(MGDA(), momentum)


# every k steps


@pytest.mark.parametrize("k", [1, 3])
def test_the_inner_solver_is_asked_on_every_kth_call_only(jacobians, k):
    inner = Counting()
    solver = EveryKSteps(inner, k)
    expected = MGDA()(jacobians).weights
    state = None
    for t, jacobian in enumerate(jacobians):
        assert solver.due(state) == (t % k == 0)
        direction = solver(jacobian, state=state)
        state = direction.state
        torch.testing.assert_close(direction.weights, expected[t - t % k])
        torch.testing.assert_close(direction.vector, direction.weights @ jacobian)
        assert direction.certificate.branch == ("exact" if t % k == 0 else "reused")
    assert inner.asked == [None, *range(1, (len(jacobians) - 1) // k + 1)]


def test_a_call_in_between_needs_no_gradients(jacobians):
    """One backward pass of the weighted losses is enough: the weights are known beforehand."""
    solver = EveryKSteps(MGDA(), k=2)
    first = solver(jacobians[0])
    weighting = solver.from_values(torch.ones(3, dtype=torch.float64), first.state)
    assert torch.equal(weighting.weights, first.weights)
    with pytest.raises(ValueError, match="needs gradients"):
        solver.from_values(torch.ones(3), weighting.state)


def test_asking_less_than_every_step_is_refused():
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, got 0"):
        EveryKSteps(MGDA(), 0)


# normalized


@pytest.mark.parametrize("inner", [MGDA(), UPGrad(), LinearScalarization()])
@pytest.mark.parametrize("by", ["l2", "loss", "loss+"])
def test_normalized_is_the_inner_solver_on_divided_rows(jacobians, by, inner):
    values = torch.tensor([0.5, 4.0, 1.5], dtype=torch.float64)
    for jacobian in jacobians:
        lengths = jacobian.norm(dim=1)
        divisor = {"l2": lengths, "loss": values, "loss+": lengths * values}[by]
        expected = inner(jacobian / divisor[:, None]).vector
        found = Normalized(inner, by)(jacobian, values)
        torch.testing.assert_close(found.vector, expected)
        torch.testing.assert_close(found.weights @ jacobian, expected)
        assert found.certificate.kkt_residual < 1e-9


def test_mgda_on_unit_gradients_does_not_see_a_factor_on_a_row(jacobians):
    far = torch.tensor([1e-30, 1e30, 1.0], dtype=torch.float64)[:, None]
    for jacobian in jacobians:
        found = Normalized(MGDA())(far * jacobian).vector
        torch.testing.assert_close(found, Normalized(MGDA())(jacobian).vector)


def test_a_zero_gradient_stays_zero():
    direction = Normalized(MGDA())(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert direction.vector.tolist() == [0.0, 0.0]
    assert direction.weights.isfinite().all()


def test_what_cannot_divide_is_refused():
    for by in ("loss", "loss+"):
        with pytest.raises(ValueError, match=r"positive values, got 0.0 for objective 1"):
            Normalized(MGDA(), by)(torch.eye(2), torch.tensor([1.0, 0.0]))
        with pytest.raises(ValueError, match="needs the values"):
            Normalized(MGDA(), by)(torch.eye(2))


# weighted


@pytest.mark.parametrize("inner", [MGDA(), UPGrad(), UncertaintyWeighting(), InverseMagnitude()])
def test_weighted_is_the_inner_solver_on_weighted_objectives(jacobians, inner):
    values = torch.tensor([0.5, 4.0, 1.5], dtype=torch.float64)
    for jacobian in jacobians:
        expected = inner(RAY[:, None] * jacobian, RAY * values).vector
        found = Weighted(RAY, inner)(jacobian, values)
        torch.testing.assert_close(found.vector, expected)
        torch.testing.assert_close(found.weights @ jacobian, found.vector)


def test_weighted_hands_the_weighted_values_on(jacobians):
    """Seen in the state: FAMO keeps the values it compares with."""
    values = torch.tensor([0.5, 4.0, 1.5], dtype=torch.float64)
    state = Weighted(RAY, FAMO())(jacobians[0], values).state
    torch.testing.assert_close(state["before"][0], RAY * values + 1e-8)


def test_each_ray_aims_at_its_own(jacobians):
    rays = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64)
    together = Weighted(rays, MGDA())(jacobians[:2])
    for k in range(2):
        alone = Weighted(rays[k], MGDA())(jacobians[k])
        assert torch.equal(alone.weights, together.weights[k])


@dataclass(frozen=True)
class Signs:
    """A solver that is no weighting of rows: it votes on each sign."""

    weighs: bool = False

    def __call__(self, jacobian, values=None, state=None, *, out=None):
        problem = GradientProblem(jacobian, values)
        vector = jacobian.sign().sum(-2) + jacobian.sum(-2)
        weights = torch.ones(jacobian.shape[:-1], dtype=jacobian.dtype) if self.weighs else None
        rows = problem.rows.dense()
        certificate = Certificate(problem, None, vector=vector.reshape(len(rows), -1))
        return Direction(vector, weights, certificate, (values, out))


def test_a_solver_that_weighs_no_rows_gets_scaled_ones(jacobians):
    values = torch.tensor([0.5, 4.0, 1.5], dtype=torch.float64)
    expected = Signs()(RAY[:, None] * jacobians[0])
    out = torch.empty(6, dtype=torch.float64)
    found = Weighted(RAY, Signs())(jacobians[0], values, out=out)
    assert torch.equal(found.vector, expected.vector)
    assert found.weights is None
    assert torch.equal(found.state[0], RAY * values)
    assert found.vector.data_ptr() == out.data_ptr()
    batched = Weighted(RAY, Signs())(jacobians)
    assert torch.equal(batched.vector[0], expected.vector)
    assert torch.equal(Weighted(RAY, Signs(weighs=True))(jacobians[0]).weights, RAY)
    rows = Weighted(RAY, Signs())(list(jacobians[0]))
    assert torch.equal(rows.vector, expected.vector)


def test_a_solver_that_weighs_no_rows_has_no_weights_to_ask_for(jacobians):
    with pytest.raises(TypeError, match="Signs does not weigh rows"):
        Weighted(RAY, Signs()).from_gram(torch.eye(3))
    for wrap in (
        MovingAverage,
        EveryKSteps,
        Normalized,
        lambda s: Preconditioned(s, torch.ones(2)),
    ):
        with pytest.raises(TypeError, match="inner must be a WeightingSolver, got Signs"):
            wrap(Signs())


# preconditioned


@pytest.mark.parametrize("inner", [MGDA(), UPGrad(), LinearScalarization(), InverseMagnitude()])
def test_the_plain_metric_is_the_inner_solver(jacobians, inner):
    for jacobian in jacobians:
        found = Preconditioned(inner, torch.ones(6))(jacobian).vector
        torch.testing.assert_close(found, inner(jacobian).vector)


@pytest.mark.parametrize("inner", [MGDA(), UPGrad()])
def test_a_metric_is_a_change_of_coordinates(jacobians, inner):
    """In y = sqrt(P) x gradients are J / sqrt(P) and the metric is plain; a step there, back here,
    is divided by sqrt(P) twice."""
    divisor = torch.logspace(-3, 3, 6, dtype=torch.float64)
    for jacobian in jacobians:
        there = inner(jacobian / divisor.sqrt()).vector
        found = Preconditioned(inner, divisor)(jacobian)
        torch.testing.assert_close(found.vector / divisor, there / divisor.sqrt())
        torch.testing.assert_close(found.weights @ jacobian, found.vector)


@pytest.mark.parametrize("inner", [MGDA(), UPGrad()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step_of_the_optimizer_conflicts_with_nothing(inner, dtype):
    torch.manual_seed(0)
    plain_conflicts = 0
    for m, n in [(2, 3), (3, 5), (5, 40)] * 10:
        rows = torch.randn(m, n, dtype=dtype)
        divisor = 10 ** (4 * torch.rand(n, dtype=dtype) - 2)
        direction = Preconditioned(inner, divisor)(rows)
        step = (direction.vector / divisor).double()
        cosines = torch.cosine_similarity(rows.double(), step.unsqueeze(0))
        assert cosines.min() >= -1e-6
        metric = rows.double() / divisor.double().sqrt()
        in_metric = torch.cosine_similarity(metric, (metric.T @ direction.weights.double())[None])
        certified = direction.certificate.smallest_cosine
        torch.testing.assert_close(certified, in_metric.min(), rtol=0, atol=1e-5)
        plain_conflicts += bool((rows @ (inner(rows).vector / divisor) < 0).any())
    assert plain_conflicts > 5


def test_the_divisor_is_asked_for_at_every_call(jacobians):
    given = [torch.ones(6), torch.logspace(0, 2, 6)]
    waiting = list(given)
    solver = Preconditioned(UPGrad(), lambda: waiting.pop(0))
    for divisor in given:
        expected = Preconditioned(UPGrad(), divisor)(jacobians[0]).vector
        assert torch.equal(solver(jacobians[0]).vector, expected)


@pytest.mark.parametrize("bad", [[1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, 1.0, 1.0]])
def test_what_is_no_divisor_is_refused(bad):
    with pytest.raises(ValueError, match=r"divisor must have shape \(n,\) = \(2,\) with positive"):
        Preconditioned(MGDA(), torch.tensor(bad))(torch.eye(2))


def test_a_metric_inside_other_wrappers_stays_known(jacobians):
    """Certificates of scaled rows are referred back, those of the metric stay in it."""
    divisor = torch.logspace(-2, 2, 6, dtype=torch.float64)
    inside = Weighted(RAY, Preconditioned(UPGrad(), divisor))
    outside = Preconditioned(Weighted(RAY, UPGrad()), divisor)
    for jacobian in jacobians:
        one, other = inside(jacobian), outside(jacobian)
        torch.testing.assert_close(one.vector, other.vector)
        for name in ("smallest_cosine", "stationarity_gap", "kkt_residual"):
            torch.testing.assert_close(
                getattr(one.certificate, name), getattr(other.certificate, name)
            )


# what optimizers divide by


def _implied(make, gradients):
    """Gradient over step, per entry, of an optimizer that was fed these gradients."""
    x = torch.nn.Parameter(torch.zeros(gradients.shape[1], dtype=gradients.dtype))
    optimizer = make([x])
    for gradient in gradients:
        x.grad = gradient.clone()
        before = x.detach().clone()
        optimizer.step()
    return gradients[-1] / (before - x.detach()), divisor_of(optimizer, [x])


@pytest.mark.parametrize(
    "make",
    [
        lambda x: torch.optim.Adam(x, lr=1.0, betas=(0.0, 0.9)),
        lambda x: torch.optim.Adam(x, lr=1.0, betas=(0.0, 0.999), eps=0.1),
        lambda x: torch.optim.Adam(x, lr=1.0, betas=(0.0, 0.9), foreach=True),
        lambda x: torch.optim.AdamW(x, lr=1.0, betas=(0.0, 0.9), weight_decay=0.0),
        lambda x: torch.optim.AdamW(x, lr=1.0, betas=(0.0, 0.5), weight_decay=0.0, amsgrad=True),
        lambda x: torch.optim.RMSprop(x, lr=1.0, alpha=0.9),
        lambda x: torch.optim.RMSprop(x, lr=1.0, alpha=0.9, centered=True),
        lambda x: torch.optim.SGD(x, lr=1.0),
    ],
)
def test_the_divisor_is_what_the_last_step_divided_by(make):
    gradients = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradients[-1] *= 0.1  # so that a running maximum differs from the running mean
    implied, divisor = _implied(make, gradients)
    torch.testing.assert_close(divisor, implied)


def test_divisors_come_in_the_order_of_the_parameters_with_their_groups():
    a, b = (torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(2))
    optimizer = torch.optim.Adam([{"params": [a], "eps": 1.0}, {"params": [b], "eps": 2.0}])
    a.grad, b.grad = torch.ones(2, 2), torch.full((2, 2), 3.0)
    optimizer.step()
    torch.testing.assert_close(divisor_of(optimizer, [b, a]), torch.tensor([5.0] * 4 + [2.0] * 4))


def test_before_the_first_step_the_metric_is_plain():
    x = torch.nn.Parameter(torch.zeros(3))
    for make in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop):
        assert divisor_of(make([x]), [x]).tolist() == [1.0, 1.0, 1.0]


def test_a_parameter_that_never_had_a_gradient_takes_the_mean_of_the_others():
    a, b = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimizer = torch.optim.Adam([a, b], eps=0.0)
    a.grad = torch.tensor([1.0, 3.0])
    optimizer.step()
    torch.testing.assert_close(divisor_of(optimizer, [a, b]), torch.tensor([1.0, 3.0, 2.0, 2.0]))


def test_what_divides_unknown_is_refused():
    x, y = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))
    with pytest.raises(TypeError, match="must be Adam, AdamW, RMSprop or SGD.*got Adamax"):
        divisor_of(torch.optim.Adamax([x]), [x])
    with pytest.raises(ValueError, match=r"parameters\[1\] is not among those of the optimizer"):
        divisor_of(torch.optim.Adam([x]), [x, y])


# all of them


@pytest.mark.parametrize("inner", [FAMO(), NashMTL(), FairGrad()])
def test_a_state_survives_the_disk(around, inner, jacobians):
    values = torch.rand(10, 3, dtype=torch.float64)
    solver = around(inner)
    expected, _ = _calls(solver, jacobians, values)
    state, found = None, []
    for jacobian, now in zip(jacobians, values, strict=True):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        direction = solver(jacobian, now, torch.load(buffer, weights_only=True))
        state = direction.state
        found.append(direction.weights)
    assert torch.equal(torch.stack(found), expected)


def test_rays_at_once_are_what_they_are_one_by_one(around, jacobians):
    rays = torch.stack([jacobians, 2 * jacobians.flip(0), jacobians.square()], dim=1)
    together, _ = _calls(around(MGDA()), rays)
    for k in range(3):
        alone, _ = _calls(around(MGDA()), rays[:, k])
        assert torch.equal(alone, together[:, k])


def test_needs_and_promises_are_those_of_the_inner_solver(around):
    for inner in (MGDA(), LinearScalarization()):
        solver = around(inner)
        if not isinstance(solver, Normalized):
            assert solver.needs_gradients == inner.needs_gradients
        if not isinstance(solver, MovingAverage | EveryKSteps):
            assert solver.non_conflicting == inner.non_conflicting
        else:
            assert not solver.non_conflicting
    assert Normalized(LinearScalarization(), "l2").needs_gradients
    assert not Normalized(LinearScalarization(), "loss").needs_gradients


def test_wrappers_compose(jacobians):
    """PSMGD's reuse of averaged weights, found in the metric of the optimizer, for a preference."""
    divisor = torch.linspace(0.1, 3.0, 6, dtype=torch.float64)
    solver = EveryKSteps(MovingAverage(Preconditioned(Weighted(RAY, MGDA()), divisor), 0.5), 2)
    found, _ = _calls(solver, jacobians)
    seen = [MGDA()(RAY[:, None] * j / divisor.sqrt()).weights * RAY for j in jacobians[::2]]
    average = seen[0]
    for k, weights in enumerate(seen):
        average = weights if k == 0 else 0.5 * (average + weights)
        torch.testing.assert_close(found[2 * k], average)
        torch.testing.assert_close(found[2 * k + 1], average)


@pytest.mark.parametrize("scaled", [False, True])
def test_rows_turned_apart_stay_so_in_a_metric(scaled):
    """Where rounding made angles impossible, the second look of a solver sees possible ones."""
    torch.manual_seed(0)
    jacobian, metric = torch.randn(3, 5, dtype=torch.float64), torch.rand(5).double() + 0.1
    factors = np.array([[1.0, 2.0, 3.0]]) if scaled else np.ones((1, 3))
    plain = GradientProblem(jacobian).with_metric(metric).scaled(factors)
    for turned in (
        GradientProblem(jacobian).lifted().scaled(factors).with_metric(metric),
        GradientProblem(jacobian).scaled(factors).lifted().with_metric(metric),
    ):
        np.testing.assert_allclose(turned.gram.norms, plain.gram.norms, rtol=1e-14)
        turns = turned.gram.cosines / plain.gram.cosines - 1
        apart = turns[0][~np.eye(3, dtype=bool)]
        assert ((apart > -2e-12) & (apart < -0.5e-12)).all()
