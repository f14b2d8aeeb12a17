"""The numbers of the page on latency that `latency_tables.py` does not measure.

    python experiments/search/latency_claims.py
    python experiments/search/latency_claims.py eager runner int8
    python experiments/search/latency_claims.py runner --python OTHER/bin/python
    python experiments/search/latency_claims.py --show

``eager`` times random architectures in eager torch and in ONNX Runtime, alternately, and compares
their order. ``runner`` times a folder of networks in another process, as on another machine, and
compares its table with one that is measured here. ``int8`` searches, and compares each trained
network with itself in int8. A machine without other work is needed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from latency_tables import built, drawn
from scipy.stats import kendalltau

from paretonas import Front, Point, Run, search
from paretonas.devices import find_backend
from paretonas.devices.timer import measure_together
from paretonas.names import find_space
from paretonas.objectives import import_times, profile, write_runner

HERE = Path(__file__).parent
Rows = Iterator[tuple[str, float]]


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        space: whose networks.
        architectures: that are timed in two backends.
        group: architectures that are timed together.
        seconds: for a group.
        compared: architectures for which two tables are compared.
        budget: of the search in int8.
        python: runs the script of the runner.
        script_seconds: its option.
        csv: the file of the rows.
    """

    space: str = "digits"
    architectures: int = 70
    group: int = 5
    seconds: float = 3.0
    compared: int = 300
    budget: str = "150s"
    python: str = sys.executable
    script_seconds: float = 30.0
    csv: Path = HERE / "latency_claims.csv"


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Measure, write the rows down, and show them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("claims", nargs="*", help=f"some of {', '.join(CLAIMS)}; all by default")
    parser.add_argument("--python", help="for the runner: another Python, with onnxruntime")
    parser.add_argument("--show", action="store_true", help="only show what the file holds")
    options = parser.parse_args(arguments)
    for claim in options.claims:
        if claim not in CLAIMS:
            parser.error(f"a claim is one of {', '.join(CLAIMS)}, got {claim}")
    settings = settings or Settings()
    if options.show and not settings.csv.exists():
        parser.error(f"{settings.csv} does not exist; measure first, without --show")
    if options.python:
        settings = Settings(**{**vars(settings), "python": options.python})
    torch.set_num_threads(1)
    if not options.show:
        known = pd.read_csv(settings.csv) if settings.csv.exists() else pd.DataFrame()
        claims = options.claims or [*CLAIMS]
        rows = [
            {"claim": claim, "what": what, "value": value}
            for claim in claims
            for what, value in CLAIMS[claim](settings)
        ]
        kept = known[~known["claim"].isin(claims)] if len(known) else known
        pd.concat([kept, pd.DataFrame(rows)]).to_csv(settings.csv, index=False)
    print(pd.read_csv(settings.csv).to_string(index=False))


def eager(settings: Settings) -> Rows:
    """How many times as long as the file eager torch takes, and whether the orders agree."""
    supernet, example = built(settings.space)
    architectures = drawn(supernet, settings.architectures, seed=3)
    backends = [find_backend(name) for name in ("torch", "onnxruntime")]
    ms = []
    for begin in range(0, len(architectures), settings.group):
        networks = [supernet.extract(a) for a in architectures[begin : begin + settings.group]]
        loads = [backend.loading(network, example) for network in networks for backend in backends]
        found = measure_together(loads, seconds=settings.seconds)
        ms += [one.median_ms for one in found]
    torch_ms, file_ms = np.reshape(ms, (-1, 2)).T
    ratios = torch_ms / file_ms
    yield "architectures", len(architectures)
    yield from spread_of("eager torch, as a multiple of the file", ratios)
    yield "Kendall's tau of the two orders", kendalltau(torch_ms, file_ms).statistic


def runner(settings: Settings) -> Rows:
    """The table that another process makes, and the one that is measured here."""
    supernet, example = built(settings.space)
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "board"
        yield "networks in the folder", write_runner(supernet, example, folder)
        seconds = str(settings.script_seconds)
        command = [settings.python, "-I", str(folder / "measure.py"), "--seconds", seconds]
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        yield "seconds of the script", time.perf_counter() - begun
        there = import_times(supernet, example, folder)
    for name in ("within_10_percent", "rank_correlation", "interval"):
        if (value := there.about[name]) is not None:
            yield name.replace("_", " "), value
    here = profile(supernet, example, backend="onnxruntime", cache=False)
    architectures = drawn(supernet, settings.compared, seed=4)
    far, near = (np.array([t.total_at(a) for a in architectures]) for t in (there, here))
    yield "architectures", len(architectures)
    yield "Kendall's tau of the two tables", kendalltau(far, near).statistic
    yield from spread_of("milliseconds there, as a multiple of those here", far / near)


def int8(settings: Settings) -> Rows:
    """The same trained networks in fp32 and in int8."""
    with tempfile.TemporaryDirectory() as room:
        wanted, folder = "latency,int8_error,int8_latency", Path(room) / "run"
        begun = time.perf_counter()
        for _ in search(
            find_space(settings.space),
            objectives=wanted,
            budget=settings.budget,
            run=str(folder),
        ):
            pass
        yield "seconds of the search", time.perf_counter() - begun
        points = Run.open(folder).evaluations()
    yield "points", len(points)
    both = Front(["error_percent", "latency_ms"])
    for point in points:
        for precision, prefix in {"fp32": "", "int8": "int8_"}.items():
            values = {column: point.objectives[prefix + column] for column in both.objectives}
            both.add(Point({**point.architecture, "precision": precision}, values))
    precisions = [point.architecture["precision"] for point in both]
    yield "points of the common front", len(both)
    yield "of them in int8", precisions.count("int8")
    errors, times = (
        np.array([[p.objectives[f"{prefix}{column}"] for prefix in ("", "int8_")] for p in points])
        for column in ("error_percent", "latency_ms")
    )
    yield "largest error that int8 adds, in points", float((errors[:, 1] - errors[:, 0]).max())
    yield "share of networks that are slower in int8", float((times[:, 1] > times[:, 0]).mean())
    front = Front(["error_percent", "latency_ms"])
    for point in points:
        values = {name: point.objectives[name] for name in front.objectives}
        front.add(Point(point.architecture, values, id=point.id))
    named = {point.id: point for point in points}
    for wish in ("most-accurate", "knee", "fastest"):
        point = named[front.pick(wish).id]
        for column in ("error_percent", "latency_ms"):
            for prefix in ("", "int8_"):
                yield f"{wish}: {prefix}{column}", point.objectives[prefix + column]


def spread_of(what: str, values: np.ndarray) -> Rows:
    """The smallest, the median and the largest value."""
    for name, value in zip(
        ("smallest", "median", "largest"), np.quantile(values, [0, 0.5, 1]), strict=True
    ):
        yield f"{what}: {name}", float(value)


CLAIMS: Mapping[str, Callable[[Settings], Rows]] = {"eager": eager, "runner": runner, "int8": int8}


if __name__ == "__main__":
    main()
