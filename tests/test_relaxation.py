"""What probabilities and gates promise; the gradient estimators against exact expectations."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paretonas.relaxation import (
    gumbel_softmax,
    one_hot,
    one_hot_picks,
    picks_of,
    probabilities,
    reinmax,
    sizes_of,
    softmax,
    straight_through,
)
from paretonas.space import Choice

GATES = {
    "softmax": softmax,
    "gumbel_softmax": gumbel_softmax,
    "straight_through": straight_through,
    "reinmax": reinmax,
}
SIZES = (3, 2, 4)
K = sum(SIZES)

some_sizes = st.lists(st.integers(2, 5), min_size=1, max_size=4).map(tuple)


def alpha_of(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_sizes_count_the_options():
    assert sizes_of([Choice("a", ("x", "y")), Choice("b", ("x", "y", "z"))]) == (2, 3)


@given(some_sizes, st.integers(0, 9), st.sampled_from([1e-30, 1.0, 1e3]), st.floats(0.1, 10))
def test_probabilities_are_the_softmax_of_each_choice(sizes, seed, scale, temperature):
    alpha = alpha_of(2, 3, sum(sizes), seed=seed, scale=scale)
    expected = [torch.softmax(part / temperature, -1) for part in alpha.split(list(sizes), -1)]
    torch.testing.assert_close(
        probabilities(alpha, sizes, temperature), torch.cat(expected, -1), rtol=1e-12, atol=0
    )


def test_probabilities_have_the_gradient_of_the_softmax():
    alpha = alpha_of(2, K).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: probabilities(a, SIZES), (alpha,))


@pytest.mark.parametrize("gates", GATES.values(), ids=GATES)
def test_gates_sum_to_one_in_each_choice(gates, rng):
    result = gates(alpha_of(7, K), SIZES, 0.7, rng)
    sums = torch.stack([part.sum(-1) for part in result.split(list(SIZES), -1)])
    torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize("gates", [straight_through, reinmax])
def test_sampled_gates_are_one_hot_in_the_forward_pass(gates, rng):
    result = gates(alpha_of(50, K), SIZES, 0.7, rng)
    torch.testing.assert_close(result, one_hot(result, SIZES), rtol=0, atol=1e-12)


@pytest.mark.parametrize("gates", [straight_through, reinmax])
def test_samples_follow_the_probabilities(gates, rng):
    alpha = alpha_of(K)
    n = 20_000
    counts = gates(alpha.expand(n, K), SIZES, 0.5, rng).mean(0)
    p = probabilities(alpha, SIZES)
    error = (counts - p).abs() / (p * (1 - p) / n).sqrt()
    assert error.max() < 5  # standard deviations


@pytest.mark.parametrize("gates", GATES.values(), ids=GATES)
def test_the_generator_is_the_only_source_of_chance(gates):
    before = torch.get_rng_state()
    alpha = alpha_of(5, K)
    one, same = (gates(alpha, SIZES, 0.7, torch.Generator().manual_seed(seed)) for seed in (3, 3))
    assert torch.equal(one, same)
    assert torch.equal(torch.get_rng_state(), before)


def test_cold_gumbel_gates_are_samples_and_hot_ones_are_flat():
    alpha = alpha_of(20, K)
    cold = gumbel_softmax(alpha, SIZES, 1e-4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(cold, one_hot(cold, SIZES))
    hot = gumbel_softmax(alpha, SIZES, 1e6, torch.Generator().manual_seed(0))
    flat = probabilities(torch.zeros(20, K, dtype=hot.dtype), SIZES)
    torch.testing.assert_close(hot, flat, rtol=0, atol=1e-4)


def test_one_hot_takes_the_first_of_equals():
    scores = torch.tensor([[2.0, 2.0, 1.0, 5.0, 5.0]])
    assert one_hot(scores, (3, 2)).tolist() == [[1, 0, 0, 1, 0]]
    assert picks_of(scores, (3, 2)).tolist() == [[0, 0]]


@given(some_sizes, st.integers(0, 9))
def test_one_hot_and_picks_agree(sizes, seed):
    scores = alpha_of(4, sum(sizes), seed=seed).round()  # with ties
    hot = one_hot(scores, sizes)
    decided = picks_of(scores, sizes)
    assert torch.equal(one_hot_picks(decided, sizes), hot.float())
    for row in range(4):
        for choice, part in enumerate(hot[row].split(list(sizes))):
            assert part.nonzero().flatten().tolist() == [decided[row, choice]]


def expectation(function, alpha: torch.Tensor) -> torch.Tensor:
    """E[function(one-hot gates)] by enumeration: the exact value that estimators estimate."""
    p = probabilities(alpha, SIZES).split(list(SIZES))
    total = alpha.new_zeros(())
    for architecture in itertools.product(*(range(size) for size in SIZES)):
        chance = torch.stack([part[i] for part, i in zip(p, architecture, strict=True)]).prod()
        hot = [torch.eye(s, dtype=alpha.dtype)[i] for s, i in zip(SIZES, architecture, strict=True)]
        total = total + chance * function(torch.cat(hot))
    return total


def quadratic(gates: torch.Tensor) -> torch.Tensor:
    mixing = alpha_of(K, K, seed=5)
    return ((gates @ mixing) ** 2).sum(-1)


def linear(gates: torch.Tensor) -> torch.Tensor:
    return gates @ alpha_of(K, seed=6)


def mean_gradient(gates, function, alpha: torch.Tensor, n: int, temperature: float) -> torch.Tensor:
    many = alpha.expand(n, K).clone().requires_grad_()
    function(gates(many, SIZES, temperature, torch.Generator().manual_seed(1))).sum().backward()
    return many.grad.mean(0)


def exact_gradient(function, alpha: torch.Tensor) -> torch.Tensor:
    alpha = alpha.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(expectation(function, alpha), alpha)
    return gradient


def test_softmax_gates_are_exact_for_a_linear_function():
    alpha = alpha_of(K)
    found = mean_gradient(softmax, linear, alpha, 1, 1.0)
    torch.testing.assert_close(found, exact_gradient(linear, alpha))


def test_reinmax_is_nearly_unbiased_on_a_quadratic_and_straight_through_is_not():
    alpha = alpha_of(K)
    exact = exact_gradient(quadratic, alpha)

    def bias(gates, temperature):
        found = mean_gradient(gates, quadratic, alpha, 100_000, temperature)
        return float((found - exact).norm() / exact.norm())

    assert bias(reinmax, 1.0) < 0.1
    assert bias(straight_through, 1.0) > 3 * bias(reinmax, 1.0)


def test_reinmax_is_exact_to_second_order_for_one_choice_of_two():
    """For one binary choice and a quadratic, Heun's rule integrates f' exactly: no bias at all."""
    alpha = torch.tensor([0.3, -0.9], dtype=torch.float64)
    target = torch.tensor([0.7, -1.3], dtype=torch.float64)

    def function(gates):
        return (gates @ target) ** 2 + gates[..., 0]

    p = torch.softmax(alpha, 0)
    outcomes = function(torch.eye(2, dtype=torch.float64))
    exact = p * (outcomes - p @ outcomes)  # d/d alpha of sum_i p_i f_i
    many = alpha.expand(400_000, 2).clone().requires_grad_()
    function(reinmax(many, (2,), 1.0, torch.Generator().manual_seed(2))).sum().backward()
    torch.testing.assert_close(many.grad.mean(0), exact, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("gates", GATES.values(), ids=GATES)
def test_gates_stay_on_the_device_of_alpha(gates, rng):
    alpha = torch.zeros(3, K, device="meta")
    assert gates(alpha, SIZES, 1.0, rng).device.type == "meta"
    assert picks_of(alpha, SIZES).device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gates", GATES.values(), ids=GATES)
def test_gates_are_finite_also_for_decided_alphas(gates, dtype, rng):
    alpha = torch.zeros(200, K, dtype=dtype)
    alpha[:, 0] = 60.0
    alpha.requires_grad_()
    result = gates(alpha, SIZES, 0.1, rng)
    result.square().sum().backward()
    assert torch.isfinite(result).all()
    assert torch.isfinite(alpha.grad).all()
