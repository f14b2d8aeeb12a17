"""Features, the Gaussian process on them and the initial design, against slow oracles."""

import itertools
import random

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from paretonas.cell import EdgeCell
from paretonas.relaxation import one_hot_picks, probabilities
from paretonas.space import Choice, decode
from paretonas.surrogates.features import Features
from paretonas.surrogates.gaussian_process import (
    PRIOR,
    PRIOR_FREEDOM,
    PRIOR_WIDTH,
    STANDARDIZED,
    WARPS_OF_LOGS,
    GaussianProcess,
    _minimize,
    _negative_log_posterior,
    kernel_diagonal,
    kernel_parts,
)
from paretonas.surrogates.initial_design import initial_design
from paretonas.surrogates.warp import ExponentialWarp, Warp

OPTIONS = ("conv", "none", "pool", "skip")
CELL = tuple(Choice(f"op_{edge}", OPTIONS) for edge in ("0_1", "0_2", "1_2", "1_3", "2_3"))
STRUCTURE = EdgeCell.infer(CELL)
PLAIN = (Choice("width", ("8", "16", "32")), Choice("act", ("relu", "gelu")), Choice("norm", "abc"))
ALL = list(itertools.product(range(4), repeat=5))


def encoded(features, picks):
    return features(one_hot_picks(torch.tensor(picks), features.sizes))


def some(features, count, seed=0):
    rng = random.Random(seed)
    space = list(itertools.product(*map(range, features.sizes)))
    return rng.sample(space, min(count, len(space)))


def chances(p, sizes, picks):
    """How probable each architecture is under each row of p: (r, a)."""
    columns = torch.tensor(picks) + torch.tensor(np.cumsum([0, *sizes])[:-1])
    return p[:, columns].prod(dim=2)


def smooth(picks, noise=0.0):
    """Costs that depend on what the picks are, a little on their neighbors, and on luck."""
    luck = random.Random(str(picks)).gauss(0, noise) if noise else 0.0
    return sum((i + 1) * p for i, p in enumerate(picks)) + 0.5 * picks[0] * picks[-1] + luck


# --- features -----------------------------------------------------------------------------------


@pytest.mark.parametrize("choices, structure", [(CELL, STRUCTURE), (CELL, None), (PLAIN, None)])
def test_features_of_a_distribution_are_the_expectation_over_all_architectures(
    choices, structure, rng
):
    features = Features(choices, structure)
    alpha = torch.randn(3, sum(features.sizes), generator=rng, dtype=torch.float64)
    p = probabilities(2 * alpha, features.sizes)
    picks = list(itertools.product(*map(range, features.sizes)))
    weight = chances(p, features.sizes, picks)
    each, expected = encoded(features, picks), features(p)
    for name in ("picks", "pairs", "alive"):
        torch.testing.assert_close(getattr(expected, name), weight @ getattr(each, name))
    # Of the counts all but the last: how many choices use an option, if they are on many routes.
    exact = -features._tokens if structure else None
    torch.testing.assert_close(expected.counts[:, :exact], (weight @ each.counts)[:, :exact])
    if structure is None:
        torch.testing.assert_close(expected.present, weight @ each.present)


def test_counts_on_routes_are_those_of_walking_them():
    features = Features(CELL, STRUCTURE)
    names = [choice.name for choice in CELL]
    for picks in random.Random(1).sample(ALL, 60):
        living = [
            [option for option in (OPTIONS[picks[names.index(n)]] for n in route.choices)]
            for route in STRUCTURE.routes
        ]
        living = [[o for o in way if o != "skip"] for way in living if "none" not in way]
        counts, present, pairs = features._counts(
            one_hot_picks(torch.tensor([picks]), features.sizes).double()
        )
        lengths = [sum(len(way) == n for way in living) for n in range(4)]
        options = [sum(way.count(o) for way in living) for o in ("conv", "pool")]
        live = {
            name
            for route in STRUCTURE.routes
            for name in route.choices
            if all(OPTIONS[picks[names.index(n)]] != "none" for n in route.choices)
        }
        used = [sum(OPTIONS[picks[names.index(n)]] == o for n in live) for o in ("conv", "pool")]
        assert counts[0].tolist() == [*lengths, *options, *used]
        assert present[0].tolist() == [float(n > 0) for n in used]
        follow = {(a, b): 0 for a in ("conv", "pool", "in") for b in ("conv", "pool")}
        last = dict.fromkeys(("conv", "pool", "in"), 0)
        for way in living:
            for pair in itertools.pairwise(["in", *way]):
                follow[pair] += 1
            last[["in", *way][-1]] += 1
        assert pairs[0].tolist() == [*follow.values(), *last.values()]


