"""What a search knows: kept to the bit, and asked the right questions."""

import math

import moocore
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paretonas.metric import Metric
from paretonas.space import Architecture, every
from paretonas.surrogates.quality_model import Coordinate, QualityModel

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


# --- several metrics, other directions, other ranges --------------------------------------------

REWARD = Metric("reward", maximize=True)  # there is no best reward
DEPTH = Metric("depth", unit="m")


def reward(architecture) -> float:
    """Another order of the architectures than the score, from negative values to positive ones."""
    like = {"skip": 1.0, "relu": -0.7, "deep": 0.1 * int(architecture["op.options.deep"])}
    return like[architecture["op"]] + 0.4 * (architecture["late"] == "1") - 0.5


def model(supernet, costs, networks, metrics, inherited, trained) -> QualityModel:
    found = QualityModel(supernet.choices, costs, metrics)
    found.inherited = {a: inherited(a) for a in networks[::2]}
    found.trained = {a: trained(a) for a in networks[:8:2]}
    found.fit()
    return found


def test_each_metric_has_the_surrogate_that_it_has_alone(supernet, costs, networks):
    both = model(
        supernet,
        costs,
        networks,
        [ERROR, REWARD],
        lambda a: (score(a), -reward(a)),
        lambda a: (20 * score(a), reward(a)),
    )
    one = model(
        supernet, costs, networks, [ERROR], lambda a: (score(a),), lambda a: (20 * score(a),)
    )
    other = model(
        supernet, costs, networks, [REWARD], lambda a: (-reward(a),), lambda a: (reward(a),)
    )
    found, expected = both.coordinates(), one.coordinates()
    assert found.shape == (len(networks[::2]), 2 + len(costs))
    assert torch.equal(found[:, 0], expected[:, 0])
    assert torch.equal(found[:, 1], other.coordinates()[:, 0])
    assert torch.equal(found[:, 2:], expected[:, 1:])


def test_a_metric_to_maximize_without_a_best_value_is_modeled_as_its_negative(
    supernet, costs, networks
):
    knowledge = model(
        supernet, costs, networks, [REWARD], lambda a: (-reward(a),), lambda a: (reward(a),)
    )
    (scale,) = knowledge.scales
    assert scale.linear
    rewards = scale.value(knowledge.coordinates()[:, 0])
    found = dict(zip(knowledge.inherited, rewards.tolist(), strict=True))
    for architecture, (value,) in knowledge.trained.items():
        assert found[architecture] == pytest.approx(value, abs=0.1)


@pytest.mark.parametrize("metrics", [[REWARD], [ERROR, REWARD], [REWARD, DEPTH]])
def test_leaders_are_those_of_all_metrics_each_in_its_direction(supernet, costs, networks, metrics):
    values = {"error": lambda a: 20 * score(a), "reward": reward, "depth": lambda a: score(a) ** 2}
    knowledge = QualityModel(supernet.choices, costs, metrics)
    knowledge.trained = {a: tuple(values[m.name](a) for m in metrics) for a in networks}

    def row(architecture) -> list[float]:
        signs = [-1 if m.maximize else 1 for m in metrics]
        own = [s * values[m.name](architecture) for s, m in zip(signs, metrics, strict=True)]
        return [*own, *(cost.exact(architecture) for cost in costs)]

    points = np.array([row(a) for a in networks])
    expected = [
        a
        for i, a in enumerate(networks)
        if not ((points <= points[i]).all(1) & (points < points[i]).any(1)).any()
        and not (points[:i] == points[i]).all(1).any()
    ]
    assert knowledge.leaders() == expected


@pytest.mark.parametrize("level", ["inherited", "trained"])
def test_what_is_chosen_for_two_metrics_adds_more_hypervolume_than_chance(
    supernet, costs, networks, level
):
    knowledge = QualityModel(supernet.choices, costs, [ERROR, REWARD])
    knowledge.inherited = {a: (score(a), -reward(a)) for a in networks}
    knowledge.trained = {a: (20 * score(a), reward(a)) for a in networks[:2]}
    if level == "inherited":
        knowledge.inherited = {a: knowledge.inherited[a] for a in networks[::3]}
    known = knowledge.trained if level == "trained" else knowledge.inherited
    knowledge.fit()
    reference = [45.0, 2.0, *(1.05 * knowledge.costs_of(networks).max(axis=0))]

    def volume(chosen) -> float:
        both = [*known, *chosen]
        points = np.column_stack(
            [
                [20 * score(a) for a in both],
                [-reward(a) for a in both],
                knowledge.costs_of(both),
            ]
        )
        return moocore.hypervolume(points, ref=np.array(reference))

    chosen = knowledge.choose(networks, 4, level, seed=0)
    rest = [a for a in networks if a not in known]
    rng = np.random.default_rng(0)
    random = [volume([rest[i] for i in rng.permutation(len(rest))[:4]]) for _ in range(60)]
    assert volume(chosen) > np.quantile(random, 0.9)


@pytest.mark.parametrize("level", ["inherited", "trained"])
def test_losses_below_zero_are_as_good_as_others(supernet, costs, networks, level):
    """What is chosen does not change with the zero of the loss, where there is no logarithm."""
    chosen = []
    for shift in (3.0, 50.0):  # every loss is negative
        knowledge = model(
            supernet,
            costs,
            networks,
            [ERROR],
            lambda a, shift=shift: (score(a) - shift,),
            lambda a: (20 * score(a),),
        )
        assert torch.isfinite(knowledge.coordinates()).all()
        chosen.append(knowledge.choose(networks, 3, level, seed=0))
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 3


