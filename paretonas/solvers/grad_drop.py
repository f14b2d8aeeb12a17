"""GradDrop: coordinate by coordinate, keep only the gradients of one sign, drawn at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.gradients.kind import check_kind
from paretonas.gradients.rows import Jacobian, Rows, like
from paretonas.solvers._grad_drop_on import GradDropOn, check_leak_fits, checked_features
from paretonas.solvers._random import check_generator, coins
from paretonas.solvers.base import Direction, Out, Values
from paretonas.solvers.certificate import Certificate
from paretonas.solvers.problem import GradientProblem

CHUNK = 2**15  # columns worked on at once, so that all sums of theirs stay in the cache


@dataclass(frozen=True, eq=False)
class GradDrop:
    """In each coordinate, sum the positive entries or the negative ones; a coin decides which.

    The coin falls on positive with probability P = positive sum / sum of absolute values, so the
    expected direction is, per coordinate, (positive^2 - negative^2) / (positive + negative), with
    the sums' absolute values. Where all gradients agree in sign, the direction is their sum.

    Random; permuting the objectives changes nothing in law. A common scale passes through; the
    scales of single objectives move the odds. It may conflict with an objective, and it is no
    weighting of the rows: ``weights`` is None. A coordinate that is 0 in every row stays 0, and a
    lone row comes back as it is. Both sums come from one pass over the jacobian.

    On the gradients of parameters this is what most libraries call by this name. The paper drops in
    the gradient with respect to the shared *representation*, for which it reads the representation
    too: `on` is that form.

    Attributes:
        leak: (m,), in [0, 1]: the share of each objective's gradient that is never dropped. None
            is 0 for all, the paper's default; with 1 for all the direction is the sum.
        generator: draws the coins, one per coordinate and ray; None is torch's global one. Draws
            are made on the generator's device.

    Raises:
        TypeError: the leak is no floating point tensor, or the generator is none.
        ValueError: the leak is not in [0, 1], or does not fit the jacobian.

    References:
        Chen et al., Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout
        (2020), arXiv 2010.06808. Sums over tasks, as published.

    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> J = torch.tensor([[1.0, 3.0, 0.0], [2.0, -1.0, 0.0]])
    >>> GradDrop(generator=generator)(J).vector
    tensor([ 3., -1.,  0.])
    """

    leak: Float[Tensor, " m"] | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """Refuse a leak that is no share, and a generator that is none."""
        check_generator(self.generator)
        if self.leak is None:
            return
        check_kind("leak", self.leak)
        if self.leak.ndim != 1 or not bool(((self.leak >= 0) & (self.leak <= 1)).all()):
            raise ValueError(
                f"leak must have shape (m,) and entries in [0, 1], got {self.leak.tolist()}"
            )

    def __call__(
        self, jacobian: Jacobian, values: Values = None, state: object = None, *, out: Out = None
    ) -> Direction:
        """Draw the signs and sum; see ``Solver``. The state is handed through."""
        problem = GradientProblem(jacobian, values)
        check_leak_fits(self.leak, problem.m)
        rows = problem.rows
        if rows.few:
            vector = like(rows, self._on_host(rows))
            if out is not None:
                vector = rows.buffer(out).copy_(vector).view_as(out)
        else:
            vector = self._in_chunks(rows, rows.buffer(out))
            vector = vector if rows.batched else vector[0]
        certificate = Certificate(problem, None, None, "drawn", vector.view(rows.r, rows.n))
        return Direction(vector, None, certificate, state)

    def on(self, representation: Tensor | Sequence[Tensor]) -> GradDropOn:
        """Return the form of the paper, for the gradients of a shared representation.

        With x the representation and g_i the gradient of loss i with respect to it, both
        (batch, features), the pull of task i on a feature is the sum over the batch of
        sign(x) * g_i: above 0 where larger activations would raise the loss. One coin per feature
        picks a sign, with the odds above, and the tasks whose pull has the other sign lose their
        gradient in this feature, that of all examples. Everything after the first dimension counts
        as features. The returned solver is for this step only:

            backward_through(losses, features, solver=GradDrop().on(features))

        Where no task has a pull (activations that are all 0, say), the paper's odds are 0/0, and
        nothing is dropped.

        Args:
            representation: (batch, ...), or several such tensors, in the order of the columns of
                the jacobian.

        Raises:
            TypeError: there is something else than floating point tensors.
            ValueError: there is none, or one without a batch; on a call, the jacobian does not fit.

        >>> import torch
        >>> x = torch.tensor([[1.0], [-2.0]])  # two examples, one feature
        >>> J = torch.tensor([[3.0, 1.0], [-1.0, 4.0]])  # pulls 3 - 1 and -1 - 4
        >>> GradDrop(generator=torch.Generator().manual_seed(0)).on(x)(J).vector
        tensor([-1.,  4.])
        """
        return GradDropOn(checked_features(representation), self.leak, self.generator)

    def _on_host(self, rows: Rows) -> Float[np.ndarray, "*r n"]:
        host = rows.host()
        positive = np.add.reduce(np.maximum(host, 0.0), -2, dtype=np.float64)
        negative = np.add.reduce(np.minimum(host, 0.0), -2, dtype=np.float64)
        size = positive - negative
        # What is not finite never leaves a sum of absolute values.
        if not math.isfinite(np.add.reduce(size, None)):
            rows.check_finite()
        up = coins(self.generator, size.shape, rows.dtype).cpu().numpy() * size < positive
        if self.leak is None:
            return np.asarray(np.where(up, positive, negative))
        leak = self.leak.detach().double().cpu().numpy()
        rest = (1.0 - leak)[:, None] * host
        drawn = np.where(up[..., None, :], np.maximum(rest, 0.0), np.minimum(rest, 0.0))
        return np.asarray(leak @ host + drawn.sum(-2))

    def _in_chunks(self, rows: Rows, target: Float[Tensor, "r n"]) -> Float[Tensor, "r n"]:
        wide = torch.promote_types(rows.dtype, torch.float32)
        width = CHUNK if rows.device.type == "cpu" else rows.n
        together = max(1, width // rows.n)  # rays; coins are drawn for one ray after the other
        total = 0.0
        for first in range(0, rows.r, together):
            start = 0
            for block in rows.blocks():
                for cut in block[first : first + together].split(width, dim=-1):
                    goal = target[first : first + together, start : start + cut.shape[-1]]
                    start += cut.shape[-1]
                    total += self._drop(cut.to(wide), goal)
        if not math.isfinite(total):
            rows.check_finite()
        return target

    def _drop(self, cut: Float[Tensor, "k m b"], goal: Float[Tensor, "k b"]) -> float:
        # In place and row by row: of what is not in the rows, nothing leaves the cache.
        positive, negative = cut[:, 0].clamp_min(0.0), cut[:, 0].clamp_max(0.0)
        scratch = torch.empty_like(positive)
        for row in cut.unbind(1)[1:]:
            positive += torch.clamp_min(row, 0.0, out=scratch)
            negative += torch.clamp_max(row, 0.0, out=scratch)
        torch.sub(positive, negative, out=scratch)
        total = scratch.sum().item()
        # 0 and 1 rather than a condition, which costs a processor ten times as much to follow.
        scratch.mul_(coins(self.generator, scratch.shape, scratch.dtype).to(cut.device))
        up = torch.lt(scratch, positive, out=torch.empty_like(positive))
        down = 1.0 - up
        if self.leak is None:
            torch.addcmul(positive.mul_(up), negative, down, out=scratch)
        else:
            leak = self.leak.detach().to(cut.device, cut.dtype)
            torch.matmul(leak, cut, out=scratch)
            for share, row in zip((1.0 - leak).tolist(), cut.unbind(1), strict=True):
                scratch.add_(row.clamp_min(0.0).mul_(up), alpha=share)
                scratch.add_(row.clamp_max(0.0).mul_(down), alpha=share)
        goal.copy_(scratch)
        return float(total)
