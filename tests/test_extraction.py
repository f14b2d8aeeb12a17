"""A network taken out of a supernet computes the same, and shares what is shared, or is refused."""

import functools
from collections.abc import Iterator
from random import Random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from paretonas.nn import BatchNorm1d, Depth, Linear, OneOf, Supernet, Width
from paretonas.space import Architecture, draw


class Net(nn.Module):
    """What the networks below have in common: 16 numbers in, a width, a choice."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(4, 8)
        self.act = OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()})
        self.plain, self.hidden = nn.Linear(16, 16), Linear(16, self.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden(self.act(self.plain(x)))


class TiedElastic(Net):
    def __init__(self) -> None:
        super().__init__()
        self.other = Linear(16, self.width)
        self.other.weight = self.hidden.weight

    def forward(self, x):
        return super().forward(x) * self.other(x)


class TiedToAnEmbedding(Net):
    """The elastic layer comes first in one place and last in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tokens, self.last = Linear(16, 16), nn.Embedding(16, 16), Linear(16, 16)
        self.first.weight = self.last.weight = self.tokens.weight

    def forward(self, x):
        return super().forward(self.last(self.first(x @ self.tokens.weight)))


class TiedThroughOptions(Net):
    def __init__(self) -> None:
        super().__init__()
        one, other = Linear(16, self.width), Linear(16, self.width)
        other.weight = one.weight
        self.op = OneOf({"one": one, "other": nn.Sequential(other, nn.Tanh())})
        self.again = OneOf({"one": one, "other": other})

    def forward(self, x):
        return super().forward(x) + self.op(x) * self.again(x)


class InSeveralPlaces(Net):
    """One layer as an attribute, an option, a block, and twice in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.op = OneOf({"layer": self.plain, "skip": nn.Identity()})
        self.deep = Depth([self.plain, nn.Sequential(self.plain, self.plain)], at_least=0)

    def forward(self, x):
        return super().forward(self.deep(self.op(x)))


class Referring(nn.Module):
    """An earlier module's plain list, which refers to a choice and to an elastic layer."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.net = nn.Module(), Net()
        self.early.parts = [self.net.act, self.net.hidden]

    def forward(self, x):
        act, hidden = self.early.parts
        return self.net(x) + hidden(act(x))


class Hooked(Net):
    """Hooks that reach the network as a closure, a method, an argument, a default."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        layers = [self.plain]
        self.plain.register_forward_hook(lambda _, args, y: y * self.scale)
        self.plain.register_forward_hook(self.shift)
        self.plain.register_forward_hook(functools.partial(scaled, self.scale))
        self.plain.register_forward_pre_hook(lambda _, args: (args[0] @ layers[0].weight,))
        self.act.options["relu"].register_forward_hook(lambda m, args, y, of=self.plain: of(y))
        self.act.options["tanh"].register_forward_hook(self.by_keyword())

    def by_keyword(self):
        def hook(_, args, y, *, scale=self.scale, also=(self.plain,)):
            return also[0].weight.sum() + scale * y

        return hook

    def shift(self, _, args, y):
        return y + self.scale


def scaled(scale, _, args, y):
    return y * scale


class OwnForward(Net):
    """A method that is replaced on the instance, and calls the old one."""

    def __init__(self) -> None:
        super().__init__()
        old = self.plain.forward
        self.plain.forward = lambda x: old(x) * self.plain.bias


class Keeping(Net):
    """Keeps a result of its last pass, as one does to look at it."""

    def forward(self, x):
        self.last = self.plain(x)
        return self.hidden(self.act(self.last))


class OldWeightNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(self.plain)


class WeightNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.weight_norm(self.plain)


class NormAndAct(nn.BatchNorm1d):
    def __init__(self, features: int, act: nn.Module) -> None:
        super().__init__(features)
        self.act = act

    def forward(self, x):
        return self.act(super().forward(x))


class Norms(Net):
    """Batch norms of every kind, those that do not track, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.Sequential(
            nn.BatchNorm1d(16, momentum=None),
            nn.BatchNorm1d(16, affine=False),
            nn.BatchNorm1d(16, track_running_stats=False),
            nn.SyncBatchNorm(16),
            NormAndAct(16, nn.Tanh()),
        )
        self.frozen = nn.BatchNorm1d(16)
        nn.init.constant_(self.frozen.running_mean, 3.0)
        self.frozen.eval()
        self.elastic = BatchNorm1d(self.width, momentum=None, affine=False)

    def forward(self, x):
        return self.elastic(super().forward(self.frozen(self.norms(x))))


