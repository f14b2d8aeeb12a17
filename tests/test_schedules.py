"""The conflict-aware learning rate: against a plain loop, beside and around other schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, lr_scheduler

from paretonas.conflict import cosine_similarity
from paretonas.schedules import ConflictAwareLR
from paretonas.solvers import MGDA

COSINES = [0.5, -0.1, -0.8, -0.9, -0.2, 0.3, 0.9, 0.9, 0.8, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def aware(optimizer, **settings):
    usual = {"threshold": 1.0, "shrink": 0.9, "grow": 1.02, "smallest": 0.1}
    return ConflictAwareLR(optimizer, **usual | settings)


def sgd(*rates):
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in rates]
    return SGD([{"params": [w], "lr": lr} for w, lr in zip(weights, rates, strict=True)])


def rates_over(schedule, cosines, *, stepper=None):
    """The first group's rate before each step, and after the last."""
    group = schedule.optimizer.param_groups[0]
    found = [group["lr"]]
    for cosine in cosines:
        schedule.optimizer.step()
        if stepper is None:
            schedule.step(cosines=cosine)
        else:
            schedule.observe(cosine)
            stepper.step()
        found.append(float(group["lr"]))
    return found


def plain_factors(*, cosines, threshold, shrink, grow, smallest, smoothing):
    mean, factor, found = None, 1.0, [1.0]
    for cosine in cosines:
        conflict = 1 - cosine
        mean = conflict if mean is None else smoothing * mean + (1 - smoothing) * conflict
        if mean > threshold:
            factor *= shrink
            if factor < smallest:
                factor = smallest
        else:
            factor *= grow
            if factor > 1:
                factor = 1.0
        found.append(factor)
    return found


def scaled(make):
    """The factors over COSINES, and the rates of another schedule alone times these."""
    optimizer = sgd(0.5)
    scheduler = make(optimizer)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in COSINES:
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    factors = plain_factors(
        cosines=COSINES, threshold=1.0, shrink=0.9, grow=1.02, smallest=0.1, smoothing=0.5
    )
    return factors, [factor * rate for factor, rate in zip(factors, rates, strict=True)]


# --- alone -------------------------------------------------------------------------------------


@given(
    # Binary fractions: with others rounding would decide on which side of a threshold they are.
    cosines=st.lists(st.integers(-1024, 1024).map(lambda n: n / 1024), max_size=30),
    threshold=st.floats(0, 1.9),
    shrink=st.floats(0.1, 0.99),
    grow=st.floats(1, 2),
    smallest=st.floats(0.01, 1),
    smoothing=st.floats(0, 0.95),
)
def test_it_is_the_plain_loop_within_its_bounds(cosines, **settings):
    schedule = aware(sgd(0.3), **settings)
    expected = [0.3 * f for f in plain_factors(cosines=cosines, **settings)]
    found = rates_over(schedule, cosines)
    assert found == pytest.approx(expected, rel=1e-12)
    assert all(
        0.3 * settings["smallest"] * (1 - 1e-9) <= rate <= 0.3 * (1 + 1e-9) for rate in found
    )


def test_harmony_leaves_the_rate_as_it_is():
    assert rates_over(aware(sgd(0.1)), [0.0, 0.5, 1.0]) == [0.1] * 4


def test_lasting_conflict_ends_at_the_smallest_and_lasting_harmony_at_the_base():
    schedule = aware(sgd(0.1), smallest=0.2)
    assert rates_over(schedule, [-0.5] * 60)[-1] == pytest.approx(0.02)
    assert rates_over(schedule, [0.5] * 200)[-1] == pytest.approx(0.1)


def test_smoothing_forgives_a_single_bad_batch():
    cosines = [0.8, 0.8, -1.0, 0.8, 0.8]
    assert min(rates_over(aware(sgd(1.0), smoothing=0.9), cosines)) == 1
    assert min(rates_over(aware(sgd(1.0), smoothing=0.0), cosines)) < 1


