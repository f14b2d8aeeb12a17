"""backward: what each parameter gets, what a solver is given, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from paretonas import backward
from paretonas.multitask import TaskGradients
from paretonas.solvers import (
    FAMO,
    IMTLL,
    MGDA,
    Direction,
    DynamicWeightAverage,
    EveryKSteps,
    LinearScalarization,
    MovingAverage,
    RandomWeights,
    SmoothTchebycheff,
    Tchebycheff,
    UncertaintyWeighting,
    UPGrad,
    Weighted,
)
from paretonas.solvers.base import Answer, WeightingSolver

QUARTERS = torch.full((4,), 0.25)


class Net(nn.Module):
    """A shared trunk and m heads, in float64."""

    def __init__(self, trunk: nn.Module, width: int, m: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(nn.Linear(width, i + 1) for i in range(m))
        self.double()

    def losses(self, inputs):
        features = self.trunk(inputs)
        return [(head(features) - i).square().mean() for i, head in enumerate(self.heads)]


class Recurrent(nn.Module):
    """The last output of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(3, 4, batch_first=True)

    def forward(self, inputs):
        return self.inner(inputs)[0][:, -1]


def mlp(m=2):
    torch.manual_seed(0)
    net = Net(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), 3, m)
    return net, torch.randn(6, 4, dtype=torch.float64)


def convnet(m=3):
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3)]
    net = Net(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 3, m)
    return net, torch.randn(5, 2, 10, 10, dtype=torch.float64)


def rnn(m=3):
    torch.manual_seed(0)
    return Net(Recurrent(), 4, m), torch.randn(5, 6, 3, dtype=torch.float64)


def expected(losses, shared, heads, solver, state=None):
    """The slow way: one joined row per loss, a call, and the pieces."""
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
        filled = [
            torch.zeros_like(p) if g is None else g for g, p in zip(found, shared, strict=True)
        ]
        rows.append(torch.cat([g.flatten() for g in filled]))
    vector = solver(torch.stack(rows), torch.stack(losses).detach(), state).vector
    pieces = iter(vector.split([p.numel() for p in shared]))
    answer = {id(p): next(pieces).view(p.shape) for p in shared}
    for loss, head in zip(losses, heads, strict=True):
        for p in head:
            answer[id(p)] = torch.autograd.grad(loss, p, retain_graph=True)[0]
    return answer


def assert_gradients(net, answer):
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, answer[id(p)], msg=lambda m, name=name: f"{name}: {m}")


def gradients(net):
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    return found


def parts(net):
    return list(net.trunk.parameters()), [list(head.parameters()) for head in net.heads]


class Watched:
    """A solver that keeps what it is given."""

    def __init__(self, inner):
        self.inner, self.seen = inner, []

    def __call__(self, jacobian, values=None, state=None):
        self.seen.append((jacobian, values, state))
        return self.inner(jacobian, values, state)


class Fixed(WeightingSolver):
    """Weights that depend on nothing, not even on their sum being 1."""

    needs_gradients = False

    def __init__(self, *weights):
        self.weights = np.array([weights])

    def weigh(self, problem, state):
        return Answer(self.weights.copy(), state=(state or 0) + 1)


# what each parameter gets


@pytest.mark.parametrize("make", [mlp, convnet, rnn])
@pytest.mark.parametrize("solver", [MGDA(), UPGrad(), LinearScalarization()], ids=type)
@pytest.mark.parametrize("given", [True, False], ids=["heads given", "heads found"])
@pytest.mark.parametrize("vectorize", [True, False], ids=["vmap", "in turn"])
def test_trunk_gets_the_direction_and_each_head_its_own_gradient(make, solver, given, vectorize):
    net, inputs = make()
    shared, heads = parts(net)
    answer = expected(net.losses(inputs), shared, heads, solver)
    direction = backward(
        net.losses(inputs),
        net.trunk.parameters(),
        solver=solver,
        heads=[head.parameters() for head in net.heads] if given else None,
        vectorize=vectorize,
    )
    assert_gradients(net, answer)
    joined = torch.cat([p.grad.flatten() for p in shared])
    torch.testing.assert_close(direction.vector, joined)


