"""Several paths in an update: their mean gradient, the sandwich rule, in-place distillation."""

import copy
from dataclasses import replace
from random import Random

import pytest
import torch
from torch.nn import functional

from paretonas import Recipe, search
from paretonas.data import Data, Split
from paretonas.gradient_search import Paths
from paretonas.gradient_search.weights import WeightTraining
from paretonas.nn import Connect, Depth, Linear, NetworkSpace, OneOf, Supernet, Width
from paretonas.space import fair_paths
from paretonas.tasks.passes import one_pass
from search_spaces import toy

RECIPE = Recipe(
    batch_size=20,
    optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
    schedule=None,
)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 6)
        self.first = Linear(4, self.width)
        self.op = OneOf({"tanh": torch.nn.Tanh(), "deep": Linear(self.width, self.width)})
        self.last = Depth([Linear(self.width, self.width)], at_least=0)
        self.node = Connect(2, take=[1, 2])
        self.head = Linear(self.width, 3)

    def forward(self, x):
        x = self.first(x)
        return self.head(self.last(self.node(x, self.op(x))))


def space(recipe=RECIPE):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator)
    part = Split(x, x.argmax(1) % 3)
    return NetworkSpace("mine", Net, Data(part, part, part), recipe)


def training(paths, steps, mine=None):
    mine = mine or space()
    supernet = mine.supernet(3)
    return WeightTraining(
        supernet, mine.load_task(), mine.recipe, steps=steps, seed=5, paths=Paths.parse(paths)
    )


def test_the_largest_and_the_smallest_architecture():
    supernet = Supernet(Net())
    largest = {"width": "6", "op": "deep", "last": "1", "node": "0+1"}
    smallest = {"width": "2", "op": "tanh", "last": "0", "node": "0"}
    assert supernet.extreme(largest=True) == largest
    assert supernet.extreme(largest=False) == supernet.canonical(smallest)
    supernet.set_aside("width", "6", "it does not fit")
    assert supernet.extreme(largest=True)["width"] == "2"


@pytest.mark.parametrize("paths", ["fair:3", "sandwich", "sandwich:2", "distill"])
def test_an_update_takes_the_mean_gradient_of_its_paths(paths):
    """An independent loop in torch is the oracle."""
    job = training(paths, steps=2 * Paths.parse(paths).passes)
    mine = copy.deepcopy(job.supernet).train()
    drawn = fair_paths(mine.choices, Random("weights 5"))
    batches = iter(one_pass(job.task, "train", seed=5, epoch=0))
    count = Paths.parse(paths).count
    losses = []
    for loss in job.run():
        losses.append(loss)
        x, labels = next(batches)
        group = [next(drawn) for _ in range(count)]
        if paths != "fair:3":
            extremes = mine.extreme(largest=True), mine.extreme(largest=False)
            group = [extremes[0], *group, extremes[1]]
        each, first = [], None
        for path in group:
            scores = mine(x, path)
            if paths == "distill" and first is not None:
                target = first.detach().softmax(1)
                own = scores.log_softmax(1)
                each.append((target * (target.log() - own)).sum(1).mean())
            else:
                each.append(functional.cross_entropy(scores, labels))
            first = scores if first is None else first
        mine.zero_grad()
        torch.stack(each).mean().backward()
        with torch.no_grad():
            for parameter in mine.parameters():
                if parameter.grad is not None:
                    parameter -= 0.5 * parameter.grad
        assert loss == pytest.approx(float(torch.stack(each).mean().detach()), rel=1e-5)
        torch.testing.assert_close(job.supernet.state_dict(), mine.state_dict())
    assert len(losses) == 2
    assert job.done == job.steps


def test_a_training_that_was_stopped_goes_on_with_the_same_bits():
    whole = training("distill:2", steps=40)
    losses = list(whole.run())
    first = training("distill:2", steps=40)
    run = first.run()
    begun = [next(run) for _ in range(4)]
    state = copy.deepcopy(first.state())
    second = training("distill:2", steps=40)
    second.resume(state)
    assert begun + list(second.run()) == losses
    for name, tensor in whole.supernet.state_dict().items():
        assert torch.equal(tensor, second.supernet.state_dict()[name])


def test_each_path_is_a_step_of_the_budget():
    for paths, passes in (("fair", 1), ("fair:4", 4), ("sandwich", 3), ("distill:2", 4)):
        job = training(paths, steps=24)
        assert len(list(job.run())) == 24 / passes
        assert Paths.parse(paths).passes == passes
        assert str(Paths.parse(paths)) == paths


def test_a_search_keeps_to_the_paths_that_it_was_begun_with(tmp_path):
    place = tmp_path / "run"
    for _ in search(toy.space, budget="60steps", paths="sandwich:2", run=place):
        pass
    with pytest.raises(ValueError, match="were begun as 'sandwich:2', got 'fair'"):
        search(toy.space, budget="60steps", paths="fair", run=place)


@pytest.mark.parametrize("paths", ["fare", "sandwich:0", "fair:two", ""])
def test_what_names_no_paths_is_refused_in_one_line(paths):
    with pytest.raises(ValueError, match="paths"):
        search(toy.space, paths=paths)


def test_several_paths_and_a_step_of_ones_own_are_refused():
    mine = space(replace(RECIPE, training_step=lambda network, batch, optimizer: 0.0))
    with pytest.raises(ValueError, match=r"fair:2 trains several paths in an update.* use fair"):
        training("fair:2", steps=4, mine=mine)
