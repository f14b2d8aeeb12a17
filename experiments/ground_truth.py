"""Train every architecture of a small space, so that the quality of a search can be known.

    python experiments/ground_truth.py search_spaces.digits:small --seeds 2
    python experiments/ground_truth.py search_spaces.signals:space --seeds 2

Writes `ground_truth/<space>.parquet` beside this file: one row per architecture with its picks,
validation and test error for each seed, seconds of training (one thread), latency by this machine's
cost table, peak memory and parameters. A journal in `runs/` lets an interrupted run go on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path

import torch

from paretonas.nn import NetworkSpace
from paretonas.space import Architecture, every
from paretonas.training import evaluate, reset, train

HERE = Path(__file__).parent


def main() -> None:
    """Train what the journal lacks, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    module, _, name = args.space.partition(":")
    space: NetworkSpace = getattr(importlib.import_module(module), name)
    torch.set_num_threads(1)

    journal = HERE.parent / "runs" / f"ground_truth_{space.name}.jsonl"
    journal.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    done = {(row["seed"], Architecture(row["picks"])) for row in rows}
    data, supernet = space.data(), space.supernet()
    with journal.open("a") as file:
        for seed in range(args.seeds):
            for architecture in every(space.choices):
                if (seed, architecture) in done:
                    continue
                network = supernet.extract(architecture)
                reset(network, seed=seed)
                start = time.process_time()
                for _ in train(network, data.train, space.recipe, seed=seed):
                    pass
                row = {
                    "seed": seed,
                    "picks": dict(architecture),
                    "valid_error_percent": evaluate(network, data.valid).error_percent,
                    "valid_loss": evaluate(network, data.valid).loss,
                    "test_error_percent": evaluate(network, data.test).error_percent,
                    "train_seconds": time.process_time() - start,
                }
                file.write(json.dumps(row) + "\n")
                file.flush()


if __name__ == "__main__":
    main()
