"""A search says when what it found is no better than guessing, and only then."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from paretonas.cli import run as command
from paretonas.data import Data, Split, split
from paretonas.front import Front
from paretonas.gradient_search import Plan
from paretonas.gradient_search.guessing import Guessing
from paretonas.gradient_search.search import search
from paretonas.metric import Metric
from paretonas.nn import NetworkSpace
from paretonas.point import Point
from paretonas.report import write_report
from paretonas.runs import Run
from paretonas.tasks import Classification
from paretonas.training import Recipe, evaluate

PLAN = Plan(supernet_steps=120, proxy_evaluations=12, finalists=5, recipe=Recipe(3, 20, 0.03))


def labeled(labels) -> Classification:
    """Four classes; the validation split has these labels."""
    valid = Split(torch.zeros(len(labels), 2), torch.tensor(labels))
    other = Split(torch.zeros(4, 2), torch.arange(4))
    return Classification.of(Data(other, valid, other))


def front_of(*errors: float) -> Front:
    """The smaller the network, the larger its error."""
    front = Front(["error_percent", "memory_kib"])
    for place, error in enumerate(errors):
        front.add(Point({"op": str(place)}, {"error_percent": error, "memory_kib": 9.0 - place}))
    return front


@pytest.mark.parametrize("labels", [[0], [1, 1, 1], [0, 1, 2, 2], [0, 1] * 7, [3, 1, 3, 0, 3]])
def test_guessing_is_the_best_constant_answer(labels):
    def always(answer: int):
        return lambda x: torch.nn.functional.one_hot(torch.full((len(x),), answer), 4).float()

    class Always(torch.nn.Module):
        def __init__(self, answer: int) -> None:
            super().__init__()
            self.answer = always(answer)

        def forward(self, x):
            return self.answer(x)

    task = labeled(labels)
    errors = [evaluate(Always(answer), task, "valid")["error_percent"] for answer in range(4)]
    guess = Guessing.of(task)
    assert guess.column == "error_percent"
    assert guess.value == pytest.approx(min(errors))


def test_a_task_that_does_not_say_what_guessing_scores_has_no_guess():
    class Silent:
        metric = Metric("auc", maximize=True)

    assert Guessing.of(Silent()) is None
    Silent.guess = lambda self: None
    assert Guessing.of(Silent()) is None


@pytest.mark.parametrize(
    ("metric", "value", "told"),
    [
        (Metric("auc", maximize=True, worst=0.5), 0.5, ("auc 0.5", "auc 0.5")),
        (Metric("auc", maximize=True, worst=0.5), 0.49, ("auc 0.49", "auc 0.5")),
        (Metric("auc", maximize=True, worst=0.5), 0.51, None),
        (Metric("late", worst=8.0, unit="ms"), 9.0, ("late 9 ms", "late 8 ms")),
        (Metric("late", worst=8.0, unit="ms"), 7.9, None),
    ],
)
def test_a_task_without_a_guess_is_compared_with_the_worst_value_that_counts(metric, value, told):
    class Silent:
        def __init__(self) -> None:
            self.metric = metric

    front = Front([metric.column, "memory_kib"], [metric.column] if metric.maximize else [])
    front.add(Point({"op": "a"}, {metric.column: value, "memory_kib": 9.0}))
    said = Guessing.of(Silent()).remark(front)
    assert (
        said == ""
        if told is None
        else said
        == (
            f"no better than guessing: the best network has {told[0]} on the validation examples, "
            f"guessing, by the worst value of the metric, has {told[1]}; "
            "give a larger budget, or the recipe more epochs"
        )
    )


def test_the_margin_is_two_standard_deviations_over_many_splits():
    generator = torch.Generator().manual_seed(0)
    share, count = 0.3, 200
    drawn = 100 * (torch.rand(4000, count, generator=generator) >= share).float().mean(dim=1)
    guess = Guessing.of(labeled([0] * 60 + [1] * 50 + [2] * 50 + [3] * 40))
    assert guess.value == pytest.approx(70)
    assert guess.margin == pytest.approx(2 * float(drawn.std()), rel=0.05)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ((91.9, 95.0), "no better than guessing: the best network errs in 91.9 %"),
        ((87.0, 95.0), "no better than guessing: the best network errs in 87.0 %"),
        ((85.0,), ""),
        ((10.0, 40.0, 50.0), ""),
        ((88.0, 89.0, 90.0), "no better than guessing: the best network errs in 88.0 %"),
        ((40.0, 90.0), ""),  # two points: the knee is the first
        ((80.0, 90.0, 91.0, 92.0), "the knee a04 is no better than guessing"),
    ],
)
def test_the_remark_is_about_the_best_network_and_the_knee(errors, told):
    guess = Guessing("error_percent", 89.0, 3.0)
    front = front_of(*errors)
    if "knee" in told:  # a network that costs next to nothing and knows nothing
        front = Front(["error_percent", "latency_ms", "memory_kib"])
        for place, error in enumerate(errors):
            costs = {"latency_ms": 9.0 - 3 * place, "memory_kib": 9.0 - 3 * place}
            front.add(Point({"op": str(place)}, {"error_percent": error, **costs}))
    assert guess.remark(front).startswith(told) and bool(guess.remark(front)) == bool(told)


def test_what_was_written_down_is_read_back_and_nothing_else():
    guess = Guessing("top1_percent", 40.0, 2.0, True, "always answering the mean")
    assert Guessing.told(json.loads(json.dumps({"guessing": asdict(guess)}))) == guess
    older = {"error_percent": 9, "sampling_error_percent": 1}
    assert Guessing.told({"guessing": older}) == Guessing("error_percent", 9.0, 2.0)
    for bad in ({}, {"guessing": None}, {"guessing": {"x": 1}}, {"guessing": "no"}):
        assert Guessing.told(bad) is None


@pytest.mark.parametrize(("maximize", "sign"), [(False, 1), (True, -1)])
def test_what_is_no_better_than_guessing_is_decided_in_the_direction_of_the_metric(maximize, sign):
    guess = Guessing("score", sign * 5.0, 0.5, maximize, "always answering the mean")
    assert guess.as_good_as(sign * 6.0)
    assert guess.as_good_as(sign * 4.6)
    assert not guess.as_good_as(sign * 4.4)
    point = Point({"op": "a"}, {"score": sign * 6.0}, id="a01")
    told = guess.remark_on(point)
    assert told.startswith(f"a01 is no better than guessing: it has score {sign * 6} on")
    assert told.endswith(f"always answering the mean has score {sign * 5} ± 0.5")
    assert guess.remark_on(Point({"op": "a"}, {"score": sign * 4.0}, id="a01")) == ""


def no_sense(space) -> NetworkSpace:
    """The same networks, on labels that have nothing to do with the inputs."""
    data = space.task()
    whole = [data.train, data.valid, data.test]
    inputs = torch.cat([part.inputs for part in whole])
    labels = torch.arange(len(inputs)) % 3
    return replace(space, task=lambda: split(inputs, labels, valid=60, test=60, seed=1))


def test_a_search_that_learned_nothing_says_so(tmp_path, space, costs):
    run = Run.create(tmp_path / "run", {}, device="cpu", seed=0)
    *_, last = search(no_sense(space), objectives=costs, run=run, budget=PLAN, rays=6)
    assert last.message.startswith("no better than guessing: the best network errs in ")
    assert last.message.count("give a larger budget") == 1
    written = json.loads((run.folder / "run.json").read_text())
    guess = Guessing.of(no_sense(space).load_task())
    assert Guessing.told(written) == guess
    page = write_report(Run.open(run.folder), run.folder / "report.html").read_text()
    assert "No better than guessing: the best network errs in" in page


def test_a_search_that_learned_does_not(tmp_path, space, costs):
    run = Run.create(tmp_path / "run", {}, device="cpu", seed=0)
    plan = replace(PLAN, recipe=replace(PLAN.recipe, epochs=20))
    *_, last = search(space, objectives=costs, run=run, budget=plan, rays=6)
    assert not Guessing.of(space.load_task()).as_good_as(
        min(point.objectives["error_percent"] for point in last.front)
    )
    assert not last.message.startswith("no better than guessing")


def test_the_command_says_it_at_its_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lost.py").write_text(
        "from dataclasses import replace\n"
        "from paretonas import Recipe\n"
        "from search_spaces import toy\n"
        "space = replace(toy.space, recipe=Recipe(epochs=1, learning_rate=1e-9))\n"
    )
    asked = ["search", "--space", "lost.py:space", "--budget", "40steps", "--device", "cpu"]
    assert command([*asked, "--out", "run"]) == 0
    *_, told, found, take = capsys.readouterr().out.splitlines()
    assert told.startswith("no better than guessing: the best network errs in ")
    assert told.endswith("give a larger budget, or the recipe more epochs")
    assert " in 0:" in found and "--pick most-accurate" in take
    assert command(["export", "run", "--space", "lost.py:space", "--format", "json"]) == 0
    *_, told = capsys.readouterr().out.splitlines()
    assert "is no better than guessing: it errs in" in told
