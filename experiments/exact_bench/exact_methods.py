"""All methods of `exact_bench.py`: solvers with and without a ray, and ways to use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exact_variants import AnnealedTchebycheff, GatedByConflict, Handover, HypervolumeWeights
from torch import Tensor

from paretonas import relaxation, solvers
from paretonas.solvers import Solver
from paretonas.surrogates.alpha import with_preference

Build = Callable[[Tensor, int, int], Solver]  # preference (k, m), rays of a set, steps -> solver


@dataclass(frozen=True, eq=False)
class Method:
    """A way to drive the rays.

    Attributes:
        name: with `scale` and `family`, what the results are grouped by.
        family: "aimed", "unaimed", "set" (rays that know of each other), "mix", or what is varied.
            Only "aimed" and "set" run on all tables, the others on devices not tuned on.
        build: makes the solver.
        scale: of the costs that are driven: "linear", as they are scored, or "root".
        temperatures: of the softmax, first and last.
        spread: standard deviation of the first alpha.
        gates: what stands between alpha and the expectation.
        starts: so many rays share a preference.
        longer: so many times the steps of the others.
    """

    name: str
    family: str
    build: Build
    scale: str = "linear"
    temperatures: tuple[float, float] = (1.0, 0.3)
    spread: float = 1.0
    gates: relaxation.Gates = relaxation.softmax
    starts: int = 1
    longer: float = 1


SOLVERS: dict[str, Callable[[], Solver]] = {
    name: getattr(solvers, name)
    for name in (
        "LinearScalarization", "SmoothTchebycheff", "Tchebycheff", "EPO", "PMGDA", "MGDA", "UPGrad",
        "DualProj", "PriorityProjection", "PCGrad", "GradVac", "GradDrop", "CAGrad", "IMTLG",
        "NashMTL", "FairGrad", "AlignedMTL", "ConFIG", "SAMGS", "RandomWeights", "FAMO", "GradNorm",
        "UncertaintyWeighting", "DynamicWeightAverage", "IMTLL", "InverseMagnitude",
    )
}  # fmt: skip
SOLVERS["MovingAverage(MGDA)"] = lambda: solvers.MovingAverage(solvers.MGDA())
SOLVERS["Normalized(MGDA)"] = lambda: solvers.Normalized(solvers.MGDA())
SOLVERS["Normalized(Linear)"] = lambda: solvers.Normalized(solvers.LinearScalarization())


SURGERY = ("MGDA", "UPGrad", "DualProj", "PriorityProjection", "PCGrad", "GradVac", "GradDrop",
           "CAGrad", "IMTLG", "NashMTL", "FairGrad", "AlignedMTL", "ConFIG", "SAMGS",
           "Normalized(MGDA)")  # fmt: skip
ROOTED = ("LinearScalarization", "SmoothTchebycheff", "EPO", "PMGDA", "MGDA", "UPGrad", "PCGrad",
          "CAGrad")  # fmt: skip


def methods() -> list[Method]:
    """All that compete."""
    found = [
        *(Method(name, "aimed", _aimed(name)) for name in (*SOLVERS, "PMTL")),
        *(Method(name, "aimed", _aimed(name), "root") for name in ROOTED),
        *(Method(name, "unaimed", lambda p, r, n, make=SOLVERS[name]: make()) for name in SURGERY),
    ]
    climb = _weights("LinearScalarization")
    sets = {
        "hypervolume weights": climb,
        "hypervolume weights in CAGrad": _weights("CAGrad"),
        "hypervolume weights in MGDA": _weights("MGDA"),
    }
    for scale in ("linear", "root"):
        found += [Method(name, "set", build, scale) for name, build in sets.items()]
    mixes: dict[str, Build] = {
        "Linear, then hypervolume weights": lambda p, r, n: HypervolumeWeights(p, r, begin=n // 2),
        "Linear, then EPO": _half("LinearScalarization", "EPO"),
        "Linear, then PMGDA": _half("LinearScalarization", "PMGDA"),
        "Tchebycheff annealed .5 to .01": lambda p, r, n: AnnealedTchebycheff(p, (0.5, 0.01), n),
        "UPGrad where cosine < -.9, else Linear": (
            lambda p, r, n: GatedByConflict(p, solvers.UPGrad(), -0.9)
        ),
    }
    found += [
        Method("no descent", "set", _aimed("LinearScalarization"), scale, longer=0)
        for scale in ("linear", "root")
    ]
    found += [Method(name, "mix", build) for name, build in mixes.items()]
    named = {"LinearScalarization": _aimed("LinearScalarization"), "hypervolume weights": climb}
    for name, build in named.items():
        found += [
            Method(f"{name}, always at 1", "temperature", build, temperatures=(1.0, 1.0)),
            Method(f"{name}, 3 to .3", "temperature", build, temperatures=(3.0, 0.3)),
            Method(f"{name}, first alpha .1", "start", build, spread=0.1),
            Method(f"{name}, two starts a ray", "start", build, starts=2),
            Method(f"{name}, four times the steps", "steps", build, longer=4),
            *(
                Method(f"{name}, {gates.__name__}", "gates", build, gates=gates)
                for gates in (
                    relaxation.gumbel_softmax, relaxation.straight_through, relaxation.reinmax)
            ),
        ]  # fmt: skip
    return found


def _aimed(name: str) -> Build:
    return _pmtl if name == "PMTL" else lambda p, r, n: with_preference(SOLVERS[name](), p)


def _weights(inner: str) -> Build:
    return lambda p, r, n: HypervolumeWeights(p, r, _at(inner))


def _at(name: str) -> Callable[[Tensor], Solver]:
    return lambda p: with_preference(SOLVERS[name](), p)


def _half(first: str, second: str) -> Build:
    return lambda p, r, n: Handover(_at(first)(p), _at(second)(p), n // 2)


def _pmtl(preference: Tensor, r: int, steps: int) -> Solver:
    return solvers.PMTL(preference, others=preference[:r])
