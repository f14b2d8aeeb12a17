"""The energy of calls that compete, from the meter of a processor or of a GPU.

A meter counts the energy of the whole processor or GPU, whoever uses it, and what it draws when it
has nothing to do. Its counter moves in steps: on a CPU about every millisecond, on a GPU about
every 20 to 100. So calls are repeated, and what counts are the calls and the energy between two
steps of the counter. The calls that compete take turns, in another random order in each round.

References:
    RAPL, the counters of the CPU: Khan et al. 2018, "RAPL in action". What the counters of GPUs
    leave out: Yang et al. 2023, arXiv 2312.02741.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch

from .timer import Call, Load, how_far, measuring

POWERCAP = Path("/sys/class/powercap")
GROUP_SECONDS = 5e-3  # of calls between two looks at the counter
STEPS = 4  # of the counter, in each turn of a call
FEWEST = 3  # rounds
MOST = 30
STILL_SECONDS = 2.0  # a counter that does not move for so long counts nothing


class Meter(Protocol):
    """Counts the energy of a device."""

    def millijoules(self) -> float:
        """The energy since some time in the past; it never falls."""
        ...


class Rapl:
    """The counters of the CPU's packages, which Linux shows: of Intel, and of AMD since Zen.

    A package is a processor with its caches; its memory modules are not counted.

    Args:
        folder: where Linux shows them.

    Raises:
        ValueError: there are none, or they cannot be read; the message says what to do.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._files = [domain / "energy_uj" for domain in _packages(folder)]
        if not self._files:
            raise ValueError(
                f"no energy meter: there is no package in {folder}/intel-rapl:*; Linux shows one "
                "on an Intel or AMD processor that is no virtual machine; measure energy there, "
                "or on a GPU with --device cuda"
            )
        self._ranges = [_number(file.with_name("max_energy_range_uj")) for file in self._files]
        self._last = [_number(file) for file in self._files]
        self._total = 0

    def millijoules(self) -> float:
        """The energy of all packages. A counter that is full begins again at 0."""
        now = [_number(file) for file in self._files]
        for before, after, whole in zip(self._last, now, self._ranges, strict=True):
            self._total += after - before if after >= before else after - before + whole
        self._last = now
        return self._total / 1e3


