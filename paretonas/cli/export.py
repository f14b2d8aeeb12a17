"""`paretonas export`: a point of a run's front as a file, its latency measured again."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paretonas._words import used
from paretonas.arguments import Arguments, call, count, moved
from paretonas.cli.display import quantity
from paretonas.cli.find import Consent
from paretonas.constraint import Constraint
from paretonas.devices import find_backend, find_device
from paretonas.devices.onnx_session import OnnxRuntime
from paretonas.devices.timer import Call, Measurement, measure_together, repeated
from paretonas.dominance import at_limit
from paretonas.export import FORMATS, export
from paretonas.export.architecture import preparation
from paretonas.export.inputs import real_inputs
from paretonas.export.onnx_file import fed, session_of
from paretonas.forward import evaluating, handed
from paretonas.front import Front
from paretonas.gradient_search.guessing import Guessing
from paretonas.graph import network_graph
from paretonas.names import with_networks
from paretonas.point import Point
from paretonas.runs import Run
from paretonas.space import encode, nearest
from paretonas.tasks.task import Task, value_of
from paretonas.training import evaluate

_SUFFIXES = {
    "onnx": ".onnx",
    "onnx-int8": ".int8.onnx",
    "torch": ".pt2",
    "safetensors": ".safetensors",
    "json": ".json",
    "graphml": ".graphml",
}


def export_pick(folder: Path, wish: str, format: str, out: Path | None, consent: Consent) -> None:
    """Write the picked point and say what was written.

    A file whose name nobody typed is never replaced.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}{nearest(format, FORMATS)}")
    run = Run.open(folder)
    front = run.front()
    point = front.pick(wish)
    path = out or run.folder / f"{point.id}{_SUFFIXES[format]}"
    if out is None and os.path.lexists(path):
        raise ValueError(f"{path} exists; name another file, or this one, with --out FILE")
    space = with_networks(consent.space(folder, run.settings), "--space")
    try:
        encode(space.choices, point.architecture)
    except ValueError as error:
        raise ValueError(f"{folder} is of another space than {space.name!r}: {error}") from error
    network = run.network(space, point)
    task = space.load_task()
    example = moved(task.example(), "cpu")
    images = real_inputs(task, "test", 256, example)
    written = export(
        network,
        point,
        example,
        format,
        path,
        images=images,
        graph=network_graph(network, example) if format == "graphml" else None,
        space=space.name,
        task=task,
    )
    shown = replace(point, architecture=used(point.architecture, run.about))
    print(f"{shown} as {format}: {', '.join(str(file) for file in (path, *written.beside))}")
    if written.max_difference is not None:
        print(
            f"read back and run on {count(images)} test examples: outputs differ from the "
            f"network's by at most {written.max_difference:.2g}"
        )
    if format == "onnx-int8":
        print(_in_int8(path, network, task, example))
    if ties := front.ties(wish):
        print(f"measurements cannot tell it from {', '.join(other.id for other in ties)}")
    print(_inputs(task, network, example))
    guessing = Guessing.told(run.about)
    if guessing and (doubt := guessing.remark_on(point)):
        print(doubt)
    latency = _compare_latency(run, point, network, path, format, handed(network, example))
    if latency is not None and (broken := _broken(wish, front, point, latency)):
        print(broken)


def _broken(wish: str, front: Front, point: Point, latency: Measurement) -> str:
    """One line on a file that does not hold the limit for which its point was picked."""
    if not re.search("[<>]", wish):
        return ""
    asked = Constraint.parse(wish, front.objectives, front.maximize).on(["latency_ms"])
    now = {"latency_ms": latency.median_ms}
    if asked.satisfied(now):
        return ""
    spread = {"latency_spread_ms": latency.spread_ms}
    tie = at_limit(Point(point.architecture, now, spread), asked)
    verdict = "is within its spread of the limit" if tie else "does not hold"
    limit = quantity("latency_ms", asked.limits["latency_ms"])
    measured = quantity("latency_ms", latency.median_ms)
    return f"the file {verdict}: asked <= {limit}, measured {measured} ± {latency.spread_ms:.3f}"