def test_backward_with_the_mean_is_the_backward_of_the_mean():
    net, inputs = convnet()
    backward(net.losses(inputs), net.trunk.parameters(), solver=LinearScalarization())
    found = gradients(net)
    (sum(net.losses(inputs)) / 3).backward()
    for name, p in net.named_parameters():
        scale = 1.0 if name.startswith("trunk") else 3.0  # a head gets its own loss in full
        torch.testing.assert_close(found[name], scale * p.grad)


def test_directions_add_up_until_gradients_are_zeroed():
    net, inputs = mlp()
    backward(net.losses(inputs), net.trunk.parameters(), solver=MGDA())
    once = {name: p.grad.clone() for name, p in net.named_parameters()}
    backward(net.losses(inputs), net.trunk.parameters(), solver=MGDA())
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, 2 * once[name])


def test_frozen_and_unreached_parameters_are_left_alone():
    net, inputs = mlp()
    net.trunk[0].bias.requires_grad_(False)
    net.heads[0].bias.requires_grad_(False)
    spare = nn.Parameter(torch.ones(2, dtype=torch.float64))
    for heads in (None, [head.parameters() for head in net.heads]):
        direction = backward(
            net.losses(inputs), [*net.trunk.parameters(), spare], solver=MGDA(), heads=heads
        )
        assert spare.grad is None
        assert net.trunk[0].bias.grad is None
        assert net.heads[0].bias.grad is None
        assert net.heads[0].weight.grad is not None
        assert direction.vector.shape == (20 + 15 + 3 + 2,)
        assert direction.vector[-2:].tolist() == [0, 0]


@pytest.mark.parametrize("vectorize", [True, False])
def test_a_loss_that_misses_a_shared_parameter_has_zeros_there(vectorize):
    a, b, c = (torch.ones(1, requires_grad=True) for _ in range(3))
    solver = Watched(LinearScalarization())
    losses = [a.sum(), (a * b).sum(), 5 * c.sum()]  # the last one misses both shared ones
    direction = backward(losses, [a, b], solver=solver, vectorize=vectorize)
    rows = [[0.0 if g is None else g.item() for g in row] for row in solver.seen[0][0]]
    assert rows == [[1, 0], [1, 1], [0, 0]]
    torch.testing.assert_close(direction.vector, torch.tensor([2 / 3, 1 / 3]))
    assert c.grad.item() == 5


def test_a_loss_that_reaches_no_shared_parameter_makes_mgda_stand_still():
    a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    backward([a.sum(), 3 * b.sum()], [a], solver=MGDA())
    assert (a.grad.item(), b.grad.item()) == (0, 3)


def test_a_module_used_twice_counts_twice():
    net, inputs = mlp()

    def losses():
        features = net.trunk(inputs) * net.trunk(-inputs)
        return [head(features).square().mean() for head in net.heads]

    answer = expected(losses(), *parts(net), UPGrad())
    backward(losses(), net.trunk.parameters(), solver=UPGrad())
    assert_gradients(net, answer)


def test_parameters_of_several_dtypes_get_gradients_of_theirs():
    wide = torch.ones(2, dtype=torch.float64, requires_grad=True)
    narrow = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    losses = [wide.sum() + narrow.sum(), 3 * wide.sum() + narrow.double().sum()]
    direction = backward(losses, [narrow, wide], solver=UPGrad())
    assert direction.vector.dtype == torch.float64
    assert (wide.grad.dtype, narrow.grad.dtype) == (torch.float64, torch.bfloat16)
    assert wide.grad.tolist() == [2, 2]
    assert narrow.grad.tolist() == [1, 1, 1]


