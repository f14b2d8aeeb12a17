"""What a real GPU must confirm: the numbers of the CPU, and steps that wait for nothing."""

from itertools import islice

import pytest
import torch

from paretonas.gradient_search.paths import Paths
from paretonas.gradient_search.weights import WeightTraining
from paretonas.multitask import backward
from paretonas.solvers import UPGrad
from paretonas.tasks.passes import one_pass
from paretonas.tasks.task import on_device, sized
from paretonas.training import Updates
from search_spaces import toy, transformer

pytestmark = pytest.mark.gpu
SPACES = pytest.mark.parametrize("space", [toy.space, transformer.text], ids=lambda s: s.name)


@SPACES
@pytest.mark.parametrize("kind", ["fair", "sandwich", "distill"])
def test_steps_of_the_supernet_give_the_losses_of_the_cpu(space, kind):
    found = []
    for place in ("cpu", "cuda"):
        supernet, paths = space.supernet().to(place), Paths.parse(kind)
        task = on_device(space.load_task(), place)
        steps = 3 * paths.passes
        training = WeightTraining(supernet, task, space.recipe, steps=steps, seed=0, paths=paths)
        found.append(list(training.run()))
    assert found[1] == pytest.approx(found[0], rel=0.02)


@SPACES
def test_a_step_of_a_finalist_waits_for_nothing(space):
    supernet = space.supernet().to("cuda")
    task = on_device(sized(space.load_task(), space.recipe.batch_size), "cuda")
    network = supernet.extract(supernet.extreme(largest=True))
    updates = Updates(network, task, space.recipe, 10)
    batches = list(islice(one_pass(task, "train", seed=0, epoch=0), 4))
    updates.step(batches[0])  # libraries may wait at their first call
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [updates.step(batch) for batch in batches[1:]]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.stack(losses).isfinite().all()


def test_several_losses_are_resolved_as_on_the_cpu():
    found = []
    for place in ("cpu", "cuda"):
        torch.manual_seed(0)
        network = torch.nn.Linear(300, 20).to(place)
        outputs = network(torch.arange(900.0).reshape(3, 300).sin().to(place))
        losses = [(row - i).square().sum() for i, row in enumerate(outputs)]
        found.append(backward(losses, network, solver=UPGrad()).vector.cpu())
    assert torch.allclose(*found, rtol=1e-2, atol=1e-3)
