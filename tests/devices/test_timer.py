"""Laws of timing: order, what counts, what a busy machine changes, and everything put back."""

import json
import math
from collections import Counter
from itertools import pairwise
from time import sleep, time

import numpy as np
import pytest
import torch
from torch import nn

from paretonas.devices import clock as clocks
from paretonas.devices import device_name, find_device, measure_latency, timer
from paretonas.devices.reference import Reference
from paretonas.devices.timer import measure_together


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Machine:
    """A simulated machine: calls take the time that they are said to, times what it is busy with.

    Args:
        busy: how many times longer everything takes, by the time that is gone.
    """

    def __init__(self, monkeypatch, busy=lambda now: 1.0, noise=0.0, seed=0, process=0.0):
        self.now, self.cpu, self.busy = 0.0, 0.0, busy
        self.rng, self.noise = np.random.default_rng(seed), noise
        self.calls: list[str] = []
        self.process = process
        monkeypatch.setattr(clocks, "perf_counter", lambda: self.now)
        monkeypatch.setattr(clocks, "thread_time", lambda: self.cpu)
        monkeypatch.setattr(timer, "perf_counter", lambda: self.now)
        monkeypatch.setattr(Reference, "_run", lambda _: self.run(7e-5))

    def run(self, seconds, stopped=0.0):
        seconds *= self.busy(self.now) * math.exp(self.noise * self.rng.normal())
        self.now += seconds + stopped
        self.cpu += seconds

    def load(self, name, seconds, place=0.0):
        """A call; `place` is what each fresh copy changes, as a share."""

        seconds *= math.exp(self.process * self.rng.normal())

        def load():
            own = seconds * math.exp(place * self.rng.normal())

            def call():
                self.calls.append(name)
                self.run(own)

            return call

        return load


SEEN: set[tuple[object, ...]] = set()  # by copies, too


