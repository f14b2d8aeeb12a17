"""The error through a supernet's gates: what it equals, what it draws, whom it teaches."""

import pytest
import torch
from torch.nn import functional

from paretonas.nn import Supernet
from paretonas.objectives.gated_error import GatedError
from paretonas.relaxation import gumbel_softmax, one_hot_picks, probabilities, sizes_of
from paretonas.space import decode
from search_spaces import toy


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return toy.space.supernet(seed=1)


@pytest.fixture(scope="module")
def split():
    return toy.space.task().valid


def gated(supernet, split, seed: int = 0, **settings) -> GatedError:
    return GatedError(supernet, split, torch.Generator().manual_seed(seed), **settings)


def test_a_decided_distribution_has_the_log_loss_of_its_architecture(supernet, split):
    sizes = sizes_of(supernet.choices)
    picks = torch.tensor([[0, 0, 0], [1, 2, 2], [0, 1, 1], [1, 0, 2]])
    error = gated(supernet, split, batch_size=32)
    found = error.relaxed(one_hot_picks(picks, sizes))
    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:32]
    with torch.no_grad():
        expected = [
            functional.cross_entropy(
                supernet(split.inputs[rows], decode(supernet.choices, row)), split.labels[rows]
            ).log()
            for row in picks.tolist()
        ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert len(set(found.tolist())) == len(picks)


def test_the_gradient_reaches_alpha_and_tells_good_options_from_bad(supernet, split):
    """A small step against the gradient lowers the error of the same batch."""
    sizes = sizes_of(supernet.choices)
    alpha = torch.zeros(2, sum(sizes), requires_grad=True)
    before = gated(supernet, split).relaxed(probabilities(alpha, sizes))
    (gradient,) = torch.autograd.grad(before.sum(), alpha)
    assert (gradient.norm(dim=1) > 0).all()
    assert len(set(sizes)) > 1  # choices of different sizes
    for part in gradient.split(list(sizes), dim=1):
        assert part.abs().max() > 0  # every choice hears of it
        torch.testing.assert_close(part.sum(dim=1), torch.zeros(2), rtol=0, atol=1e-5)  # a softmax
    step = 0.1 * gradient / gradient.norm(dim=1, keepdim=True)
    after = gated(supernet, split).relaxed(probabilities(alpha - step, sizes))
    assert (after < before).all()


@pytest.mark.parametrize("options", [{}, {"gates": gumbel_softmax}], ids=["softmax", "gumbel"])
def test_the_generator_decides(supernet, split, options):
    p = probabilities(torch.zeros(1, sum(sizes_of(supernet.choices))), sizes_of(supernet.choices))
    before = torch.get_rng_state()
    one, same, other = (
        gated(supernet, split, seed=seed, batch_size=16, **options).relaxed(p) for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    error = gated(supernet, split, batch_size=16, **options)
    assert not torch.equal(error.relaxed(p), error.relaxed(p))  # a fresh batch at each call


def test_a_batch_holds_no_more_than_there_is(supernet, split):
    sizes = sizes_of(supernet.choices)
    p = one_hot_picks(torch.tensor([[1, 2, 1]]), sizes)
    with torch.no_grad():
        whole = supernet(split.inputs, decode(supernet.choices, [1, 2, 1]))
        expected = functional.cross_entropy(whole, split.labels).log()
    found = gated(supernet, split, batch_size=10**6).relaxed(p)
    torch.testing.assert_close(found, expected[None], rtol=1e-4, atol=1e-5)
    assert found.dtype == p.dtype
