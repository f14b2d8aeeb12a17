"""The supernet and the finalists are trained by the recipe, and by functions of the user's own."""

import copy
import functools
import io
import itertools
import json
import math
from dataclasses import replace
from random import Random

import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas import Run, search
from paretonas.data import Data, split
from paretonas.finalists import train_finalists
from paretonas.gradient_search.plan import Plan
from paretonas.gradient_search.weights import WeightTraining, trial
from paretonas.nn import BatchNorm1d, Linear, NetworkSpace, OneOf, Supernet, Width
from paretonas.space import Architecture, fair_paths
from paretonas.tasks import Classification
from paretonas.training import Recipe, Teacher, Updates
from paretonas.training.warmup import warmup_cosine_factor

STEPS = 14


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.width = Width(2, 6)
        self.stem = Linear(2, self.width)
        self.op = OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()})
        self.head = Linear(self.width, 3)

    def forward(self, x):
        return self.head(self.op(self.stem(x)))


def rings() -> Data:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(100, 2, generator=generator)
    labels = torch.bucketize(inputs.norm(dim=1), torch.tensor([0.9, 1.5]))
    return split(inputs, labels, valid=20, test=20)


def task() -> Classification:
    return Classification.of(rings())


def space_of(network=Net, **options) -> NetworkSpace:
    return NetworkSpace("small", network, rings, Recipe(2, 20, 0.03, **options))


def training(network=Net, **options) -> WeightTraining:
    space = space_of(network, **options)
    return WeightTraining(space.supernet(), task(), space.recipe, steps=STEPS, seed=3)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def noisy(batch):
    return batch[0] + torch.randn_like(batch[0]), batch[1]


