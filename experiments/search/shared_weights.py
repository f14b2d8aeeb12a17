"""How the paths of an update of the supernet's weights change what inherited scores are worth.

    python experiments/search/shared_weights.py
    python experiments/search/shared_weights.py --show

Needs the tables of `ground_truth.py`. Each way to choose paths gets the same number of paths in
all: passes of a batch, forward and backward, each of which counts as a step. So a way with four
paths in an update makes a quarter of the updates. Then all architectures of the table are scored
with inherited weights on the validation split. The loss and the error are each compared with the
truth:

- by Spearman's rank correlation, over all architectures, over the better half and over the best
  quarter by the truth. Bad architectures are easy to tell from good ones, so the first number alone
  says little about the front;
- by the regret of a front: finalists are chosen by the score and the true costs, as `truth.spread`
  does, and the front of their true values is compared with that of the whole table.

Each row of `shared_weights.csv` is one score of one supernet. A run that was stopped goes on: rows
that the file has are not computed again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from truth import SPACES, Array, Truth, spread

from paretonas.gradient_search.paths import Paths
from paretonas.gradient_search.weights import WeightTraining, inherited_scores
from paretonas.objectives.calibration import rank_correlation
from search_spaces import mobile

HERE = Path(__file__).parent
FINALISTS = (4, 12)
SCORES = {"loss": "loss", "error": "error_percent"}  # as a task calls them
UNTRAINED = "untrained"
DRAWS = 1000  # of random finalists
PARTS = {"all": 1.0, "better_half": 0.5, "best_quarter": 0.25}
COLUMNS = {  # of the tables: of which column, and with how many digits
    "all": ("all", 2),
    "better half": ("better_half", 2),
    "best quarter": ("best_quarter", 2),
    **{f"regret, {n} finalists": (f"regret_{n}", 1) for n in FINALISTS},
    "CPU seconds": ("seconds", 2),
}
KEYS = ["space", "steps", "paths", "seed"]


@dataclass(frozen=True)
class Job:
    """Supernets of a space.

    Attributes:
        space: of `truth.SPACES`, or mobile.
        steps: paths in all.
        ways: to choose them, as `Paths.parse` reads them; or untrained, which is one step.
    """

    space: str
    steps: int
    ways: tuple[str, ...]


MAIN = ("fair", "fair:4", "sandwich:2", "distill:2")
MORE = ("fair:2", "sandwich", "distill")


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        jobs: in this order, each with all seeds.
        seeds: how many.
        csv: the file of the rows.
    """

    jobs: tuple[Job, ...] = (
        Job("signals", 1000, MAIN),
        Job("digits_small", 1000, MAIN),
        *(Job(space, 1, (UNTRAINED,)) for space in (*SPACES, "mobile")),
        Job("mobile", 500, MAIN),
        Job("signals", 4000, MAIN),
        Job("digits_small", 4000, MAIN),
        Job("signals", 1000, MORE),
        Job("digits_small", 1000, MORE),
        Job("mobile", 2000, MAIN),
    )
    seeds: int = 3
    csv: Path = HERE / "shared_weights.csv"


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Train and score what the table lacks, and show what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", action="store_true", help="Only show what the table holds.")
    options = parser.parse_args(arguments)
    settings = settings or Settings()
    torch.set_num_threads(1)
    if not options.show:
        for job in settings.jobs:
            for seed in range(settings.seeds):
                run(job, seed, settings.csv)
    print(tables(pd.read_csv(settings.csv)))


def run(job: Job, seed: int, csv: Path) -> None:
    """One seed of a job; the rows of each supernet are written as soon as it was scored."""
    done = {*pd.read_csv(csv)[KEYS].itertuples(index=False, name=None)} if csv.exists() else set()
    for way in job.ways:
        keys = (job.space, job.steps, way, seed)
        if keys in done:
            continue
        about = dict(zip(KEYS, keys, strict=True))
        truth = truth_of(job.space)
        seconds, scores = trained(truth, job.steps, way, seed)
        rows = [
            {**about, "score": name, "cpu_seconds": seconds, **worth(truth, values)}
            for name, values in scores.items()
        ]
        frame = pd.DataFrame(rows).round(5)
        frame.to_csv(csv, mode="a", header=not csv.exists(), index=False)
        print(frame.to_string(header=False, index=False), flush=True)