def test_equal_functions_have_equal_counts_and_dead_ones_are_told():
    features = Features(CELL, STRUCTURE)
    seen = encoded(features, ALL)
    by_name = {}
    for row, picks in enumerate(ALL):
        name = STRUCTURE.canonical(decode(CELL, picks))
        assert (seen.alive[row] == 0) == (name == "")
        if name:
            first = by_name.setdefault(name, row)
            torch.testing.assert_close(seen.pairs[row], seen.pairs[first])
            torch.testing.assert_close(seen.present[row], seen.present[first])


# --- Gaussian process ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    features = Features(CELL, STRUCTURE)
    picks = some(features, 40)
    costs = np.exp(np.array([smooth(p, noise=0.1) for p in picks]) / 8)
    return features, picks, costs, GaussianProcess.fit(encoded(features, picks), costs)


def test_the_relaxed_surrogate_is_the_mean_where_alpha_is_decided(fitted):
    features, _, _, model = fitted
    fresh = encoded(features, some(features, 50, seed=1))
    mean, deviation = model.predict(fresh)
    np.testing.assert_allclose(model.relaxed(fresh).numpy(), mean, rtol=1e-9, atol=1e-9)
    assert (deviation > 0).all()


def test_its_gradient_in_alpha_is_that_of_finite_differences(fitted, rng):
    features, _, _, model = fitted
    alpha = torch.randn(2, 20, generator=rng, dtype=torch.float64, requires_grad=True)

    def value(alpha):
        return model.warp.undo(model.relaxed(features(probabilities(alpha, features.sizes))))

    assert torch.autograd.gradcheck(value, (alpha,), eps=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "structure, exact", [(STRUCTURE, (0, 1, 3, 5)), (None, (0, 1, 2, 3, 5, 6))]
)
def test_parts_that_know_of_no_shared_routes_are_exact_expectations(fitted, structure, exact, rng):
    picks, features = fitted[1], Features(CELL, structure)
    known = encoded(features, picks[:7])
    p = probabilities(torch.randn(2, 20, generator=rng, dtype=torch.float64), features.sizes)
    weight = chances(p, features.sizes, ALL)
    expected = torch.einsum("ra,jak->jrk", weight, kernel_parts(encoded(features, ALL), known))
    got = kernel_parts(features(p), known)
    for part in exact:  # never the distance; with routes, not whether an option is used
        torch.testing.assert_close(got[part], expected[part])


def test_overlaps_are_symmetric_and_own_is_their_diagonal(fitted):
    features, picks, _, _ = fitted
    seen = encoded(features, picks)
    parts = kernel_parts(seen, seen).numpy()
    np.testing.assert_allclose(parts, parts.transpose(0, 2, 1), atol=1e-12)
    np.testing.assert_allclose(np.einsum("jkk->jk", parts), kernel_diagonal(seen), atol=1e-9)
    for part in parts:
        assert np.linalg.eigvalsh(part).min() > -1e-8


def test_predictions_are_those_of_textbook_regression(fitted):
    features, picks, costs, model = fitted
    weights, noise = np.exp(model.hyper[:-1]), np.exp(model.hyper[-1]) + 1e-8
    known, fresh = encoded(features, picks), encoded(features, some(features, 30, seed=2))
    covariance = np.tensordot(weights, kernel_parts(known, known).numpy(), 1) + noise * np.eye(40)
    cross = np.tensordot(weights, kernel_parts(fresh, known).numpy(), 1)
    mean = cross @ np.linalg.solve(covariance, model.warp(costs))
    variance = (
        weights @ kernel_diagonal(fresh)
        - (cross @ np.linalg.inv(covariance) * cross).sum(1)
        + noise
    )
    np.testing.assert_allclose(model.predict(fresh)[0], mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.predict(fresh)[1], np.sqrt(variance), rtol=1e-6)


