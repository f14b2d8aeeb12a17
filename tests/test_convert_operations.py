"""Networks with less usual operations as spaces: the laws of `convert` hold for each of them."""

import math
from random import Random

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from paretonas.arguments import tensors
from paretonas.nn import Supernet, convert
from paretonas.nn.conversion.trials import output
from paretonas.space import draw


class Module(nn.Module):
    """Modules by name, and a function of them as the forward pass."""

    def __init__(self, run, **parts):
        super().__init__()
        self.function = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args):
        return self.function(self, *args)


def cells():
    def run(self, x):
        h, state = torch.zeros(x.size(0), self.hidden), None
        for t in range(x.size(1)):
            h = self.gru(self.rnn(x[:, t]), h)
            state = self.lstm(h, state)
        return self.head(state[0])

    rnn, gru, lstm = nn.RNNCell(3, 8), nn.GRUCell(8, 16), nn.LSTMCell(16, 12)
    return Module(run, rnn=rnn, gru=gru, lstm=lstm, head=nn.Linear(12, 2), hidden=16)


def convolutional_state():
    def run(self, x):
        h = x.new_zeros(len(x), self.hidden, *x.shape[2:])
        for _ in range(2):
            keep, new = self.gates(torch.cat([x, h], 1)).chunk(2, 1)
            h = keep.sigmoid() * h + new.tanh()
        return self.head(h)

    return Module(run, gates=nn.Conv2d(11, 16, 3, padding=1), head=nn.Conv2d(8, 1, 1), hidden=8)


def packed():
    def run(self, x):
        rows = pack_padded_sequence(self.embed(x), torch.tensor([6, 4]), batch_first=True)
        rows, last = self.gru(rows)
        padded, _ = pad_packed_sequence(rows, batch_first=True)
        return self.head(padded.mean(1) + last[-1])

    gru = nn.GRU(8, 12, batch_first=True)
    return Module(run, embed=nn.Embedding(20, 8), gru=gru, head=nn.Linear(12, 2))


def bilinear():
    def run(self, x, y):
        both = self.both(self.one(x), self.other(y)).relu()
        return self.head(both), torch.cdist(both, self.centers)

    parts = {"one": nn.Linear(3, 8), "other": nn.Linear(3, 12), "both": nn.Bilinear(8, 12, 16)}
    return Module(run, **parts, head=nn.Linear(16, 2), centers=nn.Parameter(torch.randn(4, 16)))


def bag():
    return nn.Sequential(nn.EmbeddingBag(20, 16), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))


def messages():
    def run(self, x, ends):
        source, target = ends
        x = self.first(x).relu()
        x = torch.cat([x, torch.zeros_like(x).index_add(0, target, x[source])], 1)
        x = self.second(x).relu()
        index = target[:, None].expand(-1, x.size(1))
        x = x.scatter_reduce(0, index, x[source], "amax")
        y = torch.zeros_like(x)
        y[target] += self.third(x)[source]
        return self.head(y)

    layers = {"first": nn.Linear(3, 8), "second": nn.Linear(16, 12), "third": nn.Linear(12, 12)}
    return Module(run, **layers, head=nn.Linear(12, 2))


