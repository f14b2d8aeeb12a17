"""Which channels should a smaller width keep? The error of sub-networks without any training.

    python experiments/search/channel_importance.py --speech free-spoken-digit-dataset/recordings
    python experiments/search/channel_importance.py --show

A trained network is converted with each order of channels. Then the sub-networks of equal widths,
and some drawn at random, are scored on the validation split; only their batch norms get new
statistics. *reversed* keeps the least important channels, and *random* is the mean of three random
orders. A row of `channel_importance.csv` is the mean error of the sub-networks of one kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import pandas as pd
import torch
from small_networks import NETWORKS
from spoken_digits import image_data
from torch import Tensor, nn

from paretonas.data import Data
from paretonas.nn import Supernet, convert
from paretonas.nn.importance import Importance, Taylor, batch_norm_scale, magnitude
from paretonas.space import Architecture, draw
from paretonas.tasks import Classification
from paretonas.training import Recipe, evaluate, recalibrate, train

HERE = Path(__file__).parent
RANDOM = 3  # orders
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
KEYS = ["data", "network", "seed"]


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        seeds: how many.
        epochs: of the trained networks, by data.
        drawn: how many random sub-networks.
        csv: the file of the errors.
    """

    seeds: Sequence[int] = range(2)
    epochs: tuple[tuple[str, int], ...] = (("mnist_5k", 12), ("spoken_digits", 18))
    drawn: int = 8
    csv: Path = HERE / "channel_importance.csv"


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Score all that the table lacks, and show it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speech", type=Path, help="the folder with the recordings")
    parser.add_argument("--show", action="store_true", help="only show what the table holds")
    options = parser.parse_args(arguments)
    settings = settings or Settings()
    torch.set_num_threads(1)
    if not options.show:
        data = image_data(options.speech)
        for seed in settings.seeds:
            for name, own in data.items():
                for network in NETWORKS:
                    run(name, own, network, seed, settings)
    print(summary(pd.read_csv(settings.csv)).to_string())


def run(name: str, data: Data, network: str, seed: int, settings: Settings) -> None:
    """All orders of one trained network."""
    about = dict(zip(KEYS, (name, network, seed), strict=True))
    if settings.csv.exists():
        known = pd.read_csv(settings.csv)
        if (known[KEYS] == pd.Series(about)).all(axis=1).any():
            return
    torch.manual_seed(seed)
    trained = NETWORKS[network]()
    recipe = Recipe(epochs=dict(settings.epochs)[name], channels_last=True)
    for _ in train(trained, data, recipe, seed=seed):
        pass
    rows = [
        {**about, "importance": order, "kind": kind, "error_percent": round(error, 3)}
        for order, importance in orders(data).items()
        for kind, error in scores(trained, importance, data, seed, settings.drawn).items()
    ]
    frame = pd.DataFrame(rows)
    print(frame.to_string(index=False), flush=True)
    frame.to_csv(settings.csv, mode="a", header=not settings.csv.exists(), index=False)


def orders(data: Data) -> dict[str, Importance]:
    """The ways to order channels, by name."""
    inputs, labels = data.train.inputs[:512], data.train.labels[:512]

    def loss(network: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(network(inputs), labels)

    return {
        "magnitude": magnitude,
        "magnitude, with biases": with_biases,
        "batch-norm scale": batch_norm_scale,
        "Taylor": Taylor(loss),
        "magnitude, reversed": backwards,
        **{f"random {number}": partial(by_chance, number) for number in range(RANDOM)},
    }


def with_biases(network: nn.Module) -> Mapping[str, Tensor]:
    """The square of each parameter, those of norms too."""
    return {name: tensor.detach() ** 2 for name, tensor in network.named_parameters()}


def by_chance(seed: int, network: nn.Module) -> Mapping[str, Tensor]:
    """Any channel may matter most."""
    chance = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(tensor.shape[0], generator=chance)
        .reshape(-1, *[1] * (tensor.ndim - 1))
        .expand_as(tensor)
        for name, tensor in network.named_parameters()
    }


def backwards(network: nn.Module) -> Mapping[str, Tensor]:
    """The smallest weights matter most."""
    return {name: 1 / (score + 1e-6) for name, score in magnitude(network).items()}


def scores(
    trained: nn.Module, importance: Importance, data: Data, seed: int, drawn: int
) -> dict[str, float]:
    """The validation error of sub-networks, by kind."""
    supernet = Supernet(
        convert(trained, data.example, widths=FRACTIONS, depth=True, importance=importance)
    )
    task, rng = Classification.of(data), Random(seed)
    full = supernet.extreme(largest=True)

    def error(architecture: Mapping[str, str]) -> float:
        network = supernet.extract(architecture)
        recalibrate(network, task, seed=seed)
        return evaluate(network, task, "valid")["error_percent"]

    found = {}
    for place, fraction in enumerate(FRACTIONS[:-1]):
        widths = {
            choice.name: choice.options[place]
            for choice in supernet.choices
            if len(choice.options) == len(FRACTIONS)
        }
        found[f"width {fraction:g}"] = error(Architecture({**full, **widths}))
    random = [error(draw(supernet.choices, rng)) for _ in range(drawn)]
    found["random"] = sum(random) / len(random)
    return found


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, in percent."""
    rows = rows.assign(importance=rows["importance"].str.replace(r" \d+$", "", regex=True))
    means = rows.groupby(["data", "network", "importance", "kind"], sort=False)["error_percent"]
    return means.mean().round(1).unstack("kind")


if __name__ == "__main__":
    main()
