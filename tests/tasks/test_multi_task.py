"""Several heads: the gradients of a step are those of `paretonas.backward` with explicit heads."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas import backward, solvers
from paretonas.nn import Linear, NetworkSpace, OneOf, Width
from paretonas.tasks import Head, MultiTask, metrics
from paretonas.tasks.task import OutputError
from paretonas.training import Recipe, Updates

torch.manual_seed(0)
INPUTS, KINDS, SIZES = torch.randn(24, 4), torch.arange(24) % 3, torch.randn(24)
EXAMPLES = (INPUTS, {"kind": KINDS, "size": SIZES})
HEADS = {
    "kind": Head(functional.cross_entropy, metrics.error()),
    "size": Head(lambda out, y: 9 * functional.mse_loss(out[:, 0], y), metrics.rmse()),
}


def task_of(solver, heads=HEADS, examples=EXAMPLES):
    return MultiTask(examples, examples, examples, heads=heads, solver=solver)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(4, 5)
        self.kind, self.size = nn.Linear(5, 3), nn.Linear(5, 1)

    def forward(self, x):
        x = self.trunk(x).tanh()
        return {"kind": self.kind(x), "size": self.size(x)}


class Paths(nn.Module):
    """Two trunks to choose from, of which one step sees only one."""

    def __init__(self):
        super().__init__()
        self.width = Width(3, 5)
        self.trunk = OneOf({"one": Linear(4, self.width), "other": Linear(4, self.width)})
        self.kind, self.size = Linear(self.width, 3), Linear(self.width, 1)

    def forward(self, x):
        x = self.trunk(x).tanh()
        return {"kind": self.kind(x), "size": self.size(x)}


def network(kind=Net, seed=1):
    torch.manual_seed(seed)
    return kind()


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


def by_hand(model, solver, state=None, scaler=None):
    """The gradients of `paretonas.backward`, told which parameters are shared."""
    output = model(INPUTS)
    losses = [head.loss(output[name], EXAMPLES[1][name]) for name, head in HEADS.items()]
    return backward(
        losses,
        model.trunk.parameters(),
        heads=[model.kind, model.size],
        solver=solver,
        state=state,
        scaler=scaler,
    )


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert (value is None) == (other[name] is None), name
        assert value is None or torch.equal(value, other[name]), name


# --- one step -----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [solvers.UPGrad(), solvers.MGDA(), solvers.FAMO()])
def test_a_step_leaves_the_gradients_of_backward_with_explicit_heads(solver):
    model, other = network(), network()
    total, _ = task_of(solver).backward(model, EXAMPLES)
    by_hand(other, solver)
    assert_equal(gradients(model), gradients(other))
    assert not total.requires_grad
    torch.testing.assert_close(total, task_of(None).loss(model, EXAMPLES).detach())


@pytest.mark.parametrize("outputs", ["dict", "tuple"])
def test_without_a_solver_it_is_the_gradient_of_the_sum(outputs):
    class Tuple(Net):
        def forward(self, x):
            return tuple(super().forward(x).values())

    model, other = network(Net if outputs == "dict" else Tuple), network()
    task_of(None).backward(model, EXAMPLES)
    output = other(INPUTS)
    sum(head.loss(output[name], EXAMPLES[1][name]) for name, head in HEADS.items()).backward()
    assert_equal(gradients(model), gradients(other))


@pytest.mark.parametrize("frozen", ["the trunk", "nothing"])
def test_losses_that_share_no_parameter_have_no_conflict(frozen):
    class Apart(Net):
        def forward(self, x):
            return {"kind": self.kind(self.trunk(x)), "size": x[:, :1] * self.size.bias}

    model = network() if frozen == "the trunk" else network(Apart)
    other = copy.deepcopy(model)
    for one in (model, other):
        one.trunk.requires_grad_(frozen != "the trunk")
    task_of("UPGrad").backward(model, EXAMPLES)
    task_of(None).backward(other, EXAMPLES)
    assert_equal(gradients(model), gradients(other))


def test_a_solver_is_found_by_its_name_however_it_is_spelled():
    for name in ("UPGrad", "upgrad", "smooth_tchebycheff", "aligned-mtl"):
        found = type(task_of(name).solver).__name__
        assert found.casefold() == name.replace("_", "").replace("-", "").casefold()


# --- a training ---------------------------------------------------------------------------------


def trained(task, recipe, model, *, steps=6, pause=None):
    """Steps of a training; at `pause` it goes on from a file, in new objects."""
    updates = Updates(model, task, recipe, steps)
    for step in range(steps):
        if step == pause:
            file = io.BytesIO()
            torch.save({"weights": model.state_dict(), "updates": updates.state()}, file)
            saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
            model = network(seed=7)
            model.load_state_dict(saved["weights"])
            updates = Updates(model, task, recipe, steps)
            updates.resume(saved["updates"])
        updates.step(EXAMPLES)
    return model.state_dict()


SGD = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.05), "schedule": None}


@pytest.mark.parametrize("solver", [solvers.MovingAverage(solvers.UPGrad()), solvers.NashMTL()])
def test_the_memory_of_a_solver_is_kept_over_the_steps_and_in_a_checkpoint(solver):
    other, state = network(), None
    optimizer = torch.optim.SGD(other.parameters(), lr=0.05)
    for _ in range(6):
        optimizer.zero_grad()
        state = by_hand(other, solver, state).state
        optimizer.step()
    for pause in (None, 3):
        assert_equal(
            trained(task_of(solver), Recipe(**SGD), network(), pause=pause), other.state_dict()
        )


def test_a_scaled_loss_gives_the_same_steps():
    """The scale is a power of two, so that scaling is exact."""
    model, other = network(), network()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    task_of("MGDA").backward(model, EXAMPLES, None, scaler)
    task_of("MGDA").backward(other, EXAMPLES)
    assert_equal(gradients(model), {n: g * 2**10 for n, g in gradients(other).items()})


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("solver", ["UPGrad", None])
def test_it_trains_in_lower_precision(precision, solver):
    small = {  # so that fp16 does not overflow, and skip a step
        name: Head(lambda *both, head=head: head.loss(*both) / 20, head.metric)
        for name, head in HEADS.items()
    }
    low, full = (
        trained(task_of(solver, small), Recipe(**SGD, precision=kind), network())
        for kind in (precision, "float32")
    )
    for name, value in low.items():
        torch.testing.assert_close(value, full[name], rtol=0, atol=2e-3)
    assert any(not torch.equal(low[name], full[name]) for name in low)


def test_paths_that_reach_other_parameters_share_one_memory():
    """What a path does not reach has no gradient, and counts as 0 in the memory of the solver."""
    task = task_of(solvers.MovingAverage(solvers.UPGrad()))
    supernet = NetworkSpace("paths", lambda: network(Paths), task).supernet()
    twin, state, memory = copy.deepcopy(supernet), None, None
    for trunk, width in (("one", "5"), ("other", "3"), ("one", "3")):
        supernet.zero_grad()
        twin.zero_grad()
        with supernet.path({"trunk": trunk, "width": width}) as path:
            _, memory = task.backward(path, EXAMPLES, memory)
        with twin.path({"trunk": trunk, "width": width}) as path:
            state = by_hand(path, task.solver, state).state
        found = gradients(supernet.network)
        assert_equal(found, gradients(twin.network))
        unused = {name for name, gradient in found.items() if gradient is None}
        assert unused == {
            name for name in found if f"trunk.options.{trunk}." not in name and "trunk" in name
        }


# --- what is refused ----------------------------------------------------------------------------


class Lacking(Net):
    def forward(self, x):
        return {"kind": super().forward(x)["kind"], "sizes": x}


class Plain(Net):
    def forward(self, x):
        return super().forward(x)["kind"]


class Three(Net):
    def forward(self, x):
        return (x, x, x)


@pytest.mark.parametrize(
    ("kind", "found"),
    [(Lacking, "a dict with kind, sizes"), (Plain, "Tensor"), (Three, "tuple of 3")],
)
def test_outputs_that_do_not_fit_the_heads_are_named(kind, found):
    message = f"outputs must be a dict with the heads kind, size, or .* order, got {found}"
    for use in (task_of("UPGrad").backward, lambda m, _: task_of(None).evaluate(m, "valid")):
        with pytest.raises(OutputError, match=message):
            use(network(kind), EXAMPLES)


def test_targets_that_do_not_fit_the_heads_are_named():
    batch = (INPUTS, {"kind": KINDS, "sizes": SIZES})
    with pytest.raises(OutputError, match="the targets must be .* got a dict with kind, sizes"):
        task_of(None).loss(network(), batch)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda out, y: functional.mse_loss(out[:, 0], y, reduction="none"),
            r"loss of head 'size' must be one number, a tensor, got \(24,\)",
        ),
        (lambda out, y: float(y.sum()), "loss of head 'size' must be one number, .* got float"),
        (lambda out, y: y.mean(), "loss of head 'size' depends on nothing that is trained"),
    ],
)
@pytest.mark.parametrize("solver", ["UPGrad", None])
def test_a_loss_that_cannot_be_differentiated_is_named(loss, message, solver):
    task = task_of(solver, HEADS | {"size": Head(loss, metrics.rmse())})
    with pytest.raises((TypeError, ValueError), match=message):
        task.backward(network(), EXAMPLES)


@pytest.mark.parametrize(
    ("heads", "solver", "message"),
    [
        ({"kind": HEADS["kind"]}, None, r"at least two heads, got \['kind'\]"),
        (HEADS | {"third": functional.mse_loss}, None, "'third' must be a Head"),
        (HEADS | {"third": HEADS["size"]}, None, "a name of its own, got .*rmse.*rmse"),
        (HEADS, "UPGrid", "no solver is called 'UPGrid'; did you mean 'UPGrad'"),
        (HEADS, "Weighted", "no solver is called 'Weighted'"),
        (HEADS, "Direction", "no solver is called 'Direction'"),
        (HEADS, solvers.UPGrad, "must be an object, such as UPGrad"),
    ],
)
def test_heads_and_solvers_that_make_no_task_are_refused(heads, solver, message):
    with pytest.raises((TypeError, ValueError), match=message):
        task_of(solver, heads)
