"""What a network with choices promises: one path, a mixture, and a path taken out of it."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from paretonas.data import Data, Split
from paretonas.metric import Metric
from paretonas.nn import (
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    Depth,
    Linear,
    NetworkSpace,
    OneOf,
    Supernet,
    Width,
)
from paretonas.space import Architecture, draw, encode, every
from paretonas.tasks import Classification, Task
from search_spaces import digits, signals, toy

SHAPES = {"toy": (1, 8, 8), "digits": (1, 28, 28), "signals": (1, 40), "nested": (1, 6)}


class Nested(nn.Module):
    """Choices inside options and inside blocks, a shared width, and torch's own layers beside."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 3, 5)
        self.stem = nn.Sequential(Conv1d(1, self.width, 3, padding=1), BatchNorm1d(self.width))
        self.op = OneOf(
            {
                "skip": nn.Identity(),
                "deep": Depth(
                    [
                        OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()}),
                        Conv1d(self.width, self.width, 3, padding=1, groups=self.width),
                        OneOf({"conv": Conv1d(self.width, self.width, 1), "skip": nn.Identity()}),
                    ]
                ),
            }
        )
        self.project = Conv1d(self.width, 4, 1, bias=False)
        self.norm = nn.BatchNorm1d(4)
        self.head = Linear(4, 3)

    def forward(self, x):
        return self.head(self.norm(self.project(self.op(self.stem(x)))).mean(dim=2))


def supernets() -> dict[str, Callable[[], Supernet]]:
    spaces = {"toy": toy.space, "digits": digits.space, "signals": signals.space}
    return {name: space.supernet for name, space in spaces.items()} | {
        "nested": lambda: seeded(Nested)
    }


def seeded(network: type[nn.Module]) -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Supernet(network())


def some_architectures(supernet: Supernet, at_most: int = 20) -> list[Architecture]:
    """All of a small space, some drawn from a large one."""
    rng = Random(0)
    first = [a for a, _ in zip(every(supernet.choices), range(at_most + 1), strict=False)]
    if len(first) <= at_most:
        return first
    return [draw(supernet.choices, rng) for _ in range(at_most)]


def one_hot_gates(supernet: Supernet, architecture: Architecture) -> list[torch.Tensor]:
    picks = encode(supernet.choices, architecture)
    return [
        torch.eye(len(choice.options))[pick]
        for choice, pick in zip(supernet.choices, picks, strict=True)
    ]


@pytest.fixture(params=supernets(), scope="module")
def case(request) -> tuple[Supernet, torch.Tensor]:
    shape = SHAPES[request.param]
    inputs = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))
    return supernets()[request.param](), inputs


def test_the_extracted_network_computes_what_its_path_in_the_supernet_does(case):
    supernet, inputs = case
    for architecture in some_architectures(supernet):
        plain = supernet.extract(architecture).train()
        torch.testing.assert_close(plain(inputs), supernet(inputs, architecture))


def test_one_hot_gates_are_a_single_path(case):
    supernet, inputs = case
    for architecture in some_architectures(supernet, at_most=10):
        mixture = supernet(inputs, one_hot_gates(supernet, architecture))
        path = supernet(inputs, architecture)
        torch.testing.assert_close(mixture, path, rtol=1e-4, atol=1e-5)


def test_the_extracted_network_knows_nothing_of_us(case):
    supernet, _ = case
    for architecture in some_architectures(supernet, at_most=5):
        plain = supernet.extract(architecture)
        for name, module in plain.named_modules():
            assert not type(module).__module__.startswith("paretonas"), name
            assert not any(isinstance(value, Width) for value in vars(module).values()), name


def test_the_extracted_network_shares_no_memory_and_counts_no_batches(case):
    supernet, inputs = case
    before = copy.deepcopy(supernet.state_dict())
    architecture = some_architectures(supernet, at_most=5)[-1]
    plain = supernet.extract(architecture)
    for module in plain.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.num_batches_tracked == 0
            assert not module.running_mean.any()
    plain(inputs).sum().backward()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.fill_(7.0)
    after = supernet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in supernet.parameters())


def test_the_extracted_network_has_only_the_parameters_that_it_uses(case):
    supernet, inputs = case
    for architecture in some_architectures(supernet, at_most=5):
        plain = supernet.extract(architecture)
        plain.train()(inputs).square().sum().backward()
        unused = [name for name, p in plain.named_parameters() if p.grad is None]
        assert not unused


