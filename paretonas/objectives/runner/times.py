"""The times that another machine has written, and the latency table that they make."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..._json_file import check_format
from ...devices.onnx_session import NodeTimes
from ...devices.timer import BETWEEN_PROCESSES, how_far
from ...export.packages import check_onnx
from ...nn import Supernet
from ...space import Architecture
from ..calibration import Timed
from ..cost_table import CostTable
from ..node_times import InNetwork, times_of_places, undisturbed
from ..profile import best_corrected
from ..timing_plan import TimingPlan
from .folder import Network, Runner, guessed_table
from .room import FORMAT, TIMES

DEVICE = ("device", "platform", "python", "onnxruntime")  # texts
LONGEST = 1e5  # seconds; nothing takes longer


def import_times(supernet: Supernet, example: Any, folder: str | os.PathLike[str]) -> CostTable:
    """A latency table of the machine that has timed the networks of a folder.

    It is made as `paretonas.objectives.profile` makes one on this machine: from the nodes of whole
    networks, corrected by networks that were timed as a whole. Its `about` names the device and has
    ``parts``: ``nodes``, or ``guessed`` if the nodes do not tell their module or predict badly;
    then whole networks correct a guess by the size of the operations.

    Args:
        supernet: the network with choices.
        example: the inputs of one forward pass, as the folder was written with.
        folder: that `write_runner` has written, with the ``times.json`` that its script wrote.

    Raises:
        ValueError: the folder or ``times.json`` is damaged, or of another space or other inputs.
        ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
    """
    check_onnx()
    runner = Runner.read(folder, supernet.choices)
    times = Times.read(runner)
    plan = TimingPlan(supernet, example)
    runner.check(example, str(plan.about()["operations"]))
    about = {"backend": "onnxruntime", **times.about, **plan.about(), "imported": True}

    def guessed() -> CostTable:
        table = guessed_table(supernet, example)
        told = {**about, "parts": "guessed"}
        return CostTable(supernet.choices, table.slots, unit="ms", about=told)

    places = times_of_places(supernet, example, times.nodes)
    table = plan.table_of_nodes(places, about) if places else guessed()
    return best_corrected(table, times.networks.of_all(supernet, example), guessed)


@dataclass(frozen=True)
class Times:
    """What a ``times.json`` tells.

    Attributes:
        about: the device, the version of ONNX Runtime, the providers and the threads.
        nodes: of the networks whose nodes were timed.
        networks: that were timed as a whole.
    """

    about: Mapping[str, Any]
    nodes: Mapping[Architecture, InNetwork]
    networks: Timed

    @classmethod
    def read(cls, runner: Runner) -> Times:
        """Read the times of a folder's networks.

        Raises:
            ValueError: the file is not there, is damaged, or is of other networks.
        """
        written = Written.read(
            runner.folder,
            runner.digest,
            [each.name for each in runner.networks],
            [each.name for each in runner.networks if each.nodes],
        )
        # First those that say how well a table predicts others.
        order = sorted(runner.networks, key=lambda each: each.nodes)
        fresh = sum(not each.nodes for each in order)
        return cls(
            written.about,
            {
                each.architecture: _in_network(written.found, each, written.nodes[each.name])
                for each in runner.networks
                if each.nodes
            },
            Timed(
                [each.architecture for each in order],
                np.array([1e3 * float(np.median(written.seconds[each.name])) for each in order]),
                fresh or len(order),
                spread=float(np.median([spread_of(written.seconds[each.name]) for each in order])),
            ),
        )


@dataclass(frozen=True)
class Written:
    """What the script has written about the networks of a folder.

    Attributes:
        found: the file, for more checks.
        about: the device, the version of ONNX Runtime, the providers and the threads.
        nodes: what is told of the nodes of networks, by name; not looked at.
        seconds: of each network as a whole, its median in each block.
    """

    found: _Found
    about: Mapping[str, Any]
    nodes: Mapping[str, Any]
    seconds: Mapping[str, Sequence[float]]

    @classmethod
    def read(
        cls, folder: Path, digest: str, names: Sequence[str], with_nodes: Sequence[str]
    ) -> Written:
        """Read the ``times.json`` of a folder.

        Args:
            folder: of a runner.
            digest: of its list of networks.
            names: of the networks.
            with_nodes: of those whose nodes are timed as well.

        Raises:
            ValueError: the file is not there, is damaged, or is of other networks.
        """
        path = folder / TIMES
        try:
            content = json.loads(path.read_bytes().decode("utf-8"))
        except OSError as error:
            raise ValueError(
                f"cannot read {path}: {error.strerror}; run measure.py on the machine, and bring "
                "its times.json here"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a whole JSON file: {error}") from error
        found = _Found(path, content)
        found.at("format")
        check_format(path, content, FORMAT)
        if found.at("networks") != digest:
            raise ValueError(f"{path} has the times of another runner than {folder}")
        about: dict[str, Any] = {name: found.text(name) for name in DEVICE}
        threads, providers = found.at("threads"), found.at("providers")
        found.demand(type(threads) is int and threads > 0, "threads must be a positive number")
        found.demand(
            isinstance(providers, list) and all(isinstance(p, str) for p in providers),
            "providers must be a list of names",
        )
        about |= {"threads": threads, "providers": providers}
        whole = found.mapping("seconds", names)
        nodes = found.mapping("nodes", with_nodes)
        seconds = {name: found.seconds(own, f"seconds of {name}") for name, own in whole.items()}
        return cls(found, about, nodes, seconds)


def spread_of(seconds: Sequence[float]) -> float:
    """How far a second measurement may be, as a share."""
    blocks = how_far(seconds) / float(np.mean(seconds)) if len(seconds) > 1 else 0.0
    return math.hypot(blocks, BETWEEN_PROCESSES)


def _in_network(found: _Found, network: Network, told: Any) -> InNetwork:
    """The nodes of a network, from the events that ONNX Runtime has written down."""
    what = f"nodes of {network.name}"
    found.demand(isinstance(told, dict), f"{what} must be a mapping")
    names, events = told.get("names"), told.get("events")
    found.demand(
        isinstance(names, list)
        and all(_is(pair, 2) and all(isinstance(word, str) for word in pair) for pair in names),
        f"{what} have no names",
    )
    found.demand(
        isinstance(events, list)
        and all(
            _is(event, 3)
            and all(type(number) is int and 0 <= number < 2**53 for number in event)
            and event[0] < len(names)
            for event in events
        ),
        f"{what} have no events, or one that is no three counts",
    )
    whole = found.seconds(told.get("seconds"), f"seconds beside the {what}")
    written = [
        {
            "name": names[index][0],
            "cat": "Session" if names[index][0] == "model_run" else "Node",
            "args": {"op_name": names[index][1]},
            "ts": begin,
            "dur": spent,
        }
        for index, begin, spent in events
    ]
    runs = sum(event["name"] == "model_run" for event in written)
    found.demand(runs == len(whole), f"{what} have {runs} runs, and {len(whole)} beside them")
    times = NodeTimes.of(written, network.model)
    if not times.seconds:  # the provider does not tell its nodes
        return InNetwork([], float(np.median(whole)))
    return InNetwork(*undisturbed(times, whole, np.ones(len(whole)), 1.0))


class _Found:
    """What a file holds, which may be anything.

    Args:
        path: of the file, for messages.
        content: what is in it.
    """

    def __init__(self, path: Path, content: Any) -> None:
        self._path = path
        self.demand(isinstance(content, dict), "it must hold a mapping")
        self._content = content

    def demand(self, fine: bool, rule: str) -> None:
        """Refuse the file if something is not fine."""
        if not fine:
            raise ValueError(f"{self._path} is damaged: {rule}")

    def at(self, name: str) -> Any:
        """What is under a name."""
        self.demand(name in self._content, f"it has no {name}")
        return self._content[name]

    def text(self, name: str) -> str:
        """The text under a name."""
        value = self.at(name)
        self.demand(isinstance(value, str) and value.isprintable(), f"{name} must be a text")
        return str(value)

    def mapping(self, name: str, keys: Sequence[str]) -> dict[str, Any]:
        """The mapping under a name, which has these keys and no others."""
        value = self.at(name)
        self.demand(isinstance(value, dict), f"{name} must be a mapping")
        for key in sorted({*keys} ^ {*value}):
            self.demand(key in value, f"{name} has no network {key}")
            self.demand(key in keys, f"{name} has the network {key!r:.40}, which nobody asked for")
        return dict(value)

    def seconds(self, value: Any, what: str) -> list[float]:
        """Some seconds: finite and positive."""
        self.demand(isinstance(value, list) and len(value) > 0, f"{what} must be a list of numbers")
        for one in value:
            self.demand(
                type(one) in (int, float) and 0 < one < LONGEST,
                f"{what} must be finite and positive, got {one!r:.40}",
            )
        return [float(one) for one in value]


def _is(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length
