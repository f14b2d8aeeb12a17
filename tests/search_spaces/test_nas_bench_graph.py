"""NAS-Bench-Graph: every encoding finds its network, and a pickle can do no harm."""

import doctest
from itertools import product
from random import Random

import moocore
import numpy as np
import pytest

from paretonas.cell import Route, Structure
from paretonas.space import draw, size
from search_spaces import nas_bench_graph
from search_spaces.nas_bench_graph import (
    COLUMNS,
    DATASETS,
    NODES,
    OPERATIONS,
    TEMPLATES,
    Tree,
    load,
    reported_error_percent,
)

# The points on the true front, and the hypervolume that they dominate: logarithms of latency and
# parameters, all scaled to [0, 1] over the networks, reference point 1.1.
FRONTS = {
    "cora": (22, 1.264594),
    "citeseer": (24, 1.271687),
    "pubmed": (16, 1.242359),
    "cs": (48, 1.262010),
    "physics": (45, 1.265940),
    "photo": (18, 1.295796),
    "computers": (32, 1.182569),
    "arxiv": (118, 1.209578),
    "proteins": (21, 1.086208),
}


@pytest.fixture(scope="module")
def package():
    """The package itself, whose own code is an oracle here and is not run by the space."""
    return pytest.importorskip("nas_bench_graph", reason="pip install 'paretonas[bench]'")


def architecture(template, operations):
    return {"link": template, **dict(zip(NODES, operations, strict=True))}


def test_the_example_of_a_tree_is_true():
    (example,) = (t for t in doctest.DocTestFinder().find(Tree) if t.examples)
    assert doctest.DocTestRunner().run(example) == (0, 2)


# --- the tables --------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["cora", "arxiv", "proteins"])
def test_the_true_front_is_the_known_one(package, dataset):
    table = getattr(nas_bench_graph, dataset)
    assert table is load(dataset) and table.columns == COLUMNS and table.complete
    costs = np.unique(table.costs[table.allowed], axis=0)
    costs[:, 1:] = np.log(costs[:, 1:])
    costs = (costs - costs.min(axis=0)) / np.ptp(costs, axis=0)
    front = costs[moocore.is_nondominated(costs)]
    count, volume = FRONTS[dataset]
    assert len(front) == count
    assert moocore.hypervolume(front, ref=[1.1] * 3) == pytest.approx(volume, abs=1e-6)


@pytest.mark.parametrize(("dataset", "networks"), [("cora", 26206), ("proteins", 2021)])
def test_every_encoding_but_four_skips_has_its_row(package, dataset, networks):
    table = load(dataset)
    assert (
        len(table.architectures)
        == size(table.choices)
        == {"cora": 59049, "proteins": 5625}[dataset]
    )
    names = [Tree().canonical(a) for a in table.architectures]
    assert len(set(names) - {""}) == networks
    assert [name != "" for name in names] == table.allowed.tolist()
    assert (~table.allowed).sum() == len(TEMPLATES)


def test_a_row_is_the_one_that_the_package_names(package):
    """Its own hash and its own reader, on random encodings."""
    bench, table, rng = package.light_read("citeseer"), load("citeseer"), Random(0)
    for _ in range(2000):
        picks = draw(table.choices, rng)
        link = [int(digit) for digit in picks["link"]]
        found = bench.get(package.Arch(link, [picks[node] for node in NODES]).valid_hash())
        if found is None:
            assert not table.allowed[table.row(picks)]
            continue
        values = [objective.exact(picks) for objective in table.objectives]
        expected = [100 * (1 - found["valid_perf"]), 1000 * found["latency"], found["para"]]
        assert values == pytest.approx(expected, rel=1e-12)
        error = reported_error_percent("citeseer", picks)
        assert error == pytest.approx(100 * (1 - found["perf"]), rel=1e-12)


def test_what_was_not_trained_has_no_cost(package):
    skips = architecture("0012", ["skip"] * 4)
    with pytest.raises(ValueError, match="is not allowed"):
        load("proteins").objectives[0].exact(skips)
    with pytest.raises(ValueError, match="without an operation was not trained"):
        reported_error_percent("proteins", skips)


def test_a_name_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no dataset is called 'corra'; did you mean 'cora'"):
        load("corra")
    with pytest.raises(AttributeError, match="has no attribute 'corra'"):
        _ = nas_bench_graph.corra
    assert set(DATASETS) == set(FRONTS) == set(dir(nas_bench_graph)) - set(vars(nas_bench_graph))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'paretonas\[bench\]'"):
        nas_bench_graph._folder()


# --- the structure -----------------------------------------------------------------------------


def test_the_tree_is_a_structure_with_a_route_to_every_leaf():
    tree = Tree()
    assert isinstance(tree, Structure)
    of_a_chain = [route for route in tree.routes if route.given == (("link", "0123"),)]
    assert of_a_chain == [Route(NODES, (("link", "0123"),))]
    leaves = {t: sum(str(n) not in t for n in range(1, 5)) for t in TEMPLATES}
    for template, count in leaves.items():
        mine = [route for route in tree.routes if route.given == (("link", template),)]
        assert len(mine) == count
        for route in mine:  # each takes from the one before it, the first from the input
            nodes = [0, *(int(name[-1]) for name in route.choices)]
            assert [int(template[n - 1]) for n in nodes[1:]] == nodes[:-1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("0000", "gcn gat fc gin"), ("0000", "fc gin gat gcn")),  # in any order
        (("0012", "gcn gat fc gin"), ("0012", "gat gcn gin fc")),  # two chains change places
        (("0123", "skip gcn skip fc"), ("0123", "gcn skip fc skip")),  # a skip in a chain
    ],
)
def test_encodings_of_one_network_have_one_form(one, other):
    names = [Tree().canonical(architecture(t, ops.split())) for t, ops in (one, other)]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("0123", "gcn gat fc gin"), ("0123", "gat gcn fc gin")),
        (("0011", "gcn gat fc skip"), ("0011", "gcn gat skip skip")),
        (("0111", "gcn fc fc skip"), ("0111", "gcn fc skip skip")),
    ],
)
def test_different_networks_have_different_forms(one, other):
    names = [Tree().canonical(architecture(t, ops.split())) for t, ops in (one, other)]
    assert names[0] != names[1]


def test_only_skips_are_nothing():
    for template, operations in product(TEMPLATES, [["skip"] * 4, ["skip", "skip", "skip", "fc"]]):
        name = Tree().canonical(architecture(template, operations))
        assert (name == "") == (set(operations) == {"skip"})
    assert len(OPERATIONS) == 9
