"""Every space on a GPU: its steps mix no devices, and what they wait for is known."""

import importlib
import math
import pkgutil
from collections import Counter
from itertools import islice
from random import Random

import pytest
import torch
from torch import nn

import search_spaces
from paretonas.data import split
from paretonas.devices.timer import loading
from paretonas.gradient_search.paths import KINDS, Paths
from paretonas.gradient_search.weights import WeightTraining, inherited_scores
from paretonas.nn import NetworkSpace, OneOf
from paretonas.relaxation import probabilities, sizes_of
from paretonas.solvers import SmoothTchebycheff
from paretonas.space import draw
from paretonas.surrogates.alpha import optimize_alpha, rays, with_preference
from paretonas.surrogates.quality_model import QualityModel
from paretonas.tasks.passes import one_pass
from paretonas.tasks.task import metrics_of, on_device, sized
from paretonas.training import Recipe, Updates, fine_tuning, recalibrate

BY_DAY = {"toy:space", "transformer:text", "unet:space", "mobile:space"}


def all_spaces() -> dict[str, NetworkSpace]:
    """Every space of networks of the package, once."""
    found: dict[int, tuple[str, NetworkSpace]] = {}
    for module in pkgutil.iter_modules(search_spaces.__path__):
        for name, value in vars(importlib.import_module(f"search_spaces.{module.name}")).items():
            if isinstance(value, NetworkSpace):
                found.setdefault(id(value), (f"{module.name}:{name}", value))
    return dict(found.values())


SPACES = all_spaces()
every_space = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in BY_DAY else pytest.mark.deep) for n in SPACES]
)

# What may cross, by the function that does it.
ORDER = "to device: paretonas/tasks/feeds.py _cut"  # of the examples, once a pass
STEP = "read: paretonas/training/updates.py check"  # the loss, and the norm of the gradients
MADE = "to device: paretonas/nn/elastic.py _plain"  # a number of a batch norm that is made


def placed(space, cuda):
    """The supernet and the task of a space on the device; batches are small."""
    supernet = space.supernet().to("cuda")
    task = on_device(sized(space.load_task(), 4), "cuda")
    cuda.since()
    return supernet, task


@every_space
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_the_weights_reads_two_numbers_a_path(name, kind, cuda):
    space, paths, updates = SPACES[name], Paths.parse(kind), 2
    supernet, task = placed(space, cuda)
    training = WeightTraining(
        supernet, task, space.recipe, steps=updates * paths.passes, seed=0, paths=paths
    )
    losses = list(training.run())
    assert len(losses) == updates and all(map(math.isfinite, losses))
    assert cuda.since() == {ORDER: 1, STEP: 2 * updates * paths.passes}
    assert all(p.grad.is_cuda for p in supernet.parameters() if p.grad is not None)


@every_space
def test_a_mixture_reads_nothing(name, cuda):
    supernet, task = placed(SPACES[name], cuda)
    sizes = sizes_of(supernet.choices)
    alpha = torch.zeros(sum(sizes), requires_grad=True)  # on the host, as in a search
    (batch,) = islice(one_pass(task, "train", seed=0, epoch=0), 1)
    gates = probabilities(alpha, sizes).to("cuda").split(list(sizes))
    cuda.since()
    with supernet.path(gates) as network:
        task.loss(network, batch).backward()
    here = "tests/gpu/test_steps.py test_a_mixture_reads_nothing"
    assert cuda.since() == {f"to host: {here}": 1}  # the gradient of alpha
    assert alpha.grad.norm() > 0


@every_space
def test_alpha_is_optimized_on_the_host(name, cuda):
    space = SPACES[name]
    supernet, task = space.supernet(), space.load_task()
    knowledge, sizes = QualityModel(supernet.choices, [], metrics_of(task)), sizes_of(space.choices)
    prices, rng = torch.arange(1.0, 1 + sum(sizes)), Random(0)
    for number in range(5):
        architecture = supernet.canonical(draw(supernet.choices, rng))
        knowledge.inherited[architecture] = (1.0 + number,)
    knowledge.fit()

    def relaxed(p):
        return torch.stack([knowledge.surrogates[0].relaxed(p), (p @ prices).log()], dim=1)

    solver = with_preference(SmoothTchebycheff(), rays(2, 3))
    for step in optimize_alpha(torch.zeros(3, sum(sizes)), sizes, relaxed, solver, steps=2):
        assert not step.alpha.is_cuda and step.alpha.isfinite().all()
    assert not cuda.since()


