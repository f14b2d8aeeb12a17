"""Alpha: one distribution over architectures for each ray, optimized by gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from ..conflict import cosine_similarity
from ..relaxation import picks_of, probabilities
from ..solvers import Direction, Solver, Weighted
from .observations import Picks

LEAST = 1e-9  # smaller costs, in their own unit, count as this before their logarithm is taken
STEPS = 3  # steps of alpha for each proposal of a `WarmAlpha`
LEARNING_RATE = 0.3
SHRINKAGE = 0.7  # alpha is multiplied by this between two proposals
NOISE = 0.3  # standard deviation of the noise that is then added to alpha

Relaxed = Callable[[Tensor], Tensor]  # probabilities (r, K) -> values (r, m)
RelaxedViolation = Callable[[Tensor], Tensor]  # probabilities (r, K) -> violations (r,)


@dataclass(frozen=True, eq=False)
class AlphaStep:
    """One step of alpha.

    Attributes:
        alpha: (r, K), after the step.
        values: (r, m), the relaxed objectives before it.
        cosines: (m, m), between the objectives' gradients, mean over the rays.
        direction: the answer of the solver.
    """

    alpha: Float[Tensor, "r K"]
    values: Float[Tensor, "r m"]
    cosines: Float[Tensor, "m m"]
    direction: Direction


def optimize_alpha(
    alpha: Float[Tensor, "r K"],
    sizes: Sequence[int],
    relaxed: Relaxed,
    solver: Solver,
    *,
    steps: int,
    learning_rate: float = 0.2,
    temperatures: tuple[float, float] = (1.0, 0.3),
    seed: int = 0,
    violation: RelaxedViolation | None = None,
) -> Iterator[AlphaStep]:
    """Minimize all objectives for all rays at once with Adam, from soft to nearly one-hot.

    The direction of a ray that violates limits is `projected`.

    Args:
        alpha: the initial alpha.
        sizes: the number of options of each choice.
        relaxed: the objectives of each distribution, comparable in scale, as after a `Scale`.
        solver: turns the jacobian (r, m, K) into a direction for each ray.
        steps: the number of steps.
        learning_rate: the learning rate of Adam.
        temperatures: the first and the last temperature of the softmax; a lower one is nearer to
            one-hot.
        seed: the seed of the solver's random numbers, if it uses any.
        violation: how far each distribution is beyond limits, comparable in scale; 0 within them.
    """
    alpha = alpha.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([alpha], lr=learning_rate)
    state: object = None
    for step in range(steps):
        part = step / max(1, steps - 1)
        temperature = temperatures[0] * (temperatures[1] / temperatures[0]) ** part
        p = probabilities(alpha, sizes, temperature)
        values = relaxed(p)
        rows = [
            # Rays do not interact, so the gradient of the sum contains the gradient of each ray.
            torch.autograd.grad(column.sum(), alpha, retain_graph=True)[0]
            for column in values.unbind(dim=1)
        ]
        jacobian = torch.stack(rows, dim=1)
        # A value below all measured values is negative, and some solvers divide by values.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed * 1_000_003 + step)
            direction = solver(jacobian, values.detach().clamp_min(1e-3), state)
        state = direction.state
        alpha.grad = direction.vector
        if violation is not None:
            (row,) = torch.autograd.grad(violation(p).sum(), alpha)
            alpha.grad = projected(direction.vector, row)
        optimizer.step()
        yield AlphaStep(
            alpha.detach().clone(),
            values.detach(),
            cosine_similarity(jacobian).mean(dim=0),
            direction,
        )


def projected(vector: Float[Tensor, "r n"], row: Float[Tensor, "r n"]) -> Float[Tensor, "r n"]:
    """Directions projected onto the half-spaces in which a violation falls fast enough.

    That is as fast as the direction was long: min |d - v|^2 such that g . d >= |g| |v|. Penalties
    and an augmented Lagrangian were measured against it: see ``docs/constraints.md``.

    >>> projected(torch.tensor([[3.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
    tensor([[3., 3.],
            [3., 0.]])

    Args:
        vector: the directions of a solver.
        row: the gradients of the violations; a zero row changes nothing.
    """
    length = row.norm(dim=1, keepdim=True)
    unit = row / length.clamp_min(torch.finfo(row.dtype).tiny)
    lacks = vector.norm(dim=1, keepdim=True) - (unit * vector).sum(dim=1, keepdim=True)
    nearest: Tensor = vector + torch.where(length > 0, lacks, 0.0) * unit
    return nearest


def with_preference(solver: Solver, preference: Float[Tensor, "r m"]) -> Solver:
    """The solver with a preference vector for each ray.

    A solver with a field `preference` gets the vectors there, unless it already has a preference.
    Any other solver is wrapped in `Weighted`.
    """
    if not is_dataclass(solver) or "preference" not in {f.name for f in fields(solver)}:
        return Weighted(preference, solver)
    if getattr(solver, "preference", None) is not None:
        return solver
    pointed: Any = replace(solver, preference=preference)
    return cast(Solver, pointed)


def rays(objectives: int, count: int, least: float = 0.02) -> Float[Tensor, "r m"]:
    """Preference vectors, evenly spread: the smallest simplex lattice of at least `count` points.

    The simplex lattice of Das and Dennis 1998 ("Normal-boundary intersection", SIAM J. Optim. 8),
    shrunk so that every entry is at least `least`: no objective is ignored.

    >>> rays(2, 3, least=0.0)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000],
            [0.0000, 1.0000]])
    """
    if objectives == 1:
        return torch.ones(1, 1)
    parts = 1
    while len(lattice := _lattice(objectives, parts)) < count:
        parts += 1
    spread = torch.tensor(lattice, dtype=torch.float32) / parts
    return least + (1 - objectives * least) * spread


def _lattice(objectives: int, parts: int) -> list[tuple[int, ...]]:
    if objectives == 1:
        return [(parts,)]
    return [
        (first, *rest)
        for first in range(parts, -1, -1)
        for rest in _lattice(objectives - 1, parts - first)
    ]


class WarmAlpha:
    """Alpha that is optimized a few steps for each proposal and kept for the next one.

    Surrogates change little when a point is added, so alpha starts from where it was. In between
    it is shrunk and noise is added, so that no pick is final.

    Args:
        sizes: the number of options of each choice.
        objectives: the number of objectives.
        solver: resolves their conflict, with a preference for each ray.
        seed: the seed of the noise.
        count: the smallest number of rays.
    """

    def __init__(
        self, sizes: Sequence[int], objectives: int, solver: Solver, seed: int, count: int
    ) -> None:
        self._sizes = tuple(sizes)
        spread = rays(objectives, count).double()
        self._solver = with_preference(solver, spread)
        self._generator = torch.Generator().manual_seed(seed)
        self._alpha = torch.zeros(len(spread), sum(sizes), dtype=torch.float64)
        self._calls = 0

    def __call__(self, relaxed: Relaxed, violation: RelaxedViolation | None = None) -> list[Picks]:
        """Optimize alpha further; the decoded architectures of all rays and steps, each once."""
        noise = torch.randn(self._alpha.shape, generator=self._generator, dtype=torch.float64)
        start = SHRINKAGE * self._alpha + NOISE * noise
        self._calls += 1
        met: dict[Picks, None] = {}
        for step in optimize_alpha(
            start,
            self._sizes,
            relaxed,
            self._solver,
            steps=STEPS,
            learning_rate=LEARNING_RATE,
            seed=self._calls,
            violation=violation,
        ):
            self._alpha = step.alpha
            met |= dict.fromkeys(map(tuple, picks_of(self._alpha, self._sizes).tolist()))
        return list(met)


@dataclass(frozen=True, eq=False)
class Scale:
    """The range of each objective over the evaluated points: it makes ms and KiB comparable.

    Costs are positive, and their logarithms are compared: halving the latency counts the same from
    1 ms as from 10 ms. A metric has a coordinate of its own, which need not be a logarithm.

    Attributes:
        low: (m,), the smallest logarithms.
        high: (m,), the largest logarithms.
    """

    low: Float[Tensor, " m"]
    high: Float[Tensor, " m"]

    @classmethod
    def of(cls, values: Float[Tensor, "k m"]) -> Scale:
        """The range of values of 0 or more; values below `LEAST` count as `LEAST`."""
        return cls.over(values.clamp_min(LEAST).log())

    @classmethod
    def over(cls, logs: Float[Tensor, "k m"]) -> Scale:
        """The range of logarithms."""
        low, high = logs.amin(dim=0), logs.amax(dim=0)
        return cls(low, torch.where(high > low, high, low + 1.0))

    def __call__(self, logs: Float[Tensor, "*k m"]) -> Float[Tensor, "*k m"]:
        """Logarithms of objectives, scaled to about [0, 1]."""
        return (logs - self.low) / (self.high - self.low)

    def undo(self, scaled: Float[Tensor, "*k m"]) -> Float[Tensor, "*k m"]:
        """The objectives of scaled logarithms; the inverse of a call."""
        return (scaled * (self.high - self.low) + self.low).exp()

    def excess(
        self, logs: Float[Tensor, "*k m"], bounds: Float[Tensor, " m"]
    ) -> Float[Tensor, "*k m"]:
        """The scaled violation of upper bounds on logarithms; 0 within them."""
        return torch.relu(logs - bounds.to(logs)) / (self.high - self.low)
