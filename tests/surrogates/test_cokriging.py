"""What the surrogate promises, against enumeration and a Gaussian process written out in numpy."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paretonas.relaxation import one_hot_picks, probabilities
from paretonas.surrogates.cokriging import CoKriging, Scores

SIZES = (3, 2, 4)
EVERY = torch.tensor(list(itertools.product(*(range(size) for size in SIZES))))  # (24, 3)


def truth(picks: torch.Tensor) -> torch.Tensor:
    """A score with an effect of each pick and one of two picks together."""
    a, b, c = picks.double().T
    return 0.5 * a - 0.3 * b + 0.2 * (c - 1.5) ** 2 + 0.4 * a * b


def evidence_of(inherited: int, trained: int, seed: int = 0, scale: float = 1.0) -> Scores:
    """Noisy inherited scores, and trained ones that are 1.5 times as far apart, less 2."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(EVERY), (inherited + trained,), generator=generator)
    level = torch.tensor([0] * inherited + [1] * trained)
    noise = 0.05 * torch.randn(len(rows), generator=generator, dtype=torch.float64)
    values = torch.where(level == 1, 1.5 * truth(EVERY[rows]) - 2, truth(EVERY[rows])) + noise
    return Scores(EVERY[rows], scale * values, level)


@pytest.fixture(scope="module")
def evidence() -> Scores:
    return evidence_of(14, 6)


@pytest.fixture(scope="module")
def surrogate(evidence) -> CoKriging:
    return CoKriging.fit(SIZES, evidence)


def kernel(hyper, x, x_level, y, y_level) -> np.ndarray:
    """The covariance of two lists of scores, entry by entry; the formula of the docstrings."""
    h = np.asarray(hyper)
    shared = np.exp(h[:7])
    relevance, stiffness = h[7 : 7 + len(SIZES)], h[7 + len(SIZES) :]
    relevance = np.exp(relevance) / np.exp(relevance).sum() * len(SIZES)
    stiffness = 1 / (1 + np.exp(-(stiffness + 1)))
    out = np.empty((len(x), len(y)))
    for i, j in np.ndindex(*out.shape):
        same = (np.asarray(x[i]) == np.asarray(y[j])).astype(float)
        additive = (relevance * same).sum()
        product = np.prod(stiffness + (1 - stiffness) * same)
        scale = (shared[6] if x_level[i] else 1.0) * (shared[6] if y_level[j] else 1.0)
        out[i, j] = scale * (shared[0] * additive + shared[1] * product)
        if x_level[i] and y_level[j]:
            out[i, j] += shared[3] * additive + shared[4] * product + 0.25
    return out


def plain_posterior(hyper, evidence, picks, level) -> tuple[np.ndarray, np.ndarray]:
    """Textbook Gaussian process regression (Rasmussen and Williams 2006, 2.25 and 2.26)."""
    x, y, known = evidence.picks.numpy(), evidence.values.numpy(), evidence.trained.numpy()
    means = np.array([y[known == 0].mean(), y[known == 1].mean()])
    noise = np.where(known == 1, math.exp(hyper[5]), math.exp(hyper[2])) + 1e-6
    inverse = np.linalg.inv(kernel(hyper, x, known, x, known) + np.diag(noise))
    asked = np.full(len(picks), level)
    cross = kernel(hyper, picks, asked, x, known)
    mean = means[level] + cross @ inverse @ (y - means[known])
    return mean, kernel(hyper, picks, asked, picks, asked) - cross @ inverse @ cross.T


