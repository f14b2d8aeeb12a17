"""Train every architecture of a small space, so that the quality of a search can be known.

    python experiments/search/ground_truth.py search_spaces.digits:small --seeds 2
    python experiments/search/ground_truth.py search_spaces.signals:space --seeds 2
    python experiments/search/ground_truth.py search_spaces.mobile:space --seeds 2 --sample 32

Writes `ground_truth/<space>.parquet` beside this file: one row per architecture with its picks,
validation and test error for each seed, seconds of training (one thread), latency by this machine's
cost table, peak memory and parameters. An interrupted run continues from a journal in `runs/`.
`--table-only` trains nothing and writes the table from the seeds that are complete in the journal.
`--sample` is for a space that is too large: the table has so many architectures, drawn uniformly,
and no latency, so that it can be made on a busy machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import torch

from paretonas.nn import NetworkSpace
from paretonas.objectives import DifferentiableObjective, Latency, Memory, Parameters
from paretonas.space import Architecture, draw, every, size
from paretonas.training import evaluate, train

HERE = Path(__file__).parent
RUNS = HERE.parents[1] / "runs"

Rows = dict[tuple[int, Architecture], dict[str, Any]]  # of the journal, by seed and architecture


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what the journal lacks, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", help="module:name")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sample", type=int, help="architectures; all of them without it")
    parser.add_argument("--table-only", action="store_true", help="train nothing")
    args = parser.parse_args(arguments)
    module, _, name = args.space.partition(":")
    space: NetworkSpace = getattr(importlib.import_module(module), name)
    torch.set_num_threads(1)

    journal = RUNS / f"ground_truth_{space.name}.jsonl"
    journal.parent.mkdir(exist_ok=True)
    rows = read(journal)
    architectures = [*every(space.choices)] if args.sample is None else sample(space, args.sample)
    if not args.table_only:
        complete(space, architectures, range(args.seeds), rows, journal)
    path = HERE / "ground_truth" / f"{space.name}.parquet"
    path.parent.mkdir(exist_ok=True)
    frame = table(space, architectures, rows)
    frame.to_parquet(path, index=False)
    print(f"{len(frame)} architectures -> {path}")


def read(journal: Path) -> Rows:
    """What was trained so far; nothing if there is no journal."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    found = [json.loads(line) for line in lines]
    return {(row["seed"], Architecture(row["picks"])): row for row in found}


def sample(space: NetworkSpace, count: int) -> list[Architecture]:
    """So many different architectures, drawn uniformly; always the same, and the first of more."""
    rng, found = Random(0), dict[Architecture, None]()
    while len(found) < min(count, size(space.choices)):
        found[draw(space.choices, rng)] = None
    return list(found)


def complete(
    space: NetworkSpace,
    architectures: Sequence[Architecture],
    seeds: Sequence[int],
    rows: Rows,
    journal: Path,
) -> None:
    """Train what is missing, each result appended to the journal at once."""
    task, supernet = space.load_task(), space.supernet()
    with journal.open("a") as file:
        for seed in seeds:
            for architecture in architectures:
                if (seed, architecture) in rows:
                    continue
                network = supernet.fresh(architecture, seed=seed)
                start = time.process_time()
                for _ in train(network, task, space.recipe, seed=seed):
                    pass
                seconds = time.process_time() - start
                valid, test = (evaluate(network, task, split) for split in ("valid", "test"))
                row = rows[seed, architecture] = {
                    "seed": seed,
                    "picks": dict(architecture),
                    "valid_error_percent": valid["error_percent"],
                    "valid_loss": valid["loss"],
                    "test_error_percent": test["error_percent"],
                    "train_seconds": seconds,
                }
                file.write(json.dumps(row) + "\n")
                file.flush()


def table(space: NetworkSpace, architectures: Sequence[Architecture], rows: Rows) -> pd.DataFrame:
    """One row per architecture, over the seeds that were trained for all of them.

    Raises:
        ValueError: no seed is complete.
    """
    supernet, example = space.supernet(), space.load_task().example()
    seeds = sorted({seed for seed, _ in rows})
    seeds = [seed for seed in seeds if all((seed, a) in rows for a in architectures)]
    if not seeds:
        raise ValueError("no seed was trained for every architecture: run without --table-only")
    costs: list[DifferentiableObjective] = [
        Memory.of(supernet, example),
        Parameters.of(supernet, example),
    ]
    if len(architectures) == size(space.choices):
        costs.insert(0, Latency.profile(supernet, example, backend="torch"))
    records = []
    for architecture in architectures:
        own = [rows[seed, architecture] for seed in seeds]
        record: dict[str, object] = dict(architecture)
        for seed, row in zip(seeds, own, strict=True):
            for column in ("valid_error_percent", "test_error_percent"):
                record[f"{column}_{seed}"] = row[column]
        record["train_seconds"] = sum(row["train_seconds"] for row in own) / len(own)
        record |= {cost.column: cost.exact(architecture) for cost in costs}
        records.append(record)
    return pd.DataFrame(records)


if __name__ == "__main__":
    main()
