"""Cosine and magnitude similarity, pair by pair, against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from paretonas.conflict import cosine_similarity, magnitude_similarity


def _plain(*, rows, pair):
    return torch.stack([torch.stack([pair(a, b) for b in rows]) for a in rows])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_against_a_plain_loop_at_every_scale(m, scale):
    torch.manual_seed(m)
    rows = torch.randn(m, 7, dtype=torch.float64)
    cosine = _plain(rows=rows, pair=lambda a, b: a @ b / (a.norm() * b.norm()))
    magnitude = _plain(
        rows=rows, pair=lambda a, b: 2 * a.norm() * b.norm() / (a.norm() ** 2 + b.norm() ** 2)
    )
    torch.testing.assert_close(cosine_similarity(scale * rows), cosine)
    torch.testing.assert_close(magnitude_similarity(scale * rows), magnitude)


@pytest.mark.parametrize("similarity", [cosine_similarity, magnitude_similarity])
def test_batched_equals_one_by_one(similarity):
    rows = torch.randn(6, 3, 4)
    together = similarity(rows)
    assert together.shape == (6, 3, 3)
    for k in range(6):
        torch.testing.assert_close(together[k], similarity(rows[k]))


@pytest.mark.parametrize("similarity", [cosine_similarity, magnitude_similarity])
def test_symmetric_with_ones_on_the_diagonal(similarity):
    found = similarity(torch.randn(5, 8).half())
    assert torch.equal(found, found.mT)
    assert torch.equal(found.diagonal(), torch.ones(5, dtype=torch.float64))


def test_zero_gradients():
    rows = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    assert cosine_similarity(rows).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert magnitude_similarity(rows).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_lengths_too_far_apart_to_square():
    rows = torch.tensor([[1e-200, 0.0], [1e200, 0.0]], dtype=torch.float64)
    assert magnitude_similarity(rows)[0, 1] == 0
    assert cosine_similarity(rows)[0, 1] == 1


@pytest.mark.parametrize("similarity", [cosine_similarity, magnitude_similarity])
def test_non_finite_rows_are_named(similarity):
    with pytest.raises(ValueError, match="got nan in row 1"):
        similarity(torch.tensor([[1.0], [math.nan]]))
