"""Shared by the experiments of this folder: command line, rows, processes, names and styles."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np
import pandas as pd
import torch

from paretonas.solvers import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    GradNorm,
    InverseMagnitude,
    LinearScalarization,
    NashMTL,
    PCGrad,
    RandomWeights,
    Solver,
    UncertaintyWeighting,
    UPGrad,
)

matplotlib.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
PAGES = DOCS / "where-conflict-appears"

Row = dict[str, object]
Settings = TypeVar("Settings")
Make = Callable[[torch.Generator], Solver]

PLAIN, TUNED = "plain sum", "tuned weights"
SOLVERS: dict[str, Make] = {
    PLAIN: lambda generator: LinearScalarization(),
    "RandomWeights": lambda generator: RandomWeights(generator),
    "UncertaintyWeighting": lambda generator: UncertaintyWeighting(),
    "GradNorm": lambda generator: GradNorm(),
    "InverseMagnitude": lambda generator: InverseMagnitude(),
    "UPGrad": lambda generator: UPGrad(),
    "PCGrad": lambda generator: PCGrad(),
    "CAGrad": lambda generator: CAGrad(),
    "MGDA": lambda generator: MGDA(),
    "AlignedMTL": lambda generator: AlignedMTL(),
    "IMTLG": lambda generator: IMTLG(),
    "NashMTL": lambda generator: NashMTL(),
}

BLUE, SKY, GREEN = "#0072b2", "#56b4e9", "#009e73"
ORANGE, YELLOW, PINK, GRAY = "#d55e00", "#e69f00", "#cc79a7", "#777777"


@dataclass(frozen=True)
class Trainings:
    """Settings that most experiments share; each adds its own, and changes these if it must.

    Attributes:
        rates: learning rates to choose from.
        seeds: how many.
        batch: examples per step.
    """

    rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    seeds: int = 5
    batch: int = 100


def read_command(
    about: str,
    arguments: Sequence[str] | None,
    settings: Settings,
    quick: Mapping[str, object],
) -> tuple[Settings, bool]:
    """Settings as the command line wants them, and whether to show what was written.

    Args:
        about: the script's docstring.
        arguments: of the command line; None takes those of the process.
        settings: of the whole experiment. Where they have `processes`, `--jobs` sets them.
        quick: what `--quick` changes, beside writing no files.
    """
    parser = ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few seeds, few steps, no files")
    parser.add_argument("--show", action="store_true", help="train nothing, read what was written")
    if hasattr(settings, "processes"):
        parser.add_argument("--jobs", type=int, help="processes that train side by side")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if chosen.quick:
        files = {name: None for name, value in vars(settings).items() if isinstance(value, Path)}
        settings = replace(settings, **quick, **files)
    if getattr(chosen, "jobs", None) is not None:
        settings = replace(settings, processes=chosen.jobs)
    return settings, chosen.show and not chosen.quick


def written(
    show: bool, measure: Callable[[], Sequence[pd.DataFrame]], *files: Path | None, digits: str = ""
) -> Sequence[pd.DataFrame]:
    """Tables of rows as their files have them: measured and written first, unless only shown.

    Args:
        show: read the files, measure nothing.
        measure: returns a table for each file.
        files: csv; a None is not written.
        digits: format of numbers in the files, such as "%.6g"; else all digits.
    """
    if show:
        return [pd.read_csv(file) for file in files]
    tables = list(measure())
    for k, file in enumerate(files):
        if file is not None:
            tables[k].to_csv(file, index=False, float_format=digits or None)
            tables[k] = pd.read_csv(file)  # what is said is what was written, digit by digit
    return tables


@contextmanager
def side_by_side(processes: int) -> Iterator[Callable[..., Iterable]]:
    """A `map` over so many processes; over this one alone if it is one."""
    if processes == 1:
        yield map
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            yield pool.map


def weighted(ratio: float) -> Make:
    """Fixed weights of two tasks in this ratio, second to first."""
    return lambda _: LinearScalarization(torch.tensor([1.0, ratio]) / (1 + ratio))


def best_of(rates: Sequence[float], errors: Sequence[Sequence[float]]) -> float:
    """The rate with the smallest errors, (rates, tasks), each relative to the task's smallest."""
    relative = np.array(errors) / np.min(errors, axis=0)
    return rates[int(relative.mean(axis=1).argmin())]


def delta_m(
    rows: pd.DataFrame, alone: pd.DataFrame, keys: list[str], errors: list[str]
) -> pd.Series:
    """How much larger errors are than without sharing, in percent, in the mean over tasks.

    Args:
        rows: a training each, (k,).
        alone: rows of networks that share nothing, whose mean over seeds is the measure.
        keys: columns in which a row and its measure agree.
        errors: columns of errors.
    """
    measure = alone.groupby(keys)[errors].mean()
    own = rows[keys].merge(measure, how="left", left_on=keys, right_index=True)[errors]
    return 100 * (rows[errors] / own.to_numpy() - 1).mean(axis=1)


def spread(values: pd.Series, digits: int = 1) -> str:
    """Median, with least and greatest."""
    low, middle, high = (values.quantile(q) for q in (0.0, 0.5, 1.0))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def save(figure: plt.Figure, target: Path, salt: str = "paretonas") -> None:
    """Write a figure without its upper and right frames: the same bytes from the same rows.

    Args:
        figure: it is closed.
        target: an SVG.
        salt: of the identifiers in the file; they change with it.
    """
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with plt.rc_context({"svg.hashsalt": salt}):
        figure.savefig(target, metadata={"Date": None})
    plt.close(figure)
