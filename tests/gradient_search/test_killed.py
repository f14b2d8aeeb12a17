"""A search may be killed at any moment, again and again: it goes on, and loses nothing."""

import os

import pytest

PROGRAM = """
import sys
from pathlib import Path
import torch
from torch import nn
from paretonas.data import split
from paretonas.gradient_search import Plan, model, search as module
from paretonas.nn import Linear, NetworkSpace, OneOf, Width
from paretonas.objectives import Memory, Parameters
from paretonas.runs import Run
from paretonas.training import Recipe

torch.set_num_threads(1)
torch.optim.AdamW([nn.Parameter(torch.zeros(1))])  # imports more than all else together
model.ALPHA_STEPS = 4
room = Path(sys.argv[1])

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.width = Width(2, 4, 8)
        self.stem = Linear(2, self.width)
        self.act = OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh(), "none": nn.Identity()})
        self.head = Linear(self.width, 2)

    def forward(self, x):
        return self.head(self.act(self.stem(x)))

x = torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
data = split(x, (x.norm(dim=1) > 1.2).long(), valid=30, test=30)
space = NetworkSpace("tiny", Net, lambda: data, Recipe(1, 30, 0.03))
example = data.example
costs = (Memory.of(space.supernet(), example), Parameters.of(space.supernet(), example))
plan = Plan(250, 4, 4, Recipe(1, 30, 0.03))

def go(folder):
    run = Run.open(folder)
    for _ in module.search(space, objectives=costs, budget=plan, rays=3, run=run):
        pass

def known(run):
    assert (run.folder / "run.json").exists()
    points = {point.id: point for point in run.evaluations()}
    assert len(points) == len(run.evaluations())
    for name in points:
        run.weights(name)
    return points

run = Run.create(room / "run", {}, "cpu", 0)
points = {}

def look():
    global points
    now = known(run)
    assert points.items() <= now.items(), (points, now)
    points = now

kills = kill_often(lambda: go(run.folder), look, first=0.05, longer=float(sys.argv[2]))
whole = Run.create(room / "whole", {}, "cpu", 0)
go(whole.folder)
assert list(whole.front()) == list(run.front())
assert whole.evaluations() == run.evaluations()
plain = lambda run: [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]
assert plain(run) == plain(whole)
print(kills)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("longer", "least"), [(1.6, 3), pytest.param(1.1, 10, marks=pytest.mark.deep)]
)
def test_however_often_it_is_killed_it_ends_with_the_same(tmp_path, killed, longer, least):
    assert killed(PROGRAM, tmp_path, longer) >= least