@every_space
def test_a_proxy_evaluation_reads_at_its_end(name, cuda):
    supernet, task = placed(SPACES[name], cuda)
    architecture = supernet.extreme(largest=False)
    scores = inherited_scores(supernet, task, architecture)
    assert math.isfinite(scores["loss"])
    found = cuda.since()
    assert found.pop(ORDER) <= 2  # the first example tells how large batches may be
    assert {what.rpartition(" ")[0] for what in found} <= {
        "read: paretonas/tasks/supervised.py",
        "read: paretonas/tasks/metrics.py",
    }
    assert found.total() < 10
    batches = list(islice(one_pass(task, "train", seed=0, epoch=0), 3))
    cuda.since()
    with torch.no_grad(), supernet.path(architecture) as network:
        task.evaluate_on(network, batches)
    assert cuda.since() == found  # however many batches there are


@every_space
def test_a_finalist_is_trained_and_timed_without_a_read(name, cuda, monkeypatch):
    monkeypatch.setattr(fine_tuning, "BATCHES", 2)
    space = SPACES[name]
    supernet, task = placed(space, cuda)
    architecture = supernet.extreme(largest=False)
    network = supernet.extract(architecture)
    assert set(cuda.since()) <= {MADE}
    updates = Updates(network, task, space.recipe, 4)
    for batch in islice(one_pass(task, "train", seed=0, epoch=0), 2):
        assert updates.step(batch).is_cuda
    assert cuda.since() == {ORDER: 1}
    recalibrate(network, task, seed=0)
    assert cuda.since() in ({ORDER: 1}, {})  # some networks have no batch norm
    fresh = supernet.fresh(architecture, seed=1)
    assert all(t.is_cuda for t in fresh.state_dict().values())
    assert set(cuda.since()) <= {"to device: paretonas/nn/supernet.py fresh", MADE}
    call = loading(network, SPACES[name].load_task().example(), torch.device("cuda"))()
    cuda.since()
    call()
    assert not cuda.since()


# --- that the tests above can fail ---------------------------------------------------------------


class Copying(nn.Module):
    """Goes over the host."""

    def forward(self, x):
        return x.cpu().to(x.device)


class Reading(nn.Module):
    """Asks for a number."""

    def forward(self, x):
        return x / x.abs().max().item()


class Mixing(nn.Module):
    """Has a tensor that no `.to` moves."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = [torch.ones(4)]

    def forward(self, x):
        return x * self.scale[0]


def planted(fault: nn.Module) -> NetworkSpace:
    def network() -> nn.Module:
        torch.manual_seed(0)
        ops = OneOf({"tanh": nn.Tanh(), "relu": nn.ReLU()})
        return nn.Sequential(nn.Linear(4, 4), ops, fault, nn.Linear(4, 2))

    examples = split(torch.randn(40, 4), torch.arange(40) % 2, valid=10, test=10)
    return NetworkSpace("planted", network, examples, Recipe(epochs=1))


def steps(space: NetworkSpace, cuda) -> Counter[str]:
    supernet, task = placed(space, cuda)
    training = WeightTraining(supernet, task, space.recipe, steps=2, seed=0)
    list(training.run())
    return cuda.since()


def test_a_planted_copy_is_seen(cuda):
    fair = {ORDER: 1, STEP: 4}
    assert steps(planted(nn.Identity()), cuda) == fair
    here = "tests/gpu/test_steps.py forward"
    back = {f"to host: {here}": 2, f"to device: {here}": 2}
    found = steps(planted(Copying()), cuda)
    assert found.items() > (fair | back).items()  # and its gradient goes the same way
    assert steps(planted(Reading()), cuda) == fair | {f"read: {here}": 2}


def test_a_planted_mix_of_devices_is_refused(cuda):
    with pytest.raises(RuntimeError, match="on the same device"):
        steps(planted(Mixing()), cuda)
