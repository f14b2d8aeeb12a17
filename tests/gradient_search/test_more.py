"""A search goes on with a larger budget: what it has done counts, and nothing is lost."""

import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from paretonas.cli import run as command
from paretonas.front import Front
from paretonas.gradient_search import Budget, Plan
from paretonas.gradient_search.search import search
from paretonas.objectives import Latency
from paretonas.runs import Run
from paretonas.training import warmup_cosine_factor

EPOCH = 6  # steps on the rings
OLDER = Path(__file__).parents[1] / "older"


def go(space, costs, run, budget, **more):
    return search(space, objectives=costs, run=run, budget=Budget(steps=budget), rays=3, **more)


def rows(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]


@pytest.fixture(scope="module")
def begun(tmp_path_factory, space, costs) -> Run:
    """A search that has ended."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", {}, "cpu", 0)
    list(go(space, costs, run, 200))
    return run


@pytest.fixture(scope="module")
def grown(tmp_path_factory, begun, space, costs) -> Run:
    """The same one after it has gone on with twice as much."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(begun.folder, folder)
    steps = list(go(space, costs, Run.open(folder), 400))
    assert steps[-1].step == steps[-1].steps <= 400
    counted = [step.step for step in steps if step.phase != "costs"]
    assert counted == sorted(counted)
    return Run.open(folder)


def test_it_does_what_a_fresh_plan_for_all_of_it_would_do(begun, grown, space):
    plans = [Plan.of(n, space.recipe, EPOCH, 24) for n in (200, 400)]
    for run, plan in zip((begun, grown), plans, strict=True):
        ledger = run.about["ledger"]
        assert ledger["weight_steps"] == plan.supernet_steps
        assert 12 <= ledger["proxy_evaluations"] <= plan.proxy_evaluations
        assert ledger["evaluations"] == plan.finalists == len(run.evaluations())
    assert [b["steps"] for b in grown.about["budgets"]] == [200, 400]


def test_nothing_is_trained_twice_and_the_front_is_of_all(begun, grown):
    points = grown.evaluations()
    assert points[: len(begun.evaluations())] == begun.evaluations()
    assert len({point.architecture for point in points}) == len(points)
    expected = Front(grown.front().objectives)
    for point in points:
        expected.add(point)
    assert list(grown.front()) == list(expected)


def test_killed_while_it_goes_on_it_ends_with_the_same(tmp_path, begun, grown, space, costs):
    for stop in (4, 16):
        folder = tmp_path / f"after-{stop}"
        shutil.copytree(begun.folder, folder)
        steps = go(space, costs, Run.open(folder), 400)
        for _ in itertools.islice(steps, stop):
            pass
        steps.close()
        list(go(space, costs, Run.open(folder), 400))
        again = Run.open(folder)
        assert again.evaluations() == grown.evaluations(), stop
        assert list(again.front()) == list(grown.front()), stop
        assert rows(again) == rows(grown), stop
        assert len(again.about["budgets"]) == 2


def test_finalists_that_were_trained_less_are_trained_again(tmp_path, space, costs):
    """Where the larger budget allows more epochs; the longer training takes their place."""
    run = Run.create(tmp_path / "run", {}, "cpu", 0)
    *_, last = go(space, costs, run, 60)
    assert "the finalists were trained for 1 epoch instead of 4; --budget" in last.message
    short = run.evaluations()
    assert {point.reported["epochs"] for point in short} == {1}
    list(go(space, costs, Run.open(run.folder), 400))
    run = Run.open(run.folder)
    later = run.evaluations()[len(short) :]
    assert {point.reported["epochs"] for point in later} == {4}
    again = {point.architecture for point in short} & {point.architecture for point in later}
    assert again
    for point in run.front():
        assert point.reported["epochs"] == 4 or point.architecture not in again
    steps = run.about["ledger"]["weight_steps"] + EPOCH * (len(short) + 4 * len(later))
    assert steps <= 400
    listed = list(run.front())
    list(go(space, costs, Run.open(run.folder), 400))
    assert list(Run.open(run.folder).front()) == listed


