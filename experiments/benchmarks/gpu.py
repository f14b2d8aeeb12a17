"""A search on a GPU: how well its latency tables predict, and what its steps and evaluations take.

The networks are a ResNet-18 for images of 64 x 64 (He et al. 2016, arXiv 1512.03385), converted:
the widths and the depths of its stages are choices. The examples are noise, since only time counts.
At the end there is a whole search on the default space.

    .venv/bin/python experiments/benchmarks/gpu.py                        # within ten minutes
    .venv/bin/python experiments/benchmarks/gpu.py --device cpu --quick   # only that it runs

The csv has a row for each number, with the device and the versions.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from paretonas import NetworkSpace, Recipe
from paretonas.devices import device_name, find_backend, find_device
from paretonas.devices.timer import measure_together
from paretonas.finalists import train_finalists
from paretonas.gradient_search.weights import WeightTraining, inherited_scores
from paretonas.nn import Converted, Supernet
from paretonas.objectives import Memory, profile
from paretonas.runs import version_of
from paretonas.solvers import SmoothTchebycheff
from paretonas.space import Architecture, draw
from paretonas.surrogates.alpha import Scale, optimize_alpha, rays, with_preference
from paretonas.surrogates.quality_model import QualityModel
from paretonas.tasks import Classification
from paretonas.tasks.passes import one_pass
from paretonas.tasks.task import metrics_of, on_device
from paretonas.training import Updates

HERE = Path(__file__).parent
Row = tuple[str, str, float, str]  # what, how, the number, its unit


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        device: where.
        stages: the channels of each stage of the network.
        examples: of the training split.
        held_out: architectures that a table is compared with.
        group: how many of them are timed together.
        seconds: for a group.
        steps: of which the mean is taken.
        budget: of the search at the end.
        space: of the search at the end.
    """

    device: torch.device
    stages: tuple[int, ...] = (64, 128, 256, 512)
    examples: int = 2560
    held_out: int = 40
    group: int = 8
    seconds: float = 3.0
    steps: int = 40
    budget: str = "60s"
    space: str = "digits"

    @property
    def backends(self) -> tuple[str, ...]:
        """That run networks."""
        return ("torch", "cuda-graphs") if self.device.type == "cuda" else ("torch",)

    def quick(self) -> Settings:
        """Only that it runs."""
        return replace(
            self, stages=(8, 8), examples=24, held_out=4, group=2, seconds=0.05, steps=2,
            budget="60steps", space="toy",
        )  # fmt: skip


class Basic(nn.Module):
    """Two convolutions of 3 x 3, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if inputs != outputs or stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x) + self.shortcut(x)
        return y.relu()


def resnet(stages: Sequence[int]) -> nn.Module:
    """Two blocks a stage; each stage after the first halves the image."""
    torch.manual_seed(0)
    first = stages[0]
    layers: list[nn.Module] = [
        nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
    ]  # fmt: skip
    before = first
    for number, width in enumerate(stages):
        stride = 2 if number else 1
        layers.append(nn.Sequential(Basic(before, width, stride), Basic(width, width, 1)))
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


@dataclass(frozen=True)
class Bench:
    """What the measurements share."""

    settings: Settings

    @cached_property
    def space(self) -> NetworkSpace:
        """The converted network, on noise."""
        generator, count = torch.Generator().manual_seed(0), self.settings.examples
        images = torch.randn(2 * count, 3, 64, 64, generator=generator)
        labels = torch.arange(2 * count) % 10
        parts = [slice(count), slice(count, count + count // 2), slice(count + count // 2, None)]
        task = Classification(*[(images[part], labels[part]) for part in parts])
        network = Converted(lambda: resnet(self.settings.stages), task, depth=True)
        return NetworkSpace("resnet", network, task, Recipe(epochs=1, batch_size=128))

    @cached_property
    def task(self) -> Classification:
        """On the device."""
        found: Any = on_device(self.space.load_task(), self.settings.device)
        return found.sized(128)

    @cached_property
    def supernet(self) -> Supernet:
        """On the device."""
        return self.space.supernet().to(self.settings.device)

    def drawn(self, count: int) -> list[Architecture]:
        """Different random architectures, as many as there are."""
        supernet, rng = self.space.supernet(), Random(1)
        many = (supernet.canonical(draw(supernet.choices, rng)) for _ in range(100 * count))
        return list(dict.fromkeys(many))[:count]

    def seconds(self, run: Callable[[], object]) -> float:
        """Of a call, until the device has done its work."""
        self._wait()
        begun = time.perf_counter()
        run()
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self.settings.device.type == "cuda":
            torch.cuda.synchronize(self.settings.device)


def tables(bench: Bench) -> Iterator[Row]:
    """Latency tables against whole networks that they have not seen."""
    settings, space = bench.settings, bench.space
    supernet, example = space.supernet(), space.load_task().example()
    architectures = bench.drawn(settings.held_out)
    for backend in settings.backends:
        runner, begun = find_backend(backend, settings.device), time.perf_counter()
        table = profile(supernet, example, device=settings.device, backend=backend, cache=False)
        yield "latency table", backend, time.perf_counter() - begun, "s"
        measured: list[float] = []
        for first in range(0, len(architectures), settings.group):
            group = architectures[first : first + settings.group]
            loads = [runner.loading(supernet.extract(a), example) for a in group]
            times = measure_together(loads, device=settings.device, seconds=settings.seconds)
            measured += [one.median_ms for one in times]
        predicted = np.array([table.total_at(a) for a in architectures])
        apart = np.abs(predicted / np.array(measured) - 1)
        yield "fastest network", backend, min(measured), "ms"
        yield "slowest network", backend, max(measured), "ms"
        yield "networks within 5 %", backend, 100 * float(np.mean(apart <= 0.05)), "percent"
        yield "networks within 10 %", backend, 100 * float(np.mean(apart <= 0.10)), "percent"
        yield "Kendall's tau", backend, float(kendalltau(predicted, measured).statistic), ""


def steps(bench: Bench) -> Iterator[Row]:
    """A step of the supernet's weights and of alpha, and one of the plain network."""
    space, task, count = bench.space, bench.task, bench.settings.steps
    largest = bench.supernet.extreme(largest=True)
    plain = bench.supernet.extract(largest)
    batches = list(islice(one_pass(task, "train", seed=0, epoch=0), 8))
    updates = Updates(plain, task, space.recipe, 2 * count)
    rounds = cycle(batches)
    yield from _mean(
        bench, "training step", "the largest network", lambda: updates.step(next(rounds))
    )
    training = WeightTraining(bench.supernet, task, space.recipe, steps=2 * count, seed=0)
    losses = training.run()
    yield from _mean(bench, "training step", "path of the supernet", lambda: next(losses))
    choices, example = bench.supernet.choices, space.load_task().example()
    cost = Memory.of(space.supernet(), example)
    knowledge = QualityModel(choices, [cost], metrics_of(task))
    rng = Random(0)
    for architecture in bench.drawn(40):
        knowledge.inherited[architecture] = (1.0 + rng.random(),)
    yield (
        "fit of the surrogate",
        f"{len(knowledge.inherited)} scores",
        bench.seconds(knowledge.fit),
        "s",
    )
    scale = Scale.over(knowledge.coordinates())
    sizes = [len(choice.options) for choice in choices]
    solver = with_preference(SmoothTchebycheff(), rays(2, 28))
    surrogate = knowledge.surrogates[0]

    def relaxed(p: Tensor) -> Tensor:
        return scale(torch.stack([surrogate.relaxed(p), cost.relaxed(p).log()], dim=1))

    course = optimize_alpha(torch.zeros(28, sum(sizes)), sizes, relaxed, solver, steps=2 * count)
    yield from _mean(bench, "alpha step", "28 rays, on the host", lambda: next(course))


