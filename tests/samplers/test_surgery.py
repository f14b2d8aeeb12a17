"""What the surgery sampler is made of, against slow oracles; and what it never does."""

import itertools
import random

import moocore
import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats

from paretonas.cell import EdgeCell
from paretonas.front import Front
from paretonas.problem import Problem
from paretonas.relaxation import one_hot_picks, probabilities
from paretonas.samplers import Failure, sample
from paretonas.samplers.ridge import Ridge
from paretonas.samplers.surgery import Surgery
from paretonas.solvers import MGDA, SmoothTchebycheff
from paretonas.space import Choice, decode, every
from paretonas.space import neighbors as near
from paretonas.surrogates.acquisition import expected_improvement, uncovered
from paretonas.surrogates.climb import climb, neighbors
from paretonas.surrogates.features import Features
from paretonas.surrogates.gaussian_process import (
    AS_IS,
    FREEDOM,
    PRIOR,
    WARPS_OF_LOGARITHMS,
    WIDTH,
    Surrogate,
    _minimum,
    _posterior,
    overlaps,
    own,
)
from paretonas.surrogates.initial_design import first_design
from paretonas.surrogates.observations import Known
from paretonas.surrogates.unlogged import Unlogged
from paretonas.surrogates.warp import SHIFTS, Warp
from paretonas.table import Table

EDGES = ("op_0_1", "op_0_2", "op_1_2", "op_1_3", "op_2_3")
OPTIONS = ("conv", "none", "pool", "skip")
CELL = tuple(Choice(name, OPTIONS) for name in EDGES)
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


# --- surrogate ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    features = Features(CELL, STRUCTURE)
    picks = some(features, 40)
    costs = np.exp(np.array([smooth(p, noise=0.1) for p in picks]) / 8)
    return features, picks, costs, Surrogate.fit(encoded(features, picks), costs)


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
    expected = torch.einsum("ra,jak->jrk", weight, overlaps(encoded(features, ALL), known))
    got = overlaps(features(p), known)
    for part in exact:  # never the distance; with routes, not whether an option is used
        torch.testing.assert_close(got[part], expected[part])


def test_overlaps_are_symmetric_and_own_is_their_diagonal(fitted):
    features, picks, _, _ = fitted
    seen = encoded(features, picks)
    parts = overlaps(seen, seen).numpy()
    np.testing.assert_allclose(parts, parts.transpose(0, 2, 1), atol=1e-12)
    np.testing.assert_allclose(np.einsum("jkk->jk", parts), own(seen), atol=1e-9)
    for part in parts:
        assert np.linalg.eigvalsh(part).min() > -1e-8


def test_predictions_are_those_of_textbook_regression(fitted):
    features, picks, costs, model = fitted
    weights, noise = np.exp(model.hyper[:-1]), np.exp(model.hyper[-1]) + 1e-8
    known, fresh = encoded(features, picks), encoded(features, some(features, 30, seed=2))
    covariance = np.tensordot(weights, overlaps(known, known).numpy(), 1) + noise * np.eye(40)
    cross = np.tensordot(weights, overlaps(fresh, known).numpy(), 1)
    mean = cross @ np.linalg.solve(covariance, model.warp(costs))
    variance = weights @ own(fresh) - (cross @ np.linalg.inv(covariance) * cross).sum(1) + noise
    np.testing.assert_allclose(model.predict(fresh)[0], mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.predict(fresh)[1], np.sqrt(variance), rtol=1e-6)


