"""Sizes: their arithmetic, what they keep, and choices that share a name or choose connections."""

from itertools import product
from math import floor, prod, trunc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import paretonas.nn as pn
from paretonas._words import used
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
from paretonas.objectives import Parameters
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


# --- a size in a forward pass -----------------------------------------------------------------


class Asked(nn.Module):
    """Answers a question about its sizes, in the supernet as in the extracted network."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v, self.heads = Width(3, 8), Width(4, 6), Heads(1, 2)
        self.ratio, self.half = Ratio(0.5, 3), self.w * 0.5
        self.question = None

    def forward(self, x):
        return [int(each) if isinstance(each, pn.Size) else each for each in self.question(self, x)]


QUESTIONS = {
    "==": lambda s, x: (
        s.w == 3,
        s.w == 3.0,
        s.w != 3,
        s.w == s.v,
        s.heads * 4 == s.v,
        s.w in (3, 5),
    ),
    "of a ratio": lambda s, x: (s.ratio == 3, s.ratio > 1, s.ratio - 1, x * s.ratio),
    "<": lambda s, x: (s.w > 4, s.w < s.v, s.w <= s.v, s.w >= 2.5),
    "with a tensor": lambda s, x: (x * s.w, s.w * x, x + s.w, s.w + x, x - s.w, s.w / x, x**s.w),
    "compared with a tensor": lambda s, x: (x > s.w, s.w == x.round(), x == s.v),
    "divmod": lambda s, x: (*divmod(25, s.w), *divmod(s.w, 2), trunc(s.w), float(np.sqrt(s.w))),
    "//, %": lambda s, x: (s.w // 2, 25 // s.w, s.w // s.heads, 7 % s.w, s.w % s.v, x // s.w),
    "below zero": lambda s, x: (-s.w, s.w * -0.5, s.w + 0, s.w * -1, 2**s.w, s.w - 1.5),
    "a fraction": lambda s, x: (s.w * 0.5 == s.half, x * (s.w * 0.5), x + s.w * s.ratio),
    "a sum": lambda s, x: (sum([s.w, s.v]) * 1, max(s.w, 5) * 1, [0] * s.w),
    "shapes": lambda s, x: (torch.zeros(2, s.w), x.new_ones(s.w), x.expand(s.w, -1, -1).shape),
    "places": lambda s, x: (x[:, : s.w], x[:, -s.w :], [*range(s.w)], [*"abcdefghi"][s.w]),
    "text": lambda s, x: (f"{s.w}", str(s.w), f"{s.w:03d} {s.ratio}", f"{s.w * 2}"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_in_a_forward_pass_a_size_is_the_number_of_the_extracted_network(question):
    network = Asked()
    network.question = QUESTIONS[question]
    supernet, x = Supernet(network), torch.rand(1, 9) + 1
    for architecture in every(supernet.choices):
        found, expected = supernet(x, architecture), supernet.extract(architecture)(x)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            if isinstance(other, torch.Tensor):
                assert torch.equal(one, other)
            else:
                assert one == other and isinstance(one, type(other) | int)
    whole = supernet(x, [torch.tensor([0.0, 1.0])] * 4)  # of a mixture the largest
    last = supernet(x, {c.name: c.options[-1] for c in supernet.choices})
    assert str(whole) == str(last)


def test_outside_of_a_forward_pass_sizes_are_equal_if_they_are_the_same_arithmetic():
    w, v = Width(2, 4), Width(2, 4)
    assert w == w and w != v and w != 2 and w != "2"
    assert w * 2 + v == w * 2 + v and hash(w * 2 + v) == hash(w * 2 + v)
    assert w * 2 != 2 * w and w * 2 != w * 3 and w // 2 != w * 0.5 and w + v != v + w
    w.gate, v.gate = 0, 0
    assert w == v == 2 and w * 2 == 2 * w  # now they are numbers
    groups = Width(1, 4)
    conv = pn.Conv2d(groups * 4, groups * 4, 1, groups=groups)
    groups.gate = 0  # the number 1, and still a choice: a mixture keeps to the groups
    assert conv(torch.zeros(1, 4, 2, 2)).shape == (1, 4, 2, 2)
    assert "groups=Width(1, 4)" in repr(conv)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: w * torch.ones(3, 2), r"a size and a tensor of shape \(3, 2\) in \*"),
        (lambda w: torch.ones(3, 2) + w, r"a size and a tensor of shape \(3, 2\) in \+"),
        (lambda w: w // torch.ones(2), r"a positive integer, got a tensor of shape \(2,\)"),
        (lambda w: w > 3, "this Width has no pick yet"),
        (lambda w: torch.ones(2) - w, "this Width has no pick yet"),
        (lambda w: f"{w:03d}", "Unknown format code 'd'"),
    ],
)
def test_without_a_pick_a_size_is_no_number_and_says_so_in_one_line(make, message):
    with pytest.raises((ValueError, RuntimeError), match=message) as refused:
        make(Width(2, 4))
    assert "\n" not in str(refused.value)


# --- one name inside other choices ------------------------------------------------------------


class Narrow(nn.Module):
    def __init__(self, width, *, held=True):
        super().__init__()
        self.into, self.out = pn.Linear(4, width), pn.Linear(width, 4)
        if held:
            self.width = width

    def forward(self, x):
        return x + self.out(torch.sigmoid(self.into(x)))


def narrow(*widths, name, **kwargs):
    return Narrow(Width(*widths, name=name), **kwargs)


def of_a_stem_too():
    """A size that only a block that may be left out holds, and the first layer uses."""
    width = Width(2, 4, name="w")
    return nn.Sequential(Narrow(width, held=False), Depth([narrow(3, 5, name="v"), Narrow(width)]))


def in_two_blocks():
    blocks = [narrow(2, 4, name="w"), narrow(1, 3, name="v"), narrow(2, 4, name="w")]
    return nn.Sequential(Depth(blocks, at_least=0))


def in_two_options():
    one, two = narrow(2, 4, name="w"), nn.Sequential(*(narrow(2, 4, name=n) for n in "wv"))
    return nn.Sequential(OneOf({"one": one, "two": two, "skip": nn.Identity()}))


def depths_of_one_name():
    inner = Depth([narrow(1, 2, name=n) for n in "abc"], name="d")
    deepest = Depth([narrow(1, 2, name=n) for n in "fga"], name="d")
    return nn.Sequential(Depth([narrow(1, 3, name="e"), inner, deepest], name="d"))


NESTED = [of_a_stem_too, in_two_blocks, in_two_options, depths_of_one_name]


@pytest.mark.parametrize("make", NESTED)
def test_choices_inside_others_of_one_name_are_used_where_a_layer_of_theirs_runs(make):
    """The modules that run are the oracle."""
    watched, x, ran = Supernet(make()), torch.randn(2, 4), set()
    users = {}
    for path, module in watched.network.named_modules():
        if isinstance(module, pn.Linear):
            module.register_forward_hook(lambda *_, path=path: ran.add(path))
            users[path] = watched.choices_in(module)
    sizes = {index for used in users.values() for index in used}
    assert len(sizes) > 1
    for architecture in every(watched.choices):
        ran.clear()
        watched(x, architecture)
        reached = {index for path in ran for index in users[path]}
        assert {*watched.reached(architecture)} & sizes == reached
        names = {watched.choices[index].name for index in watched.reached(architecture)}
        assert used(architecture, {"conditions": watched.conditions()}).keys() == names
        picks = [c.options.index(architecture[c.name]) for c in watched.choices]
        for path in users:
            runs = all(picks[i] in allowed for i, allowed in watched.needs_of(path))
            assert runs == (path in ran), (path, architecture)


@pytest.mark.parametrize("make", NESTED)
def test_every_architecture_of_nested_names_is_extracted_counted_and_mixed(make):
    torch.manual_seed(0)
    supernet, x = Supernet(make()), torch.randn(2, 4)
    probabilities = [torch.rand(len(c.options)).double().softmax(0) for c in supernet.choices]
    parameters = Parameters.of(supernet, x)
    expected = 0.0
    for architecture in every(supernet.choices):
        plain = supernet.extract(architecture)
        count = sum(p.numel() for p in plain.parameters())
        assert parameters.exact(architecture) == count
        same = supernet.extract(supernet.canonical(architecture))
        y = plain(x)
        torch.testing.assert_close(same(x), y)
        torch.testing.assert_close(supernet(x, architecture), y)
        one_hot = [
            torch.tensor([float(o == architecture[c.name]) for o in c.options])
            for c in supernet.choices
        ]
        torch.testing.assert_close(supernet(x, one_hot), y)
        chances = zip(probabilities, supernet.choices, strict=True)
        expected += count * prod(p[c.options.index(architecture[c.name])] for p, c in chances)
    assert parameters.relaxed(torch.cat(probabilities)).item() == pytest.approx(float(expected))


@pytest.mark.parametrize("make", NESTED)
def test_an_architecture_that_reaches_a_pick_is_found_from_every_other(make):
    supernet = Supernet(make())
    for index, choice in enumerate(supernet.choices):
        for pick, start in product(range(len(choice.options)), every(supernet.choices)):
            picks = [c.options.index(start[c.name]) for c in supernet.choices]
            found = supernet.reaching(index, pick, picks)
            named = {c.name: c.options[i] for c, i in zip(supernet.choices, found, strict=True)}
            assert (index, pick) in supernet.taken(named)


def test_an_inner_choice_without_an_option_takes_along_only_what_needs_it():
    supernet = Supernet(depths_of_one_name())
    for option in ("1", "2"):
        supernet.set_aside("f", option, "too slow")  # in the block that runs at depth 3
    index = [c.name for c in supernet.choices].index("d")
    assert supernet.left(index) == [0, 1]
    always = Supernet(of_a_stem_too())
    always.set_aside("w", "2", "too slow")
    with pytest.raises(ValueError, match="choice 'w' has no option left .* 2: too slow; 4: bad"):
        always.set_aside("w", "4", "bad")


def test_a_choice_that_no_architecture_reaches_is_refused_in_one_line():
    inner = OneOf({"a": nn.Identity(), "b": narrow(2, 4, name="never")}, name="op")
    network = nn.Sequential(OneOf({"a": inner, "b": nn.Identity()}, name="op"))
    with pytest.raises(ValueError, match="no architecture reaches the choice 'never': it is"):
        Supernet(network)