def _mean(bench: Bench, what: str, how: str, step: Callable[[], object]) -> Iterator[Row]:
    """Milliseconds of a step, after as many that do not count."""
    count = bench.settings.steps
    for _ in range(count):
        step()
    spent = bench.seconds(lambda: [step() for _ in range(count)])
    yield what, how, 1e3 * spent / count, "ms"


def evaluations(bench: Bench) -> Iterator[Row]:
    """A proxy evaluation, and a finalist with an epoch of training."""
    architecture, *others = bench.drawn(5)
    inherited_scores(bench.supernet, bench.task, architecture)
    spent = bench.seconds(lambda: [inherited_scores(bench.supernet, bench.task, a) for a in others])
    yield "evaluation", "inherited weights", spent / len(others), "s"
    spent = bench.seconds(
        lambda: train_finalists(
            bench.supernet, bench.task, bench.space.recipe, others[:2], seed=0, workers=1
        )
    )
    epoch = f"{bench.settings.examples} examples"
    yield "evaluation", f"an epoch of {epoch}", spent / len(others[:2]), "s"


def whole_search(bench: Bench) -> Iterator[Row]:
    """`paretonas search`; its last lines are printed."""
    settings = bench.settings
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-c", "from paretonas.cli import main; main()", "search"]
        command += [
            "--space",
            settings.space,
            "--device",
            settings.device.type,
            "--budget",
            settings.budget,
        ]
        begun = time.perf_counter()
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
        spent = time.perf_counter() - begun
        if done.returncode:
            raise RuntimeError(f"the search ended with {done.returncode}: {done.stderr.strip()}")
        print(*done.stdout.strip().splitlines()[-3:], sep="\n", flush=True)
        front = pd.read_csv(out / "front.csv")
    how = f"--space {settings.space} --budget {settings.budget}"
    yield "search", how, spent, "s"
    yield "points of the front", how, len(front), ""
    yield "least error", how, float(front["error_percent"].min()), "percent"


PARTS = (tables, steps, evaluations, whole_search)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the rows down as they come, and show them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="auto, cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="only that it runs")
    parser.add_argument("--out", type=Path, default=HERE / "gpu.csv", help="the csv")
    options = parser.parse_args(arguments)
    try:
        settings = Settings(find_device(options.device))
    except ValueError as error:
        parser.error(str(error))
    bench = Bench(settings.quick() if options.quick else settings)
    about = {
        "device": device_name(settings.device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "paretonas": version_of("paretonas"),
        "quick": options.quick,
    }
    rows: list[dict[str, Any]] = []
    for part in PARTS:
        for what, how, value, unit in part(bench):
            print(f"{what}, {how}: {value:.4g} {unit}", flush=True)
            rows.append({"what": what, "how": how, "value": value, "unit": unit, **about})
            pd.DataFrame(rows).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
