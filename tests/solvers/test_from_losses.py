"""Weights learned from losses: each against a plain version by autograd and torch's Adam."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from paretonas.solvers.dwa import DynamicWeightAverage
from paretonas.solvers.famo import FAMO
from paretonas.solvers.grad_norm import GradNorm
from paretonas.solvers.imtl_l import IMTLL
from paretonas.solvers.inverse_magnitude import InverseMagnitude
from paretonas.solvers.linear import LinearScalarization, RandomWeights
from paretonas.solvers.tchebycheff import Tchebycheff
from paretonas.solvers.uncertainty import UncertaintyWeighting

BY_VALUES = [UncertaintyWeighting, IMTLL, DynamicWeightAverage, FAMO]
WITH_STATE = [*BY_VALUES, lambda: DynamicWeightAverage(steps_per_epoch=3), GradNorm]


@pytest.fixture
def jacobian():
    torch.manual_seed(1)
    return torch.randn(3, 5, dtype=torch.float64)


def _story(steps, m, seed=0):
    """Values that fall at different rates, with noise: (steps, m), positive."""
    generator = torch.Generator().manual_seed(seed)
    noise = 0.1 * torch.randn(steps, m, generator=generator, dtype=torch.float64)
    rates = torch.linspace(0.01, 0.2, m, dtype=torch.float64)
    sizes = torch.logspace(-1, 1, m, dtype=torch.float64)
    return sizes * torch.exp(-rates * torch.arange(steps)[:, None] + noise)


def _weights(solver, jacobians, story):
    """The weights of successive calls, (steps, m), and the last state."""
    state, found = None, []
    for jacobian, values in zip(jacobians, story, strict=True):
        direction = solver(jacobian, values, state)
        state = direction.state
        found.append(direction.weights)
    return torch.stack(found), state


def _through_disk(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


# fixed and random weights


def test_linear_scalarization_without_preference_is_the_mean(jacobian):
    torch.testing.assert_close(LinearScalarization()(jacobian).vector, jacobian.mean(0))


def test_one_preference_per_ray(jacobian):
    rays = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64)
    both = LinearScalarization(rays)(jacobian.expand(2, -1, -1))
    torch.testing.assert_close(both.vector, rays @ jacobian)


def test_preference_that_does_not_fit_the_jacobian_is_refused(jacobian):
    with pytest.raises(ValueError, match=r"\(m,\) = \(3,\) to fit the jacobian, got \(2,\)"):
        LinearScalarization(torch.tensor([0.5, 0.5]))(jacobian)
    rays = torch.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match=r"\(r, m\) = \(4, 3\) to fit the jacobian, got \(2, 3\)"):
        LinearScalarization(rays)(jacobian.expand(4, -1, -1))


def test_random_weights_are_convex_and_differ_between_calls(jacobian):
    solver = RandomWeights(torch.Generator().manual_seed(0))
    first, second = solver(jacobian).weights, solver(jacobian).weights
    assert first.sum() == pytest.approx(1.0)
    assert (first > 0).all()
    assert not torch.equal(first, second)


def test_random_weights_are_the_softmax_of_normal_numbers():
    solver = RandomWeights(torch.Generator().manual_seed(0))
    log = solver(torch.ones(20000, 2, 1, dtype=torch.float64)).weights.log()
    between = (log[:, 0] - log[:, 1]) / 2**0.5  # a difference of two normal numbers, var 2
    probabilities = torch.distributions.Normal(0.0, 1.0).cdf(between).sort().values
    expected = torch.linspace(0, 1, len(between), dtype=torch.float64)
    assert (probabilities - expected).abs().max() < 0.015


def test_random_weights_repeat_with_the_state_of_their_generator(jacobian):
    generator = torch.Generator().manual_seed(0)
    solver = RandomWeights(generator)
    solver(jacobian)
    kept = generator.get_state()
    expected = solver(jacobian).weights
    generator.set_state(kept)
    assert torch.equal(solver(jacobian).weights, expected)


# inverse gradient magnitude


def test_inverse_magnitude_sums_unit_gradients(jacobian):
    unit = torch.nn.functional.normalize(jacobian)
    torch.testing.assert_close(InverseMagnitude()(jacobian).vector, unit.sum(0))
    scaled = jacobian * torch.tensor([1e-30, 1e30, 5.0]).double()[:, None]
    torch.testing.assert_close(InverseMagnitude()(scaled).vector, unit.sum(0))


def test_inverse_magnitude_leaves_out_zero_gradients():
    weights = InverseMagnitude()(torch.tensor([[0.0, 0.0], [0.0, 4.0]])).weights
    assert weights.tolist() == [0.0, 0.25]
    assert InverseMagnitude()(torch.zeros(2, 2)).vector.tolist() == [0.0, 0.0]


# learned log variances and factors


def _by_autograd(*, story, loss, lr, start=0.0):
    """Minimize loss(values, s) over s by torch's Adam; the weights are d loss / d values."""
    s = torch.full_like(story[0], start).requires_grad_()
    optimizer = torch.optim.Adam([s], lr=lr)
    weights = []
    for values in story:
        values = values.clone().requires_grad_()
        optimizer.zero_grad()
        loss(values, s).backward()
        weights.append(values.grad)
        optimizer.step()
    return torch.stack(weights)


