"""backward where the graph holds more than parameters: inputs, stacked losses, compiled graphs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from paretonas import backward
from paretonas.multitask import TaskGradients, backward_through
from paretonas.solvers import (
    MGDA,
    EveryKSteps,
    GradDrop,
    LinearScalarization,
    MovingAverage,
    NashMTL,
    UPGrad,
)

NOBODY = [[], []]


@pytest.fixture
def network():
    """A network of one input and one output, in float64."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def points(requires_grad=True):
    return torch.linspace(0, 1, 16, dtype=torch.float64)[:, None].requires_grad_(requires_grad)


def physics_informed(network, x):
    """A differential equation and a boundary value."""
    u = network(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return [(slope + u).square().mean(), (u[0] - 1).square().mean()]


def gradient_penalty(network, x):
    """A critic's loss, and how far its slope is from 1."""
    score = network(x)
    (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    return [score.mean(), (slope.norm(dim=1) - 1).square().mean()]


def adversarial(network, x):
    """A loss, and the same a step along the sign of its gradient away."""
    clean = network(x).square().mean()
    (slope,) = torch.autograd.grad(clean, x, retain_graph=True)
    return [clean, (network(x + 0.1 * slope.sign()) - 1).square().mean()]


INPUTS = [physics_informed, gradient_penalty, adversarial]


@pytest.mark.parametrize("losses", INPUTS)
@pytest.mark.parametrize("solver", [UPGrad(), MGDA(), LinearScalarization()], ids=type)
def test_an_input_that_requires_grad_has_no_part_in_the_direction(network, losses, solver):
    shared = list(network.parameters())
    expected = backward(losses(network, points()), shared, solver=solver, heads=NOBODY)
    network.zero_grad()
    found = backward(losses(network, points()), shared, solver=solver)
    assert torch.equal(found.vector, expected.vector)
    joined = torch.cat([p.grad.flatten() for p in shared])
    assert torch.equal(joined, found.vector)


@pytest.mark.parametrize("losses", INPUTS)
@pytest.mark.parametrize("solver", [UPGrad(), LinearScalarization()], ids=type)
def test_an_input_gets_the_gradient_of_the_weighted_losses(network, losses, solver):
    x = points()
    direction = backward(losses(network, x), network.parameters(), solver=solver)
    terms = zip(direction.weights, losses(network, x), strict=True)
    (expected,) = torch.autograd.grad(sum(w * loss for w, loss in terms), x)
    torch.testing.assert_close(x.grad, expected)
    x = points()
    backward(losses(network, x), network.parameters(), solver=solver, heads=NOBODY)
    assert x.grad is None


def test_an_input_of_kept_weights_is_weighted_by_what_they_became(network):
    solver, state = EveryKSteps(NashMTL(0.01), 2), None
    for _ in range(2):
        x = points()
        direction = backward(
            physics_informed(network, x), network.parameters(), solver=solver, state=state
        )
        state = direction.state
        terms = zip(direction.weights, physics_informed(network, x), strict=True)
        (expected,) = torch.autograd.grad(sum(w * loss for w, loss in terms), x)
        torch.testing.assert_close(x.grad, expected)
    assert direction.certificate.branch == "reused"


def test_a_tensor_outside_of_the_network_is_trained_by_the_weights(network):
    """Not left behind without a word, as it would be with no gradient at all."""
    offset = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([*network.parameters(), offset], lr=0.1)
    u = network(points(False) + offset)
    backward([u.square().mean(), (u - 1).square().mean()], network.parameters(), solver=UPGrad())
    optimizer.step()
    assert offset.item() != 0


def test_micro_batches_each_have_their_inputs(network):
    gradients, parts = TaskGradients(network.parameters()), []
    for part in points(False).split(4):
        parts.append(part.clone().requires_grad_())
        gradients.add([loss / 4 for loss in physics_informed(network, parts[-1])])
    direction = gradients.resolve(UPGrad())
    for part in parts:
        losses = physics_informed(network, part)
        terms = zip(direction.weights, losses, strict=True)
        (expected,) = torch.autograd.grad(sum(w * loss / 4 for w, loss in terms), part)
        torch.testing.assert_close(part.grad, expected)


def test_what_is_an_input_in_one_micro_batch_may_be_a_head_in_another(network):
    x, gradients = points(), TaskGradients(network.parameters())
    gradients.add([network(x).mean(), network(x).square().mean()])
    gradients.add([network(x).mean(), network(points(False)).square().mean()])
    direction = gradients.resolve(UPGrad())
    losses = [network(x).mean(), network(x).square().mean()]
    terms = zip(direction.weights, losses, strict=True)
    (both,) = torch.autograd.grad(sum(w * loss for w, loss in terms), x)
    (alone,) = torch.autograd.grad(network(x).mean(), x)
    torch.testing.assert_close(x.grad, both + alone)


def test_an_input_of_one_loss_alone_gets_its_gradient(network):
    x = points()
    losses = [network(x).mean(), network(points(False)).square().mean()]
    backward(losses, network.parameters(), solver=UPGrad())
    (expected,) = torch.autograd.grad(network(x).mean(), x)
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize("solver", [UPGrad(), LinearScalarization()], ids=type)
def test_under_a_scaler_the_gradient_of_an_input_is_scaled_as_all_are(network, solver):
    x, scaler = points(), torch.amp.GradScaler("cpu", init_scale=8.0)
    direction = backward(
        physics_informed(network, x), network.parameters(), solver=solver, scaler=scaler
    )
    terms = zip(direction.weights, physics_informed(network, x), strict=True)
    (expected,) = torch.autograd.grad(sum(w * loss for w, loss in terms), x)
    torch.testing.assert_close(x.grad, 8 * expected)


def test_without_weights_an_input_is_refused_and_nothing_is_written(network):
    with pytest.raises(ValueError, match=r"no weights for the sum.*if it is an input, pass heads"):
        backward(physics_informed(network, points()), network.parameters(), solver=GradDrop())
    assert all(p.grad is None for p in network.parameters())
    losses = physics_informed(network, points())
    backward(losses, network.parameters(), solver=GradDrop(), heads=NOBODY)


def test_among_shared_tensors_that_are_no_parameters_an_input_cannot_be_told(network):
    weights = {k: p.detach().clone().requires_grad_() for k, p in network.named_parameters()}

    def losses(x):
        return physics_informed(lambda x: functional_call(network, weights, (x,)), x)

    shared = list(weights.values())
    message = r"a tensor that requires grad of shape \(16, 1\).*if it is an input.*heads=\[\[\], \["
    with pytest.raises(ValueError, match=message):
        backward(losses(points()), shared, solver=UPGrad())
    with pytest.raises(ValueError, match=r"of shape \(8, 1\) that is not in shared: add it there"):
        backward(losses(points()), shared[1:], solver=UPGrad())
    backward(losses(points()), shared, solver=UPGrad(), heads=NOBODY)
    assert all(p.grad is not None for p in shared)


# losses that part only above the node that made them


class Forked(nn.Module):
    """A trunk and two heads."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(3, 4)
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(2))

    def forward(self, x):
        features = self.trunk(x).tanh()
        return [(head(features) - i).square().mean() for i, head in enumerate(self.heads)]


@pytest.fixture
def forked():
    """A network of two heads, and its inputs."""
    torch.manual_seed(0)
    return Forked(), torch.randn(5, 3)


WEIGHTS = torch.tensor([0.3, 0.7])


@pytest.mark.parametrize(
    "entries",
    [
        lambda losses: torch.stack(losses),
        lambda losses: list(torch.stack(losses)),
        lambda losses: list(WEIGHTS * torch.stack(losses)),
        lambda losses: list(WEIGHTS.clone().requires_grad_() * torch.stack(losses)),
        lambda losses: [torch.stack(losses)[0], torch.stack(losses)[1]],
        lambda losses: [(joint := WEIGHTS * torch.stack(losses))[0], joint[1]],
    ],
)
def test_entries_of_a_stack_are_called_that_and_work_with_heads(forked, entries):
    network, x = forked
    message = r"come from one tensor, such as a stack.*a parameter of shape.*pass heads, the par"
    with pytest.raises(ValueError, match=message):
        backward(entries(network(x)), network.trunk, solver=UPGrad())
    assert all(p.grad is None for p in network.parameters())
    backward(entries(network(x)), network.trunk, solver=UPGrad(), heads=network.heads)
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    "parts",
    [
        lambda joint: joint.split(1),
        lambda joint: joint.chunk(2),
        lambda joint: [joint.index_select(0, torch.tensor([i])) for i in (0, 1)],
        lambda joint: [joint @ unit for unit in torch.eye(2)],
    ],
)
def test_parts_of_a_joint_tensor_are_no_reason_to_share_or_to_freeze(forked, parts):
    """It cannot be seen that they are none of each other's, so the message must allow for both."""
    network, x = forked
    losses = [part.sum() for part in parts(torch.stack(network(x)))]
    with pytest.raises(ValueError, match="if both depend on it; if they are only parts of one jo"):
        backward(losses, network.trunk, solver=UPGrad())
    backward(losses, network.trunk, solver=UPGrad(), heads=network.heads)
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_trunk_changes_nothing(forked, backend):
    network, x = forked
    expected = backward(network(x), network.trunk, solver=UPGrad())
    network.zero_grad()
    compiled = torch.compile(network.trunk, backend=backend)
    features = compiled(x).tanh()
    losses = [(head(features) - i).square().mean() for i, head in enumerate(network.heads)]
    found = backward(losses, network.trunk, solver=UPGrad())
    torch.testing.assert_close(found.vector, expected.vector)


def test_losses_of_one_compiled_graph_are_called_that_and_work_with_heads(forked):
    network, x = forked
    expected = backward(network(x), network.trunk, solver=UPGrad())
    network.zero_grad()
    compiled = torch.compile(network, backend="aot_eager")
    with pytest.raises(ValueError, match=r"one compiled graph \(torch.compile\).*pass heads, the"):
        backward(compiled(x), network.trunk, solver=UPGrad())
    found = backward(compiled(x), network.trunk, solver=UPGrad(), heads=network.heads)
    torch.testing.assert_close(found.vector, expected.vector)


def test_a_parameter_of_several_losses_can_be_shared_or_left_alone(forked):
    """Such as weights of losses in one parameter; one for each loss is a head of its own."""
    network, x = forked
    together = nn.Parameter(torch.zeros(2))
    apart = [nn.Parameter(torch.zeros(())) for _ in range(2)]

    def losses(scales):
        return [s.exp() * loss - s for s, loss in zip(scales, network(x), strict=True)]

    message = r"a parameter of shape \(2,\) that is not in shared.*to leave it alone, pass heads"
    with pytest.raises(ValueError, match=message):
        backward(losses(together), network.trunk, solver=UPGrad())
    backward(losses(apart), network.trunk, solver=UPGrad())
    for scale, loss in zip(apart, network(x), strict=True):
        torch.testing.assert_close(scale.grad, loss.detach() - 1)
    network.zero_grad()
    backward(losses(together), network.trunk, solver=UPGrad(), heads=network.heads)
    assert together.grad is None


# checkpoints


@pytest.mark.parametrize("solver", [UPGrad(), LinearScalarization()], ids=type)
@pytest.mark.parametrize("heads", [None, NOBODY])
def test_a_reentrant_checkpoint_hides_parameters_and_is_refused(network, solver, heads):
    """Of these, those beneath it would silently learn nothing."""
    first, *rest = network
    u = nn.Sequential(*rest)(checkpoint(first, points(), use_reentrant=True))
    losses = [u.square().mean(), (u - 1).square().mean()]
    with pytest.raises(ValueError, match="use_reentrant=True.*pass use_reentrant=False"):
        backward(losses, network, solver=solver, heads=heads)
    assert all(p.grad is None for p in network.parameters())


def test_other_checkpoints_work_with_inputs_that_require_grad(network):
    expected = backward(physics_informed(network, points()), network, solver=UPGrad())
    network.zero_grad()
    losses = physics_informed(lambda x: checkpoint(network, x, use_reentrant=False), points())
    found = backward(losses, network, solver=UPGrad())
    torch.testing.assert_close(found.vector, expected.vector)


def test_beneath_a_representation_a_reentrant_checkpoint_works(network):
    features = checkpoint(network, points(), use_reentrant=True)
    losses = [features.square().mean(), (features - 1).square().mean()]
    backward_through(losses, features, solver=UPGrad())
    assert all(p.grad is not None for p in network.parameters())


# what is handed in


@pytest.mark.parametrize("call", [backward, backward_through])
def test_the_class_or_the_name_of_a_solver_is_refused_in_one_line(forked, call):
    network, x = forked
    place = network.trunk.weight
    with pytest.raises(TypeError, match=r"solver must be an object, got a class: write MGDA\(\)"):
        call(network(x), [place], solver=MGDA)
    with pytest.raises(TypeError, match=r"solver must be an object such as MGDA\(\), got 'mgda'"):
        call(network(x), [place], solver="mgda")
    with pytest.raises(TypeError, match=r"inner must be an object, got a class: write MGDA\(\)"):
        MovingAverage(MGDA)


def test_one_loss_that_is_not_in_a_list_is_refused(forked):
    network, x = forked
    with pytest.raises(TypeError, match="losses must be several scalars, got one tensor: wrap it"):
        backward(network(x)[0], network.trunk, solver=MGDA())


def test_modules_stand_for_their_parameters(forked):
    network, x = forked
    lists = [list(head.parameters()) for head in network.heads]
    expected = backward(network(x), network.trunk.parameters(), solver=MGDA(), heads=lists)
    network.zero_grad()
    found = backward(network(x), network.trunk, solver=MGDA(), heads=network.heads)
    assert torch.equal(found.vector, expected.vector)
    assert all(p.grad is not None for p in network.parameters())