def _in_int8(path: Path, network: nn.Module, task: Task, example: Any) -> str:
    """One line on the metric of the quantized file and of the network."""
    from paretonas.export.onnx_file import OnnxNetwork, session_of

    given = handed(network, example)
    with evaluating(network), torch.no_grad():
        runs = OnnxNetwork(session_of(path), call(network, given))
    column = task.metric.column
    integers, floats = (
        quantity(column, value_of(evaluate(each, task, "test"), task.metric))
        for each in (runs, network)
    )
    return f"test {task.metric.name} {integers} in int8, {floats} before"


def _inputs(task: Task, network: nn.Module, example: Any) -> str:
    """One line on how inputs are prepared."""
    told = getattr(task, "preprocessing", None)
    seen = preparation(task, network, example)["training_inputs"]
    alone = isinstance(seen.get("dtype"), str)  # not the name of an input
    if not alone:
        kinds = "; ".join(
            f"{name} {one['shape']}: {one['dtype']}{_range(one)}" for name, one in seen.items()
        )
    else:
        kinds = f"{'' if 'std' in seen else seen['dtype']}{_range(seen)}".strip()
    if told is None:
        return (
            "the space does not state how raw inputs are prepared; the network was trained on "
            f"inputs {kinds}"
        )
    layout = f", {told.layout}" if told.layout else ""
    kind = f"as {seen['dtype']}" if alone else kinds
    return f"inputs are {told.formula} {kind}{layout}; raw: {told.raw}"


def _range(seen: Mapping[str, Any]) -> str:
    text = " from {min:.4g} to {max:.4g}" if "min" in seen else ""
    text += ", mean {mean:.4g}, standard deviation {std:.4g}" if "std" in seen else ""
    return text.format_map(seen)


def _compare_latency(
    run: Run, point: Point, network: nn.Module, path: Path, format: str, example: Any
) -> Measurement | None:
    """Measure the written file, and print its latency beside that of the search."""
    quantized = format == "onnx-int8" and "int8_latency_ms" in point.objectives
    searched = point.objectives.get("int8_latency_ms" if quantized else "latency_ms")
    if format in ("json", "graphml") or searched is None:
        return None
    threads = int(run.settings.get("threads", 1))
    told = "onnxruntime" if quantized else point.reported.get("latency_backend", "torch")
    searched_by = str(told)
    given, device = Arguments.of(example), torch.device("cpu")
    if format == "safetensors":  # weights do not run; the network that they fit does
        backend = searched_by
        try:
            device = find_device(run.settings.get("device", "auto"))
            load = find_backend(searched_by, device, threads).loading(network, example)
        except (ValueError, ModuleNotFoundError) as error:
            print(f"the latency was not measured again: {error}")
            return None
    elif format == "torch":
        backend, program = "torch.export", _program(path)
        load = partial(_repeated, program, given)
    else:
        backend, runner = "onnxruntime", OnnxRuntime(device, threads)
        load = runner.opening(path, fed(session_of(path), example))
    (measured,) = measure_together([load], threads=threads, device=device)
    print(
        f"latency {quantity('latency_ms', measured.median_ms)} ± {measured.spread_ms:.3f} "
        f"({backend}, batch of 1, {device}, threads: {threads}); in the search "
        f"{quantity('latency_ms', searched)} ({searched_by}) on {run.about['device']}"
    )
    return measured


def _repeated(program: Callable[..., Any], given: Arguments) -> Call:
    return repeated(program, *given.args, **given.kwargs)


def _program(path: Path) -> Callable[..., Any]:
    # Through memory: by path torch insists on the suffix .pt2.
    program: Any = torch.export.load(io.BytesIO(path.read_bytes()))
    module: Callable[..., Any] = program.module()
    return module