def test_all_groups_are_scaled_alike():
    schedule = aware(sgd(1.0, 0.1, 0.0), shrink=0.5, smoothing=0.0)
    rates_over(schedule, [-1.0, -1.0])
    assert schedule.get_last_lr() == pytest.approx([0.25, 0.025, 0])


def test_rates_that_are_tensors_are_changed_in_place():
    rate = torch.tensor(1.0)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=rate, capturable=False,
                                 foreach=False)  # fmt: skip
    schedule = aware(optimizer, shrink=0.5, smoothing=0.0)
    rates_over(schedule, [-1.0])
    assert rate == 0.5


def test_the_worst_of_several_cosines_counts():
    gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.1]])
    cosines = cosine_similarity(gradients)
    schedule = aware(sgd(1.0))
    schedule.observe(cosines)
    assert schedule.conflict == pytest.approx(1 - cosines.min().item())


def test_it_can_be_fed_from_a_certificate():
    direction = MGDA()(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    schedule = aware(sgd(1.0), threshold=0.2)
    rates_over(schedule, [direction.certificate.smallest_cosine])
    assert schedule.conflict == pytest.approx(1 - math.sqrt(0.5))
    assert schedule.factor < 1


def test_a_lone_objective_is_in_harmony():
    schedule = aware(sgd(1.0))
    assert rates_over(schedule, [cosine_similarity(torch.ones(1, 3))]) == [1, 1]


def test_a_step_without_observation_keeps_the_rate():
    schedule = aware(sgd(1.0), smoothing=0.0)
    (_, rate) = rates_over(schedule, [-1.0])
    for _ in range(3):
        schedule.optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == [rate]


# --- beside others -----------------------------------------------------------------------------


def test_it_multiplies_with_a_chained_cosine():
    def cosine(optimizer):
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)

    factors, expected = scaled(cosine)
    for order in (1, -1):
        optimizer = sgd(0.5)
        schedule = aware(optimizer, smoothing=0.5)
        chain = lr_scheduler.ChainedScheduler([schedule, cosine(optimizer)][::order])
        found = rates_over(schedule, COSINES, stepper=chain)
        assert found == pytest.approx(expected, rel=1e-9)
        assert min(factors) < 0.9


def test_after_a_warm_up_it_takes_over():
    optimizer = sgd(1.0)
    warm_up = lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=3)
    schedule = aware(optimizer, shrink=0.5, smoothing=0.0)
    both = lr_scheduler.SequentialLR(optimizer, [warm_up, schedule], milestones=[3])
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(3):
        optimizer.step()
        both.step()
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates_over(schedule, [-1.0, -1.0, 0.5], stepper=both) == pytest.approx(
        [1.0, 0.5, 0.25, 0.255]
    )


INNER = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=5, eta_min=0.01),
    "cosine with a floor": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=8, eta_min=0.05),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=20,
                                                  cycle_momentum=False),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=4), lr_scheduler.ExponentialLR(o, 0.8)], [4]
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", INNER.values(), ids=INNER)
def test_whatever_the_inner_schedule_its_rates_are_scaled(make):
    _, expected = scaled(make)
    optimizer = sgd(0.5)
    schedule = aware(optimizer, smoothing=0.5, inner=make(optimizer))
    assert rates_over(schedule, COSINES) == pytest.approx(expected, rel=1e-12)


# --- resuming ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [None, *INNER.values()], ids=["alone", *INNER])
def test_resumed_it_goes_on_as_if_never_stopped(make, tmp_path):
    def new():
        optimizer = sgd(0.5, 0.2)
        inner = None if make is None else make(optimizer)
        return aware(optimizer, smoothing=0.5, inner=inner)

    through = new()
    straight = rates_over(through, COSINES)
    first = new()
    rates_over(first, COSINES[:7])
    states = (first.optimizer.state_dict(), first.state_dict())
    torch.save(states, tmp_path / "state.pt")
    second = new()
    optimizer_state, schedule_state = torch.load(tmp_path / "state.pt", weights_only=False)
    second.optimizer.load_state_dict(optimizer_state)
    second.load_state_dict(schedule_state)
    assert rates_over(second, COSINES[7:]) == straight[7:]
    assert second.get_last_lr() == through.get_last_lr()


