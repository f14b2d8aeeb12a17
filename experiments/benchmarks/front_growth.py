"""How the seconds of an insertion in a front grow with its points, compared with moocore.

A front of n points that do not dominate each other gets new points, one after the other: a third of
them lie between the others, a third are dominated, and a third dominate a few. The times of an
insertion are compared:

- `Front.add`, with all that it checks of a point;
- for two objectives a sorted list of bare pairs: a search by halving, and the removal of what is
  dominated. This is what an update costs in theory;
- `moocore.is_nondominated` of all points and the new one, in an array that is ready.

All must agree on every point.

    .venv/bin/python experiments/benchmarks/front_growth.py          # all, two minutes
    .venv/bin/python experiments/benchmarks/front_growth.py --quick  # up to 3,000 points, seconds
"""

from __future__ import annotations

import argparse
import statistics
import time
from bisect import bisect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from paretonas.front import Front
from paretonas.point import Point

HERE = Path(__file__).parent
NEWS = 3000  # points that are inserted one after the other
RECOMPUTED = 60  # of them also with moocore, which takes long
Rows = NDArray[np.float64]


def on_a_sphere(count: int, m: int, rng: np.random.Generator) -> Rows:
    """(count, m) rows of length 1 and no negative entry: none dominates another."""
    rows = np.abs(rng.normal(size=(count, m)))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class BarePairs:
    """Pairs in a sorted list, without a check."""

    def __init__(self, pairs: Rows) -> None:
        self._pairs = sorted(map(tuple, pairs.tolist()))

    def add(self, pair: tuple[float, float]) -> bool:
        """Whether the pair is not dominated."""
        pairs = self._pairs
        start = end = bisect(pairs, pair)
        if start and pairs[start - 1][1] <= pair[1]:
            return False
        while end < len(pairs) and pairs[end][1] >= pair[1]:
            end += 1
        pairs[start:end] = [pair]
        return True


def seconds_of(call: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds of a call, and its result."""
    begun = time.perf_counter()
    found = call()
    return time.perf_counter() - begun, found


def micros(calls: Sequence[tuple[float, object]]) -> float:
    """Microseconds of an insertion: the mean over the kinds of new points, of each the median."""
    seconds = [second for second, _ in calls]
    return 1e6 * statistics.mean(statistics.median(seconds[kind::3]) for kind in range(3))


def measure(n: int, m: int) -> dict[str, float]:
    """Insert new points in a front of n points."""
    rng = np.random.default_rng(0)
    held, new = on_a_sphere(n, m, rng), on_a_sphere(NEWS, m, rng)
    apart = n ** (-1 / (m - 1))  # so that a few points are dominated
    new *= np.resize([1.0, 1 + 2 * apart, 1 - apart], NEWS)[:, None]
    names = [f"cost_{number}" for number in range(m)]
    points = [
        Point({"op": f"{number}"}, dict(zip(names, row, strict=True)), id=f"p{number}")
        for number, row in enumerate([*held.tolist(), *new.tolist()])
    ]
    front = Front(names)
    assert all(map(front.add, points[:n]))
    ours = [seconds_of(partial(front.add, point)) for point in points[n:]]
    rows, theirs = held, []
    for row in new[:RECOMPUTED]:
        rows = np.vstack([rows, row])
        theirs.append(seconds_of(partial(moocore.is_nondominated, rows, keep_weakly=False)))
        rows = rows[theirs[-1][1]]
    entered = [bool(kept[-1]) for _, kept in theirs]
    assert [came for _, came in ours[:RECOMPUTED]] == entered
    kept = moocore.is_nondominated(np.vstack([held, new]), keep_weakly=False)
    assert {point.id for point in front} == {points[number].id for number in np.flatnonzero(kept)}
    found = {"objectives": m, "points": n, "add_us": micros(ours), "moocore_us": micros(theirs)}
    found["of_moocore"] = found["add_us"] / found["moocore_us"]
    if m == 2:
        bare = BarePairs(held)
        theory = [seconds_of(partial(bare.add, tuple(row))) for row in new.tolist()]
        assert [came for _, came in theory] == [came for _, came in ours]
        found["bare_us"] = micros(theory)
        found["of_bare"] = found["add_us"] / found["bare_us"]
    return {name: float(f"{value:.3g}") for name, value in found.items()}


def main() -> None:
    """Measure each size, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    sizes = [1000, 3000] if quick else [1000, 3000, 10_000, 30_000, 100_000]
    rows = []
    for m in (2, 3, 4):
        for n in sizes:
            rows.append(measure(n, m))
            print(" ".join(f"{name}={value:g}" for name, value in rows[-1].items()), flush=True)
    if not quick:
        pd.DataFrame(rows).to_csv(HERE / "front_growth.csv", index=False)


if __name__ == "__main__":
    main()
