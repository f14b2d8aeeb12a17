"""Elastic layers of every kind: a pick is torch's layer on the parts that the sizes keep."""

import copy
from functools import partial
from math import prod

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

import paretonas.nn as pn
from paretonas.nn import Elastic, Heads, Kernel, Ratio, Supernet, Width
from paretonas.nn.elastic import cut
from paretonas.space import Architecture, every

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")


def w():
    return Width(2, 4, 6)


def v():
    return Width(4, 8)


def case(make, inputs):
    return {"make": make, "inputs": inputs}


def conv(kind, rest, **kwargs):
    def make():
        a, b = w(), v()
        return (kind(a, b, 3, 2, 1, **kwargs), [a])

    return case(make, lambda sizes: [torch.randn(3, int(sizes[0]), *rest)])


def channelwise(kind, rest, *args, **kwargs):
    def make():
        a = v()
        return kind(*args, a, **kwargs), [a]

    return case(make, lambda sizes: [torch.randn(3, int(sizes[0]), *rest)])


def last(kind, make_arguments, length=5):
    def make():
        size, arguments, kwargs = make_arguments()
        return kind(*arguments, **kwargs), [size]

    return case(make, lambda sizes: [torch.randn(3, length, int(sizes[0]))])


def grouped():
    a, b = Width(1, 2), Width(2, 3)
    return pn.Conv2d(4 * a, 4 * b, 3, groups=4), [4 * a]


def plain_groups():
    a, b = Width(4, 8), Width(2, 6)
    return pn.Conv2d(a, b, 3, groups=2), [a]


def depthwise():
    a = w()
    return pn.Conv2d(a, a * 2, (3, 1), padding="same", groups=a, padding_mode="reflect"), [a]


