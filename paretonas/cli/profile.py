"""`paretonas profile`: a cost table measured on this machine and written to a file."""

from __future__ import annotations

import os
from pathlib import Path

from paretonas.cli.display import console
from paretonas.cli.fallback import or_in_torch
from paretonas.devices import find_device
from paretonas.names import find_space
from paretonas.objectives import CostTable, profile
from paretonas.objectives.calibration import Calibration


def write_costs(
    spec: str, device_name: str, threads: int, backend: str | None, out: Path | None
) -> None:
    """Measure, write, and say what was found."""
    path = out or Path("costs.json")
    if out is None and os.path.lexists(path):
        raise ValueError(f"{path} exists; name another file, or this one, with --out FILE")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder")
    device = find_device(device_name)
    space = find_space(spec)
    supernet = space.supernet()
    screen = console()
    example = space.load_task().example()

    def measured(by: str | None) -> CostTable:
        return profile(supernet, example, device=device, threads=threads, backend=by, cache=False)

    table = or_in_torch(measured, backend)
    table.write(path)
    costs = sum(slot.values.numel() for slot in table.slots)
    screen.print(f"{space.name}: {costs} costs in {path}", soft_wrap=True)
    screen.print(f"latencies of {table.about['backend']}: {Calibration.told(table.about)}")