class Watched(nn.Module):
    """Writes down how it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        SEEN.add(
            (self.training, torch.is_inference_mode_enabled(), torch.get_num_threads(), x.shape[0])
        )
        return self.layer(x)


def test_a_network_is_timed_in_evaluation_and_inference_mode_on_its_threads():
    network, threads = Watched().train(), torch.get_num_threads()
    measured = measure_latency(network, torch.zeros(3, 4), threads=2, seconds=0.01)
    assert {(False, True, 2, 3)} == SEEN
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
    loads = [lambda: lambda: small @ small, lambda: lambda: large @ large]
    one, other = measure_together(loads, seconds=0.1)
    assert one.median_ms < other.median_ms


def test_calls_take_turns_in_random_order(monkeypatch):
    machine = Machine(monkeypatch)
    told: list[float] = []
    loads = [machine.load("a", 0.01), machine.load("b", 0.02), machine.load("c", 0.04)]
    measured = measure_together(loads, seconds=10.0, progress=told.append)
    assert [one.median_ms for one in measured] == pytest.approx([10, 20, 40])
    assert len({one.rounds for one in measured}) == 1
    assert all(count == measured[0].rounds + 3 * 5 for count in Counter(machine.calls).values())
    follows = Counter(pairwise(machine.calls))
    assert all(follows[tuple(pair)] > 5 for pair in ["ab", "ba", "ac", "ca", "bc", "cb"])
    assert told[-1] == 1.0
    assert told == sorted(told)


def test_what_ran_beside_other_work_does_not_count(monkeypatch):
    quiet = Machine(monkeypatch, noise=0.01)
    expected = measure_together([quiet.load("a", 1e-3)], seconds=1.0)[0]
    # Half of the time all takes twice as long, by the tenth of a second.
    busy = Machine(monkeypatch, busy=lambda now: 1.0 + (int(10 * now) % 2), noise=0.01)
    found = measure_together([busy.load("a", 1e-3)], seconds=1.0)[0]
    assert found.median_ms == pytest.approx(expected.median_ms, rel=0.01)
    assert found.busy == pytest.approx(1 / 3, abs=0.1)  # of calls
    assert expected.busy < 0.05


def test_a_stopped_thread_does_not_count(monkeypatch):
    machine, count = Machine(monkeypatch), iter(range(10**9))

    def load():
        return lambda: machine.run(0.01, stopped=0.04 if next(count) % 3 == 0 else 0.0)

    (found,) = measure_together([load], seconds=10.0)
    assert found.median_ms == pytest.approx(10.0)
    assert found.busy == pytest.approx(1 / 3, abs=0.05)


def test_a_machine_that_is_always_busy_is_known_from_before(monkeypatch):
    quiet = Machine(monkeypatch)
    measure_together([quiet.load("a", 1e-3)], seconds=0.5)
    busy = Machine(monkeypatch, busy=lambda now: 1.6)
    (found,) = measure_together([busy.load("a", 1e-3)], seconds=0.5)
    assert found.busy == 1.0
    assert abs(found.median_ms - 1.0) <= found.spread_ms
    assert found.spread_ms >= 0.15


def test_what_waits_for_something_else_is_as_slow_as_it_is():
    (found,) = measure_together([lambda: lambda: sleep(0.004)], seconds=0.1)
    assert found.median_ms >= 4.0
    assert found.busy == 1.0


def test_a_damaged_cache_is_no_cache(monkeypatch, tmp_path):
    file = tmp_path / "cache" / "paretonas" / "reference.json"
    file.parent.mkdir(parents=True)
    for text in ("", "[1]", '{"a": "b"}', '{"a": {"seconds": 1e-9, "at": NaN}}', "nan"):
        file.write_text(text)
        machine = Machine(monkeypatch)
        (found,) = measure_together([machine.load("a", 1e-3)], seconds=0.5)
        assert found.median_ms == pytest.approx(1.0)
        (told,) = json.loads(file.read_text()).values()
        assert told["seconds"] == pytest.approx(7e-5)


def test_the_best_time_of_the_reference_is_forgotten_after_a_day(monkeypatch):
    measure_together([Machine(monkeypatch).load("a", 1e-3)], seconds=0.5)
    later = time() + 25 * 3600
    monkeypatch.setattr("paretonas.devices.reference.time.time", lambda: later)
    slower = Machine(monkeypatch, busy=lambda now: 1.6)  # another machine now
    (found,) = measure_together([slower.load("a", 1e-3)], seconds=0.5)
    assert found.median_ms == pytest.approx(1.6)
    assert found.busy < 0.05


def test_the_spread_covers_what_a_second_measurement_finds(monkeypatch):
    covered = []
    for seed in range(60):
        machine = Machine(monkeypatch, noise=0.03, seed=seed, process=0.005)
        one, other = (
            measure_together(
                [machine.load(str(i), 1e-3, place=0.02) for i in range(4)], seconds=0.2
            )
            for _ in range(2)
        )
        covered += [
            abs(a.median_ms - b.median_ms) <= a.spread_ms for a, b in zip(one, other, strict=True)
        ]
    assert 0.85 <= np.mean(covered) <= 0.97


def test_blocks_are_added_until_the_spread_is_small(monkeypatch):
    machine = Machine(monkeypatch, noise=0.001)
    first = measure_together([machine.load("a", 1e-3, place=0.05)], seconds=1.0)[0]
    begun = machine.now
    second = measure_together([machine.load("a", 1e-3, place=0.001)], seconds=1.0)[0]
    assert machine.now - begun < 0.7 * begun  # done early
    assert second.spread_ms < 0.02 < first.spread_ms


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="threads must be positive, got 0"):
        measure_latency(nn.ReLU(), torch.zeros(1), threads=0)


def test_devices_by_name():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_name(torch.device("cpu"))
    assert find_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(ValueError, match="must be auto, cpu or cuda, got 'tpu'"):
        find_device("tpu")
    with pytest.raises(ValueError, match="got 'cuda:1'; CUDA_VISIBLE_DEVICES chooses another GPU"):
        find_device("cuda:1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_cuda_device_is_refused():
    with pytest.raises(ValueError, match="the device is cuda, but torch finds no CUDA device"):
        find_device("cuda")


@pytest.mark.gpu
def test_a_network_is_timed_on_cuda_and_brought_home():
    network = nn.Linear(64, 64)
    measured = measure_latency(network, torch.zeros(1, 64), device="cuda", seconds=0.1)
    assert measured.median_ms > 0
    assert network.weight.device.type == "cpu"
    assert device_name(torch.device("cuda")) == torch.cuda.get_device_name()


def test_a_short_call_takes_alone_what_it_takes_among_others(monkeypatch):
    """After something else a call finds other things in the caches, and takes longer."""
    machine, last = Machine(monkeypatch), [None]

    def reference(_):
        machine.run(7e-5)
        last[0] = None

    def load(seconds):
        def call():
            machine.run(seconds if last[0] is call else seconds + 4e-6)
            last[0] = call

        return lambda: call

    monkeypatch.setattr(Reference, "_run", reference)
    short, long = 1e-5, 1e-3
    for calls in ([short], [short] * 2, [short] * 8, [short, long], [long, short, long, long]):
        found = measure_together([load(seconds) for seconds in calls], seconds=0.05)
        assert [one.median_ms for one in found] == pytest.approx([1e3 * s for s in calls], rel=0.01)
