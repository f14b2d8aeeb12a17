"""Laws of meters and of measured energy, on simulated counters."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from paretonas.devices.energy import Nvml, Rapl, find_meter, measure_energy


class Bench:
    """A device whose counter is brought up to date in steps; calls take time and power.

    Args:
        step: seconds between two steps of the counter.
        idle: watts that the device always draws.
    """

    def __init__(self, step: float, idle: float = 0.0) -> None:
        self.step, self.idle = step, idle
        self.now, self.used = 0.0, 0.0
        self.shown, self.shown_at = 0.0, 0.0

    def clock(self) -> float:
        return self.now

    def spend(self, seconds: float, watts: float) -> None:
        """Let time pass; the counter moves at each multiple of the step."""
        while seconds > 0:
            until = (math.floor(self.now / self.step + 1e-9) + 1) * self.step
            part = min(seconds, until - self.now)
            self.now += part
            self.used += 1e3 * part * (watts + self.idle)
            if self.now >= until - 1e-12:
                self.shown = self.used
            seconds -= part

    def millijoules(self) -> float:
        return self.shown

    def load(self, seconds: float, watts: float):
        return lambda: lambda: self.spend(seconds, watts)


@pytest.mark.parametrize("step", [0.001, 0.02, 0.1])
def test_energy_is_power_times_time_whatever_the_steps_of_the_counter(step):
    bench = Bench(step, idle=5.0)
    calls = [(2e-4, 10.0), (2e-4, 40.0), (3e-3, 10.0), (0.03, 10.0)]
    found = measure_energy(
        [bench.load(*call) for call in calls], bench, seconds=3.0, clock=bench.clock
    )
    for (seconds, watts), one in zip(calls, found, strict=True):
        assert one.millijoules == pytest.approx(1e3 * seconds * (watts + 5.0), rel=0.08)
        assert one.spread < 0.3 * one.millijoules
        assert one.calls * seconds >= 3 * 3 * step


def test_a_second_measurement_is_within_the_spread():
    rng, inside = np.random.default_rng(0), []
    for _ in range(60):
        bench, other_work = Bench(0.001), rng.normal(size=1000)

        def call(bench=bench, other_work=other_work):
            bench.spend(1e-3, 20.0 * math.exp(0.1 * other_work[int(bench.now / 0.05)]))

        one, other = (
            measure_energy([lambda: call], bench, seconds=0.4, clock=bench.clock)[0]
            for _ in range(2)
        )
        inside.append(abs(one.millijoules - other.millijoules) <= one.spread)
    assert 0.8 <= np.mean(inside) <= 0.98


def test_calls_take_turns():
    bench, order = Bench(0.001), []

    def load(name):
        def call():
            order.append(name)
            bench.spend(1e-3, 10.0)

        return lambda: call

    measure_energy([load("a"), load("b")], bench, seconds=0.5, clock=bench.clock)
    changes = sum(one != other for one, other in pairwise(order))
    assert changes >= 3


@pytest.mark.parametrize("step", [-1.0, math.nan])
def test_a_counter_that_does_not_count_upward_is_refused(step):
    class Falling(Bench):
        def millijoules(self):
            return step * self.clock()

    bench = Falling(1.0)
    with pytest.raises(ValueError, match="must count upward, got (-|nan)"):
        measure_energy([bench.load(1e-3, 1.0)], bench, seconds=0.1, clock=bench.clock)


def test_a_counter_that_does_not_move_is_refused():
    bench = Bench(math.inf)
    with pytest.raises(ValueError, match="did not move for 2 seconds"):
        measure_energy([bench.load(1e-3, 1.0)], bench, seconds=0.1, clock=bench.clock)


def domain(folder: Path, name: str, kind: str, energy: int, whole: int = 1000) -> Path:
    place = folder / name
    place.mkdir(parents=True)
    (place / "name").write_text(f"{kind}\n")
    (place / "energy_uj").write_text(f"{energy}\n")
    (place / "max_energy_range_uj").write_text(f"{whole}\n")
    return place / "energy_uj"


def test_packages_are_added_and_their_counters_begin_again(tmp_path):
    first = domain(tmp_path, "intel-rapl:0", "package-0", 900)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 10)
    for name, kind in (("intel-rapl:0:0", "core"), ("intel-rapl:2", "psys")):
        part = domain(tmp_path, name, kind, 0)
        part.write_text("777\n")  # what is part of a package, or the whole machine
    domain(tmp_path, "intel-rapl-mmio:0", "package-0", 5)  # the same counter in another place
    meter = Rapl(tmp_path)
    assert meter.millijoules() == 0
    first.write_text("950\n")
    second.write_text("30\n")
    assert meter.millijoules() == pytest.approx(0.07)
    first.write_text("20\n")  # after 1000
    assert meter.millijoules() == pytest.approx(0.07 + 0.07)
    assert meter.millijoules() == pytest.approx(0.14)


def test_no_meter_says_where_there_is_one(tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(ValueError, match=r"no energy meter: .*intel-rapl.*--device cuda"):
            Rapl(folder)
    domain(tmp_path, "intel-rapl:0", "psys", 0)
    with pytest.raises(ValueError, match="no energy meter"):
        Rapl(tmp_path)


def test_a_counter_without_permission_names_the_file_and_the_remedy(tmp_path, monkeypatch):
    file, plain = domain(tmp_path, "intel-rapl:0", "package-0", 0), Path.read_text

    def guarded(path, *args, **kwargs):
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", guarded)  # the tests may run as root
    with pytest.raises(ValueError, match=f"no permission .*{file}; .*sudo chmod a[+]r {file}$"):
        Rapl(tmp_path)


def test_a_counter_that_is_no_number_is_refused(tmp_path):
    file = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    file.write_text("nan\n")
    with pytest.raises(ValueError, match=f"{file} must hold a number, got 'nan'"):
        Rapl(tmp_path)


class FakeNvml:
    """What `pynvml` offers, of one GPU."""

    class NVMLError(Exception):
        pass

    def __init__(self, energy: int | None) -> None:
        self.energy = energy

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid != "GPU-1":
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        assert handle == "GPU-1"
        if self.energy is None:
            raise self.NVMLError("Not Supported")
        return self.energy


def test_nvml_counts_the_energy_of_one_gpu():
    nvml = FakeNvml(5000)
    meter = Nvml("GPU-1", nvml)
    assert meter.millijoules() == 5000
    nvml.energy = 5600
    assert meter.millijoules() == 5600


@pytest.mark.parametrize(("uuid", "energy"), [("GPU-2", 1), ("GPU-1", None)])
def test_a_gpu_without_a_counter_is_refused(uuid, energy):
    with pytest.raises(ValueError, match=f"NVML tells no energy of {uuid} [(]Not "):
        Nvml(uuid, FakeNvml(energy))


@pytest.mark.gpu
def test_a_gpu_uses_more_for_more_work():
    pytest.importorskip("pynvml")
    device = torch.device("cuda")
    meter = find_meter(device)
    matrix = torch.randn(2048, 2048, device=device)

    def load(times):
        return lambda: lambda: [matrix @ matrix for _ in range(times)]

    one, four = measure_energy([load(1), load(4)], meter, device=device, seconds=4.0)
    assert four.millijoules > 2 * one.millijoules > 0
