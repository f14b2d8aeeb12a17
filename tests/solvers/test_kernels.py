"""The small programs inside the solvers, against scipy, brute force and their own conditions."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from paretonas.gradients.gram import Gram
from paretonas.solvers.kernels import nnqp
from paretonas.solvers.kernels.min_norm import min_norm, min_norm_residual
from paretonas.solvers.kernels.nnqp import kkt_residual, nonnegative_qp
from paretonas.solvers.problem import GradientProblem

SEEDS = st.integers(0, 10**6)


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _gram(rows):
    """Cosines and norms of the rows of one or several matrices, by the plain formula."""
    norms = np.linalg.norm(rows, axis=-1)
    unit = rows / np.where(norms > 0, norms, 1.0)[..., None]
    cosines = np.clip(unit @ unit.swapaxes(-1, -2), -1.0, 1.0)
    index = np.arange(cosines.shape[-1])
    cosines[..., index, index] = 1.0
    return SimpleNamespace(cosines=cosines, norms=norms)


def _problem_rows(rng, m, n, kind):
    """Rows that make trouble, rounded to float32 as gradients are."""
    rows = rng.standard_normal((m, n))
    near = 10.0 ** rng.uniform(-9, -3)
    if kind == "duplicate":
        rows = rows[rng.integers(0, max(1, m // 2), m)]
    elif kind == "opposite":
        rows[1::2] = -rows[: m // 2 * 2 : 2] * rng.uniform(0.5, 3, (m // 2, 1))
    elif kind == "near opposite":
        rows = rng.choice([-1.0, 1.0], (m, 1)) * rows[:1] + near * rows
    elif kind == "near parallel":
        rows = rows[:1] + near * rows
    elif kind == "low rank":
        rank = 1 + m // 2
        rows = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)) + near * rows
    elif kind == "difference":
        rows[-1] = near * rows[0] + rows[1 % m] * rng.choice([-1.0, 1.0])
        rows[m // 2] = rows[0] - rows[-1]
    elif kind == "ties":
        rows = rng.integers(-1, 2, (m, n)).astype(float)
    elif kind == "stationary":
        rows[-1] = -(rng.random((m - 1, 1)) * rows[:-1]).sum(0)
    return rows.astype(np.float32).astype(np.float64)


KINDS = [
    "random",
    "duplicate",
    "opposite",
    "near opposite",
    "near parallel",
    "low rank",
    "difference",
    "ties",
    "stationary",
]


# The non-negative program


@settings(max_examples=80, database=None)
@given(m=st.integers(1, 12), n=st.integers(1, 12), seed=SEEDS)
def test_nonnegative_qp_against_least_squares(m, n, seed):
    """min |A'x - b| over x >= 0 is the program with Q = AA', c = Ab: scipy solves it by A."""
    rng = np.random.default_rng(seed)
    rows, target = _unit(rng.standard_normal((m, n))), rng.standard_normal(n)
    best = nnls(rows.T, target)[1]
    matrix, linear = (rows @ rows.T)[None], (rows @ target)[None, None]
    x = nonnegative_qp(matrix, linear)
    assert (x >= 0).all()
    assert np.linalg.norm(rows.T @ x.ravel() - target) == pytest.approx(best, abs=1e-9)
    assert kkt_residual(matrix, linear, x) < 1e-12


@settings(max_examples=40, database=None)
@given(m=st.integers(1, 6), seed=SEEDS)
def test_nonnegative_qp_against_every_support(m, seed):
    """The least value over all supports on which the stationary point is non-negative."""
    rng = np.random.default_rng(seed)
    rows, linear = _unit(rng.standard_normal((m, m + 3))), rng.standard_normal(m)
    matrix = rows @ rows.T
    least, where = 0.0, np.zeros(m)
    for size in range(1, m + 1):
        for support in map(list, combinations(range(m), size)):
            x = np.linalg.solve(matrix[np.ix_(support, support)], linear[support])
            value = -0.5 * linear[support] @ x
            if (x >= 0).all() and value < least:
                least, where = value, np.zeros(m)
                where[support] = x
    found = nonnegative_qp(matrix[None], linear[None, None])[0, 0]
    np.testing.assert_allclose(found, where, rtol=0, atol=1e-9 * (1 + np.abs(where).sum()))


@settings(max_examples=250, database=None)
@given(m=st.integers(2, 14), n=st.integers(1, 20), kind=st.sampled_from(KINDS), seed=SEEDS)
def test_nonnegative_qp_is_exact_on_dependent_and_nearly_dependent_rows(m, n, kind, seed):
    """The programs of the solvers: projections of each row, of sums, and the shortest vector."""
    rng = np.random.default_rng(seed)
    gram = _gram(_problem_rows(rng, m, n, kind))
    cosines, lit = gram.cosines, gram.norms > 0
    c = np.where(lit, gram.norms[lit].min(initial=1.0) / np.where(lit, gram.norms, 1.0), 1.0)
    c = np.minimum(c, 1.0)
    sums = rng.random((2, m))
    for matrix, linear in [
        (cosines, -cosines),
        (cosines, -sums @ cosines),
        (cosines + np.outer(c, c), c[None]),
    ]:
        x = nonnegative_qp(matrix[None], linear[None])
        assert (x >= 0).all()
        assert kkt_residual(matrix[None], linear[None], x).max() < 1e-12


def test_nonnegative_qp_of_an_inconsistent_singular_program_stays_finite():
    """Opposite columns that both gain: the value falls forever, the relative residual is 0."""
    matrix = np.array([[[1.0, -1.0], [-1.0, 1.0]]])
    linear = np.array([[[1.0, -1.0 + 1e-8], [1.0, 1.0]]])
    x = nonnegative_qp(matrix, linear)
    assert np.isfinite(x).all()
    assert kkt_residual(matrix, linear, x).max() < 1e-12


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS[:8])
def test_all_ways_agree(monkeypatch, m, kind):
    rng = np.random.default_rng(m)
    rows = np.stack([_problem_rows(rng, m, 6, kind) for _ in range(20)])
    matrix = _gram(rows).cosines
    linear = rng.random((20, 2, m)) @ matrix * rng.choice([-1.0, 1.0], (20, 2, 1))
    monkeypatch.setattr(nnqp, "FEW", 0)
    by_arrays = nonnegative_qp(matrix, linear)
    monkeypatch.setattr(nnqp, "FEW", 10**6)
    by_numbers = nonnegative_qp(matrix, linear)
    np.testing.assert_array_equal(by_arrays, by_numbers)
    lifted = matrix + nnqp._ridge(m)
    by_blocks = nnqp._by_exchange(lifted, linear)
    by_set = np.stack([nnqp._by_active_set(lifted, linear[:, j]) for j in range(2)], axis=1)
    # (The columns may be dependent: the x differ, what they make of the columns does not.)
    size = 1 + np.abs(by_arrays).sum(-1, keepdims=True)
    for other in (by_blocks, by_set):
        np.testing.assert_allclose((by_arrays - other) @ matrix / size, 0.0, atol=1e-7)
        assert kkt_residual(matrix, linear, other).max() < 1e-12


def test_active_set_ends_what_blocks_do_not(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 12, 4))
    matrix, linear = _gram(rows).cosines, rng.standard_normal((5, 3, 4)) @ _unit(rows).mT
    usual = nonnegative_qp(matrix, linear)
    monkeypatch.setattr(nnqp, "EXCHANGES", 0)
    np.testing.assert_allclose(
        nonnegative_qp(matrix, linear) @ matrix, usual @ matrix, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("m", [1, 2, 3, 4, 7])
def test_programs_of_a_batch_do_not_touch_each_other(m):
    rng = np.random.default_rng(m)
    matrix = _gram(rng.standard_normal((30, m, 5))).cosines
    linear = rng.standard_normal((30, 1, m)) @ matrix
    together = nonnegative_qp(matrix, linear)
    for i in range(30):
        one = slice(i, i + 1)
        np.testing.assert_array_equal(together[one], nonnegative_qp(matrix[one], linear[one]))


def test_residual_sees_a_wrong_answer():
    matrix, linear = np.eye(2)[None], np.ones((1, 1, 2))
    assert kkt_residual(matrix, linear, linear) == 0
    assert kkt_residual(matrix, linear, 0.9 * linear) > 0.01
    assert kkt_residual(matrix, -linear, -linear) > 0.01  # stationary, but negative


# The shortest vector


def test_min_norm_beats_every_convex_combination(jacobians):
    for name, jacobian in jacobians:
        rows = jacobian.numpy()
        weights = min_norm(_gram((rows / max(np.abs(rows).max(), 1e-300))[None]))[0]
        assert (weights >= 0).all(), name
        assert weights.sum() == pytest.approx(1.0), name
        unit = rows / max(np.abs(rows).max(), 1e-300)
        tried = np.random.default_rng(0).dirichlet([0.5] * len(unit), 300)
        tried = np.concatenate([tried, np.eye(len(unit))])
        least = np.linalg.norm(tried @ unit, axis=-1).min()
        assert np.linalg.norm(weights @ unit) <= least * (1 + 1e-9) + 1e-9, name


@settings(max_examples=150, database=None)
@given(
    m=st.integers(2, 8),
    n=st.integers(1, 12),
    kind=st.sampled_from(KINDS),
    apart=st.sampled_from([0, 0, 6, 12]),
    seed=SEEDS,
)
def test_min_norm_meets_its_conditions_however_far_apart_the_rows(m, n, kind, apart, seed):
    rng = np.random.default_rng(seed)
    rows = _problem_rows(rng, m, n, kind) * 10.0 ** rng.uniform(-apart / 2, apart / 2, (m, 1))
    gram = _gram(rows[None])
    weights = min_norm(gram)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0)
    assert min_norm_residual(gram, weights) < 1e-11


def test_min_norm_of_two_against_the_segment():
    """On the segment between two points, the foot of the origin, kept between its ends."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = rng.standard_normal((2, 4)) * 10.0 ** rng.uniform(-3, 3, (2, 1))
        share = np.clip((b - a) @ b / ((b - a) @ (b - a)), 0.0, 1.0)
        found = min_norm(_gram(np.stack([a, b])[None]))[0]
        np.testing.assert_allclose(found, [share, 1.0 - share], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1.0, 2.0]], [1.0]),
        ([[1.0, 2.0], [1.0, 2.0]], [0.5, 0.5]),
        ([[1.0, 2.0], [2.0, 4.0]], [1.0, 0.0]),
        ([[2.0, 4.0], [1.0, 2.0]], [0.0, 1.0]),
        ([[1.0, 0.0], [-3.0, 0.0]], [0.75, 0.25]),
        ([[0.0, 0.0], [0.0, 0.0]], [0.5, 0.5]),
        ([[3.0, 0.0], [0.0, 0.0]], [0.0, 1.0]),
        ([[0.0, 0.0], [5.0, 1.0], [0.0, 0.0]], [0.5, 0.0, 0.5]),
        ([[1.0, 0.0], [0.0, 1e-12]], [1e-24, 1.0]),
    ],
)
def test_min_norm_of_corner_cases(rows, expected):
    found = min_norm(_gram(np.array(rows)[None]))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)