def test_proxy_scores_are_the_loss_or_the_own_losses_or_the_distance_to_the_best(supernet, costs):
    def proxies(metrics, scores):
        return QualityModel(supernet.choices, costs, metrics).proxy(scores)

    top = Metric("top", maximize=True, unit="percent", best=100)
    assert proxies([ERROR], {"loss": 0.3, "error_percent": 9.0}) == (0.3,)
    assert proxies([ERROR], {"error_percent": 9.0}) == (9.0,)
    assert proxies([top], {"loss": -2.0, "top_percent": 90.0}) == (-2.0,)
    assert proxies([top], {"top": 90.0}) == (10.0,)
    several = {"loss": 5.0, "depth_loss": 0.2, "depth_m": 1.5, "top_percent": 90.0}
    assert proxies([top, DEPTH], several) == (10.0, 0.2)
    assert proxies([REWARD, DEPTH], {"loss": 5.0, "reward": 3.0, "depth": 1.5}) == (-3.0, 1.5)


@pytest.mark.parametrize(
    ("metrics", "scores", "name"),
    [
        ([ERROR], {"loss": math.nan, "error_percent": 9.0}, "loss became nan"),
        ([ERROR, DEPTH], {"loss": 1.0, "error": 9.0, "depth_m": math.inf}, "depth_m became inf"),
        ([ERROR, DEPTH], {"error": 9.0, "depth": 1.0, "depth_loss": -math.inf}, "depth_loss"),
    ],
)
def test_proxy_scores_that_are_not_finite_are_refused_by_name(
    supernet, costs, metrics, scores, name
):
    with pytest.raises(FloatingPointError, match=name):
        QualityModel(supernet.choices, costs, metrics).proxy(scores)


def test_states_of_older_checkpoints_hold_one_number_each(knowledge, supernet, costs, networks):
    knowledge.fit()
    state = knowledge.state()
    older = {
        "inherited": [(picks, score) for picks, (score,) in state["inherited"]],
        "trained": [(picks, value) for picks, (value,) in state["trained"]],
        "hyper": state["hyper"][0],
    }
    again = QualityModel(supernet.choices, costs, [ERROR])
    again.resume(older)
    for known in (knowledge, again):
        known.fit()
    assert torch.equal(again.coordinates(), knowledge.coordinates())


# --- the coordinate of a metric ------------------------------------------------------------------

values = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6)


def metric_of(maximize: bool, best: float | None, resolution: float | None) -> Metric:
    return Metric("m", maximize=maximize, best=best, resolution=resolution)


metrics = st.builds(
    metric_of,
    st.booleans(),
    st.sampled_from([None, 0.0, 1.0, -3.0, 100.0]),
    st.sampled_from([None, 0.1, 1.0]),
)


@given(metrics, values, st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_a_better_value_has_no_larger_coordinate(metric, seen, one, other):
    scale = Coordinate(metric, seen)
    better, worse = sorted((one, other), key=metric.cost)
    assert scale(better) <= scale(worse)
    assert math.isfinite(scale(better)) and math.isfinite(scale(worse))
    if metric.best is None or scale.gap(better) > 0:
        apart = abs(one - other) > 1e-6 * (1 + abs(one) + abs(other))
        assert not apart or scale(better) < scale(worse)


@given(metrics, values)
def test_a_coordinate_goes_back_to_its_value(metric, seen):
    """But for the small number that keeps logarithms finite: a percent of what is typical."""
    scale = Coordinate(metric, seen)
    typical = float(np.median([abs(scale.gap(value)) for value in seen]))
    allowed = (metric.resolution or 0.02 * typical + 2e-9) / 2 if not scale.linear else 0.0
    back = scale.value(torch.tensor([scale(v) for v in seen], dtype=torch.float64))
    for value, found in zip(seen, back.tolist(), strict=True):
        assert found == pytest.approx(value, rel=1e-9, abs=allowed + 1e-9 * abs(value) + 1e-11)


@given(metrics, values)
def test_there_is_a_logarithm_only_where_no_value_is_better_than_the_best(metric, seen):
    scale = Coordinate(metric, seen)
    if metric.best is None:
        assert scale.linear
    else:
        beyond = [v > metric.best if metric.maximize else v < metric.best for v in seen]
        assert scale.linear == any(beyond)


def test_halving_the_distance_to_the_best_counts_the_same_everywhere():
    scale = Coordinate(Metric("top", maximize=True, unit="percent", best=100, resolution=1e-9))
    steps = [scale(100 - gap) for gap in (40, 20, 10, 5)]
    assert np.diff(steps) == pytest.approx([-math.log(2)] * 3)


@pytest.mark.parametrize("unit", [1e-6, 1e3])
def test_the_unit_of_a_metric_without_a_best_value_does_not_matter(supernet, costs, networks, unit):
    one, other = (
        model(
            supernet,
            costs,
            networks,
            [REWARD],
            lambda a, u=u: (-u * reward(a),),
            lambda a, u=u: (u * reward(a),),
        )
        for u in (1.0, unit)
    )
    found, expected = other.coordinates(), one.coordinates()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for level in ("inherited", "trained"):
        chosen = [k.choose(networks, 3, level, seed=0) for k in (one, other)]
        assert chosen[0] == chosen[1]
