"""backward_through: surgery where the network forks, one pass through the encoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paretonas.multitask import backward_through
from paretonas.solvers import MGDA, LinearScalarization, UPGrad


def network(m=3):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    heads = nn.ModuleList(nn.Linear(3, i + 1) for i in range(m)).double()
    return encoder, heads, torch.randn(6, 4, dtype=torch.float64)


def losses_of(features, heads):
    return [(head(features) - i).square().mean() for i, head in enumerate(heads)]


@pytest.mark.parametrize("solver", [MGDA(), UPGrad(), LinearScalarization()], ids=type)
@pytest.mark.parametrize("given", [True, False], ids=["heads given", "heads found"])
def test_encoder_gets_the_direction_of_the_representation(solver, given):
    encoder, heads, inputs = network()
    features = encoder(inputs)
    losses = losses_of(features, heads)
    rows = [torch.autograd.grad(loss, features, retain_graph=True)[0].flatten() for loss in losses]
    vector = solver(torch.stack(rows), torch.stack(losses).detach()).vector
    passed = torch.autograd.grad(
        features, [*encoder.parameters()], vector.view(6, 3), retain_graph=True
    )
    own = [
        torch.autograd.grad(s, [*h.parameters()], retain_graph=True)
        for s, h in zip(losses, heads, strict=True)
    ]
    direction = backward_through(
        losses, features, solver=solver, heads=[h.parameters() for h in heads] if given else None
    )
    torch.testing.assert_close(direction.vector, vector)
    torch.testing.assert_close([p.grad for p in encoder.parameters()], list(passed))
    for head, gradients in zip(heads, own, strict=True):
        torch.testing.assert_close([p.grad for p in head.parameters()], list(gradients))


def test_fixed_weights_give_what_backward_of_their_sum_gives():
    encoder, heads, inputs = network()
    features = encoder(inputs)
    backward_through(losses_of(features, heads), features, solver=LinearScalarization())
    found = [p.grad.clone() for p in encoder.parameters()]
    encoder.zero_grad()
    (sum(losses_of(encoder(inputs), heads)) / 3).backward()
    torch.testing.assert_close(found, [p.grad for p in encoder.parameters()])


def test_the_encoder_is_passed_once():
    encoder, heads, inputs = network()
    passes = []
    hidden = encoder[:2](inputs)
    hidden.register_hook(lambda g: passes.append(g.shape))
    features = encoder[2](hidden)
    backward_through(losses_of(features, heads), features, solver=MGDA())
    assert len(passes) == 1


def test_several_tensors_make_one_representation():
    encoder, heads, inputs = network(m=2)
    one, two = encoder(inputs), encoder(-inputs).tanh()
    losses = [heads[0](one).square().mean(), heads[1](one * two).square().mean()]
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, [one, two], retain_graph=True, allow_unused=True)
        filled = [torch.zeros_like(one) if g is None else g for g in found]
        rows.append(torch.stack(filled).flatten())
    expected = UPGrad()(torch.stack(rows)).vector
    direction = backward_through(losses, [one, two], solver=UPGrad())
    torch.testing.assert_close(direction.vector, expected)
    assert encoder[0].weight.grad.abs().max() > 0


def test_a_representation_may_be_one_of_several_outputs_of_a_node():
    _, heads, inputs = network(m=2)
    wide = nn.Linear(4, 6).double()
    left, right = wide(inputs).chunk(2, dim=1)
    losses = [heads[0](left).sum(), heads[1](left).square().sum()]
    backward_through(losses, left, solver=MGDA())
    assert wide.weight.grad[3:].abs().max() == 0
    left, right = wide(inputs).chunk(2, dim=1)
    losses = [heads[0](left).sum(), heads[1](right).square().sum()]
    with pytest.raises(ValueError, match=r"loss 1 reaches .* \(6, 4\) both through .* and around"):
        backward_through(losses, left, solver=MGDA())


def test_the_graph_is_kept_on_request_only():
    encoder, heads, inputs = network()
    features = encoder(inputs)
    losses = losses_of(features, heads)
    backward_through(losses, features, solver=MGDA(), retain_graph=True)
    once = encoder[0].weight.grad.clone()
    backward_through(losses, features, solver=MGDA())
    torch.testing.assert_close(encoder[0].weight.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        backward_through(losses, features, solver=MGDA())


def test_a_loss_may_rise_although_the_representation_steps_down():
    # Z = A theta with A = diag(1, 10), and losses (3, -1) Z and (0, 2) Z.
    stretch = torch.tensor([1.0, 10.0], dtype=torch.float64)
    slopes = torch.tensor([[3.0, -1.0], [0.0, 2.0]], dtype=torch.float64)
    theta = torch.ones(2, dtype=torch.float64, requires_grad=True)
    z = stretch * theta
    direction = backward_through(list((slopes @ z).unbind()), z, solver=MGDA())
    torch.testing.assert_close(direction.vector, torch.ones(2, dtype=torch.float64))
    change = slopes @ (stretch * theta.grad)
    assert change.tolist() == pytest.approx([3 - 100, 200])  # to first order, for a step of -1


def test_the_direction_is_zero_where_the_parameters_are_stationary():
    torch.manual_seed(0)
    stretch = torch.randn(3, 5, dtype=torch.float64)  # full row rank
    slope = torch.randn(3, dtype=torch.float64)
    theta = torch.ones(5, dtype=torch.float64, requires_grad=True)
    z = stretch @ theta
    backward_through([slope @ z, -2 * slope @ z], z, solver=MGDA())
    assert theta.grad.abs().max() == 0


def test_what_does_not_fit_is_refused():
    encoder, heads, inputs = network(m=2)
    features = encoder(inputs)
    losses = losses_of(features, heads)
    solver = MGDA()
    with pytest.raises(ValueError, match="representation has no graph"):
        backward_through(losses, features.detach(), solver=solver)
    with pytest.raises(ValueError, match="at least one tensor, got none"):
        backward_through(losses, [], solver=solver)
    with pytest.raises(TypeError, match=r"representation\[1\] must be a torch.Tensor, got str"):
        backward_through(losses, [features, "z"], solver=solver)
    with pytest.raises(ValueError, match="none of 2 losses reaches the representation"):
        backward_through(losses, encoder(inputs), solver=solver, heads=[[], []])
    with pytest.raises(ValueError, match="one collection per loss, got 1 for 2 losses"):
        backward_through(losses, features, solver=solver, heads=[[]])
    with pytest.raises(ValueError, match=r"losses 0 and 1 both reach .* \(1, 3\) above"):
        backward_through([losses[0], losses[0] + losses[1]], features, solver=solver)
    with pytest.raises(ValueError, match=r"loss 0 reaches .* both through .* and around it"):
        around = [losses[0] + encoder[0].weight.sum(), losses[1]]
        backward_through(around, features, solver=solver)
    assert all(p.grad is None for p in (*encoder.parameters(), *heads.parameters()))