def test_weights_minimize_the_posterior(fitted):
    features, picks, costs, model = fitted
    seen = encoded(features, picks)
    parts, warped = overlaps(seen, seen), model.warp(costs)
    loss = _posterior(parts, warped)

    def plain(hyper):
        covariance = np.tensordot(np.exp(hyper[:-1]), parts.numpy(), 1)
        covariance += (np.exp(hyper[-1]) + 1e-8) * np.eye(len(warped))
        density = stats.multivariate_normal.logpdf(warped, cov=covariance)
        return (
            -density
            - 0.5 * len(warped) * np.log(2 * np.pi)
            - stats.t.logpdf((hyper - PRIOR) / WIDTH, FREEDOM).sum()
            + len(hyper) * stats.t.logpdf(0.0, FREEDOM)
        )

    for hyper in (PRIOR, model.hyper):
        value, gradient = loss(hyper)
        assert value == pytest.approx(plain(hyper), abs=1e-6)
        np.testing.assert_allclose(gradient, optimize.approx_fprime(hyper, plain, 1e-6), atol=1e-3)
    found = optimize.minimize(lambda h: loss(h)[0], PRIOR, jac=lambda h: loss(h)[1])
    assert _minimum(loss, PRIOR, steps=60)[1] == pytest.approx(found.fun, abs=0.05)


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
    mean, deviation = Surrogate.fit(seen, costs).predict(seen)
    assert np.isfinite(mean).all() and np.isfinite(deviation).all()


# --- warp and improvement -----------------------------------------------------------------------


@pytest.mark.parametrize("shift", SHIFTS)
def test_warps_standardize_and_are_undone(shift):
    costs = np.random.default_rng(0).lognormal(size=30) - 1
    warp = Warp.of(costs, shift)
    warped = warp(costs)
    assert warped.mean() == pytest.approx(0, abs=1e-9) and warped.std() == pytest.approx(1)
    np.testing.assert_allclose(warp.undo(torch.from_numpy(warped)).numpy(), costs)
    slope = (warp(costs + 1e-7) - warp(costs - 1e-7)) / 2e-7
    assert warp.log_jacobian(costs) == pytest.approx(np.log(slope).sum(), rel=1e-4)


@pytest.mark.parametrize("shift", SHIFTS)
def test_shortfalls_are_integrals(shift):
    warp = Warp.of(np.random.default_rng(0).lognormal(size=30), shift)
    mean, deviation = np.array([-0.5, 1.0]), np.array([0.7, 0.05])
    thresholds = np.array([-1.0, 0.3, 1.0, 4.0])
    got = warp.shortfall(mean, deviation, thresholds)
    for k, b in itertools.product(range(2), range(4)):

        def integrand(z, k=k, b=b):
            cost = float(warp.undo(torch.tensor(mean[k] + deviation[k] * z)))
            return max(0.0, thresholds[b] - cost) * stats.norm.pdf(z)

        expected = integrate.quad(integrand, -8, 8, limit=400)[0]
        assert got[k, b] == pytest.approx(expected, abs=1e-5)


def test_logarithms_that_are_undone_are_standardized_and_come_back():
    costs = np.log(np.random.default_rng(0).uniform(1, 9, 30))
    warp = Unlogged.of(costs)
    warped = warp(costs)
    assert warped.mean() == pytest.approx(0, abs=1e-9) and warped.std() == pytest.approx(1)
    np.testing.assert_allclose(warp.undo(torch.from_numpy(warped)).numpy(), costs)
    slope = (warp(costs + 1e-7) - warp(costs - 1e-7)) / 2e-7
    assert warp.log_jacobian(costs) == pytest.approx(np.log(slope).sum(), rel=1e-4)


def test_shortfalls_of_undone_logarithms_are_nearly_integrals():
    warp = Unlogged.of(np.log(np.linspace(1.0, 9.0, 30)))
    mean, deviation = np.array([-1.0, 1.0]), np.array([0.15, 0.3])
    thresholds = np.log([1.5, 2.6, 5.0, 8.0])
    got = warp.shortfall(mean, deviation, thresholds)
    for k, b in itertools.product(range(2), range(4)):

        def integrand(z, k=k, b=b):
            cost = float(warp.undo(torch.tensor(mean[k] + deviation[k] * z)))
            return max(0.0, thresholds[b] - cost) * stats.norm.pdf(z)

        assert got[k, b] == pytest.approx(integrate.quad(integrand, -8, 8)[0], abs=3e-3)


