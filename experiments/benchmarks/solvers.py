"""How fast the solvers are, compared with TorchJD in the same process and with the memory limit.

Each method is first checked on the matrix that is timed: both must give the same direction, or ours
must solve the method's own equations better. Then both run in turn, and medians are compared. On
one thread these are medians of the processor time, so that other work on the machine counts less.
For long gradients the memory limit is printed too: one read of the jacobian for its Gram matrix,
one read and one write for the combination.

    .venv/bin/python experiments/benchmarks/solvers.py                  # all, some minutes
    .venv/bin/python experiments/benchmarks/solvers.py --n 200 --m 2 3  # a part of it
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
import torchjd.aggregation as torchjd
from torch import Tensor

import paretonas.solvers as ours

HERE = Path(__file__).parent
Call = Callable[[], object]


def of_mgda(gram: Tensor, w: Tensor) -> float:
    """Length beyond the shortest: how far w'Gw is from the smallest (Gw)_i, relative."""
    inner = gram @ w
    return float((w @ inner - inner.min()) / gram.diagonal().mean())


def of_projections(gram: Tensor, w: Tensor) -> float:
    """Conflict that is left: the most negative cosine."""
    inner = gram @ w / gram.diagonal().sqrt()
    return float((-inner.min() / (w @ gram @ w).clamp_min(1e-300).sqrt()).clamp_min(0.0))


def of_balance(power: float) -> Callable[[Tensor, Tensor], float]:
    """The equations Gw = w^(-1/power) of NashMTL (power 1) and FairGrad, relative."""

    def residual(gram: Tensor, w: Tensor) -> float:
        if (w <= 0).any():
            return math.inf
        # A factor on all weights only changes the length: compare up to it.
        products = (gram @ w) * w ** (1 / power)
        return float((products / products.mean() - 1).abs().max())

    return residual


def of_equal_cosines(gram: Tensor, w: Tensor) -> float:
    """How far apart the cosines are that ConFIG makes equal; a direction of 0 has none."""
    length = (w @ gram @ w).sqrt()
    if length == 0:
        return math.inf
    cosines = gram @ w / gram.diagonal().sqrt() / length
    return float(cosines.max() - cosines.min())


def of_cagrad(c: float) -> Callable[[Tensor, Tensor], float]:
    """Minus the smallest improvement inside the ball around the mean, relative."""

    def residual(gram: Tensor, w: Tensor) -> float:
        m = len(gram)
        mean = torch.full_like(w, 1 / m)
        away = w - mean
        radius = c * (mean @ gram @ mean).sqrt()
        length = (away @ gram @ away).clamp_min(1e-300).sqrt()
        inside = mean + away * (radius / length).clamp_max(1.0)
        return float(-(gram @ inside).min() / gram.diagonal().mean())

    return residual


def contenders(m: int) -> list[tuple[str, Callable, Callable, Callable | None, Callable | None]]:
    """Name, our solver, theirs, their weighting if it has one, and what tells a better answer."""
    jd = torchjd
    return [
        ("LinearScalarization", ours.LinearScalarization, jd.Mean, jd.MeanWeighting, None),
        ("RandomWeights", ours.RandomWeights, jd.Random, jd.RandomWeighting, None),
        ("MGDA", ours.MGDA, jd.MGDA, jd.MGDAWeighting, of_mgda),
        ("PCGrad", lambda: ours.PCGrad(torch.Generator()), jd.PCGrad, jd.PCGradWeighting, None),
        ("GradVac", lambda: ours.GradVac(generator=torch.Generator()), jd.GradVac, None, None),
        ("GradDrop", ours.GradDrop, jd.GradDrop, None, None),
        (
            "CAGrad",
            lambda: ours.CAGrad(c=0.4),
            lambda: jd.CAGrad(c=0.4),
            lambda: jd.CAGradWeighting(c=0.4),
            of_cagrad(0.4),
        ),
        ("IMTLG", ours.IMTLG, jd.IMTLG, jd.IMTLGWeighting, None),
        ("NashMTL", ours.NashMTL, lambda: jd.NashMTL(n_tasks=m), None, of_balance(1.0)),
        (
            "FairGrad",
            lambda: ours.FairGrad(alpha=2.0),
            lambda: jd.FairGrad(alpha=2.0),
            None,
            of_balance(2.0),
        ),
        ("AlignedMTL", ours.AlignedMTL, jd.AlignedMTL, jd.AlignedMTLWeighting, None),
        ("UPGrad", ours.UPGrad, jd.UPGrad, jd.UPGradWeighting, of_projections),
        ("DualProj", ours.DualProj, jd.DualProj, jd.DualProjWeighting, of_projections),
        ("ConFIG", ours.ConFIG, jd.ConFIG, None, of_equal_cosines),
    ]


# Drawn anew on each call, or carried from call to call: there is nothing to compare.
DRAWN = {"RandomWeights", "PCGrad", "GradVac", "GradDrop"}


