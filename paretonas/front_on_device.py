"""The front of a run on another machine: its trained networks are timed there.

`write_front` writes a folder that goes to the machine; `FrontOnDevice` reads what comes back.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from paretonas._front_file import FrontTable, write_table
from paretonas.arguments import moved
from paretonas.constraint import split_unit
from paretonas.devices.onnx_session import NotInOnnxError, exported
from paretonas.direction import turned
from paretonas.dominance import spread_column
from paretonas.export.packages import check_onnx
from paretonas.front import Front
from paretonas.nn import NetworkSpace
from paretonas.objectives.calibration import rank_correlation
from paretonas.objectives.runner.room import (
    ABOUT,
    FORMAT,
    as_a_whole,
    check_free,
    content_of,
    file_of,
    has_front,
)
from paretonas.objectives.runner.times import Written, spread_of
from paretonas.point import Point
from paretonas.runs import Run
from paretonas.space import encode

__all__ = ["FrontOnDevice", "write_front"]

FRONT = "front.json"  # in the folder: the front as the search has found it


def write_front(run: Run, space: NetworkSpace, folder: str | os.PathLike[str]) -> int:
    """Write a folder in which another machine times the trained networks of a run's front.

    The script in it is that of `paretonas.objectives.write_runner`. The run does not change.

    Args:
        run: has the front, and the weights of its points.
        space: that was searched.
        folder: new, or empty; it is written as a whole, or not at all. If the front has several
            latencies, its name tells which one is that of the machine: the latency in the folder
            ``phone`` is ``latency_phone_ms``.

    Returns:
        The number of networks.

    Raises:
        ValueError: the folder is not empty or cannot be written, the front has no points or no
            latency, or several and none is that of the folder, the run is of another space, or ONNX
            cannot hold a network.
        ModuleNotFoundError: a package for ONNX is missing; the message has the pip line.
    """
    check_onnx()
    place = Path(folder)
    check_free(place)
    front = run.front()
    column = _latency(front, run, place)
    for point in front:
        try:
            encode(space.choices, point.architecture)
        except ValueError as error:
            raise ValueError(
                f"{run.folder} is of another space than {space.name!r}: {error}"
            ) from error
    example = moved(space.load_task().example(), "cpu")
    with as_a_whole(place) as room:
        for point in front:
            try:
                model, inputs = exported(run.network(space, point), example)
            except NotInOnnxError as error:
                raise ValueError(
                    f"a runner has ONNX files, and ONNX cannot hold the network of {point.id}: "
                    f"{error.reason}"
                ) from error
            room.add(point.id, model, inputs, nodes=False)
        front.write(room.folder / FRONT)
        room.describe(space=space.name, column=column, front=file_of(room.folder / FRONT))
    return len(front)


@dataclass(frozen=True)
class FrontOnDevice:
    """The points of a front, with the latency that was measured on another machine.

    Attributes:
        searched: the front as the search has found it.
        column: of the latency that was measured again, such as ``latency_ms``.
        about: of the machine: ``device``, ``platform``, ``python``, ``onnxruntime``, ``providers``
            and ``threads``.
        points: those of the front, in its order. Their latency and its spread are those of the
            machine; what they were in the search is reported, as ``searched_latency_ms``.
    """

    searched: Front
    column: str
    about: Mapping[str, Any]
    points: tuple[Point, ...]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> FrontOnDevice:
        """Read a folder that `write_front` has written, with the ``times.json`` of its script.

        A latency is the median over blocks. Its spread comes from the differences between them, and
        from 1.5 % that another process changes.

        Raises:
            ValueError: it is no such folder, it is damaged, or it has no ``times.json`` of its own.
        """
        place = Path(folder)
        content = content_of(place / ABOUT)
        if not has_front(content):
            raise ValueError(f"{place} has no front: write_front writes such a folder")
        column, digest, names = _described(place, content)
        if hashlib.sha256(content_of(place / FRONT)).hexdigest() != digest:
            raise ValueError(f"{place / FRONT} is damaged, or another file than {ABOUT} tells")
        front = Front.read(place / FRONT)
        same = bool(names) and names == [point.id for point in front]
        if column not in front.objectives or not same:
            raise ValueError(f"{place / ABOUT} is damaged: it is not of the points of {FRONT}")
        written = Written.read(place, hashlib.sha256(content).hexdigest(), names, ())
        points = tuple(
            _measured(place, point, column, written.seconds[point.id]) for point in front
        )
        return cls(front, column, written.about, points)

    @cached_property
    def front(self) -> Front:
        """The points that no other dominates on the machine."""
        found = Front(self.searched.objectives, self.searched.maximize)
        for point in self.points:
            found.add(point)
        return found

    @cached_property
    def dominated(self) -> Mapping[str, tuple[Point, float]]:
        """The points that are no longer on the front, by id.

        For each a point that dominates it, and the probability that it does: that with the highest.
        """
        return {
            point.id: max(
                (
                    (other, self.front.probability_of_dominance(other, point))
                    for other in self.front
                    if self._covers(other, point)
                ),
                key=lambda pair: pair[1],
            )
            for point in self.points
            if point.id not in self.front
        }

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's rank correlation of latencies in the search and on the machine.

        It is None if there is nothing to rank.
        """
        found = rank_correlation(self._values(self.searched), self._values(self.points))
        return None if math.isnan(found) else found

    @property
    def factor(self) -> float:
        """How many times as long the machine takes as the search told: the median over points.

        It is nan if the search told no latency above 0.
        """
        pairs = zip(self._values(self.points), self._values(self.searched), strict=True)
        return float(np.median([own / before for own, before in pairs if before > 0] or [np.nan]))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each point; ``dominated_by`` is empty for what is still on the front.

        Args:
            path: ends in ``.csv``, ``.json`` or ``.parquet``.

        Raises:
            ValueError: it ends in something else.
        """
        rows = [
            {"id": point.id, **point.architecture, **point.objectives, **point.reported}
            | ({"dominated_by": by[0].id} if (by := self.dominated.get(point.id)) else {})
            for point in self.points
        ]
        choices = tuple(self.points[0].architecture)
        table = FrontTable(choices, self.front.objectives, tuple(rows), self.front.maximize)
        write_table(Path(path), table)

    def _covers(self, one: Point, other: Point) -> bool:
        """Whether a point is at least as good in each objective."""
        return all(
            turned(one.objectives[name] - other.objectives[name], name in self.front.maximize) <= 0
            for name in self.front.objectives
        )

    def _values(self, points: Sequence[Point] | Front) -> np.ndarray:
        return np.array([point.objectives[self.column] for point in points])


def _latency(front: Front, run: Run, folder: Path) -> str:
    """The column of the latency that the machine of a folder measures again."""
    if not len(front):
        raise ValueError(f"the front of {run.folder} has no points")
    found = [name for name in front.objectives if _is_latency(name)]
    if not found:
        raise ValueError(
            f"the front of {run.folder} has no latency to compare with; it has "
            f"{', '.join(front.objectives)}"
        )
    own = f"latency_{folder.name}_ms"
    if own in found or len(found) == 1:
        return own if own in found else found[0]
    known = [name for name in found if name != "latency_ms"]
    raise ValueError(
        f"the front of {run.folder} has {', '.join(found)}; name the folder so that it tells which "
        f"one is that of the machine: {split_unit(known[0])[0].removeprefix('latency_')} for "
        f"{known[0]}"
    )


def _is_latency(column: str) -> bool:
    stem, unit = split_unit(column)
    return unit == "ms" and (stem == "latency" or stem.startswith("latency_"))


def _described(folder: Path, content: bytes) -> tuple[str, str, list[str]]:
    """The column, the digest of the front, and the names of the networks, as a list tells them."""
    try:
        about = json.loads(content.decode("utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"format must be {FORMAT}, got {about['format']!r:.80}")
        names = [str(each["name"]) for each in about["networks"]]
        return str(about["column"]), str(about["front"]["sha256"]), names
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / ABOUT} is damaged: {error!s:.200}") from error


def _measured(folder: Path, point: Point, column: str, blocks: Sequence[float]) -> Point:
    """A point with the latency of a machine, from its median seconds in each block."""
    if len(blocks) < 2:
        raise ValueError(
            f"{folder} has {len(blocks)} block of times of {point.id}; a spread needs two or more"
        )
    ms, spread = 1e3 * float(np.median(blocks)), spread_column(column)
    known = {**point.objectives, **point.reported}
    before = {f"searched_{name}": known[name] for name in (column, spread) if name in known}
    return point.with_values({**before, column: ms, spread: spread_of(blocks) * ms})
