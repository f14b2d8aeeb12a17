"""What cannot be scored is refused before anything is trained, and little is done to find it."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from paretonas.cli import run as command
from paretonas.gradient_search import Plan
from paretonas.gradient_search.search import search
from paretonas.metric import Metric
from paretonas.tasks import Supervised, metrics
from paretonas.training import Recipe

PLAN = Plan(supernet_steps=4, proxy_evaluations=2, finalists=1, recipe=Recipe(1, 20, 0.03))


class Counting(Supervised):
    """Counts the examples that are evaluated, and the training steps."""

    evaluated = trained = 0

    def evaluate_on(self, network, batches):
        def counted():
            for batch in batches:
                Counting.evaluated += len(batch[1])
                yield batch

        return super().evaluate_on(network, counted())

    def loss(self, network, batch):
        Counting.trained += network.training
        return super().loss(network, batch)


def task_of(space, *several, test=None) -> Supervised:
    Counting.evaluated = Counting.trained = 0
    data = space.task()
    parts = [(part.inputs, part.labels) for part in (data.train, data.valid, data.test)]
    parts[2] = parts[2] if test is None else test
    return Counting(*parts, loss=functional.cross_entropy, metric=metrics.error(), reported=several)


def until_trained(space, task, costs):
    """The steps of a search before the first step of its weights."""
    found = search(replace(space, task=task), objectives=costs, budget=PLAN, rays=2)
    for step in found:
        if step.message.startswith("plan"):
            break
    found.close()


def fails(output, target):
    raise KeyError("mine")


def too_few(output, target):
    """Such as a metric that needs every class."""
    if len(target) < 60:
        raise ValueError("some class has no example")
    return 0.5


def only_one(output, target):
    """Fails for a network that gives one answer to all."""
    seen.append(output)
    if len(seen) < 3:
        raise ZeroDivisionError
    return 0.5


seen: list[torch.Tensor] = []


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            Metric("odd", fails),
            r"the valid split cannot be scored: KeyError: 'mine' .*metric 'odd'",
        ),
        (
            Metric("odd", lambda output, target: output),
            r"the valid split cannot be scored: TypeError: the metric 'odd' must give one number",
        ),
        (Metric("odd", lambda output: 1.0), "cannot be scored: TypeError: .*metric 'odd'"),
    ],
)
def test_a_metric_that_raises_is_named_before_any_training(space, costs, metric, message):
    task = task_of(space, metric)
    with pytest.raises(ValueError, match=message):
        until_trained(space, task, costs)
    assert Counting.trained < 20  # the trial of some architectures


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ((torch.randn(9, 3), torch.arange(9) % 3), "RuntimeError: .* shapes"),
        ((torch.randn(9, 2), torch.arange(9) + 7), "IndexError: Target"),
        ((torch.randn(9, 2), torch.rand(9)), "RuntimeError|OutputError|expected scalar type"),
        ((torch.randn(9, 2), torch.full((9,), -100)), "ValueError: every label is -100"),
    ],
)
def test_a_test_split_that_cannot_be_scored_is_named_before_any_training(
    space, costs, test, message
):
    with pytest.raises(ValueError, match=f"the test split cannot be scored: .*({message})"):
        until_trained(space, task_of(space, test=test), costs)


def test_few_examples_are_scored(space, costs):
    until_trained(space, task_of(space), costs)
    assert Counting.evaluated == 2 * 8


@pytest.mark.parametrize("metric", [Metric("all", too_few), Metric("some", only_one)])
def test_a_metric_that_fails_on_few_examples_or_on_one_network_alone_is_not_refused(
    space, costs, metric
):
    seen.clear()
    until_trained(space, task_of(space, metric), costs)


class Scratch:
    """A task from scratch that gives another key, and draws numbers of its own."""

    metric = Metric("auc", maximize=True)

    def __init__(self, data, found):
        self.data, self.found, self.drawn = data, found, []
        self.generator = torch.Generator().manual_seed(3)

    def example(self):
        return self.data.example

    def batches(self, split, *, seed, epoch):
        part = getattr(self.data, split)
        return [(part.inputs, part.labels)]

    def loss(self, network, batch):
        return functional.cross_entropy(network(batch[0]), batch[1])

    def evaluate(self, network, split):
        self.drawn.append(float(torch.rand((), generator=self.generator)))
        return self.found


def test_a_task_from_scratch_without_its_metric_is_refused_with_its_keys(space, costs):
    task = Scratch(space.task(), {"loss": 1.0, "top1": 0.5})
    message = "the valid split cannot be scored: ValueError: .* 'auc' beside .*, got 'loss', 'top1'"
    with pytest.raises(ValueError, match=message):
        until_trained(space, task, costs)


def test_what_a_task_draws_while_it_is_tried_leaves_no_trace(space, costs):
    task = Scratch(space.task(), {"loss": 1.0, "auc": 0.5})
    until_trained(space, task, costs)
    assert len(task.drawn) == 2
    expected = torch.rand((), generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.rand((), generator=task.generator), expected)


def test_the_command_refuses_in_one_line_and_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.py").write_text(
        "from dataclasses import replace\n"
        "from paretonas import Metric\n"
        "from paretonas.tasks import Classification\n"
        "from search_spaces import toy\n"
        "data = toy.space.task()\n"
        "def fails(output, target):\n"
        "    raise KeyError('mine')\n"
        "task = Classification(data.train, data.valid, data.test, reported=[Metric('m', fails)])\n"
        "space = replace(toy.space, task=task)\n"
    )
    asked = ["search", "--space", "odd.py:space", "--budget", "90steps", "--device", "cpu"]
    assert command([*asked, "--out", "run"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "the valid split cannot be scored: KeyError: 'mine' (in the metric 'm')" in told
    assert not (tmp_path / "run").exists()
