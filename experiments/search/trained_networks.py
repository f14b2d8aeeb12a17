"""The front from a trained network: what is faster at which error?

    python experiments/search/trained_networks.py --speech free-spoken-digit-dataset/recordings
    python experiments/search/trained_networks.py --speech ... --time
    python experiments/search/trained_networks.py --show

Two networks (`small_networks.py`) are trained on MNIST-5k and on spoken digits
(`spoken_digits.py`). From each trained network, with equal steps in all:

- **search**: the network is converted, and searched for error and measured latency. 30 % of the
  steps train the shared weights, the rest fine-tunes the finalists;
- **pruning**: global magnitude pruning of groups of coupled channels (torch-pruning, Fang et al.
  2023, arXiv 2301.12900) at several ratios, each fine-tuned;
- **random**: architectures of the converted network drawn at random, each fine-tuned.

Without the trained network, and so with its steps as well:

- **uniform width**: the same network with all its channels scaled, trained from scratch;
- **from scratch**: the architectures that the search found, trained from scratch.

All use the same recipe. At the end of a run all networks are timed in turn in the same process,
batch size 1, one thread; `--time` builds them again and times them once more, for a machine that
was busy. A row of `trained_networks.csv` is a network. Runs that the file has are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from small_networks import NETWORKS
from spoken_digits import image_data
from torch import nn

from paretonas import NetworkSpace, search
from paretonas.data import Data
from paretonas.devices.timer import loading, measure_together
from paretonas.finalists import Finalist, train_finalists
from paretonas.gradient_search.plan import Plan, proxy_evaluations_for
from paretonas.nn import Converted
from paretonas.space import draw, size
from paretonas.training import Recipe, evaluate, train
from paretonas.training.fine_tuning import BATCHES

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator

HERE = Path(__file__).parent
RECALIBRATION = -(-BATCHES // 3)  # in steps: a step is a forward pass and a backward pass of twice
KEYS = ["data", "network", "seed"]
COLUMNS = (
    *(*KEYS, "method", "about", "steps", "parameters"),
    *("latency_ms", "original_ms", "valid_error", "test_error", "cpu_seconds"),
)
ORIGINAL, OURS = "trained network", "search"
METHODS = (OURS, "pruning", "random", "uniform width", "from scratch")


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        seeds: how many.
        training: epochs of the trained network, by data.
        tuning: epochs of a finalist, by data.
        steps: of each method from the trained network.
        ratios: of channels that pruning removes.
        random: how many architectures are drawn.
        widths: of the networks with uniform width.
        seconds: for timing all networks of a run.
        csv: the file of the networks.
        figure: the file of the figure.
    """

    seeds: Sequence[int] = range(3)
    training: tuple[tuple[str, int], ...] = (("mnist_5k", 12), ("spoken_digits", 18))
    tuning: tuple[tuple[str, int], ...] = (("mnist_5k", 3), ("spoken_digits", 5))
    steps: int = 1800
    ratios: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    random: int = 8
    widths: tuple[float, ...] = (0.25, 0.375, 0.5, 0.625, 0.75)
    seconds: float = 20.0
    csv: Path = HERE / "trained_networks.csv"
    figure: Path = HERE.parents[1] / "docs" / "trained_networks.svg"


@dataclass
class Trained:
    """A network that a method made.

    Attributes:
        method: its name.
        about: which of its networks.
        network: trained.
        steps: of its training.
        seconds: of the CPU, with its part of what the method did besides.
    """

    method: str
    about: str
    network: nn.Module
    steps: int
    seconds: float = 0.0


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Make all runs that the table lacks, show them and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speech", type=Path, help="the folder with the recordings")
    parser.add_argument("--show", action="store_true", help="only show what the table holds")
    parser.add_argument("--time", action="store_true", help="only time all networks once more")
    parser.add_argument("--only", help="one run, such as mnist_5k:residual:0")
    options = parser.parse_args(arguments)
    settings = settings or Settings()
    torch.set_num_threads(1)
    if not options.show:
        data = image_data(options.speech)
        runs = [(d, n, seed) for seed in settings.seeds for d in data for n in NETWORKS]
        for name, network, seed in runs:
            if options.only in (None, f"{name}:{network}:{seed}"):
                make = time_again if options.time else run
                make(name, data[name], network, seed, settings)
    points = pd.read_csv(settings.csv)
    print(summary(points).to_string(index=False))
    draw_fronts(points, settings.figure)


