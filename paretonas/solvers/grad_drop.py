"""GradDrop: in each coordinate, keep only the gradient entries of one randomly drawn sign."""

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

CHUNK = 2**15  # columns per chunk, so that their sums stay in the cache


@dataclass(frozen=True, eq=False)
class GradDrop:
    """In each coordinate, sum either the positive or the negative entries; the sign is random.

    The sign is positive with probability P = positive sum / sum of absolute values. So the expected
    direction is, per coordinate, (positive^2 - negative^2) / (positive + negative), with absolute
    values of the sums. Where all gradients agree in sign, the direction is their sum.

    It is random. Permuting the objectives does not change the distribution. A common factor of all
    gradients multiplies the direction; factors of single objectives change the probabilities. It
    may conflict with an objective. It does not weigh rows: ``weights`` is None. A coordinate that
    is 0 in every row stays 0, and a single row is returned unchanged. Both sums come from one pass
    over the jacobian.

    Most libraries use this name for the form on the gradients of parameters. The paper drops
    entries of the gradient with respect to the shared *representation*, and also reads the
    representation itself; `on` is that form.

    Attributes:
        leak: (m,), in [0, 1]: the share of each objective's gradient that is never dropped. None
            is 0 for all, the paper's default; with 1 for all the direction is the sum.
        generator: draws the signs, one per coordinate and ray, on its own device; None is torch's
            global generator.

    Raises:
        TypeError: the leak is not a floating point tensor, or the generator has another type.
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
        """Check the leak and the generator."""
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
        """Draw the signs and sum; see ``Solver``. The state is returned unchanged."""
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

        Let x be the representation and g_i the gradient of loss i with respect to it, both
        (batch, features). The pull of task i on a feature is the sum over the batch of
        sign(x) * g_i: it is above 0 if larger activations would raise the loss. One sign is drawn
        per feature, with the probabilities above. Tasks whose pull has the other sign lose their
        gradient in this feature, for all examples. All dimensions after the first count as
        features. The returned solver is for this step only:

            backward_through(losses, features, solver=GradDrop().on(features))

        If no task has a pull (for example if all activations are 0), the paper's probability is
        0/0; then nothing is dropped.

        Args:
            representation: (batch, ...), or several such tensors, in the order of the columns of
                the jacobian.

        Raises:
            TypeError: something is not a floating point tensor.
            ValueError: there is no tensor, or a tensor has no batch dimension; on a call, the
                jacobian does not fit.

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
        # A sum of absolute values is not finite if any entry is not finite.
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
        together = max(1, width // rows.n)  # rays per chunk; signs are drawn ray after ray
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
        # In place and row by row, so that all intermediate results stay in the cache.
        positive, negative = cut[:, 0].clamp_min(0.0), cut[:, 0].clamp_max(0.0)
        scratch = torch.empty_like(positive)
        for row in cut.unbind(1)[1:]:
            positive += torch.clamp_min(row, 0.0, out=scratch)
            negative += torch.clamp_max(row, 0.0, out=scratch)
        torch.sub(positive, negative, out=scratch)
        total = scratch.sum().item()
        # Multiply by 0 and 1: on a processor a condition takes ten times as long.
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