def with_kernel(**kwargs):
    def make():
        a, k = w(), Kernel(1, 3, 5, **kwargs)
        return pn.Conv2d(a, 4, k, padding=k // 2), [a]

    return make


def joined():
    a, b = w(), v()
    return pn.Conv1d(a + 3 + b, 5, 3), [a + 3 + b]


def flattened():
    a = w()
    return pn.Linear(a * 9, v()), [a * 9]


def stacked():
    a, heads = w(), Heads(1, 2)
    return pn.Linear(a, 3 * (heads * 4)), [a]


def attention(**kwargs):
    def make():
        heads = Heads(2, 4)
        return pn.MultiheadAttention(heads * 3, heads, batch_first=True, **kwargs), [heads * 3]

    return make


def self_attention(sizes):
    x = torch.randn(3, 5, int(sizes[0]))
    return [x, x, x]


def cross():
    e, k = 2 * Width(2, 3), w()
    return pn.MultiheadAttention(e, 2, kdim=k, vdim=7, batch_first=True), [e, k]


def recurrent(kind, **kwargs):
    def make():
        a = w()
        return kind(a, Width(3, 5), **kwargs), [a]

    return case(make, lambda sizes: [torch.randn(5, 3, int(sizes[0]))])


def cell(kind):
    def make():
        a = w()
        return kind(a, Width(3, 5)), [a]

    return case(make, lambda sizes: [torch.randn(3, int(sizes[0]))])


def bag():
    return pn.EmbeddingBag(11, w(), mode="max"), []


def embedding():
    return pn.Embedding(11, w(), padding_idx=0), []


def bilinear():
    a, b = w(), v()
    return pn.Bilinear(a, b, Width(2, 3)), [a, b]


def a_parameter():
    return pn.Parameter((1, w(), 3), fill=2.0), []


def first_of(make):
    return case(make, lambda sizes: [torch.randn(3, int(sizes[0]), 9, 9)])


CASES = {
    "conv1d": conv(pn.Conv1d, (9,)),
    "conv2d": conv(pn.Conv2d, (9, 9), bias=False),
    "conv3d": conv(pn.Conv3d, (5, 5, 5)),
    "transposed1d": conv(pn.ConvTranspose1d, (9,), dilation=2),
    "transposed2d": conv(pn.ConvTranspose2d, (5, 5), output_padding=1),
    "transposed3d": conv(pn.ConvTranspose3d, (3, 3, 3), bias=False),
    "grouped": first_of(grouped),
    "plain groups": first_of(plain_groups),
    "depthwise": first_of(depthwise),
    "kernel": first_of(with_kernel()),
    "transformed kernel": first_of(with_kernel(transform=True)),
    "concatenated": case(joined, lambda sizes: [torch.randn(3, int(sizes[0]), 9)]),
    "flattened": case(flattened, lambda sizes: [torch.randn(3, int(sizes[0]))]),
    "stacked": case(stacked, lambda sizes: [torch.randn(3, int(sizes[0]))]),
    "linear": last(pn.Linear, lambda: (a := w(), (a, v(), False), {})),
    "bilinear": case(bilinear, lambda sizes: [torch.randn(3, int(s)) for s in sizes]),
    "embedding": case(embedding, lambda sizes: [torch.tensor([[1, 2, 0], [3, 4, 10]])]),
    "bag": case(bag, lambda sizes: [torch.tensor([[1, 2, 0], [3, 4, 10]])]),
    "parameter": case(a_parameter, lambda sizes: []),
    "prelu": channelwise(pn.PReLU, (9,)),
    "batch norm 1": channelwise(pn.BatchNorm1d, (9,)),
    "batch norm 2": channelwise(pn.BatchNorm2d, (4, 4), eps=1e-2, momentum=None),
    "batch norm 3": channelwise(pn.BatchNorm3d, (2, 2, 2), affine=False),
    "instance norm 1": channelwise(pn.InstanceNorm1d, (9,)),
    "instance norm 2": channelwise(pn.InstanceNorm2d, (4, 4), affine=True),
    "instance norm 3": channelwise(pn.InstanceNorm3d, (2, 2, 2)),
    "group norm": channelwise(pn.GroupNorm, (5,), 2),
    "layer norm": last(pn.LayerNorm, lambda: (a := w(), (a,), {"eps": 1e-3})),
    "layer norm of two": last(pn.LayerNorm, lambda: (a := w(), ([5, a],), {"bias": False})),
    "layer norm over channels": channelwise(lambda a: pn.LayerNorm((a, 4)), (4,)),
    "rms norm": last(pn.RMSNorm, lambda: (a := w(), (a,), {})),
    "attention": case(attention(), self_attention),
    "attention with more": case(
        attention(bias=False, add_bias_kv=True, add_zero_attn=True), self_attention
    ),
    "cross attention": case(
        cross, lambda s: [torch.randn(3, n, int(k)) for n, k in ((4, s[0]), (5, s[1]), (5, 7))]
    ),
    "lstm": recurrent(pn.LSTM, num_layers=2, bidirectional=True),
    "projected lstm": recurrent(pn.LSTM, num_layers=2, proj_size=2, bias=False),
    "gru": recurrent(pn.GRU, bidirectional=True),
    "rnn": recurrent(pn.RNN, nonlinearity="relu"),
    "rnn cell": cell(pn.RNNCell),
    "lstm cell": cell(pn.LSTMCell),
    "gru cell": cell(pn.GRUCell),
}


class Holder(nn.Module):
    def __init__(self, layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args):
        return self.layer(*args)


@pytest.fixture(params=CASES)
def found(request):
    torch.manual_seed(0)
    layer, sizes = CASES[request.param]["make"]()
    with torch.no_grad():
        for parameter in layer.parameters():  # no symmetric values, such as ones
            parameter.add_(0.3 * torch.randn_like(parameter))
    return Supernet(Holder(layer)), sizes, CASES[request.param]["inputs"]


def some(supernet, count=6):
    architectures = list(every(supernet.choices))
    return architectures[:: max(1, len(architectures) // count)]


def tensors(output):
    if isinstance(output, torch.Tensor):
        return [output]
    return [t for part in output if part is not None for t in tensors(part)]


def called(supernet, architecture, sizes, inputs):
    with supernet.picked(architecture):
        return inputs(sizes)


def test_a_pick_is_the_extracted_layer_of_torch(found):
    supernet, sizes, inputs = found
    for architecture in some(supernet):
        args = called(supernet, architecture, sizes, inputs)
        plain = supernet.extract(architecture)
        assert type(plain.layer).__module__.startswith(("torch.nn", "paretonas.nn.parameter"))
        expected = tensors(plain(*args))
        assert len(expected) > 0
        for one, other in zip(tensors(supernet(args, architecture)), expected, strict=True):
            torch.testing.assert_close(one, other)


def test_the_largest_pick_has_all_weights_and_can_be_loaded_from_torchs_layer(found):
    supernet, sizes, inputs = found
    largest = Architecture({c.name: c.options[-1] for c in supernet.choices})
    plain = supernet.extract(largest).layer
    own = supernet.network.layer.state_dict()
    assert {n for n in own if "transform" not in n} == plain.state_dict().keys()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_()
    supernet.network.layer.load_state_dict(plain.state_dict(), strict=False)
    args = called(supernet, largest, sizes, inputs)
    for one, other in zip(
        tensors(supernet(args, largest)), tensors(plain.train()(*args)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_one_hot_gates_are_one_pick_in_its_place(found):
    supernet, sizes, inputs = found
    layer = supernet.network.layer
    for architecture in some(supernet):
        gates = [
            torch.tensor([float(o == architecture[c.name]) for o in c.options])
            for c in supernet.choices
        ]
        with supernet.picked(architecture):
            args = inputs(sizes)
            placed = [
                _spread(x, s, axis)
                for x, (s, axis) in zip(args, layer.inputs(layer.arguments), strict=False)
            ]
            outs = layer.outputs(layer.arguments)
            expected = [
                _spread(y, s, axis)
                for y, (s, axis) in zip(tensors(layer(*args)), outs, strict=False)
            ]
        mixed = tensors(supernet([*placed, *args[len(placed) :]], gates))
        for one, other in zip(mixed, expected, strict=False):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def _spread(x, size, axis):
    if isinstance(size, int):
        return x
    index = [i for a, b in size.kept() for i in range(a, b)]
    shape = list(x.shape)
    shape[axis] = size.largest
    return torch.zeros(shape).index_copy(axis, torch.tensor(index), x)


def test_a_copy_and_another_type_and_device_work_alike(found):
    supernet, sizes, inputs = found
    architecture = some(supernet)[1]
    args = called(supernet, architecture, sizes, inputs)
    expected = tensors(supernet(args, architecture))
    double = copy.deepcopy(supernet).double()
    cast = [x.double() if x.is_floating_point() else x for x in args]
    for one, other in zip(tensors(double(cast, architecture)), expected, strict=True):
        assert one.dtype == torch.float64
        torch.testing.assert_close(one.float(), other, rtol=1e-4, atol=1e-4)
    meta = copy.deepcopy(supernet).to("meta")
    output = meta([x.to("meta") for x in args], architecture)
    assert {t.device.type for t in tensors(output)} == {"meta"}
    plain = meta.extract(architecture)
    assert {p.device.type for p in plain.parameters()} <= {"meta"}


def test_gradients_are_those_of_the_extracted_layer(found):
    supernet, sizes, inputs = found
    if not list(supernet.parameters()):
        return
    architecture = some(supernet)[0]
    args = called(supernet, architecture, sizes, inputs)
    plain = supernet.extract(architecture).train()
    sum(t.square().sum() for t in tensors(supernet(args, architecture))).backward()
    sum(t.square().sum() for t in tensors(plain(*args))).backward()
    layer = supernet.network.layer
    with supernet.picked(architecture):
        ranges = layer._shell().ranges
    for name, parameter in plain.layer.named_parameters():
        if parameter.grad is not None and not hasattr(layer, "transform_3to1"):
            own = cut(layer.get_parameter(name).grad, dict(enumerate(ranges[name])))
            torch.testing.assert_close(own, parameter.grad)
            rest = layer.get_parameter(name).grad.count_nonzero()
            assert rest == own.count_nonzero()


# --- all that a layer is called with ----------------------------------------------------------
# Each case is a layer, its arguments by name, cut by a function, and what its outputs are cut to.


def in_attention(**more):
    heads = Heads(1, 2)
    e = heads * 3
    x, y, z = torch.randn(3, 3, 5, 6)

    def call(part):
        named = {"query": part(x, e, -1), "key": part(y, e, -1), "value": part(z, e, -1)}
        return named | {name: value(part, heads) for name, value in more.items()}

    averaged = "average_attn_weights" not in more
    layer = pn.MultiheadAttention(e, heads, batch_first=True)
    return layer, call, [(e, -1), None if averaged else (heads, -3)]


def each_head():
    bias = torch.randn(3, 2, 5, 5)
    return in_attention(
        attn_mask=lambda part, heads: part(bias, heads, 1).flatten(0, 1),
        average_attn_weights=lambda *_: False,
    )


def from_elsewhere():
    e, k = 2 * Width(2, 3), w()
    x, y, z = torch.randn(3, 5, 6), torch.randn(3, 4, 6), torch.randn(3, 4, 7)
    layer = pn.MultiheadAttention(e, 2, kdim=k, vdim=7, batch_first=True)
    return (
        layer,
        lambda part: {"query": part(x, e, -1), "value": z, "key": part(y, k, -1)},
        [(e, -1)],
    )


def with_states(kind, **kwargs):
    a, b = w(), Width(3, 5)
    x, h, c = torch.randn(5, 3, 6), torch.randn(2, 3, 5), torch.randn(2, 3, 5)

    def call(part):
        one = part(h, b, -1)
        return {"input": part(x, a, -1), "hx": (one, part(c, b, -1)) if kind is pn.LSTM else one}

    return kind(a, b, 2, **kwargs), call, [(b, -1)] * 3


def projected_states():
    a, b, o = w(), Width(3, 5), Width(1, 2)
    x, h, c = torch.randn(5, 3, 6), torch.randn(1, 3, 2), torch.randn(1, 3, 5)
    layer = pn.LSTM(a, b, proj_size=o)
    hx = lambda part: (part(h, o, -1), part(c, b, -1))  # noqa: E731
    return (
        layer,
        lambda part: {"input": part(x, a, -1), "hx": hx(part)},
        [(o, -1), (o, -1), (b, -1)],
    )


def in_packed():
    a, b = w(), Width(3, 5)
    x, lengths = torch.randn(5, 3, 6), torch.tensor([2, 5, 3])
    pack = partial(nn.utils.rnn.pack_padded_sequence, lengths=lengths, enforce_sorted=False)
    # The data of a packed sequence, its three tensors of integers, and a state.
    outs = [(b, -1), None, None, None, (b, -1)]
    return pn.GRU(a, b), lambda part: {"input": pack(part(x, a, -1))}, outs


def in_norm():
    a, x = Width(2, 4) * Ratio(0.5, 1.5), torch.randn(3, 6)
    return pn.LayerNorm(a), lambda part: {"input": part(x, a, -1)}, [(a, -1)]


CALLS = {
    "attention": in_attention,
    "padding": lambda: in_attention(key_padding_mask=lambda *_: torch.rand(3, 5) > 0.7),
    "a mask": lambda: in_attention(attn_mask=lambda *_: torch.rand(5, 5)),
    "a mask of each head": each_head,
    "no weights": lambda: in_attention(need_weights=lambda *_: False),
    "weights of each head": lambda: in_attention(average_attn_weights=lambda *_: False),
    "key and value of other sizes": from_elsewhere,
    "states of an lstm": partial(with_states, pn.LSTM),
    "states of a projected lstm": projected_states,
    "states of a gru": partial(with_states, pn.GRU),
    "a packed sequence": in_packed,
    "a norm": in_norm,
}


def tensors_of(output):
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("name", CALLS)
def test_a_mixture_is_the_sum_of_the_picks_with_all_that_a_layer_is_called_with(name):
    torch.manual_seed(0)
    layer, call, outs = CALLS[name]()
    supernet = Supernet(layer)
    torch.manual_seed(1)
    whole = call(lambda x, size, axis: x)
    gates = [torch.rand(len(c.options)).softmax(0) for c in supernet.choices]
    expected = []
    for architecture in every(supernet.choices):
        hot = [
            torch.tensor([float(o == architecture[c.name]) for o in c.options])
            for c in supernet.choices
        ]
        torch.manual_seed(1)
        with supernet.picked(architecture):
            found = tensors_of(layer(**call(lambda x, s, axis: x.index_select(axis, places(s)))))
            spread = [
                y if place is None else _spread(y, *place)
                for y, place in zip(found, [*outs, None], strict=False)
            ]
        with supernet.picked(hot):
            for one, other in zip(tensors_of(layer(**whole)), spread, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        chance = prod(float(g[h.argmax()]) for g, h in zip(gates, hot, strict=True))
        parts = [chance * y if y.is_floating_point() else y for y in spread]
        sums = zip(expected or parts, parts, strict=True)
        expected = [a + b if expected and a.is_floating_point() else b for a, b in sums]
    with supernet.picked(gates):
        for one, other in zip(tensors_of(layer(**whole)), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def places(size):
    return torch.tensor([i for start, stop in size.kept() for i in range(start, stop)])


def test_a_mixture_refuses_what_it_is_not_called_with_in_one_line():
    layer = pn.LayerNorm(width := w())
    width.gate = torch.tensor([0.2, 0.3, 0.5])
    with pytest.raises(TypeError, match="^LayerNorm: got an unexpected keyword argument 'mask'$"):
        layer(torch.zeros(2, 6), mask=None)


# --- functions that are not zero at zero ------------------------------------------------------


class Then(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Pair(nn.Module):
    """Both inputs of a Bilinear, by name and the second one first."""

    def __init__(self, function):
        super().__init__()
        self.function, a, b = function, w(), v()
        self.one, self.two, self.both = pn.Linear(3, a), pn.Linear(3, b), pn.Bilinear(a, b, 2)

    def forward(self, x):
        one, two = self.function(self.one(x)), self.function(self.two(x))
        return self.both(input2=two, input1=one)


class Attends(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.size = function, 2 * Width(2, 3)
        self.into, self.out = pn.Linear(3, self.size), pn.Linear(self.size, 2)
        self.attention = pn.MultiheadAttention(self.size, 2, batch_first=True)

    def forward(self, x):
        x = self.function(self.into(x))
        return self.out(self.function(self.attention(query=x, key=x, value=x)[0]))


class Recurs(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, a, b = function, w(), v()
        self.into, self.out = pn.Linear(3, a), pn.Linear(b, 2)
        self.lstm = pn.LSTM(a, b, batch_first=True)

    def forward(self, x):
        return self.out(self.function(self.lstm(input=self.function(self.into(x)))[0]))


def on_images(*middle):
    def make(function):
        a = w()
        layers = [pn.Conv2d(3, a, 3), *(layer(a) for layer in middle), pn.Conv2d(a, 2, 1)]
        between = [Then(function) for _ in layers]
        return nn.Sequential(*(m for pair in zip(layers, between, strict=True) for m in pair))

    return make


READERS = {
    "convolutions": on_images(
        lambda a: pn.Conv2d(a, a, 1, groups=a), lambda a: pn.ConvTranspose2d(a, a, 2)
    ),
    "channelwise": on_images(pn.BatchNorm2d, pn.PReLU, pn.InstanceNorm2d),
    "groups": on_images(lambda a: pn.GroupNorm(2, a), lambda a: pn.Conv2d(a, a, 1, groups=2)),
    "flattened": lambda f: nn.Sequential(
        pn.Conv2d(3, a := w(), 4), Then(f), nn.Flatten(), pn.Linear(a * 9, 2)
    ),
    "features": lambda f: nn.Sequential(
        pn.Linear(6, a := w()), Then(f), pn.LayerNorm(a), Then(f), pn.RMSNorm(a), pn.Linear(a, 2)
    ),
    "bilinear": Pair,
    "attention": Attends,
    "recurrent": Recurs,
}
FUNCTIONS = {
    "sigmoid": torch.sigmoid,
    "cos": torch.cos,
    "exp and a constant": lambda x: x.tanh().exp() + 1,
    "infinite at zero": lambda x: 1 / x.abs().clamp(max=9) + x.abs().log(),
}
INPUTS = {"flattened": (2, 3, 6, 6), "features": (2, 6), "attention": (2, 5, 3)}
INPUTS |= {"recurrent": (2, 5, 3), "bilinear": (2, 3)}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("reader", READERS)
def test_a_one_hot_mixture_is_one_pick_whatever_lies_between_its_layers(reader, function):
    torch.manual_seed(0)
    supernet = Supernet(READERS[reader](FUNCTIONS[function]))
    x = torch.randn(INPUTS.get(reader, (2, 3, 4, 4)))
    for architecture in every(supernet.choices):
        gates = [
            torch.tensor([float(o == architecture[c.name]) for o in c.options])
            for c in supernet.choices
        ]
        expected = supernet(x, architecture)
        assert expected.isfinite().all()
        torch.testing.assert_close(supernet(x, gates), expected, rtol=1e-3, atol=1e-4)


# --- particular layers ------------------------------------------------------------------------


def test_a_smaller_kernel_is_the_center_and_a_transform_begins_as_the_identity():
    k = Kernel(1, 3, 5)
    one = pn.Conv2d(2, 3, k, padding=k // 2)
    changed = Kernel(1, 3, 5, transform=True)
    other = pn.Conv2d(2, 3, changed, padding=changed // 2)
    other.load_state_dict(one.state_dict(), strict=False)
    x = torch.randn(2, 2, 7, 7)
    for pick, size in enumerate((1, 3, 5)):
        k.gate = changed.gate = pick
        start = (5 - size) // 2
        center = one.weight[..., start : start + size, start : start + size]
        expected = functional.conv2d(x, center, one.bias, padding=size // 2)
        torch.testing.assert_close(one(x), expected)
        torch.testing.assert_close(other(x), expected)
    with torch.no_grad():
        other.transform_5to3.copy_(torch.randn(9, 9))
    changed.gate = 1
    center = other.weight[..., 1:4, 1:4].reshape(6, 9) @ other.transform_5to3.T
    expected = functional.conv2d(x, center.reshape(3, 2, 3, 3), other.bias, padding=1)
    torch.testing.assert_close(other(x), expected)


def test_a_parameter_of_two_sizes_is_weighed_along_both():
    a, b = Width(1, 2), Width(1, 3)
    parameter = pn.Parameter((a, b), fill=2.0)
    a.gate, b.gate = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    expected = 2 * torch.outer(torch.tensor([1, 0.5]), torch.tensor([1, 0.75, 0.75]))
    torch.testing.assert_close(parameter(), expected)
    a.gate, b.gate = 1, 0
    assert torch.equal(parameter(), parameter.weight[:, :1])


def test_a_group_norm_of_groups_times_a_width_keeps_the_groups():
    width = Width(1, 2)
    norm = pn.GroupNorm(3, 3 * width)
    width.gate = 0
    x = torch.randn(2, 3, 4)
    assert norm.pieces()["weight"].shape == (3,)
    torch.testing.assert_close(norm(x), functional.group_norm(x, 3))


def test_a_batch_norm_keeps_the_running_statistics_of_its_channels():
    width = Width(2, 4)
    supernet = Supernet(Holder(pn.BatchNorm2d(width)))
    supernet.network.layer.running_mean.copy_(torch.arange(4.0))
    plain = supernet.extract({"layer.num_features": "2"})
    assert plain.layer.running_mean.tolist() == [0, 1]
    before = copy.deepcopy(supernet.state_dict())
    supernet(torch.randn(3, 2, 4, 4), {"layer.num_features": "2"})
    assert all(torch.equal(before[n], t) for n, t in supernet.state_dict().items())


def test_old_files_without_running_statistics_are_read():
    norm = pn.BatchNorm1d(Width(2, 4))
    state = {n: t for n, t in norm.state_dict().items() if n in ("weight", "bias")}
    norm.load_state_dict(state)


# --- layers that exist ------------------------------------------------------------------------


class Activated(nn.BatchNorm2d):
    """A subclass that carries more than a norm, as in libraries of networks."""

    def __init__(self, features):
        super().__init__(features)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x)) + self.num_features


def test_an_existing_layer_keeps_its_class_its_weights_and_its_statistics():
    norm = Activated(4).eval()
    norm.running_mean.copy_(torch.arange(4.0))
    before = copy.deepcopy(norm.state_dict())
    width = Width(2, 4)
    layer = Elastic.of(norm, num_features=width)
    x = torch.randn(3, 4, 5, 5)
    for pick, count in enumerate((2, 4)):
        width.gate = pick
        expected = functional.relu(
            functional.batch_norm(x[:, :count], norm.running_mean[:count], norm.running_var[:count])
        )
        torch.testing.assert_close(layer(x[:, :count]), expected + count)
    plain = Supernet(nn.Sequential(layer)).extract({"0.num_features": "2"})
    assert type(plain[0]) is Activated
    torch.testing.assert_close(plain(x[:, :2]), layer_at(width, 0, layer, x[:, :2]))
    assert all(torch.equal(before[n], t) for n, t in norm.state_dict().items())
    assert plain[0].act is not norm.act


def layer_at(width, pick, layer, x):
    width.gate = pick
    return layer(x)


@pytest.mark.parametrize(
    ("layer", "sizes"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), {"in_channels": Width(2, 4)}),
        (nn.Linear(4, 6), {"out_features": Width(3, 6)}),
        (nn.LayerNorm(6), {"normalized_shape": (Width(3, 6),)}),
        (nn.MultiheadAttention(6, 2, bias=False), {"embed_dim": 2 * Width(1, 3)}),
        (nn.LSTM(4, 5, 2, bidirectional=True), {"hidden_size": Width(2, 5)}),
        (nn.Embedding(9, 4), {"embedding_dim": Width(2, 4)}),
        (nn.GroupNorm(2, 8), {"num_channels": 2 * Width(2, 4)}),
        (nn.ConvTranspose2d(4, 6, 3, output_padding=1, stride=2), {"out_channels": Width(3, 6)}),
        (nn.PReLU(4), {"num_parameters": Width(2, 4)}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_torch_made_becomes_elastic_and_back(layer, sizes):
    supernet = Supernet(nn.ModuleList([Elastic.of(layer, **sizes)]))
    (choice,) = supernet.choices
    largest = supernet.extract({choice.name: choice.options[-1]})[0]
    assert type(largest) is type(layer)
    assert largest.extra_repr() == layer.extra_repr()
    own = layer.state_dict()
    assert all(torch.equal(own[name], t) for name, t in largest.state_dict().items())
    smaller = supernet.extract({choice.name: choice.options[0]})[0]
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in layer.parameters())


def test_layers_that_cannot_be_taken_over_are_refused():
    hooked = nn.Linear(2, 4)
    hooked.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="the Linear has hooks or parametrizations"):
        Elastic.of(hooked, out_features=Width(2, 4))
    with pytest.raises(TypeError, match="a Softmax has no elastic form"):
        Elastic.of(nn.Softmax(), dim=Width(2, 4))
    with pytest.raises(ValueError, match="out_features of the Linear is 4, and the largest .* 8"):
        Elastic.of(nn.Linear(2, 4), out_features=Width(2, 8))
    with pytest.raises(TypeError, match="Linear takes in_features, .*, and no 'width'"):
        Elastic.of(nn.Linear(2, 4), width=Width(2, 4))


# --- a kind of one's own ----------------------------------------------------------------------


class Scale(nn.Module):
    def __init__(self, features, start=1.0):
        super().__init__()
        self.features = features
        self.weight = nn.Parameter(torch.full((features,), start))

    def forward(self, x):
        return x * self.weight


class ElasticScale(Elastic):
    layer = Scale

    def axes(self, a):
        return {"weight": [a["features"]]}

    def inputs(self, a):
        return [(a["features"], -1)]

    outputs = inputs


def test_a_kind_of_ones_own_is_like_the_others():
    width = Width(2, 4)
    supernet = Supernet(nn.Sequential(pn.Linear(3, width), ElasticScale(width, 2.0)))
    x = torch.randn(5, 3)
    name = supernet.choices[0].name
    for option, gates in (("2", [1.0, 0.0]), ("4", [0.0, 1.0])):
        plain = supernet.extract({name: option})
        assert type(plain[1]) is Scale and plain[1].features == int(option)
        y = supernet(x, {name: option})
        torch.testing.assert_close(plain(x), y)
        mixed = supernet(x, [torch.tensor(gates)])
        torch.testing.assert_close(mixed[:, : int(option)], y)
        assert not mixed[:, int(option) :].any()
    assert type(Elastic.of(Scale(4), features=width)) is ElasticScale


def test_changes_of_a_kind_of_ones_own_are_refused_too():
    class Changed(ElasticScale):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(ValueError, match="the ElasticScale at '0' has its own forward"):
        Supernet(nn.Sequential(Changed(Width(2, 4))))


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: pn.Conv2d(3), TypeError, "Conv2d: missing a required argument: 'out_channels'"),
        (lambda: pn.Linear(3, Width(2, 4), size=3), TypeError, "unexpected keyword.*'size'"),
        (lambda: pn.GroupNorm(4, Width(4, 6)), ValueError, "every pick: 4 and 6"),
        (lambda: pn.MultiheadAttention(Width(4, 6), 4), ValueError, "every pick: 4 and 6"),
        (lambda: Kernel(3, 4), ValueError, "all odd or all even"),
        (lambda: Width(2.5, 4), ValueError, "widths must be integers"),
        (lambda: Width(2, 4) // 0, ValueError, "a positive integer, got 0"),
        (lambda: Width(2, 4) + 0, ValueError, "a size or a positive integer"),
        (lambda: Width(2, 4) * -0.5, ValueError, "the factor of a size must be positive, got -0.5"),
        (lambda: Ratio(1, float("inf")), ValueError, "ratios must be positive and increasing"),
        (lambda: Ratio(2, "4"), ValueError, "ratios must be numbers"),
        (lambda: Ratio(2, 4) * 0.5, TypeError, "one of two factors must be a size"),
        (lambda: pn.Linear(3, Ratio(2, 4)), TypeError, "no number: multiply it with a size"),
        (lambda: pn.make_divisible(0), TypeError, "takes a size or a positive number, got 0"),
        (lambda: Heads(4, 2), ValueError, "heads must be positive and increasing"),
        (lambda: nn.Conv2d(3, Width(2, 4), 3), RuntimeError, "give it to the elastic layers"),
        (lambda: Width(2, 4, name=""), ValueError, "the name of a choice must be a text"),
    ],
)
def test_mistakes_get_one_line(make, kind, message):
    with pytest.raises(kind, match=message) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_a_lazy_layer_is_refused_by_its_place():
    with pytest.raises(ValueError, match="the LazyLinear at '1' has no size yet"):
        Supernet(nn.Sequential(pn.Linear(2, Width(2, 4)), nn.LazyLinear(3)))


def test_elastic_layers_and_sizes_show_what_they_are():
    width = Width(2, 4)
    text = repr(nn.Sequential(pn.Conv2d(3, width, 3, bias=False), pn.Linear(width * 9 + 1, 5)))
    assert "Conv2d(in_channels=3, out_channels=Width(2, 4), kernel_size=3, bias=False)" in text
    assert "in_features=Width(2, 4) * 9 + 1" in text
