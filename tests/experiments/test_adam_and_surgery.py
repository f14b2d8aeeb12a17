"""Adam turns a direction that conflicts with nothing uphill; its metric turns it back."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def table(experiment):
    adam = experiment("conflict/adam_and_surgery")
    return adam.main([], adam.Settings(seeds=1, steps=120, batches=(None,)))


@pytest.fixture
def uphill(table):
    return lambda optimizer, solver: table.loc[("all", optimizer, solver), "uphill later %"]


@pytest.mark.parametrize("solver", ["UPGrad", "MGDA"])
@pytest.mark.parametrize("optimizer", ["Adam, no momentum", "Adam"])
def test_the_metric_restores_what_adam_breaks(uphill, optimizer, solver):
    assert uphill("SGD", solver) == 0
    assert uphill(optimizer, solver) > 10
    assert uphill(optimizer, f"Preconditioned({solver})") < 3


def test_the_guarantee_costs_no_loss(table):
    losses = table["mean loss"].unstack()
    for solver in ("UPGrad", "MGDA"):
        assert (losses[f"Preconditioned({solver})"] < losses[solver] + 0.02).iloc[1:].all()
