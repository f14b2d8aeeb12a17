"""Which gradient of the error, and which solver, gives better architectures through alpha.

    python experiments/search/search_variants.py

Needs the tables of `ground_truth.py`. There is one supernet for each seed, trained on single paths
with strict fairness. The script compares

- the error's gradient through the supernet's gates (`GatedError`; each ray costs a pass through the
  network), with alpha optimized beside the training of the weights or after it;
- the gradient through a surrogate that is fitted to proxy evaluations (scores with inherited
  weights); and one after the other;
- every solver, with the preference vectors of the rays, through the surrogate.

All variants of the gradient get about the same CPU seconds for alpha, and all end in the same way:
each ray is discretized, its neighbors get proxy evaluations, and the finalists are spread over the
front of the inherited losses. This local search hides differences, so the regret of the discretized
rays alone is also shown. Writes `search_variants.csv`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import torch
from search_quality import inherited
from torch import Tensor
from truth import SPACES, Truth, spread

from paretonas import relaxation, solvers
from paretonas.gradient_search.weights import WeightTraining
from paretonas.nn import Supernet
from paretonas.objectives.gated_error import GatedError
from paretonas.relaxation import picks_of, sizes_of
from paretonas.solvers import SmoothTchebycheff, Solver
from paretonas.space import fair_paths, neighbors
from paretonas.surrogates.alpha import AlphaStep, Scale, optimize_alpha, rays, with_preference
from paretonas.surrogates.quality_model import QualityModel
from paretonas.tasks.task import metrics_of

HERE = Path(__file__).parent
GATES = (
    relaxation.softmax,
    relaxation.gumbel_softmax,
    relaxation.straight_through,
    relaxation.reinmax,
)
DRIVEN = 80  # steps of alpha through the surrogate, as in the search
Error = Callable[[Tensor], Tensor]  # probabilities (r, K) -> logarithms of the loss (r,)


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        spaces: names of `truth.SPACES`.
        gate_seeds: for the gradients.
        solver_seeds: for the solvers.
        supernet_steps: weight steps.
        proxy_evaluations: with inherited weights, for the surrogate.
        last_looks: with inherited weights, around the decided rays.
        finalists: trained in the end.
        gate_rays: for the gradients through gates, which cost a pass each.
        rays: for the others.
        csv: the file written.
    """

    spaces: tuple[str, ...] = tuple(SPACES)
    gate_seeds: int = 3
    solver_seeds: int = 5
    supernet_steps: int = 400
    proxy_evaluations: int = 100
    last_looks: int = 60
    finalists: int = 12
    gate_rays: int = 10
    rays: int = 28
    csv: Path = HERE / "search_variants.csv"


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Run all variants on all spaces, and say what came out."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    settings = settings or Settings()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for seed in range(max(settings.gate_seeds, settings.solver_seeds)):
        for name in settings.spaces:
            bench = Bench(Truth(SPACES[name]), seed, settings)
            if seed < settings.solver_seeds:
                rows += solver_rows(bench)
            if seed < settings.gate_seeds:
                rows += gradient_rows(bench)
            frame = pd.DataFrame(rows).round(5)
            frame.to_csv(settings.csv, index=False)
            print(f"{name}, seed {seed}: {len(rows)} rows", flush=True)
    print(summary(frame).to_string())


