"""`paretonas.search`: a search that evaluates its finalists itself."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext

import torch

from .._lock import held
from .._threads import threads as torch_threads
from ..constraint import Constraint
from ..finalists import train_finalists
from ..nn import NetworkSpace
from ..objectives import DifferentiableObjective, MeasuredObjective
from ..objectives.trained_metric import Trainer
from ..runs import Run, check_there
from ..solvers import Solver
from ..training import FineTuning
from .halving import SuccessiveHalving
from .paths import Paths
from .phases import all_phases
from .plan import Budget, Plan
from .settings import RAYS, Settings
from .step import Step
from .target import Target

__all__ = ["search"]


def search(
    space: NetworkSpace | str,
    *,
    objectives: Sequence[DifferentiableObjective | MeasuredObjective | str]
    | str
    | os.PathLike[str]
    | None = None,
    solver: Solver | str | None = None,
    constraint: Constraint | str | None = None,
    target: Target | str | None = None,
    budget: Budget | Plan | str | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    threads: int = 1,
    backend: str | None = None,
    rays: int = RAYS,
    finalists: FineTuning | str | None = None,
    early_stopping: SuccessiveHalving | str | None = None,
    paths: Paths | str | None = None,
    run: Run | str | os.PathLike[str] | None = None,
    trainer: Trainer = train_finalists,
    workers: int | None = None,
    evaluation_timeout: float | str | None = None,
) -> Generator[Step, None, None]:
    """Search a space for its front of metric, latency and memory: one run, one supernet.

    Texts are understood as on the command line: ``search("toy", solver="MGDA", budget="90s",
    constraint="latency<=2ms")``. What cannot be understood is refused before anything runs.

    Every step is yielded; the last one carries the front of measured points. Stop at any time: what
    is on the front stays there, and with a `run` the search goes on from its last checkpoint.

    An option that raises, or gives what is not finite, is set aside and never taken again; so is an
    architecture that fails alone. A step's message tells it, and `Run.failures` lists it. A
    finalist that fails is billed like any other.

    Args:
        space: the network with its choices, the task and the recipe; or its name, such as "toy" or
            "my_file:space".
        objectives: what is minimized beside the metrics of the task; by default latency (tabulated
            on the device, then measured) and memory. Each as such, or by its name: one of
            `paretonas.objectives.default.NAMES`, or one of your own, "my_file:joules"; also in one
            text. One with a gradient steers the search; one that is only measured on trained
            networks, a `MeasuredObjective`, counts for the front. "latency@phone" is the latency by
            the table phone.json of another device, "latency@cpu" that on a device of this machine.
            Or the file of a cost table, for latency and memory.
        solver: turns the gradients with respect to alpha into a direction; one with a `preference`
            gets the rays, any other is wrapped in `Weighted`. By default smooth Tchebycheff.
            Or its name, such as "MGDA" or "my_file:Mine".
        constraint: limits that points on the front must meet, such as "latency<=2ms". Under limits
            on what is measured the last finalists are chosen by the measurements of the others.
        target: a cost at which the best metric is wanted, such as "latency=2ms": a limit, below and
            near to which the search looks. Not on what is only measured.
        budget: weight steps or seconds, such as "600steps" or "90s", or a whole plan.
        seed: with the same objectives, threads, budget in steps and measurements, a CPU run repeats
            bit for bit.
        device: auto, cpu or cuda.
        threads: that latency is measured with.
        backend: what runs networks whose latency is measured: "onnxruntime", the default on a CPU
            if its packages are installed and it can run the network; "torch"; "torch.compile"; or
            "cuda-graphs".
        rays: how many preferences are searched at once, at least.
        finalists: "inherit", which go on from the weights of the supernet by the whole recipe, or
            by a part of it, as ``FineTuning(share=0.4)`` or "inherit:0.4" say; or "fresh", trained
            from fresh weights. By default "inherit", and "fresh" with a `trainer` of your own; a
            run that is continued keeps to what it was begun with.
        early_stopping: "halving", or `SuccessiveHalving`, stops finalists that the front cannot
            need, and trains others instead; "none", the default, trains all to their end. A run
            that is continued keeps to it.
        paths: which paths of the supernet an update of its weights trains, `Paths` or a text:
            "fair", one at random, the default; "fair:4", four; "sandwich:2", the largest, the
            smallest and two; "distill:2", the same, and all learn from the largest. Each path
            counts as a step. A run that is continued keeps to it.
        run: where to write: a folder, which is made if it is not there, or a `Run`; continued if it
            has a checkpoint. One search at a time can.
        trainer: trains and scores finalists; see `train_finalists`. Where it raises for several,
            they are handed to it one by one.
        workers: how many processes of their own evaluate finalists. One that dies, by a fault of
            the system or for want of memory, costs at most its finalist, which is tried once more.
            By default finalists are trained in threads of this process. The results are the same.
        evaluation_timeout: how long the evaluation of a finalist may take, in seconds or as "10m";
            then it has failed. Without `workers` there are as many as finalists are trained at
            once. In a script of your own, processes need ``if __name__ == "__main__":``.

    Raises:
        ValueError: the budget makes no step possible, or no architecture meets the constraint by
            the tables. (A limit on a metric or a measurement is not known before: then the front
            stays empty, and the last step names what is nearest.) A choice has no option left that
            runs. A name or a text that means nothing. Another process, or another search of this
            one, is at work in the run's folder.
        TypeError: an argument of another kind, or a class in the place of an object.
        FloatingPointError: the supernet diverges whatever the path.
        Exception: what the network raises, if it does so in every architecture.

    References:
        Smooth Tchebycheff: Lin et al. 2024 (arXiv 2402.19078). Single-path supernet: Guo et al.
        2020 (arXiv 1904.00420). See `CoKriging`, `select_batch` and `fair_paths`.
    """
    settings = Settings.of(
        space,
        objectives=objectives,
        solver=solver,
        constraint=constraint,
        target=target,
        budget=budget,
        seed=seed,
        device=device,
        threads=threads,
        backend=backend,
        rays=rays,
        finalists=finalists,
        early_stopping=early_stopping,
        paths=paths,
        run=run,
        trainer=trainer,
        workers=workers,
        evaluation_timeout=evaluation_timeout,
    )
    return _steps(settings)


def _steps(settings: Settings) -> Generator[Step, None, None]:
    """The steps of a search that evaluates its finalists itself."""
    run = settings.run
    if run:
        check_there(run.folder)  # a folder that was removed is not made again
    with (
        held(run.folder) if run else nullcontext(),
        torch_threads(1),
        closing(all_phases(settings)) as phases,
    ):
        for step in phases:
            if isinstance(step, Step):
                yield step