@pytest.mark.parametrize("level", [0, 1], ids=["inherited", "trained"])
def test_the_posterior_is_that_of_a_gaussian_process(surrogate, evidence, level):
    picks = EVERY[::3]
    mean, covariance = surrogate.posterior(picks, level)
    plain_mean, plain_covariance = plain_posterior(surrogate.hyper, evidence, picks.numpy(), level)
    np.testing.assert_allclose(mean, plain_mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(covariance, plain_covariance, rtol=0, atol=1e-8)
    if level == 1:
        torch.testing.assert_close(surrogate.mean(picks), mean, rtol=0, atol=1e-10)


@given(st.integers(0, 99), st.sampled_from([0.1, 1.0, 10.0]))
@settings(max_examples=15)
def test_relaxed_is_the_expectation_of_the_mean(seed, spread):
    surrogate = CoKriging.fit(SIZES, evidence_of(8, 4, seed=seed % 3))
    generator = torch.Generator().manual_seed(seed)
    alpha = spread * torch.randn(2, sum(SIZES), generator=generator, dtype=torch.float64)
    p = probabilities(alpha, SIZES)
    chances = torch.ones(2, len(EVERY), dtype=torch.float64)
    for choice, part in enumerate(p.split(list(SIZES), dim=1)):
        chances = chances * part[:, EVERY[:, choice]]
    expected = chances @ surrogate.mean(EVERY)
    torch.testing.assert_close(surrogate.relaxed(p), expected, rtol=0, atol=1e-9)


def test_relaxed_has_the_gradient_that_finite_differences_have(surrogate):
    alpha = torch.randn(2, sum(SIZES), generator=torch.Generator().manual_seed(3)).double()
    alpha.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: surrogate.relaxed(probabilities(a, SIZES)), (alpha,))


def test_relaxed_keeps_the_dtype(surrogate):
    p = probabilities(torch.zeros(3, sum(SIZES)), SIZES)
    assert surrogate.relaxed(p).dtype == torch.float32
    assert surrogate.relaxed(p.double()).dtype == torch.float64
    torch.testing.assert_close(surrogate.relaxed(p), surrogate.relaxed(p.double()).float())


def test_scores_without_noise_are_interpolated():
    picks = EVERY[[0, 5, 7, 11, 16, 21]]
    evidence = Scores(picks, truth(picks), torch.ones(len(picks)))
    start = CoKriging.fit(SIZES, evidence).hyper
    start[5] = -30.0  # the logarithm of the noise
    surrogate = CoKriging.fit(SIZES, evidence, start)
    torch.testing.assert_close(surrogate.mean(picks), truth(picks), rtol=0, atol=1e-3)
    _, covariance = surrogate.posterior(picks)
    assert covariance.diagonal().max() < 1e-4


def test_trained_scores_are_learned_through_inherited_ones():
    """Three trained scores fix the relation; the inherited ones tell which architecture is good."""
    noiseless = Scores(
        torch.cat([EVERY, EVERY[[0, 8, 23]]]),
        torch.cat([truth(EVERY), 1.5 * truth(EVERY[[0, 8, 23]]) - 2]),
        torch.tensor([0] * len(EVERY) + [1] * 3),
    )
    found = CoKriging.fit(SIZES, noiseless).mean(EVERY)
    both = torch.stack([found, truth(EVERY)])
    assert torch.corrcoef(both)[0, 1] > 0.97
    alone = Scores(noiseless.picks[-3:], noiseless.values[-3:], noiseless.trained[-3:])
    blind = torch.stack([CoKriging.fit(SIZES, alone).mean(EVERY), truth(EVERY)])
    assert torch.corrcoef(both)[0, 1] > torch.corrcoef(blind)[0, 1] + 0.05


def test_more_evidence_makes_surer(surrogate):
    sure = CoKriging.fit(SIZES, evidence_of(60, 30), surrogate.hyper)
    before, after = (s.posterior(EVERY)[1].diagonal().mean() for s in (surrogate, sure))
    assert after < 0.7 * before


