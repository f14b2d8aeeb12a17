"""The time of `paretonas.backward`, compared with the m backward passes alone and with TorchJD.

    python experiments/benchmarks/backward.py

A small network with m heads gets one batch. The methods take turns in one process, each on a fresh
graph (the forward pass is not timed). First it is checked that they give the same gradients:

- bare: ``loss.backward()`` for each loss in turn, without a solver; this is the limit;
- ours: `backward` with UPGrad; the heads are found by a walk through the graph, or given;
- vmap: the same with ``vectorize=True``;
- TorchJD: ``mtl_backward`` and ``jac_to_grad`` with its UPGrad, all losses at once (its default) or
  one after the other;
- by values: `backward` with LinearScalarization, which needs one pass, beside the backward pass of
  the plain mean.

Prints medians of the processor time in milliseconds, and ratios of medians. Other work on the
machine disturbs processor time less than wall-clock time. Times on one machine are comparable;
between machines only ratios are.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn
from torchjd.aggregation import UPGrad as TheirUPGrad
from torchjd.autojac import jac_to_grad, mtl_backward

from paretonas import backward
from paretonas.solvers import LinearScalarization, UPGrad

AGREE = 0.02  # relative distance of directions; TorchJD's own regularization costs it about 0.003


@dataclass(frozen=True)
class Network:
    """A trunk, m heads and a batch.

    Attributes:
        trunk: shared.
        heads: one per loss.
        inputs: the batch.
        targets: (m, batch) classes.
    """

    trunk: nn.Module
    heads: nn.ModuleList
    inputs: Tensor
    targets: Tensor

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """The features and the losses, with a new graph."""
        features = self.trunk(self.inputs)
        return features, [
            nn.functional.cross_entropy(head(features), target)
            for head, target in zip(self.heads, self.targets, strict=True)
        ]

    def gradients(self) -> list[Tensor]:
        """What is in ``.grad``, emptied."""
        found = [p.grad for p in (*self.trunk.parameters(), *self.heads.parameters())]
        self.trunk.zero_grad()
        self.heads.zero_grad()
        return [g for g in found if g is not None]


def convnet(m: int) -> Network:
    """Four convolutions on 32 images of 32 x 32."""
    widths = (3, 16, 32, 32, 64)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
        if b != a:
            layers.append(nn.MaxPool2d(2))
    trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(trunk, _heads(widths[-1], m), torch.randn(32, 3, 32, 32), _targets(m, 32))


def mlp(m: int) -> Network:
    """Two layers of 256 on a batch of 128."""
    trunk = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
    return Network(trunk, _heads(256, m), torch.randn(128, 64), _targets(m, 128))


def contenders(network: Network) -> dict[str, Callable[[Tensor, list[Tensor]], object]]:
    """What takes turns: functions of the features and the losses that fill ``.grad``."""
    shared = list(network.trunk.parameters())
    heads = [list(head.parameters()) for head in network.heads]
    solver, theirs = UPGrad(), TheirUPGrad()

    def bare(_: Tensor, losses: list[Tensor]) -> None:
        for i, loss in enumerate(losses):
            loss.backward(retain_graph=i < len(losses) - 1)

    def torchjd_step(features: Tensor, losses: list[Tensor], chunk: int | None) -> None:
        mtl_backward(
            losses,
            features=features,
            tasks_params=heads,
            shared_params=shared,
            parallel_chunk_size=chunk,
        )
        jac_to_grad(shared, theirs)

    return {
        "bare": bare,
        "ours": lambda _, losses: backward(losses, shared, solver=solver),
        "ours, heads given": lambda _, losses: backward(losses, shared, solver=solver, heads=heads),
        "ours, vmap": lambda _, losses: backward(
            losses, shared, solver=solver, heads=heads, vectorize=True
        ),
        "TorchJD": lambda features, losses: torchjd_step(features, losses, None),
        "TorchJD, in turn": lambda features, losses: torchjd_step(features, losses, 1),
        "one pass": lambda _, losses: torch.stack(losses).mean().backward(),
        "ours, by values": lambda _, losses: backward(
            losses, shared, solver=LinearScalarization(), heads=heads
        ),
    }


def check(network: Network, rivals: dict[str, Callable[[Tensor, list[Tensor]], object]]) -> None:
    """Assert that all leave the same gradients.

    Raises:
        AssertionError: they do not.
    """
    found = {}
    for name, step in rivals.items():
        step(*network.forward())
        found[name] = torch.cat([g.flatten() for g in network.gradients()])
    cut = sum(p.numel() for p in network.trunk.parameters())
    for name in ("ours, heads given", "ours, vmap", "TorchJD", "TorchJD, in turn"):
        for part in (slice(None, cut), slice(cut, None)):
            ours = found["ours"][part]
            off = ((found[name][part] - ours).norm() / ours.norm()).item()
            if not off <= (AGREE if "TorchJD" in name else 1e-3):
                raise AssertionError(f"{name} is {off:.2g} away from ours")
    torch.testing.assert_close(
        found["ours, by values"][:cut], found["one pass"][:cut], rtol=1e-4, atol=1e-6
    )


def measure(network: Network, seconds: float) -> dict[str, float]:
    """Medians in milliseconds of all contenders in turn."""
    rivals = contenders(network)
    check(network, rivals)
    spent: dict[str, list[float]] = {name: [] for name in rivals}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(spent["bare"]) < 5:
        for name, step in rivals.items():
            features, losses = network.forward()
            start = time.process_time()
            step(features, losses)
            spent[name].append(time.process_time() - start)
            del features, losses
            network.gradients()
    return {name: 1e3 * statistics.median(times) for name, times in spent.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each line")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--losses", type=int, nargs="+", default=[2, 3, 4, 8])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    versions = f"torch {torch.__version__}, torchjd {version('torchjd')}"
    print(
        f"{versions}, {platform.machine()}, {arguments.threads} thread(s), processor time, seed 0"
    )
    for make in (convnet, mlp):
        for m in arguments.losses:
            torch.manual_seed(0)
            times = measure(make(m), arguments.seconds)
            print(f"\n{make.__name__}, m = {m}")
            for name, t in times.items():
                limit = times["one pass" if name in ("one pass", "ours, by values") else "bare"]
                print(f"  {name:18} {t:9.3f} ms   x {t / limit:.3f}")
            best = min(times["TorchJD"], times["TorchJD, in turn"])
            print(f"  TorchJD / ours     {best / times['ours']:9.3f}")


def _heads(width: int, m: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(width, 10) for _ in range(m))


def _targets(m: int, batch: int) -> Tensor:
    return torch.randint(10, (m, batch))


if __name__ == "__main__":
    main()
