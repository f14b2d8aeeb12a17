"""Cells: routes as networkx finds them, a canonical form that is one name per expression."""

from itertools import product
from random import Random

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretonas.cell import EdgeCell, Route, Structure
from paretonas.space import Choice, draw, every

OPTIONS = ("conv", "none", "pool", "skip")


def cell_of(pairs, stem="op_"):
    return EdgeCell({f"{stem}{source}_{target}": (source, target) for source, target in pairs})


def choices_of(cell, options=OPTIONS):
    return tuple(Choice(name, options) for name in cell.edges)


def complete(nodes):
    return [(source, target) for target in range(1, nodes) for source in range(target)]


def expression(graph, node, cell):
    """What a node computes, by definition: a slow plain version, as nested tuples."""
    if node == 0:
        return "x"
    terms = []
    for source, _, option in graph.in_edges(node, data="option"):
        inner = expression(graph, source, cell)
        if inner is not None:
            terms.append(inner if option in cell.identity else (option, inner))
    if len(terms) < 2:
        return terms[0] if terms else None
    return ("+", *sorted(terms, key=repr))


@st.composite
def cells(draw_from):
    nodes = draw_from(st.integers(3, 5))
    pairs = [pair for pair in complete(nodes) if draw_from(st.booleans())]
    pairs += [(n, n + 1) for n in range(nodes - 1)]  # so that every node has a way in and out
    return cell_of(dict.fromkeys(pairs))


# --- the canonical form ------------------------------------------------------------------------


@given(cells(), st.integers(0, 2**20))
def test_equal_strings_are_equal_expressions(cell, seed):
    """Both ways, among architectures and single changes of them, which are often equal."""
    rng = Random(seed)
    choices = choices_of(cell)
    some = [draw(choices, rng) for _ in range(20)]
    some += [{**a, rng.choice(choices).name: rng.choice(OPTIONS)} for a in some]
    last = max(target for _, target in cell.edges.values())
    pairs = {(cell.canonical(a), expression(cell.graph(a), last, cell)) for a in some}
    assert len({name for name, _ in pairs}) == len({what for _, what in pairs}) == len(pairs)
    assert all((name == "") == (what is None) for name, what in pairs)


@given(st.integers(0, 2**20), st.permutations([1, 2, 3]))
def test_what_the_nodes_between_are_called_does_not_matter(seed, order):
    """Nodes 1, 2 and 3 that stand side by side may change places."""
    cell = cell_of([(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4), (0, 4)])
    architecture = draw(choices_of(cell), Random(seed))
    new = {0: 0, 4: 4, **dict(zip((1, 2, 3), order, strict=True))}
    renamed = {
        f"op_{new[source]}_{new[target]}": architecture[name]
        for name, (source, target) in cell.edges.items()
    }
    assert cell.canonical(renamed) == cell.canonical(architecture)


def test_relabeling_where_the_order_of_nodes_allows_it():
    """Two chains of the complete cell with five nodes, their nodes in every order that goes up."""
    cell = cell_of(complete(5))
    nothing = dict.fromkeys(cell.edges, "none")
    names = set()
    for one, two in [((1, 2), (3,)), ((1, 3), (2,)), ((2, 3), (1,))]:
        chains = [((0, *one, 4), ("conv", "pool", "conv")), ((0, *two, 4), ("pool", "conv"))]
        picks = dict(nothing)
        for nodes, options in chains:
            for source, target, option in zip(nodes, nodes[1:], options, strict=False):
                picks[f"op_{source}_{target}"] = option
        names.add(cell.canonical(picks))
    assert names == {"('conv'('pool'('conv'(x))) + 'conv'('pool'(x)))"}


@pytest.mark.parametrize("name", ["a(x)", "conv'", "x", "a + b", "("])
def test_no_name_of_an_option_passes_for_an_expression(name):
    cell = cell_of(complete(3))
    choices = choices_of(cell, ("conv", "none", name, "skip"))
    graphs = [(cell.canonical(a), expression(cell.graph(a), 2, cell)) for a in every(choices)]
    assert len({s for s, _ in graphs}) == len({e for _, e in graphs}) == len(set(graphs))


def test_the_classes_of_the_real_table_are_found(shared_data):
    import pandas as pd

    frame = pd.read_parquet(shared_data / "nb201.parquet")
    names = [name for name in frame if name.startswith("op_")]
    rows = frame[names].astype(str).to_dict("records")
    cell = EdgeCell.infer([Choice(name, tuple(frame[name].unique())) for name in names])
    found = [cell.canonical(row) for row in rows]
    assert len(set(found)) == len(set(zip(found, frame.class_id, strict=True))) == 5773
    assert frame.class_id.nunique() == 5773
    assert [name == "" for name in found] == (~frame.connected).tolist()


