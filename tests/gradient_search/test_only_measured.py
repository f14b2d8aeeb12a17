"""Objectives without a gradient: measured on finalists, on the front, no guide of the search."""

import pytest

from paretonas.front import Front
from paretonas.gradient_search import Plan
from paretonas.gradient_search.search import search
from paretonas.runs import Run
from paretonas.training import Recipe

PLAN = Plan(supernet_steps=30, proxy_evaluations=6, finalists=5, recipe=Recipe(1, 20, 0.03))


class Margin:
    """More is better; it tells every network apart."""

    column = "margin"
    maximize = True

    def __init__(self) -> None:
        self.networks = []

    def measure(self, network, example):
        assert example.shape == (1, 2)
        self.networks.append(network)
        return network(example).detach().std()


class Bare:
    column = "bare"

    def exact(self, architecture):
        return 1.0


def searched(folder, space, objectives, **settings):
    run = Run.create(folder, {}, device="cpu", seed=0)
    steps = list(search(space, objectives=objectives, run=run, budget=PLAN, rays=3, **settings))
    return steps, run


@pytest.fixture(scope="module")
def both(tmp_path_factory, space, costs):
    folder, margin = tmp_path_factory.mktemp("runs"), Margin()
    without = searched(folder / "without", space, costs)
    return without, searched(folder / "with", space, (*costs, margin)), margin


def test_it_guides_nothing(both):
    (_, without), (_, found), margin = both
    pairs = list(zip(without.evaluations(), found.evaluations(), strict=True))
    assert len(pairs) == len(margin.networks) == PLAN.finalists
    for one, other in pairs:
        assert one.architecture == other.architecture
        assert {**one.objectives, "margin": other.objectives["margin"]} == other.objectives


def test_the_front_is_of_all_objectives(both):
    _, (steps, run), _ = both
    front = Front(run.front().objectives, maximize=["margin"])
    for point in run.evaluations():
        front.add(point)
    assert {p.id for p in steps[-1].front} == {p.id for p in front} == {p.id for p in run.front()}
    assert run.front().maximize == ("margin",)


def test_the_hypervolume_is_of_what_the_search_is_guided_by(both):
    (steps, _), (others, _), _ = both
    assert [step.hypervolume for step in steps] == [step.hypervolume for step in others]


def test_it_may_be_limited(both, tmp_path, space, costs):
    _, (_, run), _ = both
    values = sorted(point.objectives["margin"] for point in run.evaluations())
    limit = values[len(values) // 2]
    steps, _ = searched(tmp_path / "run", space, (*costs, Margin()), constraint=f"margin>={limit}")
    assert all(point.objectives["margin"] >= limit for point in steps[-1].front)
    assert len(steps[-1].front)


def test_an_interrupted_search_goes_on(both, tmp_path, space, costs):
    _, (_, whole), _ = both
    run = Run.create(tmp_path / "run", {}, device="cpu", seed=0)
    objectives = (*costs, Margin())
    for step in search(space, objectives=objectives, run=run, budget=PLAN, rays=3):
        if step.phase == "finalists" and step.message.startswith("a02"):
            break
    run = Run.open(run.folder)
    list(search(space, objectives=objectives, run=run, budget=PLAN, rays=3))
    assert run.evaluations() == whole.evaluations()
    assert list(run.front()) == list(whole.front())


def test_neither_a_gradient_nor_a_measurement_is_refused(space):
    with pytest.raises(TypeError, match="objectives must be a list"):
        next(search(space, objectives=[Bare()], budget=PLAN))