class Bench:
    """A trained supernet with a seed, all its inherited losses, and the common end of variants."""

    def __init__(self, truth: Truth, seed: int, settings: Settings) -> None:
        self.truth, self.seed, self.settings = truth, seed, settings
        self.sizes = sizes_of(truth.choices)
        self.data, self.task = truth.space.task(), truth.space.load_task()
        start = time.process_time()
        self.supernet = truth.space.supernet(seed)
        for _ in self.training(self.supernet):
            pass
        self.weight_seconds = time.process_time() - start
        self.losses, _, self.seconds_per_proxy = inherited(truth, self.supernet)
        self.costs = truth.objectives()
        everything = np.column_stack([self.losses, truth.costs])
        self.scale = Scale.of(torch.from_numpy(everything).float())

    def training(self, supernet: Supernet) -> Iterator[float]:
        """The steps that train a supernet's weights, always the same ones."""
        steps = self.settings.supernet_steps
        recipe = self.truth.space.recipe
        return WeightTraining(supernet, self.task, recipe, steps=steps, seed=self.seed).run()

    def surrogate(self, proxy_evaluations: int) -> Error:
        """Fitted to the inherited losses of architectures drawn fairly."""
        knowledge = QualityModel(self.truth.choices, self.costs, metrics_of(self.task))
        for architecture in fair_paths(self.truth.choices, Random(self.seed)):
            knowledge.inherited[architecture] = (float(self.losses[self.truth.row(architecture)]),)
            if len(knowledge.inherited) == proxy_evaluations:
                break
        knowledge.fit()
        return knowledge.surrogates[0].relaxed

    def gated(self, gates: relaxation.Gates, supernet: Supernet) -> Error:
        """Through the gates of a supernet, on batches of the validation split."""
        generator = torch.Generator().manual_seed(self.seed)
        return GatedError(supernet, self.data.valid, generator, gates, batch_size=64).relaxed

    def drive(
        self, alpha: Tensor, error: Error, solver: Solver, steps: int, warmest: float = 1.0
    ) -> Iterator[AlphaStep]:
        """Drive alpha, the objectives scaled to [0, 1] over the whole table."""

        def relaxed(p: Tensor) -> Tensor:
            values = self.scale(
                torch.stack([error(p), *(cost.relaxed(p).log() for cost in self.costs)], dim=1)
            )
            # Some solvers want positive values; the gradient stays.
            return values + (values.clamp_min(1e-3) - values).detach()

        temperatures = (warmest, 0.3)
        return optimize_alpha(
            alpha, self.sizes, relaxed, solver, steps=steps, temperatures=temperatures
        )

    def end(self, alpha: Tensor) -> dict[str, float]:
        """Decide each ray, look around with inherited weights, and train the finalists."""
        truth, settings = self.truth, self.settings
        picks = picks_of(alpha, self.sizes).tolist()
        decided = list(dict.fromkeys(truth.row(row) for row in picks))
        near = [
            truth.row(other)
            for row in decided
            for other in neighbors(truth.choices, truth.architectures[row])
        ]
        Random(self.seed).shuffle(near)
        known = list(dict.fromkeys([*decided, *near]))[: settings.last_looks]
        points = np.column_stack([self.losses, truth.costs])[known]
        chosen = [known[i] for i in spread(points, settings.finalists)]
        return {
            "decided": len(decided),
            "looks": len(known),
            "decided_regret": truth.regret(decided),
            "regret": truth.regret(truth.front(chosen, self.seed)),
        }

    def row(self, part: str, method: str, alpha: Tensor, seconds: float) -> dict[str, object]:
        """A line of the table; the seconds are those of alpha, with its proxy evaluations."""
        about = {"space": self.truth.space.name, "seed": self.seed, "part": part, "method": method}
        return {**about, "alpha_seconds": seconds, **self.end(alpha)}


def solver_rows(bench: Bench) -> Iterator[dict[str, object]]:
    """Every solver through the same surrogate."""
    preference = rays(3, bench.settings.rays)
    error = bench.surrogate(bench.settings.proxy_evaluations)
    generator = torch.Generator().manual_seed(bench.seed)
    contenders: list[Solver] = [
        solvers.SmoothTchebycheff(),
        solvers.Tchebycheff(),
        solvers.EPO(),
        solvers.LinearScalarization(),
        solvers.MGDA(),
        solvers.PCGrad(),
        solvers.UPGrad(),
        solvers.PriorityProjection(),
        solvers.RandomWeights(generator),
    ]
    for solver in contenders:
        start = time.process_time()
        alpha = torch.zeros(len(preference), sum(bench.sizes))
        alpha = last(bench.drive(alpha, error, with_preference(solver, preference), DRIVEN))
        seconds = time.process_time() - start
        yield bench.row("solver", type(solver).__name__, alpha, seconds)