@pytest.mark.parametrize("costs", [np.zeros(4), np.array([-400.0, 0.0, 400.0])])
def test_logarithms_that_are_alike_or_worlds_apart_stay_logarithms(costs):
    assert Unlogged.of(costs) is None
    features = Features(PLAIN, None)
    seen = encoded(features, some(features, len(costs)))
    model = Surrogate.fit(seen, costs, warps=WARPS_OF_LOGARITHMS)
    assert np.isfinite(model.predict(seen)[0]).all() and isinstance(model.warp, Warp)


def test_the_logarithm_of_a_sum_is_predicted_as_the_sum():
    features = Features(CELL, STRUCTURE)
    worth = [0.1, 0.3, 3.0, 9.0]
    picks = some(features, 60)
    costs = np.log([0.2 + sum(worth[p] for p in each) for each in picks])
    seen, rest = encoded(features, picks[:30]), encoded(features, picks[30:])

    def error(warps):
        model = Surrogate.fit(seen, costs[:30], warps=warps)
        return np.abs(model.warp.undo(model.relaxed(rest)).numpy() - costs[30:]).mean()

    assert error(WARPS_OF_LOGARITHMS) < 0.5 * error(AS_IS)


@pytest.mark.parametrize("m, count", [(1, 3), (2, 0), (2, 12), (3, 15), (4, 10)])
def test_uncovered_boxes_are_disjoint_and_hold_what_no_point_dominates(m, count):
    rng = np.random.default_rng(m)
    front, reference = rng.random((count, m)) * 1.2, np.ones(m)
    lower, upper = uncovered(front, reference)
    spots = rng.random((4000, m)) * 1.3 - 0.3
    within = ((spots[:, None] > lower) & (spots[:, None] < upper)).all(2).sum(1)
    dominated = (front[None] <= spots[:, None]).all(2).any(1) if count else np.zeros(4000, bool)
    expected = ~dominated & (spots < 1).all(1)
    assert (within == expected).all()


@pytest.mark.parametrize("m", [2, 3])
def test_what_is_certain_is_expected_to_add_what_it_adds(m):
    rng = np.random.default_rng(m)
    front, points, reference = rng.random((8, m)), rng.random((20, m)) * 1.1, np.ones(m)
    certain = [lambda t, c=points[:, [j]]: np.maximum(t - c, 0.0) for j in range(m)]
    before = moocore.hypervolume(front, ref=reference)
    adds = [moocore.hypervolume(np.vstack([front, p]), ref=reference) - before for p in points]
    np.testing.assert_allclose(expected_improvement(front, reference, certain), adds, atol=1e-12)


def test_expected_improvement_is_the_mean_over_draws():
    rng = np.random.default_rng(0)
    front, reference = np.array([[0.2, 0.7], [0.5, 0.4]]), np.ones(2)
    warps = [Warp(None, 0.0, 1.0), Warp(-0.1, -1.0, 0.5)]
    mean, deviation = np.array([[0.3, 0.2], [0.6, 0.5]]), np.array([[0.2, 0.3], [0.1, 0.4]])
    got = expected_improvement(
        front,
        reference,
        [lambda t, j=j: warps[j].shortfall(mean[:, j], deviation[:, j], t) for j in range(2)],
    )
    before = moocore.hypervolume(front, ref=reference)
    for k in range(2):
        z = mean[k] + deviation[k] * rng.standard_normal((20_000, 2))
        draws = np.column_stack([warps[j].undo(torch.from_numpy(z[:, j])) for j in range(2)])
        gains = [moocore.hypervolume(np.vstack([front, d]), ref=reference) - before for d in draws]
        assert got[k] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / 141)


# --- climbing, memory, first design -------------------------------------------------------------


def test_climbing_reaches_the_top_of_a_slope():
    top = (3, 2, 1)

    def score(picks):
        return [(p, -float(sum(abs(a - b) for a, b in zip(p, top, strict=True)))) for p in picks]

    assert climb([(0, 0, 0)], (4, 4, 4), score)[0] == top
    assert climb([], (4, 4, 4), score) == []


