"""`paretonas profile`: a cost table measured on this machine and written to a file."""

from __future__ import annotations

import os
from pathlib import Path

from paretonas.cli.display import console
from paretonas.devices import default_backend, find_device
from paretonas.names import find_space
from paretonas.objectives import profile
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
    table = profile(
        supernet,
        space.load_task().example(),
        device=str(device),
        threads=threads,
        backend=backend or default_backend(device),
        cache=False,
    )
    table.write(path)
    screen.print(f"{space.name}: {len(table.slots)} costs in {path}", soft_wrap=True)
    screen.print(f"latencies of {table.about['backend']}: {Calibration.told(table.about)}")
