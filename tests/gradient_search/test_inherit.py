"""Finalists that go on from the weights of the supernet."""

import itertools

import pytest
import torch
from torch import nn

from paretonas.finalists import Finalist, train_finalists
from paretonas.forward import seeded
from paretonas.gradient_search import Budget, Plan
from paretonas.gradient_search.search import search
from paretonas.gradient_search.settings import Settings
from paretonas.gradient_search.weights import WeightTraining, inherited_scores
from paretonas.nn import BatchNorm1d, Linear, NetworkSpace, OneOf, Supernet, Width
from paretonas.point import Failure
from paretonas.runs import Run
from paretonas.space import decode, every
from paretonas.tasks.task import sized
from paretonas.training import FineTuning, Recipe, evaluate, recalibrate, train

RECIPE = Recipe(epochs=2, batch_size=20, learning_rate=0.03)
PLAN = Plan(60, 8, 5, RECIPE)


class Normed(nn.Module):
    """Batch norms that are elastic, plain, and frozen in evaluation mode; dropout in one option."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 6)
        self.frozen = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        nn.init.constant_(self.frozen[1].running_mean, 0.5)
        self.frozen.requires_grad_(False).eval()
        self.stem, self.norm = Linear(2, self.width), BatchNorm1d(self.width)
        self.op = OneOf({"relu": nn.ReLU(), "drop": nn.Dropout(0.3), "tanh": nn.Tanh()})
        self.head = Linear(self.width, 3)
        self.last = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.last(self.head(self.op(self.norm(self.stem(self.frozen(x))))))


@pytest.fixture
def normed(space) -> NetworkSpace:
    return NetworkSpace("normed", Normed, space.task, RECIPE)


def learned(space) -> Supernet:
    """A supernet of which every path was trained."""
    supernet = space.supernet()
    for _ in WeightTraining(supernet, space.load_task(), RECIPE, steps=60, seed=0).run():
        pass
    return supernet


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_finalist_begins_as_the_path_of_the_supernet(space, normed):
    """An empty training shows it: its loss is the proxy evaluation, and its weights are a part."""
    idle = Recipe(batch_size=20, fit=lambda network, task, recipe, seed: None)
    architectures = [decode(space.choices, p) for p in ([0, 0, 0, 0], [1, 2, 1, 1], [1, 1, 0, 0])]
    supernet, task = learned(space), space.load_task()
    found = train_finalists(supernet, task, idle, architectures, seed=3, workers=2, inherit=True)
    for finalist in found:
        expected = inherited_scores(supernet, task, finalist.architecture)
        assert finalist.valid["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    supernet, x = learned(normed), torch.randn(50, 2)
    for architecture in every(normed.choices):
        (finalist,) = train_finalists(
            supernet, task, idle, [architecture], seed=3, workers=1, inherit=True
        )
        # In training mode both normalize by the batch.
        supernet.train()
        with torch.no_grad(), seeded(5):
            mine = finalist.network(x)
        with torch.no_grad(), seeded(5):
            torch.testing.assert_close(supernet(x, architecture), mine)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_result_is_that_of_training_each_alone(normed, workers):
    """Whether it draws random numbers or not, and the supernet stays as it was."""
    supernet, architectures = learned(normed), list(every(normed.choices))
    task = sized(normed.load_task(), RECIPE.batch_size)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    found = train_finalists(
        supernet, task, RECIPE, architectures, seed=3, workers=workers, inherit=True
    )
    assert all(torch.equal(value, before[n]) for n, value in supernet.state_dict().items())
    for architecture, finalist in zip(architectures, found, strict=True):
        assert finalist.architecture == architecture
        network = supernet.extract(architecture)
        list(train(network, task, RECIPE, seed=3))
        with seeded(3, network):
            recalibrate(network, task, seed=3)
        assert same(network, finalist.network)
        assert finalist.valid == evaluate(network, task, "valid")
        assert finalist.test == evaluate(network, task, "test")


def test_frozen_parts_stay_as_they_are_and_others_learn(normed):
    supernet, task = learned(normed), normed.load_task()
    architectures = list(every(normed.choices))
    for finalist in train_finalists(
        supernet, task, RECIPE, architectures, seed=0, workers=2, inherit=True
    ):
        network, start = finalist.network, supernet.extract(finalist.architecture)
        assert same(network.frozen, start.frozen)
        assert not network.frozen.training
        assert not torch.equal(network.stem.weight, start.stem.weight)
        # Statistics are those of the trained weights, not a moving average of older ones.
        x = network.frozen(task.few("train", 10_000)[0])
        outputs = network.stem(x)
        torch.testing.assert_close(
            network.norm.running_mean, outputs.mean(dim=0).detach(), atol=1e-4, rtol=1e-4
        )


class Fragile(Normed):
    def forward(self, x):
        y = super().forward(x)
        return y * float("nan") if isinstance(self.op, nn.Tanh) else y


@pytest.mark.parametrize("workers", [1, 3])
def test_one_that_fails_is_a_failure_and_the_others_go_on(space, workers):
    fragile = NetworkSpace("fragile", Fragile, space.task, RECIPE)
    supernet, architectures = fragile.supernet(), list(every(fragile.choices))
    found = train_finalists(
        supernet, space.load_task(), RECIPE, architectures, seed=0, workers=workers, inherit=True
    )
    for architecture, one in zip(architectures, found, strict=True):
        assert isinstance(one, Failure if architecture["op"] == "tanh" else Finalist)


# --- in a search ----------------------------------------------------------------------------------


def searched(run, space, costs, **settings):
    given = {"budget": PLAN, "rays": 6, "finalists": "inherit", **settings}
    return search(space, objectives=costs, run=run, **given)


def left_behind(run):
    """Everything but the machine's speed."""
    points = [
        (str(p.architecture), dict(p.objectives), dict(p.reported), p.id) for p in run.evaluations()
    ]
    return points, [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, space, costs):
    run = Run.create(tmp_path_factory.mktemp("runs") / "whole", {}, device="cpu", seed=0)
    return list(searched(run, space, costs)), run


