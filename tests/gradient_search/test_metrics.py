"""A task with several metrics: each is an objective, and one training measures all of them."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from paretonas.evaluation import Ledger
from paretonas.front import Front
from paretonas.gradient_search import Plan
from paretonas.gradient_search.sampler import OneShotSearch
from paretonas.gradient_search.search import search
from paretonas.metric import Metric
from paretonas.objectives import TrainedMetric, default_objectives
from paretonas.problem import Problem
from paretonas.runs import Run
from paretonas.samplers import sample
from paretonas.tasks import Supervised
from paretonas.tasks.metrics import error
from paretonas.training import Recipe

PLAN = Plan(supernet_steps=40, proxy_evaluations=8, finalists=4, recipe=Recipe(1, 20, 0.03))
COLUMNS = ("error_percent", "brier", "latency_ms", "memory_kib")


def brier(output, target):
    """The squared distance of the probabilities to the truth."""
    truth = functional.one_hot(target, output.shape[1])
    return (output.softmax(dim=1) - truth).square().sum(dim=1).mean()


def confidence(output, target):
    return output.softmax(dim=1).amax(dim=1).mean()


def task_of(space, *metrics, loss=functional.cross_entropy) -> Supervised:
    data = space.task()
    return Supervised(
        *((part.inputs, part.labels) for part in (data.train, data.valid, data.test)),
        loss=loss,
        metric=metrics or [error(worst=70.0), Metric("brier", brier)],
        reported=[Metric("confidence", confidence, maximize=True)],
    )


@pytest.fixture(scope="module")
def several(space):
    return replace(space, task=task_of(space))


def searched(folder, several, costs, trainer, steps=None):
    run = Run.open(folder) if folder.exists() else Run.create(folder, {}, device="cpu", seed=0)
    given = {"objectives": costs, "budget": PLAN, "rays": 6, "finalists": "fresh"}
    found = search(several, run=run, trainer=trainer, **given)
    shown = list(itertools.islice(found, steps))
    found.close()
    return shown, run


@pytest.fixture(scope="module")
def whole(tmp_path_factory, several, costs, trainer):
    """The steps, the run, and the architectures that were trained."""
    trained = []

    def counting(supernet, task, recipe, architectures, **settings):
        trained.extend(architectures)
        return trainer(supernet, task, recipe, architectures, **settings)

    folder = tmp_path_factory.mktemp("runs") / "several"
    return *searched(folder, several, costs, counting), trained


def test_points_have_all_metrics_and_those_on_the_test_split(whole, several):
    steps, run, _ = whole
    assert steps[-1].front.objectives == COLUMNS
    task = several.load_task()
    assert len(run.evaluations()) == PLAN.finalists
    for point in run.evaluations():
        network = several.supernet().extract(point.architecture)
        network.load_state_dict(run.weights(point.id))
        valid, test = (task.evaluate(network, split) for split in ("valid", "test"))
        assert tuple(point.objectives) == COLUMNS
        for column in COLUMNS[:2]:
            assert point.objectives[column] == pytest.approx(valid[column])
            assert point.reported[f"test_{column}"] == pytest.approx(test[column])
        assert point.reported["test_confidence"] == pytest.approx(test["confidence"])
        assert "test_loss" not in point.reported


def test_one_training_measures_all_metrics(whole):
    _, run, trained = whole
    assert len(trained) == len(set(trained)) == PLAN.finalists
    assert {p.architecture for p in run.evaluations()} == set(trained)


def test_the_front_is_that_of_all_objectives(whole):
    steps, run, _ = whole
    expected = Front(COLUMNS)
    for point in run.evaluations():
        expected.add(point)
    assert list(steps[-1].front) == list(expected)
    for name in ("front.csv", "front.json"):
        assert list(Front.read(run.folder / name, COLUMNS)) == list(expected)


def test_steps_show_all_metrics_and_their_conflicts(whole):
    steps, *_ = whole
    driven = [step for step in steps if step.cosines]
    assert driven
    names = ("error", "brier", "latency", "memory")
    for step in driven:
        assert set(step.cosines) == {"_".join(p) for p in itertools.combinations(names, 2)}
        assert set(step.objectives) in (set(COLUMNS[2:]), set(COLUMNS))
        assert all(math.isfinite(value) for value in step.objectives.values())
    # Before the first finalist the losses of the supernet are known, and no metric.
    assert set(driven[0].objectives) == set(COLUMNS[2:])
    assert set(driven[-1].objectives) == set(COLUMNS)
    volumes = [step.hypervolume for step in steps if step.hypervolume is not None]
    assert volumes == sorted(volumes)
    assert 0 < volumes[-1] < 1


def test_a_search_of_several_metrics_goes_on_bit_for_bit(tmp_path, whole, several, costs, trainer):
    steps, run, _ = whole
    alpha = [i for i, step in enumerate(steps, start=1) if step.phase == "alpha"]
    finalists = [i for i, step in enumerate(steps, start=1) if step.phase == "finalists"]
    stop = alpha[-1]
    assert stop > finalists[0]  # something is known of both levels
    searched(tmp_path / "run", several, costs, trainer, steps=stop)
    rest, again = searched(tmp_path / "run", several, costs, trainer)
    assert list(rest[-1].front) == list(steps[-1].front)
    found, expected = (
        torch.load(r.folder / "checkpoint.pt", weights_only=True)["state"]["knowledge"]
        for r in (again, run)
    )
    for level in ("inherited", "trained"):
        assert found[level] == expected[level]


def below_zero(output, target):
    """Cross-entropy with another zero: the gradients are the same."""
    return functional.cross_entropy(output, target) - 10.0


def test_a_loss_below_zero_is_searched_like_any_other(tmp_path, space, costs, trainer):
    task = task_of(space, error(worst=70.0), loss=below_zero)
    shown, run = searched(tmp_path / "run", replace(space, task=task), costs, trainer)
    assert len(run.evaluations()) == PLAN.finalists
    assert not run.failures()
    driven = [step for step in shown if step.cosines]
    assert driven
    assert all(math.isfinite(value) for step in driven for value in step.objectives.values())
    knowledge = torch.load(run.folder / "checkpoint.pt", weights_only=True)["state"]["knowledge"]
    assert all(score < 0 for _, (score,) in knowledge["inherited"])


def lead(output, target):
    """How far the right answer is ahead of the best wrong one, in nats; there is no best lead."""
    right = output.gather(1, target[:, None])[:, 0]
    wrong = output.scatter(1, target[:, None], -math.inf).amax(dim=1)
    return (right - wrong).mean()


def test_a_metric_to_maximize_without_a_best_value_is_searched_in_its_own_sign(
    tmp_path, space, costs, trainer
):
    task = task_of(space, Metric("lead", lead, maximize=True, unit="nats"))
    several = replace(space, task=task)
    shown, run = searched(tmp_path / "run", several, costs, trainer)
    points = run.evaluations()
    assert len(points) == PLAN.finalists
    for point in points:
        network = several.supernet().extract(point.architecture)
        network.load_state_dict(run.weights(point.id))
        for split, found in (("valid", point.objectives), ("test", point.reported)):
            name = "lead_nats" if split == "valid" else "test_lead_nats"
            assert found[name] == pytest.approx(task.evaluate(network, split)["lead_nats"])

    def as_good(one, other) -> bool:
        a, b = one.objectives, other.objectives
        return a["lead_nats"] >= b["lead_nats"] and all(
            a[name] <= b[name] for name in ("latency_ms", "memory_kib")
        )

    led = [p for p in points if not any(as_good(q, p) and not as_good(p, q) for q in points)]
    assert {p.id for p in shown[-1].front} == {p.id for p in led}
    driven = [step for step in shown if step.cosines]
    assert driven
    assert all(math.isfinite(value) for step in driven for value in step.objectives.values())


def test_in_a_comparison_each_metric_is_an_objective(several, costs):
    trained = TrainedMetric(several, recipe=Recipe(1, 20, 0.03))
    problem = Problem(several, [trained, *trained.others(), *costs])
    assert problem.columns == COLUMNS
    front, ledger = Front(problem.columns), Ledger()
    outcomes = list(sample(problem, OneShotSearch(problem, seed=0), front, budget=4, ledger=ledger))
    assert ledger.evaluations == len(outcomes)
    for outcome in outcomes[:1]:
        for objective in problem.objectives:
            assert outcome.objectives[objective.column] == objective.exact(outcome.architecture)


def test_a_comparison_that_leaves_out_a_metric_is_refused(several, costs):
    problem = Problem(several, [TrainedMetric(several), *costs])
    sampler = OneShotSearch(problem, seed=0)
    sampler.plan(4)
    with pytest.raises(ValueError, match="all metrics of the task.* brier is missing"):
        sampler.ask()


def test_the_default_objectives_are_the_metrics_then_latency_and_memory(several):
    columns = [objective.column for objective in default_objectives(several, ["memory"])]
    assert columns == ["error_percent", "brier", "memory_kib"]
