"""The pretended device: what it computes, what it refuses and what it counts."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


def trained(place: str) -> list[torch.Tensor]:
    model, images = network().to(place), torch.ones(2, 1, 8, 8).cumsum(-1).to(place)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), torch.arange(2, device=place)).backward()
        optimizer.step()
    assert {p.device.type for p in model.parameters()} == {place}
    assert {p.grad.device.type for p in model.parameters()} == {place}
    moments = [optimizer.state[p]["exp_avg"] for p in model.parameters()]
    assert {m.device.type for m in moments} == {place}
    return list(model.state_dict().values())


def test_a_training_is_that_of_the_host_and_stays_on_the_device(cuda):
    there = trained("cuda")
    moved = cuda.since()
    assert {what.partition(":")[0] for what in moved} == {"to device"}
    here = trained("cpu")
    assert not cuda.since()
    for one, other in zip(there, here, strict=True):
        assert torch.allclose(one.cpu(), other, atol=1e-6)


@pytest.mark.parametrize(
    "mix",
    [
        lambda there, here: there + here,
        lambda there, here: here @ there,
        lambda there, here: torch.cat([there, here]),
        lambda there, here: torch.stack([there.sum(), here.sum()]),
        lambda there, here: there[here.long().sum(dim=1)],
        lambda there, here: functional.linear(there, here),
        lambda there, here: there.add_(here),
        lambda there, here: torch.zeros_like(there) + torch.zeros(2, 2),
    ],
)
def test_two_devices_in_one_operation_are_refused(cuda, mix):
    with pytest.raises(RuntimeError, match="on the same device"):
        mix(torch.ones(2, 2, device="cuda"), torch.zeros(2, 2))


def test_two_devices_are_refused_in_a_backward_pass(cuda):
    here = torch.ones(3)

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * here

    with pytest.raises(RuntimeError, match="on the same device"):
        Wrong.apply(torch.ones(3, device="cuda", requires_grad=True)).sum().backward()


def test_what_only_the_host_has_is_refused(cuda):
    with pytest.raises(TypeError, match="to numpy"):
        torch.ones(2, device="cuda").numpy()
    with pytest.raises(RuntimeError, match="'cuda' device type for generator"):
        torch.rand(2, device="cuda", generator=torch.Generator())


@pytest.mark.parametrize(
    ("what", "ask"),
    [
        ("read", float),
        ("read", lambda x: x.item()),
        ("read", lambda x: bool(x > 0)),
        ("read", lambda x: x.tolist()),
        ("read", lambda x: torch.equal(x, x)),
        ("read", lambda x: x.reshape(1)[x.reshape(1) > 0]),
        ("read", lambda x: x.reshape(1).nonzero()),
        ("to host", lambda x: x.cpu()),
        ("to host", lambda x: x.to("cpu", torch.float64)),
        ("to host", lambda x: torch.zeros(()).copy_(x)),
        ("to device", lambda x: torch.zeros(3).to(x)),
        ("to device", lambda x: torch.zeros(3).cuda()),
        ("to device", lambda x: torch.tensor([1.0], device=x.device)),
        ("to device", lambda x: x.new_tensor([1.0])),
        ("to device", lambda x: torch.as_tensor([1.0], device="cuda")),
        (None, lambda x: x.to("cuda").to(x).double().to(x.device)),
        (None, lambda x: torch.zeros(3, device=x.device) + x),
        (None, lambda x: 2 * x + torch.ones(()) - torch.zeros_like(x)),
        (None, lambda x: copy.deepcopy(x).add_(x.detach()[None][:1].sum())),
        (None, lambda x: torch.empty(3, device="meta")),
    ],
)
def test_a_crossing_is_counted_with_its_place(cuda, what, ask):
    x = torch.ones((), device="cuda")
    assert not cuda.since()
    found = ask(x)
    place = {f"{what}: tests/gpu/test_pretended.py <lambda>": 1}
    counted = cuda.since()
    if ask is float:
        place = {"read: tests/gpu/test_pretended.py test_a_crossing_is_counted_with_its_place": 1}
    assert counted == (place if what else {})
    if isinstance(found, torch.Tensor) and not found.is_meta:
        assert found.is_cuda == (what != "to host")


def test_gradients_cross_where_values_did(cuda):
    x = torch.ones(3, requires_grad=True)
    y = x.to("cuda")
    assert y.is_cuda and not x.is_cuda
    (2 * y).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    assert [what.partition(":")[0] for what in cuda.since()] == ["to device", "to host"]


def test_modules_are_made_moved_and_copied_there(cuda):
    with torch.device("cuda"):
        made = nn.Linear(2, 2)
    moved = nn.BatchNorm1d(2).to("cuda")
    for module in (made, moved, copy.deepcopy(moved)):
        assert all(t.is_cuda for t in module.state_dict().values())
    with torch.device("meta"):
        assert nn.Linear(2, 2).weight.is_meta
    assert not nn.Linear(2, 2).weight.is_cuda