def check(name: str, jacobian: Tensor, mine: Tensor, theirs: Tensor, better: Callable) -> str:
    """Assert that both agree or that ours is the better answer; say which."""
    rows = jacobian.double()
    cosine = torch.cosine_similarity(mine.double(), theirs.double(), dim=0)
    if name in DRAWN:
        assert mine.isfinite().all()
        return "drawn"
    if cosine > 1 - 1e-5:
        return "same"
    assert better is not None, f"{name}: cosine {cosine} between ours and theirs"
    gram = rows @ rows.T
    fit = [
        better(gram, torch.linalg.lstsq(rows.T, vector.double().unsqueeze(1)).solution[:, 0])
        for vector in (mine, theirs)
    ]
    assert fit[0] <= max(fit[1], 1e-5), f"{name}: residual {fit[0]} against {fit[1]}"
    return f"better ({fit[0]:.0e} against {fit[1]:.0e})"


def alternate(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """Median seconds of one call of each, run in turn until the time is up."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    counts, medians = {}, {}
    for name, call in calls.items():
        call()
        start = clock()
        call()
        once = clock() - start
        counts[name] = max(1, min(200, int(2e-3 / once)))
    seen: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(seen.values()))) < 3:
        for name, call in calls.items():
            start = clock()
            for _ in range(counts[name]):
                call()
            seen[name].append((clock() - start) / counts[name])
    for name, times in seen.items():
        medians[name] = statistics.median(times)
    return medians


def limit(jacobian: Tensor, out: Tensor) -> float:
    """Seconds to read the jacobian twice and to write one vector."""
    medians = alternate({"read": jacobian.sum, "write": out.zero_}, 0.3)
    return 2 * medians["read"] + medians["write"]


def measure(m: int, n: int, seconds: float) -> pd.DataFrame:
    """Time every method on one jacobian (m, n) in float32."""
    torch.manual_seed(m)
    # Half of the length is shared by all, so that some pairs agree and some conflict.
    jacobian = torch.randn(m, n) + 0.5 * torch.randn(m, 1) * torch.randn(1, n)
    out = torch.empty(n)
    bound = limit(jacobian, out) if n > 1e5 else math.nan
    wide = jacobian.double()
    gram = (wide @ wide.T).float()
    del wide
    found = []
    for name, our_kind, their_kind, their_weighting, better in contenders(m):
        mine, theirs = our_kind(), their_kind()
        # The slowest of theirs take seconds here: a few calls must do.
        slow = n * m > 2e7 and name in {"ConFIG", "GradDrop"}

        def our_call(mine=mine) -> object:
            return mine(jacobian, out=out if n > 1e5 else None)

        def their_call(theirs=theirs) -> object:
            return theirs(jacobian)

        verdict = check(name, jacobian, mine(jacobian).vector, theirs(jacobian), better)
        times = alternate({"ours": our_call, "torchjd": their_call}, 0.0 if slow else seconds)
        row = {
            "method": name,
            "m": m,
            "n": n,
            "answer": verdict,
            "ours_us": 1e6 * times["ours"],
            "torchjd_us": 1e6 * times["torchjd"],
            "ratio": times["torchjd"] / times["ours"],
            "over_limit": times["ours"] / bound,
        }
        if their_weighting is not None:
            weighting = their_weighting()
            steps = alternate(
                {
                    "ours": lambda mine=mine: mine.from_gram(gram),
                    "torchjd": lambda weighting=weighting: weighting(gram),
                },
                seconds / 2,
            )
            row["weighting_us"] = 1e6 * steps["ours"]
            row["weighting_ratio"] = steps["torchjd"] / steps["ours"]
        found.append(row)
        print(
            f"{name:20} m={m:<3} n={n:<9} {row['ours_us']:>10.0f} us, TorchJD "
            f"{row['torchjd_us']:>10.0f} us, ratio {row['ratio']:>7.1f}"
            + (f", {row['over_limit']:.2f} x limit" if n > 1e5 else "")
            + f"   {verdict}",
            flush=True,
        )
    return pd.DataFrame(found)


def rays(m: int, count: int) -> None:
    """Print what several hundred rays cost in one call, against one ray."""
    torch.manual_seed(0)
    many = torch.randn(count, m, 64)
    for kind in (ours.MGDA, ours.UPGrad, ours.NashMTL, ours.CAGrad, ours.AlignedMTL):
        solver = kind()
        times = alternate(
            {
                "one": lambda solver=solver: solver(many[0]),
                "all": lambda solver=solver: solver(many),
            },
            0.3,
        )
        print(
            f"{kind.__name__:12} m={m}: {count} rays {1e6 * times['all']:.0f} us, "
            f"one {1e6 * times['one']:.0f} us"
        )


def main() -> None:
    """Measure, print, and write ``solvers.csv`` beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--m", type=int, nargs="+", default=[2, 3, 8, 40])
    parser.add_argument("--n", type=int, nargs="+", default=[200, 10**5, 10**6, 10**7])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each method and size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "solvers.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    tables = []
    for n in arguments.n:
        for m in arguments.m:
            if m == 40 and n > 10**6:
                continue
            tables.append(measure(m, n, arguments.seconds))
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(arguments.out, index=False, float_format="%.4g")
    for (m, n), part in table.groupby(["m", "n"]):
        mean = math.exp(statistics.fmean(math.log(ratio) for ratio in part["ratio"]))
        print(
            f"m={m} n={n}: geometric mean {mean:.1f}, smallest {part['ratio'].min():.2f} "
            f"({part.loc[part['ratio'].idxmin(), 'method']})"
        )
    for m in arguments.m:
        if m <= 4:
            rays(m, 300)


if __name__ == "__main__":
    main()