def test_gradients_have_the_layout_of_their_parameters():
    net, inputs = convnet()
    net.to(memory_format=torch.channels_last)
    answer = expected(net.losses(inputs), *parts(net), UPGrad())
    backward(net.losses(inputs), net.trunk.parameters(), solver=UPGrad())
    assert_gradients(net, answer)
    for p in net.parameters():
        assert p.grad.stride() == p.stride()


@pytest.mark.parametrize("solver", [MGDA(), LinearScalarization()], ids=type)
def test_sparse_gradients_are_filled_in(solver):
    table = nn.Embedding(5, 2, sparse=True).double()
    head = nn.Embedding(5, 2, sparse=True).double()
    index = torch.tensor([1, 3])
    losses = [table(index).sum(), table(index).square().sum() + head(index).sum()]
    backward(losses, table.parameters(), solver=solver)
    assert table.weight.grad[[0, 2, 4]].abs().max() == 0
    assert table.weight.grad[1].abs().min() > 0
    assert head.weight.grad.tolist() == [[0, 0], [1, 1], [0, 0], [1, 1], [0, 0]]


def test_checkpointed_activations_are_recomputed():
    net, inputs = mlp()
    answer = expected(net.losses(inputs), *parts(net), MGDA())
    features = checkpoint(net.trunk, inputs, use_reentrant=False)
    losses = [(head(features) - i).square().mean() for i, head in enumerate(net.heads)]
    backward(losses, net.trunk.parameters(), solver=MGDA())
    assert_gradients(net, answer)


def test_clipping_comes_after_and_spares_the_direction():
    net, inputs = mlp()
    direction = backward(net.losses(inputs), net.trunk.parameters(), solver=MGDA())
    before = direction.vector.clone()
    nn.utils.clip_grad_norm_(net.trunk.parameters(), 1e-3)
    found = torch.cat([p.grad.flatten() for p in net.trunk.parameters()])
    assert found.norm().item() == pytest.approx(1e-3, rel=1e-2)
    torch.testing.assert_close(direction.vector, before, rtol=0, atol=0)


def test_two_tasks_are_trained():
    net, inputs = mlp()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    before = [loss.item() for loss in net.losses(inputs)]
    for _ in range(30):
        optimizer.zero_grad()
        backward(net.losses(inputs), net.trunk.parameters(), solver=UPGrad())
        optimizer.step()
    assert all(a.item() < b for a, b in zip(net.losses(inputs), before, strict=True))


# the graph


@pytest.mark.parametrize("solver", [MGDA(), LinearScalarization()], ids=type)
def test_the_graph_is_kept_on_request_only(solver):
    net, inputs = mlp()
    losses, shared = net.losses(inputs), list(net.trunk.parameters())
    backward(losses, shared, solver=solver, retain_graph=True)
    once = gradients(net)
    backward(losses, shared, solver=solver)
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(gradient, once[name])
    with pytest.raises(RuntimeError, match="second time"):
        backward(losses, shared, solver=solver)


