"""A search with a target against one with a constraint alone: how good is the best feasible?

    python experiments/search/targets.py          # about fifteen minutes on one core
    python experiments/search/targets.py --show   # the written rows

Needs the tables of `ground_truth.py`. The space is `digits_small`, where every architecture was
trained. For limits on the latency that are spread over the front, each search has the same weights,
proxy evaluations and finalists. Counted are the regret of its best feasible finalist, in percentage
points of the true error against the best feasible architecture that there is, and the share of the
finalists whose latency is between 90 % of the limit and the limit. Writes `targets.csv`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from truth import SPACES, TableTrainer, Truth, nondominated

from paretonas.gradient_search.plan import Plan
from paretonas.gradient_search.search import search

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        space: a name of `truth.SPACES`.
        limits: how many, spread over the latencies of the front.
        seeds: how many.
        supernet_steps: weight steps.
        proxy_evaluations: with inherited weights.
        finalists: of each search.
        csv: the folder for the rows.
    """

    space: str = "digits_small"
    limits: int = 6
    seeds: int = 3
    supernet_steps: int = 300
    proxy_evaluations: int = 60
    finalists: int = 8
    csv: Path = HERE


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Run both kinds of search at all limits, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", action="store_true", help="print the written rows")
    chosen, settings = parser.parse_args(arguments), settings or Settings()
    torch.set_num_threads(1)
    file = settings.csv / "targets.csv"
    if not chosen.show:
        truth = Truth(SPACES[settings.space])
        rows = []
        for seed in range(settings.seeds):
            for limit in limits(truth, settings.limits):
                for way in ("constraint", "target"):
                    rows.append(run(truth, way, limit, seed, settings))
                    print(rows[-1], flush=True)
        pd.DataFrame(rows).round(5).to_csv(file, index=False)
    groups = pd.read_csv(file).groupby("way")[["regret", "near"]]
    print(groups.describe(percentiles=[0.25, 0.5, 0.75]).T.round(3).to_string())


def limits(truth: Truth, count: int) -> np.ndarray:
    """Latencies between the ends of the front of error and latency, even in logarithms."""
    points = np.column_stack([truth.errors, truth.costs[:, 0]])
    ends = np.log(points[nondominated(points), 1])
    places = (np.arange(count) + 0.5) / count
    return np.exp(ends.min() + places * np.ptp(ends))


def run(
    truth: Truth, way: str, limit: float, seed: int, settings: Settings
) -> dict[str, object]:  # fmt: skip
    """One search: the regret of its best feasible finalist, and how many are near the limit."""
    trainer = TableTrainer(truth)
    plan = Plan(
        settings.supernet_steps,
        settings.proxy_evaluations,
        settings.finalists,
        truth.space.recipe,
    )
    asked = {way: f"latency<={limit}" if way == "constraint" else f"latency={limit}"}
    for _ in search(
        truth.space,
        objectives=truth.objectives(),
        budget=plan,
        seed=seed,
        trainer=trainer,
        **asked,
    ):
        pass
    latency = truth.costs[:, 0]
    found = np.array(trainer.rows)
    best = found[truth.seen(seed)[found].argmin()]  # as the search sees it
    near = (latency[found] >= 0.9 * limit).mean()
    known = truth.errors[latency <= limit].min()
    return {
        "way": way,
        "limit": limit,
        "seed": seed,
        "regret": truth.errors[best] - known,
        "near": near,
    }


if __name__ == "__main__":
    main()