def own(network, batch, optimizer):
    optimizer.zero_grad()
    loss = functional.cross_entropy(network(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss


# --- the supernet ------------------------------------------------------------------------------


def test_by_default_the_supernet_is_trained_as_by_a_plain_loop_bit_for_bit():
    job, supernet = training(), space_of().supernet()
    losses = list(job.run())
    optimizer = torch.optim.AdamW(supernet.parameters(), lr=0.03, weight_decay=1e-2)
    paths = fair_paths(supernet.choices, Random("weights 3"))
    batches = (
        batch
        for e in itertools.count()
        for batch in task().sized(20).batches("train", seed=3, epoch=e)
    )
    for step, (path, (inputs, labels)) in enumerate(zip(paths, batches, strict=False)):
        if step == STEPS:
            break
        for group in optimizer.param_groups:
            group["lr"] = 0.03 * warmup_cosine_factor(step, STEPS)
        loss = functional.cross_entropy(supernet(inputs, path), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.item() == losses[step]
    assert_same(job.supernet, supernet)


def assert_same(one, other):
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


OPTIONS = {
    "optimizer": {"optimizer": sgd, "schedule": None},
    "schedule": {
        "schedule": lambda o, steps: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, steps + 1)
    },
    "fp16": {"precision": "fp16"},
    "augment": {"augment": noisy},
    "teacher": {"teacher": Teacher(nn.Linear(2, 3))},
    "training_step": {"training_step": own, "augment": noisy},
    "finalists only": {"ema": 0.9, "compile": True, "fit": print},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_training_of_a_supernet_goes_on_bit_for_bit(name):
    options = OPTIONS[name]
    whole, first, rest = (training(**options) for _ in range(3))
    losses = list(whole.run())
    head = list(itertools.islice(first.run(), 6))
    file = io.BytesIO()
    torch.save(first.state(), file)
    rest.resume(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    torch.manual_seed(5)  # the state of the global generators changes nothing
    assert head + list(rest.run()) == losses
    assert_same(rest.supernet, whole.supernet)
    plain = list(training().run())
    assert (losses == plain) is (name == "finalists only")


class Faulty(nn.Module):
    def forward(self, x):
        return x * math.nan


class WithAFault(Net):
    def __init__(self):
        super().__init__()
        self.op = OneOf({"relu": nn.ReLU(), "bad": Faulty(), "tanh": nn.Tanh()})


@pytest.mark.parametrize("name", ["optimizer", "training_step", "fp16"])
def test_an_option_that_fails_changes_no_weight_and_is_set_aside(name):
    job = training(WithAFault, **OPTIONS[name])
    for loss in job.run():
        assert all(torch.isfinite(p).all() for p in job.supernet.parameters())
        if math.isnan(loss):
            break
    ((_, failure),) = job.failures
    assert dict(failure.architecture) == {"op": "bad"}
    before = [p.detach().clone() for p in job.supernet.parameters()]
    rest = training(WithAFault, **OPTIONS[name])
    step = job.done
    for _ in itertools.islice(rest.run(), step - 1):
        pass
    for one, other in zip(before, rest.supernet.parameters(), strict=True):
        assert torch.equal(one, other)  # as after the step before
    assert all(math.isfinite(loss) for loss in job.run())


def test_a_step_of_ones_own_that_ruins_the_weights_is_taken_back():
    calls = []

    def every_third(network, batch, optimizer):
        calls.append(own(network, batch, optimizer))
        if len(calls) == 3:
            network.stem.weight.data.fill_(math.inf)
        return calls[-1]

    job = training(training_step=every_third)
    losses = list(job.run())
    assert [math.isnan(loss) for loss in losses].index(True) == 2
    assert all(torch.isfinite(p).all() for p in job.supernet.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": lambda batch: (batch[0][:, :1], batch[1])}, "shapes cannot be multiplied"),
        ({"teacher": nn.Linear(5, 3)}, "teacher does not run on the inputs"),
        ({"optimizer": torch.optim.Rprop}, "Rprop takes no weight_decay"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_anything_is_measured(options, message):
    steps = search(space_of(**options), objectives=None, rays=2, budget="40steps")
    with pytest.raises((TypeError, RuntimeError), match=message):
        next(steps)


def test_trying_options_leaves_the_weights_to_steps_of_ones_own():
    supernet = space_of().supernet()
    recipe = Recipe(training_step=own)
    assert trial(supernet, task(), recipe, seed=0).options() == []
    assert_same(supernet, space_of().supernet())


# --- finalists ---------------------------------------------------------------------------------

ARCHITECTURES = [Architecture({"width": w, "op": op}) for w in "26" for op in ("relu", "tanh")]


def finalists(workers=1, **options):
    space = space_of(**options)
    found = train_finalists(
        space.supernet(), task(), space.recipe, ARCHITECTURES, seed=0, workers=workers
    )
    return [getattr(finalist, "network", finalist) for finalist in found]


@pytest.mark.parametrize("name", ["optimizer", "augment", "teacher", "training_step"])
def test_finalists_are_the_same_however_many_are_trained_at_once(name):
    for one, two in zip(finalists(1, **OPTIONS[name]), finalists(2, **OPTIONS[name]), strict=True):
        assert_same(one, two)


def test_finalists_have_the_averaged_weights():
    for plain, averaged in zip(finalists(), finalists(ema=0.9), strict=True):
        assert not torch.equal(plain.head.weight, averaged.head.weight)
    steps = []

    def keep(network, batch, optimizer):
        loss = own(network, batch, optimizer)
        steps.append(network.head.weight.detach().clone())
        return loss

    averaged = finalists(ema=0.9, training_step=keep)[-1]
    start = space_of().supernet().fresh(ARCHITECTURES[-1], seed=0).head.weight.detach()
    for number, weight in enumerate(steps[-6:]):  # two epochs of three batches
        decay = min(0.9, (1 + number) / (10 + number))
        start = decay * start + (1 - decay) * weight
    torch.testing.assert_close(averaged.head.weight.detach(), start)


def test_a_training_of_ones_own_replaces_that_of_each_finalist():
    calls = []

    def fit(network, task, recipe, seed):
        calls.append((recipe, seed, len(task.batches("train", seed=seed, epoch=0))))
        nn.init.normal_(network.head.weight)

    one, two = finalists(1, fit=fit), finalists(2, fit=fit)
    assert calls == [(space_of(fit=fit).recipe, 0, 3)] * 8
    for a, b in zip(one, two, strict=True):
        assert_same(a, b)
    (failure, *_) = finalists(fit=lambda *_: nn.Linear(1, 1))
    assert "fit must train the network in place" in failure.reason


# --- a whole search -----------------------------------------------------------------------------

PLAN = Plan(supernet_steps=STEPS, proxy_evaluations=3, finalists=2, recipe=Recipe(1, 20, 0.03))


def searched(space, **more):
    return list(search(space, objectives="parameters", rays=2, **more))[-1].front


def test_a_search_tells_its_recipe_and_goes_on_with_functions_of_the_space(tmp_path):
    options = {"optimizer": functools.partial(torch.optim.SGD, lr=0.1), "augment": noisy}
    space = space_of(**options)
    whole = Run.create(tmp_path / "whole", {}, device="cpu", seed=0)
    front = searched(space, budget="40steps", run=whole)
    told = json.loads((whole.folder / "run.json").read_text())["recipe"]
    assert told["augment"] == f"{__name__}.noisy"
    assert told["optimizer"]["keywords"] == {"lr": 0.1}
    run = Run.create(tmp_path / "run", {}, device="cpu", seed=0)
    steps = search(space, objectives="parameters", rays=2, budget="40steps", run=run)
    next(step for step in steps if step.phase == "alpha")
    steps.close()
    rest = searched(space, budget="40steps", run=Run.open(run.folder))
    assert [*rest] == [*front]


def test_the_recipe_of_a_plan_is_kept_when_it_goes_on(tmp_path):
    seen = []

    def fit(network, task, recipe, seed):
        seen.append(recipe)

    plan = replace(PLAN, recipe=replace(PLAN.recipe, fit=fit, epochs=7))
    run = Run.create(tmp_path / "run", {}, device="cpu", seed=0)
    steps = search(space_of(), objectives="parameters", rays=2, budget=plan, run=run)
    next(step for step in steps if step.phase == "alpha")
    steps.close()
    searched(space_of(), budget=plan, run=Run.open(run.folder))
    assert seen == [plan.recipe] * 2


def test_a_step_of_ones_own_is_taken_back_in_a_network_with_batch_norms():
    """Inside a path the norms have no running statistics; afterwards they have them again."""
    width = Width(2, 4)
    network = torch.nn.Sequential(Linear(4, width), BatchNorm1d(width), Linear(width, 3))
    supernet = Supernet(network)

    def own(network, batch, optimizer):
        loss = network(batch[0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    updates = Updates(supernet.network, task(), Recipe(training_step=own), 1)
    before = copy.deepcopy(supernet.state_dict())
    with supernet.path({supernet.choices[0].name: "2"}):
        updates.differentiate((torch.randn(6, 4), torch.zeros(6)))
    assert not torch.equal(before["network.0.weight"], supernet.state_dict()["network.0.weight"])
    updates.undo()
    assert all(torch.equal(before[n], t) for n, t in supernet.state_dict().items())
