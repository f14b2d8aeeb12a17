"""Networks that take and give nests of tensors: choices, costs, timing and exported files."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from paretonas import Metric, NetworkSpace
from paretonas.arguments import Arguments, call, mapped, tensors
from paretonas.devices import measure_latency
from paretonas.front import Point
from paretonas.graph import network_graph, peak_memory, record
from paretonas.nn import Depth, Linear, OneOf, ShapeError, Stack, Supernet, Width
from paretonas.nn.conformance import check_space
from paretonas.objectives import Latency, Memory
from paretonas.objectives.parameters import Parameters
from paretonas.space import every

POINT = Point({"a": "b"}, {"error_percent": 1.0, "latency_ms": 1.0}, id="a01")


class Recurrent(nn.Module):
    """An LSTM or a GRU of one interface: (output, (state, state))."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(6, 6, batch_first=True)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        given = state if isinstance(self.layer, nn.LSTM) else state[0]
        y, end = self.layer(x, given)
        return y, end if isinstance(end, tuple) else (end, state[1])


class Tagger(nn.Module):
    """Token ids, and a state of (layers, batch, features); gives scores and the next state."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.cell = OneOf({"lstm": Recurrent(nn.LSTM), "gru": Recurrent(nn.GRU)})
        self.width = Width(4, 8)
        self.head = nn.Sequential(Linear(6, self.width), nn.ReLU(), Linear(self.width, 3))

    def forward(self, ids: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        y, end = self.cell(self.embed(ids), state=state)
        return self.head(y), end


class Block(nn.Module):
    """Attention with a mask of the keys (batch, length), and a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.mix = nn.Linear(6, 6)

    def forward(self, x: Tensor, scale: float, *, padding: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x, key_padding_mask=padding, need_weights=False)
        return x + scale * self.mix(x + y)


class Transformer(nn.Module):
    """Keyword arguments; a dict of outputs, one of them integer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.blocks = Depth([Block(), Block(), Block()])
        self.head = nn.Linear(6, 4)

    def forward(self, *, ids: Tensor, padding: Tensor) -> dict[str, Any]:
        x = self.blocks(self.embed(ids), 0.5, padding=padding)
        scores = self.head(x)
        return {"scores": scores, "length": (~padding).sum(1), "nothing": None}


class TwoInputs(nn.Module):
    """An image and a row of numbers; the blocks thread a tuple, and one works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = OneOf({"one": nn.Conv2d(1, 4, 1), "three": nn.Conv2d(1, 4, 3, padding=1)})
        self.both = Depth([Exchange(), Exchange()], at_least=0)
        self.head = nn.Linear(8, 2)

    def forward(self, image: Tensor, row: Tensor) -> Tensor:
        image.sub_(0.5)
        y, row = self.both((self.stem(image).mean((2, 3)), row))
        return self.head(torch.cat([y, row], 1))