def run(name: str, data: Data, network: str, seed: int, settings: Settings) -> None:
    """All methods with one seed; the rows are written when all networks are timed."""
    about = dict(zip(KEYS, (name, network, seed), strict=True))
    if settings.csv.exists():
        known = pd.read_csv(settings.csv)
        if (known[KEYS] == pd.Series(about)).all(axis=1).any():
            return
    found = list(Run(name, data, NETWORKS[network], seed, settings).networks())
    latencies = timed([each.network for each in found], data, settings)
    new = not settings.csv.exists()
    with settings.csv.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        for each, latency in zip(found, latencies, strict=True):
            valid, test = (
                evaluate(each.network, data, split)["error_percent"] for split in ("valid", "test")
            )
            row = about | {
                "method": each.method,
                "about": each.about,
                "steps": each.steps,
                "parameters": sum(p.numel() for p in each.network.parameters()),
                "latency_ms": latency,
                "original_ms": latencies[0],
                "valid_error": round(valid, 3),
                "test_error": round(test, 3),
                "cpu_seconds": round(each.seconds, 1),
            }
            writer.writerow(row)
            print(" ".join(map(str, row.values())), flush=True)


def time_again(name: str, data: Data, network: str, seed: int, settings: Settings) -> None:
    """Time the networks of a run that the table has once more."""
    points = pd.read_csv(settings.csv)
    rows = (points[KEYS] == pd.Series(dict(zip(KEYS, (name, network, seed), strict=True)))).all(
        axis=1
    )
    own = points[rows]
    if own.empty:
        return
    built = list(Run(name, data, NETWORKS[network], seed, settings).rebuilt(own))
    counts = [sum(p.numel() for p in each.parameters()) for each in built]
    assert counts == own["parameters"].tolist(), (counts, own["parameters"].tolist())
    points.loc[rows, "latency_ms"] = latencies = timed(built, data, settings)
    points.loc[rows, "original_ms"] = latencies[0]
    points.to_csv(settings.csv, index=False)
    print(name, network, seed, latencies, flush=True)


def timed(networks: Sequence[nn.Module], data: Data, settings: Settings) -> list[float]:
    """Milliseconds of each network."""
    device = torch.device("cpu")
    loads = [loading(network, data.example, device) for network in networks]
    found = measure_together(loads, seconds=settings.seconds)
    return [round(measured.median_ms, 4) for measured in found]


