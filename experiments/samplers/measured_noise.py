"""How much of a benchmark's front is chance: NAS-Bench-201 on real devices.

    python experiments/samplers/measured_noise.py DIR/nb201.parquet     # half a minute

If no edge connects the two inner nodes of a cell, they can be exchanged. The mirror image runs the
same operations in another order, so the difference between the two measurements is chance. Cells of
one `class_id` compute the same function, but may also run dead operations, which take time. The
script prints

- for each device, the standard deviation of one measurement (from mirror images), and the
  difference between the fastest and the slowest, as a median over pairs of mirror images and over
  classes;
- on the edge GPU, how the front changes if mirror images, or classes, get their mean;
- there too, the probability that the points of the front are on it.
"""

from __future__ import annotations

import sys

import moocore
import numpy as np
import pandas as pd

from paretonas import Point, Table
from paretonas.noise import Measurements

CHOICES = ["op_0_1", "op_0_2", "op_1_2", "op_0_3", "op_1_3", "op_2_3"]
MIRRORED = ["op_0_2", "op_0_1", "op_1_2", "op_0_3", "op_2_3", "op_1_3"]
ERROR, EDGE = "cifar10_valid_error_200ep", "latency_edgegpu_ms"


def main(path: str) -> None:
    """Print all three."""
    connected = paired(pd.read_parquet(path))
    print(chance(connected).round(2).to_string(), end="\n\n")
    print(averaged(connected).round(4).to_string(), end="\n\n")
    print(sureness(connected).round(2).to_string())


def paired(frame: pd.DataFrame) -> pd.DataFrame:
    """The connected cells, with a column `pair` that a cell shares with its mirror image."""
    frame = frame.astype(dict.fromkeys(CHOICES, str))
    connected = frame[frame.connected].copy()
    cells = connected[CHOICES].agg(" ".join, axis=1)
    images = connected[MIRRORED].agg(" ".join, axis=1).where(connected.op_1_2 == "none", cells)
    connected["pair"] = np.minimum(cells, images)
    return connected


def chance(cells: pd.DataFrame) -> pd.DataFrame:
    """In percent, per measured column."""
    rows = {}
    for column in [
        name for name in cells if name.startswith(("latency", "energy")) or name == ERROR
    ]:
        logs = np.log(cells[column])
        groups = logs.groupby(cells.pair)
        pairs = groups.max()[groups.size() == 2] - groups.min()[groups.size() == 2]
        apart = cells.groupby("class_id")[column].agg(["size", "min", "max"])
        apart = (apart["max"] / apart["min"] - 1)[apart["size"] > 1]
        rows[column] = {
            "deviation": 100 * np.sqrt((pairs**2).mean() / 2),
            "deviation_robust": 100 * 1.4826 * pairs.median() / np.sqrt(2),
            "pairs_apart": 100 * np.expm1(pairs.median()),
            "pairs_apart_90": 100 * np.expm1(pairs.quantile(0.9)),
            "classes_apart": 100 * apart.median(),
            "classes_apart_90": 100 * apart.quantile(0.9),
        }
    return pd.DataFrame(rows).T


def averaged(cells: pd.DataFrame) -> pd.DataFrame:
    """What the front of single measurements is worth where identical cells share their mean."""
    once = Table.from_pandas(cells, CHOICES, [ERROR, EDGE])
    front = moocore.is_nondominated(once.costs)
    rows = {}
    for column in (None, "pair", "class_id"):
        table = Table.from_pandas(cells, CHOICES, [ERROR, EDGE], average=column)
        low, high = table.costs.min(0), table.costs.max(0)
        costs = (table.costs - low) / (high - low)
        best = moocore.is_nondominated(costs, keep_weakly=True)
        whole = moocore.hypervolume(costs, ref=[1, 1])
        groups = cells[column or "arch_index"].to_numpy()
        rows[column or "as measured"] = {
            "points": len(set(groups[best])),
            "of_the_measured_front": len(set(groups[front]) & set(groups[best])),
            "hypervolume": whole,
            "fraction_of_the_measured_front": moocore.hypervolume(costs[front], ref=[1, 1]) / whole,
        }
    return pd.DataFrame(rows).T


def sureness(cells: pd.DataFrame) -> pd.DataFrame:
    """How sure the front is at several spreads of the latency, the error taken as it is."""
    rows = {}
    for percent in (1, 2, 5, 10):
        spread = {EDGE: lambda point, share=percent / 100: share * point.objectives[EDGE]}
        measurements = Measurements([ERROR, EDGE], spread)
        for picks, error, latency in zip(
            cells[CHOICES].to_dict("records"), cells[ERROR], cells[EDGE], strict=True
        ):
            measurements.add(Point(picks, {ERROR: error, EDGE: latency}))
        points = measurements.points(draws=1000)
        sure = np.array([point.reported["probability_on_front"] for point in points])
        front = moocore.is_nondominated(cells[[ERROR, EDGE]].to_numpy())
        rows[f"{percent} %"] = {
            "points": front.sum(),
            "mean_probability": sure[front].mean(),
            "above_0.9": (sure[front] > 0.9).sum(),
            "below_0.5": (sure[front] < 0.5).sum(),
            "others_above_0.1": (sure[~front] > 0.1).sum(),
        }
    return pd.DataFrame(rows).T


if __name__ == "__main__":
    main(sys.argv[1])
