"""The networks of a space that go to another machine, and their times that come back.

The networks are those that a table of nodes needs and some dozens more, which correct it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._json_file import check_format
from ...devices.onnx_session import NotInOnnxError, exported
from ...export.packages import check_onnx
from ...forward import seeded
from ...nn import Supernet
from ...space import Architecture, Choice, encode
from ..calibration import spread_over
from ..cost_table import CostTable
from ..node_times import covering_networks
from ..onnx_options import naming_options
from ..parts import hints, observer
from ..profile import Progress
from ..tabulate import cost_table
from ..timing_plan import TimingPlan, shapes
from .room import ABOUT, FORMAT, as_a_whole, content_of, has_front

OPERATION = 10_000  # multiply-accumulates that take about as long as starting an operation


def write_runner(
    supernet: Supernet,
    example: Any,
    folder: str | os.PathLike[str],
    *,
    name: str = "",
    progress: Progress | None = None,
) -> int:
    """Write a folder whose networks another machine times, by the script in it.

    The folder has at most 24 networks that together have every part with every pick, and 24 more.

    Args:
        supernet: the network with choices.
        example: the inputs of one forward pass, with the batch size for the measurement.
        folder: new, or empty; it is written as a whole, or not at all.
        name: of the space, for whoever reads the folder.
        progress: called with the number of architectures that were looked at, and 0; then with the
            number of networks that were written and of all.

    Returns:
        The number of networks.

    Raises:
        ValueError: the folder is not empty or cannot be written, or ONNX cannot hold a network.
        ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
    """
    check_onnx()
    place = Path(folder)
    tell = progress or (lambda done, total: None)
    with as_a_whole(place) as room:
        plan = TimingPlan(supernet, example, lambda looked: tell(looked, 0))
        covering = covering_networks(supernet, example, plan.in_networks())
        observe = observer(supernet, example)
        others = spread_over(guessed_table(supernet, example), supernet, example, covering)
        chosen = list(dict.fromkeys([*covering, *(observe(a).architecture for a in others)]))
        for index, architecture in enumerate(chosen):
            with _in_onnx(supernet, example), seeded(0, supernet):
                model, inputs = exported(supernet.extract(architecture), example)
            nodes = architecture in covering
            room.add(f"n{index:02d}", model, inputs, nodes, architecture=dict(architecture))
            tell(index + 1, len(chosen))
        choices = {choice.name: choice.options for choice in supernet.choices}
        room.describe(space=name, choices=choices, **plan.about())
    return len(chosen)


@contextmanager
def _in_onnx(supernet: Supernet, example: Any) -> Iterator[None]:
    """Where an export fails, the error names what is to blame, and no backend to take instead."""
    try:
        with naming_options(supernet, example):
            yield
    except NotInOnnxError as error:
        raise ValueError(
            f"a runner has ONNX files, and ONNX cannot hold {error.what}: {error.reason}"
        ) from error


def guessed_table(supernet: Supernet, example: Any) -> CostTable:
    """What parts may take, before anything is timed: their operations, and how large they are."""
    observe = observer(supernet, example)

    def costs(architecture: Architecture) -> dict[str, float]:
        parts = observe(architecture)
        return {
            part: parts.macs.get(part, 0) + OPERATION * len(run) for part, run in parts.runs.items()
        }

    return cost_table(supernet.choices, costs, unit="", hints=hints(supernet))


@dataclass(frozen=True)
class Network:
    """A network of a runner.

    Attributes:
        name: in the files.
        model: the content of its ONNX file.
        architecture: its picks.
        nodes: whether its nodes are timed as well.
    """

    name: str
    model: bytes
    architecture: Architecture
    nodes: bool


@dataclass(frozen=True)
class Runner:
    """A folder that `write_runner` has written.

    Attributes:
        folder: where it is.
        digest: of its ``networks.json``.
        input: the shapes of the inputs.
        operations: a digest of all operations of the space.
        networks: in their order.
    """

    folder: Path
    digest: str
    input: list[Any]
    operations: str
    networks: tuple[Network, ...]

    @classmethod
    def read(cls, folder: str | os.PathLike[str], choices: Sequence[Choice]) -> Runner:
        """Read a folder that was written for these choices.

        Raises:
            ValueError: it is no such folder, it is damaged, or it is of another space.
        """
        place = Path(folder)
        content = content_of(place / ABOUT)
        if has_front(content):
            raise ValueError(
                f"{place} has the networks of a front; a table needs those of a space, which "
                "write_runner writes"
            )
        try:
            about = json.loads(content.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place / ABOUT} is damaged: {error!s:.200}") from error
        check_format(place / ABOUT, about, FORMAT)
        try:
            found = {name: tuple(options) for name, options in about["choices"].items()}
            shapes, operations = list(about["input"]), str(about["operations"])
            listed = [
                (
                    str(each["name"]),
                    _file_name(each["file"]),
                    str(each["sha256"]),
                    bool(each["nodes"]),
                    dict(each["architecture"]),
                )
                for each in about["networks"]
            ]
            if not listed or len({name for name, *_ in listed}) < len(listed):
                raise ValueError("it must have networks, each with another name")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{place / ABOUT} is damaged: {error!s:.200}") from error
        if found != {choice.name: choice.options for choice in choices}:
            raise ValueError(
                f"{place} is of another space: it has the choices {', '.join(found)[:200]}, the "
                f"space has {', '.join(choice.name for choice in choices)[:200]}"
            )
        networks = []
        for name, file, digest, nodes, picks in listed:
            path = place / file
            model = content_of(path)
            if hashlib.sha256(model).hexdigest() != digest:
                raise ValueError(f"{path} is damaged, or another file than {ABOUT} tells")
            try:
                encode(choices, picks)
            except ValueError as error:  # the space has no such picks
                raise ValueError(f"{place / ABOUT} is damaged: {error!s:.200}") from error
            networks.append(Network(name, model, Architecture(picks), nodes))
        digest = hashlib.sha256(content).hexdigest()
        return cls(place, digest, shapes, operations, tuple(networks))

    def check(self, example: Any, operations: str) -> None:
        """Refuse what the networks of this folder were not written for.

        Raises:
            ValueError: the example has other shapes, or the space has other operations.
        """
        if shapes(example) != self.input:
            raise ValueError(
                f"{self.folder} was written for inputs of {self.input!s:.80}, got {shapes(example)}"
            )
        if operations != self.operations:
            raise ValueError(
                f"the space has other operations than the networks in {self.folder}: write a new "
                "runner, and time that"
            )


def _file_name(told: Any) -> str:
    """The name of a file in the folder, as ``networks.json`` tells it."""
    if not isinstance(told, str) or not re.fullmatch(r"[\w-]+\.onnx", told, re.ASCII):
        raise ValueError(f"a file must be named like n00.onnx, got {told!r:.80}")
    return told
