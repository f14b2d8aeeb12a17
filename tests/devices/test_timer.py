"""Laws of timing: order, repeatability of the set-up, and everything put back."""

import pytest
import torch
from torch import nn

from paretonas.devices import Measurement, device_name, find_device, measure_latency
from paretonas.devices.timer import measure_in_turn, summary


class Watched(nn.Module):
    """Writes down how it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.seen: set[tuple[object, ...]] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add(
            (self.training, torch.is_inference_mode_enabled(), torch.get_num_threads(), x.shape[0])
        )
        return self.layer(x)


def test_a_network_is_timed_in_evaluation_and_inference_mode_on_its_threads():
    network, threads = Watched().train(), torch.get_num_threads()
    measured = measure_latency(network, torch.zeros(3, 4), threads=2, blocks=5)
    assert network.seen == {(False, True, 2, 3)}
    assert measured.blocks == 5
    assert measured.median_ms > 0
    assert measured.spread_ms >= 0
    assert network.training
    assert network.layer.training
    assert torch.get_num_threads() == threads
    assert not torch.is_inference_mode_enabled()


def test_everything_is_put_back_when_the_network_fails():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken")

    network, threads = Broken(), torch.get_num_threads()
    with pytest.raises(RuntimeError, match="broken"):
        measure_latency(network, torch.zeros(1), threads=threads + 1)
    assert network.training
    assert torch.get_num_threads() == threads


def test_more_work_takes_longer():
    small, large = torch.randn(8, 8), torch.randn(300, 300)
    one, other = measure_in_turn([lambda: small @ small, lambda: large @ large], seconds=0.1)
    assert one.median_ms < other.median_ms
    assert one.blocks == other.blocks >= 15


def test_calls_take_turns_and_progress_is_told():
    order: list[str] = []
    told: list[tuple[int, int]] = []
    measured = measure_in_turn(
        [lambda: order.append("a"), lambda: order.append("b")],
        seconds=0,
        least=20,
        progress=lambda *step: told.append(step),
    )
    assert [m.blocks for m in measured] == [20, 20]
    rounds = [tuple(order[i : i + 2]) for i in range(len(order) - 40, len(order), 2)]
    assert set(rounds) == {("a", "b"), ("b", "a")}
    assert told[-1] == (20, 20)


def test_a_summary_by_hand():
    assert summary([0.001, 0.002, 0.003, 0.004, 0.100]) == Measurement(3.0, 2.0, 5)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="threads must be positive, got 0"):
        measure_latency(nn.ReLU(), torch.zeros(1), threads=0)
    with pytest.raises(ValueError, match="blocks must be positive, got 0"):
        measure_latency(nn.ReLU(), torch.zeros(1), blocks=0)


def test_devices_by_name():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_name(torch.device("cpu"))
    with pytest.raises(ValueError, match="must be auto, cpu or cuda, got 'tpu'"):
        find_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_cuda_device_is_refused():
    with pytest.raises(ValueError, match="the device is cuda, but torch finds no CUDA device"):
        find_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_network_is_timed_on_cuda_and_brought_home():
    network = nn.Linear(64, 64)
    measured = measure_latency(network, torch.zeros(1, 64), device="cuda", blocks=5)
    assert measured.median_ms > 0
    assert network.weight.device.type == "cpu"
    assert device_name(torch.device("cuda")) == torch.cuda.get_device_name()
