"""Transformers have the published sizes, and a path is the network that is extracted."""

from functools import partial
from random import Random

import pytest
import torch

from paretonas.nn import Supernet
from paretonas.nn.conformance import check_space
from paretonas.space import draw, size
from search_spaces import transformer
from search_spaces.transformer import TextTransformer, VisionTransformer, text, vision

AT_224 = partial(VisionTransformer, head_dim=64, patch=16, image=224, inputs=3, classes=1000)


@pytest.mark.parametrize(
    ("dim", "parameters", "adds"),
    [  # DeiT (Touvron et al. 2021, arXiv 2012.12877), as timm lists and counts them
        (192, 5_717_416, 1_253_683_200),
        (384, 22_050_664, 4_598_882_304),
        (768, 86_567_656, 17_563_828_224),
    ],
)
def test_vision_transformers_have_the_published_sizes(counts, dim, parameters, adds):
    with torch.device("meta"):
        network = AT_224((dim,), depth=(12, 12), heads=(dim // 64,), ratios=(4,))
        assert counts(network, torch.empty(1, 3, 224, 224)) == (parameters, adds)


def test_gpt2_has_the_published_size():
    gpt2 = partial(TextTransformer, head_dim=64, context=1024, vocabulary=50257)
    with torch.device("meta"):
        network = gpt2((768,), depth=(12, 12), heads=(12,), ratios=(4,))
    assert sum(p.numel() for p in network.parameters()) == 124_439_808


def layers(picks, dim, tokens, head_dim):
    """Parameters and multiply-adds of the layers and of the last norm, from their sizes."""
    parameters, adds = 2 * dim, 0
    for index in range(int(picks["depth"])):
        inner = int(dim * float(picks[f"depth.blocks.{index}.ratio"]))
        heads = head_dim * int(picks[f"depth.blocks.{index}.attention.heads"])
        weights = 3 * dim * heads + heads * dim + 2 * dim * inner
        parameters += weights + 3 * heads + dim + inner + dim + 4 * dim
        adds += tokens * weights + 2 * tokens**2 * heads
    return parameters, adds


@pytest.mark.parametrize("seed", range(3))
def test_networks_of_autoformer_have_the_sizes_of_the_formula(counts, seed):
    """The space of AutoFormer-T: widths 192 to 240, 3 or 4 heads, ratios 3.5 or 4."""
    with torch.device("meta"):
        supernet = Supernet(AT_224((192, 216, 240), (12, 14), heads=(3, 4), ratios=(3.5, 4)))
        picks = draw(supernet.choices, Random(seed))
        found = counts(supernet.extract(picks), torch.empty(1, 3, 224, 224))
    dim = int(picks["dim"])
    parameters, adds = layers(picks, dim, tokens=197, head_dim=64)
    patch = 16 * 16 * 3 * dim
    ends = (patch + dim) + dim + 197 * dim + (dim + 1) * 1000  # patches, token, positions, head
    assert found == (parameters + ends, adds + 196 * patch + 1000 * dim)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("space", [vision, text], ids=lambda space: space.name)
def test_a_path_and_its_mixture_are_the_extracted_network(space, seed):
    supernet, picks = space.supernet(), draw(space.choices, Random(seed))
    inputs = next(iter(space.load_task().batches("valid")))[0][:3]
    inputs = inputs if inputs.is_floating_point() else inputs.long()
    gates = [torch.tensor([float(o == picks[c.name]) for o in c.options]) for c in space.choices]
    with torch.no_grad():
        expected = supernet.extract(picks)(inputs)
        assert torch.allclose(supernet(inputs, picks), expected, atol=1e-5)
        assert torch.allclose(supernet(inputs, gates), expected, atol=1e-4)


def test_networks_of_text_have_the_sizes_of_the_formula(counts):
    with torch.device("meta"):
        supernet = Supernet(text.network())
        picks = draw(supernet.choices, Random(0))
        found = counts(supernet.extract(picks), torch.zeros(1, 64, dtype=torch.long))
    dim = int(picks["dim"])
    parameters, adds = layers(picks, dim, tokens=64, head_dim=8)
    assert found == (parameters + 64 * dim + 256 * dim, adds + 64 * 256 * dim)


def test_text_is_not_read_ahead():
    network = text.supernet().extract(draw(text.choices, Random(0)))
    tokens = torch.randint(0, 256, (1, 64), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 40] = (changed[0, 40] + 1) % 256
    with torch.no_grad():
        same = torch.isclose(network(tokens), network(changed), atol=1e-6).all(dim=2)[0]
    assert same[:40].all() and not same[40:].any()


def test_the_head_is_the_embedding_at_every_width():
    picks = {**draw(text.choices, Random(0)), "dim": "32"}
    network = text.supernet().extract(picks)
    assert network.head.weight is network.tokens.weight
    assert network.head.weight.shape == (256, 32)


@pytest.mark.parametrize("space", [vision, text], ids=lambda space: space.name)
def test_every_option_keeps_the_promises_of_a_space(space):
    assert f" {size(space.choices):,} architectures" in " ".join(transformer.__doc__.split())
    check_space(space)
