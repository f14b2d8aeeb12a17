"""Limits on a measured latency: what a search returns, measured again in another process.

    python experiments/search/limits.py
    python experiments/search/limits.py --backends onnxruntime
    python experiments/search/limits.py --show                   # the written rows

On `digits` a table of latencies is made and a supernet is trained, once for each backend. A search
without limits tells the ends of the front. 20 limits lie between them, even in logarithms. Each
search goes on from the supernet, with as many finalists: `constraint` and `target` keep a quarter
of them for the repair, `unrepaired` is a constraint without it. So a network is trained in the same
way in whatever search, and all of them together tell the best known error within a limit. The
networks of each front are timed again by a process that begins anew. Writes a row for each trained
network to `limits.csv`, with the load of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from paretonas import NetworkSpace
from paretonas.devices import find_backend
from paretonas.devices.timer import measure_together
from paretonas.gradient_search import Plan
from paretonas.gradient_search.search import search
from paretonas.names import find_space
from paretonas.objectives import DifferentiableObjective, Latency, Memory
from paretonas.runs import Run
from paretonas.training import FineTuning

HERE = Path(__file__).parent
BACKENDS = ("onnxruntime", "torch")
WAYS = ("constraint", "target", "unrepaired")


@dataclass(frozen=True)
class Settings:
    """What is searched and measured.

    Attributes:
        space: by name.
        limits: how many, spread over the front.
        supernet_steps: weight steps; after the last one there must be a checkpoint.
        proxy_evaluations: with inherited weights.
        finalists: of each search.
        share: of the epochs of the recipe, for a finalist.
        repair: the share of the finalists that is kept for it.
        seconds: in which the networks of a front are timed again.
        csv: the file of the rows.
    """

    space: str = "digits"
    limits: int = 20
    supernet_steps: int = 600
    proxy_evaluations: int = 60
    finalists: int = 10
    share: float = 0.4
    repair: float = Plan.repair
    seconds: float = 4.0
    csv: Path = HERE / "limits.csv"

    def plan(self, space: NetworkSpace) -> Plan:
        """The plan of all searches."""
        recipe = FineTuning(self.share).of(space.recipe)
        return Plan(
            self.supernet_steps,
            self.proxy_evaluations,
            self.finalists,
            recipe,
            repair=self.repair,
        )


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Search at all limits, measure again, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--show", action="store_true", help="print the written rows")
    parser.add_argument("--time", nargs=3, metavar=("DIR", "BACKEND", "SECONDS"), help="internal")
    chosen, settings = parser.parse_args(arguments), settings or Settings()
    torch.set_num_threads(1)
    if chosen.time:
        folder, backend, seconds = chosen.time
        print(json.dumps(timed(Path(folder), settings.space, backend, float(seconds))))
        return
    if not chosen.show:
        rows: list[dict[str, Any]] = []
        for backend in chosen.backends:
            with tempfile.TemporaryDirectory() as folder:
                for row in searched(Path(folder), backend, chosen.ways, settings):
                    rows.append(row)
                    pd.DataFrame(rows).to_csv(settings.csv, index=False, float_format="%.5g")
    print(summary(pd.read_csv(settings.csv)).to_string())


def searched(
    folder: Path, backend: str, ways: Sequence[str], settings: Settings
) -> Iterator[dict[str, Any]]:
    """The rows of all searches with a backend."""
    space = find_space(settings.space)
    assert isinstance(space, NetworkSpace)
    supernet, example = space.supernet(), space.load_task().example()
    latency = Latency.profile(supernet, example, backend=backend, cache=False)
    objectives = [latency, Memory.of(supernet, example)]
    base = folder / "base"
    Run.create(base, {}, device="cpu", seed=0)
    for step in steps(base, space, objectives, settings):
        if step.phase == "alpha":
            break  # the weights are trained, and in the checkpoint
    whole = copied(base, folder / "whole")
    *_, last = steps(whole, space, objectives, settings)
    times = np.log([point.objectives["latency_ms"] for point in last.front])
    places = (np.arange(settings.limits) + 0.5) / settings.limits
    for way in ways:
        for limit in np.exp(times.min() + places * np.ptp(times)):
            begun, place = time.perf_counter(), copied(base, folder / f"{way}-{limit}")
            try:
                found = rows_of(place, space, objectives, backend, way, float(limit), settings)
            except ValueError as error:  # by the table no architecture meets the limit
                print(f"{backend} {way} {limit:.4g}: {error}", flush=True)
                continue
            seconds, load = time.perf_counter() - begun, os.getloadavg()[0]
            returned = sum(row["returned"] for row in found)
            print(f"{backend} {way} {limit:.4g}: {returned} points, {seconds:.0f} s", flush=True)
            shutil.rmtree(place)
            for row in found:
                yield {**row, "seconds": seconds, "load": load}


def steps(
    folder: Path,
    space: NetworkSpace,
    objectives: Sequence[DifferentiableObjective],
    settings: Settings,
    **limit: str,
) -> Iterator[Any]:
    """The steps of a search that goes on in a folder."""
    return search(
        space,
        objectives=objectives,
        budget=settings.plan(space),
        run=Run.open(folder),
        finalists="inherit",
        **limit,
    )


def copied(base: Path, folder: Path) -> Path:
    """A copy of a run that has trained its supernet."""
    return Path(shutil.copytree(base, folder))


def rows_of(
    folder: Path,
    space: NetworkSpace,
    objectives: Sequence[DifferentiableObjective],
    backend: str,
    way: str,
    limit: float,
    settings: Settings,
) -> list[dict[str, Any]]:
    """One search: a row for each network that it trained."""
    if way == "target":
        asked = {"target": f"latency={limit}"}
    else:
        asked = {"constraint": f"latency<={limit}"}
    if way == "unrepaired":
        settings = replace(settings, repair=0.0)
    *_, last = steps(folder, space, objectives, settings, **asked)
    again = {}
    if len(last.front):
        told = [str(folder), backend, str(settings.seconds)]
        command = [sys.executable, __file__, "--time", *told]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        again = json.loads(output)
    return [
        {
            "backend": backend,
            "way": way,
            "limit": limit,
            "id": point.id,
            "error_percent": point.objectives["error_percent"],
            "table_ms": point.reported["latency_table_ms"],
            "latency_ms": point.objectives["latency_ms"],
            "spread_ms": point.reported["latency_spread_ms"],
            "returned": point.id in again,
            "again_ms": again.get(point.id, (np.nan, np.nan))[0],
            "again_spread_ms": again.get(point.id, (np.nan, np.nan))[1],
        }
        for point in Run.open(folder).evaluations()
    ]


def timed(folder: Path, space: str, backend: str, seconds: float) -> dict[str, list[float]]:
    """Latency and spread of each network of a run's front."""
    run, found = Run.open(folder), find_space(space)
    assert isinstance(found, NetworkSpace)
    runner, example = find_backend(backend), found.load_task().example()
    points = list(run.front())
    loads = [runner.loading(run.network(found, point), example) for point in points]
    times = measure_together(loads, seconds=seconds)
    return {p.id: [t.median_ms, t.spread_ms] for p, t in zip(points, times, strict=True)}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """For each backend and way: what was found, what holds, and how good the best is.

    The regret is of the best returned network of a search, against the best known network of its
    backend that was measured within the limit, in percentage points of the validation error.
    """
    told = []
    for (backend, way), own in rows.groupby(["backend", "way"], sort=False):
        returned = own[own["returned"]]
        over = returned["again_ms"] - returned["limit"]
        regrets = []
        for limit, group in own.groupby("limit"):
            within = rows[(rows["backend"] == backend) & (rows["latency_ms"] <= limit)]
            best = group[group["returned"]]["error_percent"].min()
            if len(within):
                regrets.append(best - within["error_percent"].min())
        regret = np.array(regrets)
        finite = regret[np.isfinite(regret)]
        told.append(
            {
                "backend": backend,
                "way": way,
                "searches": own["limit"].nunique(),
                "with_a_network": returned["limit"].nunique(),
                "networks": len(returned),
                "hold_within_spread": np.mean(over <= returned["spread_ms"]),
                "hold": np.mean(over <= 0),
                "largest_excess_percent": 100 * (over / returned["limit"]).max(),
                "trained_beyond": np.mean(own["latency_ms"] > own["limit"]),
                "regret_mean": finite.mean() if len(finite) else np.nan,
                "regret_median": np.median(finite) if len(finite) else np.nan,
                "within_1_point": np.mean(regret <= 1),
                "seconds": own.groupby("limit")["seconds"].first().median(),
                "load": own["load"].median(),
            }
        )
    return pd.DataFrame(told).set_index(["backend", "way"]).round(3)


if __name__ == "__main__":
    main()
