"""The check of objectives finds what is broken, and passes what is not."""

from dataclasses import dataclass

import pytest
import torch

from paretonas.objectives import Memory, Parameters, measured
from paretonas.objectives.conformance import check_objective
from paretonas.space import Choice


class Space:
    name = "small"
    choices = (Choice("op", ("none", "conv3", "conv5")), Choice("width", ("8", "16")))


PRICE = torch.tensor([0.0, 1.0, 3.0, 2.0, 4.0])


class Sum:
    """A sum over options, as it should be."""

    name, unit, column = "energy", "joule", "energy_joule"

    def exact(self, architecture):
        picks = {"none": 0.0, "conv3": 1.0, "conv5": 3.0, "8": 2.0, "16": 4.0}
        return sum(picks[option] for option in architecture.values())

    def relaxed(self, probabilities):
        return probabilities @ PRICE.to(probabilities)


class Unnamed(Sum):
    column = ""


class OtherColumn(Sum):
    column = "joules"


class NoUnit:
    name = column = "energy"
    exact = Sum.exact
    relaxed = Sum.relaxed


class Infinite(Sum):
    def exact(self, architecture):
        return float("inf") if architecture["op"] == "none" else super().exact(architecture)


class Failing(Sum):
    def exact(self, architecture):
        raise ValueError("no meter")


@dataclass
class Drifting(Sum):
    asked: int = 0

    def exact(self, architecture):
        self.asked += 1
        return super().exact(architecture) + self.asked


class Biased(Sum):
    def relaxed(self, probabilities):
        return super().relaxed(probabilities) + 0.01


class Wide(Sum):
    def relaxed(self, probabilities):
        return super().relaxed(probabilities.double())


class Summed(Sum):
    def relaxed(self, probabilities):
        return super().relaxed(probabilities).sum()


class FlatOnly(Sum):
    def relaxed(self, probabilities):
        return torch.einsum("rk,k->r", probabilities, PRICE.to(probabilities))


class Mixing(Sum):
    def relaxed(self, probabilities):
        costs = super().relaxed(probabilities)
        return costs if (probabilities.max() == 1) else costs - costs.mean() + 3


class Detached(Sum):
    def relaxed(self, probabilities):
        return super().relaxed(probabilities).detach()


class Rooted(Sum):
    """The gradient of the root is infinite at 0."""

    def relaxed(self, probabilities):
        costs = super().relaxed(probabilities)
        return costs + (costs - costs.detach()).abs().sqrt()


class InPlace(Sum):
    def relaxed(self, probabilities):
        costs = super().relaxed(probabilities)
        with torch.no_grad():
            probabilities.zero_()
        return costs


class Undecided(Sum):
    maximize = "yes"


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Undecided(), "maximize of energy_joule must be True or False, got 'yes'"),
        (Sum, "must be an object, got the class Sum"),
        (torch.nn.ReLU(), "must have a column and exact"),
        (Unnamed(), "column must be a name"),
        (OtherColumn(), "column must be name_unit, 'energy_joule', got 'joules'"),
        (NoUnit(), "has no unit, which a gradient needs too"),
        (Infinite(), "exact is inf for op=none width=8; raise instead"),
        (Failing(), "exact raises for all 6 architectures, ValueError: no meter"),
        (Drifting(), "exact is 3.0, then 9.0 for op=none width=8"),
        (Biased(), "exact is 2, relaxed is 2.01 for op=none width=8"),
        (Wide(), "relaxed must keep torch.float32, got torch.float64"),
        (Summed(), r"shape must be \(6,\), got \(\)"),
        (FlatOnly(), r"a batch \(2, 3, K\) in torch.float64"),
        (Mixing(), "alone and .* in a batch"),
        (Detached(), "relaxed has no gradient"),
        (Rooted(), "the gradient of relaxed is not finite"),
        (InPlace(), "relaxed changes its argument"),
    ],
)
def test_a_broken_promise_is_found(objective, message):
    with pytest.raises(AssertionError, match=message):
        check_objective(objective, Space())


def test_what_breaks_no_promise_passes(supernet, example):
    check_objective(Sum(), Space())
    check_objective(Sum(), Space(), architectures=3)
    for cost in measured(lambda picks: (int(picks["width"]), 1 / len(picks["op"])), ["a", "b"]):
        check_objective(cost, Space())


def test_our_own_pass(supernet, example):
    class Of:
        name = "awkward"
        choices = supernet.choices

    for cost in (Memory.of(supernet, example), Parameters.of(supernet, example)):
        check_objective(cost, Of())


def test_some_architectures_may_have_no_cost():
    class Partly(Sum):
        def exact(self, architecture):
            if architecture["op"] == "none":
                raise ValueError("nothing to measure")
            return super().exact(architecture)

    check_objective(Partly(), Space())