def test_the_supernet_keeps_no_picks_between_calls(case):
    supernet, inputs = case
    with pytest.raises(RuntimeError, match="has no pick yet"):
        supernet.network(inputs)


def test_one_path_reaches_its_own_weights_only():
    supernet = toy.space.supernet()
    inputs = torch.randn(4, 1, 8, 8)
    supernet(inputs, {"width": "4", "mix": "skip", "deep": "0"}).sum().backward()
    reached = {name for name, p in supernet.named_parameters() if p.grad is not None}
    assert reached == {
        "network.stem.0.weight",
        "network.stem.0.bias",
        "network.head.weight",
        "network.head.bias",
    }
    weight = supernet.network.stem[0].weight
    assert weight.grad[:4].any()
    assert not weight.grad[4:].any()


def test_a_mixture_gives_every_gate_a_gradient():
    supernet = seeded(Nested)
    gates = [torch.full((len(c.options),), 1 / len(c.options)) for c in supernet.choices]
    for gate in gates:
        gate.requires_grad_()
    supernet(torch.randn(3, 1, 6), gates).square().sum().backward()
    assert all(gate.grad is not None and gate.grad.abs().sum() > 0 for gate in gates)


def test_a_mixture_of_outputs_is_weighted_by_its_gates():
    supernet = Supernet(OneOfTwo())
    x = torch.tensor([[2.0]])
    assert supernet(x, [torch.tensor([0.25, 0.75])]).item() == pytest.approx(0.25 * 2 - 0.75 * 2)


class OneOfTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.op = OneOf({"same": nn.Identity(), "minus": Minus()})

    def forward(self, x):
        return self.op(x)


class Minus(nn.Module):
    def forward(self, x):
        return -x


def test_the_gates_of_a_width_weigh_each_channel_by_the_chance_that_it_exists():
    width = Width(1, 2, 4)
    width.gate = torch.tensor([0.5, 0.3, 0.2])
    masked = width.mask(torch.ones(1, 4), axis=1)
    torch.testing.assert_close(masked, torch.tensor([[1.0, 0.5, 0.2, 0.2]]))


def test_choices_are_named_by_their_path_outer_ones_first():
    names = [choice.name for choice in Supernet(Nested()).choices]
    assert names == [
        "width",
        "op",
        "op.options.deep",
        *(f"op.options.deep.blocks.{i}" for i in (0, 2)),
    ]


def test_canonical_sets_what_is_never_reached_to_the_first_option():
    supernet = Supernet(Nested())
    deep, first, third = (
        "op.options.deep",
        "op.options.deep.blocks.0",
        "op.options.deep.blocks.2",
    )
    skipped = {"width": "3", "op": "skip", deep: "3", first: "tanh", third: "skip"}
    assert supernet.canonical(skipped) == skipped | {deep: "1", first: "relu", third: "conv"}
    shallow = {"width": "3", "op": "deep", deep: "1", first: "tanh", third: "skip"}
    assert supernet.canonical(shallow) == shallow | {third: "conv"}
    full = {"width": "3", "op": "deep", deep: "3", first: "tanh", third: "skip"}
    assert supernet.canonical(full) == full


def test_canonical_changes_neither_the_function_nor_a_second_time():
    supernet = seeded(Nested)
    inputs = torch.randn(4, 1, 6)
    groups: dict[Architecture, torch.Tensor] = {}
    for architecture in every(supernet.choices):
        canonical = supernet.canonical(architecture)
        assert supernet.canonical(canonical) == canonical
        output = supernet(inputs, architecture)
        assert torch.equal(groups.setdefault(canonical, output), output)
    assert len(groups) == 3 * (1 + 2 + 2 + 4)  # skip; one block, two blocks, three blocks


def test_torchs_own_batch_norm_uses_the_batch_in_the_supernet_and_tracks_again_outside():
    supernet = seeded(Nested)
    inputs = torch.randn(16, 1, 6)
    architecture = some_architectures(supernet, 1)[0]
    trained = supernet.train()(inputs, architecture)
    assert torch.equal(supernet.eval()(inputs, architecture), trained)
    plain = supernet.extract(architecture).train()
    for _ in range(200):
        plain(inputs)
    torch.testing.assert_close(plain.eval()(inputs), trained, rtol=0.1, atol=0.1)