# --- routes and graphs -------------------------------------------------------------------------


@given(cells())
def test_routes_are_all_simple_paths(cell):
    graph = nx.DiGraph([(s, t, {"choice": name}) for name, (s, t) in cell.edges.items()])
    paths = nx.all_simple_edge_paths(graph, 0, max(graph))
    expected = {tuple(graph.edges[edge]["choice"] for edge in path) for path in paths}
    assert len(cell.routes) == len(expected)
    assert {route.choices for route in cell.routes} == expected
    assert all(route == Route(route.choices) for route in cell.routes)


@given(cells(), st.integers(0, 2**20))
def test_a_graph_has_an_edge_for_what_lets_something_pass(cell, seed):
    architecture = draw(choices_of(cell), Random(seed))
    graph = cell.graph(architecture)
    assert sorted(graph) == sorted({node for edge in cell.edges.values() for node in edge})
    assert {data["choice"]: data["option"] for *_, data in graph.edges(data=True)} == {
        name: option for name, option in architecture.items() if option != "none"
    }
    assert all(cell.edges[choice] == (s, t) for s, t, choice in graph.edges(data="choice"))
    reached = nx.has_path(graph, 0, max(graph))
    assert reached == (cell.canonical(architecture) != "")


def test_a_cell_is_a_structure_and_an_equal_one_hashes_alike():
    cell = cell_of(complete(4))
    assert isinstance(cell, Structure)
    assert cell == cell_of(complete(4)) and hash(cell) == hash(cell_of(complete(4)))
    assert cell != cell_of(complete(5))


# --- inference ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["op_", "", "edge_", "cell.normal_op", "block2.op_"])
def test_names_that_end_in_two_nodes_make_a_cell(stem):
    expected = cell_of(complete(4), stem)
    found = EdgeCell.infer(choices_of(expected))
    assert found is not None
    assert found.edges == expected.edges
    assert (found.dead, found.identity) == ({"none"}, {"skip"})


def test_dead_and_identity_options_are_known_by_name_in_any_case():
    options = ("None", "ZERO", "zeroize", "null", "Skip", "skip_connect", "Identity", "id", "conv")
    found = EdgeCell.infer(choices_of(cell_of(complete(3)), options))
    assert found.dead == set(options[:4])
    assert found.identity == set(options[4:8])


@pytest.mark.parametrize(
    "names",
    [
        ["op_0_1"],  # no cell
        ["op_0_1", "op_1_2", "width"],  # another kind of choice
        ["op_0_1", "op_1_2", "width_1_2"],  # two kinds of choices on edges
        ["layer_1", "layer_2", "layer_3"],  # one number
        ["op_1_0", "op_1_2"],  # backward
        ["op_0_0", "op_0_1"],  # to itself
        ["op_0_2", "op_1_2"],  # two inputs
        ["op_0_1", "op_0_2"],  # two outputs
        ["op_1_2", "op_2_3"],  # the input is not 0
        ["op_0_1", "op_1_3", "op_2_3"],  # node 2 has no edge in
        ["op_0_1", "op_00_1", "op_1_2"],  # one edge twice
        ["op_a_b", "op_b_c"],
    ],
)
def test_names_that_do_not_fit_make_none(names):
    assert EdgeCell.infer([Choice(name, OPTIONS) for name in names]) is None


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ({"a": (0, 1)}, "a cell needs at least two edges, got 1"),
        ({"a": (0, 1), "b": (2, 1)}, "from lower to higher nodes only, got 'b' 2 to 1"),
        ({"a": (0, 1), "b": (0, 1)}, "one choice an edge, got 2 for 1 edges"),
        ({"a": (0, 2), "b": (1, 2)}, r"its input at node 0 alone, got inputs \[0, 1\]"),
        ({"a": (0, 1), "b": (0, 2)}, r"one output, got \[1, 2\]"),
    ],
)
def test_edges_that_make_no_cell_are_refused(edges, message):
    with pytest.raises(ValueError, match=message):
        EdgeCell(edges)


def test_every_pick_counts_for_something():
    """No choice of the complete cell is without influence on the canonical form."""
    cell = cell_of(complete(4))
    base = dict.fromkeys(cell.edges, "conv")
    for name, option in product(cell.edges, ("none", "pool", "skip")):
        assert cell.canonical({**base, name: option}) != cell.canonical(base)