def test_uncertainty_weighting_against_autograd_and_adam(jacobian):
    story = _story(60, 3)
    expected = _by_autograd(
        story=story, loss=lambda values, s: (torch.exp(-s) * values / 2 + s / 2).sum(), lr=0.1
    )
    found, _ = _weights(UncertaintyWeighting(lr=0.1), [jacobian] * 60, story)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_imtl_l_against_autograd_and_adam(jacobian):
    story = _story(60, 3)
    expected = _by_autograd(
        story=story, loss=lambda values, s: (torch.exp(s) * values - s).sum(), lr=0.1
    )
    found, _ = _weights(IMTLL(lr=0.1), [jacobian] * 60, story)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_imtl_l_is_twice_uncertainty_weighting(jacobian):
    """Both step alike: one gradient is minus half of the other, and Adam divides by its size."""
    story = _story(60, 3)
    one, _ = _weights(IMTLL(lr=0.05), [jacobian] * 60, story)
    other, _ = _weights(UncertaintyWeighting(lr=0.05), [jacobian] * 60, story)
    torch.testing.assert_close(one, 2 * other, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("kind", "factor"), [(UncertaintyWeighting, 0.5), (IMTLL, 1.0)])
def test_learned_weights_tend_to_one_over_the_loss(kind, factor):
    values = torch.tensor([1e-3, 1.0, 50.0], dtype=torch.float64)
    found, _ = _weights(kind(lr=0.05), [torch.eye(3).double()] * 1500, values.expand(1500, 3))
    torch.testing.assert_close(found[-1], factor / values, rtol=2e-2, atol=0)


@pytest.mark.parametrize("kind", [UncertaintyWeighting, IMTLL])
def test_a_loss_of_zero_does_not_overflow_the_weights(kind):
    values = torch.tensor([0.0, 1.0])
    found, state = _weights(kind(lr=10.0), [torch.eye(2)] * 30, values.expand(30, 2))
    assert found.isfinite().all()
    assert state["value"].abs().max() == 50.0


# dynamic weight average


def _dwa_by_hand(*, story, steps_per_epoch, temperature):
    """Averages of the epochs first, then the formula of the paper for each."""
    m = story.shape[1]
    epochs = [story[k : k + steps_per_epoch].mean(0) for k in range(0, len(story), steps_per_epoch)]
    weights = []
    for t in range(len(story)):
        epoch = t // steps_per_epoch
        if epoch < 2:
            weights.append(torch.ones(m).double())
        else:
            ratio = epochs[epoch - 1] / epochs[epoch - 2]
            weights.append(m * torch.softmax(ratio / temperature, 0))
    return torch.stack(weights)


@pytest.mark.parametrize("steps_per_epoch", [1, 4])
@pytest.mark.parametrize("temperature", [2.0, 0.1])
def test_dynamic_weight_average_by_hand(jacobian, steps_per_epoch, temperature):
    story = _story(20, 3)
    expected = _dwa_by_hand(story=story, steps_per_epoch=steps_per_epoch, temperature=temperature)
    solver = DynamicWeightAverage(steps_per_epoch, temperature)
    found, _ = _weights(solver, [jacobian] * 20, story)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_dynamic_weight_average_where_a_loss_is_zero():
    """Still 0: unchanged. Risen from 0: everything goes there. Fallen to 0: ratio 0."""
    story = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    found, _ = _weights(DynamicWeightAverage(), [torch.eye(3)] * 4, story)
    expected = 3 * torch.softmax(torch.tensor([1.0, 1.0, 0.0]) / 2, 0)
    torch.testing.assert_close(found[2], expected)
    assert found[3].tolist() == [3.0, 0.0, 0.0]


