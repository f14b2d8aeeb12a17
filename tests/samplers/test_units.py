"""Model-based samplers and costs of any size: the unit changes nothing."""

import pytest

from paretonas.front import Front
from paretonas.samplers.base import sample
from paretonas.samplers.methods import make

POWERS = [2.0**768, 2.0**-768]  # 1e231 and 1e-231: exact, so nothing may differ in any digit


@pytest.mark.parametrize("method", ["surgery", "ridge"])
def test_a_sampler_asks_for_the_same_in_any_unit(problem_of, grid, method):
    def asked(power):
        problem = problem_of(
            grid(3, 4, 3, 4),
            a=lambda p: power * (1 + (p[0] - 1) ** 2 + p[1] * p[2]),
            b=lambda p: power * (9.0 - sum(p) + 0.3 * p[0] * p[3]),
        )
        sampler, front = make(method, problem, 0), Front(problem.columns)
        outcomes = sample(problem, sampler, front, budget=15)
        return [outcome.architecture for outcome in outcomes]

    assert asked(1.0) == asked(POWERS[0]) == asked(POWERS[1])


@pytest.mark.parametrize("method", ["surgery", "ridge"])
def test_a_sampler_copes_with_objectives_of_any_size(problem_of, grid, method):
    problem = problem_of(
        grid(3, 4, 3),
        huge=lambda p: 1e200 * (1 + sum(p)),
        tiny=lambda p: -1e-200 * (1 + p[0] + p[1] * p[2]),
        wide=lambda p: 10.0 ** (40 * (p[0] - p[2]) + p[1]),
        same=lambda p: 1e250,
    )
    sampler, front = make(method, problem, 0), Front(problem.columns)
    assert len([*sample(problem, sampler, front, budget=14)]) == 14