def test_the_state_is_plain_values_that_a_checkpoint_holds(tmp_path):
    schedule = aware(sgd(0.5))
    rates_over(schedule, COSINES)
    torch.save(schedule.state_dict(), tmp_path / "state.pt")
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    assert kept == schedule.state_dict()


def test_a_state_with_an_inner_schedule_fits_only_such():
    optimizer = sgd(0.5)
    wrapped = aware(optimizer, inner=lr_scheduler.ExponentialLR(optimizer, 0.9))
    with pytest.raises(ValueError, match="inner"):
        aware(sgd(0.5)).load_state_dict(wrapped.state_dict())


@pytest.mark.parametrize("gamma", [None, 0.5])
def test_a_group_added_later_starts_from_its_own_rate(gamma):
    optimizer = sgd(1.0)
    inner = None if gamma is None else lr_scheduler.ExponentialLR(optimizer, gamma)
    schedule = aware(optimizer, inner=inner, smoothing=0.0)

    def step(cosine):
        optimizer.step()
        schedule.step(cosines=cosine)
        return schedule.get_last_lr()

    for _ in range(3):
        step(-1.0)
    assert schedule.factor < 0.75
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 2.0})
    decay = 1.0 if gamma is None else gamma
    for k in range(1, 60):
        rates = step(-1.0 if k < 3 else 1.0)
        assert rates == pytest.approx(
            [schedule.factor * decay ** (k + 3), 2 * schedule.factor * decay**k]
        )
    assert schedule.factor == 1.0


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cosines", "message"),
    [
        (math.nan, "cosines must be finite, got nan"),
        (torch.tensor([[1.0, -math.inf], [0.0, 1.0]]), r"got -inf at \(0, 1\)"),
        (1.5, r"cosines must be in \[-1, 1\], got 1.5"),
    ],
)
def test_what_is_no_cosine_is_refused_and_changes_nothing(cosines, message):
    schedule = aware(sgd(1.0))
    schedule.optimizer.step()
    with pytest.raises(ValueError, match=message):
        schedule.step(cosines=cosines)
    assert (schedule.factor, schedule.conflict, schedule.last_epoch) == (1.0, None, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 2.0),
        ("threshold", math.nan),
        ("shrink", 1.0),
        ("shrink", 0.0),
        ("grow", 0.9),
        ("grow", math.inf),
        ("smallest", 0.0),
        ("smallest", 1.1),
        ("smoothing", 1.0),
        ("smoothing", -0.1),
    ],
)
def test_an_argument_out_of_its_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        aware(sgd(1.0), **{name: value})


def test_an_inner_schedule_of_another_optimizer_is_refused():
    with pytest.raises(ValueError, match="same optimizer"):
        aware(sgd(1.0), inner=lr_scheduler.ExponentialLR(sgd(1.0), 0.9))


def test_what_is_no_optimizer_is_refused_as_by_torch():
    with pytest.raises(TypeError, match="not an Optimizer"):
        aware(torch.nn.Linear(1, 1))


def test_the_wrong_order_of_steps_is_warned_about_as_by_torch():
    schedule = aware(sgd(1.0))
    with pytest.warns(UserWarning, match=r"lr_scheduler.step\(\)` before `optimizer.step"):
        schedule.step()


def test_a_lone_task_is_in_harmony():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = ConflictAwareLR(optimizer)
    for _ in range(3):
        optimizer.step()
        schedule.step(cosines=torch.zeros(0))
    assert schedule.get_last_lr() == [0.1]
