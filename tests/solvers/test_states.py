"""A state that is not what a solver returned is refused, by name, before it does any harm."""

from __future__ import annotations

import re

import pytest
import torch

from paretonas.solvers import (
    FAMO,
    IMTLL,
    MGDA,
    SAMGS,
    DynamicWeightAverage,
    EveryKSteps,
    GradNorm,
    GradVac,
    MovingAverage,
    NashMTL,
    Normalized,
    Preconditioned,
    UncertaintyWeighting,
    Weighted,
)
from paretonas.solvers.claims import CLAIMS

M = 3
RAY = torch.tensor([0.2, 0.3, 0.5])
STATEFUL = {
    "UncertaintyWeighting": UncertaintyWeighting,
    "IMTLL": IMTLL,
    "FAMO": FAMO,
    "GradNorm": GradNorm,
    "DynamicWeightAverage": lambda: DynamicWeightAverage(steps_per_epoch=3),
    "GradVac": GradVac,
    "SAMGS": SAMGS,
    "MovingAverage": lambda: MovingAverage(MGDA()),
    "EveryKSteps": lambda: EveryKSteps(MGDA(), 3),
    "MovingAverage of FAMO": lambda: MovingAverage(FAMO()),
    "EveryKSteps of GradVac": lambda: EveryKSteps(GradVac(), 1),
    "EveryKSteps of NashMTL": lambda: EveryKSteps(NashMTL(), 3),
    "Weighted GradNorm": lambda: Weighted(RAY, GradNorm()),
    "Weighted SAMGS": lambda: Weighted(RAY, SAMGS()),
    "Normalized GradVac": lambda: Normalized(GradVac()),
    "Preconditioned GradVac": lambda: Preconditioned(GradVac(), torch.ones(5)),
}


@pytest.fixture(params=list(STATEFUL))
def solver(request):
    return STATEFUL[request.param]()


def given(shape=()):
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(*shape, M, 5, generator=generator)
    return jacobian, 0.5 + torch.rand(*shape, M, generator=generator)


def wrecks(state, name="state"):
    """Every way to break each entry, with the whole state rebuilt around it."""
    if isinstance(state, dict):
        for key in state:
            place = "state" if key == "inner" else f"state[{key!r}]"
            yield f"no {key}", {k: v for k, v in state.items() if k != key}, "state must be"
            for what, broken, named in wrecks(state[key], place):
                yield f"{key}: {what}", {**state, key: broken}, named
        yield "a key too many", {**state, "more": 1}, r"got \[.*'more'"
        yield "a list", list(state.values()), "got list"
        yield "a number", 3.0, "got float"
    elif isinstance(state, torch.Tensor):
        named = re.escape(name)
        yield "another shape", torch.cat([state.reshape(-1)] * 2), f"{named}|state must fit"
        yield "NaN", torch.full_like(state, torch.nan), f"{named} must .*got nan"
        yield "infinite", torch.full_like(state, -torch.inf), f"{named} must .*got -inf"
        yield "whole numbers", torch.ones_like(state, dtype=torch.long), f"{named} .*torch.int64"
        yield "a list", state.tolist(), f"{named} .*got (list|float)"
        yield "text", "0.5", f"{named} .*got str"
    elif isinstance(state, int):
        named = re.escape(name)
        yield "negative", -1, f"{named} must be at least 0, got -1"
        yield "no whole number", 1.5, f"{named} must be an int, got float"
        yield "none", None, f"{named} must be an int, got NoneType"


@pytest.mark.parametrize("shape", [(), (2,)], ids=["one ray", "two rays"])
@pytest.mark.parametrize("calls", [1, 2, 5])
def test_what_is_broken_is_named(solver, calls, shape):
    jacobian, values = given(shape)
    state = None
    for _ in range(calls):
        state = solver(jacobian, values, state).state
    solver(jacobian, values, state)
    broken = list(wrecks(state))
    assert len(broken) >= 5
    for what, wreck, message in broken:
        with pytest.raises((ValueError, TypeError)) as error:
            solver(jacobian, values, wreck)
            pytest.fail(f"accepted: {what}")
        assert re.search(message, str(error.value).replace("\n", " ")), f"{what}: {error.value}"


def test_a_size_below_0_is_refused():
    jacobian, values = given()
    for build, key in (
        (FAMO, "square"),
        (FAMO, "before"),
        (GradNorm, "unit"),
        (SAMGS, "imbalance"),
    ):
        state = build()(jacobian, values).state
        wreck = {**state, key: -1 - state[key]}
        with pytest.raises(ValueError, match=rf"'{key}'\] must be finite and at least 0, got -"):
            build()(jacobian, values, wreck)


def test_an_epoch_before_the_last_needs_the_last():
    jacobian, values = given()
    solver, state = DynamicWeightAverage(), None
    for _ in range(2):
        state = solver(jacobian, values, state).state
    with pytest.raises(ValueError, match=r"state\['last'\] must be there"):
        solver(jacobian, values, {**state, "last": None})


def test_large_momenta_are_looked_through():
    jacobian = torch.randn(2, 70_000)
    state = SAMGS()(jacobian).state
    state["momenta"][1, 69_999] = torch.nan
    with pytest.raises(ValueError, match=r"state\['momenta'\] must be finite, got nan"):
        SAMGS()(jacobian, state=state)


def test_every_solver_with_a_state_is_here():
    jacobian, values = given()
    for name, (build, _) in CLAIMS.items():
        if build(M)(jacobian, values).state is not None:
            assert name in STATEFUL