def test_points_are_what_finalists_from_the_supernet_of_the_run_give(whole, space):
    _, run = whole
    supernet = space.supernet()
    supernet.load_state_dict(run.weights("supernet"))
    points = run.evaluations()
    found = train_finalists(
        supernet,
        space.load_task(),
        RECIPE,
        [point.architecture for point in points],
        seed=0,
        workers=1,
        inherit=True,
    )
    assert len(points) == PLAN.finalists
    for point, finalist in zip(points, found, strict=True):
        assert point.objectives["error_percent"] == finalist.valid["error_percent"]
        assert point.reported["test_error_percent"] == finalist.test["error_percent"]


@pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.deep)])
def test_a_search_that_was_stopped_ends_with_the_same(tmp_path, whole, space, costs, each):
    """In the weights, between proxy evaluations, and after each of several finalists."""
    steps, run = whole
    where = {
        phase: [i for i, step in enumerate(steps, start=1) if step.phase == phase]
        for phase in ("weights", "alpha", "finalists")
    }
    fine = where["finalists"]
    stops = [fine[0], where["weights"][-1], fine[2], where["alpha"][0], fine[-2], fine[-1]]
    for stop in stops[::each]:
        again = Run.create(tmp_path / f"after-{stop}", {}, device="cpu", seed=0)
        begun = searched(again, space, costs)
        list(itertools.islice(begun, stop))
        begun.close()
        again = Run.open(again.folder)
        list(searched(again, space, costs))
        assert left_behind(again) == left_behind(run), f"stopped after step {stop}"


def test_a_budget_pays_for_more_finalists_of_fewer_epochs(space, costs):
    long = NetworkSpace("long", space.network, space.task, Recipe(10, batch_size=20))
    fresh, inherit = (
        next(
            step.message
            for step in search(long, objectives=costs, budget=Budget(600), finalists=kind)
            if step.message.startswith("plan")
        )
        for kind in ("fresh", FineTuning(0.4))
    )
    assert fresh.endswith(f"{420 // (10 * 6)} finalists")  # an epoch has 6 steps
    assert inherit.endswith(f"{420 // (4 * 6)} finalists")