# GradNorm


def _grad_norm_by_autograd(*, jacobians, story, alpha, lr):
    """The paper's loss by autograd; its weights bounded and scaled to sum m after each step."""
    m = story.shape[1]
    unit = jacobians[0].norm(dim=1).mean()
    w = torch.ones(m).double().requires_grad_()
    optimizer = torch.optim.Adam([w], lr=lr)
    weights = []
    for jacobian, values in zip(jacobians, story, strict=True):
        weights.append(w.detach().clone())
        lengths = (w[:, None] * jacobian / unit).norm(dim=1)
        rates = values / story[0]
        target = (lengths.mean() * (rates / rates.mean()) ** alpha).detach()
        optimizer.zero_grad()
        (lengths - target).abs().sum().backward()
        optimizer.step()
        with torch.no_grad():
            w.clamp_(min=1e-3)
            w *= m / w.sum()
    return torch.stack(weights)


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_grad_norm_against_autograd_and_adam(alpha):
    torch.manual_seed(0)
    story = _story(80, 3)
    jacobians = torch.randn(80, 3, 6, dtype=torch.float64)
    expected = _grad_norm_by_autograd(jacobians=jacobians, story=story, alpha=alpha, lr=0.1)
    found, _ = _weights(GradNorm(alpha=alpha, lr=0.1), jacobians, story)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert found.sum(1) == pytest.approx(np.full(80, 3.0))


def test_grad_norm_brings_gradients_to_one_length(jacobian):
    """With alpha 0; Adam's constant rate leaves a ripple."""
    story = torch.ones(2000, 3, dtype=torch.float64)
    found, _ = _weights(GradNorm(alpha=0.0, lr=0.002), [jacobian] * 2000, story)
    lengths = found[-1] * jacobian.norm(dim=1)
    assert (lengths / lengths.mean() - 1).abs().max() < 0.03


def test_grad_norm_keeps_weights_positive_where_one_gradient_dwarfs_the_others():
    rows = torch.diag(torch.tensor([1e6, 1.0, 1.0], dtype=torch.float64))
    found, _ = _weights(GradNorm(lr=0.2), [rows] * 50, torch.ones(50, 3, dtype=torch.float64))
    assert (found > 0).all()


def test_grad_norm_does_not_see_a_factor_on_all_gradients():
    torch.manual_seed(0)
    jacobians = torch.randn(30, 3, 6, dtype=torch.float64)
    story = _story(30, 3)
    expected, _ = _weights(GradNorm(), jacobians, story)
    for factor in (1e-30, 1e30):
        found, _ = _weights(GradNorm(), factor * jacobians, story)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_grad_norm_counts_from_the_first_positive_value(jacobian):
    """Starting at 0 is neutral; 0.5 then counts as the first value, so rate 1 at 0.5."""
    late = torch.tensor([[0.0, 2.0, 3.0], [0.0, 1.0, 1.0], [0.5, 1.0, 1.0], [0.5, 0.5, 0.5]])
    _, state = _weights(GradNorm(), [jacobian] * 4, late.double())
    assert state["first"].tolist() == [[0.5, 2.0, 3.0]]
    found, _ = _weights(GradNorm(), [jacobian] * 4, torch.zeros(4, 3, dtype=torch.float64))
    neutral, _ = _weights(GradNorm(), [jacobian] * 4, torch.ones(4, 3, dtype=torch.float64))
    assert torch.equal(found, neutral)


def test_grad_norm_of_zero_gradients_is_defined():
    found, _ = _weights(GradNorm(), [torch.zeros(2, 3)] * 3, torch.ones(3, 2))
    assert found.tolist() == [[1.0, 1.0]] * 3


# FAMO


