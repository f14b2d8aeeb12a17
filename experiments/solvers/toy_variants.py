"""Two open questions of the SAM-GS paper, tested on the toy problems.

    python experiments/solvers/toy_variants.py

Do angles help as well as lengths? And which solvers leave saddles, where gradients are opposite and
equal, so that they cancel? Each tested answer is a small object made of solvers; a table says from
how many starts it ends where. Results: `docs/toy-problems.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from toy_problems import TOYS, Array, Method, Toy, run

from paretonas.solvers import SAMGS, FairGrad, NashMTL, PCGrad, RandomWeights, Solver
from paretonas.solvers.base import Direction

Rule = Callable[[Array, Array], Array]  # of similarity and cosine of two gradients: equalize?


@dataclass(frozen=True, eq=False)
class Switch:
    """One solver where a rule on the lengths and the angle of two gradients says so, else another.

    Attributes:
        rule: takes psi (r,) and cosine (r,), and says where the first solver is used.
        first: a solver.
        second: a solver that shares the first one's state, or has none.
    """

    rule: Rule
    first: Solver
    second: Solver

    def __call__(
        self, jacobian: torch.Tensor, values: torch.Tensor | None = None, state: object = None
    ) -> Direction:
        """Ask both, and take one for each ray."""
        a, b = jacobian.norm(dim=-1).clamp_min(1e-300).unbind(-1)
        cosine = (jacobian[:, 0] * jacobian[:, 1]).sum(-1) / (a * b)
        psi = 2 * a * b / (a * a + b * b)
        first, second = self.first(jacobian, values, state), self.second(jacobian, values, state)
        taken = torch.from_numpy(self.rule(psi.numpy(), cosine.numpy())).unsqueeze(-1)
        vector = torch.where(taken, first.vector, second.vector)
        return replace(first, vector=vector, weights=None, state=second.state or first.state)


@dataclass(frozen=True, eq=False)
class Projected:
    """The direction nearest to another solver's that makes neither of two objectives worse."""

    inner: Solver

    def __call__(
        self, jacobian: torch.Tensor, values: torch.Tensor | None = None, state: object = None
    ) -> Direction:
        """Cut off what conflicts; in the plane, what conflicts with both is cut to 0."""
        direction = self.inner(jacobian, values, state)
        unit = torch.nn.functional.normalize(jacobian, dim=-1, eps=1e-300)
        vector = direction.vector
        for row in unit.unbind(1):
            vector = vector - (vector * row).sum(-1, keepdim=True).clamp_max(0.0) * row
        safe = ((unit * vector.unsqueeze(1)).sum(-1) > -1e-9).all(-1, keepdim=True)
        return replace(direction, vector=torch.where(safe, vector, 0.0), weights=None)


@dataclass(frozen=True, eq=False)
class Noisy:
    """Normal numbers added to the direction, ``share`` of the gradients' mean length each."""

    inner: Solver
    share: float
    generator: torch.Generator

    def __call__(
        self, jacobian: torch.Tensor, values: torch.Tensor | None = None, state: object = None
    ) -> Direction:
        """Solve, then add noise."""
        direction = self.inner(jacobian, values, state)
        noise = torch.randn(direction.vector.shape, generator=self.generator, dtype=jacobian.dtype)
        size = self.share * jacobian.norm(dim=-1).mean(-1, keepdim=True)
        return replace(direction, vector=direction.vector + size * noise, weights=None)


@dataclass(frozen=True, eq=False)
class Coin:
    """Where two gradients cancel, follow one of them alone, drawn for each ray, for ``hold`` steps.

    The state is the inner one's, the steps left and the row followed.
    """

    inner: Solver
    hold: int
    generator: torch.Generator

    def __call__(
        self, jacobian: torch.Tensor, values: torch.Tensor | None = None, state: object = None
    ) -> Direction:
        """Solve, and replace what has cancelled."""
        r = len(jacobian)
        within, left, side = state or (None, torch.zeros(r), torch.zeros(r, dtype=torch.long))  # type: ignore[misc]
        direction = self.inner(jacobian, values, within)
        total = jacobian.sum(1).norm(dim=-1)
        stuck = (left <= 0) & (total < 1e-2 * jacobian.norm(dim=-1).amax(-1))
        drawn = torch.randint(0, 2, (r,), generator=self.generator)
        side = torch.where(stuck, drawn, side)
        left = torch.where(stuck, float(self.hold), left - 1)
        alone = jacobian[torch.arange(r), side]
        vector = torch.where((left > 0).unsqueeze(-1), alone, direction.vector)
        return replace(direction, vector=vector, weights=None, state=(direction.state, left, side))


