"""Energy as an objective: measured on finalists together, refused without a meter."""

from time import perf_counter

import pytest
import torch
from torch import nn

from paretonas import search
from paretonas.cli import run as command
from paretonas.devices.energy import Rapl
from paretonas.gradient_search import Plan
from paretonas.objectives import Energy, MeasuredObjective, energy
from paretonas.objectives.base import ComparedObjective, is_noisy
from paretonas.training import Recipe


class Watts:
    """A meter of a machine that always draws so many watts."""

    def __init__(self, watts: float) -> None:
        self.watts = watts

    def millijoules(self) -> float:
        return 1e3 * self.watts * perf_counter()


class Alone(nn.Linear):
    """A network that ONNX cannot hold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(super().forward(x).reshape(1, 1, -1)[..., :1]).real


def on(watts: float, backend: str | None = "torch") -> Energy:
    return Energy(Watts(watts), torch.device("cpu"), backend=backend)


def test_it_is_measured_and_reported_under_its_own_name():
    objective, network, example = on(10.0), nn.Linear(4, 2), torch.zeros(1, 4)
    assert isinstance(objective, MeasuredObjective) and isinstance(objective, ComparedObjective)
    assert is_noisy(objective)
    found = objective.measure(network, example)
    assert list(found) == ["energy_mj", "energy_spread_mj", "energy_backend"]
    assert found["energy_mj"] > 0 and found["energy_backend"] == "torch"


def test_more_work_is_more_energy():
    small, large = nn.Linear(8, 8), nn.Linear(1024, 1024)
    blocks = [nn.Sequential(*[one for _ in range(8)]) for one in (small, large)]
    for network, size in zip(blocks, (8, 1024), strict=True):
        found = on(10.0).measure_all([network], torch.zeros(1, size), seconds=0.1)
        network.energy = found[0]["energy_mj"]
    assert blocks[1].energy > 2 * blocks[0].energy


def test_the_network_stays_as_it_is():
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    on(10.0).measure(network, torch.zeros(1, 4))
    assert network.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_network_that_onnx_cannot_hold_runs_in_torch_unless_onnx_was_asked_for(monkeypatch):
    pytest.importorskip("onnxruntime", reason="pip install 'paretonas[onnx]'")
    monkeypatch.setattr("paretonas.devices.backend.PREFERRED", "onnxruntime")
    example = torch.zeros(1, 4)
    assert on(1.0, None).measure(nn.Linear(4, 2), example)["energy_backend"] == "onnxruntime"
    assert on(1.0, None).measure(Alone(4, 2), example)["energy_backend"] == "torch"
    with pytest.raises(ValueError, match="ONNX cannot hold the network"):
        on(1.0, "onnxruntime").measure(Alone(4, 2), example)


def test_a_front_has_the_energy_of_its_points():
    plan = Plan(supernet_steps=20, proxy_evaluations=4, finalists=3, recipe=Recipe(1, 100, 0.03))
    *_, last = search("toy", objectives=["parameters", on(10.0)], budget=plan, rays=3, seed=0)
    assert "energy_mj" in last.front.objectives and len(last.front)
    for point in last.front:
        assert point.objectives["energy_mj"] > 0
        assert point.reported["energy_backend"] == "torch"


def test_a_machine_without_a_meter_is_refused_before_anything_is_trained(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(energy, "find_meter", lambda device: Rapl(tmp_path / "none"))
    assert command(["search", "--space", "toy", "--minimize", "parameters,energy"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("paretonas: no energy meter: there is no package in ")
    assert not [*tmp_path.iterdir()]