def test_what_finalists_learn_from_a_slower_optimizer_is_resumed_with_it(tmp_path, space, costs):
    """A checkpoint holds no functions: the fine-tuning gives the optimizer again."""

    def optimizer(parameters):
        return torch.optim.SGD(parameters, lr=0.3)

    slow = NetworkSpace(
        "slow", space.network, space.task, Recipe(2, batch_size=20, optimizer=optimizer)
    )
    whole = Run.create(tmp_path / "whole", {}, device="cpu", seed=0)
    settings = {"budget": "80steps", "rays": 3, "finalists": FineTuning(0.5, rate=0.1)}
    steps = list(searched(whole, slow, costs, **settings))
    stop = next(i for i, step in enumerate(steps, start=1) if step.phase == "finalists")
    again = Run.create(tmp_path / "again", {}, device="cpu", seed=0)
    begun = searched(again, slow, costs, **settings)
    list(itertools.islice(begun, stop))
    begun.close()
    assert again.about["finalists"] == "inherit:0.5:0.1"
    list(searched(again, slow, costs, **settings | {"finalists": None}))  # as it was begun
    assert left_behind(again) == left_behind(whole)


# --- which is the default -------------------------------------------------------------------------


def test_finalists_inherit_unless_something_else_is_said(space):
    def inherit(**settings):
        return Settings.of(space, **settings).tuning is not None

    assert inherit()
    assert inherit(finalists="inherit")
    assert not inherit(finalists="fresh")
    assert not inherit(trainer=lambda *_, **__: [])
    with pytest.raises(ValueError, match="must be fresh, inherit, or inherit:SHARE:RATE .*'old'"):
        inherit(finalists="old")
    with pytest.raises(
        ValueError, match="'inherit:2' .*share must be above 0 and at most 1, got 2"
    ):
        inherit(finalists="inherit:2")
    with pytest.raises(TypeError, match="must be a text or a FineTuning, got 0.4"):
        inherit(finalists=0.4)
    with pytest.raises(ValueError, match="a Plan has the recipe of the finalists"):
        inherit(finalists=FineTuning(0.4), budget=PLAN)
    with pytest.raises(ValueError, match="if a trainer of your own trains them"):
        inherit(finalists="inherit", trainer=lambda *_, **__: [])


def test_a_run_keeps_to_what_it_was_begun_with(tmp_path, space):
    def inherit(about, **settings):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        run = Run.create(folder, {}, device="cpu", seed=0)
        run.save({})
        run.tell(**about)
        opened, named = (
            Settings.of(space, run=one, **settings).tuning is not None
            for one in (Run.open(folder), folder)
        )
        assert opened is named
        return opened

    assert not inherit({})  # of an older version
    assert not inherit({"finalists": "fresh"})
    assert inherit({"finalists": "inherit"})
    assert inherit({"finalists": "inherit"}, finalists="inherit")
    told = {"finalists": "inherit:0.4"}
    assert inherit(told)
    assert inherit(told, finalists=FineTuning(0.4))
    with pytest.raises(ValueError, match="were begun as 'inherit:0.4', got 'inherit'"):
        inherit(told, finalists="inherit")
    with pytest.raises(ValueError, match="were begun as 'fresh', got 'inherit'"):
        inherit({}, finalists="inherit")
    with pytest.raises(ValueError, match="were begun as 'inherit', got 'fresh'"):
        inherit({"finalists": "inherit"}, finalists="fresh")
    new = Run.create(tmp_path / "new", {}, device="cpu", seed=0)
    assert Settings.of(space, run=new).tuning == FineTuning()


def test_the_run_says_how_its_finalists_were_trained(whole):
    assert whole[1].about["finalists"] == "inherit"