def gradient_rows(bench: Bench) -> Iterator[dict[str, object]]:
    """The error's gradient through gates, through a surrogate, and through both in turn."""
    settings = bench.settings
    allowed = settings.proxy_evaluations * bench.seconds_per_proxy * 2  # as long again as they take

    def through_surrogate(
        alpha: Tensor, proxy_evaluations: int, warmest: float = 1.0
    ) -> tuple[Tensor, float]:
        start = time.process_time()
        solver = with_preference(SmoothTchebycheff(), rays(3, len(alpha)))
        alpha = last(
            bench.drive(alpha, bench.surrogate(proxy_evaluations), solver, DRIVEN, warmest)
        )
        return alpha, time.process_time() - start + proxy_evaluations * bench.seconds_per_proxy

    def blank(count: int) -> Tensor:
        return torch.zeros(len(rays(3, count)), sum(bench.sizes))

    for count in (settings.gate_rays, settings.rays):
        alpha, seconds = through_surrogate(blank(count), settings.proxy_evaluations)
        yield bench.row("gradient", f"surrogate, {len(alpha)} rays", alpha, seconds)
    for gates in GATES:
        alpha, seconds = after(bench, gates, blank(settings.gate_rays), allowed)
        yield bench.row("gradient", f"{gates.__name__} after the weights", alpha, seconds)
        alpha, seconds = beside(bench, gates, blank(settings.gate_rays), allowed)
        yield bench.row("gradient", f"{gates.__name__} beside the weights", alpha, seconds)

    half = settings.proxy_evaluations // 2
    alpha, first = through_surrogate(blank(settings.gate_rays), half)
    alpha, second = after(bench, relaxation.softmax, alpha, allowed / 2, warmest=0.5)
    yield bench.row("gradient", "surrogate, then softmax", alpha, first + second)
    alpha, first = after(bench, relaxation.softmax, blank(settings.gate_rays), allowed / 2)
    alpha, second = through_surrogate(alpha, half, warmest=0.5)
    yield bench.row("gradient", "softmax, then surrogate", alpha, first + second)


def after(
    bench: Bench, gates: relaxation.Gates, alpha: Tensor, allowed: float, warmest: float = 1.0
) -> tuple[Tensor, float]:
    """Drive alpha through the gates of the trained supernet, for so many CPU seconds."""
    start = time.process_time()
    error = bench.gated(gates, bench.supernet)
    solver = with_preference(SmoothTchebycheff(), rays(3, len(alpha)))
    steps = steps_for(bench, alpha, error, solver, allowed)
    alpha = last(bench.drive(alpha, error, solver, steps, warmest))
    return alpha, time.process_time() - start


def beside(
    bench: Bench, gates: relaxation.Gates, alpha: Tensor, allowed: float
) -> tuple[Tensor, float]:
    """The same while the weights are trained, alpha steps spread evenly over theirs."""
    supernet = bench.truth.space.supernet(bench.seed)
    error = bench.gated(gates, supernet)
    solver = with_preference(SmoothTchebycheff(), rays(3, len(alpha)))
    supernet.train()
    start = time.process_time()
    steps = steps_for(bench, alpha, error, solver, allowed)
    seconds = time.process_time() - start
    driving = bench.drive(alpha, error, solver, steps)
    done = 0
    for number, _ in enumerate(bench.training(supernet), start=1):
        start = time.process_time()
        due = steps * number // bench.settings.supernet_steps
        for step in islice(driving, due - done):
            alpha = step.alpha
        done = due
        seconds += time.process_time() - start
    return alpha, seconds


def steps_for(bench: Bench, alpha: Tensor, error: Error, solver: Solver, allowed: float) -> int:
    """How many steps of alpha the allowed seconds pay, two trial steps included."""
    start = time.process_time()
    last(bench.drive(alpha, error, solver, 2))
    trial = time.process_time() - start
    return max(1, int((allowed - trial) / (trial / 2)))


def last(steps: Iterator[AlphaStep]) -> Tensor:
    """Alpha after all steps."""
    *_, step = steps
    return step.alpha


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Medians, and the regret's quartiles, in percent."""
    groups = frame.groupby(["space", "part", "method"])
    table = groups[["alpha_seconds", "decided", "looks"]].median()
    for column in ("decided_regret", "regret"):
        low, middle, high = (100 * groups[column].quantile(q) for q in (0.25, 0.5, 0.75))
        table[column] = middle
        table[f"{column} quartiles"] = [
            f"{a:.1f} to {b:.1f}" for a, b in zip(low, high, strict=True)
        ]
    return table.sort_values(["space", "part", "regret"]).round(2)


if __name__ == "__main__":
    main()
