"""backward in two processes: with a group, both take the step that one would on the whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from paretonas import backward
from paretonas.multitask import TaskGradients
from paretonas.solvers import MGDA, LinearScalarization, UPGrad

SOLVERS = {"UPGrad": UPGrad(), "MGDA": MGDA(), "LinearScalarization": LinearScalarization()}
pytestmark = [
    pytest.mark.timeout(300),  # two processes import torch, on however busy a machine
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="needs torch.distributed with gloo",
    ),
]


class Net(nn.Module):
    """A trunk and two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(4, 3)
        self.heads = nn.ModuleList(nn.Linear(3, 1) for _ in range(2))
        self.double()

    def forward(self, inputs):
        features = self.trunk(inputs).tanh()
        return [(head(features) - i).square().mean() for i, head in enumerate(self.heads)]

    def heads_of(self):
        return [head.parameters() for head in self.heads]


def batch():
    return torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def take(net):
    found = {name.removeprefix("module."): p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    return found


def steps(rank, file, answers):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=2
    )
    group = torch.distributed.group.WORLD
    mine = batch()[4 * rank : 4 * rank + 4]
    net, found = Net(), {}
    for name, solver in SOLVERS.items():
        shared = net.trunk.parameters()
        backward(net(mine), shared, solver=solver, heads=net.heads_of(), group=group)
        found[name] = take(net)
    collected = TaskGradients(net.trunk.parameters(), heads=net.heads_of(), group=group)
    for part in mine.split(2):
        collected.add([loss / 2 for loss in net(part)])
    collected.resolve(UPGrad())
    found["micro-batches"] = take(net)
    # A loss that reaches the trunk in one process only.
    losses = net(mine)
    if rank == 1:
        losses[1] = net.heads[1](torch.ones(1, 3, dtype=torch.float64)).sum()
    backward(losses, net.trunk.parameters(), solver=UPGrad(), heads=net.heads_of(), group=group)
    found["missing"] = take(net)
    # Overflow in one process only.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    losses = [loss * (torch.inf if rank else 1.0) for loss in net(mine)]
    direction = backward(
        losses,
        net.trunk.parameters(),
        solver=UPGrad(),
        heads=net.heads_of(),
        group=group,
        scaler=scaler,
    )
    found["skipped"] = {"branch": direction.certificate.branch}
    torch.save(found, f"{answers}{rank}")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(steps, (str(place / "meet"), str(place / "answer")), nprocs=2)
    return [torch.load(place / f"answer{rank}") for rank in range(2)]


@pytest.mark.parametrize("case", [*SOLVERS, "micro-batches"])
def test_the_step_is_that_of_one_process_on_the_whole_batch(found, case):
    net = Net()
    solver = SOLVERS.get(case, UPGrad())
    backward(net(batch()), net.trunk.parameters(), solver=solver, heads=net.heads_of())
    expected = take(net)
    for rank in range(2):
        torch.testing.assert_close(found[rank][case], expected)


@pytest.mark.parametrize("case", [*SOLVERS, "micro-batches", "missing"])
def test_processes_agree_to_the_last_bit(found, case):
    torch.testing.assert_close(found[0][case], found[1][case], rtol=0, atol=0)


def test_processes_agree_to_skip(found):
    for rank in range(2):
        assert "skipped" in found[rank]["skipped"]["branch"]


@pytest.fixture
def group():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield torch.distributed.group.WORLD
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel_stands_by_under_no_sync(group):
    model, plain = DistributedDataParallel(Net()), Net()
    net = model.module
    for _ in range(3):  # no forward pass finds that an earlier one is still waited for
        for step in (model, plain):
            step.zero_grad()
        with model.no_sync():
            losses = model(batch())
        backward(losses, net.trunk.parameters(), solver=UPGrad(), heads=net.heads_of(), group=group)
        backward(plain(batch()), plain.trunk.parameters(), solver=UPGrad())
        torch.testing.assert_close(take(model), take(plain))


def test_a_group_needs_heads():
    a = torch.ones(1, requires_grad=True)
    for solver in (MGDA(), LinearScalarization()):
        with pytest.raises(ValueError, match="with group, pass heads too"):
            backward([a.sum()], [a], solver=solver, group=object())