class Attention(Net):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.lstm = nn.LSTM(16, 16, batch_first=True)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), 1, 16), x[:, None]], dim=1)
        return super().forward(self.lstm(self.attention(x, x, x)[0])[0][:, 0])


class OwnConstructor(Linear):
    def __init__(self, width: Width) -> None:
        super().__init__(16, width, bias=False)


class Derived(Net):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = OwnConstructor(self.width)


NETWORKS = [
    TiedElastic,
    TiedToAnEmbedding,
    TiedThroughOptions,
    InSeveralPlaces,
    Referring,
    Hooked,
    OwnForward,
    Keeping,
    OldWeightNorm,
    WeightNorm,
    Norms,
    Attention,
    Derived,
]


def cases(network: type[nn.Module]) -> Iterator[tuple[Supernet, Architecture, Tensor]]:
    torch.manual_seed(0)
    supernet, rng = Supernet(network()), Random(0)
    x = torch.randn(6, 16)
    for _ in range(6):
        architecture = draw(supernet.choices, rng)
        supernet(x, architecture)  # whatever a pass leaves behind
        yield supernet, architecture, x


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("network", NETWORKS)
class TestEveryNetwork:
    def test_the_function_and_its_gradient_are_those_of_the_path(self, network):
        for supernet, architecture, x in cases(network):
            plain = supernet.extract(architecture)
            x.requires_grad_()
            found, expected = plain(x), supernet(x, architecture)
            torch.testing.assert_close(found, expected)
            (one,), (other,) = (torch.autograd.grad(y.square().sum(), x) for y in (found, expected))
            torch.testing.assert_close(one, other)

    def test_the_weights_are_its_own_and_all_that_it_uses(self, network):
        for supernet, architecture, x in cases(network):
            plain = supernet.extract(architecture)
            expected = plain(x).detach()
            with torch.no_grad():
                for parameter in supernet.parameters():
                    parameter += 1.0
            torch.testing.assert_close(plain(x).detach(), expected)
            plain(x).square().sum().backward()
            assert all(p.grad is None for p in supernet.parameters())

    def test_what_is_one_parameter_stays_one(self, network):
        for supernet, architecture, _ in cases(network):
            names: dict[int, set[str]] = {}
            for name, p in supernet.network.named_parameters(remove_duplicate=False):
                names.setdefault(id(p), set()).add(name)
            held = dict(supernet.extract(architecture).named_parameters(remove_duplicate=False))
            for shared in names.values():
                assert len({id(held[name]) for name in shared & held.keys()}) <= 1

    def test_a_fresh_network_is_the_same_function_of_its_own_weights(self, network):
        for supernet, architecture, x in cases(network):
            fresh = supernet.fresh(architecture, seed=1)
            assert str(fresh) == str(supernet.extract(architecture))
            again = Supernet(supernet._constructor()).fresh(architecture, seed=1)
            assert torch.equal(fresh(x), again(x))


class DifferentWidths(Net):
    def __init__(self) -> None:
        super().__init__()
        self.narrow = Width(2, 8)
        self.other = Linear(16, self.narrow)
        self.other.weight = self.hidden.weight


class ElasticAndPlain(Net):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(16, 8)
        self.other.weight = self.hidden.weight


class ReferredTo(Net):
    def __init__(self) -> None:
        super().__init__()
        self.reference = [self.hidden.weight]


@pytest.mark.parametrize("network", [DifferentWidths, ElasticAndPlain, ReferredTo])
def test_a_parameter_that_would_be_torn_is_refused_by_name(network):
    supernet = Supernet(network())
    smallest = {choice.name: choice.options[0] for choice in supernet.choices}
    with pytest.raises(ValueError, match=r"different pieces of .*'hidden\.weight'"):
        supernet.extract(smallest)
    supernet.extract({choice.name: choice.options[-1] for choice in supernet.choices})


def double(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda _, args, y: 2 * y)
    return module