def _famo_by_autograd(*, before, after, min_losses, lr, weight_decay):
    """The published two halves: weigh by the values before a step, learn from those after it."""
    logits = torch.zeros_like(before[0]).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=lr, weight_decay=weight_decay)
    weights = []
    for values, changed in zip(before, after, strict=True):
        values = values.clone().requires_grad_()
        shares = torch.softmax(logits, 0).detach()
        above = values - min_losses + 1e-8
        scale = (shares / above).sum().detach()
        (shares * above.log() / scale).sum().backward()
        weights.append(values.grad)
        fell = above.detach().log() - (changed - min_losses + 1e-8).log()
        optimizer.zero_grad()
        (torch.softmax(logits, 0) * fell).sum().backward()
        optimizer.step()
    return torch.stack(weights)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_famo_against_autograd_and_adam(jacobian, weight_decay):
    torch.manual_seed(0)
    before = _story(60, 3)
    after = before * (1 - 0.2 * torch.rand(60, 3, dtype=torch.float64))
    least = torch.tensor([-1.0, 0.0, -0.5], dtype=torch.float64)
    expected = _famo_by_autograd(
        before=before, after=after, min_losses=least, lr=0.1, weight_decay=weight_decay
    )
    solver = FAMO(least, lr=0.1, weight_decay=weight_decay)
    state, found = None, []
    for values, changed in zip(before, after, strict=True):
        direction = solver(jacobian, values, state)
        found.append(direction.weights)
        state = solver.observe(direction.state, changed)
    torch.testing.assert_close(torch.stack(found), expected, rtol=1e-9, atol=0)


def test_famo_unobserved_takes_the_next_values_for_those_after_the_step(jacobian):
    """Where values are deterministic both protocols are one."""
    story = _story(30, 3)
    expected = _famo_by_autograd(
        before=story[:-1], after=story[1:], min_losses=0.0, lr=0.025, weight_decay=0.01
    )
    found, _ = _weights(FAMO(), [jacobian] * 29, story[:-1])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_famo_observes_once(jacobian):
    solver, values = FAMO(), torch.ones(3, dtype=torch.float64)
    seen = solver.observe(solver(jacobian, values).state, values)
    for state in (seen, None):
        with pytest.raises(ValueError, match="takes it only once"):
            solver.observe(state, values)


def test_famo_observes_rays_as_single_ones():
    torch.manual_seed(0)
    rows, values = torch.randn(4, 3, 5), torch.rand(4, 3)
    together = FAMO().observe(FAMO()(rows, values).state, 0.5 * values.square())
    for k in range(4):
        alone = FAMO().observe(FAMO()(rows[k], values[k]).state, 0.5 * values[k].square())
        assert torch.equal(alone["value"][0], together["value"][k])