def test_neighbors_are_those_of_the_space():
    found = [decode(CELL, p) for p in neighbors((0, 1, 2, 3, 0), (4,) * 5)]
    assert found == list(near(CELL, decode(CELL, (0, 1, 2, 3, 0))))


@pytest.mark.parametrize("choices, structure", [(CELL, STRUCTURE), (PLAIN, None)])
def test_the_first_design_is_distinct_alive_and_spans_the_options(choices, structure):
    features = Features(choices, structure)
    picks = first_design(choices, structure, features, random.Random(0), 8)
    assert len(set(picks)) == 8
    assert (encoded(features, picks).alive > 0).all()
    for place, size in enumerate(features.sizes):
        assert len({p[place] for p in picks}) > 1 or size == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_first_design_has_one_without_any_operation_but_with_dead_options(seed):
    features = Features(CELL, STRUCTURE)
    picks = first_design(CELL, STRUCTURE, features, random.Random(seed), 8)
    idle = STRUCTURE.dead | STRUCTURE.identity
    named = [set(decode(CELL, p).values()) for p in picks]
    assert any(names <= idle for names in named)


def test_a_small_space_has_a_small_first_design():
    choices = (Choice("a", "pq"), Choice("b", "pq"))
    assert len(first_design(choices, None, Features(choices), random.Random(0), 8)) == 4


# --- the sampler --------------------------------------------------------------------------------


def table(cost, choices=CELL, columns=("error", "ms"), structure=STRUCTURE):
    rows = list(every(choices))
    picks = list(itertools.product(*(range(len(c.options)) for c in choices)))
    costs = np.array([cost(p) for p in picks], dtype=float)
    return Table("made", choices, columns, tuple(rows), costs, np.isfinite(costs).all(1), structure)


def conflict(picks):
    """An error of what the cell computes, the time of all that is picked."""
    name = STRUCTURE.canonical(decode(CELL, picks))
    if not name:
        return np.nan, np.nan
    good = name.count("conv") + 0.4 * name.count("pool")
    return 60 * np.exp(-0.5 * good), sum((3.0, 0.1, 1.0, 0.3)[p] for p in picks)


def run(space, sampler, budget):
    front = Front(space.columns)
    return list(sample(Problem(space), sampler, front, budget=budget)), front


def fraction(space, front, log=()):
    costs = space.costs[space.allowed]
    reference = costs.max(0)
    return front.hypervolume(reference.tolist()) / moocore.hypervolume(costs, ref=reference)


@pytest.fixture(scope="module")
def made():
    return table(conflict)


def test_it_is_far_ahead_of_random_and_of_ridge(made):
    problem = Problem(made)
    own, ridge = (
        [fraction(made, run(made, kind(problem, seed=seed), 24)[1]) for seed in range(3)]
        for kind in (Surgery, Ridge)
    )
    chance = [fraction(made, run(made, _random(problem, seed), 24)[1]) for seed in range(10)]
    assert np.mean(own) > 0.95 and min(own) > np.mean(chance) and np.mean(own) > np.mean(ridge)


def _random(problem, seed):
    from paretonas.samplers.random import Random

    return Random(problem, seed=seed)


def test_it_asks_for_nothing_twice_and_for_nothing_dead(made):
    outcomes, _ = run(made, Surgery(Problem(made), seed=1), 40)
    names = [STRUCTURE.canonical(outcome.architecture) for outcome in outcomes]
    assert len({outcome.architecture for outcome in outcomes}) == 40
    assert all(names)


def test_once_equal_functions_cost_the_same_it_asks_for_no_more_of_them():
    by_function = {}

    def cost(picks):
        name = STRUCTURE.canonical(decode(CELL, picks))
        first = by_function.setdefault(name, picks)
        return conflict(first)

    space = table(cost)
    outcomes, _ = run(space, Surgery(Problem(space), seed=0), 40)
    names = [STRUCTURE.canonical(outcome.architecture) for outcome in outcomes]
    assert len(names) - len(set(names)) <= 1


