"""The one-shot search as a method of a comparison: the same search, billed in the same ledger."""

import math

import pytest

from paretonas.compare import compare
from paretonas.evaluation import Ledger
from paretonas.front import Front
from paretonas.gradient_search.sampler import OneShotSearch
from paretonas.objectives import TrainedMetric
from paretonas.point import Point
from paretonas.problem import Problem
from paretonas.report.comparison import write_comparison
from paretonas.samplers import sample
from paretonas.samplers.conformance import LARGE
from paretonas.space import Architecture

BUDGET = 7


@pytest.fixture(scope="module")
def problem(space, costs) -> Problem:
    return Problem(space, [costs[0], TrainedMetric(space), costs[1]])  # in any order


def run(problem, budget=BUDGET, seed=0):
    ledger, front = Ledger(), Front(problem.columns)
    sampler = OneShotSearch(problem, seed=seed)
    return list(sample(problem, sampler, front, budget=budget, ledger=ledger)), ledger


@pytest.fixture(scope="module")
def searched(problem):
    return run(problem)


def test_weights_and_finalists_share_the_budget(searched, problem, space):
    outcomes, ledger = searched
    assert ledger.evaluations == len(outcomes)
    assert ledger.evaluations + ledger.weight_evaluations == BUDGET
    epoch = math.ceil(len(space.task().train) / space.recipe.batch_size)
    assert ledger.weight_steps == ledger.weight_evaluations * space.recipe.epochs * epoch
    assert ledger.proxy_evaluations > len(outcomes)
    assert len({outcome.architecture for outcome in outcomes}) == len(outcomes)


def test_its_evaluations_are_those_of_any_method(searched, problem):
    for outcome in searched[0][:2]:
        for objective in problem.objectives:
            assert outcome.objectives[objective.column] == objective.exact(outcome.architecture)


def test_the_same_seed_asks_for_the_same(searched, problem):
    again, ledger = run(problem)
    assert again == searched[0]
    assert ledger.proxy_evaluations == searched[1].proxy_evaluations


def test_in_a_comparison_its_weights_count_as_evaluations(problem, tmp_path):
    settings = {"budget": BUDGET, "seeds": 1, "folder": tmp_path}
    found = compare(problem, ["search", "random"], **settings)
    assert not found.broken
    ledger = found.records["search", 0].ledger
    curve = found.curves["search", 0]
    assert (curve.hypervolume[: ledger.weight_evaluations] == 0).all()
    assert curve.hypervolume[ledger.weight_evaluations] > 0
    frame = found.evaluations()
    numbers = frame[frame["method"] == "search"]["evaluation"]
    assert list(numbers) == list(range(ledger.weight_evaluations + 1, BUDGET + 1))
    again = compare(problem, ["search", "random"], **settings)
    assert again.records["search", 0] == found.records["search", 0]

    def never(problem, seed):
        raise AssertionError("nothing runs")

    read = compare(problem, {"search": never, "random": never}, **settings, jobs=0)
    assert read.records == found.records
    page = write_comparison(read, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "supernet (evaluations)" in page
    assert "Proxy evaluations are not charged" in page


def test_with_more_budget_it_is_equal_to_having_had_it_from_the_start(searched, problem, tmp_path):
    for budget in (BUDGET - 2, BUDGET):
        found = compare(problem, ["search"], budget=budget, seeds=1, folder=tmp_path)
    assert found.records["search", 0].outcomes == tuple(searched[0])


def test_an_interrupted_run_goes_on_without_evaluating_anew(searched, problem):
    known = {outcome.architecture: outcome for outcome in searched[0][:2]}
    asked = []

    class WatchedError(TrainedMetric):
        def train_networks(self, architectures):
            asked.extend(architectures)
            return super().train_networks(architectures)

    error = WatchedError(problem.space)
    watched = Problem(problem.space, [problem.objectives[0], error, problem.objectives[2]])
    sampler = OneShotSearch(watched, seed=0)
    front = Front(watched.columns)
    assert list(sample(watched, sampler, front, budget=BUDGET, known=known)) == searched[0]
    assert asked == [outcome.architecture for outcome in searched[0][2:]]


class Plain:
    name = "plain"
    choices = LARGE


class Joules:
    column = "joules"

    def exact(self, architecture: Architecture) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (lambda space, costs: costs, "got no error"),
        (
            lambda space, costs: [TrainedMetric(space), Joules()],
            "relaxed form or a measurement; got joules",
        ),
    ],
)
def test_what_it_cannot_search_is_refused(space, costs, objectives, message):
    with pytest.raises(ValueError, match=message):
        OneShotSearch(Problem(space, objectives(space, costs)))


def test_a_space_without_networks_is_refused_before_anything_runs(tmp_path):
    problem = Problem(Plain(), [Joules(), type("Other", (Joules,), {"column": "other"})()])
    with pytest.raises(ValueError, match="search trains networks, and 'plain' has none"):
        compare(problem, ["random", "search"], budget=4, seeds=1, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_has_no_finite_cost_is_not_searched(space, costs):
    """Neither scored nor trained: it is infeasible."""

    class Odd(type(costs[1])):
        def exact(self, architecture):
            if architecture["op"] != "relu":
                return super().exact(architecture)
            if architecture["late"] == "0":
                raise ValueError("no kernel")
            return math.nan if architecture["width"] == "2" else math.inf

    memory = Odd(costs[1].parameters, costs[1].activations)
    outcomes, _ = run(Problem(space, [TrainedMetric(space), costs[0], memory]))
    assert outcomes
    assert all(isinstance(outcome, Point) for outcome in outcomes)
    assert all(outcome.architecture["op"] != "relu" for outcome in outcomes)


def test_one_evaluation_is_refused_before_anything_runs(problem, tmp_path):
    with pytest.raises(ValueError, match="a budget of 2 evaluations or more"):
        compare(problem, ["random", "search"], budget=1, seeds=1, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_evaluation_is_too_few(problem):
    with pytest.raises(ValueError, match="a budget of 2 evaluations or more"):
        OneShotSearch(problem).plan(1)
