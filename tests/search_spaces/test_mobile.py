"""Mobile networks have the published sizes, and a path is the network that is extracted."""

from itertools import pairwise
from random import Random

import pytest
import torch

from paretonas.nn import Supernet
from paretonas.nn.conformance import check_space
from paretonas.space import draw, size
from search_spaces import mobile
from search_spaces.mobile import LARGE, ONCE_FOR_ALL, MobileNet, space


def test_mobilenet_v3_large_has_the_published_sizes(counts):
    """As torchvision lists it (5,483,032 parameters), and counts it (216,589,760)."""
    with torch.device("meta"):
        network, images = MobileNet(LARGE), torch.empty(1, 3, 224, 224)
    assert counts(network, images) == (5_483_032, 216_589_760)


# Networks that the authors' code extracts from its supernet of width 1.0: resolution, kernel and
# expansion of each of the 20 blocks, depth of each stage, parameters, multiply-adds.
OF_THE_AUTHORS = [
    (224, "3" * 20, "3" * 20, "22222", 3_410_792, 121_278_672),
    (160, "7" * 20, "6" * 20, "44444", 7_664_760, 291_318_048),
    (192, "33353775573737735757", "64646433444446363333", "23224", 4_416_112, 161_101_248),
    (224, "37735757737355733757", "64463363646363363434", "34434", 4_895_800, 310_078_896),
]


@pytest.fixture(scope="module")
def once_for_all():
    with torch.device("meta"):
        return Supernet(MobileNet(ONCE_FOR_ALL, resolutions=tuple(range(128, 225, 4))))


@pytest.mark.parametrize(
    ("resolution", "kernels", "expansions", "depths", "parameters", "adds"), OF_THE_AUTHORS
)
def test_once_for_all_has_the_sizes_of_the_authors_code(
    once_for_all, counts, resolution, kernels, expansions, depths, parameters, adds
):
    picks = {"resolution": str(resolution)}
    for stage, depth in enumerate(depths, start=1):
        picks[f"stages.{stage}.depth"] = depth
    for slot, (kernel, expansion) in enumerate(zip(kernels, expansions, strict=True)):
        block = f"stages.{slot // 4 + 1}.depth.blocks.{slot % 4}"
        picks |= {f"{block}.kernel": kernel, f"{block}.expansion": expansion}
    images = torch.empty(1, 3, 224, 224, device="meta")
    hidden_bias = 1280  # theirs has none
    found = counts(once_for_all.extract(picks), images)
    assert found == (parameters + hidden_bias, adds)


def test_once_for_all_has_the_published_number_of_networks(once_for_all):
    """(9^2 + 9^3 + 9^4)^5, about 2e19, at each of 25 resolutions."""
    choices = {choice.name: len(choice.options) for choice in once_for_all.choices}
    networks = choices.pop("resolution")
    for stage in range(1, 6):
        assert choices.pop(f"stages.{stage}.depth") == 3
        blocks = [
            choices.pop(f"stages.{stage}.depth.blocks.{i}.kernel")
            * choices.pop(f"stages.{stage}.depth.blocks.{i}.expansion")
            for i in range(4)
        ]
        networks *= blocks[0] * blocks[1] * (1 + blocks[2] * (1 + blocks[3]))
    assert not choices and networks == 25 * (9**2 + 9**3 + 9**4) ** 5


def formula(picks):
    """Parameters and multiply-adds of the small network, layer by layer."""
    side = (int(picks["resolution"]) + 1) // 2
    parameters, adds = 0, 0

    def layer(weights, places, extra):
        nonlocal parameters, adds
        parameters, adds = parameters + weights + extra, adds + weights * places

    layer(1 * 8 * 9, side**2, 2 * 8)
    channels = 8
    for stage in range(3):
        width = int(picks[f"stages.{stage}.width"])
        for index in range(int(picks[f"stages.{stage}.depth"])):
            block = f"stages.{stage}.depth.blocks.{index}"
            inner = nearest_eighth(channels * int(picks[f"{block}.expansion"]))
            layer(channels * inner, side**2, 2 * inner)
            if stage < 2 and not index:
                side = (side + 1) // 2
            layer(inner * int(picks[f"{block}.kernel"]) ** 2, side**2, 2 * inner)
            if picks[f"{block}.squeeze"] == "on":
                squeezed = nearest_eighth(inner // 4)
                layer(2 * inner * squeezed, 1, inner + squeezed)
            layer(inner * width, side**2, 2 * width)
            channels = width
    layer(channels * 6 * channels, side**2, 2 * 6 * channels)
    for inputs, outputs in pairwise([6 * channels, 64, 10]):
        layer(inputs * outputs, 1, outputs)
    return parameters, adds


def nearest_eighth(number):
    """The multiple of 8 that is nearest, the larger one of two; not less than nine tenths."""
    found = min((abs(8 * i - number), -8 * i) for i in range(1, number // 8 + 2))[1] * -1
    return found if found >= 0.9 * number else found + 8


@pytest.fixture(scope="module")
def supernet():
    return space.supernet()


@pytest.mark.parametrize("seed", range(6))
def test_a_path_is_the_extracted_network_with_the_sizes_of_the_formula(supernet, counts, seed):
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    picks = draw(space.choices, Random(seed))
    network = supernet.extract(picks)
    with torch.no_grad():
        expected = network.train()(images)
        assert torch.allclose(supernet(images, picks), expected, atol=1e-5)
    assert counts(network, images[:1]) == formula(picks)


def test_a_one_hot_mixture_at_the_largest_resolution_is_the_architecture(supernet):
    """At a smaller resolution the mixture is an approximation, as `Resolution` says."""
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    picks = {**draw(space.choices, Random(0)), "resolution": "28"}
    gates = [torch.tensor([float(o == picks[c.name]) for o in c.options]) for c in space.choices]
    with torch.no_grad():
        assert torch.allclose(supernet(images, gates), supernet(images, picks), atol=1e-4)


def test_every_option_keeps_the_promises_of_a_space():
    assert f" {size(space.choices):,} architectures" in " ".join(mobile.__doc__.split())
    check_space(space)
