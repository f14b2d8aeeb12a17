"""An existing network as a space: nothing is lost at the full size; what is cut fits together."""

import copy
from random import Random

import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas import NetworkSpace
from paretonas.arguments import tensors
from paretonas.names import find_space
from paretonas.nn import Conv2d, Converted, Elastic, Linear, Supernet, Width, convert
from paretonas.nn.conversion.trials import output
from paretonas.nn.importance import Taylor, batch_norm_scale
from paretonas.space import draw
from search_spaces.images import digits_8x8

IMAGE, TOKENS = torch.randn(2, 3, 16, 16), torch.randint(0, 20, (2, 6))


class Residual(nn.Module):
    def __init__(self, ins, outs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        self.short = nn.Conv2d(ins, outs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return functional.relu(y + self.short(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stage = nn.Sequential(Residual(8, 16, 2), Residual(16, 16), Residual(16, 16))
        self.head = nn.Linear(16 * 4, 10)

    def forward(self, x):
        return self.head(functional.adaptive_avg_pool2d(self.stage(self.stem(x)), 2).flatten(1))


class Inverted(nn.Module):
    """Depthwise, squeeze-and-excitation, a gate that is not zero at zero, a grouped convolution."""

    def __init__(self):
        super().__init__()
        self.expand = nn.Conv2d(3, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.norm = nn.BatchNorm2d(16)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.grouped = nn.Conv2d(16, 32, 3, groups=4)
        self.last = nn.Conv2d(32, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = functional.hardswish(self.norm(self.depthwise(self.expand(x))))
        gate = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        x = self.last(self.grouped(x * gate).sigmoid())
        return self.head(x.amax((2, 3)))


class Dense(nn.Module):
    """Concatenations of all that came before."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(8 + 8 * i, 8, 3, padding=1) for i in range(2))
        self.norm = nn.BatchNorm2d(24)
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)).relu())
        return self.head(self.norm(torch.cat(found, 1)).mean((2, 3)))


class Generator(nn.Module):
    """A linear layer whose features become channels, and transposed convolutions."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(6, 16 * 16)
        self.body = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1)
        )

    def forward(self, x):
        return self.body(self.project(x).view(len(x), -1, 4, 4))


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.both, self.out, self.head = nn.Linear(6, 32), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x, y):
        a, b = self.both(x).chunk(2, -1)
        return self.head(self.out(a * b.sigmoid())) + y


class Attention(nn.Module):
    """Heads by the number of channels that come in: the inside must be cut as the outside."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        n, length, dim = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = ((q @ k.mT) * 0.3).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(n, length, dim))


class FixedAttention(nn.Module):
    """Heads by numbers that are attributes."""

    def __init__(self, dim, heads):
        super().__init__()
        self.n_embd, self.n_head, self.head_dim = dim, heads, dim // heads
        self.c_attn, self.c_proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        n, length, _ = x.shape
        shape = (n, length, self.n_head, self.head_dim)
        q, k, v = (t.view(shape).transpose(1, 2) for t in self.c_attn(x).split(self.n_embd, 2))
        x = functional.scaled_dot_product_attention(q, k, v, scale=0.3, is_causal=True)
        return self.c_proj(x.transpose(1, 2).reshape(n, length, self.n_embd))


class Transformer(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(20, 16))
        self.position = nn.Parameter(torch.randn(1, 6, 16))
        self.norm, self.attention = nn.LayerNorm(16), attention(16, 2)
        self.scale = nn.Parameter(torch.rand(16))
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 20, bias=False)

    def forward(self, t):
        x = self.tokens[t] + self.position
        x = x + self.attention(self.norm(x))
        return self.head(x + self.scale * self.mlp(x))


class Functional(nn.Module):
    """A function that gets the weights of layers, as in torchvision's Swin Transformer."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        n, length, dim = x.shape
        qkv = functional.linear(x, self.qkv.weight, self.qkv.bias)
        q, k, v = qkv.reshape(n, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return functional.linear(x.reshape(n, length, dim), self.proj.weight, self.proj.bias)


class Multihead(nn.Module):
    """Torch's attention, where the keys and values have the channels of the queries."""

    def __init__(self, dim, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Standardized(nn.Conv2d):
    """A convolution with weights of mean 0 and variance 1, as in networks without norms."""

    def forward(self, x):
        mean, var = self.weight.mean((1, 2, 3), keepdim=True), self.weight.var((1, 2, 3))
        weight = (self.weight - mean) / (var[:, None, None, None] + 1e-5).sqrt()
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Across(nn.Module):
    """What zeros in place of missing channels change: a mean and a softmax over channels."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(Standardized(3, 8, 3), nn.ReLU(), Standardized(8, 16, 3))
        self.mean, self.softmax = MeanOverChannels(), nn.Softmax(1)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.softmax(self.mean(self.convs(x))).mean((2, 3)))


class MeanOverChannels(nn.Module):
    def forward(self, x):
        return x - x.mean(1, keepdim=True)


class Torch(nn.Module):
    """Torch's own attention and recurrence."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.inner = nn.Linear(3, 16)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.lstm = nn.LSTM(16, 8, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.lstm(self.encoder(self.inner(x)))[0][:, -1])


NETWORKS = {
    "residual": (ResNet, IMAGE),
    "inverted": (Inverted, IMAGE),
    "dense": (Dense, IMAGE),
    "generator": (Generator, torch.randn(2, 6)),
    "gated, two inputs": (Gated, (torch.randn(2, 6), torch.randn(2, 3))),
    "attention": (lambda: Transformer(Attention), TOKENS),
    "attention by attributes": (lambda: Transformer(FixedAttention), TOKENS),
    "attention by a function": (lambda: Transformer(Functional), TOKENS),
    "torch's attention": (lambda: Transformer(Multihead), TOKENS),
    "across channels": (Across, IMAGE),
    "torch's own": (Torch, torch.randn(2, 5, 3)),
}
ALIKE = ("residual", "inverted", "dense", "generator", "gated, two inputs")  # no norm over channels


def made(name):
    make, example = NETWORKS[name]
    torch.manual_seed(0)
    model = make().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model, example


def same(one, other, tolerance=1e-5):
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


# --- what must hold for every network -----------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_at_the_full_size_it_is_the_model_which_is_not_changed(name):
    model, example = made(name)
    before = copy.deepcopy(model.state_dict())
    kinds = [type(module) for module in model.modules()]
    network = convert(model, example, depth=True, kernels=(3,))
    assert same(output(network, example), output(model, example))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert kinds == [type(module) for module in model.modules()]
    assert network.conversion.elastic > 0.9


@pytest.mark.parametrize("name", NETWORKS)
def test_sub_networks_are_plain_and_equal_the_supernet(name):
    model, example = made(name)
    supernet = Supernet(convert(model, example, depth=True, kernels=(3,)).eval())
    smallest = {choice.name: choice.options[0] for choice in supernet.choices}
    for architecture in (smallest, draw(supernet.choices, Random(1))):
        plain = supernet.extract(architecture)
        with supernet.picked(architecture):
            assert same(output(plain, example), output(supernet.network, example))
        assert not [m for m in plain.modules() if type(m).__module__.startswith("paretonas")]
        assert len({*map(type, plain.modules())} - {*map(type, model.modules())}) == 0
        gates = [
            torch.tensor([float(option == architecture[choice.name]) for option in choice.options])
            for choice in supernet.choices
        ]
        with supernet.picked(gates):
            assert same(output(supernet.network, example), output(plain, example), 1e-4)
    count = sum(p.numel() for p in supernet.extract(smallest).parameters())
    assert count < 0.6 * sum(p.numel() for p in model.parameters())


def kept_slices(whole, piece):
    """The axis along which a tensor was cut, and which slices were kept; by their values."""
    (axis,) = (i for i, (a, b) in enumerate(zip(whole.shape, piece.shape, strict=True)) if a != b)
    rows, found = (t.detach().movedim(axis, 0) for t in (whole, piece))
    rows, found = (t.reshape(len(t), -1) for t in (rows, found))
    return axis, (rows[:, None] == found[None]).all(-1).any(1)


@pytest.mark.parametrize("name", ALIKE)
def test_a_smaller_width_is_the_model_with_the_other_channels_at_zero(name):
    model, example = made(name)
    network = convert(model, example, widths=(0.5,))
    supernet = Supernet(network.eval())
    full = {choice.name: choice.options[-1] for choice in supernet.choices}
    for choice in supernet.choices:
        plain = supernet.extract({**full, choice.name: choice.options[0]})
        whole = supernet.extract(full)  # with its channels in the same order
        pieces = dict(plain.named_parameters())
        cut = 0
        for key, tensor in whole.named_parameters():
            if tensor.shape != pieces[key].shape and not _two_axes(tensor, pieces[key]):
                axis, kept = kept_slices(tensor, pieces[key])
                assert int(kept.sum()) == pieces[key].shape[axis]
                with torch.no_grad():
                    tensor.movedim(axis, 0)[~kept] = 0
                cut += 1
        assert cut > 1  # what makes the channels, and what reads them
        assert same(output(plain, example), output(whole, example))


def _two_axes(whole, piece):
    return sum(a != b for a, b in zip(whole.shape, piece.shape, strict=True)) > 1


# --- which channels -----------------------------------------------------------------------------


@pytest.mark.parametrize("importance", ["magnitude", "batch norm", "taylor"])
def test_a_smaller_width_keeps_the_most_important_channels(importance):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    model.append(nn.Linear(16, 2))
    strong = torch.tensor([1, 4, 5, 15])
    settings = {}
    with torch.no_grad():
        if importance == "batch norm":
            settings["importance"] = batch_norm_scale
            model[1].weight[strong] = 2
        else:
            model[0].weight[strong] *= 4
        if importance == "taylor":
            target = torch.zeros(16)
            target[strong] = 1

            def loss(network):
                images = torch.ones(2, 1, 8, 8)
                return (network.eval()[:2](images).mean((0, 2, 3)) * target).sum()

            settings["importance"] = Taylor(loss)
    network = convert(model, torch.ones(2, 1, 8, 8), widths=(0.25,), **settings)
    plain = Supernet(network).extract({"0": "4"})
    expected = model[0].weight[strong].detach()
    assert {tuple(w.flatten().tolist()) for w in plain[0].weight.detach()} == {
        tuple(w.flatten().tolist()) for w in expected
    }


def test_shared_parameters_stay_shared():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode, self.decode = nn.Linear(12, 16), nn.Linear(16, 12)
            self.again = nn.Linear(12, 16)
            self.again.weight = self.encode.weight

        def forward(self, x):
            return self.decode(self.again(self.decode(self.encode(x).relu())).relu())

    supernet = Supernet(convert(Tied(), torch.randn(2, 12)))
    plain = supernet.extract({"encode": "4"})
    assert plain.again.weight is plain.encode.weight
    assert plain.encode.weight.shape == (4, 12)


# --- what stays fixed ---------------------------------------------------------------------------


class Plain(nn.Module):
    """A plain number of channels in the code."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 1)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        x = self.first(x).view(len(x), 8, 256).relu().view(len(x), -1, 16, 16)
        return self.head(self.second(x).mean((2, 3)))


def test_a_plain_number_in_the_code_keeps_its_width_fixed_and_only_that():
    conversion = convert(Plain(), IMAGE).conversion
    assert list(conversion.choices) == ["second"]
    assert "the network's own forward fails at a smaller size" in conversion.fixed["first"]
    assert "output of the network" in conversion.fixed["head"]


def test_widths_of_one_number_are_told_apart():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 10)

        def forward(self, x):
            return self.c(self.b(self.a(x).view(-1, 16)).relu())

    conversion = convert(Net(), torch.randn(2, 8)).conversion
    assert list(conversion.choices) == ["b"]
    assert conversion.fixed.keys() == {"a", "c"}


@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y.argmax(1),
        lambda y: {"label": y.max(1)[1], "score": y.max(1)[0]},
        lambda y: (y.min(1).values, y.argmin(1)),
    ],
)
def test_a_network_that_gives_the_numbers_of_classes_keeps_them(labels):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 10)

        def forward(self, x):
            return labels(self.b(self.a(x).relu()))

    model, x = Net(), torch.randn(50, 8)
    network = convert(model, x)
    assert list(network.conversion.choices) == ["a"]
    for found, expected in zip(tensors(network(x)), tensors(model(x)), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_maximum_over_channels_may_be_cut_where_its_places_are_not_used():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 10)

        def forward(self, x):
            hidden = self.a(x)
            return self.b(hidden * hidden.max(1, keepdim=True).values)

    assert list(convert(Net(), torch.randn(2, 8)).conversion.choices) == ["a"]


def test_what_depends_on_the_order_of_channels_stays_fixed():
    class Rolled(Plain):
        def forward(self, x):
            return self.head(self.second(self.first(x).roll(1, 1)).mean((2, 3)))

    conversion = convert(Rolled(), IMAGE).conversion
    assert list(conversion.choices) == ["second"]
    assert "roll" in conversion.fixed["first"] and "order" in conversion.fixed["first"]


def test_a_network_that_keeps_values_of_an_earlier_pass_is_not_spoiled():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 16)
            self.head = nn.Linear(16, 2)
            self.kept = {}

        def forward(self, x):
            scale = self.kept.setdefault("scale", self.first.bias.detach().clone())
            return self.head(self.second(self.first(x) * scale).relu())

    model, x = Keeps(), torch.randn(2, 6)
    expected = output(model, x)
    assert same(output(convert(model, x), x), expected)


def test_a_head_that_runs_only_in_training_is_cut_too():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
            self.second, self.head = nn.Conv2d(8, 16, 3), nn.Linear(16, 2)
            self.extra = nn.Sequential(nn.Conv2d(8, 12, 1), nn.Flatten(), nn.Linear(12 * 196, 2))

        def forward(self, x):
            x = self.norm(self.first(x)).relu()
            y = self.head(self.second(x).mean((2, 3)))
            return (y, self.extra(x)) if self.training else y

    model = TwoHeads()
    before = copy.deepcopy(model.state_dict())
    network = convert(model, IMAGE)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert list(network.conversion.choices) == ["first", "second", "extra.0"]
    plain = Supernet(network).extract({"first": "2", "second": "4", "extra.0": "4"})
    assert [tuple(y.shape) for y in plain.train()(IMAGE)] == [(2, 2), (2, 2)]
    assert plain.extra[2].in_features == 4 * 196


@pytest.mark.parametrize("keep", ["stem", "module"])
def test_what_is_kept_stays(keep):
    model, example = made("residual")
    network = convert(model, example, keep=[model.stem if keep == "module" else keep])
    assert isinstance(network.stem, nn.Conv2d)
    assert "stem" not in network.conversion.choices
    assert network.conversion.fixed["stem"] == "it is kept as it is"


def test_blocks_and_kernels_are_choices():
    model, example = made("residual")
    choices = convert(model, example, depth=True).conversion.choices
    assert choices["stage.depth"] == ("0", "1", "2")  # the block with the stride always runs
    assert not any(name.endswith("kernel") for name in choices)
    model, example = made("inverted")
    conversion = convert(model, example, kernels=(1, 3)).conversion
    assert conversion.choices["depthwise.kernel"] == ("1", "3", "5")
    assert "padded" in conversion.fixed["grouped.kernel"]


def test_blocks_that_are_used_by_their_places_all_run():
    class Indexed(ResNet):
        def forward(self, x):
            x = self.stem(x)
            for place in range(3):
                x = self.stage[place](x)
            return self.head(functional.adaptive_avg_pool2d(x, 2).flatten(1))

    conversion = convert(Indexed(), IMAGE, depth=True).conversion
    assert "stage.depth" not in conversion.choices and len(conversion.choices) == 5
    assert conversion.fixed["stage.depth"] == "the network uses its blocks by their places"


def test_the_blocks_of_a_plain_sequential_are_a_choice():
    network = convert(nn.Sequential(Residual(3, 3), Residual(3, 3)), IMAGE, depth=True)
    assert network.conversion.choices["depth"] == ("1", "2")


def test_numbers_that_must_agree_are_one_width():
    model, example = made("attention")
    network = convert(model, example)
    assert list(network.conversion.choices) == ["tokens", "mlp.0"]
    plain = Supernet(network).extract({"tokens": "2", "mlp.0": "8"})
    assert plain.attention.qkv.weight.shape == (3 * 4, 4)
    model, example = made("attention by attributes")
    network = convert(model, example)
    plain = Supernet(network).extract(
        {name: options[0] for name, options in network.conversion.choices.items()}
    )
    assert plain.attention.n_head == 2
    assert plain.attention.n_embd == plain.attention.c_proj.in_features < 16
    assert type(plain.attention) is FixedAttention


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (0.5, 2.0)}, r"widths must be fractions in \(0, 1\].*got \[0.5, 2.0\]"),
        ({"widths": ()}, "widths must be fractions.*at least one"),
        ({"widths": "half"}, "widths must be fractions.*got 'half'"),
        ({"widths": 0.5}, "widths must be fractions.*got 0.5"),
        ({"kernels": (2,)}, r"kernels must be odd and positive, as \(3, 5\), got \(2,\)"),
        ({"kernels": 3}, "kernels must be odd and positive.*got 3"),
        ({"keep": ["nose"]}, "keep takes modules of the network or their paths, and 'nose' is"),
        ({"example": torch.randn(1, 3)}, "the network does not run on the example"),
        ({"example": torch.randn(0, 1, 8, 8)}, r"an empty tensor of shape \(0, 1, 8, 8\)"),
        ({"example": torch.full_like(IMAGE, torch.nan)}, "the network gives NaN on the example"),
    ],
)
def test_bad_input_is_refused_in_one_line(settings, message):
    model, example = made("residual")
    with pytest.raises(ValueError, match=message) as error:
        convert(model, **{"example": example} | settings)
    assert "\n" not in str(error.value)


def test_a_network_with_nothing_to_choose_is_refused_with_the_reasons():
    with pytest.raises(ValueError, match="nothing to choose.*0: it is an output of the network"):
        convert(nn.Sequential(nn.Linear(4, 2)), torch.randn(1, 4))


# --- as a space ---------------------------------------------------------------------------------


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def test_a_space_of_a_model_starts_from_its_weights_in_their_order():
    space = NetworkSpace("mine", Converted(small, torch.randn(1, 1, 8, 8)), digits_8x8)
    torch.manual_seed(3)
    trained = small()
    with torch.no_grad():
        trained[1].weight[7] *= 10
    started = space.start_from(trained.state_dict())
    first = started.supernet().extract({"1": "4"})[1].weight[0]
    assert torch.equal(first, trained[1].weight[7])
    x = torch.randn(2, 1, 8, 8)
    whole = started.supernet().extract({"1": "16"})
    assert same(output(whole, x), output(trained, x))


def test_a_model_in_a_file_is_a_space_by_its_name(tmp_path):
    (tmp_path / "a_model_to_convert.py").write_text(
        "from torch import nn\n"
        "from search_spaces.images import digits_8x8 as task\n"
        "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))\n"
        "text = 'no model'\n"
    )
    space = find_space("convert:a_model_to_convert.py:model", tmp_path)
    assert [choice.name for choice in space.choices] == ["1"]
    assert space.load_task().metric.name
    with pytest.raises(ValueError, match="has no 'nose'"):
        find_space("convert:a_model_to_convert.py:nose", tmp_path)
    with pytest.raises(ValueError, match="of type str, no network"):
        find_space("convert:a_model_to_convert.py:text", tmp_path)


@pytest.mark.parametrize("norm", ["weight_norm", "parametrizations", "hook"])
def test_layers_with_hooks_and_parametrizations_are_cut_in_place(norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.Conv1d(8, 16, 3), nn.Flatten())
    model.append(nn.Linear(16 * 6, 2))
    if norm == "parametrizations":
        nn.utils.parametrizations.weight_norm(model[2])
    elif norm == "hook":
        model[2].register_forward_hook(lambda layer, args, y: y * 2)
    else:
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(model[2])
    x = torch.randn(2, 2, 10)
    supernet = Supernet(convert(model, x, widths=(0.5,)).eval())
    assert [choice.name.split(".")[0] for choice in supernet.choices] == ["0", "2"]
    assert same(
        output(supernet.extract({c.name: c.options[-1] for c in supernet.choices}), x),
        output(model, x),
    )
    smallest = {choice.name: choice.options[0] for choice in supernet.choices}
    plain = supernet.extract(smallest)
    with supernet.picked(smallest):
        assert same(output(plain, x), output(supernet.network, x))
    assert plain[4].in_features == 8 * 6


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 2)), "the LazyLinear at '0' has no size yet"),
        (
            nn.Sequential(Linear(4, Width(4, 8))),
            "the Linear at '0' is a choice or an elastic layer",
        ),
    ],
)
def test_modules_that_cannot_be_converted_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        convert(model, torch.randn(1, 4))


def test_elastic_layers_keep_the_class_of_a_subclass():
    class Scaled(nn.Conv2d):
        def __init__(self, *args):
            super().__init__(*args)
            self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1))

        def forward(self, x):
            return super().forward(x) * self.gain

    class Named(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 1

    model = nn.Sequential(Scaled(3, 8, 3), Named(8, 8, 1), nn.Flatten(1), nn.LazyLinear(2))
    model(IMAGE)
    network = convert(model, IMAGE)
    assert isinstance(network[0], Scaled) and isinstance(network[0], Elastic)  # its own tensors
    assert isinstance(network[1], Conv2d)
    plain = Supernet(network).extract({"0": "2", "1": "2"})
    assert [type(layer) for layer in plain[:2]] == [Scaled, Named]
    assert plain[0].gain.shape == (2, 1, 1)