def grouped_queries():
    def run(self, x):
        x = self.embed(x)
        query, key, value = (
            layer(x).view(*x.shape[:2], -1, self.head_size).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
        return self.head(x + self.out(y.transpose(1, 2).flatten(2)))

    parts = {"query": nn.Linear(16, 32), "key": nn.Linear(16, 16), "value": nn.Linear(16, 16)}
    parts |= {"embed": nn.Embedding(20, 16), "out": nn.Linear(32, 16), "head": nn.Linear(16, 2)}
    return Module(run, **parts, head_size=8)


def broadcast_heads():
    """With a quarter of the channels a query has one head, which goes with all those of values."""

    def run(self, x):
        x = self.embed(x)
        query, key, value = (
            layer(x).view(*x.shape[:2], -1, self.head_size).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = functional.scaled_dot_product_attention(query, key, value)
        return self.head(x + self.out(y.transpose(1, 2).flatten(2)))

    parts = {name: nn.Linear(32, 32) for name in ("query", "key", "value", "out")}
    return Module(run, **parts, embed=nn.Embedding(20, 32), head=nn.Linear(32, 2), head_size=8)


def equal_sizes():
    """The sizes of an attention's inputs, which differ, are equal at some picks."""

    def run(self, x):
        key = self.key(x)
        return self.head(self.attention(self.query(x), key, key, need_weights=False)[0])

    attention = nn.MultiheadAttention(32, 4, kdim=24, vdim=24, batch_first=True)
    layers = {"query": nn.Linear(3, 32), "key": nn.Linear(3, 24), "head": nn.Linear(32, 2)}
    return Module(run, **layers, attention=attention)


def spectral():
    def run(self, x):
        x = self.first(x)
        modes = torch.fft.rfft(x)
        kept = torch.zeros_like(modes)
        kept[..., :4] = torch.einsum("bim,iom->bom", modes[..., :4], self.weight)
        real, imaginary = kept.real.relu(), kept.imag
        x = torch.fft.irfft(torch.complex(real, imaginary), n=x.size(-1))
        return self.head(x.relu())

    weight = nn.Parameter(torch.randn(8, 8, 4, dtype=torch.cfloat))
    first, head = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 2, 1)
    return Module(run, first=first, head=head, weight=weight)


def spectral_norm():
    norm = nn.utils.parametrizations.spectral_norm
    layers = [norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), norm(nn.Conv2d(8, 12, 3)), nn.Flatten()]
    return nn.Sequential(*layers, norm(nn.Linear(12 * 16, 2)))


def unpooled():
    def run(self, x):
        x, places = functional.max_pool2d(self.first(x), 2, return_indices=True)
        return self.head(functional.max_unpool2d(self.second(x), places, 2))

    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)]
    return Module(run, first=layers[0], second=layers[1], head=nn.Conv2d(8, 2, 1))


def made_kernels():
    """Each group of channels is mixed by a kernel that a layer makes (involution)."""

    def run(self, x):
        x = self.first(x)
        b, c, h, w = x.shape
        kernels = self.kernels(x).view(b, self.groups, 1, 9, h, w)
        around = functional.unfold(x, 3, padding=1).view(b, self.groups, c // self.groups, 9, h, w)
        return self.head((kernels * around).sum(3).view(b, c, h, w).mean((2, 3)))

    layers = {"first": nn.Conv2d(3, 32, 1), "kernels": nn.Conv2d(32, 36, 1)}
    return Module(run, **layers, head=nn.Linear(32, 2), groups=4)


def only_the_shape():
    def run(self, x):
        x = self.first(x)
        places = torch.arange(x[:, :, -1].view(-1, x.shape[1]).shape[1])
        return self.head(x + self.second(places))

    return Module(run, first=nn.Linear(3, 8), second=nn.Embedding(9, 8), head=nn.Linear(8, 2))


VECTORS, SEQUENCE, IMAGE = torch.randn(4, 3), torch.randn(2, 5, 3), torch.randn(2, 3, 8, 8)
TOKENS, ENDS = torch.randint(0, 20, (2, 6)), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
NETWORKS = {
    "cells": (cells, SEQUENCE),
    "a convolutional state": (convolutional_state, IMAGE),
    "a packed sequence": (packed, TOKENS),
    "bilinear, distances": (bilinear, (VECTORS, VECTORS)),
    "a bag": (bag, TOKENS),
    "messages": (messages, (VECTORS, ENDS)),
    "grouped queries": (grouped_queries, TOKENS),
    "broadcast heads": (broadcast_heads, TOKENS),
    "equal sizes": (equal_sizes, SEQUENCE),
    "complex numbers": (spectral, torch.randn(2, 3, 16)),
    "spectral norm": (spectral_norm, IMAGE),
    "unpooled": (unpooled, IMAGE),
    "made kernels": (made_kernels, IMAGE),
    "only the shape": (only_the_shape, SEQUENCE),
}


def same(one, other, tolerance=1e-5):
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(
        torch.allclose(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))
        for a, b in pairs
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_lost_and_sub_networks_are_the_supernet_with_their_picks(name):
    torch.manual_seed(0)
    make, example = NETWORKS[name]
    model = make().eval()
    network = convert(model, example)
    assert same(output(network, example), output(model, example))
    assert network.conversion.elastic > 0.8
    supernet = Supernet(network.eval())
    smallest = {choice.name: choice.options[0] for choice in supernet.choices}
    second = {choice.name: choice.options[1] for choice in supernet.choices}
    for architecture in (smallest, second, draw(supernet.choices, Random(1))):
        plain = supernet.extract(architecture)
        with supernet.picked(architecture):
            assert same(output(network, example), output(plain, example))
        gates = [
            torch.tensor([float(option == architecture[choice.name]) for option in choice.options])
            for choice in supernet.choices
        ]
        with supernet.picked(gates):
            assert same(output(network, example), output(plain, example), 1e-4)
    count = sum(p.numel() for p in supernet.extract(smallest).parameters())
    assert count < 0.7 * sum(p.numel() for p in model.parameters())


def test_a_cell_that_is_extracted_knows_its_sizes():
    supernet = Supernet(convert(cells(), SEQUENCE))
    plain = supernet.extract({choice.name: choice.options[0] for choice in supernet.choices})
    assert plain.lstm.input_size == plain.gru.hidden_size == plain.hidden == 4
    assert plain.lstm.weight_hh.shape == (4 * plain.lstm.hidden_size, plain.lstm.hidden_size)


def test_a_module_with_a_name_that_elastic_layers_need_stays_fixed():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.rand(8))
            self.leaves = 3

        def run(self, x):
            return (x - x.mean(-1, keepdim=True)) * self.scale

        def forward(self, x):
            return self.run(x)

    model = nn.Sequential(nn.Linear(3, 8), Own(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 2))
    conversion = convert(model, VECTORS).conversion
    assert list(conversion.choices) == ["2"]
    assert "'1' cannot be cut: the Own has its own 'leaves', 'run'" in conversion.fixed["0"]