class Run:
    """The methods on one network, data and seed."""

    def __init__(
        self,
        name: str,
        data: Data,
        network: Callable[..., nn.Module],
        seed: int,
        settings: Settings,
    ) -> None:
        self.data, self.network, self.seed, self.settings = data, network, seed, settings
        self.recipe = Recipe(epochs=dict(settings.training)[name], channels_last=True)
        self.tuning = replace(self.recipe, epochs=dict(settings.tuning)[name])
        self.batches = -(-len(data.train) // self.recipe.batch_size)
        self.all_steps = settings.steps + self.recipe.steps(self.batches)

    def networks(self) -> Iterator[Trained]:
        """The trained network, then what each method makes."""
        original = self.fresh()
        yield self.trained(ORIGINAL, "", original, self.recipe.epochs)
        space = self.space(original)
        ours = list(self.searched(space))
        yield from ours
        yield from self.each("pruning", self.pruned(original), len(self.settings.ratios))
        yield from self.each("random", self.drawn(space), self.settings.random)
        widths = ((f"{w:g}", self.fresh(w)) for w in self.settings.widths)
        yield from self.each("uniform width", widths, len(self.settings.widths), scratch=True)
        again = ((each.about, reset(each.network, self.seed)) for each in ours)
        yield from self.each("from scratch", again, len(ours), scratch=True)

    def rebuilt(self, points: pd.DataFrame) -> Iterator[nn.Module]:
        """The networks of rows, untrained but for the first: by its weights it is pruned."""
        original = self.fresh()
        trained = self.trained(ORIGINAL, "", original, self.recipe.epochs).network
        pruned = dict(self.pruned(trained))
        supernet = self.space(trained).supernet(self.seed)
        names = [choice.name for choice in supernet.choices]
        for method, about in zip(points["method"], points["about"], strict=True):
            if method == ORIGINAL:
                yield trained
            elif method == "pruning":
                yield pruned[about]
            elif method == "uniform width":
                yield self.fresh(float(about))
            else:
                yield supernet.extract(dict(zip(names, about.split(), strict=True)))

    def space(self, original: nn.Module) -> NetworkSpace:
        """The converted network."""
        model = partial(deepcopy, original)
        converted = Converted(model, self.data.example, depth=True, kernels=(3,))
        return NetworkSpace("converted", converted, self.data, self.tuning)

    def fresh(self, width: float = 1.0) -> nn.Module:
        """A new network."""
        torch.manual_seed(self.seed)
        return self.network(width)

    def each(
        self,
        method: str,
        networks: Iterable[tuple[str, nn.Module]],
        count: int,
        scratch: bool = False,
    ) -> Iterator[Trained]:
        """Train all networks of a method, for equal epochs; rounded up, to be fair."""
        steps = self.all_steps if scratch else self.settings.steps
        epochs = -(-steps // (count * self.batches))
        for about, network in networks:
            yield self.trained(method, about, network, epochs)

    def trained(self, method: str, about: str, network: nn.Module, epochs: int) -> Trained:
        """Train a network in place."""
        recipe, start = replace(self.recipe, epochs=epochs), time.process_time()
        network.train()
        for _ in train(network, self.data, recipe, seed=self.seed):
            pass
        seconds = time.process_time() - start
        return Trained(method, about, network, recipe.steps(self.batches), seconds)

    def searched(self, space: NetworkSpace) -> Iterator[Trained]:
        """The finalists of a search for error and latency."""
        finalists: list[Finalist] = []

        def keep(*args: Any, **kwargs: Any) -> Sequence[Any]:
            found = train_finalists(*args, **kwargs, inherit=True)
            finalists.extend(one for one in found if isinstance(one, Finalist))
            return found

        start, supernet_steps = time.process_time(), round(0.3 * self.settings.steps)
        each = self.tuning.steps(self.batches) + RECALIBRATION
        count = (self.settings.steps - supernet_steps) // each
        proxies = proxy_evaluations_for(supernet_steps, size(space.choices))
        plan = Plan(supernet_steps, proxies, count, self.tuning)
        with tempfile.TemporaryDirectory() as folder:
            for _ in search(
                space,
                objectives="latency",
                backend="torch",
                budget=plan,
                seed=self.seed,
                run=Path(folder) / "run",
                trainer=keep,
            ):
                pass
        torch.set_num_threads(1)
        seconds = (time.process_time() - start) / len(finalists)
        for finalist in finalists:
            picks = " ".join(finalist.architecture.values())
            yield Trained(OURS, picks, finalist.network, self.settings.steps // count, seconds)

    def pruned(self, original: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Copies of the trained network with channels removed."""
        import torch_pruning

        for ratio in self.settings.ratios:
            network = deepcopy(original).eval()
            pruner = torch_pruning.pruner.MagnitudePruner(
                network,
                self.data.example,
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                global_pruning=True,
                pruning_ratio=ratio,
                max_pruning_ratio=0.9,
                ignored_layers=[network[-1]],  # type: ignore[index]
            )
            pruner.step()
            yield f"{ratio:g}", network

    def drawn(self, space: NetworkSpace) -> Iterator[tuple[str, nn.Module]]:
        """Architectures of the converted network, with its weights."""
        supernet, rng = space.supernet(self.seed), Random(self.seed)
        for _ in range(self.settings.random):
            architecture = draw(supernet.choices, rng)
            yield " ".join(architecture.values()), supernet.extract(architecture)


def reset(network: nn.Module, seed: int) -> nn.Module:
    """A copy with fresh weights, as its layers draw them."""
    torch.manual_seed(seed)
    network = deepcopy(network)
    for module in network.modules():
        if callable(again := getattr(module, "reset_parameters", None)):
            again()
    return network


def curve(points: pd.DataFrame, latencies: np.ndarray) -> np.ndarray:
    """The test error of the network that validates best, of those within each latency."""
    errors = np.full(len(latencies), np.nan)
    for i, latency in enumerate(latencies):
        within = points[points["relative"] <= latency]
        if len(within):
            errors[i] = within.sort_values(["valid_error", "latency_ms"])["test_error"].iloc[0]
    return errors


MARKS = np.array([0.3, 0.4, 0.5, 0.6, 0.8, 1.0])  # of the latency of the trained network


def curves(points: pd.DataFrame, latencies: np.ndarray) -> dict[str, np.ndarray]:
    """By method (seeds, latencies) the errors of `curve`."""
    points = points.assign(relative=points["latency_ms"] / points["original_ms"])
    original = points[points["method"] == ORIGINAL]
    return {
        method: np.array(
            [
                curve(pd.concat([own, original[original["seed"] == seed]]), latencies)
                for seed, own in points[points["method"] == method].groupby("seed")
            ]
        )
        for method in METHODS
        if (points["method"] == method).any()
    }


def summary(points: pd.DataFrame) -> pd.DataFrame:
    """The errors at the marks, medians over seeds with ranges; and how often the search is ahead.

    At each latency between that of the fastest network of the search and that of the trained one,
    a method is ahead if its median over seeds is lower. One that has no network there is behind.
    """
    rows = []
    for (data, network), own in points.groupby(KEYS[:2], sort=False):
        relative = own["latency_ms"] / own["original_ms"]
        least = relative[own["method"] == OURS].groupby(own["seed"]).min().median()
        between = np.linspace(least, 1, 200)
        ours = middle(curves(own, between)[OURS])
        for method, errors in curves(own, MARKS).items():
            row: dict[str, object] = {"data": data, "network": network, "method": method}
            for mark, column in zip(MARKS, errors.T, strict=True):
                row[f"{mark:.0%}"] = told(column)
            if method != OURS:
                other = middle(curves(own, between)[method])
                ahead = (ours < other) | np.isnan(other)
                row["search ahead"] = f"{ahead.mean():.0%}"
                row["equal"] = f"{(ours == other).mean():.0%}"
            rows.append(row)
    return pd.DataFrame(rows).fillna("")


def middle(errors: np.ndarray) -> np.ndarray:
    """The median over seeds; NaN where most have no network."""
    ordered = np.sort(np.where(np.isnan(errors), np.inf, errors), axis=0)
    found = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1].mean(axis=0)
    return np.where(np.isinf(found), np.nan, found)


def told(errors: np.ndarray) -> str:
    """The median and the range of errors in percent."""
    if np.isnan(middle(errors[:, None])).any():
        return "-"
    low, high = np.nanmin(errors), np.nanmax(errors)
    return f"{middle(errors[:, None])[0]:.1f} ({low:.1f} to {high:.1f})"


def draw_fronts(points: pd.DataFrame, path: Path) -> None:
    """A panel for each network on each data: error by latency."""
    groups = list(points.groupby(KEYS[:2], sort=False))
    figure, axes = plt.subplots(
        -(-len(groups) // 2), 2, figsize=(10, 3.6 * -(-len(groups) // 2)), squeeze=False
    )
    titles = {"mnist_5k": "MNIST-5k", "spoken_digits": "spoken digits"}
    for axis, ((data, network), own) in zip(axes.flat, groups, strict=False):
        latency = own.loc[own["method"] == ORIGINAL, "latency_ms"].median()
        relative = own["latency_ms"] / own["original_ms"]
        between = np.linspace(relative.min(), 1.05, 400)
        for number, (method, errors) in enumerate(curves(own, between).items()):
            color, rows = f"C{number}", own["method"] == method
            axis.plot(between * latency, middle(errors), color=color, label=method, lw=2)
            axis.plot(relative[rows] * latency, own["test_error"][rows], ".", color=color, ms=4)
        rows = own["method"] == ORIGINAL
        axis.plot(relative[rows] * latency, own["test_error"][rows], "k*", label=ORIGINAL)
        axis.set(title=f"{titles.get(str(data), data)}, {network}", yscale="log")
        axis.set(xlabel="measured latency, ms", ylabel="test error, %")
        axis.yaxis.set_major_locator(FixedLocator([0.2, 0.5, 1, 2, 5, 10, 20, 50]))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize=8)
    figure.tight_layout()
    with plt.rc_context({"svg.hashsalt": "paretonas"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


if __name__ == "__main__":
    main()
