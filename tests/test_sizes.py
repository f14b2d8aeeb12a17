"""Sizes: their arithmetic, what they keep, and choices that share a name or choose connections."""

from itertools import product
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import paretonas.nn as pn
from paretonas.nn import (
    Connect,
    Depth,
    Heads,
    Kernel,
    OneOf,
    Ratio,
    Resolution,
    Supernet,
    Width,
    largest,
    make_divisible,
)
from paretonas.space import every

# --- arithmetic -------------------------------------------------------------------------------


def kept(size):
    return [i for start, stop in size.kept() for i in range(start, stop)]


def test_what_a_pick_keeps_is_what_tensors_of_that_structure_keep():
    """Marked channels, put together by torch, are the oracle."""
    w, v, h = Width(2, 3), Width(1, 4), Heads(1, 2)
    cases = {
        "w": (w, lambda a, b, c: a),
        "v + w": (v + w, lambda a, b, c: torch.cat([b, a])),
        "5 + w": (5 + w, lambda a, b, c: torch.cat([torch.ones(5).bool(), a])),
        "w * 6": (w * 6, lambda a, b, c: a[:, None, None].expand(-1, 2, 3).flatten()),
        "3 * w": (3 * w, lambda a, b, c: torch.cat([a, a, a])),
        "h * w": (h * w, lambda a, b, c: (c[:, None] & a).flatten()),
        "3 * (h * w)": (3 * (h * w), lambda a, b, c: (c[:, None] & a).flatten().repeat(3)),
        "(v + w) * 2": ((v + w) * 2, lambda a, b, c: torch.cat([b, a]).repeat_interleave(2)),
        "v + w + v": (v + w + v, lambda a, b, c: torch.cat([b, a, b])),
    }
    for picks in product(range(2), repeat=3):
        leaves = (w, v, h)
        marks = []
        for leaf, pick in zip(leaves, picks, strict=True):
            leaf.gate = pick
            marks.append(torch.arange(leaf.numbers[-1]) < leaf.numbers[pick])
        for name, (size, oracle) in cases.items():
            expected = oracle(*marks)
            assert size.largest == len(expected), name
            assert kept(size) == expected.nonzero().flatten().tolist(), name
            assert int(size) == int(expected.sum()), name


@pytest.mark.parametrize(
    ("make", "oracle"),
    [
        (lambda w, v: w // 4, lambda w, v: w // 4),
        (lambda w, v: w * 0.25, lambda w, v: floor(w * 0.25)),
        (lambda w, v: largest(w, v, 9), lambda w, v: max(w, v, 9)),
        (lambda w, v: largest(w, v) // 2 + w, lambda w, v: max(w, v) // 2 + w),
    ],
)
def test_numbers_follow_their_arithmetic(make, oracle):
    w, v = Width(4, 8, 18), Width(6, 12)
    size = make(w, v)
    for i, j in product(range(3), range(2)):
        w.gate, v.gate = i, j
        assert int(size) == oracle(w.numbers[i], v.numbers[j])
    assert size.largest == oracle(18, 12)
    assert set(size.values()) == {oracle(a, b) for a in w.numbers for b in v.numbers}


@given(st.integers(1, 500), st.sampled_from([0.25, 0.5, 0.75, 1.25]), st.sampled_from([4, 8]))
def test_rounding_is_that_of_mobilenet(channels, factor, divisor):
    wanted = channels * factor
    near = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    if near < 0.9 * wanted:
        near += divisor
    assert int(make_divisible(Width(channels) * factor, divisor)) == near
    assert make_divisible(wanted, divisor) == near  # of a plain number


def test_a_ratio_is_a_factor_of_a_size():
    w, r = Width(3, 8), Ratio(0.5, 2.0, 3.5)
    assert r.option_names == ("0.5", "2", "3.5")
    for i, j in product(range(2), range(3)):
        w.gate, r.gate = i, j
        number = floor(w.numbers[i] * r.numbers[j])
        for size in (w * r, r * w, r * w.numbers[i]):
            assert int(size) == number and kept(size) == [*range(number)]
        assert int(3 * (w * r)) == 3 * number
    assert (w * r).values() == (1, 4, 6, 10, 16, 28)
    w.gate, r.gate = torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5, 0.0])
    chances = [1.0] + 3 * [0.875] + 2 * [0.5] + 10 * [0.375] + 12 * [0.0]
    torch.testing.assert_close((w * r).exists(), torch.tensor(chances))


class Mlp(nn.Module):
    """A ratio, which the network holds and reads, and a depth that begins with another width."""

    def __init__(self) -> None:
        super().__init__()
        self.ratio, width = Ratio(1.5, 2), Width(4, 6)
        into = pn.Linear(5, width)
        rest = [self.block(width) for _ in range(2)]
        self.depth = Depth([into, *rest])
        self.head = pn.Linear(width, 2)

    def block(self, width):
        inner = width * self.ratio
        return nn.Sequential(pn.Linear(width, inner), nn.ReLU(), pn.Linear(inner, width))

    def forward(self, x):
        return self.head(self.depth(x))


