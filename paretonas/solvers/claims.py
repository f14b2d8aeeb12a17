"""One table of the promises of each solver of this package; the tests check every promise.

    python -m paretonas.solvers.claims    # prints the table that stands in docs/solvers.md

A promise is tested on generated jacobians of all ranks and scales. For each "no" the tests find a
jacobian that breaks the property.
"""

from __future__ import annotations

from collections.abc import Callable

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
from paretonas.solvers.conformance import Claims

Build = Callable[[int], Solver]


def seeded(m: int) -> torch.Generator:
    """A generator with seed m."""
    return torch.Generator().manual_seed(m)


def equal(m: int) -> torch.Tensor:
    """The preference with equal entries."""
    return torch.full((m,), 1 / m, dtype=torch.float64)


YES, NO = True, False
CLAIMS: dict[str, tuple[Build, Claims]] = {  # Build makes the solver for m objectives
    # equivariant, linear, invariant, strongly stationary, deterministic
    "LinearScalarization": (lambda m: LinearScalarization(), Claims(YES, YES, NO, YES)),
    "RandomWeights": (lambda m: RandomWeights(seeded(m)), Claims(NO, YES, NO, YES, NO)),
    "MGDA": (lambda m: MGDA(), Claims(YES, NO, NO, NO)),
    "UPGrad": (lambda m: UPGrad(), Claims(YES, YES, NO, YES)),
    "DualProj": (lambda m: DualProj(), Claims(YES, NO, NO, YES)),
    "PriorityProjection": (lambda m: PriorityProjection(), Claims(NO, YES, YES, NO)),
    "PCGrad": (lambda m: PCGrad(), Claims(YES, YES, NO, YES)),
    "GradVac": (lambda m: GradVac(), Claims(NO, YES, NO, YES)),
    "GradDrop": (lambda m: GradDrop(generator=seeded(m)), Claims(YES, NO, NO, YES, NO)),
    "CAGrad": (lambda m: CAGrad(), Claims(YES, NO, NO, YES)),
    "NashMTL": (lambda m: NashMTL(), Claims(YES, NO, YES, NO)),
    "FairGrad": (lambda m: FairGrad(), Claims(YES, NO, NO, NO)),
    "IMTLG": (lambda m: IMTLG(), Claims(YES, NO, YES, YES)),
    "AlignedMTL": (lambda m: AlignedMTL(), Claims(YES, NO, NO, YES)),
    "ConFIG": (lambda m: ConFIG(), Claims(YES, YES, YES, YES)),
    "SAMGS": (lambda m: SAMGS(), Claims(YES, NO, NO, NO)),
    "UncertaintyWeighting": (lambda m: UncertaintyWeighting(), Claims(YES, YES, NO, YES)),
    "DynamicWeightAverage": (lambda m: DynamicWeightAverage(), Claims(YES, YES, NO, YES)),
    "GradNorm": (lambda m: GradNorm(), Claims(YES, YES, NO, YES)),
    "FAMO": (lambda m: FAMO(), Claims(YES, YES, NO, YES)),
    "InverseMagnitude": (lambda m: InverseMagnitude(), Claims(YES, NO, YES, YES)),
    "IMTLL": (lambda m: IMTLL(), Claims(YES, YES, NO, YES)),
    "Tchebycheff": (lambda m: Tchebycheff(), Claims(YES, YES, NO, NO)),
    "SmoothTchebycheff": (lambda m: SmoothTchebycheff(), Claims(YES, YES, NO, YES)),
    "EPO": (lambda m: EPO(), Claims(YES, NO, NO, NO)),
    "PMTL": (lambda m: PMTL(), Claims(YES, NO, NO, NO)),
    "PMGDA": (lambda m: PMGDA(), Claims(YES, NO, NO, NO)),
    "Weighted": (lambda m: Weighted(equal(m), MGDA()), Claims(YES, NO, NO, NO)),
    "MovingAverage": (lambda m: MovingAverage(MGDA()), Claims(YES, NO, NO, NO)),
    "EveryKSteps": (lambda m: EveryKSteps(MGDA(), 2), Claims(YES, NO, NO, NO)),
    "Normalized": (lambda m: Normalized(MGDA()), Claims(YES, NO, YES, NO)),
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
    for name in CLAIMS:
        marks = ["yes" if promised(name, field) else "" for field in HEADS]
        lines.append(f"| `{name}` | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def promised(name: str, promise: str) -> bool:
    """Whether the solver of this name makes this promise (``non_conflicting`` is its attribute)."""
    build, claims = CLAIMS[name]
    holder = build(2) if promise == "non_conflicting" else claims
    return bool(getattr(holder, promise, False))


if __name__ == "__main__":
    print(table())