class Exchange(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, both: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        one, other = both
        return self.layer(one).relu_(), other.add_(one)


class Mixed(nn.Module):
    """A positional argument with parts, and a keyword argument that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.op = OneOf({"linear": nn.Linear(5, 3), "deep": nn.Sequential(nn.Linear(5, 3))})

    def forward(self, parts: dict[str, Tensor], *, power: int) -> list[Tensor]:
        return [self.op(parts["a"]) ** power, parts["b"]]


def state(batch: int) -> tuple[Tensor, Tensor]:
    return torch.rand(1, batch, 6), torch.rand(1, batch, 6)


def padding(batch: int) -> Tensor:
    return torch.arange(5)[None] >= torch.arange(2, 2 + batch)[:, None].clamp(max=5)


def make(name: str, batch: int) -> Any:
    """Inputs of a network for a batch."""
    ids = torch.randint(0, 9, (batch, 5))
    match name:
        case "lstm":
            return (ids, state(batch))
        case "transformer":
            return {"ids": ids, "padding": padding(batch)}
        case "two":
            return [torch.rand(batch, 1, 5, 5), torch.rand(batch, 4)]
        case _:
            parts = {"a": torch.rand(batch, 5), "b": torch.rand(batch)}
            return Arguments(parts, power=2)


NETWORKS = {"lstm": Tagger, "transformer": Transformer, "two": TwoInputs, "mixed": Mixed}
named = pytest.mark.parametrize("name", NETWORKS)


def built(name: str) -> Supernet:
    torch.manual_seed(0)
    return Supernet(NETWORKS[name]()).eval()


def same(one: Any, other: Any) -> bool:
    a, b = tree_leaves(one), tree_leaves(other)
    return len(a) == len(b) and all(
        torch.allclose(x, y, atol=1e-6) if isinstance(x, Tensor) else x == y
        for x, y in zip(a, b, strict=True)
    )


@named
def test_a_path_and_a_sure_mixture_give_what_the_extracted_network_gives(name):
    supernet = built(name)
    inputs = make(name, 3)
    with torch.no_grad():
        for architecture in every(supernet.choices):
            gates = [
                torch.eye(len(c.options))[c.options.index(architecture[c.name])]
                for c in supernet.choices
            ]
            expected = call(supernet.extract(architecture), mapped(torch.clone, inputs))
            assert same(supernet(mapped(torch.clone, inputs), architecture), expected)
            assert same(supernet(mapped(torch.clone, inputs), gates), expected)


@named
def test_a_mixture_is_the_weighted_sum_with_a_gradient_for_each_gate(name):
    supernet = built(name)
    gates = [torch.full((len(c.options),), 1 / len(c.options)) for c in supernet.choices]
    gates = [gate.requires_grad_() for gate in gates]
    leaves = tensors(supernet(make(name, 2), gates))
    sum((leaf**2).sum() for leaf in leaves if leaf.is_floating_point()).backward()
    assert all(gate.grad is not None and gate.grad.isfinite().all() for gate in gates)
    assert all(gate.grad.abs().sum() > 0 for gate in gates)


def test_a_mixture_by_hand():
    class Two(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x, *, more):
            return {"y": x.mul_(self.factor), "z": [more["z"] + self.factor, more["n"]]}

    op = OneOf({"two": Two(2.0), "five": Two(5.0)})
    op.gate = torch.tensor([0.25, 0.75])
    x, more = torch.tensor([1.0, 3.0]), {"z": torch.zeros(1), "n": torch.tensor([7])}
    assert same(op(x, more=more), {"y": [x * 4.25], "z": [torch.tensor([4.25]), more["n"]]})
    assert torch.equal(x, torch.tensor([1.0, 3.0]))  # each option got a copy


def test_packed_sequences_are_mixed():
    op = OneOf({"one": nn.GRU(2, 3), "other": nn.GRU(2, 3)})
    packed = nn.utils.rnn.pack_sequence([torch.rand(4, 2), torch.rand(2, 2)])
    op.gate = torch.tensor([0.0, 1.0])
    (y, end), (expected, last) = op(packed), op.options["other"](packed)
    assert isinstance(y, nn.utils.rnn.PackedSequence)
    assert same([*y, end], [*expected, last])


class Gives(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ((torch.zeros(2), [torch.zeros(3)]), r"give one shape, got a \(\(2,\), \(3,\)\), b "),
        ((torch.zeros(2), torch.zeros(4)), r"give one shape, got .* b \(\(2,\), \(4,\)\)"),
        ((torch.zeros(2), None), r"give one shape, got .* b \(\(2,\), 'NoneType'\)"),
        ({"y": torch.zeros(2)}, r"give one shape, got .* b {'y': \(2,\)}"),
    ],
)
def test_options_of_other_nests_are_refused(other, message):
    op = OneOf({"a": Gives((torch.zeros(2), torch.zeros(3))), "b": Gives(other)})
    op.gate = torch.tensor([0.5, 0.5])
    with pytest.raises(ShapeError, match=message):
        op(torch.zeros(1))


@pytest.mark.parametrize(
    ("one", "other"), [(torch.tensor([1]), torch.tensor([2])), ("mean", "sum"), (1.0, 2.0)]
)
def test_values_that_cannot_be_mixed_must_be_equal(one, other):
    op = OneOf({"a": Gives([torch.zeros(2), one]), "b": Gives([torch.zeros(2), other])})
    op.gate = torch.tensor([0.5, 0.5])
    with pytest.raises(ShapeError, match="give the same values .* but a, b differ"):
        op(torch.zeros(1))
    op.options["b"].value = [torch.ones(2), copy.copy(one)]
    assert same(op(torch.zeros(1)), [torch.full((2,), 0.5), one])


class TestStack:
    def test_it_replaces_a_depth_only_where_blocks_take_more(self):
        supernet, plain = built("transformer"), built("two")
        assert type(supernet.extract({"blocks": "2"}).blocks) is Stack
        one = plain.extract({"stem": "one", "both": "2"}).both
        assert type(one) is nn.Sequential

    def test_its_weights_have_the_names_of_a_sequential(self):
        stack, plain = Stack(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
        assert list(stack.state_dict()) == list(plain.state_dict())
        assert stack(torch.zeros(1, 2)).shape == (1, 2)

    def test_choices_inside_blocks_count_as_their_options(self):
        inside = OneOf({"a": nn.Linear(2, 2), "b": nn.ReLU()})
        supernet = Supernet(nn.Sequential(Depth([inside, nn.ReLU()])))
        assert type(supernet.extract({"0": "1", "0.blocks.0": "a"})[0]) is nn.Sequential
        inside = OneOf({"a": Block(), "b": Block()})
        supernet = Supernet(nn.ModuleDict({"x": Depth([inside, Block()])}))
        assert type(supernet.extract({"x": "1", "x.blocks.0": "a"})["x"]) is Stack


@named
def test_tables_give_the_costs_of_each_extracted_network(name):
    supernet, example = built(name), make(name, 1)
    before = copy.deepcopy(tensors(example))
    memory, parameters = Memory.of(supernet, example), Parameters.of(supernet, example)
    for architecture in every(supernet.choices):
        network = supernet.extract(architecture)
        assert memory.exact(architecture) * 1024 == peak_memory(network_graph(network, example))
        assert parameters.exact(architecture) == sum(p.numel() for p in network.parameters())
    assert same(tensors(example), before)


@named
def test_latency_is_tabulated_and_measured(name, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    supernet, example = built(name), make(name, 1)
    before = copy.deepcopy(tensors(example))
    latency = Latency.profile(supernet, example)
    architecture = next(every(supernet.choices))
    assert latency.exact(architecture) > 0
    shapes = [list(tensor.shape) for tensor in tensors(example)]
    assert latency.table.about["input"] == shapes
    (path,) = tmp_path.rglob("latency-*.json")
    again = Latency.profile(built(name), example)
    assert [path] == list(tmp_path.rglob("latency-*.json"))
    assert again.exact(architecture) == latency.exact(architecture)
    assert measure_latency(supernet.extract(architecture), example, seconds=0.01).median_ms > 0
    assert same(tensors(example), before)


def test_node_zero_holds_all_inputs_and_every_output_stays_alive():
    class Sums(nn.Module):
        def forward(self, a, *, b):
            first = a + b["x"]
            return {"first": first, "rest": [first * 2]}

    x = torch.zeros(1, 10)
    graph = network_graph(Sums(), Arguments(x, b={"x": x.clone()}))
    assert graph.nodes[0]["allocated"] == 4 * 20
    assert peak_memory(graph) == 4 * 40
    assert [graph.nodes[n]["freed"] for n in graph] == [0, 0, 0]
    assert list(graph.edges) == [(0, 1), (1, 2)]


def test_an_example_without_a_tensor_is_refused():
    with pytest.raises(TypeError, match="must be a tensor, got dict, which is no nest of tensors"):
        record(nn.ReLU(), {"x": 1.0})


class Causal(nn.Module):
    """A mask of (length, length) that all examples share."""

    def __init__(self) -> None:
        super().__init__()
        self.act = OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()})
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        y, _ = self.attention(x, x, x, attn_mask=mask, need_weights=False)
        return {"y": self.act(y)}


def test_the_check_of_spaces_repeats_only_what_counts_examples():
    class Reconstruction:
        metric = Metric("rmse")

        def example(self):
            return torch.ones(1, 3, 4), torch.ones(3, 3).triu(1).bool()

        def batches(self, split, *, seed, epoch):
            x, mask = self.example()
            return [(x.repeat(5, 1, 1), mask)]

        def loss(self, network, batch):
            return (call(network, batch)["y"] - batch[0]).square().mean()

        def evaluate(self, network, split):
            return {"loss": 1.0, "rmse": 1.0}

    check_space(NetworkSpace("causal", Causal, Reconstruction))
