"""The latency on a device that is not here: from its table alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..constraint import on_device
from ..nn import NetworkSpace
from .cost_table import CostTable
from .table_objective import TableObjective
from .timing_plan import shapes

HERE = ("cpu", "cuda")  # the devices of this machine, which a search measures itself
_START = "latency@"
_TAKEN = ("backend", "spread", "table")  # latency_spread_ms is the spread of latency_ms


@dataclass(frozen=True)
class TableLatency(TableObjective):
    """Milliseconds on another device, as a latency table predicts them.

    Nothing is measured: the value of a trained network is that of the table, too. The table's
    `about` tells how well it predicts networks.

    >>> table = CostTable([], [], unit="ms")
    >>> TableLatency(table, "latency_phone").column
    'latency_phone_ms'

    Attributes:
        table: the milliseconds of each part.
        name: of the objective; `read` takes it from the name of the file.

    Raises:
        ValueError: the table is not in milliseconds, or a value is negative, or the name is none
            for a column.
    """

    name: str = "latency"
    unit: str = "ms"

    def __post_init__(self) -> None:
        _check(self.table, "")
        if not self.name.isidentifier():
            raise ValueError(f"the name must be letters, digits and _, got {self.name!r}")

    @classmethod
    def read(cls, path: str | os.PathLike[str], space: NetworkSpace) -> TableLatency:
        """Read the table of a device, as ``paretonas profile`` writes it.

        Args:
            path: of the file; ``phone.json`` becomes the objective ``latency_phone``.
            space: of networks, whose table it is.

        Raises:
            ValueError: the file is no table of latencies of this space, or for inputs of another
                size.
        """
        name = on_device(f"{_START}{path}")
        word = name.partition("_")[2]
        if not word or word in _TAKEN:
            raise ValueError(
                f"the file {path} must have the name of a device, such as phone.json: its "
                f"objective would be called {name}_ms"
            )
        return cls(read_table(path, space), name)


def read_table(path: str | os.PathLike[str], space: NetworkSpace) -> CostTable:
    """Read a table of latencies of a space.

    Raises:
        ValueError: the file is no table of latencies of this space, or for inputs of another size.
    """
    table = CostTable.read(path, space.supernet().choices)
    _check(table, f"{path}: ")
    given, own = table.about.get("input"), shapes(space.load_task().example())
    if given is not None and _of_one(given) != _of_one(own):
        raise ValueError(
            f"the cost table {path} is for inputs of {given!s:.80}, and the task of {space.name} "
            f"has inputs of {own}: only the batch size, the first number, may differ"
        )
    return table


def _check(table: CostTable, where: str) -> None:
    """Refuse a table that is not in milliseconds, or with a negative one."""
    if table.unit != "ms":
        raise ValueError(f"{where}a table of latencies must be in 'ms', got {table.unit!r:.80}")
    for slot in table.slots:
        if bool((slot.values < 0).any()):
            raise ValueError(
                f"{where}a latency is never negative, got {float(slot.values.min())} in slot "
                f"{slot.name!r:.80}"
            )


def is_on_device(spec: str) -> bool:
    """Whether a name is that of the latency on a device, such as ``latency@phone``."""
    return spec.startswith(_START)


def device_here(spec: str) -> str | None:
    """The device of this machine whose latency a name means, such as ``latency@cpu``."""
    device = spec.removeprefix(_START)
    return device if is_on_device(spec) and device in HERE else None


def find_table_latency(spec: str, space: NetworkSpace, folder: Path) -> TableLatency:
    """The objective that ``latency@phone`` names: that of the table ``phone.json``.

    Args:
        spec: ``latency@`` and the path of a table, with or without ``.json``.
        space: of networks.
        folder: where the table is looked for.

    Raises:
        ValueError: there is no such file, or it is no table of latencies of this space.
    """
    path = table_file(spec, folder)
    if path is not None:
        return TableLatency.read(path, space)
    told = spec.removeprefix(_START)
    file = told if told.endswith(".json") else f"{told}.json"
    raise ValueError(
        f"there is no table {file:.200} in {folder} for {spec:.200}: it is the path of a table "
        f"that paretonas profile has written, or {' or '.join(_START + here for here in HERE)}"
    )


def table_file(spec: str, folder: Path) -> Path | None:
    """The file of the table that ``latency@phone`` names; None if there is none."""
    told = spec.removeprefix(_START)
    for path in (folder / f"{told}.json", folder / told):
        with suppress(OSError):  # the name may be too long
            if told and is_on_device(spec) and path.is_file():
                return path
    return None


def kept(spec: str, folder: Path) -> str:
    """The name of the same objective by the table that a folder keeps, if it has it.

    Args:
        spec: any name of an objective.
        folder: of a run or a comparison.
    """
    path = kept_table(on_device(spec), folder)
    return f"{_START}{path.absolute()}" if is_on_device(spec) and path.is_file() else spec


def kept_table(name: str, folder: Path) -> Path:
    """Where a run or a comparison keeps the table of an objective, such as ``latency_phone``."""
    return folder / "tables" / f"{name.removeprefix('latency_')}.json"


def _of_one(input: Any) -> Any:
    """The shapes of the inputs without the batch size; what is no shape stays."""
    if not isinstance(input, Sequence) or isinstance(input, str) or not input:
        return input
    if all(isinstance(shape, list) for shape in input):
        return [shape[1:] for shape in input]
    return list(input[1:])
