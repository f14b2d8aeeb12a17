"""A network runs without a trace: inputs, modes and generators are as they were."""

import random
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas import NetworkSpace, Point, Recipe, search
from paretonas.data import Data, Split
from paretonas.devices import measure_latency
from paretonas.export import export
from paretonas.forward import Generators, copied, evaluating, handed, seeded
from paretonas.gradient_search import Plan
from paretonas.gradient_search.weights import WeightTraining, inherited_scores
from paretonas.graph import network_graph
from paretonas.nn import OneOf, Supernet
from paretonas.objectives import Memory, Parameters, profile
from paretonas.objectives.gated_error import GatedError
from paretonas.tasks import Classification, Task
from paretonas.training import evaluate, train

ARCHITECTURE = {"op": "relu", "last": "six"}
POINT = Point(ARCHITECTURE, {"error_percent": 1.0}, id="a01")


class Shift(nn.Module):
    def forward(self, x):
        return x.sub_(0.5).div_(0.25)


def options() -> OneOf:
    return OneOf({"relu": nn.ReLU(inplace=True), "six": nn.ReLU6(inplace=True)})


class InPlace(nn.Module):
    """Normalizes its input in place, or begins with an activation that works in place."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first, self.op, self.last = first, options(), options()
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = functional.dropout(self.last(self.op(self.first(x))).flatten(1), 0.1)
        return self.head(x) + random.random() + float(np.random.rand())


FIRST = {"shift": Shift(), "activation": nn.LeakyReLU(0.1, inplace=True), "choice": nn.Identity()}


def data(dtype: torch.dtype = torch.float32, labels: torch.dtype = torch.int64) -> Data:
    """Views of one tensor, as after a cut by hand."""
    inputs = torch.randn(90, 1, 4, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    targets = (torch.arange(90) % 4).to(labels)
    splits = [Split(inputs[i : i + 30], targets[i : i + 30]) for i in (0, 30, 60)]
    return Data(*splits)


def quick(space: NetworkSpace) -> None:
    plan = Plan(supernet_steps=4, proxy_evaluations=4, finalists=2, recipe=space.recipe)
    for _ in search(space, budget=plan):
        pass


def runs(supernet: Supernet, network: nn.Module, task: Task, space: NetworkSpace, folder):
    """Everything that runs a network."""
    data = space.task()
    example, generator = data.valid.inputs[:1], torch.Generator().manual_seed(0)
    gated = GatedError(supernet, data.valid, generator)
    return {
        "evaluate": lambda: evaluate(network, task, "valid"),
        "train": lambda: list(train(network, task, Recipe(epochs=1))),
        "weights": lambda: list(WeightTraining(supernet, task, Recipe(), steps=3, seed=0).run()),
        "inherited scores": lambda: inherited_scores(supernet, task, ARCHITECTURE),
        "gated error": lambda: gated.relaxed(torch.full((2, 4), 0.5)),
        "graph": lambda: network_graph(network, example),
        "memory": lambda: Memory.of(supernet, example),
        "parameters": lambda: Parameters.of(supernet, example),
        "profile": lambda: profile(supernet, example, cache=False),
        "latency": lambda: measure_latency(network, example, seconds=0.01),
        "onnx": lambda: export_quietly(network, example, "onnx", folder, data),
        "torch": lambda: export_quietly(network, example, "torch", folder, data),
        "search": lambda: quick(space),
    }


def export_quietly(network, example, format, folder, data):
    # What draws cannot be exported: the drawing is left out.
    layers = nn.Sequential(network.first, network.op, network.last, nn.Flatten(), network.head)
    export(layers, POINT, example, format, folder / "file", images=data.test.inputs)


def told(scores) -> tuple[tuple[str, float], ...]:
    return tuple(scores.items())


@pytest.fixture(autouse=True)
def short_timing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys.modules["paretonas.gradient_search.model"], "ALPHA_STEPS", 4)


@pytest.mark.parametrize("first", FIRST)
def test_nothing_that_runs_a_network_changes_its_input_or_a_generator(first, tmp_path):
    examples = data()
    whole = examples.train.inputs._base
    before, generators = whole.clone(), Generators.now()
    space = NetworkSpace("mine", lambda: InPlace(FIRST[first]), lambda: examples, Recipe(epochs=1))
    supernet = space.supernet()
    network = supernet.extract(ARCHITECTURE)
    for name, run in runs(supernet, network, space.load_task(), space, tmp_path).items():
        run()
        assert torch.equal(whole, before), name
        assert not generators.moved(), name


@pytest.mark.parametrize("first", FIRST)
def test_the_same_network_has_the_same_score_each_time(first):
    task = Classification.of(data())
    supernet = NetworkSpace("mine", lambda: InPlace(FIRST[first]), task).supernet()
    network = supernet.extract(ARCHITECTURE)
    scores, losses = set(), set()
    for seed in range(3):
        torch.manual_seed(seed)
        scores.add(told(evaluate(network, task, "valid")))
        losses.add(told(inherited_scores(supernet, task, ARCHITECTURE)))
    assert len(scores) == len(losses) == 1


@pytest.mark.parametrize("first", FIRST)
def test_a_pass_is_timed_on_the_same_input_each_time(first):
    seen = []

    class Watched(InPlace):
        def forward(self, x):
            seen.append(x.clone())
            return super().forward(x)

    supernet = Supernet(Watched(FIRST[first]))
    example = torch.randn(2, 1, 4, 4)
    measure_latency(supernet.extract(ARCHITECTURE), example, seconds=0.01)
    assert all(torch.equal(x, example) for x in seen)


@pytest.mark.parametrize(
    ("dtype", "labels"), [(torch.float64, torch.int32), (torch.float16, torch.uint8)]
)
def test_inputs_of_any_floating_type_and_labels_of_any_integer_type_will_do(
    dtype, labels, tmp_path
):
    examples = data(dtype, labels)
    space = NetworkSpace("mine", lambda: InPlace(nn.Identity()), lambda: examples, Recipe(epochs=1))
    supernet = space.supernet()
    network = supernet.extract(ARCHITECTURE)
    for run in runs(supernet, network, space.load_task(), space, tmp_path).values():
        run()
    assert examples.train.inputs.dtype == dtype
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    parts = (examples.train, examples.valid, examples.test)
    converted = Classification.of(Data(*(Split(s.inputs.float(), s.labels) for s in parts)))
    assert evaluate(network, space.load_task(), "valid") == evaluate(network, converted, "valid")


def test_a_network_in_double_precision_gets_double_precision():
    seen = set()

    class Double(InPlace):
        def __init__(self) -> None:
            super().__init__(nn.Identity())
            self.double()

        def forward(self, x):
            seen.add(x.dtype)
            return super().forward(x)

    for dtype in (torch.float64, torch.float32):
        examples = data(dtype)
        quick(NetworkSpace("mine", Double, lambda x=examples: x, Recipe(epochs=1)))
    assert seen == {torch.float64}


def test_a_network_without_parameters_gets_the_type_that_there_is():
    x = torch.zeros(2, dtype=torch.float16, requires_grad=True)
    given = handed(nn.Identity(), x)
    assert given.dtype == torch.float16
    assert not given.requires_grad
    assert given.data_ptr() != x.data_ptr()
    buffered = nn.BatchNorm1d(2, affine=False).double()
    assert handed(buffered, x).dtype == torch.float64


def test_every_module_gets_its_own_mode_back():
    network = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5).eval())
    with pytest.raises(RuntimeError), evaluating(network):
        assert not any(module.training for module in network.modules())
        raise RuntimeError
    assert [module.training for module in network.modules()] == [True, True, False]


def draws() -> tuple[float, float, float]:
    return float(torch.rand(())), random.random(), float(np.random.rand())


def test_a_seed_decides_what_all_generators_draw_and_they_go_on_as_if_nothing_was():
    for seeder in (torch.manual_seed, random.seed, np.random.seed):
        seeder(1)
    with seeded(2**70):
        one = draws()
    first = draws()
    for seeder in (torch.manual_seed, random.seed, np.random.seed):
        seeder(1)
    with pytest.raises(RuntimeError), seeded(2**70):
        assert draws() == one
        raise RuntimeError
    assert draws() == first
    with seeded(3):
        assert not set(draws()) & set(one)


@pytest.mark.parametrize("draw", [lambda: torch.rand(1), random.random, lambda: np.random.rand()])
def test_what_was_drawn_is_noticed(draw):
    before = Generators.now()
    assert not before.moved()
    draw()
    assert before.moved()
    before.put_back()
    assert not before.moved()


G = np.random.default_rng(0)
OTHERS = [random.Random(0)]
TWISTER = np.random.Generator(np.random.MT19937(3))


def of_a_helper(x):
    return x + float(np.mean([G.normal() for _ in x]))


class Holding(nn.Module):
    """Draws from generators that are not global, each in another place."""

    def __init__(self, draw) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.own, self.several = generator, {"a": np.random.RandomState(1), "b": OTHERS[0]}
        self.op = OneOf({"relu": nn.ReLU(), "six": nn.ReLU6()})
        self.op.options["six"].register_forward_hook(
            lambda _, args, y: y + 0.1 * torch.rand(y.shape, generator=generator)
        )
        self.last = OneOf({"relu": nn.ReLU(), "six": nn.ReLU6()})
        self.head, self.draw = nn.Linear(16, 4), draw

    def forward(self, x):
        return self.draw(self, self.last(self.op(self.head(x.flatten(1)))))


HELD = {
    "torch": lambda m, x: x * torch.rand(x.shape, generator=m.own),
    "numpy": lambda m, x: x + float(m.several["a"].rand()),
    "python": lambda m, x: x * m.several["b"].random(),
    "a global": lambda m, x: x * G.uniform(),
    "a list of globals": lambda m, x: x * OTHERS[0].random(),
    "a helper's global": lambda m, x: of_a_helper(x),
    "a default": lambda m, x, rng=TWISTER: x * rng.uniform(),
    "a closure": lambda m, x: x,
}


def holding(draw: str) -> tuple[NetworkSpace, Supernet, nn.Module]:
    examples = data()
    space = NetworkSpace("mine", lambda: Holding(HELD[draw]), lambda: examples, Recipe(epochs=1))
    supernet = space.supernet()
    return space, supernet, supernet.extract({"op": "six", "last": "six"})


@pytest.mark.parametrize("draw", HELD)
def test_generators_that_a_network_holds_follow_from_the_seed_too(draw):
    space, supernet, network = holding(draw)
    task = space.load_task()
    scores, losses, means = set(), set(), set()
    for _ in range(2):
        network.own.seed(), network.several["a"].seed(), OTHERS[0].seed(), G.uniform()
        scores.add(told(evaluate(network, task, "valid")))
        path = {"op": "six", "last": "relu"}
        losses.add(told(inherited_scores(supernet, task, path)))
        means.update(train(copied(network), task, Recipe(epochs=1)))
        job = WeightTraining(space.supernet(), task, Recipe(), steps=3, seed=0)
        means.add(tuple(job.run()))
    assert (len(scores), len(losses), len(means)) == (1, 1, 2)


@pytest.mark.parametrize("draw", ["torch", "a global"])
def test_nothing_that_runs_a_network_moves_a_generator_that_it_holds(draw, tmp_path):
    space, supernet, network = holding(draw)
    before = Generators.now(network, supernet)
    for name, run in runs(supernet, network, space.load_task(), space, tmp_path).items():
        if name not in ("onnx", "torch"):
            run()
            assert not before.moved(), name


def test_of_generators_none_draws_what_another_does():
    network = Holding(HELD["torch"])
    network.twin = torch.Generator()
    with seeded(0, network):
        one, other = (torch.rand(3, generator=g) for g in (network.own, network.twin))
    assert not torch.equal(one, other)


def test_what_cannot_be_seeded_is_left_alone():
    network = nn.ReLU()
    network.system, network.other = (
        random.SystemRandom(),
        np.random.RandomState(np.random.PCG64(1)),
    )
    with seeded(0, network):
        pass
    assert Generators.now(network).held == []


def test_a_network_is_copied_with_what_it_has_kept_of_a_pass():
    network = nn.Linear(2, 2)
    network.last = network(torch.ones(1, 2))
    twin = copied(network)
    assert torch.equal(twin.last, network.last)
    assert twin.last.grad_fn is None
    assert network.last.grad_fn is not None
