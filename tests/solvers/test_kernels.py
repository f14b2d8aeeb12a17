"""The small programs inside the solvers, against scipy and against their own conditions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, nnls

from paretonas.solvers import _nnqp
from paretonas.solvers._gram import CHUNK, Gram, combine
from paretonas.solvers._lp import Program, lp_residual, maximize
from paretonas.solvers._min_norm import min_norm, min_norm_residual
from paretonas.solvers._nnqp import kkt_residual, nonnegative_qp
from paretonas.solvers.problem import Problem


@settings(max_examples=60, deadline=None, database=None)
@given(m=st.integers(1, 9), n=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_nonnegative_qp_against_least_squares(m, n, seed):
    """min |A'x - b| over x >= 0 is the program with Q = AA', c = Ab: scipy solves it by A."""
    rng = np.random.default_rng(seed)
    rows, target = rng.standard_normal((m, n)), rng.standard_normal(n)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    best = nnls(rows.T, target)[1]
    matrix, linear = torch.from_numpy(rows @ rows.T)[None], torch.from_numpy(rows @ target)
    x = nonnegative_qp(matrix, linear.view(1, 1, m))
    assert (x >= 0).all()
    assert np.linalg.norm(rows.T @ x.numpy().ravel() - target) == pytest.approx(best, abs=1e-9)
    assert kkt_residual(matrix, linear.view(1, 1, m), x) < 1e-12


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_enumeration_and_active_set_agree(m):
    torch.manual_seed(m)
    rows = torch.nn.functional.normalize(torch.randn(40, m, 6, dtype=torch.float64), dim=-1)
    matrix, linear = rows @ rows.mT, torch.randn(40, 1, m, dtype=torch.float64)
    by_set = _nnqp._by_active_set(matrix, linear.squeeze(1))
    torch.testing.assert_close(nonnegative_qp(matrix, linear).squeeze(1), by_set)


def test_residual_sees_a_wrong_answer():
    matrix, linear = torch.eye(2, dtype=torch.float64)[None], torch.ones(1, 1, 2).double()
    assert kkt_residual(matrix, linear, linear) == 0
    assert kkt_residual(matrix, linear, 0.9 * linear) > 0.01
    assert kkt_residual(matrix, -linear, -linear) > 0.01  # stationary, but negative


def test_min_norm_beats_every_convex_combination(jacobians):
    for name, jacobian in jacobians:
        gram = Problem(jacobian).gram
        weights = min_norm(gram)
        assert (weights >= 0).all(), name
        assert weights.sum() == pytest.approx(1.0), name
        unit = jacobian / jacobian.abs().max().clamp_min(1e-300)
        tried = torch.from_numpy(np.random.default_rng(0).dirichlet([0.5] * len(unit), 300))
        tried = torch.cat([tried, torch.eye(len(unit), dtype=torch.float64)])
        least = (tried @ unit).norm(dim=-1).min()
        assert (weights @ unit).norm() <= least * (1 + 1e-9) + 1e-9, name


def test_min_norm_residual_sees_a_wrong_answer():
    gram = Problem(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).gram
    assert min_norm_residual(gram, min_norm(gram)) < 1e-15
    assert min_norm_residual(gram, torch.tensor([[0.5, 0.5]]).double()) > 1e-3


@settings(max_examples=60, deadline=None, database=None)
@given(m=st.integers(1, 8), k=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_linear_program_against_scipy(m, k, seed):
    rng = np.random.default_rng(seed)
    objective, matrix = rng.standard_normal(m), rng.standard_normal((k, m))
    bound = np.where(rng.random(k) < 0.5, 0.0, rng.random(k))  # zeros make it degenerate
    oracle = linprog(-objective, A_ub=matrix, b_ub=bound, A_eq=np.ones((1, m)), b_eq=[1.0])
    program = Program.of(*(torch.from_numpy(a)[None] for a in (objective, matrix, bound)))
    solution = maximize(program)
    assert solution.feasible.item() == (oracle.status == 0)
    if oracle.status == 0:
        assert objective @ solution.x[0].numpy() == pytest.approx(-oracle.fun, abs=1e-9)
        assert (matrix @ solution.x[0].numpy() <= bound + 1e-9).all()
        assert lp_residual(program, solution) < 1e-10


def test_linear_programs_of_a_batch_do_not_touch_each_other():
    torch.manual_seed(0)
    data = torch.randn(30, 3), torch.randn(30, 4, 3), torch.rand(30, 4)
    together = maximize(Program.of(*(part.double() for part in data)))
    for i in range(30):
        alone = maximize(Program.of(*(part[i : i + 1].double() for part in data)))
        assert torch.equal(together.feasible[i : i + 1], alone.feasible)
        torch.testing.assert_close(together.x[i : i + 1], alone.x)


def test_gram_of_a_long_jacobian_is_summed_in_float64():
    torch.manual_seed(0)
    n = 2 * CHUNK + 17
    rows = torch.randn(1, 3, n)
    gram = Problem(rows).gram
    wide = rows.double()
    torch.testing.assert_close(gram.norms, wide.norm(dim=-1), rtol=1e-13, atol=0)
    products = gram.cosines * gram.norms.unsqueeze(-1) * gram.norms.unsqueeze(-2)
    torch.testing.assert_close(products, wide @ wide.mT, rtol=1e-12, atol=1e-9)
    weights = torch.tensor([[0.3, -2.0, 1e-9]], dtype=torch.float64)
    exact = (weights.unsqueeze(-2) @ wide).squeeze(-2)
    torch.testing.assert_close(combine(weights, rows), exact.float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-300, 1e300])
def test_gram_has_no_scale(scale):
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)
    factors = torch.tensor([[scale], [1.0]], dtype=torch.float64)
    gram = Problem(rows * factors).gram
    assert isinstance(gram, Gram)
    torch.testing.assert_close(gram.cosines[0, 0, 1], torch.tensor(0.8, dtype=torch.float64))
    expected = torch.tensor([5 * scale, 2.0], dtype=torch.float64)
    torch.testing.assert_close(gram.norms[0], expected, rtol=1e-12, atol=0)
