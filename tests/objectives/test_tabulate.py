"""Dependences are found, complete, and no larger than they are."""

import itertools
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretonas.objectives.tabulate import Hints, cost_table, tabulate
from paretonas.space import Choice, encode, every

CHOICES = tuple(Choice(f"c{i}", tuple("abcd"[:n])) for i, n in enumerate((2, 3, 4, 3, 2)))


# As many in the deep run: a dependence that shows in one architecture of 144 can stay hidden.
@settings(max_examples=100)
@given(st.data())
def test_a_random_function_of_few_choices_is_recovered(data):
    axes = data.draw(st.lists(st.integers(0, 4), max_size=3, unique=True))
    sizes = [len(CHOICES[axis].options) for axis in axes]
    numbers = data.draw(
        st.lists(st.integers(0, 3), min_size=prod(sizes), max_size=prod(sizes))
    )  # few values, so that many combinations look alike
    table = dict(zip(itertools.product(*map(range, sizes)), numbers, strict=True))

    def value(architecture):
        picks = encode(CHOICES, architecture)
        return table[tuple(picks[axis] for axis in axes)]

    found = tabulate(CHOICES, lambda a: {"slot": value(a)})["slot"]
    assert set(found.axes()) <= set(axes)
    for architecture in every(CHOICES):
        key = found.key(encode(CHOICES, architecture))
        assert found.values[key][0] == value(architecture)


def test_options_that_do_not_differ_share_a_class():
    found = tabulate(CHOICES, lambda a: {"slot": a["c2"] in "ab"})["slot"]
    assert found.axes() == [2]
    assert found.classes[2] == [0, 0, 1, 1]
    assert len(found.values) == 2


def test_a_slot_that_shows_up_late_is_none_before():
    def observe(architecture):
        return {"always": 1, **({"rare": 2} if set(architecture.values()) == {"a"} else {})}

    found = tabulate(CHOICES, observe)
    rare = found["rare"]
    for architecture in every(CHOICES):
        expected = 2 if set(architecture.values()) == {"a"} else None
        assert rare.values[rare.key(encode(CHOICES, architecture))][0] == expected


def test_few_architectures_are_looked_at():
    choices = tuple(Choice(f"c{i}", tuple("abcdef")) for i in range(20))
    seen = []

    def observe(architecture):
        seen.append(architecture)
        return {f"s{i}": (architecture[f"c{i}"], architecture["c0"]) for i in range(20)}

    found = tabulate(choices, observe)
    assert all(len(found[f"s{i}"].values) == 36 for i in range(1, 20))
    assert len(seen) == len(set(seen)) < 400  # of 6^20


def test_too_many_combinations_are_refused_by_name():
    choices = [Choice(f"c{i}", ("a", "b")) for i in range(13)]
    with pytest.raises(
        ValueError,
        match=r"the cost of 'all' depends on 13 choices \(c0, c1, .*\), 8192 combinations; a table "
        r"holds at most 4096",
    ):
        tabulate(choices, lambda a: {"all": str(a)})


@settings(max_examples=60)
@given(st.data())
def test_a_guess_may_be_wrong_and_changes_no_table(data):
    """Whatever is guessed, the table is the same, and options that are equal share a class."""
    axes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=2, unique=True))
    wrong = data.draw(st.lists(st.booleans(), min_size=5, max_size=5))

    def value(architecture):
        picks = encode(CHOICES, architecture)
        return sum((picks[axis] // 2 + 1) * 7**place for place, axis in enumerate(axes))

    def guess(name):
        return [
            list(range(len(c.options))) if told else [0] * len(c.options)
            for c, told in zip(CHOICES, wrong, strict=True)
        ]

    found = tabulate(CHOICES, lambda a: {"slot": value(a)}, hints=Hints(guess, ()))["slot"]
    for axis, choice in enumerate(CHOICES):
        halves = [pick // 2 for pick in range(len(choice.options))]
        assert found.classes[axis] == (halves if axis in axes else [0] * len(halves))
    for architecture in every(CHOICES):
        assert found.values[found.key(encode(CHOICES, architecture))][0] == value(architecture)


def test_with_a_right_guess_very_few_architectures_are_looked_at():
    choices = tuple(Choice(f"c{i}", tuple("abcdef")) for i in range(80))
    seen = set()

    def observe(architecture):
        seen.add(architecture)
        return {f"part{i}": architecture[f"c{i}"] for i in range(80)}

    def guess(name):
        own = int(name.removeprefix("part"))
        return [list(range(6)) if index == own else [0] * 6 for index in range(80)]

    found = tabulate(choices, observe, hints=Hints(guess, ()))
    assert all(found[f"part{i}"].axes() == [i] for i in range(80))
    assert len(seen) < 60


def test_a_slot_that_depends_on_too_much_has_means_and_is_named():
    choices = tuple(Choice(f"c{i}", tuple("abcdef")) for i in range(12))

    def observe(architecture):
        picks = encode(choices, architecture)
        return {"own": picks[0] + 1, "all": 100 + sum(picks) % 7}

    def guess(name):
        return [list(range(6)) if name == "own" and i == 0 else [0] * 6 for i in range(12)]

    table = cost_table(choices, observe, unit="bytes", hints=Hints(guess, ()))
    assert table.about == {"approximate": ["all"]}
    everywhere = {c.name: "f" for c in choices}
    own = table.total_at(everywhere) - table.total_at(everywhere | {"c0": "a"})
    assert own == pytest.approx(5)
    assert 102 < table.total_at(everywhere) - 6 < 104
