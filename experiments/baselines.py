"""What the gradient search is compared with: NSGA-II and random search over a table of costs."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
from truth import Array, Truth

from paretonas.relaxation import sizes_of

PATIENCE = 30  # generations without a new architecture until NSGA-II counts as converged


def random_order(truth: Truth, seed: int) -> Iterator[int]:
    """All architectures, none twice."""
    rows = list(range(len(truth.picks)))
    Random(seed).shuffle(rows)
    yield from rows


def nsga2_order(truth: Truth, errors: Array, seed: int, population: int) -> Iterator[int]:
    """The architectures in the order in which NSGA-II (pymoo) evaluates them, none twice.

    Args:
        truth: the space and its costs.
        errors: (N,) what an evaluation finds.
        seed: of its random numbers.
        population: its size.

    References:
        Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II" (IEEE
        Trans. Evol. Comput. 6). Integer picks by rounding, as pymoo's documentation has it.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    upper = np.array(sizes_of(truth.choices)) - 1
    problem = Problem(n_var=len(upper), n_obj=3, xl=np.zeros_like(upper), xu=upper, vtype=int)
    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(repair=RoundingRepair()),
        mutation=PM(repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, termination=("n_gen", 10_000), seed=seed)
    found: set[int] = set()
    idle = 0
    while idle < PATIENCE:
        asked = algorithm.ask()
        if asked is None or len(asked) == 0:
            return
        idle += 1
        for individual in asked:
            row = truth.row([int(pick) for pick in individual.X])
            individual.set("F", np.array([errors[row], *truth.costs[row]]))
            if row not in found:
                found.add(row)
                idle = 0
                yield row
        algorithm.tell(infills=asked)
