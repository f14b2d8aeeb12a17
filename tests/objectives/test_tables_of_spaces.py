"""Memory and parameters by table against the graph and the extracted network, exhaustively."""

from dataclasses import replace
from random import Random

import pytest
import torch

from paretonas.graph import network_graph, peak_memory
from paretonas.nn import Depth, OneOf, Supernet
from paretonas.objectives import DifferentiableObjective, Memory, Parameters
from paretonas.space import Architecture, draw, encode, every
from search_spaces import digits, mlp


def one_hot(choices, architecture):
    rows = [
        torch.nn.functional.one_hot(torch.tensor(pick), len(choice.options))
        for pick, choice in zip(encode(choices, architecture), choices, strict=True)
    ]
    return torch.cat(rows).double()


def check(supernet, x, architectures):
    memory, parameters = Memory.of(supernet, x), Parameters.of(supernet, x)
    for architecture in architectures:
        network = supernet.extract(architecture)
        graph = network_graph(network, x)
        assert memory.exact(architecture) == peak_memory(graph) / 1024, str(architecture)
        count = sum(p.numel() for p in network.parameters())
        assert parameters.exact(architecture) == count, str(architecture)
        picks = one_hot(supernet.choices, architecture)
        assert memory.relaxed(picks).item() == pytest.approx(memory.exact(architecture), rel=1e-12)
        assert parameters.relaxed(picks).item() == count


def test_every_architecture_of_awkward_spaces(supernet, example):
    check(supernet, example, every(supernet.choices))


@pytest.mark.parametrize("each", [7, pytest.param(1, marks=pytest.mark.deep)])
def test_every_architecture_of_the_small_digits_space(each):
    supernet = digits.small.supernet()
    architectures = list(every(supernet.choices))[::each]
    check(supernet, torch.zeros(1, 1, 28, 28), architectures)


def test_samples_of_the_default_space():
    supernet, rng = digits.space.supernet(), Random(3)
    check(supernet, torch.zeros(2, 1, 28, 28), [draw(supernet.choices, rng) for _ in range(12)])


def test_the_tables_do_not_depend_on_the_weights_or_on_chance(supernet, example):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = Memory.of(supernet, example)
    assert torch.equal(before, torch.get_rng_state())
    other = Memory.of(Supernet(supernet.network), example)
    assert [slot.name for slot in first.activations.slots] == [
        slot.name for slot in other.activations.slots
    ]
    for one, two in zip(first.activations.slots, other.activations.slots, strict=True):
        assert one.groups == two.groups
        assert torch.equal(one.values, two.values)


def test_expected_parameters_are_the_mean_over_draws(supernet, example):
    parameters = Parameters.of(supernet, example)
    uniform = torch.cat(
        [torch.ones(len(c.options)).double() / len(c.options) for c in supernet.choices]
    )
    counts = [parameters.exact(architecture) for architecture in every(supernet.choices)]
    assert parameters.relaxed(uniform).item() == pytest.approx(sum(counts) / len(counts))


def test_expected_memory_is_a_lower_bound_of_the_mean(supernet, example):
    memory = Memory.of(supernet, example)
    uniform = torch.cat(
        [torch.ones(len(c.options)).double() / len(c.options) for c in supernet.choices]
    )
    needs = [memory.exact(architecture) for architecture in every(supernet.choices)]
    assert min(needs) <= memory.relaxed(uniform).item() <= sum(needs) / len(needs) + 1e-9


def test_they_are_objectives_with_a_column(supernet, example):
    memory, parameters = Memory.of(supernet, example), Parameters.of(supernet, example)
    assert isinstance(memory, DifferentiableObjective)
    assert (memory.column, parameters.column) == ("memory_kib", "parameters")


def test_the_memory_of_a_trained_network_is_looked_at(supernet, example):
    memory = Memory.of(supernet, example)
    rough = replace(memory, activations=memory.parameters)  # a table that is only approximate
    for architecture in every(supernet.choices):
        network = supernet.extract(architecture)
        needed = peak_memory(network_graph(network, example)) / 1024
        assert memory.measure(network, example) == rough.measure(network, example) == needed
        assert memory.exact(architecture) == needed


@pytest.mark.deep
def test_parts_that_few_architectures_run_are_tabulated_too():
    """A depth with widths in its blocks: a random architecture seldom has the last block."""
    supernet, rng = mlp.space.supernet(), Random(5)
    x = mlp.space.load_task().example()
    blocks = next(choice for choice in supernet.choices if choice.name == "blocks")
    drawn = [draw(supernet.choices, rng) for _ in range(60)]
    deepest = [Architecture({**each, "blocks": blocks.options[-1]}) for each in drawn]
    architectures = [*drawn, *deepest]
    check(supernet, x, architectures)


class Deep(torch.nn.Module):
    """Options of very different depths, each in few architectures."""

    def __init__(self) -> None:
        super().__init__()

        def option() -> OneOf:
            deep = Depth([torch.nn.Linear(8, 8) for _ in range(8)])
            return OneOf({"deep": deep, "line": torch.nn.Linear(8, 8), "skip": torch.nn.Identity()})

        self.layers = torch.nn.Sequential(*(option() for _ in range(4)))

    def forward(self, x):
        return self.layers(x)


def test_nested_depths_are_tabulated_to_the_last_block():
    supernet, rng = Supernet(Deep()), Random(7)
    drawn = [draw(supernet.choices, rng) for _ in range(100)]
    drawn = [each for each in drawn if {"deep", "line"} & {*each.values()}]  # something runs
    deepest = Architecture({c.name: "8" if "deep" in c.name else "deep" for c in supernet.choices})
    check(supernet, torch.zeros(1, 8), [*drawn, deepest])