def test_min_norm_of_a_batch_is_that_of_each():
    rng = np.random.default_rng(0)
    for m in (2, 3, 5):
        rows = rng.standard_normal((20, m, 4))
        rows[3, 1] = 0.0
        together = min_norm(_gram(rows))
        alone = [min_norm(_gram(rows[i : i + 1]))[0] for i in range(20)]
        np.testing.assert_array_equal(together, alone)


def test_min_norm_residual_sees_a_wrong_answer():
    gram = _gram(np.array([[[1.0, 0.0], [0.0, 2.0]]]))
    assert min_norm_residual(gram, min_norm(gram)) < 1e-15
    assert min_norm_residual(gram, np.array([[0.5, 0.5]])) > 1e-3
    assert min_norm_residual(gram, np.array([[0.0, 1.0]])) > 1e-3


# The Gram matrix


@pytest.mark.parametrize("scale", [1e-30, 1e-300, 1e300])
def test_gram_has_no_scale(scale):
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)
    factors = torch.tensor([[scale], [1.0]], dtype=torch.float64)
    gram = GradientProblem(rows * factors).gram
    assert isinstance(gram, Gram)
    assert gram.cosines[0, 0, 1] == pytest.approx(0.8, rel=1e-12)
    np.testing.assert_allclose(gram.norms[0], [5 * scale, 2.0], rtol=1e-12)