def test_a_finalist_that_is_trained_again_keeps_its_latency_and_is_billed_again(
    tmp_path, monkeypatch, space, latency_table
):
    times = itertools.count(1)

    def measured(loads, **_):
        if len(loads) > 1:
            raise RuntimeError("all together is another test")
        return [SimpleNamespace(median_ms=0.1 * next(times), spread_ms=0.01)]

    monkeypatch.setattr("paretonas.objectives.latency.measure_together", measured)
    costs = (Latency(latency_table),)
    run = Run.create(tmp_path / "run", {}, "cpu", 0)
    list(go(space, costs, run, 60))
    short = {point.architecture: point for point in run.evaluations()}
    assert run.about["ledger"]["evaluations"] == len(short)
    told = run.about
    assert (told["recipe"]["epochs"], told["finalist_epochs"], told["batch_size"]) == (4, 1, 20)
    list(go(space, costs, Run.open(run.folder), 400))
    run = Run.open(run.folder)
    points = run.evaluations()
    later = points[len(short) :]
    again = [point for point in later if point.architecture in short]
    assert again
    for point in again:
        before = short[point.architecture]
        assert point.objectives["latency_ms"] == before.objectives["latency_ms"]
        for name in ("latency_table_ms", "latency_spread_ms"):
            assert point.reported[name] == before.reported[name]
    latencies = [point.objectives["latency_ms"] for point in points if point not in again]
    assert latencies == pytest.approx([0.1 * n for n in range(1, len(latencies) + 1)])
    assert run.about["ledger"]["evaluations"] == len(points)
    assert (run.about["recipe"]["epochs"], run.about["finalist_epochs"]) == (4, 4)


def test_less_is_refused_and_changes_nothing(begun, space, costs):
    before = (begun.folder / "run.json").read_bytes()
    with pytest.raises(ValueError, match="can only grow: 200 steps before, now 199"):
        next(go(space, costs, Run.open(begun.folder), 199))
    assert (begun.folder / "run.json").read_bytes() == before


def test_what_is_refused_after_the_checkpoint_was_read_changes_nothing(tmp_path, space, costs):
    run = Run.create(tmp_path / "run", {}, "cpu", 0)
    steps = go(space, costs, run, 200)
    for step in steps:
        if run.begun and step.phase == "finalists":
            break  # some steps came after the checkpoint
    steps.close()
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="the smallest search takes about"):
        list(search(space, objectives=costs, run=run, budget=Budget(seconds=0.01), rays=3))
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert len(run.history()) > 0 and run.resume() is not None
    assert len(rows(run)) < before[run.folder / "history.csv"].count(b"\n") - 1


def test_the_learning_rate_begins_anew_at_each_restart(monkeypatch, space):
    from paretonas.gradient_search.weights import WeightTraining

    rates = []

    def step(training, *_):
        rates.append(training._updates.optimizer.param_groups[0]["lr"])
        training._updates.skip()
        return 1.0

    monkeypatch.setattr(WeightTraining, "_step", step)
    task = space.load_task()
    training = WeightTraining(
        space.supernet(), task, space.recipe, steps=50, seed=0, restarts=(20, 30)
    )
    list(training.run())
    cycles = [warmup_cosine_factor(step, n) for n in (20, 10, 20) for step in range(n)]
    assert rates == pytest.approx([space.recipe.learning_rate * factor for factor in cycles])


@pytest.mark.deep
def test_an_older_run_goes_on_with_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    shutil.copytree(OLDER / "run", folder)
    before = Run.open(folder).evaluations()
    assert command(["search", "--resume", str(folder), "--budget", "2000steps"]) == 0
    run = Run.open(folder)
    for point, old in zip(run.evaluations(), before, strict=False):  # latency is measured anew
        assert (point.id, point.architecture) == (old.id, old.architecture)
        assert point.objectives["error_percent"] == old.objectives["error_percent"]
    assert len(run.evaluations()) > 4
    assert [b["steps"] for b in run.about["budgets"]] == [600, 2000]
    assert command(["search", "--resume", str(folder)]) == 0
    assert len(Run.open(folder).about["budgets"]) == 2
