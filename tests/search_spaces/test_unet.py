"""The U-Net: published size, a formula for all others, and masks of real digits."""

from random import Random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from paretonas.nn.conformance import check_space
from paretonas.space import draw, every, size
from search_spaces import unet
from search_spaces.images import mnist_5k
from search_spaces.unet import UNet, digit_pixels, space


@pytest.fixture(scope="module")
def supernet():
    return space.supernet()


def levels(picks):
    """The (width, kernel) of each level that exists."""
    deepest = 2 if picks["level_3"] == "0" else 3 if picks["level_4"] == "0" else 4
    return [(int(picks[f"width_{n}"]), int(picks[f"kernel_{n}"])) for n in range(1, deepest + 1)]


def layers(picks):
    """By hand: for each layer its weights, its other parameters, and its pixels."""
    (width, kernel), *lower = levels(picks)

    def block(inputs, outputs, kernel, side):
        yield kernel**2 * inputs * outputs, 2 * outputs, side**2
        yield kernel**2 * outputs * outputs, 2 * outputs, side**2

    yield from block(1, width, kernel, 16)
    yield 11 * width, 11, 16**2
    side = 16
    for inner, inner_kernel in lower:
        yield from block(2 * width, width, kernel, side)  # after the concatenation
        yield 4 * inner * width, width, (side // 2) ** 2  # up
        side //= 2
        yield from block(width, inner, inner_kernel, side)
        width, kernel = inner, inner_kernel


def test_the_published_network_has_its_published_number_of_parameters():
    """31,037,698 with batch norms, transposed convolutions, three channels and two classes."""
    with torch.device("meta"):
        widths = [(64,), (128,), (256,), (512,), (1024,)]
        network = UNet(widths, kernels=(3,), at_least=5, inputs=3, classes=2)
        assert sum(p.numel() for p in network.parameters()) == 31_037_698
        assert network(torch.empty(1, 3, 64, 64)).shape == (1, 2, 64, 64)


def test_sizes_are_those_of_a_formula(supernet):
    images = torch.zeros(1, 1, 16, 16)
    for seed in range(12):
        picks = draw(space.choices, Random(seed))
        network = supernet.extract(picks).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images)
        parts = [*layers(picks)]
        count = sum(p.numel() for p in network.parameters())
        assert count == sum(weights + others for weights, others, _ in parts)
        products = sum(weights * pixels for weights, _, pixels in parts)
        assert counter.get_total_flops() == 2 * products


def test_a_path_of_the_supernet_is_its_extracted_network(supernet):
    images = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for seed in range(6):
        picks = draw(space.choices, Random(seed))
        network = supernet.extract(picks).train()
        assert torch.allclose(network(images), supernet(images, picks), atol=1e-5)


def test_a_one_hot_mixture_is_the_architecture(supernet):
    """Each channel of the concatenation is weighed by its own level."""
    images = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        picks = draw(space.choices, Random(seed))
        gates = [
            torch.tensor([float(option == picks[choice.name]) for option in choice.options])
            for choice in space.choices
        ]
        assert torch.allclose(supernet(images, gates), supernet(images, picks), atol=1e-4)


def test_the_page_counts_architectures_and_networks(supernet):
    assert f"{size(space.choices):,} architectures" in unet.__doc__
    distinct = {supernet.canonical(picks) for picks in every(space.choices)}
    assert f"{len(distinct):,} networks" in unet.__doc__


def test_a_mask_is_the_ink_of_its_digit():
    data, task = mnist_5k(), digit_pixels()
    for split in ("valid", "test"):
        whole = getattr(data, split)
        batches = [*task.batches(split, seed=0, epoch=0)]
        images, masks = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert images.shape == (1000, 1, 16, 16) and masks.shape == (1000, 16, 16)
        pixels = whole.inputs.reshape(-1, 14, 2, 14, 2).mean(dim=(2, 4))
        assert torch.allclose(images[:, 0, 1:-1, 1:-1], pixels, atol=1e-6)
        ink = data.preprocessing.std * images[:, 0] + data.preprocessing.mean > 63.9 / 255
        labels = whole.labels[:, None, None].expand_as(masks)
        assert torch.equal(masks > 0, ink) and torch.equal(masks[ink], labels[ink] + 1)
        assert not ink[:, [0, -1]].any() and not ink[:, :, [0, -1]].any()
        assert ink.flatten(1).sum(1).min() > 10


def test_the_space_keeps_its_promises():
    check_space(space)