@pytest.mark.parametrize("level", [0, 1], ids=["inherited", "trained"])
def test_draws_have_the_moments_of_the_posterior(surrogate, rng, level):
    picks = EVERY[::5]
    n = 40_000
    draws = surrogate.sample(picks, n, rng, level)
    assert draws.shape == (n, len(picks))
    mean, covariance = surrogate.posterior(picks, level)
    deviation = covariance.diagonal().sqrt()
    assert ((draws.mean(dim=0) - mean).abs() < 5 * deviation / math.sqrt(n)).all()
    error = (torch.cov(draws.T) - covariance).abs()
    assert (error < 8 * deviation[:, None] * deviation / math.sqrt(n)).all()


def test_draws_of_one_architecture_listed_twice_agree(surrogate, rng):
    twice = surrogate.sample(EVERY[[4, 4]], 50, rng)
    spread = float(twice.std(dim=0).mean())
    assert float((twice[:, 0] - twice[:, 1]).abs().max()) < 0.02 * spread


def test_the_generator_is_the_only_source_of_chance(surrogate):
    before = torch.get_rng_state()
    one, same, other = (
        surrogate.sample(EVERY, 3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("start", [False, True], ids=["afresh", "from an earlier fit"])
def test_the_order_of_the_evidence_does_not_matter(evidence, surrogate, start):
    order = torch.randperm(len(evidence.values), generator=torch.Generator().manual_seed(0))
    shuffled = Scores(evidence.picks[order], evidence.values[order], evidence.trained[order])
    hyper = surrogate.hyper if start else None
    one, other = (CoKriging.fit(SIZES, e, hyper) for e in (evidence, shuffled))
    torch.testing.assert_close(one.mean(EVERY), other.mean(EVERY), rtol=0, atol=1e-7)


def test_a_fit_does_not_change_what_it_started_from(evidence, surrogate):
    before = surrogate.hyper.clone()
    CoKriging.fit(SIZES, evidence, surrogate.hyper)
    assert torch.equal(surrogate.hyper, before)


def test_a_fit_works_where_gradients_are_switched_off(evidence, surrogate):
    with torch.no_grad():
        again = CoKriging.fit(SIZES, evidence)
    assert torch.equal(again.hyper, surrogate.hyper)
    assert not again.hyper.requires_grad


some_level = st.sampled_from(["inherited", "trained", "both"])
some_values = st.sampled_from(["random", "equal", "two kinds", "one outlier"])


@given(
    st.integers(1, 24),
    some_level,
    some_values,
    st.sampled_from([1e-8, 1e-3, 1.0, 30.0, 1e4, 1e8]),
    st.booleans(),
    st.integers(0, 99),
)
@settings(max_examples=20)
def test_no_evidence_breaks_it(count, level, kind, scale, duplicates, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(EVERY), (count,), generator=generator)
    if duplicates:
        rows[:] = rows[0]
    values = torch.randn(count, generator=generator, dtype=torch.float64)
    if kind == "equal":
        values[:] = values[0]
    elif kind == "two kinds":
        values = values.sign()
    elif kind == "one outlier":
        values[0] = 1e3
    trained = {
        "inherited": torch.zeros(count),
        "trained": torch.ones(count),
        "both": torch.arange(count) % 2,
    }[level]
    surrogate = CoKriging.fit(SIZES, Scores(EVERY[rows], scale * values, trained))
    for _ in range(2):  # as a search does, from the last fit
        again = Scores(EVERY[rows], scale * values, trained)
        surrogate = CoKriging.fit(SIZES, again, surrogate.hyper)
    mean = surrogate.mean(EVERY)
    assert torch.isfinite(mean).all()
    for asked in (0, 1):
        predicted, covariance = surrogate.posterior(EVERY, asked)
        assert torch.isfinite(predicted).all()
        assert covariance.diagonal().min() > -1e-6 * max(1.0, scale**2)
        assert torch.isfinite(surrogate.sample(EVERY, 4, generator, asked)).all()
    p = one_hot_picks(EVERY[:2], SIZES).requires_grad_()
    surrogate.relaxed(p).sum().backward()
    assert torch.isfinite(p.grad).all()
    if kind == "equal":
        torch.testing.assert_close(mean, (scale * values[0]).expand(len(mean)))