def test_no_tensor_is_made_on_another_device(case):
    supernet, inputs = copy.deepcopy(case[0]).to("meta"), case[1].to("meta")
    architecture = some_architectures(supernet, 1)[0]
    gates = [gate.to("meta") for gate in one_hot_gates(supernet, architecture)]
    assert supernet(inputs, architecture).device.type == "meta"
    assert supernet(inputs, gates).device.type == "meta"
    plain = supernet.extract(architecture)
    assert {p.device.type for p in [*plain.parameters(), *plain.buffers()]} == {"meta"}


def test_double_precision_stays():
    supernet = seeded(Nested).double()
    inputs = torch.randn(4, 1, 6, dtype=torch.float64)
    for architecture in some_architectures(supernet, 4):
        plain = supernet.extract(architecture)
        assert plain(inputs).dtype == torch.float64
        torch.testing.assert_close(plain(inputs), supernet(inputs, architecture))


ELASTIC = {
    "conv1d": (lambda a, b: Conv1d(a, b, 3, stride=2, padding=1), (9,)),
    "conv2d": (lambda a, b: Conv2d(a, b, 3, dilation=2, bias=False), (9, 9)),
    "linear": (lambda a, b: Linear(a, b), ()),
}


@pytest.mark.parametrize("name", ELASTIC)
def test_an_elastic_layer_takes_the_first_channels(name):
    layer, rest = ELASTIC[name]
    inputs, outputs = Width(2, 4), Width(3, 6)
    network = nn.Module()
    network.inputs, network.outputs, network.layer = inputs, outputs, layer(inputs, outputs)
    network.forward = lambda x: network.layer(x)
    supernet = Supernet(network)
    plain = supernet.extract({"inputs": "2", "outputs": "3"}).layer
    assert torch.equal(plain.weight, network.layer.weight[:3, :2])
    x = torch.randn(2, 2, *rest)
    torch.testing.assert_close(plain(x), supernet(x, {"inputs": "2", "outputs": "3"}))


@pytest.mark.parametrize("norm", [BatchNorm1d, BatchNorm2d])
def test_an_elastic_batch_norm_keeps_its_settings(norm):
    width = Width(2, 4)
    network = nn.Module()
    network.width, network.norm = width, norm(width, eps=1e-3, momentum=0.5, affine=False)
    plain = Supernet(network).extract({"width": "2"}).norm
    assert (plain.num_features, plain.eps, plain.momentum, plain.affine) == (2, 1e-3, 0.5, False)


def test_a_network_without_a_choice_is_no_space():
    with pytest.raises(ValueError, match="a search space needs a choice.*found none in Linear"):
        Supernet(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="needs a choice"):
        Supernet(nn.Sequential(OneOf({"only": nn.Identity()})))


def test_a_single_option_is_used_but_is_no_choice():
    supernet = Supernet(nn.Sequential(OneOf({"only": nn.ReLU()}), OneOfTwo()))
    assert [choice.name for choice in supernet.choices] == ["1.op"]
    x = torch.randn(3, 2)
    assert torch.equal(supernet(x, {"1.op": "same"}), x.relu())
    torch.testing.assert_close(supernet.extract({"1.op": "minus"})(x), -x.relu())


def test_options_of_different_shapes_are_refused_by_name():
    supernet = Supernet(nn.Sequential(OneOf({"a": nn.Linear(2, 3), "b": nn.Linear(2, 4)})))
    with pytest.raises(ValueError, match=r"one shape, got a \(5, 3\), b \(5, 4\)"):
        supernet(torch.zeros(5, 2), [torch.tensor([0.5, 0.5])])


def test_blocks_that_change_the_shape_are_refused():
    supernet = Supernet(nn.Sequential(Depth([nn.Linear(2, 3), nn.Linear(3, 2)])))
    with pytest.raises(ValueError, match="the blocks of a Depth must keep one shape"):
        supernet(torch.zeros(5, 2), [torch.tensor([0.5, 0.5])])


