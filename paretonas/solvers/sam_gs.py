"""SAM-GS: equalize gradients of different lengths; if lengths agree, use their momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from paretonas.gradients.rows import Jacobian, Rows, weights_like
from paretonas.solvers._learned import array, check_count, check_numbers
from paretonas.solvers.base import Direction, Out, Values
from paretonas.solvers.certificate import Certificate
from paretonas.solvers.problem import GradientProblem

CHUNK = 2**15  # columns per chunk, so that intermediate results stay in the cache
STATE = {"steps", "momenta", "imbalance"}
EPSILON = 1e-8  # from the published code: keeps the imbalance above 0


@dataclass(frozen=True, eq=False)
class SAMGS:
    """Equalize gradients if their lengths differ; use momentum if their lengths agree.

    The similarity of two lengths is psi = 2ab / (a^2 + b^2), in [0, 1]; Psi averages it over the
    pairs. On each step the momenta are m_k <- beta1 m_k + (1 - beta1) g_k, and the imbalance is
    h <- beta2 h + (1 - beta2) (1 - Psi)^2 + 1e-8; hats mean the bias correction, as in Adam:

    - ``"equalized"``, where Psi < gamma: the sum of the unit gradients times their mean length;
    - ``"momentum"``, otherwise: the sum of g_k * |mhat_k| / sqrt(hhat), entry by entry.

    Both are multiplied by ``task_scale`` and then shortened to ``max_norm``. Use Adam as the
    optimizer after it, as published.

    Permuting the objectives together with the state changes nothing. The equalized branch weighs
    rows, and its direction does not change when single rows are scaled. The momentum branch does
    not weigh rows. Its length grows as the square of the gradients' lengths, so it depends on the
    scale of the losses, except for ``max_norm`` and the optimizer. The change from one branch to
    the other is a jump. Both branches may conflict, and opposite gradients of equal length cancel
    in both (for example at a saddle between two minima).

    The published code does not define these cases: a zero row has no unit gradient, so it adds
    nothing, but it counts in the mean length; two zero rows have psi = 1, a zero row and another
    have psi = 0. A single objective (``"lone"``) is followed, shortened to ``max_norm``. On the
    first step mhat = g. Products are formed of scaled numbers, so that ``max_norm`` holds from
    1e-30 to 1e30. A momentum direction that is too short for the dtype is 0; in float32 this means
    gradients of about 1e-19 and below.

    Attributes:
        gamma: gradients are equalized if the similarity is below this; 0 never, above 1 always.
        beta1: decay of the momenta, in [0, 1).
        beta2: decay of the imbalance, in [0, 1).
        psi: how similarities are combined. ``"pairs"``: mean over i < j, as in the published
            code. ``"all"``: mean over all K^2 entries, with the diagonal, as in the paper's
            algorithm. It gives the same branches with gamma_all = 1/K + (1 - 1/K) gamma_pairs (with
            the paper's 0.1 and two objectives it never equalizes); its 1 - Psi is smaller by the
            factor 1 - 1/K, and the momentum direction longer by the inverse. ``"min"``: equalize
            if any pair is below gamma, with the mean over pairs in h.
        max_norm: the largest length of the direction; None for no limit.
        task_scale: factor of the direction before that; None is K, the number of objectives.

    Settings in the paper: code and Algorithm 1 use the defaults. Image benchmarks use gamma 0.9 in
    the text, 0.7 in the code, and beta2 0.9 or 0.99. The toy problem uses gamma 0.1 with beta2 0.99
    for one minimum, and gamma 0.1 with beta2 0.9 for two minima. Reinforcement learning uses
    ``SAMGS(0.9, psi="min", max_norm=None, task_scale=1)``.

    State: ``{"steps": int, "momenta": (m, n) or (r, m, n), "imbalance": () or (r,)}``; the momenta,
    on the jacobian's device and at least in float32, take as much memory as the jacobian. Each ray
    has its own.

    ``weights`` is None if one ray or more are in the momentum branch.

    Raises:
        ValueError: a setting is out of range, or the state does not fit the jacobian.
        TypeError: the state is of another kind.

    References:
        Borsani et al., Gradient Similarity Surgery in Multi-Task Deep Learning (2025),
        arXiv 2506.06130.

    >>> import torch
    >>> solver = SAMGS(max_norm=None)
    >>> direction = solver(torch.tensor([[100.0, 0.0], [0.0, 1.0]]))
    >>> direction.vector, direction.certificate.branch
    (tensor([101., 101.]), 'equalized')
    >>> solver(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), state=direction.state).certificate.branch
    'momentum'
    """

    gamma: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    psi: Literal["pairs", "all", "min"] = "pairs"
    max_norm: float | None = 1.0
    task_scale: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= beta < 1:
                raise ValueError(f"{name} must be in [0, 1), got {beta}")
        if not self.gamma >= 0:
            raise ValueError(f"gamma must be at least 0, got {self.gamma}")
        if self.psi not in ("pairs", "all", "min"):
            raise ValueError(f'psi must be "pairs", "all" or "min", got {self.psi!r}')
        for name, size in (("max_norm", self.max_norm), ("task_scale", self.task_scale)):
            if size is not None and not 0 < size < np.inf:
                raise ValueError(f"{name} must be positive and finite, or None, got {size}")

    def __call__(
        self, jacobian: Jacobian, values: Values = None, state: object = None, *, out: Out = None
    ) -> Direction:
        """Take the branch of each ray; see ``Solver``.

        Raises:
            ValueError: as above; also if there is no ``max_norm`` and the direction is too long for
                its dtype.
        """
        problem = GradientProblem(jacobian, values)
        rows, norms, m = problem.rows, problem.gram.norms, problem.m
        steps, momenta, imbalance = _opened(state, rows)
        steps += 1
        top = norms.max(-1, keepdims=True)
        top = np.where(top > 0, top, 1.0)
        level, similarity = self._similarities(norms / top)
        imbalance = self.beta2 * imbalance + (1 - self.beta2) * (1 - similarity) ** 2 + EPSILON
        equalize = level < self.gamma if m > 1 else np.ones(rows.r, dtype=bool)

        # Sum the rows in units of their lengths; for the momentum in units of the largest length.
        units = np.where(equalize[:, None] & (norms > 0), norms, top)
        terms = (rows, units, equalize, momenta, self.beta1)
        summed, momenta = _summed_few(*terms) if rows.few else _summed(*terms, out)
        speed = top[:, 0] / np.sqrt(imbalance / (1 - self.beta2**steps)) / (1 - self.beta1**steps)
        factors = np.where(equalize, norms.mean(-1), speed)
        factors *= m if self.task_scale is None else self.task_scale
        factors = self._shortened(factors, summed, rows.dtype)
        vector = summed.mul_(torch.from_numpy(factors).to(summed).unsqueeze(-1))
        if vector.dtype != rows.dtype or (rows.few and out is not None):
            vector = rows.buffer(out).copy_(vector)

        names = ["momentum", "lone" if m == 1 else "equalized"]
        traces, lone = torch.from_numpy(imbalance), slice(None) if rows.batched else 0
        weights = factors[:, None] / units * (norms > 0) if equalize.all() else None
        certificate = Certificate(
            problem, weights, None, lambda: tuple(names[int(even)] for even in equalize), vector
        )
        return Direction(
            vector[lone],
            None if weights is None else weights_like(rows, weights[lone]),
            certificate,
            {"steps": steps, "momenta": momenta[lone], "imbalance": traces[lone]},
        )

    def _similarities(self, norms: Float[np.ndarray, "r m"]) -> tuple[np.ndarray, np.ndarray]:
        # The similarity to compare with gamma, and the similarity for the imbalance.
        r, m = norms.shape
        squares = norms * norms
        sums = squares[:, :, None] + squares[:, None, :]
        products = 2 * norms[:, :, None] * norms[:, None, :]
        psi = np.divide(products, sums, out=np.ones_like(sums), where=sums > 0).reshape(r, -1)
        pairs = (psi.sum(-1) - m) / (m * (m - 1)) if m > 1 else np.ones(r)
        if self.psi == "min":
            return psi.min(-1), pairs
        if self.psi == "all":
            pairs = 1 / m + (1 - 1 / m) * pairs
        return pairs, pairs

    def _shortened(
        self, factors: Float[np.ndarray, " r"], summed: Float[Tensor, "r n"], dtype: torch.dtype
    ) -> Float[np.ndarray, " r"]:
        # Never computes the product of factor and length, which may leave the range of the dtype.
        lengths = torch.linalg.vector_norm(summed, dim=-1, dtype=torch.float64).cpu().numpy()
        if self.max_norm is not None:
            safe = np.where(lengths > 0, lengths, 1.0)
            return np.asarray(np.minimum(factors, self.max_norm / safe))
        if (factors * (lengths / torch.finfo(dtype).max) > 1).any():
            raise ValueError(
                f"the direction must fit into {dtype}, got a length of "
                f"{(factors * lengths).max():.3g}: set max_norm, or scale the losses"
            )
        return factors


def _summed(
    rows: Rows,
    units: Float[np.ndarray, "r m"],
    equalize: Bool[np.ndarray, " r"],
    momenta: Float[Tensor, "r m n"],
    beta: float,
    out: Tensor | None,
) -> tuple[Float[Tensor, "r n"], Float[Tensor, "r m n"]]:
    """The sum of the rows in their units, times |momenta| if not equalized; and the new momenta."""
    given, later = rows.dense(), torch.empty_like(momenta, memory_format=torch.contiguous_format)
    fits = rows.dtype == momenta.dtype
    summed = rows.buffer(out) if fits else torch.empty_like(momenta[:, 0])
    scale = torch.from_numpy(1 / units).to(summed).unsqueeze(-1)
    even = torch.from_numpy(equalize).to(rows.device).unsqueeze(-1)
    width = CHUNK if rows.device.type == "cpu" else rows.n
    for start in range(0, rows.n, width):
        cut = slice(start, start + width)
        goal = summed[:, cut].zero_()
        for k in range(rows.m):
            row = given[:, k, cut].to(summed.dtype)
            term = row * scale[:, k]
            speed = torch.lerp(momenta[:, k, cut], row, 1 - beta, out=later[:, k, cut]).abs()
            if not equalize.all():
                term *= torch.where(even, 1.0, speed) if equalize.any() else speed
            goal += term
    return summed, later


def _summed_few(
    rows: Rows,
    units: Float[np.ndarray, "r m"],
    equalize: Bool[np.ndarray, " r"],
    momenta: Float[Tensor, "r m n"],
    beta: float,
) -> tuple[Float[Tensor, "r n"], Float[Tensor, "r m n"]]:
    """The same on the host, which is faster for few numbers."""
    before = momenta.cpu().numpy()
    given = rows.host().reshape(before.shape).astype(before.dtype, copy=False)
    later = before + (1 - beta) * (given - before)
    terms = given / units[:, :, None]
    if not equalize.all():
        terms *= np.where(equalize[:, None, None], 1.0, np.abs(later))
    summed = torch.from_numpy(np.add.reduce(terms, 1))
    return summed.to(rows.device), torch.from_numpy(later).to(rows.device)


def _opened(state: object, rows: Rows) -> tuple[int, Tensor, np.ndarray]:
    # Half precision would lose small changes of an average.
    dtype = torch.promote_types(rows.dtype, torch.float32)
    shape = (rows.r, rows.m, rows.n)
    if state is None:
        zeros = torch.zeros((), dtype=dtype, device=rows.device).expand(shape)
        return 0, zeros, np.zeros(rows.r)
    if not isinstance(state, Mapping) or state.keys() != STATE:
        found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise TypeError(f"state must be what SAMGS returned, with {sorted(STATE)}, got {found}")
    steps, momenta, imbalance = state["steps"], state["momenta"], state["imbalance"]
    expected = shape if rows.batched else shape[1:]
    check_count("steps", steps)
    check_numbers("momenta", momenta, expected)
    check_numbers("imbalance", imbalance, expected[:-2], sizes=True)
    traces = array(imbalance).reshape(-1)
    return steps, momenta.to(rows.device, dtype).reshape(shape), traces