class Nvml:
    """The counter of an NVIDIA GPU, since Volta.

    Args:
        uuid: names the GPU, as ``nvidia-smi -L`` does.
        nvml: the module ``pynvml``.

    Raises:
        ModuleNotFoundError: the package is missing; the message has the pip line.
        ValueError: the GPU has no such counter.
    """

    def __init__(self, uuid: str, nvml: Any = None) -> None:
        self._nvml = nvml or _pynvml()
        try:
            self._nvml.nvmlInit()
            self._handle = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
            self.millijoules()
        except self._nvml.NVMLError as error:
            raise ValueError(
                f"no energy meter: NVML tells no energy of {uuid} ({error}); NVIDIA GPUs have one "
                "since Volta, if they are not divided"
            ) from error

    def millijoules(self) -> float:
        """The energy since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))


def find_meter(device: torch.device) -> Meter:
    """The meter of a device.

    Raises:
        ValueError: there is none that can be read; the message says what to do.
        ModuleNotFoundError: the package that reads it is missing.
    """
    if device.type == "cuda":
        return Nvml(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    return Rapl()


@dataclass(frozen=True)
class MeasuredEnergy:
    """The energy of one call, and how far a second measurement may be from it.

    Attributes:
        millijoules: of one call, the mean over rounds: what the meter has counted while the call
            was repeated.
        spread: a second measurement is within ``millijoules`` plus or minus this, in about 9 of 10
            cases, if the machine has the same other work.
        calls: the number of calls that count.
    """

    millijoules: float
    spread: float
    calls: int


def measure_energy(
    loads: Sequence[Load],
    meter: Meter,
    *,
    device: torch.device | str = "cpu",
    threads: int = 1,
    seconds: float = 2.0,
    clock: Callable[[], float] = perf_counter,
) -> list[MeasuredEnergy]:
    """The energy of several calls, which take turns.

    Args:
        loads: each gives a call.
        meter: of the device.
        device: the device of the calls.
        threads: the number of torch's CPU threads.
        seconds: how long about. There are at least 3 rounds, and each call waits for 4 steps of the
            counter in each.
        clock: tells the seconds.

    Raises:
        ValueError: `threads` is not positive, or the counter of the meter does not move, or falls.
    """
    place = torch.device(device)
    with measuring(threads):
        turns = [_Turn(load(), meter, place, clock) for load in loads]
        begun, rounds = clock(), 0
        while rounds < FEWEST or (
            rounds < MOST and (clock() - begun) * (1 + 1 / rounds) <= seconds
        ):
            least = seconds / (FEWEST * max(1, len(turns)))
            for turn in Random(rounds).sample(turns, len(turns)):
                turn.take(least)
            rounds += 1
    return [turn.energy() for turn in turns]


class _Turn:
    """A call that is repeated, and what each of its turns has used.

    Args:
        call: what is measured.
        meter: counts.
        device: of the call.
        clock: tells the seconds.
    """

    def __init__(
        self, call: Call, meter: Meter, device: torch.device, clock: Callable[[], float]
    ) -> None:
        self._call, self._meter, self._device, self._clock = call, meter, device, clock
        self.found: list[float] = []
        self.calls = 0
        self._repeat(3)
        before = clock()
        self._repeat(1)
        self._group = max(1, math.ceil(GROUP_SECONDS / max(clock() - before, 1e-7)))

    def take(self, seconds: float) -> None:
        """Repeat the call for so long, and until the counter has made some steps."""
        begun = moved = self._clock()
        last, calls = self._meter.millijoules(), 0
        steps: list[tuple[int, float]] = []  # the calls until a step of the counter, and its state
        while len(steps) <= STEPS or self._clock() - begun < seconds:
            self._repeat(self._group)
            calls += self._group
            now = self._meter.millijoules()
            if not now >= last:
                raise ValueError(f"an energy meter must count upward, got {now} mJ after {last} mJ")
            if now > last:
                steps.append((calls, now))
                last, moved = now, self._clock()
            elif self._clock() - moved > STILL_SECONDS:
                raise ValueError(
                    f"the counter of the energy meter did not move for {STILL_SECONDS:.0f} seconds "
                    "of work: it counts nothing, as in some virtual machines"
                )
        (first, low), (end, high) = steps[0], steps[-1]
        self.found.append((high - low) / (end - first))
        self.calls += end - first

    def energy(self) -> MeasuredEnergy:
        """What the turns say."""
        return MeasuredEnergy(float(np.mean(self.found)), how_far(self.found), self.calls)

    def _repeat(self, count: int) -> None:
        for _ in range(count):
            self._call()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _packages(folder: Path) -> list[Path]:
    """The domains of whole packages; others are parts of them, or the whole machine."""
    domains = sorted(folder.glob("intel-rapl:*"))
    return [d for d in domains if _text(d / "name").startswith("package")]


def _number(file: Path) -> int:
    text = _text(file)
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{file} must hold a number, got {text!r:.40}") from error


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except PermissionError as error:
        raise ValueError(
            f"no permission to read the energy meter {file}; run as root, or once: "
            f"sudo chmod a+r {file}"
        ) from error
    except OSError as error:
        raise ValueError(f"cannot read the energy meter {file}: {error.strerror}") from error


def _pynvml() -> Any:
    if find_spec("pynvml") is None:
        raise ModuleNotFoundError(
            "the energy of a GPU needs nvidia-ml-py: pip install 'paretonas[energy]'",
            name="pynvml",
        )
    return import_module("pynvml")