class Opaque(torch.autograd.Function):
    """A square of which vmap knows nothing, as written by many users."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(2 * x.numpy() * gradient.numpy())


def test_where_vmap_fails_the_losses_are_differentiated_in_turn():
    net, inputs = mlp()
    net.trunk.append(nn.Identity())
    net.trunk[-1].forward = Opaque.apply
    answer = expected(net.losses(inputs), *parts(net), UPGrad())
    with pytest.warns(UserWarning, match="vmap cannot differentiate this network.*vectorize=False"):
        backward(net.losses(inputs), net.trunk.parameters(), solver=UPGrad(), vectorize=True)
    assert_gradients(net, answer)


# what the solver is given


def test_rows_reach_the_solver_unjoined_with_none_for_what_is_missed():
    net, inputs = mlp()
    solver = Watched(MGDA())
    losses = net.losses(inputs)
    losses[1] = net.heads[1](net.trunk[2](torch.ones(1, 5).double())).square().sum()
    direction = backward(losses, net.trunk.parameters(), solver=solver, state="before")
    rows, values, state = solver.seen[0]
    shapes = [[None if g is None else tuple(g.shape) for g in row] for row in rows]
    assert shapes == [[(5, 4), (5,), (3, 5), (3,)], [None, None, (3, 5), (3,)]]
    torch.testing.assert_close(values, torch.stack(losses).detach())
    assert state == "before"
    assert direction.state == "before"


def test_a_solver_by_values_costs_one_pass():
    net, inputs = mlp(m=4)
    passes = []
    features = net.trunk(inputs)
    features.register_hook(lambda g: passes.append(g.shape))
    losses = [head(features).square().mean() for head in net.heads]
    direction = backward(losses, net.trunk.parameters(), solver=LinearScalarization())
    assert len(passes) == 1
    assert direction.certificate.smallest_cosine.isnan()
    assert direction.weights.tolist() == [0.25] * 4


@pytest.mark.parametrize("wrap", [lambda s: s, MovingAverage, lambda s: Weighted(QUARTERS, s)])
def test_between_two_steps_of_its_solver_a_step_costs_one_pass(wrap):
    net, inputs = mlp(m=4)
    solver = wrap(EveryKSteps(MGDA(), k=2))
    state, passes = None, []
    for _ in range(5):
        passes.append(0)
        features = net.trunk(inputs)
        features.register_hook(lambda g: passes.append(passes.pop() + 1))
        losses = [head(features).square().mean() for head in net.heads]
        direction = backward(losses, net.trunk.parameters(), solver=solver, state=state)
        state = direction.state
    assert passes == [4, 1, 4, 1, 4]


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearScalarization(torch.tensor([0.2, 0.3, 0.5])),
        lambda: RandomWeights(torch.Generator().manual_seed(0)),
        Tchebycheff,
        lambda: SmoothTchebycheff(torch.tensor([0.2, 0.3, 0.5])),
        UncertaintyWeighting,
        DynamicWeightAverage,
        FAMO,
        IMTLL,
    ],
)
def test_a_solver_by_values_gives_in_one_pass_what_it_gives_on_rows(make):
    net, inputs = convnet()
    found = []
    for solver in (make(), Watched(make())):  # watched, it does not say that values are enough
        state = None
        for step in range(2):
            losses = [(1 + step) * loss for loss in net.losses(inputs)]
            net.zero_grad()
            direction = backward(losses, net.trunk.parameters(), solver=solver, state=state)
            state = direction.state
        found.append((gradients(net), direction.vector, direction.weights))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("solver", [MGDA(), UPGrad(), LinearScalarization()], ids=type)
def test_one_loss_gets_what_its_own_backward_gives(solver):
    net, inputs = mlp(m=1)
    backward(net.losses(inputs), net.trunk.parameters(), solver=solver)
    found = gradients(net)
    net.losses(inputs)[0].backward()
    torch.testing.assert_close(found, gradients(net))


def test_heads_get_their_own_gradient_whatever_the_weights():
    net, inputs = mlp(m=5)
    shared, heads = parts(net)
    weights = (0.0, 1e-12, 1.5, -3.0, 1e9)
    direction = backward(net.losses(inputs), shared, solver=Fixed(*weights), state=4)
    found = gradients(net)
    answer = expected(net.losses(inputs), shared, heads, LinearScalarization())
    for i, head in enumerate(net.heads):
        for name, p in head.named_parameters():
            torch.testing.assert_close(
                found[f"heads.{i}.{name}"], answer[id(p)], rtol=1e-12, atol=0
            )
    sum(w * loss for w, loss in zip(weights, net.losses(inputs), strict=True)).backward()
    for name, p in net.trunk.named_parameters():
        torch.testing.assert_close(found[f"trunk.{name}"], p.grad)
    assert direction.state == 5


def test_all_weights_may_be_zero():
    net, inputs = mlp()
    direction = backward(net.losses(inputs), net.trunk.parameters(), solver=Fixed(0.0, 0.0))
    assert direction.vector.abs().max() == 0
    assert net.trunk[0].weight.grad is None
    assert net.heads[0].weight.grad.abs().max() > 0


def test_autocast_does_not_reach_into_the_solver():
    net, inputs = mlp()
    net.float()
    inputs = inputs.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = net.losses(inputs)
        shared, heads = parts(net)
        backward(losses, shared, solver=UPGrad(), heads=heads, retain_graph=True)
    found = gradients(net)
    backward(losses, shared, solver=UPGrad(), heads=heads)
    for name, p in net.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=0, atol=0)


# micro-batches


def test_surgery_on_the_sum_is_surgery_on_the_whole_batch():
    net, inputs = mlp()
    shared, heads = parts(net)
    answer = expected(net.losses(inputs), shared, heads, UPGrad())
    collected = TaskGradients(shared)
    for part in inputs.split(2):
        collected.add([loss / 3 for loss in net.losses(part)])
    torch.testing.assert_close(collected.values, torch.stack(net.losses(inputs)).detach())
    collected.resolve(UPGrad())
    assert_gradients(net, answer)
    assert collected.rows == []


def test_a_micro_batch_may_miss_what_another_one_reaches():
    a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    collected = TaskGradients([a, b])
    collected.add([a.sum(), b.sum()])
    collected.add([b.sum(), b.sum()])
    assert [[None if g is None else g.item() for g in row] for row in collected.rows] == [
        [1, 1],
        [None, 2],
    ]


def test_summing_spares_what_autograd_shares():
    # The gradients of a and b are one tensor; so are those of the two losses.
    a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
    collected = TaskGradients([a, b])
    for _ in range(3):
        joint = (a + b).sum()
        collected.add([joint, joint])
    collected.resolve(UPGrad())
    assert a.grad.tolist() == b.grad.tolist() == [3, 3]
    a.grad.zero_()
    assert b.grad.tolist() == [3, 3]


def test_resolving_twice_is_refused():
    collected = TaskGradients([torch.ones(1, requires_grad=True)])
    with pytest.raises(ValueError, match="no gradients to resolve: add losses first"):
        collected.resolve(MGDA())


def test_another_number_of_losses_is_refused():
    a = torch.ones(1, requires_grad=True)
    collected = TaskGradients([a])
    collected.add([a.sum(), a.sum()])
    with pytest.raises(ValueError, match="the same m losses, got 2 and then 1"):
        collected.add([a.sum()])


# what is refused


def test_unlisted_parameter_that_two_losses_reach_is_refused():
    net, inputs = mlp(m=3)
    with pytest.raises(ValueError, match=r"losses 0 and 1 both reach a parameter of shape \(5,\)"):
        backward(
            net.losses(inputs), [net.trunk[0].weight, *net.trunk[2].parameters()], solver=MGDA()
        )
    with pytest.raises(
        ValueError, match=r"losses 1 and 2 both reach a parameter of shape \(3, 4\)"
    ):
        odd = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
        losses = net.losses(inputs)
        backward(
            [losses[0], losses[1] + odd.sum(), losses[2] * odd.sum()],
            net.trunk.parameters(),
            solver=MGDA(),
        )
    assert all(p.grad is None for p in net.parameters())


def test_with_heads_given_what_is_unlisted_is_left_alone():
    net, inputs = mlp()
    _, heads = parts(net)
    backward(net.losses(inputs), net.trunk[2].parameters(), solver=MGDA(), heads=heads)
    assert net.trunk[0].weight.grad is None
    assert net.trunk[2].weight.grad is not None


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (lambda s, h: h[:1], "one collection per loss, got 1 for 2 losses"),
        (lambda s, h: [h[0], h[0]], r"got one of shape \(1, 3\) in heads\[0\] and in heads\[1\]"),
        (lambda s, h: [h[0], s], r"got one of shape \(5, 4\) in shared and in heads\[1\]"),
        (lambda s, h: [h[0], [2 * h[1][0]]], r"heads\[1\]\[0\] must be a leaf"),
    ],
)
@pytest.mark.parametrize("solver", [MGDA(), LinearScalarization()], ids=type)
def test_heads_that_do_not_fit_are_refused(heads, message, solver):
    net, inputs = mlp()
    with pytest.raises(ValueError, match=message):
        backward(
            net.losses(inputs), net.trunk.parameters(), solver=solver, heads=heads(*parts(net))
        )
    assert all(p.grad is None for p in net.parameters())


def test_heads_that_were_used_up_in_the_step_before_are_refused():
    net = Net(nn.Linear(3, 2).double(), 2, 2)
    heads = [head.parameters() for head in net.heads]

    def step():
        features = net.trunk(torch.ones(1, 3).double())
        losses = [head(features).square().sum() for head in net.heads]
        backward(losses, net.trunk.parameters(), solver=UPGrad(), heads=heads)

    step()
    before = [p.grad.clone() for p in net.parameters()]
    with pytest.raises(ValueError, match=r"heads\[0\] is an iterator that yields nothing"):
        step()
    assert all(p.grad.equal(g) for p, g in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize("solver", [MGDA(), LinearScalarization()], ids=type)
def test_what_cannot_be_differentiated_is_refused(solver):
    net, inputs = mlp()
    trunk, losses = list(net.trunk.parameters()), net.losses(inputs)
    with pytest.raises(ValueError, match="at least one loss, got none"):
        backward([], trunk, solver=solver)
    with pytest.raises(ValueError, match="at least one parameter that requires grad, got none"):
        backward(losses, [], solver=solver)
    with pytest.raises(ValueError, match="loss 1 has no graph"):
        backward([losses[0], torch.tensor(1.0)], trunk, solver=solver)
    with pytest.raises(ValueError, match=r"loss 0 must have shape \(\), got \(2,\)"):
        backward([torch.ones(2, requires_grad=True) * 2], trunk, solver=solver)
    with pytest.raises(TypeError, match=r"loss 0 must be a torch.Tensor, got float"):
        backward([1.0], trunk, solver=solver)
    with pytest.raises(TypeError, match=r"shared must be several parameters, got one tensor"):
        backward(losses, trunk[0], solver=solver)
    with pytest.raises(TypeError, match=r"shared\[0\] must be a torch.Tensor, got str"):
        backward(losses, ["trunk"], solver=solver)
    with pytest.raises(ValueError, match="none of 2 losses reaches a shared parameter"):
        backward(losses, [torch.ones(2, requires_grad=True)], solver=solver, heads=parts(net)[1])
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("solver", [MGDA(), UPGrad(), LinearScalarization()], ids=type)
def test_gradients_that_are_not_finite_are_refused_and_nothing_is_written(solver):
    net, inputs = mlp()
    losses = net.losses(inputs)
    losses[1] = losses[1] + (0 * net.trunk[2].bias[0]).sqrt()  # finite, with a slope of infinity
    with pytest.raises(ValueError, match="must be finite"):
        backward(losses, net.trunk.parameters(), solver=solver)
    assert all(p.grad is None for p in net.parameters())


def test_a_plain_function_is_a_solver():
    net, inputs = mlp()

    def first(jacobian, values=None, state=None):
        direction = MGDA()(jacobian, values)
        row = torch.cat([g.flatten() for g in jacobian[0]])
        return Direction(row, None, direction.certificate)

    backward(net.losses(inputs), net.trunk.parameters(), solver=first)
    found = gradients(net)
    net.losses(inputs)[0].backward()
    torch.testing.assert_close(found["trunk.0.weight"], net.trunk[0].weight.grad)