def test_a_network_with_a_ratio_and_a_first_block_of_another_shape_is_what_is_extracted():
    supernet, x = Supernet(Mlp()), torch.randn(3, 5)
    for picks in every(supernet.choices):
        plain = supernet.extract(picks)
        assert plain.ratio == float(picks["ratio"])
        expected = plain(x)
        torch.testing.assert_close(supernet(x, picks), expected)
        gates = [
            torch.tensor([float(o == picks[c.name]) for o in c.options]) for c in supernet.choices
        ]
        torch.testing.assert_close(supernet(x, gates), expected)


def test_in_a_mixture_each_part_has_the_chance_that_it_exists():
    w, v = Width(1, 3), Width(1, 2)
    p, q = torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])
    w.gate, v.gate = p, q
    for size in (w + v, 2 * w, w * 2, w + 2, largest(w, v), w // 1, (w + v) * 2, 2 * (v * 3)):
        expected = torch.zeros(size.largest)
        for i, j in product(range(2), range(2)):
            w.gate, v.gate = i, j
            expected[kept(size)] += p[i] * q[j]
        w.gate, v.gate = p, q
        torch.testing.assert_close(size.exists(), expected)
    masked = (w + v).mask(torch.ones(2, 5, 3), 1)
    torch.testing.assert_close(masked[0, :, 0], torch.tensor([1, 0.75, 0.75, 1, 0.5]))


def test_a_kernel_keeps_the_center():
    kernel = Kernel(3, 5, 7)
    for pick, expected in enumerate(([2, 3, 4], [1, 2, 3, 4, 5], [*range(7)])):
        kernel.gate = pick
        assert kept(kernel) == expected
        assert int(kernel // 2) == len(expected) // 2


# --- networks ---------------------------------------------------------------------------------


class SqueezeExcite(nn.Module):
    """Arithmetic, concatenation, flatten, and reading sizes in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v, self.heads = Width(4, 8), Width(2, 6), Heads(1, 2)
        self.one, self.two = pn.Conv2d(1, self.w, 3, 1, 1), pn.Conv2d(1, self.v, 3, padding=1)
        self.both = self.v + self.w
        self.norm = pn.GroupNorm(1, self.both)
        self.squeeze = pn.Linear(self.both, self.both // 2)
        self.excite = pn.Linear(self.both // 2, self.both)
        self.qkv = pn.Linear(self.both, 3 * (self.heads * 4))
        self.widths = [Width(3, 5)]  # in a plain list
        self.out = pn.Linear(self.heads * 4, self.widths[0])
        self.head = pn.Linear(self.widths[0] * 4, 3)

    def forward(self, x):
        x = self.norm(torch.cat([self.two(x), self.one(x)], 1))
        x = x * self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()[..., None, None]
        x = x.flatten(2).mT
        n, t, channels = x.shape
        assert channels == int(self.both) == int(self.v) + self.w.channels
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, 4).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, -1)
        x = functional.adaptive_avg_pool1d(self.out(x).mT, 4)
        return self.head(x.reshape(n, -1))


def test_a_network_with_arithmetic_is_what_is_extracted():
    torch.manual_seed(0)
    supernet = Supernet(SqueezeExcite())
    assert [c.name for c in supernet.choices] == ["w", "v", "heads", "out.out_features"]
    x = torch.randn(2, 1, 5, 5)
    for architecture in every(supernet.choices):
        plain = supernet.extract(architecture)
        torch.testing.assert_close(plain(x), supernet(x, architecture))
        both = int(architecture["w"]) + int(architecture["v"])
        assert (plain.both, plain.squeeze.out_features) == (both, both // 2)
        assert plain.w.channels == plain.w == int(architecture["w"])
        assert plain.widths == [int(architecture["out.out_features"])]
        program = torch.export.export(plain, (x,))
        torch.testing.assert_close(program.module()(x), plain(x))


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.op = OneOf(
            {"deep": Depth([nn.Linear(4, 4), nn.Linear(4, 4)], name="deep"), "skip": nn.Identity()},
            name="op",
        )
        self.narrow = nn.Sequential(pn.Linear(4, w := Width(2, 4, name="width")), pn.Linear(w, 4))

    def forward(self, x):
        return self.narrow(self.op(x))


def test_choices_of_one_name_are_one_choice_with_weights_of_their_own():
    torch.manual_seed(0)
    network = nn.Sequential(Cell(), Cell(), Cell())
    supernet = Supernet(network)
    assert [(c.name, len(c.options)) for c in supernet.choices] == [
        ("op", 2),
        ("deep", 2),
        ("width", 2),
    ]
    x = torch.randn(3, 4)
    for architecture in every(supernet.choices):
        plain = supernet.extract(architecture)
        torch.testing.assert_close(plain(x), supernet(x, architecture))
        assert len({type(cell.op) for cell in plain}) == 1
        assert not torch.equal(plain[0].narrow[0].weight, plain[1].narrow[0].weight)
    skipped = {"op": "skip", "deep": "2", "width": "4"}
    assert supernet.canonical(skipped) == skipped | {"deep": "1"}


def test_a_shared_choice_is_used_if_any_of_its_places_is():
    class Either(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = OneOf({"cell": Cell(), "skip": nn.Identity()})
            self.second = OneOf({"cell": Cell(), "skip": nn.Identity()})

        def forward(self, x):
            return self.second(self.first(x))

    supernet = Supernet(Either())
    used = {"first": "skip", "second": "cell", "op": "skip", "deep": "1", "width": "4"}
    assert supernet.canonical(used) == used
    unused = used | {"second": "skip"}
    assert supernet.canonical(unused) == unused | {"op": "deep", "width": "2"}
    index = [c.name for c in supernet.choices].index("width")
    picks = supernet.reaching(index, 1, [1] * len(supernet.choices))
    assert index in supernet.reached(
        {c.name: c.options[p] for c, p in zip(supernet.choices, picks, strict=True)}
    )


def test_a_name_for_choices_of_different_options_is_refused():
    network = nn.Sequential(
        pn.Linear(2, a := Width(2, 4, name="w")), pn.Linear(a, b := Width(2, 6, name="w"))
    )
    assert b is not a
    with pytest.raises(ValueError, match=r"of the name 'w' must have the same options, got .*'4'"):
        Supernet(network)


# --- connections and resolutions --------------------------------------------------------------


class Node(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.node = Connect(
            [
                nn.Linear(4, 4),
                OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()}),
                nn.Identity(),
            ],
            take=[1, 2],
        )

    def forward(self, x):
        return self.node(x, 2 * x, 3 * x)


def test_a_connection_is_the_sum_of_the_branches_that_are_taken():
    torch.manual_seed(0)
    supernet = Supernet(Node())
    assert supernet.choices[0].options == ("0", "1", "2", "0+1", "0+2", "1+2")
    x, branches = torch.randn(3, 4), supernet.network.node.blocks
    each = {"0": branches[0](x), "1": (2 * x).tanh(), "2": 3 * x}
    inner = "node.blocks.1"
    mixture = torch.zeros(3, 4)
    gates = [torch.rand(6).softmax(0), torch.tensor([0.0, 1.0])]
    for index, option in enumerate(supernet.choices[0].options):
        architecture = {"node": option, inner: "tanh"}
        expected = sum(each[i] for i in option.split("+"))
        torch.testing.assert_close(supernet(x, architecture), expected)
        torch.testing.assert_close(supernet.extract(architecture)(x), expected)
        mixture += gates[0][index] * expected
        reached = "1" in option
        assert (supernet.canonical(architecture)[inner] == "tanh") == reached
    torch.testing.assert_close(supernet(x, gates), mixture)


def test_connections_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="take must be between 1 and 2, got 3"):
        Connect(2, take=3)
    node = Connect(2)
    node.gate = 0
    with pytest.raises(ValueError, match="a Connect of 2 branches takes as many tensors, got 1"):
        node(torch.zeros(1))


def test_a_resolution_is_torchs_interpolation():
    network = nn.Sequential(Resolution(4, 6), nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1))
    supernet = Supernet(network)
    x = torch.randn(2, 1, 6, 6)
    for option in ("4", "6"):
        plain = supernet.extract({"0": option})
        size = (int(option), int(option))
        resized = functional.interpolate(x, size, mode="bilinear", align_corners=False)
        expected = network[2](network[1](resized))
        torch.testing.assert_close(plain(x), expected)
        torch.testing.assert_close(supernet(x, {"0": option}), expected)
        assert type(plain[0]) is nn.Upsample
    whole = supernet(x, [torch.tensor([0.0, 1.0])])
    torch.testing.assert_close(whole, supernet(x, {"0": "6"}))


def test_a_number_as_a_pick_and_other_inputs_of_a_resolution_are_refused_in_one_line():
    supernet = Supernet(nn.Sequential(pn.Linear(2, width := Width(2, 4)), pn.Linear(width, 3)))
    with pytest.raises(ValueError, match=r"the pick of choice '.*' must be a text, '2', got 2"):
        supernet.extract({supernet.choices[0].name: 2})
    with pytest.raises(ValueError, match=r"a Resolution takes images .* got the shape \(2, 1, 6\)"):
        Resolution(4, 6)(torch.zeros(2, 1, 6))
