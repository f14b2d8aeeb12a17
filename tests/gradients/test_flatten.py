"""One row of n numbers, and one tensor per parameter: each undoes the other."""

from __future__ import annotations

import pytest
import torch

from paretonas.gradients.flatten import flatten, unflatten


def test_unflatten_undoes_flatten_in_shape_and_dtype():
    parameters = [torch.zeros(2, 2), torch.zeros(3, dtype=torch.float64)]
    pieces = [torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.arange(4.0, 7.0, dtype=torch.float64)]
    row = flatten(pieces, parameters)
    assert row.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert row.dtype == torch.float64
    for piece, back in zip(pieces, unflatten(row, parameters), strict=True):
        assert torch.equal(piece, back)
        assert piece.dtype == back.dtype


def test_none_stands_for_zeros():
    assert flatten([None, torch.ones(2)], [torch.ones(1, 2), torch.ones(2)]).tolist() == [
        0,
        0,
        1,
        1,
    ]


def test_rays_keep_their_dimension():
    parameters = [torch.zeros(2, 3), torch.zeros(2, 1)]
    first, second = unflatten(torch.arange(8.0).view(2, 4), parameters)
    assert first.tolist() == [[0, 1, 2], [4, 5, 6]]
    assert second.tolist() == [[3], [7]]
    assert torch.equal(flatten([first, second], parameters, (2,)), torch.arange(8.0).view(2, 4))


def test_another_length_is_refused():
    with pytest.raises(ValueError, match=r"n = 4 entries to fit the parameters, got shape \(5,\)"):
        unflatten(torch.ones(5), [torch.ones(2, 2)])
    with pytest.raises(ValueError, match=r"shape \(n,\) or \(r, n\), got \(\)"):
        unflatten(torch.tensor(1.0), [torch.ones(2, 2)])