def test_weights_minimize_the_posterior(fitted):
    features, picks, costs, model = fitted
    seen = encoded(features, picks)
    parts, warped = kernel_parts(seen, seen), model.warp(costs)
    loss = _negative_log_posterior(parts, warped)

    def plain(hyper):
        covariance = np.tensordot(np.exp(hyper[:-1]), parts.numpy(), 1)
        covariance += (np.exp(hyper[-1]) + 1e-8) * np.eye(len(warped))
        density = stats.multivariate_normal.logpdf(warped, cov=covariance)
        return (
            -density
            - 0.5 * len(warped) * np.log(2 * np.pi)
            - stats.t.logpdf((hyper - PRIOR) / PRIOR_WIDTH, PRIOR_FREEDOM).sum()
            + len(hyper) * stats.t.logpdf(0.0, PRIOR_FREEDOM)
        )

    for hyper in (PRIOR, model.hyper):
        value, gradient = loss(hyper)
        assert value == pytest.approx(plain(hyper), abs=1e-6)
        np.testing.assert_allclose(gradient, optimize.approx_fprime(hyper, plain, 1e-6), atol=1e-3)
    found = optimize.minimize(lambda h: loss(h)[0], PRIOR, jac=lambda h: loss(h)[1])
    assert _minimize(loss, PRIOR, steps=60)[1] == pytest.approx(found.fun, abs=0.05)


def test_it_predicts_what_it_has_not_seen(fitted):
    features, _, _, model = fitted
    fresh = some(features, 200, seed=3)
    truth = np.exp(np.array([smooth(p) for p in fresh]) / 8)
    guess = model.warp.undo(torch.from_numpy(model.predict(encoded(features, fresh))[0])).numpy()
    assert stats.spearmanr(guess, truth).statistic > 0.97
    assert model.warp.floor is not None  # costs with a long tail are fitted as logarithms


@pytest.mark.parametrize("costs", [np.full(5, 3.0), np.zeros(5), np.array([-2.0, 0, 0, 1e9, 5])])
def test_ties_constants_and_any_sign_are_fitted(costs):
    features = Features(CELL, STRUCTURE)
    seen = encoded(features, some(features, 5))
    mean, deviation = GaussianProcess.fit(seen, costs).predict(seen)
    assert np.isfinite(mean).all() and np.isfinite(deviation).all()


@pytest.mark.parametrize("costs", [np.zeros(4), np.array([-400.0, 0.0, 400.0])])
def test_logarithms_that_are_alike_or_worlds_apart_stay_logarithms(costs):
    assert ExponentialWarp.of(costs) is None
    features = Features(PLAIN, None)
    seen = encoded(features, some(features, len(costs)))
    model = GaussianProcess.fit(seen, costs, warps=WARPS_OF_LOGS)
    assert np.isfinite(model.predict(seen)[0]).all() and isinstance(model.warp, Warp)


def test_the_logarithm_of_a_sum_is_predicted_as_the_sum():
    features = Features(CELL, STRUCTURE)
    worth = [0.1, 0.3, 3.0, 9.0]
    picks = some(features, 60)
    costs = np.log([0.2 + sum(worth[p] for p in each) for each in picks])
    seen, rest = encoded(features, picks[:30]), encoded(features, picks[30:])

    def error(warps):
        model = GaussianProcess.fit(seen, costs[:30], warps=warps)
        return np.abs(model.warp.undo(model.relaxed(rest)).numpy() - costs[30:]).mean()

    assert error(WARPS_OF_LOGS) < 0.5 * error(STANDARDIZED)


# --- initial design -----------------------------------------------------------------------------


@pytest.mark.parametrize("choices, structure", [(CELL, STRUCTURE), (PLAIN, None)])
def test_the_first_design_is_distinct_alive_and_spans_the_options(choices, structure):
    features = Features(choices, structure)
    picks = initial_design(choices, structure, features, random.Random(0), 8)
    assert len(set(picks)) == 8
    assert (encoded(features, picks).alive > 0).all()
    for place, size in enumerate(features.sizes):
        assert len({p[place] for p in picks}) > 1 or size == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_first_design_has_one_without_any_operation_but_with_dead_options(seed):
    features = Features(CELL, STRUCTURE)
    picks = initial_design(CELL, STRUCTURE, features, random.Random(seed), 8)
    idle = STRUCTURE.dead | STRUCTURE.identity
    named = [set(decode(CELL, p).values()) for p in picks]
    assert any(names <= idle for names in named)


def test_a_small_space_has_a_small_first_design():
    choices = (Choice("a", "pq"), Choice("b", "pq"))
    assert len(initial_design(choices, None, Features(choices), random.Random(0), 8)) == 4
