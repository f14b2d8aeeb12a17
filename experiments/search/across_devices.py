"""From the latency table of one device to that of another, by ten measured networks.

    python experiments/search/across_devices.py --data DIR
    python experiments/search/across_devices.py --show

DIR has the benchmark table `nb201.parquet`: the latencies of NAS-Bench-201 on eight devices. The
15,284 cells that are connected are used. Each device in turn is known, as a table of parts, and
each other one is new: ten cells are measured there, and the latencies of all others are predicted.
The table of parts has the costs that fit the device's latencies best, as a perfect profile would.

The method was developed on four of the devices. The other pairs were looked at once, at the end.
Seeds draw the 400 cells among which those to measure are chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from paretonas.objectives import CostTable, Slot, transferred
from paretonas.objectives.calibration import Timed, corrected
from paretonas.objectives.transfer import POOL, chosen
from paretonas.space import Architecture
from search_spaces.nas_bench_201 import choices

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
HERE = Path(__file__).parent
DEVELOPED_ON = ("1080ti_1", "gold_6240", "samsung_a50", "edgegpu")
OTHERS = ("1080ti_256", "2080ti_32", "silver_4114", "essential_ph_1")
COUNTED = ("nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "skip_connect")
EDGE = "edgegpu"
WANTED = 0.93  # rank correlation

FLOPS, KNOWN, LINE = "FLOPs", "the known table", "a line"
PICKS, COUNTS = "10 networks alone, picks", "10 networks alone, operations"
CHOSEN, SPREAD, RANDOM = "transferred", "transferred, spread", "transferred, random"
CEILING = "the new device's own table"
METHODS = (FLOPS, KNOWN, LINE, PICKS, COUNTS, CHOSEN, SPREAD, RANDOM, CEILING)


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        devices: that are known and new in turn.
        networks: measured on the new device.
        seeds: draws of the cells to choose from.
        csv: the file of the rows.
    """

    devices: Sequence[str] = (*DEVELOPED_ON, *OTHERS)
    networks: int = 10
    seeds: int = 5
    csv: Path = HERE / "across_devices.csv"


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Compare, write the rows down, and show them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder of nb201.parquet")
    parser.add_argument("--show", action="store_true", help="only show what the file holds")
    options = parser.parse_args(arguments)
    settings = settings or Settings()
    torch.set_num_threads(1)
    if not options.show:
        if options.data is None or not (options.data / "nb201.parquet").is_file():
            parser.error("--data must be a folder with nb201.parquet")
        frame = pd.read_parquet(options.data / "nb201.parquet")
        cells = Cells(frame[frame["connected"]].reset_index(drop=True))
        rows = [
            row
            for pair in permutations(settings.devices, 2)
            for row in compared(cells, *pair, settings)
        ]
        pd.DataFrame(rows).round(5).to_csv(settings.csv, index=False)
    print(shown(pd.read_csv(settings.csv)).to_string(index=False))


@dataclass(frozen=True, eq=False)
class Cells:
    """All cells, and what each takes on each device.

    Attributes:
        frame: the benchmark table.
    """

    frame: pd.DataFrame

    @cached_property
    def picks(self) -> Array:
        """(N, K) 1 where a cell has an option."""
        names = [(choice.name, option) for choice in choices for option in choice.options]
        columns = [self.frame[name].astype(str) == option for name, option in names]
        return np.stack(columns, axis=1).astype(float)

    @cached_property
    def _cells(self) -> list[Architecture]:
        names = [choice.name for choice in choices]
        picked = self.frame[names].astype(str).itertuples(index=False)
        return [Architecture(dict(zip(names, picks, strict=True))) for picks in picked]

    @cached_property
    def counts(self) -> Array:
        """(N, 4) how often each operation is in a cell."""
        options = [option for choice in choices for option in choice.options]
        columns = [self.picks[:, [o == one for o in options]].sum(axis=1) for one in COUNTED]
        return np.stack(columns, axis=1)

    def ms(self, device: str) -> Array:
        """(N,) the measured latencies."""
        return self.frame[f"latency_{device}_ms"].to_numpy(float)

    def cell(self, row: int) -> Architecture:
        """One architecture."""
        return self._cells[row]

    def table(self, device: str) -> CostTable:
        """The costs of parts that fit a device best; the cheapest option of each edge costs 0."""
        ms = self.ms(device)
        costs = np.linalg.lstsq(self.picks, ms, rcond=None)[0]
        by_edge = costs.reshape(len(choices), -1)
        costs = (by_edge - by_edge.min(axis=1, keepdims=True)).ravel()
        constant = float(np.mean(ms - self.picks @ costs))
        slots, begin = [Slot("constant", {}, torch.tensor(constant))], 0
        for choice in choices:
            groups = {choice.name: tuple((option,) for option in choice.options)}
            own = costs[begin : begin + len(choice.options)]
            slots.append(Slot(choice.name, groups, torch.from_numpy(own)))
            begin += len(own)
        return CostTable(choices, slots, unit="ms", about={"device": device})

    def totals(self, table: CostTable) -> Array:
        """(N,) what a table predicts."""
        return table.total(torch.from_numpy(self.picks)).numpy()


