"""Train the field's multi-task benchmarks with any solver, in the published protocol.

    cd experiments/conflict/multi_task_benchmarks
    python train.py --smoke    # a step of each, without data
    python train.py nyu_v2 --dataset-root NYU --solver NashMTL
    python train.py nyu_v2 --dataset-root NYU --tasks each
    python report.py runs/nyu_v2-*

Benchmarks are `nyu_v2`, `cityscapes` and `celeba`. Without a root, the command says which files a
benchmark needs on disk. Without `--solver` it uses the plain mean. `--tasks each` trains the
single-task networks one after the other, `--tasks depth` one of them, `--tasks semantic,depth` a
pair.

A run is a folder: `run.json`, `history.csv` with a row for each epoch, and a checkpoint after each
epoch. After a stop, the same command continues. Exit codes: 0; 1, the training failed; 2, bad
input; 130, Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from benchmark import Benchmark, Split
from celeba import CELEBA
from cityscapes import CITYSCAPES
from nyu_v2 import NYU_V2
from smoke import smoke
from solver_by_name import make_solver, solver_name
from training import Training

from paretonas.devices import find_device
from paretonas.runs import Run
from paretonas.space import nearest

BENCHMARKS = {benchmark.name: benchmark for benchmark in (CITYSCAPES, NYU_V2, CELEBA)}
MEAN = "LinearScalarization"


class TrainingError(Exception):
    """A training that cannot go on."""


def main(
    arguments: Sequence[str] | None = None, benchmarks: Mapping[str, Benchmark] = BENCHMARKS
) -> int:
    """Do what the command line says; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        torch_device = find_device(options.device)
        names = list(benchmarks) if options.benchmark is None else [options.benchmark]
        for name in names:
            if name not in benchmarks:
                raise ValueError(f"no benchmark is called {name!r}{nearest(name, [*benchmarks])}")
        chosen = [benchmarks[name] for name in names]
        if options.smoke:
            if options.dataset_root is not None and options.benchmark is None:
                raise ValueError("--smoke with --dataset-root needs the name of the benchmark")
            solvers = [solver_name(options.solver)] if options.solver else [MEAN, "NashMTL"]
            root, amp = options.dataset_root, options.amp
            smoke(chosen, solvers, torch_device, options.full_size, amp=amp, root=root)
            return 0
        if options.benchmark is None:
            raise ValueError(f"name a benchmark ({', '.join(benchmarks)}), or give --smoke")
        for folder, settings in _plans(chosen[0], options):
            run(chosen[0], folder, settings, options, torch_device)
    except ValueError as error:
        return _told(2, str(error))
    except (TrainingError, OSError, torch.OutOfMemoryError) as error:
        return _told(1, str(error).strip().splitlines()[0])
    except KeyboardInterrupt:
        return _told(130, "stopped; the same command goes on after the last whole epoch")
    return 0


