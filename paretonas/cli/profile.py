"""`paretonas profile`: a cost table measured on this machine and written to a file."""

from __future__ import annotations

from pathlib import Path

from paretonas.cli.display import console
from paretonas.cli.find import find_space
from paretonas.devices import find_device
from paretonas.objectives import profile


def write_costs(spec: str, device_name: str, threads: int, path: Path) -> None:
    """Measure, write, and say what was found."""
    device = find_device(device_name)
    space = find_space(spec)
    supernet = space.supernet()
    out = console()
    table = profile(
        supernet, space.data().example, device=str(device), threads=threads, cache=False
    )
    table.write(path)
    out.print(f"{space.name}: {len(table.slots)} costs in {path}", soft_wrap=True)
