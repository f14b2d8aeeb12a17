"""A few steps of each benchmark on generated files: does it run here, and how fast?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from benchmark import Benchmark, Sample, Split
from solver_by_name import make_solver
from training import Training

SMALL = (32, 64)


def smoke(
    benchmarks: Sequence[Benchmark],
    solvers: Sequence[str],
    device: torch.device,
    full_size: bool = False,
    *,
    amp: bool = False,
    root: Path | None = None,
) -> None:
    """Take a first step and a timed one (five at full size), test, and say what was measured.

    Args:
        benchmarks: to try.
        solvers: names.
        device: to run on.
        full_size: published image and batch sizes; otherwise 32 x 64 and two images a step.
        amp: mixed precision.
        root: of real data, for one benchmark; None generates files in a temporary folder.

    Raises:
        ValueError: the data below the root are not there.
    """
    for benchmark in benchmarks:
        used = benchmark if full_size else replace(benchmark, batch=2)
        with tempfile.TemporaryDirectory() as folder:
            place = root
            if place is None:
                place = Path(folder) / "data"
                counts = dict.fromkeys(used.counts, used.batch)
                used.generate(place, counts, used.size if full_size else SMALL)
            splits = used.open(place)
            for name in solvers:
                solver = make_solver(name, used.solver_settings.get(name, {}), 1)
                training = Training(used, used.tasks, solver, 0, device, amp=amp)
                print(f"{used.name}, {name}:", _tried(training, splits, 5 if full_size else 1))


def _tried(training: Training, splits: dict[str, Split], steps: int) -> str:
    device = training.device
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    images, answers = next(iter(training.batches(splits["train"], 0, draws=(0, 0))))
    training.network.train()
    training.step(images, answers)
    if on_gpu:
        torch.cuda.synchronize(device)
    start = time.monotonic()
    for _ in range(steps):
        losses = training.step(images, answers).tolist()  # which waits for the device
    seconds = (time.monotonic() - start) / steps
    memory = f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if on_gpu else ""
    metrics = training.look(_First(splits["test"], training.benchmark.batch), 0)
    (first, value), more = next(iter(metrics.items())), len(metrics) - 1
    parameters = sum(p.numel() for p in training.network.parameters())
    height, width = images.shape[-2:]
    return (
        f"{parameters:,} parameters, {len(images)} images of {height}x{width}, "
        f"{seconds:.3f} s a step{memory}; mean loss {sum(losses) / len(losses):.3f}; "
        f"test {first} {value:.3f} and {more} more"
    )


class _First:
    """The first images of a split."""

    def __init__(self, split: Split, count: int) -> None:
        self.split, self.count, self.size = split, min(count, len(split)), split.size

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int, draws: torch.Generator | None) -> Sample:
        return self.split.sample(index, draws)