def run(
    benchmark: Benchmark,
    folder: Path,
    settings: Mapping[str, Any],
    options: argparse.Namespace,
    device: torch.device,
) -> None:
    """Train one network, or go on with it.

    Raises:
        ValueError: bad input, before anything was written.
        TrainingError: a loss that is not finite, or a file that cannot be read.
    """
    splits = _opened(benchmark, options.dataset_root)
    tasks = [task for task in benchmark.tasks if task.name in settings["tasks"]]
    steps = -(-len(splits["train"]) // benchmark.batch)
    solver = make_solver(settings["solver"], settings["solver_settings"], steps)
    kept = _kept(folder, settings, options, device)
    training = Training(
        benchmark,
        tasks,
        solver,
        options.seed,
        device,
        amp=settings["amp"],
        clip=settings["clip"],
        look_every=settings["look_every"],
    )
    saved = kept.resume()
    done = 0 if saved is None else saved["epochs"]
    if saved is not None:
        training.load(saved["training"])
    _say_departures(benchmark, splits, settings)
    epochs = settings["epochs"]
    print(f"{folder}: {done} of {epochs} epochs are done; {settings['solver']} on {device}")
    for number in range(done, epochs):
        start = time.monotonic()
        try:
            told = _progress(f"epoch {number + 1}/{epochs}")
            row = training.epoch(number, splits["train"], options.workers, told)
            found = {}
            for name in ("valid", "test"):
                if name in splits:
                    metrics = training.look(splits[name], options.workers)
                    found |= {f"{name} {key}": value for key, value in metrics.items()}
        except ValueError as error:
            # What a worker raised comes with its traceback; the last line is the message.
            message = str(error).strip().splitlines()[-1].removeprefix("ValueError: ")
            raise TrainingError(f"{folder}, epoch {number + 1}: {message}") from error
        seconds = time.monotonic() - start
        kept.log({"epoch": number + 1, "seconds": round(seconds, 3), **row, **found})
        kept.save({"epochs": number + 1, "training": training.state()})
        _say_epoch(number + 1, epochs, seconds, found)


def _plans(benchmark: Benchmark, options: argparse.Namespace) -> list[tuple[Path, dict[str, Any]]]:
    """The folder and the settings of each network that is asked for."""
    known = [task.name for task in benchmark.tasks]
    asked = known if options.tasks in (None, "each") else options.tasks.split(",")
    for name in asked:
        if name not in known:
            raise ValueError(f"{benchmark.name} has no task {name!r}{nearest(name, known)}")
    asked = [name for name in known if name in asked]
    groups = [[name] for name in asked] if options.tasks == "each" else [asked]
    alone = len(groups[0]) == 1
    if alone and (options.solver or options.set):
        raise ValueError("a single task has nothing to resolve: leave out --solver and --set")
    solver = solver_name(options.solver or MEAN)
    told = dict(_setting(text) for text in options.set)
    settings = {
        "benchmark": benchmark.name,
        "solver": solver,
        "solver_settings": {**benchmark.solver_settings.get(solver, {}), **told},
        "seed": options.seed,
        "epochs": benchmark.epochs if options.epochs is None else options.epochs,
        "amp": options.amp,
        # As its authors' code does; NashMTL and SAMGS do it themselves.
        "clip": 1.0 if solver == "FAMO" and options.clip is None else options.clip,
        "look_every": benchmark.look_every if options.look_every is None else options.look_every,
    }
    if settings["epochs"] < 1 or settings["look_every"] < 0 or options.workers < 0:
        raise ValueError("--epochs must be at least 1, --look-every and --workers at least 0")
    if settings["clip"] is not None and not settings["clip"] > 0:
        raise ValueError(f"--clip must be above 0, got {settings['clip']}")
    method = "-".join(["alone" if alone else solver, *(f"{k}={v}" for k, v in told.items())])
    default = Path("runs") / f"{benchmark.name}-{method}-seed{options.seed}"
    out = default if options.out is None else options.out
    parted = options.tasks == "each" or (options.out is None and len(asked) < len(known))
    return [
        (out / "+".join(group) if parted else out, {**settings, "tasks": group}) for group in groups
    ]


def _opened(benchmark: Benchmark, root: Path | None) -> dict[str, Split]:
    if root is None:
        raise ValueError(f"--dataset-root is missing: {benchmark.where}")
    try:
        return benchmark.open(root)
    except ValueError as error:
        raise ValueError(f"{error}; {benchmark.where}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{root} cannot be read: {error}; {benchmark.where}") from error


def _kept(
    folder: Path, settings: Mapping[str, Any], options: argparse.Namespace, device: torch.device
) -> Run:
    """The run in this folder, a new one if there is none."""
    if not (folder / "run.json").exists():
        return Run.create(folder, settings, str(device), options.seed)
    found = Run.open(folder)
    for name, value in settings.items():
        if found.settings.get(name) != value:
            raise ValueError(
                f"{folder} holds a run with {name} {found.settings.get(name)!r}, not {value!r}; "
                "give another --out"
            )
    return found


def _say_departures(
    benchmark: Benchmark, splits: Mapping[str, Split], settings: Mapping[str, Any]
) -> None:
    """Say what differs from the published protocol."""
    for name, split in splits.items():
        if len(split) != benchmark.counts[name]:
            print(f"note: {name} has {len(split)} images, published {benchmark.counts[name]}")
    if splits["train"].size != benchmark.size:
        print(f"note: images are {splits['train'].size}, published {benchmark.size}")
    if settings["epochs"] != benchmark.epochs:
        print(f"note: {settings['epochs']} epochs, published {benchmark.epochs}")


def _progress(what: str) -> Callable[[int, int], None]:
    """Rewrites one line of a terminal with each step."""
    start = time.monotonic()

    def told(step: int, steps: int) -> None:
        if sys.stderr.isatty():
            each = (time.monotonic() - start) / step
            line = f"\r{what}, step {step}/{steps}, {each:.2f} s a step  "
            print(line, end="", file=sys.stderr, flush=True)

    return told


def _say_epoch(number: int, epochs: int, seconds: float, found: Mapping[str, float]) -> None:
    test = {key.removeprefix("test "): x for key, x in found.items() if key.startswith("test ")}
    if len(test) > 9:
        test = {"mean of test": sum(test.values()) / len(test)}
    numbers = ", ".join(f"{key} {value:.4g}" for key, value in test.items())
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    print(clear, end="", file=sys.stderr, flush=True)
    print(f"epoch {number}/{epochs}, {seconds:.1f} s: {numbers}", flush=True)


def _setting(text: str) -> tuple[str, object]:
    name, mark, value = text.partition("=")
    if not mark:
        raise ValueError(f"--set must be NAME=VALUE, such as gamma=0.7, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a word


def _told(code: int, message: str) -> int:
    print(f"error: {message}" if code != 130 else message, file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # in one line, without the usage
        self.exit(2, f"error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("benchmark", nargs="?", help="nyu_v2, cityscapes or celeba")
    add("--dataset-root", type=Path, metavar="DIR", help="where the data are")
    add("--solver", metavar="NAME", help="a solver of paretonas.solvers (default: the mean)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a field of the solver")
    add("--tasks", metavar="A,B", help="only these; `each`: the single-task networks one by one")
    add("--out", type=Path, metavar="DIR", help="folder of the run (default: in runs/)")
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--workers", type=int, default=2, help="processes that read images")
    add("--epochs", type=int, help="instead of the published number")
    add("--clip", type=float, help="largest length of the shared gradient (FAMO: 1)")
    add(
        "--look-every",
        type=int,
        metavar="STEPS",
        help="measure conflict at this interval; 0: never",
    )
    add("--amp", action="store_true", help="mixed precision (no published result uses it)")
    add("--smoke", action="store_true", help="a step of each benchmark on generated files")
    add("--full-size", action="store_true", help="--smoke with published image and batch sizes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
