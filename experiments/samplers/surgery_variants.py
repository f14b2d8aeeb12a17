"""How much each part of the surgery sampler contributes: the same tables with one part changed.

    python experiments/samplers/surgery_variants.py --data DIR [--out FILE] [--only NAME ...]
    python experiments/samplers/surgery_variants.py --show  # the table from the written rows

The script changes the solver, the number of rays, the size of a batch and of the initial design
("first"), alpha (none: local search from the front alone), the local search ("climbing"; none: the
best architecture that alpha visited is evaluated), the scales of costs (only the given one), each
part of the surrogates' kernel except the constant, their prior, and everything at once: ridge
regression, with picks from its predicted front. The tables are some of those of
`surgery_vs_evolution` on which settings were chosen. It writes a row for each table and variant:
means over seeds of the fraction of the true hypervolume, the evaluations that the mean needs to
reach 97 % (empty: more than the budget), and the method overhead in seconds per evaluation. It
prints the mean over tables, with its standard error over seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from surgery_tables import heading, line, number
from surgery_vs_evolution import cases, first, fractions

from paretonas.compare import compare
from paretonas.problem import Problem
from paretonas.samplers import Sampler, surgery
from paretonas.samplers.ridge import Ridge
from paretonas.samplers.surgery import Surgery
from paretonas.solvers import MGDA, PCGrad, SmoothTchebycheff, UPGrad
from paretonas.surrogates import gaussian_process
from paretonas.surrogates.gaussian_process import STANDARDIZED, FitWarp
from paretonas.surrogates.observations import Picks

HERE = Path(__file__).parent
MARKS = (16, 24, 50, 100)
TABLES = ("nb201_silver_4114", "nb201_edgegpu", "graph_arxiv", "graph_cs")
NOTHING = -60.0  # the logarithm of a weight


class NoAlpha(Surgery):
    """Local search from the front alone."""

    def _from_alpha(self, low: np.ndarray, reach: np.ndarray) -> list[Picks]:
        return []


class NoClimbing(Surgery):
    """Evaluates the best candidate of alpha; random ones, if all of these are known."""

    def _from_front(self, front: list[Picks]) -> list[Picks]:
        return super()._from_front([])

    def ask(self) -> list:
        with patch.object(surgery, "local_search", _best_of):
            return super().ask()


class AsTheyAre(Surgery):
    """Fits costs as they are given: neither logarithms of them nor what they are logarithms of."""

    def _warps(self, column: str) -> Sequence[FitWarp]:
        return STANDARDIZED


class Changed(Surgery):
    """Has other constants in its surrogates; the initial design keeps the whole kernel."""

    def __init__(self, problem: Problem, *, seed: int, **constants: object) -> None:
        super().__init__(problem, seed=seed)
        self._constants = constants

    def ask(self) -> list:
        with patch.multiple(gaussian_process, **self._constants):
            return super().ask()


def without(part: int) -> Callable[..., Sampler]:
    """Surgery without a part of the kernel, by its place in `gaussian_process.PRIOR`."""
    prior = gaussian_process.PRIOR.copy()
    prior[part] = NOTHING
    return partial(Changed, PRIOR=prior)


def _best_of(starts: list[Picks], sizes: tuple[int, ...], score) -> list[Picks]:
    return [picks for picks, _ in sorted(score(starts), key=lambda pair: -pair[1])]


VARIANTS = {
    "surgery": Surgery,
    "no_alpha": NoAlpha,
    "no_climbing": NoClimbing,
    "as_they_are": AsTheyAre,
    "smooth_tchebycheff": partial(Surgery, solver=SmoothTchebycheff()),
    "mgda": partial(Surgery, solver=MGDA()),
    "pcgrad": partial(Surgery, solver=PCGrad()),
    "upgrad": partial(Surgery, solver=UPGrad()),
    "24_rays": partial(Surgery, rays=24),
    "batch_5": partial(Surgery, batch=5),
    "first_4": partial(Surgery, first=4),
    "first_12": partial(Surgery, first=12),
    "no_picks": without(1),
    "no_counts": without(2),
    "no_pairs": without(3),
    "no_distance": without(4),
    "no_differing_picks": without(5),
    "no_presence": without(6),
    "normal_prior": partial(Changed, PRIOR_FREEDOM=1e6),
    "ridge": Ridge,
}


def make(name: str, problem: Problem, seed: int) -> Sampler:
    """The variant of this name."""
    return VARIANTS[name](problem, seed=seed)


def main() -> None:
    """Compare all variants on each table."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the tables")
    parser.add_argument("--show", action="store_true", help="run nothing, read what was written")
    parser.add_argument("--out", type=Path, default=HERE / "surgery_variants.csv")
    parser.add_argument("--tables", nargs="+", choices=list(known), default=list(TABLES))
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=None)
    options = parser.parse_args()
    if options.show:
        print(together(pd.read_csv(options.out)))
        return
    if options.data is None:
        parser.error("--data is missing: the folder of the tables")
    rows = []
    for name in options.tables:
        table = known[name].read(options.data)
        comparison = compare(
            Problem(table, log=known[name].log),
            {variant: partial(make, variant) for variant in options.only},
            budget=options.budget,
            seeds=options.seeds,
            jobs=options.jobs,
        )
        for variant, curves in fractions(comparison):
            mean = curves.mean(axis=0)
            bills = [r.ledger for (m, _), r in comparison.records.items() if m == variant]
            seconds = np.median([bill.thinking_seconds / bill.evaluations for bill in bills])
            reached: dict[str, float] = {}
            for mark in (mark for mark in MARKS if mark <= len(mean)):
                reached[f"after_{mark}"] = round(mean[mark - 1], 4)
                spread = curves[:, mark - 1].std(ddof=1) if len(curves) > 1 else np.nan
                reached[f"deviation_{mark}"] = round(spread, 4)
            rows.append(
                {
                    "table": name,
                    "variant": variant,
                    "seeds": len(curves),
                    **reached,
                    "evaluations_to_97": first(mean, 0.97),
                    "thinking_seconds_per_evaluation": round(float(seconds), 4),
                }
            )
            print(rows[-1], flush=True)
        frame = pd.DataFrame(rows).astype({"evaluations_to_97": "Int64"})
        frame.to_csv(options.out, index=False, lineterminator="\n")
    print(together(frame))


def together(frame: pd.DataFrame) -> str:
    """A row per variant, as Markdown: the mean over tables and its standard error over seeds."""
    marks = [mark for mark in MARKS if f"after_{mark}" in frame]
    rows = [heading("variant", *map(str, marks), "seconds")]
    for variant, own in frame.groupby("variant", sort=False):
        if set(own["table"]) != set(frame["table"]):
            continue  # a mean over fewer tables says something else
        cells = []
        for mark in marks:
            errors = own[f"deviation_{mark}"].to_numpy() / own["seeds"].to_numpy() ** 0.5
            error = np.sqrt(np.square(errors).sum()) / len(own)
            around = f" ± {number(error)}" if np.isfinite(error) else ""
            cells.append(number(own[f"after_{mark}"].mean()) + around)
        seconds = own["thinking_seconds_per_evaluation"].median()
        rows.append(line(str(variant).replace("_", " "), *cells, f"{seconds:.2f}"))
    return "\n".join(rows)


if __name__ == "__main__":
    main()
