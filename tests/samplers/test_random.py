"""Random search draws uniformly and never twice."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretonas.problem import Problem
from paretonas.samplers.random import Random, numbered
from paretonas.space import Choice, every, size


def drawn(sampler, count):
    found = []
    for _ in range(count):
        found += sampler.ask()
        sampler.tell([])
    return found


@given(st.lists(st.integers(2, 4), min_size=1, max_size=4), st.integers(0, 10))
def test_a_space_is_drawn_whole_and_nothing_twice(sizes, seed):
    choices = tuple(Choice(f"c{i}", tuple("abcd"[:n])) for i, n in enumerate(sizes))
    sampler = Random(_problem(choices), seed=seed)
    found = drawn(sampler, size(choices))
    assert len(found) == len({*found}) == size(choices)
    assert {*found} == {*every(choices)}
    assert sampler.ask() == [] == sampler.ask()


def test_every_order_is_equally_likely(problem_of, grid):
    problem = problem_of(grid(4))
    counts = Counter(
        tuple(str(a) for a in drawn(Random(problem, seed=seed), 4)) for seed in range(4800)
    )
    assert len(counts) == 24
    # chi-square with 23 degrees of freedom; 49.7 is exceeded once in a thousand
    assert sum((n - 200) ** 2 / 200 for n in counts.values()) < 49.7


def test_a_huge_space_takes_no_time(problem_of, grid):
    choices = grid(*[9] * 200)
    found = drawn(Random(problem_of(choices), seed=1), 300)
    assert len({*found}) == 300
    picks = Counter(option for architecture in found for option in architecture.values())
    assert max(picks.values()) < 1.1 * min(picks.values())


def test_numbers_follow_the_order_of_every(grid):
    choices = grid(3, 2, 4)
    assert [numbered(choices, i) for i in range(24)] == list(islice(every(choices), 24))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_is_an_order(problem_of, grid, seed):
    problem = problem_of(grid(5, 5))
    assert drawn(Random(problem, seed=seed), 25) == drawn(Random(problem, seed=seed), 25)
    assert drawn(Random(problem, seed=seed), 25) != drawn(Random(problem, seed=seed + 2), 25)


def _problem(choices):
    class Space:
        name = "any"

    Space.choices = choices

    class Cost:
        column = "cost"

        def exact(self, architecture):
            return 0.0

    return Problem(Space(), (Cost(),))