def test_channels_that_only_go_together_are_named():
    def run(self, x):
        x = self.first(x)
        y = self.grouped(x).unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2)
        return self.head((x + y).mean((2, 3)))

    grouped = nn.Conv2d(16, 16, 1, groups=4)
    model = Module(run, first=nn.Conv2d(3, 16, 1), grouped=grouped, head=nn.Linear(16, 2))
    with pytest.raises(ValueError, match="first: all its channels belong together") as error:
        convert(model, IMAGE)
    assert "\n" not in str(error.value)


def test_a_network_that_keeps_a_list_of_values_of_an_earlier_pass_is_extracted():
    def run(self, x):
        self.kept = [self.first(x)]
        return self.head(self.kept[0])

    supernet = Supernet(convert(Module(run, first=nn.Linear(3, 8), head=nn.Linear(8, 2)), VECTORS))
    smallest = {choice.name: choice.options[0] for choice in supernet.choices}
    with supernet.picked(smallest):
        supernet.network(VECTORS).sum().backward()
        expected = output(supernet.network, VECTORS)
    assert same(output(supernet.extract(smallest), VECTORS), expected)


def test_an_attention_with_a_plain_number_of_heads_is_scaled_by_their_size():
    """The scale follows the size of a head where it is taken from the tensors."""

    def run(self, x):
        query, key, value = (
            layer(x).view(*x.shape[:2], self.heads, -1)
            for layer in (self.query, self.key, self.value)
        )
        scores = torch.einsum("bnhd,bmhd->bhnm", query, key) / math.sqrt(query.size(-1))
        return self.head(torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), value).flatten(2))

    parts = {name: nn.Linear(3, 32) for name in ("query", "key", "value")}
    model = Module(run, **parts, head=nn.Linear(32, 2), heads=4).eval()
    supernet = Supernet(convert(model, SEQUENCE).eval())
    smallest = {choice.name: choice.options[0] for choice in supernet.choices}
    plain = supernet.extract(smallest)
    assert plain.heads == 4 and plain.query.out_features < 32
    with supernet.picked(smallest):
        assert same(output(supernet.network, SEQUENCE), output(plain, SEQUENCE))
