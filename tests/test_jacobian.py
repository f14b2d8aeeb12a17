"""jacobian, assign and backward: what goes where, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paretonas.jacobian import assign, backward, jacobian
from paretonas.solvers import MGDA, LinearScalarization, UPGrad


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


def test_assign_refuses_another_length():
    with pytest.raises(ValueError, match=r"n = 4 entries to fit the parameters, got shape \(5,\)"):
        assign(torch.ones(5), [torch.ones(2, 2)])


# backward


def test_backward_with_the_mean_is_the_backward_of_the_mean(net):
    direction = backward(_losses(net), net["trunk"].parameters(), solver=LinearScalarization())
    found = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    one, two = _losses(net)
    (0.5 * (one + two)).backward()
    for name, p in net.named_parameters():
        scale = 1.0 if name.startswith("trunk") else 2.0  # a head gets its own loss in full
        torch.testing.assert_close(found[name], scale * p.grad)
    assert direction.vector.shape == (15,)


def test_backward_gives_the_solvers_direction_to_the_trunk(net):
    trunk = list(net["trunk"].parameters())
    expected = UPGrad()(jacobian(_losses(net), trunk)).vector
    direction = backward(_losses(net), trunk, solver=UPGrad())
    torch.testing.assert_close(direction.vector, expected)
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in trunk]), expected)


def test_backward_hands_values_and_state_to_the_solver(net):
    seen = []

    def solver(rows, values=None, state=None):
        seen.append((values, state))
        return LinearScalarization()(rows, values, state)

    losses = _losses(net)
    expected = torch.stack(losses).detach()
    direction = backward(losses, net["trunk"].parameters(), solver=solver, state="before")
    torch.testing.assert_close(seen[0][0], expected)
    assert seen[0][1] == direction.state == "before"


def test_backward_accumulates_like_loss_backward(net):
    backward(_losses(net), net["trunk"].parameters(), solver=MGDA())
    once = {name: p.grad.clone() for name, p in net.named_parameters()}
    backward(_losses(net), net["trunk"].parameters(), solver=MGDA())
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, 2 * once[name])


def test_backward_leaves_frozen_and_unreached_parameters_alone(net):
    net["trunk"].bias.requires_grad_(False)
    net["one"].bias.requires_grad_(False)
    spare = nn.Parameter(torch.ones(2, dtype=torch.float64))
    backward(_losses(net), [*net["trunk"].parameters(), spare], solver=MGDA())
    assert spare.grad is None
    assert net["trunk"].bias.grad is None
    assert net["one"].bias.grad is None
    assert net["one"].weight.grad is not None


def test_a_loss_may_miss_part_of_the_shared_parameters():
    a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    direction = backward([a.sum(), (a * b).sum()], [a, b], solver=LinearScalarization())
    assert direction.vector.tolist() == [1.0, 0.5]


def test_backward_trains_two_tasks(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = [loss.item() for loss in _losses(net)]
    for _ in range(30):
        optimizer.zero_grad()
        backward(_losses(net), net["trunk"].parameters(), solver=UPGrad())
        optimizer.step()
    assert all(a.item() < b for a, b in zip(_losses(net), before, strict=True))


def test_unlisted_parameter_that_two_losses_reach_is_refused(net):
    with pytest.raises(ValueError, match=r"losses 0 and 1 both reach a parameter of shape \(3,\)"):
        backward(_losses(net), [net["trunk"].weight], solver=MGDA())
    assert all(p.grad is None for p in net.parameters())


def test_backward_refuses_what_it_cannot_differentiate(net):
    trunk = list(net["trunk"].parameters())
    with pytest.raises(ValueError, match="got 0 losses and 2 such parameters"):
        backward([], trunk, solver=MGDA())
    with pytest.raises(ValueError, match="got 1 losses and 0 such parameters"):
        backward(_losses(net)[:1], [], solver=MGDA())
    with pytest.raises(ValueError, match="loss 1 has no graph"):
        backward([_losses(net)[0], torch.tensor(1.0)], trunk, solver=MGDA())
    with pytest.raises(ValueError, match=r"loss 0 must have shape \(\), got \(2,\)"):
        backward([torch.ones(2, requires_grad=True) * 2], trunk, solver=MGDA())
