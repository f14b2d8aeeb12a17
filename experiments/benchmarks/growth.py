"""How the seconds and the memory of a search grow with the space, the objectives and the rays.

Each row is a search in a process of its own, on one thread: processor seconds of each phase until
the first finalists are chosen, without imports, and the largest memory of the process so far. The
alpha phase has proxy evaluations in it. At the end, a step of the supernet's weights is compared
with a step of the plain network of the same architecture, and what a search does besides with the
training of its supernet.

    .venv/bin/python experiments/benchmarks/growth.py          # all, about half an hour
    .venv/bin/python experiments/benchmarks/growth.py --quick  # the smallest of each, a minute
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

import paretonas.nn as pn
from paretonas import NetworkSpace, Recipe, search
from paretonas.gradient_search.plan import Plan, proxy_evaluations_for
from paretonas.gradient_search.weights import inherited_scores
from paretonas.names import find_space
from paretonas.nn import Supernet
from paretonas.objectives import DifferentiableObjective, Slot
from paretonas.objectives.cost_table import CostTable
from paretonas.objectives.table_objective import TableObjective
from paretonas.space import Architecture, draw, size
from search_spaces.images import digits_8x8

HERE = Path(__file__).parent
BASE = {"choices": 10, "options": 6, "objectives": 3, "rays": 28}
SWEEPS = {
    "choices": [10, 20, 40, 80, 100],
    "options": [2, 6, 20, 50],
    "objectives": [2, 3, 5, 8],
    "rays": [7, 28, 100, 256],
}
STEPS = 200  # of the supernet


class Deep(nn.Module):
    """A residual layer for each choice, among kernels of so many hidden widths."""

    def __init__(self, choices: int, options: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.layers = nn.Sequential(
            *(pn.OneOf({str(k): Residual(k) for k in range(options)}) for _ in range(choices))
        )
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.layers(self.stem(x)).mean((2, 3)))
        return y


class Residual(nn.Module):
    """Nothing, or two pointwise layers with a hidden width."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        if not hidden:
            self.inner = None
            return
        first, last = nn.Conv2d(8, hidden, 1), nn.Conv2d(hidden, 8, 1)
        self.inner = nn.Sequential(first, nn.BatchNorm2d(hidden), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.inner is None else x + self.inner(x)


class OnceForAll(nn.Module):
    """Units of elastic depth, width and kernel, with 30 choices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.units = nn.Sequential(
            *(pn.Depth([Inverted(16) for _ in range(3)], at_least=1) for _ in range(4))
        )
        self.width = pn.Width(16, 32)
        self.last = pn.Conv2d(16, self.width, 1)
        self.act = pn.OneOf({"relu": nn.ReLU(), "hard-swish": nn.Hardswish()})
        self.head = pn.Linear(self.width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.act(self.last(self.units(self.stem(x)))).mean((2, 3)))
        return y


class Inverted(nn.Module):
    """An inverted residual block with a kernel and an expansion."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden, kernel = pn.Width(*(channels * e for e in (2, 3, 4))), pn.Kernel(3, 5, 7)
        self.inner = nn.Sequential(
            pn.Conv2d(channels, hidden, 1, bias=False),
            pn.BatchNorm2d(hidden),
            nn.ReLU(),
            pn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False),
            pn.BatchNorm2d(hidden),
            nn.ReLU(),
            pn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.inner(x)
        return y


def space_of(setting: dict[str, int]) -> NetworkSpace:
    """The space of a setting; no choices stand for Once-for-all."""
    if setting["choices"] == 0:
        return NetworkSpace("once_for_all", OnceForAll, digits_8x8, Recipe(epochs=1))

    def network() -> nn.Module:
        return Deep(setting["choices"], setting["options"])

    return NetworkSpace("deep", network, digits_8x8, Recipe(epochs=1))


def extra_objectives(space: NetworkSpace, count: int) -> list[DifferentiableObjective | str]:
    """Latency, memory, and so many further objectives, which cost nothing to tabulate."""
    found: list[DifferentiableObjective | str] = [*("latency", "memory")[:count]]
    for number in range(count - 2):
        slots = []
        for choice in space.choices:
            generator = torch.Generator().manual_seed(number)
            values = torch.rand(len(choice.options), generator=generator)
            groups = {choice.name: tuple((option,) for option in choice.options)}
            slots.append(Slot(choice.name, groups, values.double()))
        table = CostTable(space.choices, slots, unit="")
        found.append(TableObjective(table, name=f"cost_{number}", unit="n"))
    return found


def phases(setting: dict[str, int]) -> list[dict[str, object]]:
    """Processor seconds and the largest memory of each phase of a search."""
    torch.set_num_threads(1)
    space, rows = space_of(setting), []
    plan = Plan(supernet_steps=STEPS, proxy_evaluations=40, finalists=1, recipe=space.recipe)
    objectives = extra_objectives(space, setting["objectives"] - 1)
    space.load_task()  # imports do not count
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    for phase, seconds, peak in until_finalists(
        space, objectives=objectives, budget=plan, rays=setting["rays"]
    ):
        row = {"phase": phase, "cpu_seconds": round(seconds, 2), "peak_mib": round(peak)}
        rows.append({**setting, **row})
    return rows


class Chosen(BaseException):
    """The first finalists are chosen. No `Exception`, which would be a failure of finalists."""


def until_finalists(space: NetworkSpace, **settings: Any) -> Iterator[tuple[str, float, float]]:
    """The phases of a search: name, processor seconds and the largest memory so far, in MiB."""

    def stop(*_: Any, **__: Any) -> NoReturn:
        raise Chosen

    begun, last, phase = time.process_time(), time.process_time(), "costs"
    try:
        for step in search(space, **settings, trainer=stop):
            torch.set_num_threads(1)
            if step.phase != phase:
                # The first word of the weights comes after 25 of them, that of alpha after proxies.
                yield phase, last - begun, peak_mib()
                begun, phase = last, step.phase
            last = time.process_time()
    except Chosen:
        yield phase, time.process_time() - begun, peak_mib()


def shares(steps: int) -> dict[str, float]:
    """Processor seconds of the default space, by those of the supernet's training."""
    torch.set_num_threads(1)
    space = find_space("digits")
    assert isinstance(space, NetworkSpace)
    seconds = {phase: s for phase, s, _ in until_finalists(space, budget=f"{steps}steps")}
    supernet, task, rng = space.supernet(), space.load_task(), Random(0)
    proxies = proxy_evaluations_for(round(0.3 * steps), size(supernet.choices))
    begun = time.process_time()
    for _ in range(20):
        inherited_scores(supernet, task, draw(supernet.choices, rng))
    scored = (time.process_time() - begun) / 20 * proxies
    weights = seconds["weights"]
    return {
        "a step of weights and alpha": 1 + (seconds["alpha"] - scored) / weights,
        "the same with proxy evaluations": 1 + seconds["alpha"] / weights,
        "the same with all tables of costs": sum(seconds.values()) / weights,
    }


def peak_mib() -> float:
    """The largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step_ratio(setting: dict[str, int], repeats: int = 30) -> float:
    """Seconds of a weight step through the supernet, by those of the plain network."""
    torch.set_num_threads(1)
    supernet = Supernet(space_of(setting).network())
    architecture = Architecture({c.name: c.options[-1] for c in supernet.choices})
    plain = supernet.extract(architecture)
    x, labels = torch.randn(64, 1, 8, 8), torch.arange(64) % 10

    def through() -> None:
        functional.cross_entropy(supernet(x, architecture), labels).backward()

    def alone() -> None:
        functional.cross_entropy(plain(x), labels).backward()

    seconds: dict[object, list[float]] = {through: [], alone: []}
    for _ in range(repeats):
        for work in seconds:
            begun = time.process_time()
            work()  # type: ignore[operator]
            seconds[work].append(time.process_time() - begun)
    return statistics.median(seconds[through]) / statistics.median(seconds[alone])


def settings(quick: bool) -> list[dict[str, int]]:
    """All settings, each once."""
    found = [{**BASE, name: value} for name, values in SWEEPS.items() for value in values]
    found += [{**BASE, "choices": 0, "options": 0}, {**BASE, "choices": 80}]
    if quick:
        found = [{**BASE, "choices": 4, "options": 2}]
    return [dict(each) for each in dict.fromkeys(tuple(one.items()) for one in found)]


def main() -> None:
    """Run each setting in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        setting = json.loads(arguments.one)
        print(json.dumps(phases(setting)))
        return
    rows = []
    for setting in settings(arguments.quick):
        command = [sys.executable, __file__, "--one", json.dumps(setting)]
        with tempfile.TemporaryDirectory() as cache:  # no table was measured before
            own = {**os.environ, "XDG_CACHE_HOME": cache}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=own)
        rows += json.loads(done.stdout.splitlines()[-1])
        print(pd.DataFrame(rows[-3:]).to_string(index=False, header=len(rows) == 3), flush=True)
    ratios = {n: step_ratio({**BASE, "choices": n, "options": 6}) for n in (0, 10)}
    for name, ratio in zip(("once-for-all", "ten layers"), ratios.values(), strict=True):
        print(f"a weight step through the supernet of {name}, by the plain network's: {ratio:.2f}")
    for steps in (900,) if arguments.quick else (4500, 9000):
        for name, share in shares(steps).items():
            print(f"{steps} steps of the default space: {name}, by the weights alone: {share:.2f}")
    if not arguments.quick:
        pd.DataFrame(rows).to_csv(HERE / "growth.csv", index=False)


if __name__ == "__main__":
    main()
