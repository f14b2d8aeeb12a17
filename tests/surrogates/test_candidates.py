"""What a search looks at: complete around what it found, each network once, the same each time."""

import pytest
import torch

from paretonas.relaxation import one_hot_picks, picks_of, sizes_of
from paretonas.space import Architecture, decode, every, neighbors
from paretonas.surrogates.candidates import candidates, local_search


@pytest.fixture
def alpha(supernet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, sum(sizes_of(supernet.choices)), generator=generator)


def test_each_network_is_listed_once_under_its_canonical_name(supernet, alpha):
    found = candidates(supernet, alpha, [], seed=0)
    assert len(found) == len(set(found))
    assert all(supernet.canonical(a) == a for a in found)


def test_the_decided_ones_come_first_and_their_neighbors_are_all_there(supernet, alpha):
    found = candidates(supernet, alpha, [], seed=0)
    sizes = sizes_of(supernet.choices)
    decided = [decode(supernet.choices, row) for row in picks_of(alpha, sizes).tolist()]
    assert found[0] == supernet.canonical(decided[0])
    for architecture in decided:
        assert supernet.canonical(architecture) in found
        near = {supernet.canonical(a) for a in neighbors(supernet.choices, architecture)}
        assert near <= set(found)


def test_the_neighbors_of_the_front_are_there(supernet, monkeypatch):
    from paretonas.surrogates import candidates as module

    monkeypatch.setattr(module, "RANDOM", 0)
    sure = 60 * one_hot_picks(torch.tensor([[0, 0, 0, 0]]), sizes_of(supernet.choices))
    front = [Architecture({"width": "8", "op": "deep", "op.options.deep": "2", "late": "1"})]
    both = [decode(supernet.choices, [0, 0, 0, 0]), *front]
    near = {supernet.canonical(b) for a in both for b in neighbors(supernet.choices, a)}
    assert set(candidates(supernet, sure, front, seed=0)) - {both[0]} == near - {both[0]}


def test_it_is_the_same_each_time_and_global_state_stays(supernet, alpha):
    before = torch.get_rng_state()
    one, again = (candidates(supernet, alpha, [], seed=4) for _ in range(2))
    assert one == again
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_follow_the_distribution(supernet, monkeypatch):
    """Of a certain distribution and without random ones, only it and its neighbors remain."""
    from paretonas.surrogates import candidates as module

    monkeypatch.setattr(module, "RANDOM", 0)
    sizes = sizes_of(supernet.choices)
    sure = 60 * one_hot_picks(torch.tensor([[1, 2, 1, 1]]), sizes)
    architecture = decode(supernet.choices, [1, 2, 1, 1])
    expected = {supernet.canonical(a) for a in neighbors(supernet.choices, architecture)}
    assert set(candidates(supernet, sure, [], seed=0)) == expected | {architecture}
    monkeypatch.setattr(module, "SAMPLES", 60)
    flat = candidates(supernet, torch.zeros_like(sure), [], seed=0)
    networks = {supernet.canonical(a) for a in every(supernet.choices)}
    assert set(flat) == networks


def test_local_search_reaches_the_top_of_a_slope():
    top = (3, 2, 1)

    def score(picks):
        return [(p, -float(sum(abs(a - b) for a, b in zip(p, top, strict=True)))) for p in picks]

    assert local_search([(0, 0, 0)], (4, 4, 4), score)[0] == top
    assert local_search([], (4, 4, 4), score) == []
