"""jacobian and assign: what goes where, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paretonas.jacobian import assign, jacobian, split


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


# jacobian


def test_rows_are_the_gradients(net):
    trunk = list(net["trunk"].parameters())
    found = jacobian(_losses(net), trunk)
    for row, loss in zip(found, _losses(net), strict=True):
        expected = torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, trunk, retain_graph=True)]
        )
        torch.testing.assert_close(row, expected)


def test_parameter_that_a_loss_does_not_reach_gets_zeros():
    a, b = torch.ones(2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    found = jacobian([3 * a.sum(), 2 * b.sum()], [a, b])
    assert found.tolist() == [[3, 3, 0, 0], [0, 0, 2, 2]]


def test_known_gradient_passes_through_in_the_dtype_of_the_rest():
    a = torch.ones(3, requires_grad=True)
    known = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    found = jacobian([a.sum(), known], [a])
    assert found.tolist() == [[1, 1, 1], [1, 2, 3]]
    assert found.dtype == torch.float32


def test_graph_is_kept_and_no_grad_is_written():
    a = torch.ones(2, requires_grad=True)
    loss = a.square().sum()
    jacobian([loss, loss], [a])
    assert a.grad is None
    loss.backward()  # would fail on a freed graph


def test_rays_give_one_jacobian_each():
    torch.manual_seed(0)
    alpha = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    known = torch.randn(4, 3, dtype=torch.float64)
    together = jacobian([alpha.square().sum(-1), known, alpha.exp().prod(-1)], [alpha])
    assert together.shape == (4, 3, 3)
    for k in range(4):
        ray = alpha[k].detach().requires_grad_()
        alone = jacobian([ray.square().sum(), known[k], ray.exp().prod()], [ray])
        torch.testing.assert_close(together[k], alone)


def test_rays_over_several_parameters():
    a = torch.ones(2, 3, requires_grad=True)
    b = torch.ones(2, 2, 2, requires_grad=True)
    found = jacobian([a.sum(-1) + 2 * b.sum((-1, -2))], [a, b])
    assert found.tolist() == [[[1, 1, 1, 2, 2, 2, 2]]] * 2


def test_detached_loss_is_refused():
    a = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=r"value 1 is a loss without a graph.*\(2,\)"):
        jacobian([a.sum(), torch.tensor(3.0)], [a])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda a: [], "at least one value"),
        (lambda a: [a.sum(), torch.ones(3)], r"value 1, a gradient, must have shape \(2,\)"),
        (lambda a: [a.sum(), a], r"value 1, a loss, must have shape \(\), got \(2,\)"),
        (lambda a: [a.expand(3, 2)], r"a loss must have shape \(\) or \(r,\), got \(3, 2\)"),
        (lambda a: [a.sum().expand(5)], r"leading dimension of r, got shapes \[\(2,\)\]"),
    ],
)
def test_misfits_are_refused(values, message):
    a = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=message):
        jacobian(values(a), [a])


def test_a_float_is_no_loss():
    with pytest.raises(TypeError, match=r"value 0 must be a torch.Tensor, got float"):
        jacobian([1.0], [torch.ones(2, requires_grad=True)])


# assign


def test_assign_undoes_jacobian():
    a = torch.zeros(2, 2, requires_grad=True)
    b = torch.zeros(3, dtype=torch.float16, requires_grad=True)
    a.grad = torch.full((2, 2), 9.0)
    vector = torch.arange(7.0)
    assign(vector, [a, b])
    assert a.grad.tolist() == [[0, 1], [2, 3]]
    assert b.grad.tolist() == [4, 5, 6]
    assert b.grad.dtype == torch.float16
    vector.zero_()
    assert a.grad.tolist() == [[0, 1], [2, 3]]  # memory of its own


def test_assign_rays():
    a, b = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 1, requires_grad=True)
    assign(torch.arange(8.0).view(2, 4), [a, b])
    assert a.grad.tolist() == [[0, 1, 2], [4, 5, 6]]
    assert b.grad.tolist() == [[3], [7]]


def test_split_gives_each_its_shape_and_dtype():
    a, b = torch.zeros(2, 2), torch.zeros(1, dtype=torch.float64)
    first, second = split(torch.arange(5.0), [a, b])
    assert first.tolist() == [[0, 1], [2, 3]]
    assert second.tolist() == [4]
    assert second.dtype == torch.float64


def test_assign_refuses_another_length():
    with pytest.raises(ValueError, match=r"n = 4 entries to fit the parameters, got shape \(5,\)"):
        assign(torch.ones(5), [torch.ones(2, 2)])