@dataclass(frozen=True, eq=False)
class Reweighted:
    """Rows multiplied by random factors exp(spread * normal) before another solver sees them."""

    inner: Solver
    spread: float
    generator: torch.Generator

    def __call__(
        self, jacobian: torch.Tensor, values: torch.Tensor | None = None, state: object = None
    ) -> Direction:
        """Draw, scale, solve."""
        drawn = torch.randn(jacobian.shape[:2], generator=self.generator, dtype=jacobian.dtype)
        factors = (self.spread * drawn).exp().unsqueeze(-1)
        return replace(self.inner(jacobian * factors, values, state), weights=None)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _angled(rule: Rule) -> Method:
    def build(beta2: float) -> Solver:
        return Switch(rule, SAMGS(1.01, beta2=beta2), SAMGS(0.0, beta2=beta2))

    return Method(lambda: build(0.99), {"two minima": lambda: build(0.9)})


def _wrapped(wrap: Callable[[Solver], Solver]) -> Method:
    def quick() -> Solver:
        return wrap(SAMGS(beta2=0.9))

    return Method(lambda: wrap(SAMGS()), dict.fromkeys(("two minima", "axis", "saddle"), quick))


ANGLES: dict[str, Method] = {
    "SAM-GS: psi < 0.1": _angled(lambda psi, cosine: psi < 0.1),
    "equalize if psi < 0.1 or cosine < 0": _angled(lambda psi, cosine: (psi < 0.1) | (cosine < 0)),
    "... or cosine < -0.9": _angled(lambda psi, cosine: (psi < 0.1) | (cosine < -0.9)),
    "... if psi < 0.1 and cosine < 0": _angled(lambda psi, cosine: (psi < 0.1) & (cosine < 0)),
    "... if cosine < 0": _angled(lambda psi, cosine: cosine < 0),
    "... if psi (1 + cosine) / 2 < 0.1": _angled(lambda psi, cosine: psi * (1 + cosine) < 0.2),
    "NashMTL if cosine < 0": _wrapped(
        lambda inner: Switch(lambda psi, cosine: cosine < 0, NashMTL(), inner)
    ),
    "FairGrad if cosine < 0": _wrapped(
        lambda inner: Switch(lambda psi, cosine: cosine < 0, FairGrad(), inner)
    ),
    "projected: never conflicts": _wrapped(Projected),
}
ESCAPES: dict[str, Method] = {
    "SAM-GS": _wrapped(lambda inner: inner),
    "without momentum (beta1 0)": Method(lambda: SAMGS(beta1=0.0)),
    "noise 0.001": _wrapped(lambda inner: Noisy(inner, 0.001, _seeded())),
    "noise 0.03": _wrapped(lambda inner: Noisy(inner, 0.03, _seeded())),
    "noise 1": _wrapped(lambda inner: Noisy(inner, 1.0, _seeded())),
    "coin, held 1 step": _wrapped(lambda inner: Coin(inner, 1, _seeded())),
    "coin, held 100 steps": _wrapped(lambda inner: Coin(inner, 100, _seeded())),
    "random lengths 0.01": _wrapped(lambda inner: Reweighted(inner, 0.01, _seeded())),
    "random lengths 0.5": _wrapped(lambda inner: Reweighted(inner, 0.5, _seeded())),
    "RandomWeights": Method(lambda: RandomWeights(_seeded())),
    "NashMTL": Method(NashMTL),
    "NashMTL, noise 0.03": Method(lambda: Noisy(NashMTL(), 0.03, _seeded())),
    "PCGrad, noise 0.03": Method(lambda: Noisy(PCGrad(), 0.03, _seeded())),
}
TWO = TOYS["two minima"]
SYMMETRIC: dict[str, Toy] = {
    # Starts from which both objectives are mirror images, and the saddle itself, ten times each.
    "axis": replace(
        TWO, starts=np.array([(0.0, x2) for x2 in (-12, -8, -4, 2, 10)] * 10), steps=30_000
    ),
    "saddle": replace(TWO, starts=np.array([(0.0, -10.8426)] * 10), steps=30_000),
    "two minima": TWO,
    "sam-gs": TOYS["sam-gs"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=float, default=1.0, help="part of the steps")
    part = parser.parse_args(arguments).steps
    torch.set_num_threads(1)
    for methods, toys in (
        (ANGLES, {key: toy for key, toy in TOYS.items() if toy.steps < 50_000}),
        (ESCAPES, SYMMETRIC),
    ):
        results, _ = run(methods, part, toys)
        print(table(results).to_string(), flush=True)


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Starts that end on the front and at an optimum, and the median step of reaching the front."""
    by = results.groupby(["problem", "method"], sort=False)
    counts = by[["front", "optimum"]].sum().astype(int)
    found = pd.DataFrame(
        {
            "front": counts["front"].astype(str) + "/" + by.size().astype(str),
            "optimum": counts["optimum"],
            "step": by["front_step"].median(),
        }
    )
    return (
        found.unstack("problem").swaplevel(axis=1).sort_index(axis=1, level=0, sort_remaining=False)
    )


if __name__ == "__main__":
    main()