def compared(cells: Cells, known: str, new: str, settings: Settings) -> list[dict[str, Any]]:
    """The rows of a pair of devices: how well each method predicts the new one."""
    table, truth = cells.table(known), cells.ms(new)
    totals, rows = cells.totals(table), list[dict[str, Any]]()

    def row(method: str, seed: int, predicted: Array, measured: Sequence[int] = ()) -> None:
        others = np.setdiff1d(np.arange(len(truth)), measured)
        rows.append(
            {
                "known": known,
                "new": new,
                "method": method,
                "seed": seed,
                "rank_correlation": rank_correlation(predicted[others], truth[others]),
                "within_10_percent": np.mean(np.abs(predicted / truth - 1)[others] <= 0.1),
            }
        )

    row(FLOPS, 0, cells.frame["flops_M"].to_numpy(float))
    row(KNOWN, 0, totals)
    row(CEILING, 0, cells.totals(cells.table(new)))
    for seed in range(settings.seeds):
        pool = np.random.default_rng(seed).choice(len(truth), POOL, replace=False)
        for method, few in ways(cells, table, totals, pool, settings.networks).items():
            architectures, ms = [cells.cell(i) for i in few], truth[few]
            row(method, seed, cells.totals(transferred(table, architectures, ms)), few)
            if method == CHOSEN:
                line = corrected(table, Timed(architectures, ms, len(few)))
                row(LINE, seed, cells.totals(line), few)
                row(PICKS, seed, ridge(cells.picks, few, ms), few)
                row(COUNTS, seed, ridge(cells.counts, few, ms), few)
    return rows


def ways(
    cells: Cells, table: CostTable, totals: Array, pool: Rows, networks: int
) -> dict[str, Rows]:
    """The cells to measure, of a pool, as each method chooses them."""
    row_of = {cells.cell(i): i for i in pool}
    ranked = pool[np.argsort(totals[pool], kind="stable")]
    return {
        CHOSEN: np.array([row_of[a] for a in chosen(table, networks, [*row_of])]),
        SPREAD: ranked[np.linspace(0, len(ranked) - 1, networks).round().astype(int)],
        RANDOM: pool[:networks],
    }


def ridge(features: Array, few: Rows, ms: Array) -> Array:
    """(N,) ridge regression on the measured cells alone; its strength is by leave-one-out."""
    inputs = features[few] - features[few].mean(axis=0)
    rest, best = ms - ms.mean(), (np.inf, np.zeros(features.shape[1]))
    for strength in 10.0 ** np.arange(-3, 3):
        inverse = np.linalg.inv(inputs.T @ inputs + strength * np.eye(inputs.shape[1]))
        hat = inputs @ inverse @ inputs.T + 1 / len(few)
        errors = (rest - inputs @ (inverse @ (inputs.T @ rest))) / (1 - np.diag(hat))
        best = min(best, (float(errors @ errors), inverse @ (inputs.T @ rest)), key=lambda b: b[0])
    return ms.mean() + (features - features[few].mean(axis=0)) @ best[1]


def rank_correlation(one: Array, other: Array) -> float:
    """Spearman's."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each method: medians over pairs of devices, each the mean over seeds."""
    pairs = rows.groupby(["method", "known", "new"], as_index=False).mean(numeric_only=True)
    inside = pairs[["known", "new"]].isin(DEVELOPED_ON).all(axis=1)
    edge = pairs["new"] == EDGE
    groups = {
        "developed on": inside & ~edge,
        "others": ~inside & ~edge,
        "to the edge GPU": edge,
    }
    found: dict[str, dict[str, str]] = {}
    for method in METHODS:
        own = pairs["method"] == method
        cells = {}
        for name, group in groups.items():
            values = pairs[own & group]["rank_correlation"]
            cells[name] = f"{values.median():.3f} ({values.min():.2f} to {values.max():.2f})"
        values = pairs[own]["rank_correlation"]
        cells["mean"] = f"{values.mean():.3f}"
        cells[f"pairs >= {WANTED}"] = f"{(values >= WANTED).sum()} of {len(values)}"
        cells["within 10 %"] = f"{pairs[own]['within_10_percent'].median():.0%}"
        spread = rows[rows["method"] == method].groupby(["known", "new"])["rank_correlation"].std()
        cells["deviation over seeds"] = "" if spread.isna().all() else f"{spread.median():.3f}"
        found[method] = cells
    return pd.DataFrame(found).T.rename_axis("method").reset_index()


if __name__ == "__main__":
    main()
