"""Measure a latency table with few networks, given the table of another device."""

from __future__ import annotations

from random import Random
from typing import Any

import torch

from ..devices.backend import find_backend
from ..devices.timer import measure_together
from ..forward import seeded
from ..nn import Supernet
from ..space import draw
from .cost_table import CostTable
from .onnx_options import naming_options
from .parts import observer
from .profile import Progress
from .timing_plan import shapes
from .transfer import FEWEST, NETWORKS, POOL, chosen, transferred

SECONDS = 3.0


def profile_like(
    supernet: Supernet,
    example: Any,
    known: CostTable,
    *,
    networks: int = NETWORKS,
    device: str | torch.device = "cpu",
    threads: int = 1,
    backend: str | None = None,
    progress: Progress | None = None,
) -> CostTable:
    """Measure a latency table: few whole networks correct the table of another device.

    This is quicker than `paretonas.objectives.profile`, where a network takes long, and rougher:
    see `paretonas.objectives.transfer`.

    Args:
        supernet: the network with choices.
        example: an input with the batch size for the measurement: a tensor, or any nest of tensors.
        known: the latency table of the other device, or of another backend, for the same input.
        networks: how many to time; at least 3.
        device: the device to measure on.
        threads: the number of CPU threads.
        backend: what runs the networks; see `paretonas.objectives.profile.profile`.
        progress: called with the number of finished steps and the number of all steps.

    Raises:
        ValueError: `known` is of another space or another input, there are fewer than 3 networks to
            time, there is no such device or backend, or ONNX cannot hold the network.
        ModuleNotFoundError: the package of the backend is missing.
    """
    ours, theirs = ({c.name: {*c.options} for c in one.choices} for one in (supernet, known))
    if ours != theirs:
        raise ValueError("the known table is of another space: it has other choices")
    shape, other = shapes(example), known.about.get("input")
    if other not in (None, shape):
        raise ValueError(
            f"the known table is of an input of shape {other}, and the space has {shape}; profile "
            "both with the same input"
        )
    runner = find_backend(backend, device, threads)
    rng, observe = Random(0), observer(supernet, example)
    drawn = {supernet.canonical(draw(supernet.choices, rng)): None for _ in range(POOL)}
    few = [*dict.fromkeys(observe(a).architecture for a in chosen(known, networks, [*drawn]))]
    if len(few) < FEWEST:
        raise ValueError(
            f"at least {FEWEST} different networks must be measured, got {len(few)}; a space that "
            "has fewer is measured without a known table"
        )
    # Networks may use random generators.
    with seeded(0, supernet), naming_options(supernet, example):
        times = measure_together(
            [runner.loading(supernet.extract(a), example) for a in few],
            threads=threads,
            device=runner.device,
            seconds=SECONDS,
            progress=lambda share: progress(round(100 * share), 100) if progress else None,
        )
    about = {**runner.about(), "input": shape, "parts": "like another device"}
    return transferred(known, few, [one.median_ms for one in times], about=about)
