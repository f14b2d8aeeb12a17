"""Statistics against scipy, brute force and the definitions."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paretonas.compare.statistics import (
    bootstrap_interval,
    holm,
    interquartile_mean,
    signed_rank_p,
)
from paretonas.compare.summary import disagreement

numbers = st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 2))


@given(st.lists(numbers, min_size=1, max_size=30))
def test_the_interquartile_mean_is_scipys_trimmed_mean(values):
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-9)


def test_the_bootstrap_interval_is_that_of_a_plain_loop():
    values = np.random.default_rng(1).normal(size=9)
    rng = np.random.default_rng(0)
    draws = rng.integers(9, size=(2000, 9))
    means = [stats.trim_mean([values[i] for i in row], 0.25) for row in draws]
    assert bootstrap_interval(values) == pytest.approx(np.percentile(means, [2.5, 97.5]))


def test_the_bootstrap_interval_is_close_to_scipys():
    values = np.random.default_rng(2).normal(size=20)
    found = stats.bootstrap(
        (values,),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert bootstrap_interval(values) == pytest.approx((found.low, found.high), abs=0.08)


def test_one_seed_has_no_spread():
    assert bootstrap_interval([0.5]) == (0.5, 0.5)


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=9))
def test_the_signed_rank_test_is_that_of_all_assignments_of_signs(differences):
    """Ties and zeros included; the oracle adds up every one of the 2^n sign patterns."""
    given_ = np.array([d for d in differences if d != 0], dtype=float)
    if not len(given_):
        assert signed_rank_p(differences) == 1.0
        return
    ranks = stats.rankdata(np.abs(given_))
    middle = ranks.sum() / 2
    far = abs(ranks[given_ > 0].sum() - middle)
    patterns = np.array(list(itertools.product([0, 1], repeat=len(ranks))))
    share = np.mean(np.abs(patterns @ ranks - middle) >= far - 1e-9)
    assert signed_rank_p(differences) == pytest.approx(min(1.0, share))


@pytest.mark.parametrize("count", [1, 2, 5, 10, 20, 40])
def test_the_signed_rank_test_is_scipys_where_there_are_no_ties(count):
    differences = np.random.default_rng(count).normal(0.3, 1.0, size=count)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert signed_rank_p(differences) == pytest.approx(expected)


def holm_by_definition(p_values: list[float]) -> list[float]:
    """The smallest level at which the step-down procedure rejects each hypothesis."""

    def rejected(level: float) -> set[int]:
        found: set[int] = set()
        order = sorted(range(len(p_values)), key=lambda i: p_values[i])
        for place, index in enumerate(order):
            if p_values[index] * (len(p_values) - place) > level + 1e-15:
                break
            found.add(index)
        return found

    levels = sorted({p * k for p in p_values for k in range(1, len(p_values) + 1)} | {1.0})
    smallest = []
    for index in range(len(p_values)):
        smallest.append(min([x for x in levels if index in rejected(x)] + [1.0]))
    return [min(1.0, x) for x in smallest]


@given(st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), max_size=6))
def test_holm_is_the_level_at_which_each_is_rejected(p_values):
    assert holm(p_values) == pytest.approx(holm_by_definition(p_values), abs=1e-9)


@pytest.mark.parametrize(
    ("finals", "told"),
    [
        ({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.7, 0.6]}, ""),
        ({"a": [0.5, 0.8, 0.81], "b": [0.79, 0.82, 0.1]}, "ahead of b with 1 of 3 seeds only"),
        ({"a": [0.9, 0.9, 0.9, 0.8], "b": [0.9, 0.9, 0.8, 0.8]}, "ahead of b with 1 of 4 seeds"),
        ({"a": [0.9, 0.9, 0.5], "b": [0.9, 0.9, 0.6]}, ""),  # two lead
        ({"a": [0.9]}, ""),
    ],
)
def test_seeds_that_contradict_the_medians_are_told(finals, told):
    curves = {
        (method, seed): SimpleNamespace(fraction=np.array([0.0, value]))
        for method, values in finals.items()
        for seed, value in enumerate(values)
    }
    said = disagreement(SimpleNamespace(curves=curves))
    assert (told in said and said.startswith("Seeds disagree: a has")) if told else not said