def test_famo_below_its_minimum_is_refused(jacobian):
    solver = FAMO(torch.tensor([0.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match=r"at least min_losses, got 0.5 for objective 1"):
        solver(jacobian, torch.tensor([0.5, 0.5, 0.5]))
    with pytest.raises(ValueError, match=r"min_losses must have shape \(m,\) = \(2,\), got \(3,\)"):
        solver(jacobian[:2], torch.ones(2))


# all of them


@pytest.mark.parametrize("kind", WITH_STATE)
def test_a_state_survives_the_disk(kind):
    torch.manual_seed(0)
    story, jacobians = _story(12, 3), torch.randn(12, 3, 5, dtype=torch.float64)
    expected, _ = _weights(kind(), jacobians, story)
    state, found = None, []
    for jacobian, values in zip(jacobians, story, strict=True):
        direction = kind()(jacobian, values, _through_disk(state))
        state = direction.state
        found.append(direction.weights)
    assert torch.equal(torch.stack(found), expected)


@pytest.mark.parametrize("kind", WITH_STATE)
def test_rays_at_once_are_what_they_are_one_by_one(kind):
    torch.manual_seed(0)
    jacobians = torch.randn(8, 5, 3, 6)
    story = torch.stack([_story(8, 3, seed) for seed in range(5)], dim=1)
    together, _ = _weights(kind(), jacobians, story)
    for k in range(5):
        alone, _ = _weights(kind(), jacobians[:, k], story[:, k])
        assert torch.equal(alone, together[:, k])


@pytest.mark.parametrize("kind", WITH_STATE)
def test_permuting_objectives_permutes_the_weights(kind):
    torch.manual_seed(0)
    order = torch.tensor([2, 0, 1])
    story, jacobians = _story(12, 3), torch.randn(12, 3, 5, dtype=torch.float64)
    expected, _ = _weights(kind(), jacobians, story)
    found, _ = _weights(kind(), jacobians[:, order], story[:, order])
    torch.testing.assert_close(found, expected[:, order])


@pytest.mark.parametrize("kind", WITH_STATE)
def test_a_call_leaves_the_state_it_was_given(kind, jacobian):
    state = kind()(jacobian, torch.ones(3)).state
    kept = _through_disk(state)
    direction = kind()(jacobian, 0.5 * torch.ones(3), state)
    direction.weights.zero_()
    assert repr(state) == repr(kept)
    again = kind()(jacobian, 0.5 * torch.ones(3), state)
    once_more = kind()(jacobian, 0.5 * torch.ones(3), kept)
    assert torch.equal(again.weights, once_more.weights)


@pytest.mark.parametrize("kind", [*BY_VALUES, LinearScalarization])
def test_values_alone_are_enough(kind, jacobian):
    story = _story(6, 3)
    expected, _ = _weights(kind(), [jacobian] * 6, story)
    state = None
    for values, weights in zip(story, expected, strict=True):
        weighting = kind().from_values(values, state)
        state = weighting.state
        torch.testing.assert_close(weighting.weights, weights, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "kind", [UncertaintyWeighting, IMTLL, DynamicWeightAverage, GradNorm, FAMO]
)
def test_negative_values_are_refused_by_name(kind):
    with pytest.raises(ValueError, match=r"got -0.5 for objective 1$"):
        kind()(torch.eye(2), torch.tensor([1.0, -0.5]))
    with pytest.raises(ValueError, match=r"got -0.5 for objective 0 of ray 1"):
        kind()(torch.ones(2, 2, 3), torch.tensor([[1.0, 1.0], [-0.5, 1.0]]))


@pytest.mark.parametrize("kind", WITH_STATE)
def test_missing_values_are_asked_for(kind, jacobian):
    with pytest.raises(ValueError, match="needs the values of the objectives"):
        kind()(jacobian)


@pytest.mark.parametrize("kind", WITH_STATE)
def test_a_state_that_does_not_fit_is_refused(kind, jacobian):
    state = kind()(jacobian, torch.ones(3)).state
    with pytest.raises(ValueError, match=r"state must fit .* shape \(1, 2\), got \(1, 3\)"):
        kind()(jacobian[:2], torch.ones(2), state)
    for wrong in ([1, 2], {"other": 1}):
        with pytest.raises(TypeError, match="state must be what the previous call returned"):
            kind()(jacobian, torch.ones(3), wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UncertaintyWeighting(lr=0.0), "lr must be positive and finite, got 0.0"),
        (lambda: IMTLL(lr=float("nan")), "lr must be positive and finite, got nan"),
        (lambda: FAMO(lr=-1.0), "lr must be positive"),
        (lambda: FAMO(weight_decay=-0.1), "weight_decay must be at least 0, got -0.1"),
        (lambda: FAMO(torch.tensor([float("nan")])), "min_losses must be finite"),
        (lambda: GradNorm(alpha=-1.0), "alpha must be at least 0"),
        (lambda: GradNorm(lr=float("inf")), "lr must be positive and finite"),
        (lambda: DynamicWeightAverage(0), "must be a whole number of at least 1, got 0"),
        (
            lambda: DynamicWeightAverage(float("nan")),
            "must be a whole number of at least 1, got nan",
        ),
        (lambda: DynamicWeightAverage(temperature=0.0), "temperature must be positive"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", WITH_STATE)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_values_of_any_scale_give_finite_weights(kind, scale):
    story = scale * _story(8, 3)
    found, _ = _weights(kind(), [torch.eye(3, dtype=torch.float64)] * 8, story)
    assert found.isfinite().all()


@pytest.mark.parametrize("kind", WITH_STATE)
def test_one_objective_is_weighed_by_itself(kind):
    found, _ = _weights(kind(), [torch.ones(1, 3)] * 4, torch.rand(4, 1) + 0.1)
    assert found.isfinite().all()
    assert (found > 0).all()


@pytest.mark.parametrize("build", [lambda: FAMO([0.0, 0.0]), lambda: Tchebycheff(ideal=[0.0])])
def test_a_point_that_is_no_tensor_is_refused(build):
    with pytest.raises(TypeError, match="must be a torch.Tensor, got list"):
        build()