@cache
def truth_of(space: str) -> Truth:
    """The table of a space. That of mobile is a sample, and its cost is the parameters."""
    return Truth(mobile.space, ["parameters"]) if space == "mobile" else Truth(SPACES[space])


def trained(truth: Truth, steps: int, way: str, seed: int) -> tuple[float, Mapping[str, Array]]:
    """CPU seconds of the training of a supernet, and what it scores all architectures."""
    task, supernet = truth.space.load_task(), truth.space.supernet(seed)
    paths = Paths() if way == UNTRAINED else Paths.parse(way)
    training = WeightTraining(
        supernet, task, truth.space.recipe, steps=steps, seed=seed, paths=paths
    )
    start = time.process_time()
    for _ in training.run():
        pass
    seconds = time.process_time() - start
    found = [inherited_scores(supernet, task, each) for each in truth.architectures]
    return seconds, {
        name: np.array([each[column] for each in found]) for name, column in SCORES.items()
    }


def worth(truth: Truth, scores: Array) -> dict[str, float]:
    """What scores are worth that should rank architectures as their true errors do."""
    row = {}
    for name, share in PARTS.items():
        good = np.flatnonzero(truth.errors <= np.quantile(truth.errors, share))
        row[name] = rank_correlation(scores[good], truth.errors[good])
    points = np.column_stack([scores, truth.costs])
    return row | {f"regret_{n}": truth.regret(spread(points, n)) for n in FINALISTS}


def references(space: str) -> pd.DataFrame:
    """What needs no supernet: one training, the number of parameters, chance, the best there is."""
    truth, rng = truth_of(space), np.random.default_rng(0)

    def regrets(choose: Callable[[int], Sequence[int]]) -> dict[str, float]:
        return {f"regret_{n}": truth.regret(choose(n)) for n in FINALISTS}

    def chance(count: int) -> list[int]:
        return [*map(int, rng.choice(len(truth.errors), count, replace=False))]

    rows = {
        "*one training*": [worth(truth, truth.seen(seed)) for seed in range(truth.seeds)],
        "*number of parameters*": [worth(truth, -truth.parameters)],
        "*random finalists*": [regrets(chance) for _ in range(DRAWS)],
        "*the best finalists*": [regrets(truth.best)],
    }
    return pd.DataFrame(
        [
            {"paths": name, "seed": seed, **row}
            for name, own in rows.items()
            for seed, row in enumerate(own)
        ]
    )


def tables(frame: pd.DataFrame) -> str:
    """A Markdown table for each score: medians over seeds, with ranges.

    Seconds are a multiple of those of fair paths with the same space, steps and seed.
    """
    fair = frame[frame["paths"] == "fair"].set_index(["space", "steps", "seed", "score"])
    fair = frame.join(fair["cpu_seconds"].rename("fair"), on=fair.index.names)["fair"]
    frame = frame.assign(seconds=frame["cpu_seconds"] / fair)
    text = []
    for score, scored in frame.groupby("score", sort=False):
        lines = [
            f"By inherited {score}:\n",
            "| space, paths in all | paths of an update | " + " | ".join(COLUMNS) + " | rows |",
            "|" + "---|" * (len(COLUMNS) + 3),
        ]
        for space, rows in scored.groupby("space"):
            groups = [
                (f"`{space}`, {steps}", own)
                for steps, own in rows[rows["paths"] != UNTRAINED].groupby("steps")
            ]
            rest = rows[rows["paths"] == UNTRAINED]
            if not text:  # once is enough: they are the same for every score
                rest = pd.concat([rest, references(str(space))])
            for title, own in [*groups, (f"`{space}`, none", rest)]:
                for way, seeds in own.groupby("paths", sort=False):
                    cells = [cell(seeds, column, digits) for column, digits in COLUMNS.values()]
                    lines.append(f"| {title} | {way} | {' | '.join(cells)} | {len(seeds)} |")
                    title = ""
        text.append("\n".join(lines))
    return "\n\n".join(text)


def cell(rows: pd.DataFrame, column: str, digits: int) -> str:
    """The median with the range; of random finalists, with the middle nine of ten draws."""
    values = rows.get(column, pd.Series(dtype=float)).dropna()
    if values.empty:
        return ""
    values = 100 * values if column.startswith("regret") else values
    tail = 0.05 if len(values) == DRAWS else 0.0
    low, middle, high = (f"{values.quantile(q):.{digits}f}" for q in (tail, 0.5, 1 - tail))
    return middle if low == high else f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
