"""How a budget is read and divided."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretonas.gradient_search import Budget, Plan
from paretonas.training import Recipe

recipes = st.builds(Recipe, epochs=st.integers(1, 40), batch_size=st.integers(1, 300))


@pytest.mark.parametrize(
    ("text", "steps", "seconds"),
    [
        ("90s", None, 90.0),
        ("0.5s", None, 0.5),
        ("2m", None, 120.0),
        ("2min", None, 120.0),
        ("1.5h", None, 5400.0),
        ("200steps", 200, None),
        ("1step", 1, None),
        (" 200 steps ", 200, None),
    ],
)
def test_a_budget_is_read(text, steps, seconds):
    assert Budget.parse(text) == Budget(steps, seconds)


@pytest.mark.parametrize(
    "text", ["", "90", "s", "-5s", "1e3s", "ninety s", "90s30", "90 sec", "nan s", "inf s", "5 h m"]
)
def test_what_is_no_budget_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"90s, 2m, 1h or 200steps; got"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["0s", "0steps", "0.0m", "2.5steps"])
def test_a_budget_is_positive_and_its_steps_are_whole(text):
    with pytest.raises(ValueError, match="positive number of steps or time, got"):
        Budget.parse(text)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"steps": -3}, "steps must be positive, got -3"),
        ({"seconds": 0.0}, "seconds must be positive and finite, got 0.0"),
        ({"seconds": math.nan}, "seconds must be positive and finite, got nan"),
        ({"seconds": math.inf}, "seconds must be positive and finite, got inf"),
    ],
)
def test_a_budget_says_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        Budget(**wrong)


def test_without_a_word_there_is_a_budget_of_steps():
    assert Budget().steps is not None
    assert Budget().seconds is None
    assert Budget(seconds=3.0).steps is None


@given(st.integers(1, 20_000), recipes, st.integers(1, 5000), st.integers(2, 10**6))
def test_a_plan_never_exceeds_its_steps(steps, recipe, epoch, architectures):
    if steps < 2 * epoch + 1:
        with pytest.raises(ValueError, match=f"steps, got {steps}"):
            Plan.of(steps, recipe, epoch, architectures)
        return
    plan = Plan.of(steps, recipe, epoch, architectures)
    fine = plan.finalists * plan.recipe.epochs * epoch
    assert plan.supernet_steps >= 1
    assert plan.finalists >= 2
    assert plan.supernet_steps + fine <= steps
    assert 1 <= plan.recipe.epochs <= recipe.epochs
    assert plan.finalists <= architectures
    assert 2 <= plan.proxy_evaluations <= architectures
    if plan.finalists < architectures:  # no more than one finalist's worth is left over
        assert steps - plan.supernet_steps - fine < plan.recipe.epochs * epoch


@given(st.integers(100, 20_000), st.integers(2, 40))
def test_more_budget_buys_no_less(steps, factor):
    recipe, epoch = Recipe(epochs=5), 10
    one, more = (Plan.of(s, recipe, epoch, 10**6) for s in (steps, steps * factor))
    assert more.supernet_steps >= one.supernet_steps
    assert more.recipe.epochs >= one.recipe.epochs
    assert more.finalists * more.recipe.epochs >= one.finalists * one.recipe.epochs
    assert more.proxy_evaluations >= one.proxy_evaluations


def test_a_small_budget_shortens_the_training_rather_than_the_front():
    recipe = Recipe(epochs=10, batch_size=10)
    plan = Plan.of(100, recipe, 10, 10**6)  # 70 steps are 7 epochs of 10 steps
    assert plan.finalists >= 4
    assert plan.recipe.epochs == 1
    assert (plan.recipe.batch_size, plan.recipe.learning_rate) == (10, recipe.learning_rate)
    rich = Plan.of(10_000, recipe, 10, 10**6)
    assert rich.recipe == recipe
    assert rich.finalists == 70


@pytest.mark.parametrize("name", ["supernet_steps", "proxy_evaluations", "finalists"])
def test_a_plan_of_ones_own_needs_something_of_each(name):
    plan = {"supernet_steps": 1, "proxy_evaluations": 2, "finalists": 1, "recipe": Recipe()}
    Plan(**plan)
    with pytest.raises(ValueError, match=f"{name} must be .* or more, got 0"):
        Plan(**{**plan, name: 0})
