"""Does a learning rate that decreases in conflict help? Losses at the end, with and without it.

It trains the three tasks of docs/conflict.md (which digit, how much ink, the image from a code of 8
numbers) with UPGrad and SGD with momentum. It prints the table of that page.

    .venv/bin/python experiments/conflict/conflict_aware_rate.py
"""

from __future__ import annotations

import argparse
import statistics

import torch
from sklearn.datasets import load_digits
from torch import nn

import paretonas
from paretonas.conflict import Recorded, Recorder
from paretonas.schedules import ConflictAwareLR
from paretonas.solvers import UPGrad

SETTINGS: dict[str, dict[str, float] | None] = {
    "constant": None,
    "default": {},
    "threshold 1": {"threshold": 1.0, "shrink": 0.9, "grow": 1.02, "smallest": 0.1},
}


def train(settings: dict[str, float] | None, rate: float, steps: int, seed: int) -> list[float]:
    """Mean losses over all images after training."""
    torch.manual_seed(seed)
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    encoder = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)
    )
    classify, weigh, redraw = nn.Linear(8, 10), nn.Linear(8, 1), nn.Linear(8, 64)
    network = nn.ModuleList([encoder, classify, weigh, redraw])

    def losses(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        code = encoder(x)
        return [
            nn.functional.cross_entropy(classify(code), y),
            (weigh(code).squeeze(1) - x.sum(1) / 10).square().mean(),
            (redraw(code) - x).square().mean(),
        ]

    recorder = Recorder(("class", "ink", "image"))
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
    schedule = None if settings is None else ConflictAwareLR(optimizer, **settings)
    for _ in range(steps):
        batch = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        paretonas.backward(
            losses(images[batch], labels[batch]),
            encoder.parameters(),
            solver=Recorded(UPGrad(), recorder),
        )
        optimizer.step()
        if schedule is not None:
            schedule.step(cosines=recorder.latest())
    with torch.no_grad():
        return [loss.item() for loss in losses(images, labels)]


def main() -> None:
    """Print the medians over seeds, and the span."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    print("| rate | schedule | class | ink | image |\n|---|---|---|---|---|")
    for rate in (0.1, 0.2):
        for name, settings in SETTINGS.items():
            runs = [train(settings, rate, arguments.steps, s) for s in range(arguments.seeds)]
            cells = [
                f"{statistics.median(column):.3f} ({min(column):.3f} to {max(column):.3f})"
                for column in zip(*runs, strict=True)
            ]
            print(f"| {rate} | {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
