"""Local search steps from the front to neighbors, and starts anew when it is stuck."""

import pytest

from paretonas.point import Point
from paretonas.samplers.base import Failure, evaluate
from paretonas.samplers.local import LocalSearch
from paretonas.space import every


def distance(a, b):
    return sum(a[name] != b[name] for name in a)


def nondominated(points):
    """Slow and plain."""
    costs = {point.architecture: tuple(point.objectives.values()) for point in points}
    return [
        a
        for a, own in costs.items()
        if not any(
            all(x <= y for x, y in zip(other, own, strict=True)) and other != own
            for other in costs.values()
        )
    ]


def test_each_step_is_a_neighbor_of_the_front_of_this_start(problem_of, grid):
    problem = problem_of(
        grid(4, 4, 4),
        a=lambda p: (p[0] - 1) ** 2 + p[1] + 0.1 * p[2],
        b=lambda p: (p[0] - 3) ** 2 + (p[2] - 2) ** 2 - p[1],
    )
    search = LocalSearch(problem, seed=3, starts=4)
    current, known, starts = [], set(), 0
    while asked := search.ask():
        assert not known & {*asked} and len({*asked}) == len(asked)
        center = any(distance(asked[0], a) == 1 for a in nondominated(current))
        if len(asked) > 1 or not center:
            starts += 1
            stuck = nondominated(current)
            assert all(
                a in known for c in stuck for a in every(problem.choices) if distance(a, c) == 1
            )
            current = []
        known |= {*asked}
        outcomes = [evaluate(architecture, problem.objectives) for architecture in asked]
        current += outcomes
        search.tell(outcomes)
    assert known == {*every(problem.choices)}
    assert starts > 1


def test_a_single_valley_is_descended_to_its_bottom(problem_of, grid):
    problem = problem_of(grid(*[4] * 8), cost=lambda p: float(sum(p)))
    search = LocalSearch(problem, seed=0, starts=1)
    best, evaluations = float("inf"), 0
    while best > 0:
        outcomes = [evaluate(architecture, problem.objectives) for architecture in search.ask()]
        search.tell(outcomes)
        evaluations += len(outcomes)
        best = min(best, *(outcome.objectives["cost"] for outcome in outcomes))
    assert evaluations < 200  # of 65,536


def test_neighbors_of_failures_are_not_searched(problem_of, grid):
    problem = problem_of(grid(3, 3, 3, 3))
    search = LocalSearch(problem, seed=0, starts=1)
    (first,) = search.ask()
    search.tell([Point(first, {"up": 1.0, "down": 1.0})])
    for _ in range(8):
        (neighbor,) = search.ask()
        assert distance(neighbor, first) == 1
        search.tell([Failure(neighbor, "broken")])
    assert distance(search.ask()[0], first) > 1


def test_a_start_needs_an_architecture(problem_of, grid):
    with pytest.raises(ValueError, match="starts must be at least 1, got 0"):
        LocalSearch(problem_of(grid(2, 2)), starts=0)
