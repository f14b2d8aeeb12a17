"""What each solver promises, in one table; the laws in the tests hold every solver to it.

    .venv/bin/python experiments/solver_claims.py    # writes the table into docs/solvers.md

A promise is tested over generated jacobians of all ranks and scales; where there is a "no", the
tests find a jacobian that shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from paretonas.solvers import (
    EPO,
    FAMO,
    IMTLG,
    IMTLL,
    MGDA,
    PMGDA,
    PMTL,
    SAMGS,
    AlignedMTL,
    CAGrad,
    ConFIG,
    DualProj,
    DynamicWeightAverage,
    EveryKSteps,
    FairGrad,
    GradDrop,
    GradNorm,
    GradVac,
    InverseMagnitude,
    LinearScalarization,
    MovingAverage,
    NashMTL,
    Normalized,
    PCGrad,
    PriorityProjection,
    RandomWeights,
    SmoothTchebycheff,
    Solver,
    Tchebycheff,
    UncertaintyWeighting,
    UPGrad,
    Weighted,
)

PAGE = Path(__file__).parents[1] / "docs" / "solvers.md"
START, END = "<!-- claims: start -->", "<!-- claims: end -->"


@dataclass(frozen=True)
class Claims:
    """The promises of one solver, for equal preferences and on its first call.

    Attributes:
        build: makes it for m objectives.
        non_conflicting: no gradient has an angle above 90 degrees with the direction.
        equivariant: permuting the objectives leaves the direction as it is.
        linear: linear in the positive factors by which the gradients are multiplied.
        invariant: these factors leave the direction as it is, up to its length.
        strongly_stationary: the direction is 0 only where a strictly positive combination of all
            gradients is 0.
        deterministic: the same input gives the same output.
    """

    build: Callable[[int], Solver]
    non_conflicting: bool
    equivariant: bool
    linear: bool
    invariant: bool
    strongly_stationary: bool
    deterministic: bool = True


def seeded(m: int) -> torch.Generator:
    """A generator that starts from m."""
    return torch.Generator().manual_seed(m)


def equal(m: int) -> torch.Tensor:
    """The preference that prefers nothing."""
    return torch.full((m,), 1 / m, dtype=torch.float64)


YES, NO = True, False
#                                                     NC   PE   LS   SI   SS
CLAIMS = {
    "LinearScalarization": Claims(lambda m: LinearScalarization(), NO, YES, YES, NO, YES),
    "RandomWeights": Claims(lambda m: RandomWeights(seeded(m)), NO, NO, YES, NO, YES, NO),
    "MGDA": Claims(lambda m: MGDA(), YES, YES, NO, NO, NO),
    "UPGrad": Claims(lambda m: UPGrad(), YES, YES, YES, NO, YES),
    "DualProj": Claims(lambda m: DualProj(), YES, YES, NO, NO, YES),
    "PriorityProjection": Claims(lambda m: PriorityProjection(), YES, NO, YES, YES, NO),
    "PCGrad": Claims(lambda m: PCGrad(), NO, YES, YES, NO, YES),
    "GradVac": Claims(lambda m: GradVac(), NO, NO, YES, NO, YES),
    "GradDrop": Claims(lambda m: GradDrop(generator=seeded(m)), NO, YES, NO, NO, YES, NO),
    "CAGrad": Claims(lambda m: CAGrad(), NO, YES, NO, NO, YES),
    "NashMTL": Claims(lambda m: NashMTL(), YES, YES, NO, YES, NO),
    "FairGrad": Claims(lambda m: FairGrad(), YES, YES, NO, NO, NO),
    "IMTLG": Claims(lambda m: IMTLG(), NO, YES, NO, YES, YES),
    "AlignedMTL": Claims(lambda m: AlignedMTL(), NO, YES, NO, NO, YES),
    "ConFIG": Claims(lambda m: ConFIG(), NO, YES, YES, YES, YES),
    "SAMGS": Claims(lambda m: SAMGS(), NO, YES, NO, NO, NO),
    "UncertaintyWeighting": Claims(lambda m: UncertaintyWeighting(), NO, YES, YES, NO, YES),
    "DynamicWeightAverage": Claims(lambda m: DynamicWeightAverage(), NO, YES, YES, NO, YES),
    "GradNorm": Claims(lambda m: GradNorm(), NO, YES, YES, NO, YES),
    "FAMO": Claims(lambda m: FAMO(), NO, YES, YES, NO, YES),
    "InverseMagnitude": Claims(lambda m: InverseMagnitude(), NO, YES, NO, YES, YES),
    "IMTLL": Claims(lambda m: IMTLL(), NO, YES, YES, NO, YES),
    "Tchebycheff": Claims(lambda m: Tchebycheff(), NO, YES, YES, NO, NO),
    "SmoothTchebycheff": Claims(lambda m: SmoothTchebycheff(), NO, YES, YES, NO, YES),
    "EPO": Claims(lambda m: EPO(), NO, YES, NO, NO, NO),
    "PMTL": Claims(lambda m: PMTL(), NO, YES, NO, NO, NO),
    "PMGDA": Claims(lambda m: PMGDA(), NO, YES, NO, NO, NO),
    "Weighted": Claims(lambda m: Weighted(equal(m), MGDA()), YES, YES, NO, NO, NO),
    "MovingAverage": Claims(lambda m: MovingAverage(MGDA()), NO, YES, NO, NO, NO),
    "EveryKSteps": Claims(lambda m: EveryKSteps(MGDA(), 2), NO, YES, NO, NO, NO),
    "Normalized": Claims(lambda m: Normalized(MGDA()), YES, YES, NO, YES, NO),
}
HEADS = {
    "non_conflicting": "non-conflicting",
    "equivariant": "permutation-equivariant",
    "linear": "linear under scaling",
    "invariant": "invariant to scaling",
    "strongly_stationary": "strongly stationary",
    "deterministic": "deterministic",
}


def table() -> str:
    """The promises as a Markdown table."""
    lines = ["| solver | " + " | ".join(HEADS.values()) + " |", "|---" * (len(HEADS) + 1) + "|"]
    for name, claims in CLAIMS.items():
        marks = ["yes" if getattr(claims, field) else "" for field in HEADS]
        lines.append(f"| `{name}` | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def main() -> None:
    """Write the table between its marks."""
    before, _, rest = PAGE.read_text().partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    main()
