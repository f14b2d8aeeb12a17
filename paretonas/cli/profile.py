"""`paretonas profile`: a cost table of this machine, or of another one by a folder in between.

The folder may also have the networks of a front, which the other machine times.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paretonas.cli.display import console, device_table, progress_bar
from paretonas.cli.fallback import or_in_torch
from paretonas.cli.find import Consent
from paretonas.devices import find_device
from paretonas.forward import evaluating
from paretonas.front_on_device import FrontOnDevice, write_front
from paretonas.names import find_space, with_networks
from paretonas.nn import NetworkSpace, Supernet
from paretonas.objectives import CostTable, import_times, profile, profile_like, write_runner
from paretonas.objectives.calibration import Calibration
from paretonas.objectives.runner.folder import Runner
from paretonas.objectives.runner.room import ABOUT, content_of, has_front
from paretonas.objectives.transfer import NETWORKS
from paretonas.point import FAILING, Failure
from paretonas.runs import Run, check_writable


def write_costs(
    spec: str,
    device_name: str,
    threads: int,
    backend: str | None,
    out: Path | None,
    batch_size: int | None = None,
    size: str | None = None,
    like: Path | None = None,
    networks: int | None = None,
) -> None:
    """Measure, write, and say what was found."""
    if networks is not None and like is None:
        raise ValueError("--networks is for --like FILE, the table of another device")
    path = _free(out)
    device = find_device(device_name)
    space = find_space(spec)
    supernet = space.supernet()
    example = _example(space, supernet, batch_size, size)
    measure = partial(profile, cache=False)
    if like is not None:
        known = CostTable.read(like, supernet.choices)
        measure = partial(profile_like, known=known, networks=networks or NETWORKS)

    def measured(by: str | None) -> CostTable:
        with progress_bar(f"profile of {space.name}") as progress:
            return measure(
                supernet, example, device=device, threads=threads, backend=by, progress=progress
            )

    _write(or_in_torch(measured, backend), path, space)


def write_folder(spec: str, folder: Path, batch_size: int | None, size: str | None) -> None:
    """Write the networks that another machine times, and say what to do with them."""
    space = find_space(spec)
    supernet = space.supernet()
    example = _example(space, supernet, batch_size, size)
    with progress_bar(f"runner of {space.name}") as progress:
        count = write_runner(supernet, example, folder, name=spec, progress=progress)
    console().print(
        f"{space.name}: {count} networks in {folder}; copy it to the machine, run there: python3 "
        "measure.py; bring its times.json back into this folder, then: paretonas profile --space "
        f"{spec} --import {folder} --out phone.json",
        soft_wrap=True,
    )


def write_front_folder(folder: Path, run_folder: Path, consent: Consent) -> None:
    """Write the trained networks of a front for another machine, and say what to do with them."""
    run = Run.open(run_folder)
    space = with_networks(consent.space(run_folder, run.settings), "--space")
    count = write_front(run, space, folder)
    threads = run.settings.get("threads", 1)
    words = f" --threads {threads}" if threads != 1 else ""
    console().print(
        f"{space.name}: {count} trained network{'s' * (count != 1)} of the front of {run_folder} "
        f"in {folder}; copy it to the machine, run there: python3 measure.py{words}; bring its "
        f"times.json back into this folder, then: paretonas profile --import {folder}",
        soft_wrap=True,
    )


def import_folder(spec: str | None, folder: Path, out: Path | None) -> None:
    """Read what another machine has timed: the networks of a space, or those of a front."""
    if not has_front(content_of(folder / ABOUT)):
        import_costs(spec or "digits", folder, out)
    elif spec is not None:
        raise ValueError(f"{folder} has the networks of a front; leave out --space")
    else:
        import_front(folder, out)


def import_front(folder: Path, out: Path | None) -> None:
    """Show the front of a run as another machine has timed it, and write it down."""
    path = _free(out, folder / "measured.csv")
    found = FrontOnDevice.read(folder)
    found.write(path)
    screen, about = console(), found.about
    screen.print(device_table(found))
    counts = f"threads: {about['threads']}; ± holds a second measurement in 9 of 10 cases"
    screen.print(
        f"timed on {about['device']} (onnxruntime {about['onnxruntime']}, "
        f"{', '.join(about['providers'])}, {counts})",
        soft_wrap=True,
    )
    rank = found.rank_correlation
    ranked = "" if rank is None else f"rank correlation with the search {rank:.2f}; "
    screen.print(f"{ranked}the machine takes {found.factor:.2f} times as long (median)")
    gone = ", ".join(found.dominated)
    still = f"no longer on the front there: {gone}" if gone else "all are on the front there"
    screen.print(f"{still}; all of it is in {path}", soft_wrap=True)


def import_costs(spec: str, folder: Path, out: Path | None) -> None:
    """Make the table of another machine, and say what was found."""
    path = _free(out)
    space = find_space(spec)
    supernet = space.supernet()
    example = space.load_task().example()
    shape = Runner.read(folder, supernet.choices).input
    if isinstance(example, Tensor) and all(type(side) is int and side > 0 for side in shape):
        example = _shaped(example, shape)
    table = import_times(supernet, example, folder)
    _write(table, path, space)


def _free(out: Path | None, usual: Path = Path("costs.json")) -> Path:
    """The file to write; by default the usual one, if it is not there."""
    path = out or usual
    if out is None and os.path.lexists(path):
        raise ValueError(f"{path} exists; name another file, or this one, with --out FILE")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder")
    check_writable(path.absolute().parent)  # now, and not when all is measured
    return path


def _write(table: CostTable, path: Path, space: NetworkSpace) -> None:
    table.write(path)
    screen, about = console(), table.about
    costs = sum(slot.values.numel() for slot in table.slots)
    screen.print(f"{space.name}: {costs} costs in {path}", soft_wrap=True)
    where = f" on {about['device']}" if about.get("imported") else ""
    screen.print(
        f"latencies of {about['backend']}{where}: {Calibration.told(about)}", soft_wrap=True
    )


def _example(
    space: NetworkSpace, supernet: Supernet, batch_size: int | None, size: str | None
) -> Any:
    """The task's example, with another batch size or another size if they are given.

    Raises:
        ValueError: the example is not one tensor, the size is none, or the network does not take
            it.
    """
    example = space.load_task().example()
    if batch_size is None and size is None:
        return example
    if not isinstance(example, Tensor):
        raise ValueError(
            f"--batch-size and --input are for a task whose example is one tensor; that of "
            f"{space.name} has several: give profile(supernet, example) your own in Python"
        )
    shape = [batch_size or len(example), *example.shape[1:]]
    if size is not None:
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", size):
            raise ValueError(f"--input must read like 3x64x64, without the batch, got {size!r}")
        shape[1:] = map(int, size.split("x"))
        if len(shape) != example.ndim:
            own = "x".join(map(str, example.shape[1:]))
            raise ValueError(f"--input must have as many numbers as {own}, got {size}")
    shaped = _shaped(example, shape)
    architecture = supernet.extreme(largest=True)
    network = supernet.extract(architecture)
    try:
        with torch.no_grad(), evaluating(network):
            network(shaped)
    except FAILING as error:
        reason = Failure.of(architecture, error).reason
        raise ValueError(f"the network does not take inputs of {shape}: {reason}") from error
    return shaped


def _shaped(example: Tensor, shape: list[int]) -> Tensor:
    """The same numbers in another shape: repeated, or cut."""
    for dim, side in enumerate(shape[: example.ndim]):
        example = example.index_select(dim, torch.arange(side) % example.shape[dim])
    return example
