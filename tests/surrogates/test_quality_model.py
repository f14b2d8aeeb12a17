"""What a search knows: kept to the bit, and asked the right questions."""

import math

import moocore
import numpy as np
import pytest
import torch

from paretonas.metric import Metric
from paretonas.space import Architecture, every
from paretonas.surrogates.quality_model import QualityModel

ERROR = Metric("error", unit="percent", worst=60.0, resolution=1.0)


def score(architecture) -> float:
    """A loss that falls with width, depth and the kind of operation."""
    gain = {"skip": 0.0, "relu": 0.5, "deep": 0.5 + 0.2 * int(architecture["op.options.deep"])}
    return 2.0 - gain[architecture["op"]] - 0.3 * (architecture["width"] == "8")


@pytest.fixture
def networks(supernet) -> list[Architecture]:
    return list(dict.fromkeys(supernet.canonical(a) for a in every(supernet.choices)))


@pytest.fixture
def knowledge(supernet, costs, networks) -> QualityModel:
    found = QualityModel(supernet.choices, costs, [ERROR])
    found.inherited = {a: (score(a),) for a in networks[::2]}
    found.trained = {a: (20 * score(a),) for a in networks[:6:2]}
    return found


def test_nothing_is_fitted_at_first(supernet, costs):
    with pytest.raises(RuntimeError, match="nothing is fitted yet"):
        QualityModel(supernet.choices, costs, [ERROR]).surrogates  # noqa: B018


def test_coordinates_are_predicted_errors_and_exact_costs_as_logarithms(knowledge, costs):
    knowledge.fit()
    values = knowledge.coordinates().exp()
    known = list(dict.fromkeys([*knowledge.inherited, *knowledge.trained]))
    assert values.shape == (len(known), 3)
    for column, cost in enumerate(costs, start=1):
        exact = torch.tensor([cost.exact(a) for a in known], dtype=torch.float64)
        torch.testing.assert_close(values[:, column], exact)
    errors = dict(zip(known, values[:, 0].tolist(), strict=True))
    for architecture, (error,) in knowledge.trained.items():
        assert errors[architecture] == pytest.approx(error, rel=0.2)


def test_errors_of_zero_and_huge_losses_are_no_trouble(knowledge, networks):
    knowledge.inherited[networks[1]] = (1e6,)
    knowledge.inherited[networks[3]] = (0.0,)
    knowledge.trained[networks[1]] = (0.0,)
    knowledge.fit()
    assert torch.isfinite(knowledge.coordinates()).all()


def test_leaders_are_the_trained_ones_that_no_other_dominates(knowledge, costs, networks):
    knowledge.trained = {a: (20 * score(a),) for a in networks}
    points = np.array([[20 * score(a), *(c.exact(a) for c in costs)] for a in networks])
    expected = []
    for i, own in enumerate(points):
        worse = (points <= own).all(axis=1) & (points < own).any(axis=1)
        before = (points[:i] == own).all(axis=1).any()
        if not worse.any() and not before:
            expected.append(networks[i])
    assert knowledge.leaders() == expected
    knowledge.trained = {}
    assert knowledge.leaders() == []


@pytest.mark.parametrize("level", ["inherited", "trained"])
def test_nothing_is_chosen_that_is_known_at_the_level(knowledge, networks, level):
    knowledge.fit()
    known = knowledge.inherited if level == "inherited" else knowledge.trained
    chosen = knowledge.choose([*networks, *networks], 100, level, seed=0)
    assert set(chosen) == set(networks) - set(known)
    assert len(chosen) == len(set(chosen))
    assert knowledge.choose(list(known), 5, level, seed=0) == []
    assert knowledge.choose([], 5, level, seed=0) == []
    assert len(knowledge.choose(networks, 2, level, seed=0)) == 2


def test_a_choice_repeats_by_its_seed(knowledge, networks):
    knowledge.fit()
    before = torch.get_rng_state()
    one, again = (knowledge.choose(networks, 4, "trained", seed=3) for _ in range(2))
    assert one == again
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_chosen_adds_more_hypervolume_than_what_is_not(supernet, costs, networks):
    """With all inherited scores known, the first finalists are near the best that there are."""
    knowledge = QualityModel(supernet.choices, costs, [ERROR])
    knowledge.inherited = {a: (score(a),) for a in networks}
    knowledge.trained = {networks[0]: (20 * score(networks[0]),)}
    knowledge.fit()
    reference = np.array([45.0, *(1.05 * knowledge.costs_of(networks).max(axis=0))])

    def volume(chosen) -> float:
        errors = [20 * score(a) for a in chosen]
        return moocore.hypervolume(
            np.column_stack([errors, knowledge.costs_of(chosen)]), ref=reference
        )

    chosen = knowledge.choose(networks, 4, "trained", seed=0)
    assert volume([*chosen, networks[0]]) > 0.9 * volume(networks)
    rng = np.random.default_rng(0)
    lots = [1 + rng.permutation(len(networks) - 1)[:4] for _ in range(30)]
    random = [volume([networks[0], *(networks[i] for i in lot)]) for lot in lots]
    assert volume([*chosen, networks[0]]) > np.quantile(random, 0.9)


def test_knowledge_goes_on_from_its_state_to_the_bit(knowledge, supernet, costs, networks):
    knowledge.fit()
    state = knowledge.state()
    again = QualityModel(supernet.choices, costs, [ERROR])
    again.resume(state)
    assert again.inherited == knowledge.inherited
    assert again.trained == knowledge.trained
    assert list(again.inherited) == list(knowledge.inherited)  # the order matters to rounding
    for known in (knowledge, again):
        known.trained[networks[8]] = (30.0,)
        known.fit()
    assert torch.equal(again.surrogates[0].hyper, knowledge.surrogates[0].hyper)
    assert again.choose(networks, 3, "trained", seed=0) == knowledge.choose(
        networks, 3, "trained", seed=0
    )


def test_the_state_is_a_copy(knowledge, networks):
    knowledge.fit()
    state = knowledge.state()
    before = len(state["trained"])
    knowledge.trained[networks[9]] = (1.0,)
    assert len(state["trained"]) == before
    assert all(math.isfinite(float(hyper.sum())) for hyper in state["hyper"])