def test_it_learns_where_evaluations_fail():
    def cost(picks):
        return (np.nan, np.nan) if picks[0] == 0 else conflict(picks)

    space = table(cost)
    outcomes, _ = run(space, Surgery(Problem(space), seed=0), 40)
    failed = [isinstance(outcome, Failure) for outcome in outcomes]
    assert sum(failed[20:]) <= 4


def test_it_exhausts_a_small_space_and_then_asks_for_nothing():
    space = table(lambda p: (p[0] - p[1], p[1] + p[2]), PLAIN, structure=None)
    sampler = Surgery(Problem(space), seed=0)
    outcomes, front = run(space, sampler, 18)
    assert len({outcome.architecture for outcome in outcomes}) == 18
    assert fraction(space, front) == pytest.approx(1)
    assert list(sampler.ask()) == []


def test_it_takes_three_objectives_logarithms_batches_and_any_solver():
    space = table(lambda p: (*conflict(p), 1.0 + smooth(p)), columns=("error", "ms", "params"))
    problem = Problem(space, log=("ms", "params"))
    for solver in (MGDA(), SmoothTchebycheff()):
        sampler = Surgery(problem, seed=0, solver=solver, batch=3)
        outcomes, _ = run(space, sampler, 17)
        assert len(outcomes) == 17
        asked = sampler.ask()
        assert len(asked) == len(set(asked)) == 3


def test_a_free_objective_is_looked_up(made):
    asked = []

    class Watched:
        column = "ms"

        def exact(self, architecture):
            asked.append(architecture)
            return made.objectives[1].exact(architecture)

    problem = Problem(made, (made.objectives[0], Watched()), free=("ms",))
    _, front = run(made, Surgery(problem, seed=0), 20)
    assert len(asked) > 100 and fraction(made, front) > 0.95


def test_a_free_objective_is_differentiated_in_double_precision(made):
    seen = []

    class Dear:
        name, unit, column = "dear", "ms", "ms"

        def exact(self, architecture):
            return 1e60 * made.objectives[1].exact(architecture)

        def relaxed(self, probabilities):
            seen.append(probabilities.dtype)
            return 1e60 * probabilities.sum(-1)

    problem = Problem(made, (made.objectives[0], Dear()), free=("ms",))
    outcomes, _ = run(made, Surgery(problem, seed=0), 12)
    assert len(outcomes) == 12
    assert set(seen) == {torch.float64}


def test_the_same_seed_gives_the_same_run_and_another_seed_another(made):
    problem = Problem(made)
    runs = [run(made, Surgery(problem, seed=seed), 14)[0] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    "settings, message", [({"first": 1}, "first must be"), ({"batch": 0}, "batch")]
)
def test_settings_that_cannot_be_are_refused(made, settings, message):
    with pytest.raises(ValueError, match=message):
        Surgery(Problem(made), **settings)


def test_what_is_new_leaves_out_what_is_known(made):
    known = Known(Problem(made))
    assert known.new([(0,) * 5, (0,) * 5]) == [(0,) * 5]
    known.add(Failure(decode(CELL, (0,) * 5), "broken"))
    assert known.new([(0,) * 5]) == [] and len(known) == 1


def test_on_a_real_table_it_keeps_its_promise(shared_data):
    space = Table.read(
        shared_data / "nb201.parquet",
        [f"op_{a}_{b}" for b in range(1, 4) for a in range(b)],
        ["cifar10_valid_error_200ep", "latency_edgegpu_ms"],
        where="connected",
    )
    front = run(space, Surgery(Problem(space), seed=0), 30)[1]
    low, high = (f(space.costs[space.allowed], axis=0) for f in (np.min, np.max))
    true = moocore.hypervolume((space.costs[space.allowed] - low) / (high - low), ref=[1, 1])
    points = np.array([[p.objectives[c] for c in space.columns] for p in front])
    found = moocore.hypervolume((points - low) / (high - low), ref=[1, 1])
    assert found / true > 0.96
