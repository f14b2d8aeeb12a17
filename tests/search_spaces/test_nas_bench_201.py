"""The NAS-Bench-201 space: its supernet, its cells as graphs, and tables of measured cells."""

from random import Random

import networkx as nx
import pytest
import torch

from paretonas.nn import Supernet
from paretonas.space import Architecture, draw, size
from search_spaces import nas_bench_201
from search_spaces.nas_bench_201 import OPERATIONS, Network, space, structure, table


@pytest.fixture(scope="module")
def supernet():
    return space.supernet()


def all_picks(option):
    return Architecture(dict.fromkeys(structure.edges, option))


@pytest.fixture
def images():
    return torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_the_space_has_the_published_choices():
    assert [choice.name for choice in space.choices] == list(structure.edges)
    assert all(choice.options == OPERATIONS for choice in space.choices)
    assert f" {size(space.choices):,} architectures" in nas_bench_201.__doc__
    assert space.structure is structure and len(structure.routes) == 4


@pytest.mark.parametrize("option", OPERATIONS)
def test_one_operation_everywhere_runs_and_learns(supernet, images, option):
    network = supernet.extract(all_picks(option)).train()
    logits = network(images)
    assert logits.shape == (8, 10)
    assert torch.allclose(logits, supernet(images, all_picks(option)), atol=1e-5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_a_one_hot_mixture_is_the_architecture(supernet, images):
    architecture = draw(space.choices, Random(0))
    gates = [
        torch.tensor([float(option == architecture[choice.name]) for option in choice.options])
        for choice in space.choices
    ]
    expected = supernet(images, architecture)
    assert torch.allclose(supernet(images, gates), expected, atol=1e-5)


def test_what_is_disconnected_sees_nothing_and_learns_nothing(supernet, images):
    """Whatever hangs off the dead edges makes nothing of nothing."""
    picks = {**all_picks("nor_conv_3x3"), "op_0_1": "none", "op_0_2": "none", "op_0_3": "none"}
    assert structure.canonical(picks) == ""
    network = supernet.extract(picks).train()
    outputs = network(images)
    assert torch.equal(outputs, outputs[:1].expand(8, -1))
    torch.nn.functional.cross_entropy(outputs, torch.arange(8)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
        assert name.startswith(("head", "last")) or not parameter.grad.any()


def test_cells_with_one_canonical_form_compute_one_function(supernet, images):
    """The same operations in other places, once their weights are the same."""
    one = {**all_picks("none"), "op_0_1": "nor_conv_3x3", "op_1_3": "skip_connect"}
    two = {**all_picks("none"), "op_0_3": "nor_conv_3x3", "op_0_2": "nor_conv_1x1"}
    assert structure.canonical(one) == structure.canonical(two) != ""
    networks = [supernet.extract(picks) for picks in (one, two)]
    for mine, others in zip(
        networks[1].op_0_3.parameters(), networks[0].op_0_1.parameters(), strict=True
    ):
        mine.data.copy_(others)
    assert torch.allclose(networks[0](images), networks[1](images), atol=1e-5)


def test_the_published_skeleton_has_the_published_sizes(shared_data):
    """In millions of parameters, once those are added that our batch norms do without."""
    import pandas as pd

    full = Supernet(Network(channels=16, cells=5, stride=1, inputs=3))
    rows = pd.read_parquet(shared_data / "nb201.parquet").sample(12, random_state=0)
    for row in rows.to_dict("records"):
        picks = {name: str(row[name]) for name in structure.edges}
        network = full.extract(picks).eval()
        convolutions = sum(option.startswith("nor_conv") for option in picks.values())
        norms = convolutions * 5 * 2 * (16 + 32 + 64) + 2 * 2 * (32 + 64)
        count = sum(p.numel() for p in network.parameters()) + norms
        assert count / 1e6 == pytest.approx(row["params_M"], abs=1e-6)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_cells_are_graphs():
    picks = {**all_picks("nor_conv_1x1"), "op_0_1": "none", "op_2_3": "skip_connect"}
    graph = structure.graph(picks)
    assert sorted(graph) == [0, 1, 2, 3]
    assert sorted(graph.edges) == [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert graph.edges[2, 3] == {"choice": "op_2_3", "option": "skip_connect"}
    assert nx.is_directed_acyclic_graph(graph)


# --- tables ------------------------------------------------------------------------------------


def test_a_few_measured_cells_are_a_table_of_this_space(tmp_path):
    rows = [",".join([*structure.edges, "err", "ms"])]
    rows += [",".join([*[OPERATIONS[(i + k) % 3] for k in range(6)], f"{i}", "2"]) for i in (0, 1)]
    path = tmp_path / "cells.csv"
    path.write_text("\n".join(rows))
    few = table(path, "ms", error="err", where=None)
    assert few.choices == space.choices and few.structure is structure
    assert few.columns == ("err", "ms") and len(few.architectures) == 2
    assert not few.complete


def test_an_operation_of_another_space_is_refused(tmp_path):
    picks = ["none"] * 5
    lines = [",".join([*structure.edges, "err", "ms"])]
    lines += [",".join([option, *picks[:5], "1", "2"]) for option in ("none", "max_pool_3x3")]
    lines += [",".join([*OPERATIONS[:4], *OPERATIONS[1:3], "1", "2"])]
    lines += [",".join([*OPERATIONS[1:], *OPERATIONS[2:4], "1", "2"])]
    path = tmp_path / "cells.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"op_0_1 has no option 'max_pool_3x3'; did you mean 'avg"):
        table(path, "ms", error="err", where=None)


def test_the_real_table_is_complete(shared_data):
    cells = table(shared_data / "nb201.parquet")
    assert cells.complete and cells.choices == space.choices
    assert cells.columns == ("cifar10_valid_error_200ep", "latency_edgegpu_ms")
    names = [structure.canonical(architecture) for architecture in cells.architectures]
    assert [name != "" for name in names] == cells.allowed.tolist()
    best = cells.costs[cells.allowed, 0].min()
    assert best == pytest.approx(100 - 91.61, abs=0.01)