class TwiceLinear(Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class TwiceOneOf(OneOf):
    def forward(self, x):
        return 2 * super().forward(x)


class TwiceDepth(Depth):
    def forward(self, x):
        return 2 * super().forward(x)


class OwnWidth(Width):
    @property
    def channels(self):
        return 4


def bound(module: nn.Module) -> nn.Module:
    module.forward = lambda x: x
    return module


OPTIONS = {"relu": nn.ReLU(), "tanh": nn.Tanh()}
CHANGED = {
    "hook on an elastic layer": (lambda w: double(Linear(16, w)), "the Linear at 'x' has hooks"),
    "hook on a choice": (lambda w: double(OneOf(OPTIONS)), "the OneOf at 'x' has hooks"),
    "subclass of a layer": (lambda w: TwiceLinear(16, w), "the Linear at 'x' has its own forward"),
    "subclass of OneOf": (lambda w: TwiceOneOf(OPTIONS), "the OneOf at 'x' has its own forward"),
    "subclass of Depth": (lambda w: TwiceDepth([nn.ReLU()]), "Depth at 'x' has its own forward"),
    "subclass of Width": (lambda w: OwnWidth(4, 8), "the Width at 'x' has its own channels"),
    "instance": (lambda w: bound(Linear(16, w)), "the Linear at 'x' has its own forward"),
    "spectral norm": (
        lambda w: parametrizations.spectral_norm(Linear(16, w)),
        "the Linear at 'x' has its own weight, further parametrizations",
    ),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_changed_choice_or_elastic_layer_is_refused_by_name(kind):
    make, message = CHANGED[kind]
    network = Net()
    network.x = make(network.width)
    with pytest.raises(ValueError, match=message):
        Supernet(network)


def test_a_change_after_the_supernet_was_made_is_refused_too():
    supernet = Supernet(Net())
    architecture = draw(supernet.choices, Random(0))
    handle = supernet.network.hidden.register_forward_hook(lambda _, args, y: 2 * y)
    with pytest.raises(ValueError, match="the Linear at 'hidden' has hooks"):
        supernet.extract(architecture)
    handle.remove()
    supernet.extract(architecture)


def test_a_choice_that_stands_in_two_places_is_reached_through_either():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inner = nn.Sequential(OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()}))
            self.op = OneOf({"skip": nn.Identity(), "inner": inner})
            self.again = inner

        def forward(self, x):
            return self.again(self.op(x))

    supernet = Supernet(Twice())
    inner = supernet.choices[1].name
    for pick in ("relu", "tanh"):
        assert supernet.canonical({"op": "skip", inner: pick})[inner] == pick


def test_running_statistics_are_those_that_the_network_was_made_with():
    supernet = Supernet(Norms())
    with torch.no_grad():
        supernet.network.norms[0].running_mean.fill_(5.0)
    for supernet_mode in (True, False):
        supernet.train(supernet_mode)
        for _ in range(3):
            supernet(torch.randn(6, 16), draw(supernet.choices, Random(0)))
    plain = supernet.train().extract(draw(supernet.choices, Random(0)))
    assert (plain.norms[0].running_mean == 5.0).all()
    assert plain.norms[0].momentum is None
    assert plain.norms[2].running_mean is None
    assert (plain.frozen.running_mean == 3.0).all()
    assert [m.training for m in (plain, plain.norms, plain.frozen)] == [True, True, False]


def test_frozen_parts_stay_frozen():
    network = Net()
    network.hidden.weight.requires_grad_(False)
    network.plain.requires_grad_(False)
    supernet = Supernet(network)
    architecture = {"width": "4", "act": "relu"}
    for plain in (supernet.extract(architecture), supernet.fresh(architecture, seed=0)):
        trained = [name for name, p in plain.named_parameters() if p.requires_grad]
        assert trained == ["hidden.bias"]


def test_a_mixture_of_options_that_work_in_place_is_that_of_options_that_do_not():
    def network(inplace: bool) -> Supernet:
        acts = {"relu": nn.ReLU(inplace), "six": nn.ReLU6(inplace)}
        blocks = [nn.ELU(inplace=inplace), nn.Hardtanh(inplace=inplace)]
        return Supernet(nn.Sequential(OneOf(acts), Depth(blocks, at_least=0)))

    x = 4 * torch.randn(6, 16)
    gates = [torch.tensor([0.3, 0.7]), torch.tensor([0.2, 0.3, 0.5])]
    one, other = (network(inplace)(x.clone(), gates) for inplace in (True, False))
    torch.testing.assert_close(one, other)


def test_an_old_networks_functions_are_not_touched():
    supernet = Supernet(Hooked())
    architecture = draw(supernet.choices, Random(0))
    x = torch.randn(6, 16)
    before = supernet(x, architecture)
    supernet.extract(architecture)
    assert torch.equal(supernet(x, architecture), before)
    functional.mse_loss(before, torch.zeros_like(before)).backward()
    assert supernet.network.scale.grad is not None
