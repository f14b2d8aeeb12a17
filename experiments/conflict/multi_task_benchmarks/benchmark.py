"""The parts of a benchmark: tasks, a network, data on disk, and the published protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from metrics import Meter
from torch import Tensor, nn

Sample = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Task:
    """One thing to learn.

    Attributes:
        name: of the task.
        channels: that its head puts out.
        answers: what it needs of a batch's answers.
        loss: of outputs and answers, a scalar.
        meter: makes an empty meter.
        metrics: the names of what the meter says.
    """

    name: str
    channels: int
    answers: Callable[[Mapping[str, Tensor]], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    meter: Callable[[], Meter]
    metrics: tuple[str, ...]


class Split(Protocol):
    """The examples of one split.

    Attributes:
        size: height and width of its images.
    """

    size: tuple[int, int]

    def __len__(self) -> int: ...

    def sample(self, index: int, draws: torch.Generator | None) -> Sample:
        """An image and its answers, augmented by these draws if there are any."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark and its published protocol.

    Attributes:
        name: as on the command line.
        tasks: in the published order.
        network: makes the published network for some of the tasks.
        open: reads the splits below a root: "train", "test", and "valid" where there is one;
            raises ValueError with one line if they are not there.
        generate: writes small files of the same layout: root, images per split, (height, width).
        where: one line on where the data come from and how they lie.
        counts: images in the published splits.
        size: height and width that the published numbers are for.
        epochs: of training.
        batch: images per step, in testing too.
        rate: of Adam.
        halve_after: epochs after which the rate is halved, again and again; None never.
        counted: which epochs are reported: the mean over the last ten on the test split, or the
            one that is best on the valid split.
        solver_settings: of some solvers, where the papers name others than our defaults.
        published: what single-task networks reach, by metric, "TASK METRIC".
        look_every: steps between two looks at the angles of the gradients.
    """

    name: str
    tasks: tuple[Task, ...]
    network: Callable[[Sequence[Task]], nn.Module]
    open: Callable[[Path], dict[str, Split]]
    generate: Callable[[Path, Mapping[str, int], tuple[int, int]], None]
    where: str
    counts: Mapping[str, int]
    size: tuple[int, int]
    epochs: int
    batch: int
    rate: float
    halve_after: int | None
    counted: Literal["last ten", "best on valid"]
    solver_settings: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, float]
    look_every: int

    def metrics(self, tasks: Sequence[Task] | None = None) -> list[str]:
        """The names of all metrics, "TASK METRIC"."""
        chosen = self.tasks if tasks is None else tasks
        return [f"{task.name} {metric}" for task in chosen for metric in task.metrics]
