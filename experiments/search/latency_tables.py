"""What latency tables promise, and what the device confirms.

    python experiments/search/latency_tables.py
    python experiments/search/latency_tables.py --pairs
    python experiments/search/latency_tables.py --show

For each space and backend a table is made, as `paretonas profile` makes it. Then 100 random
architectures that it has not seen are extracted and timed, twice, in groups. Kendall's tau and the
share within 10 % compare the table with the mean of both; the floor compares the two measurements
with each other. The coverage is the share within the interval that the table tells.

`--pairs` times 30 architectures in two processes, one after the other, and says how often the
median of the second is within the spread that the first one tells.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau
from small_networks import NETWORKS
from torch import nn

from paretonas import NetworkSpace
from paretonas.devices import find_backend
from paretonas.devices.timer import measure_together
from paretonas.names import find_space
from paretonas.nn import Converted, Supernet
from paretonas.objectives import profile
from paretonas.space import Architecture, draw

HERE = Path(__file__).parent
CONVERTED = "converted ResNet"
BACKENDS = ("onnxruntime", "torch")


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        spaces: by name; one is the converted network of `small_networks.py`.
        backends: that run the networks.
        held_out: architectures that the table is compared with.
        pairs: architectures that two processes time.
        group: architectures that are timed together.
        seconds: for a group.
        tables: the file of the tables.
        csv: the file of the pairs.
    """

    spaces: Sequence[str] = ("digits", "mobile", CONVERTED)
    backends: Sequence[str] = BACKENDS
    held_out: int = 100
    pairs: int = 30
    group: int = 10
    seconds: float = 2.0
    tables: Path = HERE / "latency_tables.csv"
    csv: Path = HERE / "latency_pairs.csv"


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Measure, write the rows down, and show them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", action="store_true", help="compare two processes instead")
    parser.add_argument("--show", action="store_true", help="only show what the files hold")
    parser.add_argument("--time", nargs=2, metavar=("SPACE", "BACKEND"), help="as --pairs does")
    options = parser.parse_args(arguments)
    settings = settings or Settings()
    torch.set_num_threads(1)
    if options.time:
        print(json.dumps(timed_alone(*options.time, settings)))
        return
    jobs = [(space, backend) for space in settings.spaces for backend in settings.backends]
    if not options.show:
        measure = pair if options.pairs else table
        path = settings.csv if options.pairs else settings.tables
        pd.DataFrame([measure(*job, settings) for job in jobs]).to_csv(path, index=False)
    for path in (settings.tables, settings.csv):
        if path.exists():
            print(pd.read_csv(path).to_string(index=False))


def table(space: str, backend: str, settings: Settings) -> dict[str, Any]:
    """The row of a table: how well it predicts architectures that it has not seen."""
    supernet, example = built(space)
    begun, start = time.process_time(), time.perf_counter()
    found = profile(supernet, example, backend=backend, cache=False)
    seconds, cpu = time.perf_counter() - start, time.process_time() - begun
    architectures = drawn(supernet, settings.held_out, seed=1)
    twice = np.array(
        [
            measured(supernet, architectures, example, backend, settings, seed)[:, 0]
            for seed in (0, 1)
        ]
    )
    mean, predicted = twice.mean(axis=0), np.array([found.total_at(a) for a in architectures])
    apart, interval = np.abs(predicted / mean - 1), found.about["interval"]
    row = {
        "space": space,
        "backend": backend,
        "architectures": len(architectures),
        "fastest_ms": mean.min(),
        "slowest_ms": mean.max(),
        "tau": kendalltau(predicted, mean).statistic,
        "within_10_percent": np.mean(apart <= 0.1),
        "interval": interval,
        "coverage": np.nan if interval is None else np.mean(apart <= interval),
        "floor_tau": kendalltau(*twice).statistic,
        "floor_within_10_percent": np.mean(np.abs(twice[1] / twice[0] - 1) <= 0.1),
        "correction": found.about["correction"],
        "seconds": seconds,
        "cpu_seconds": cpu,
    }
    print(row, flush=True)
    return row


def pair(space: str, backend: str, settings: Settings) -> dict[str, Any]:
    """The row of two processes that time the same architectures."""
    command = [sys.executable, __file__, "--time", space, backend]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(2)
    ]
    one, other = (np.array(run) for run in runs)
    inside = [np.abs(other[:, 0] - one[:, 0]) <= a[:, 1] for a in (one, other)]
    row = {
        "space": space,
        "backend": backend,
        "architectures": len(one),
        "median_ratio": np.median(other[:, 0] / one[:, 0]),
        "relative_spread": np.median(one[:, 1] / one[:, 0]),
        "coverage": np.mean(inside),
        "tau": kendalltau(one[:, 0], other[:, 0]).statistic,
        "busy": np.mean([one[:, 2], other[:, 2]]),
    }
    print(row, flush=True)
    return row


def timed_alone(space: str, backend: str, settings: Settings) -> list[list[float]]:
    """Median, spread and share of busy times of each architecture."""
    supernet, example = built(space)
    architectures = drawn(supernet, settings.pairs, seed=2)
    found = measured(supernet, architectures, example, backend, settings, seed=0)
    return found.tolist()


def built(space: str) -> tuple[Supernet, Any]:
    """The supernet of a space, and an example."""
    if space != CONVERTED:
        found = find_space(space)
        return found.supernet(0), found.load_task().example()  # type: ignore[union-attr]
    task = find_space("digits").load_task()  # type: ignore[union-attr]
    converted = Converted(partial(fresh, "residual"), task.example(), depth=True, kernels=(3,))
    return NetworkSpace("converted", converted, task).supernet(0), task.example()


def fresh(name: str) -> nn.Module:
    """A network of `small_networks.py`."""
    torch.manual_seed(0)
    return NETWORKS[name](1.0)


def drawn(supernet: Supernet, count: int, seed: int) -> list[Architecture]:
    """Different random architectures."""
    rng, found = Random(seed), dict[Architecture, None]()
    for _ in range(100 * count):
        found[supernet.canonical(draw(supernet.choices, rng))] = None
        if len(found) == count:
            break
    return [*found]


def measured(
    supernet: Supernet,
    architectures: Sequence[Architecture],
    example: Any,
    backend: str,
    settings: Settings,
    seed: int,
) -> np.ndarray:
    """(n, 3) median, spread and share of busy times, in groups drawn at random."""
    runner, rng = find_backend(backend), Random(seed)
    order = rng.sample(range(len(architectures)), len(architectures))
    found = np.zeros((len(architectures), 3))
    for begin in range(0, len(order), settings.group):
        group = order[begin : begin + settings.group]
        loads = [runner.loading(supernet.extract(architectures[i]), example) for i in group]
        times = measure_together(loads, seconds=settings.seconds)
        found[group] = [(one.median_ms, one.spread_ms, one.busy) for one in times]
    return found


if __name__ == "__main__":
    main()
