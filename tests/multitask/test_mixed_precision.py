"""backward with GradScaler and autocast: scaled gradients out, none of the scale in the solver."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paretonas import backward
from paretonas.multitask import TaskGradients, backward_through
from paretonas.solvers import MGDA, LinearScalarization, UPGrad

SOLVERS = [MGDA(), UPGrad(), LinearScalarization()]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.ModuleDict({"trunk": nn.Linear(4, 3), "one": nn.Linear(3, 1), "two": nn.Linear(3, 2)})


def features_and_losses(net, factor=1.0):
    torch.manual_seed(1)
    features = net["trunk"](torch.randn(5, 4)).tanh()
    one, two = net["one"](features), net["two"](features)
    return features, [one.square().mean(), factor * two.square().mean()]


def losses_of(net, factor=1.0):
    return features_and_losses(net, factor)[1]


def gradients(net):
    found = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    return found


def scaler_of(scale=2.0**12, **options):
    return torch.amp.GradScaler("cpu", init_scale=scale, **options)


@pytest.mark.parametrize("solver", SOLVERS, ids=type)
def test_gradients_come_out_scaled_and_the_direction_does_not(net, solver):
    plain = backward(losses_of(net), net["trunk"].parameters(), solver=solver)
    expected = gradients(net)
    scaled = backward(losses_of(net), net["trunk"].parameters(), solver=solver, scaler=scaler_of())
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(gradient, 2.0**12 * expected[name])
    torch.testing.assert_close(scaled.vector, plain.vector)
    torch.testing.assert_close(scaled.weights, plain.weights)


def test_gradients_through_a_representation_come_out_scaled(net):
    features, losses = features_and_losses(net)
    plain = backward_through(losses, features, solver=MGDA())
    expected = gradients(net)
    features, losses = features_and_losses(net)
    scaled = backward_through(losses, features, solver=MGDA(), scaler=scaler_of())
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(gradient, 2.0**12 * expected[name])
    torch.testing.assert_close(scaled.vector, plain.vector)


def test_the_solver_sees_nothing_of_the_scale(net):
    seen = []

    def solver(jacobian, values=None, state=None):
        seen.append((jacobian, values))
        return MGDA()(jacobian, values, state)

    for scaler in (None, scaler_of()):
        backward(losses_of(net), net["trunk"].parameters(), solver=solver, scaler=scaler)
    torch.testing.assert_close(*seen)


@pytest.mark.parametrize("solver", SOLVERS, ids=type)
def test_a_scaled_step_is_the_plain_step(net, solver):
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    ends = []
    for scaler in (scaler_of(enabled=False), scaler_of()):
        net.load_state_dict(start)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        optimizer.zero_grad()
        backward(losses_of(net), net["trunk"].parameters(), solver=solver, scaler=scaler)
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 0.01)
        scaler.step(optimizer)
        scaler.update()
        ends.append({name: p.detach().clone() for name, p in net.named_parameters()})
    torch.testing.assert_close(*ends)
    assert not torch.equal(ends[0]["trunk.weight"], start["trunk.weight"])


@pytest.mark.parametrize("solver", SOLVERS, ids=type)
@pytest.mark.parametrize("way", ["parameters", "representation"])
@pytest.mark.parametrize(
    "factor", [1e37, float("inf")], ids=["gradients overflow", "loss not finite"]
)
def test_overflow_skips_the_step_and_halves_the_scale(net, solver, way, factor):
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = scaler_of()
    features, losses = features_and_losses(net, factor)
    if way == "parameters":
        shared = net["trunk"].parameters()
        direction = backward(losses, shared, solver=solver, state="before", scaler=scaler)
    else:
        direction = backward_through(losses, features, solver=solver, state="before", scaler=scaler)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**11
    torch.testing.assert_close(dict(net.named_parameters()), before, rtol=0, atol=0)
    assert not direction.vector.isfinite().all()
    assert direction.state == "before"
    if "skipped" in direction.certificate.branch:
        assert direction.certificate.kkt_residual.isnan()
        assert direction.weights.isnan().all()
        assert repr(direction.certificate)


def test_micro_batches_under_a_scaler(net):
    expected = backward(losses_of(net), net["trunk"].parameters(), solver=UPGrad())
    expected_gradients = gradients(net)
    collected = TaskGradients(net["trunk"].parameters(), scaler=scaler_of())
    for _ in range(2):
        collected.add([loss / 2 for loss in losses_of(net)])
    found = collected.resolve(UPGrad())
    torch.testing.assert_close(found.vector, expected.vector)
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(gradient, 2.0**12 * expected_gradients[name])


@pytest.mark.parametrize("solver", SOLVERS, ids=type)
def test_training_under_autocast_and_a_scaler(net, solver):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    scaler, state = scaler_of(), None
    before = [loss.item() for loss in losses_of(net)]
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = losses_of(net)
        shared = net["trunk"].parameters()
        state = backward(losses, shared, solver=solver, state=state, scaler=scaler).state
        scaler.step(optimizer)
        scaler.update()
    assert all(a.item() < b for a, b in zip(losses_of(net), before, strict=True))
