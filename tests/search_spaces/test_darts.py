"""DARTS: genotypes in and out, published sizes, and networks that equal their supernet."""

from collections import namedtuple
from random import Random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from paretonas.nn import Supernet
from paretonas.nn.conformance import check_space
from paretonas.space import Architecture, draw, size
from search_spaces import darts
from search_spaces.darts import (
    DARTS_V1,
    DARTS_V2,
    KINDS,
    NODES,
    OPERATIONS,
    PC_DARTS,
    Darts,
    ImageNetStem,
    Stem,
    architecture,
    genotype,
    space,
)

NONE = "Genotype(normal=[], normal_concat=[], reduce=[], reduce_concat=[])"


@pytest.fixture(scope="module")
def supernet():
    return space.supernet()


def pairs(picks, kind):
    """The operations of a cell: (operation, source, node)."""
    for node in NODES:
        for source in picks.get(f"{kind}_inputs_{node}", "0+1").split("+"):
            yield picks[f"{kind}_op_{source}_{node}"], int(source), node


def layers(picks, channels, count, side, stem):
    """By hand: for each layer its weights, the positions where they act, and its other parameters.

    Args:
        picks: an architecture.
        channels: of the first cells.
        count: the number of cells.
        side: of the image after the stem, in pixels.
        stem: the channels of the stem's output.
    """
    before = last = stem
    for cell in range(count):
        reduces = cell in (count // 3, 2 * count // 3)
        channels *= 2 if reduces else 1
        inside = side // 2 if reduces else side
        yield before * channels, side**2, 2 * channels
        yield last * channels, side**2, 2 * channels
        for operation, source, _ in pairs(picks, KINDS[reduces]):
            strided = reduces and source < 2
            if "conv" in operation:
                kernel = int(operation[-1]) ** 2
                for _ in range(2 if operation.startswith("sep") else 1):
                    yield channels * (kernel + channels), inside**2, 2 * channels
            elif operation == "skip_connect" and strided:
                yield channels * channels, inside**2, 2 * channels
        before, last, side = last, 4 * channels, inside
    yield last * 10, 1, 10


def counts(network, images):
    """Parameters and multiply-adds."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(images)
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2


@pytest.fixture(scope="module")
def published():
    """The network for CIFAR-10; only its sizes matter."""
    with torch.device("meta"):
        network = Darts(36, 20, Stem(3, 36))
        return Supernet(network, lambda: network), torch.empty(1, 3, 32, 32)


@pytest.mark.parametrize(
    ("text", "parameters", "millions"),
    [(DARTS_V2, 3_349_342, 528), (PC_DARTS, 3_634_678, 557), (DARTS_V1, 3_169_414, 501)],
)
def test_published_cells_have_the_published_sizes(published, text, parameters, millions):
    """3.3 million parameters and 528 million multiply-adds for DARTS_V2; 3.6 for PC-DARTS."""
    full, images = published
    found = counts(full.extract(architecture(text)), images)
    assert found[0] == parameters and round(found[1] / 1e6) == millions


def test_sizes_are_those_of_a_formula(published):
    full, images = published
    for seed in range(2):
        picks = draw(space.choices, Random(seed))
        parts = [(3 * 9 * 108, 32**2, 2 * 108), *layers(picks, 36, 20, 32, 108)]
        parameters = sum(weights + others for weights, _, others in parts)
        products = sum(weights * positions for weights, positions, _ in parts)
        assert counts(full.extract(picks), images) == (parameters, products)


@pytest.mark.deep
def test_the_network_for_imagenet_has_the_published_size():
    with torch.device("meta"):
        network = Darts(48, 14, ImageNetStem(48), classes=1000)
        full = Supernet(network, lambda: network)
        plain = full.extract(architecture(DARTS_V2))
        assert sum(p.numel() for p in plain.parameters()) == 4_718_752  # published: 4.7 million
        assert plain(torch.empty(2, 3, 224, 224)).shape == (2, 1000)


def test_the_space_has_the_published_number_of_cells():
    assert all(len(c.options) == 7 for c in space.choices if "_op_" in c.name)
    distinct = 1
    for choice in space.choices:
        if "_inputs_" in choice.name:
            distinct *= len(choice.options)
    distinct *= 7 ** (2 * len(NODES) * len(KINDS))
    assert distinct == 180**2 * 7**16 and f"{distinct:.2e}" == "1.08e+18"
    assert len(space.choices) == 34 and size(space.choices) == 180**2 * 7**28


# --- the network -------------------------------------------------------------------------------


def test_a_path_of_the_supernet_is_its_extracted_network_and_learns(supernet):
    images = space.task().train.inputs[:8]
    for seed in range(3):
        picks = draw(space.choices, Random(seed))
        network = supernet.extract(picks).train()
        scores = network(images)
        assert torch.allclose(scores, supernet(images, picks), atol=1e-5)
        torch.nn.functional.cross_entropy(scores, torch.arange(8)).backward()
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
        assert network.head.weight.grad.any()


def test_cells_share_picks_and_not_weights():
    plain = Supernet(Darts(4, 4)).extract(architecture(DARTS_V2))
    one, other = (plain.cells[index].nodes[0][0] for index in (0, 3))  # two normal cells
    assert str(one).replace("4", "c") == str(other).replace("16", "c")
    assert not {*map(id, one.parameters())} & {*map(id, other.parameters())}


def test_an_operation_that_no_node_takes_is_idle(supernet):
    picks = architecture(DARTS_V2)
    assert supernet.canonical(picks) == picks
    assert picks["normal_inputs_5"] == "0+2"
    idle = Architecture({**picks, "normal_op_1_5": "sep_conv_5x5"})
    taken = Architecture({**picks, "normal_op_2_5": "sep_conv_5x5"})
    assert supernet.canonical(idle) == picks != supernet.canonical(taken)


@pytest.mark.parametrize("side", [28, 30, 32])
def test_images_of_any_size_are_halved(supernet, side):
    picks = Architecture({**architecture(DARTS_V1), "reduce_op_0_2": "skip_connect"})
    assert supernet(torch.zeros(2, 1, side, side), picks).shape == (2, 10)


@pytest.mark.deep
@pytest.mark.timeout(1200)
def test_the_space_keeps_its_promises():
    check_space(space)


# --- genotypes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [DARTS_V1, DARTS_V2, PC_DARTS])
def test_a_genotype_comes_back_up_to_the_order_of_a_nodes_operations(text):
    """The oracle is the published text itself, run with a named tuple as its authors do."""
    Genotype = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")
    expected, found = (
        eval(t, {"Genotype": Genotype}) for t in (text, genotype(architecture(text)))
    )
    for kind in KINDS:
        mine, theirs = (getattr(each, kind) for each in (found, expected))
        for node in range(0, 8, 2):
            assert sorted(mine[node : node + 2]) == sorted(theirs[node : node + 2])
        assert [*getattr(found, f"{kind}_concat")] == [*getattr(expected, f"{kind}_concat")]
    assert architecture(str(expected)) == architecture(f"MINE = {text}\n") == architecture(text)


def test_an_architecture_comes_back_as_it_was(supernet):
    for seed in range(20):
        picks = draw(space.choices, Random(seed))
        assert architecture(genotype(picks)) == supernet.canonical(picks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a genotype is the text Genotype"),
        ("__import__('os').system('touch harm')", "a genotype is the text Genotype"),
        ("Genotype(normal=open('harm', 'w'))", "a genotype is the text Genotype"),
        (NONE.replace("[]", "range(10 ** 9)", 1), "a genotype is the text Genotype"),
        (NONE.replace("[]", "[x for x in ()]", 1), "a genotype is the text Genotype"),
        ("Genotype(**{})", "a genotype is the text Genotype"),
        ("Genotype(" * 50, "a genotype is the text Genotype"),
        ("(" * 5000, "a genotype is the text Genotype"),
        (NONE + " " * 10_000, "of at most 10000 characters, got "),
        ("Genotype(normal=[], reduce=[])", "got the fields normal, reduce"),
        (NONE, "joins its nodes 2, 3, 4 and 5, got normal_concat = []"),
        (DARTS_V2.replace("[2, 3, 4, 5]", "range(3, 6)"), "got normal_concat = [3, 4, 5]"),
        (DARTS_V2.replace("('dil_conv_3x3', 2)", ""), "normal must have 8 pairs"),
        (DARTS_V2.replace("dil_conv", "dil_cnov"), "did you mean 'dil_conv_3x3'"),
        (DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)"), "of node 5 of normal is"),
        (DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 0)"), "two different inputs"),
        (DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 2.0)"), "must have pairs such"),
    ],
)
def test_what_is_no_genotype_of_this_space_is_refused_and_nothing_runs(
    text, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        architecture(text)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_is_no_text_or_no_architecture_is_refused():
    with pytest.raises(TypeError, match="a genotype is a text, such as str"):
        architecture(darts)
    with pytest.raises(ValueError):
        genotype({"normal_op_0_2": OPERATIONS[0]})