def test_a_width_that_is_no_attribute_is_named_after_the_first_layer_that_uses_it():
    width = Width(8, 16)
    hidden = nn.Sequential(Linear(2, width), nn.ReLU(), Linear(width, 3))
    supernet = Supernet(hidden)
    assert [(c.name, c.options) for c in supernet.choices] == [("0.out_features", ("8", "16"))]
    plain = supernet.extract({"0.out_features": "8"})
    x = torch.randn(4, 2)
    torch.testing.assert_close(plain(x), supernet(x, {"0.out_features": "8"}))
    assert plain[2].in_features == 8


@pytest.mark.parametrize("widths", [(8, 4), (4, 4), (0, 4)])
def test_widths_are_positive_and_increasing(widths):
    with pytest.raises(ValueError, match="widths must be positive and increasing"):
        Width(*widths)


@pytest.mark.parametrize(
    "make", [Width, lambda: OneOf({}), lambda: Depth([nn.ReLU(), nn.ReLU()], at_least=3)]
)
def test_something_must_be_there_to_choose(make):
    with pytest.raises(ValueError, match=r"needs at least one option|at_least must be in"):
        make()


@pytest.mark.parametrize("name", ["conv.3", "", "keys", "train"])
def test_an_option_whose_name_no_module_can_have_is_refused_where_it_is_made(name):
    with pytest.raises(ValueError, match="the options of a OneOf are modules by name") as refused:
        OneOf({"conv": nn.ReLU(), name: nn.Identity()})
    assert str(refused.value).endswith(f"got {name!r}")


@pytest.mark.parametrize("at_least", [-1, 3])
def test_a_depth_has_as_many_blocks_as_must_run(at_least):
    with pytest.raises(ValueError, match=r"at_least must be in \[0, 2\]"):
        Depth([nn.ReLU(), nn.ReLU()], at_least=at_least)


def test_groups_must_divide_at_every_pick():
    width, other = Width(4, 8), Width(4, 8)
    with pytest.raises(ValueError, match="where groups is a size, channels must be this size"):
        Conv2d(width, other, 3, groups=width)
    with pytest.raises(ValueError, match="groups must divide the channels at every pick: 3 and 4"):
        Conv2d(width, 9, 3, groups=3)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"width": "4", "mix": "skip"}, "no pick for choice 'deep'"),
        ({"width": "4", "mix": "skp", "deep": "0"}, "did you mean 'skip'"),
    ],
)
def test_a_wrong_architecture_is_refused(architecture, message):
    supernet = toy.space.supernet()
    with pytest.raises(ValueError, match=message):
        supernet.extract(architecture)
    with pytest.raises(ValueError, match=message):
        supernet(torch.zeros(1, 1, 8, 8), architecture)


def test_a_mixture_needs_gates_for_every_choice():
    with pytest.raises(ValueError, match="gates"):
        toy.space.supernet()(torch.zeros(1, 1, 8, 8), [torch.ones(2)])


