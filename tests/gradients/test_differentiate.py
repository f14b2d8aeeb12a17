"""The gradients of several losses: what goes where, and what is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from paretonas.gradients.differentiate import differentiate
from paretonas.solvers import MGDA


@pytest.fixture
def net():
    """A shared trunk and two heads, in float64."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"trunk": nn.Linear(4, 3), "one": nn.Linear(3, 1), "two": nn.Linear(3, 2)}
    ).double()


def _losses(net):
    torch.manual_seed(1)
    features = net["trunk"](torch.randn(5, 4, dtype=torch.float64)).tanh()
    return [net["one"](features).square().mean(), net["two"](features).abs().mean()]


@pytest.mark.parametrize("vectorize", [False, True, None])
def test_rows_are_the_gradients_of_each_loss_over_what_is_shared_and_over_its_head(net, vectorize):
    shared, heads = (
        list(net["trunk"].parameters()),
        [list(net[name].parameters()) for name in ("one", "two")],
    )
    rows, own_rows = differentiate(_losses(net), shared, heads, vectorize=vectorize)
    for i, (row, own_row) in enumerate(zip(rows, own_rows, strict=True)):
        net.zero_grad()
        _losses(net)[i].backward()
        for p, gradient in zip([*shared, *heads[i]], [*row, *own_row], strict=True):
            assert_close(gradient, p.grad)


def test_without_heads_there_are_rows_only_and_a_solver_takes_them(net):
    shared = list(net["trunk"].parameters())
    rows, own_rows = differentiate(_losses(net), shared)
    assert own_rows == [[], []]
    flat = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    assert_close(MGDA()(rows).vector, MGDA()(flat).vector)


def test_what_a_loss_does_not_reach_is_none():
    a, b = torch.ones(2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    rows, _ = differentiate([3 * a.sum(), 2 * b.sum()], [a, b])
    assert [[g is None for g in row] for row in rows] == [[False, True], [True, False]]


def test_no_grad_is_written_and_the_graph_is_kept_if_asked():
    a = torch.ones(2, requires_grad=True)
    loss = a.square().sum()
    differentiate([loss, 2 * loss], [a], retain_graph=True)
    assert a.grad is None
    loss.backward()  # would fail on a freed graph
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_the_sum_over_rays_holds_the_gradient_of_each():
    torch.manual_seed(0)
    alpha = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    together, _ = differentiate([alpha.square().sum(), alpha.exp().prod(-1).sum()], [alpha])
    for k in range(4):
        ray = alpha[k].detach().requires_grad_()
        alone, _ = differentiate([ray.square().sum(), ray.exp().prod()], [ray])
        for (whole,), (own,) in zip(together, alone, strict=True):
            assert_close(whole[k], own)
