"""How far the gate estimators are from the exact gradient of the expected cost; see `exact_bench`.

The gates replace picks in a cost that is also defined between the architectures, in two ways. One
is the expectation, which is linear in each gate. The other is the exponential of the expected
logarithm; like a supernet, it equals the expectation at every architecture and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch
from exact_table import ExactTable, expectation
from torch import Tensor

from paretonas import relaxation

FILES = ("nb201.parquet", "nasbench_macro.parquet")
LEAST = 0.02  # added to a cost before its logarithm
Cost = Callable[[Tensor], Tensor]  # gates (k, K) -> costs (m, k)


def run(
    table: ExactTable,
    *,
    alphas: int = 8,
    draws: int = 1024,
    spreads: Sequence[float] = (0.1, 1.0, 3.0),
    temperatures: Sequence[float] = (0.3, 1.0, 3.0),
) -> pd.DataFrame:
    """A row per estimator, cost between the architectures, temperature, alpha and objective."""
    generator = torch.Generator().manual_seed(0)
    between = {"expectation": partial(_between, table, torch.clone, torch.clone),
               "geometric": partial(_between, table, lambda t: (t + LEAST).log(),
                                    lambda v: v.exp() - LEAST)}  # fmt: skip
    rows = []
    for spread in spreads:
        for _ in range(alphas):
            alpha = spread * torch.randn(sum(table.sizes), generator=generator, dtype=torch.float64)
            exact = _gradients(alpha[None], between["expectation"], table.sizes,
                               relaxation.softmax, 1.0, generator)[:, 0]  # fmt: skip
            for estimator in (relaxation.softmax, relaxation.gumbel_softmax,
                              relaxation.straight_through, relaxation.reinmax, score):  # fmt: skip
                for name, cost in between.items():
                    for temperature in temperatures:
                        if estimator is score and (temperature != 1 or name == "geometric"):
                            continue
                        count = 2 if estimator is relaxation.softmax else draws
                        drawn = _gradients(alpha.expand(count, -1), cost, table.sizes, estimator,
                                           temperature, generator)  # fmt: skip
                        for i, (sample, truth) in enumerate(zip(drawn, exact, strict=True)):
                            rows.append({
                                "estimator": estimator.__name__, "between": name,
                                "temperature": temperature, "spread": spread, "objective": i,
                            } | compare(sample, truth))  # fmt: skip
    return pd.DataFrame(rows)


def compare(sample: Tensor, exact: Tensor) -> dict[str, float]:
    """Bias and noise of draws (k, K) relative to the length of the exact gradient (K,)."""
    mean, length = sample.mean(0), exact.norm()
    variance = sample.var(0).sum()
    # What the mean is off by has the noise of so many draws in it, which is no bias.
    bias = ((mean - exact).square().sum() - variance / len(sample)).clamp_min(0).sqrt()
    single = torch.cosine_similarity(sample, exact.expand_as(sample), dim=-1)
    return {
        "bias": float(bias / length),
        "cosine": float(torch.cosine_similarity(mean, exact, dim=0)),
        "noise": float(variance.sqrt() / length),
        "cosine_of_one": float(single.mean()),
    }


def score(
    alpha: Tensor, sizes: Sequence[int], temperature: float, generator: torch.Generator
) -> Tensor:
    """Sampled picks, as `straight_through`; `_gradients` weighs their log-likelihood by cost."""
    return relaxation.straight_through(alpha, sizes, temperature, generator).detach()


def _gradients(
    alpha: Tensor, cost: Cost, sizes: Sequence[int], gates: relaxation.Gates, temperature: float,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    # (m, k, K): one draw for each row of alpha (k, K), the same for all objectives.
    alpha = alpha.clone().requires_grad_()
    drawn = gates(alpha, sizes, temperature, generator)
    if gates is score:
        p = relaxation.probabilities(alpha, sizes)
        likely = (p.clamp_min(1e-300).log() * drawn).sum(-1)
        worth = (cost(drawn) - cost(p)).detach()  # the mean cost is the baseline
        targets = [(one * likely).sum() for one in worth]
    else:
        targets = [one.sum() for one in cost(drawn)]
    grads = [torch.autograd.grad(one, alpha, retain_graph=True)[0] for one in targets]
    return torch.stack(grads)


def _between(
    table: ExactTable, into: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor],
    gates: Tensor,
) -> Tensor:  # fmt: skip
    costs = into(table.tensor)[None]
    return back(expectation(gates[None], costs, table.sizes)[0].mT)


def summary(rows: pd.DataFrame) -> str:
    """Medians over alphas and objectives."""
    keys = ["between", "estimator", "temperature", "spread"]
    medians = rows.groupby(keys, sort=False).median(numeric_only=True).drop(columns="objective")
    return medians.unstack("spread").round(3).to_string()