def test_a_supernet_depends_on_its_seed_only():
    before = torch.get_rng_state()
    one, same, other = (toy.space.supernet(seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["network.stem.0.weight"], other["network.stem.0.weight"])


def test_a_space_reads_its_choices_off_its_network():
    part = Split(torch.zeros(2, 2), torch.tensor([0, 1]))
    space = NetworkSpace("mine", OneOfTwo, lambda: Data(part, part, part))
    assert space.choices == Supernet(OneOfTwo()).choices


def test_a_network_is_built_once_for_its_choices_and_without_a_trace():
    built = []

    def network():
        built.append(torch.rand(1))
        return OneOfTwo()

    space = NetworkSpace("mine", network, toy.space.task)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    fresh = space.supernet(3).state_dict()
    assert space.choices == space.choices == replace(space, name="other").choices
    assert len(built) == 3  # the supernet's, this space's, the other's
    assert torch.equal(torch.get_rng_state(), before)
    again = space.supernet(3).state_dict()
    assert all(torch.equal(fresh[name], again[name]) for name in fresh)
    assert space == NetworkSpace("mine", network, toy.space.task)


def test_the_choices_of_a_space_travel_with_it():
    assert toy.space.choices == pickle.loads(pickle.dumps(toy.space)).choices
    assert pickle.loads(pickle.dumps(toy.space)) == toy.space


# --- the task of a space ----------------------------------------------------------------------


PART = Split(torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2)


def labeled() -> Data:
    return Data(PART, PART, PART)


class OwnTask:
    """A task without a base class."""

    metric = Metric("mistakes")

    def example(self):
        return PART.inputs[:1]

    def batches(self, split, *, seed, epoch):
        return [(PART.inputs, PART.labels)]

    def loss(self, network, batch):
        return torch.nn.functional.cross_entropy(network(batch[0]), batch[1])

    def evaluate(self, network, split):
        return {"mistakes": float((network(PART.inputs).argmax(1) != PART.labels).sum())}


@pytest.mark.parametrize(
    ("task", "column"),
    [
        (labeled(), "error_percent"),
        (labeled, "error_percent"),
        (Classification.of(labeled()), "error_percent"),
        (lambda: Classification.of(labeled()), "error_percent"),
        (OwnTask(), "mistakes"),
        (OwnTask, "mistakes"),
        (lambda: OwnTask(), "mistakes"),
    ],
)
def test_a_space_takes_a_task_or_data_or_what_makes_one(task, column):
    loaded = NetworkSpace("mine", OneOfTwo, task).load_task()
    assert isinstance(loaded, Task)
    assert loaded.metric.column == column
    network = torch.nn.Linear(2, 2)
    wrong = int((network(PART.inputs).argmax(1) != PART.labels).sum())
    expected = wrong if column == "mistakes" else 100 * wrong / 6
    assert loaded.evaluate(network, "valid")[column] == pytest.approx(expected)


def test_a_task_is_loaded_once():
    calls = []
    space = NetworkSpace("mine", OneOfTwo, lambda: calls.append(1) or labeled())
    assert space.load_task() is space.load_task()
    assert calls == [1]


class Unfinished:
    metric = Metric("mistakes")

    def example(self):
        return PART.inputs[:1]


@pytest.mark.parametrize(
    ("task", "found"),
    [
        (3, "got 3$"),
        ("digits", "got 'digits'$"),
        ((PART.inputs, PART.labels), r"got \(tensor"),
        (lambda: None, "got None$"),
        (lambda: OwnTask, "got <class '.*OwnTask'>$"),
        (Unfinished, "got <.*Unfinished object.*>, which has no batches, loss, evaluate$"),
        (Unfinished(), "which has no batches, loss, evaluate$"),
    ],
)
def test_what_is_no_task_is_refused_in_one_line(task, found):
    told = r"the task of the space 'mine' must be a Task, .* or a paretonas.Data; .*"
    with pytest.raises(TypeError, match=told + found) as refused:
        NetworkSpace("mine", OneOfTwo, task).load_task()
    assert "\n" not in str(refused.value)


class Recomputed(nn.Module):
    """Parts that a backward pass runs again."""

    def __init__(self, part: nn.Module, use_reentrant: bool) -> None:
        super().__init__()
        self.part, self.use_reentrant = part, use_reentrant

    def forward(self, x):
        return checkpoint(self.part, x, use_reentrant=self.use_reentrant)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", ["Width", "OneOf", "Depth"])
def test_checkpointing_works_inside_a_path_and_is_refused_in_one_line_outside(
    kind, mixed, use_reentrant
):
    torch.manual_seed(0)
    width = Width(2, 4)
    part: nn.Module = {
        "Width": nn.Sequential(Linear(3, width), nn.ReLU(), Linear(width, 3)),
        "OneOf": OneOf({"a": nn.Linear(3, 3), "b": nn.Identity()}),
        "Depth": Depth([nn.Linear(3, 3), nn.Linear(3, 3)]),
    }[kind]
    network = nn.Sequential(nn.Linear(3, 3), Recomputed(part, use_reentrant))
    supernet, x = Supernet(network), torch.randn(5, 3)
    (choice,) = supernet.choices
    gates = [torch.tensor([0.25, 0.75])] if mixed else {choice.name: choice.options[0]}

    def gradients(forward):
        supernet.zero_grad()
        with supernet.path(gates):
            forward(x).square().sum().backward()
        return [p.grad for p in supernet.parameters() if p.grad is not None]

    plain = gradients(nn.Sequential(network[0], part))
    for one, other in zip(gradients(network), plain, strict=True):
        torch.testing.assert_close(one, other)
    loss = supernet(x, gates).square().sum()
    with pytest.raises(RuntimeError, match=f"this {kind} has no pick yet.* must be inside") as told:
        loss.backward()
    assert "\n" not in str(told.value)
