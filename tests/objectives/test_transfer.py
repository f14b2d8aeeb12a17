"""Laws of the transfer of a latency table to another device."""

from itertools import product
from random import Random

import numpy as np
import pytest
import torch

from paretonas.objectives import CostTable, Slot, transfer
from paretonas.objectives.calibration import Calibration, rank_correlation
from paretonas.objectives.transfer import chosen, transferred
from paretonas.space import Choice, draw

OPTIONS = ("none", "pool", "conv1", "conv3")
CHOICES = tuple(Choice(f"edge{i}", OPTIONS) for i in range(6))
COSTS = np.array([0.0, 0.05, 0.08, 0.3])  # of an option, about


def table(costs, **more):
    """A table of (6, 4) costs, and a constant."""
    groups = tuple((option,) for option in OPTIONS)
    slots = [Slot("constant", {}, torch.tensor(0.2))]
    slots += [
        Slot(c.name, {c.name: groups}, torch.tensor(row))
        for c, row in zip(CHOICES, costs, strict=True)
    ]
    return CostTable(CHOICES, slots, unit="ms", **more)


def device(seed, kinds=(1.0, 1.0, 1.0, 1.0), parts=0.2):
    """The costs on a device: each kind of operation has a factor, and each part a little one."""
    rng = np.random.default_rng(seed)
    own = np.exp(parts * rng.normal(size=(6, 4)))
    return np.random.default_rng(0).uniform(0.8, 1.2, (6, 1)) * COSTS * kinds * own


def networks(count, seed):
    rng = Random(seed)
    return [draw(CHOICES, rng) for _ in range(count)]


def measured(one, architectures, rng=None, noise=0.0):
    exact = np.array([one.total_at(a) for a in architectures])
    return exact if rng is None else exact * np.exp(noise * rng.normal(size=len(exact)))


def test_a_slower_device_of_the_same_kind_is_known_after_few_networks():
    known = table(device(1))
    few, others = chosen(known, 5), networks(50, 1)
    other = transferred(known, few, 7.0 * measured(known, few))
    assert measured(other, others) == pytest.approx(7.0 * measured(known, others), rel=0.01)
    assert other.about["within_10_percent"] == 1.0


def test_kinds_of_parts_that_differ_are_found_with_ten_networks():
    gained, learned = [], []
    for seed in range(8):
        known = table(device(1))
        other = table(device(2 + seed, kinds=(0.0, 6.0, 2.0, 0.5), parts=0.1))
        few, others = chosen(known), networks(200, seed)
        ms = measured(other, few, np.random.default_rng(seed), noise=0.02)
        found, truth = transferred(known, few, ms), measured(other, others)
        gained.append(rank_correlation(measured(known, others), truth))
        learned.append(rank_correlation(measured(found, others), truth))
    assert np.median(learned) > 0.95 > 0.75 > np.median(gained)


def test_the_costs_are_those_of_bayesian_linear_regression(monkeypatch):
    """The oracle solves for all costs at once in the space of costs, not of networks."""
    for name, value in (("STARTING", 0.4), ("KINDS", 0.3), ("PARTS", 0.1), ("NOISES", 0.02)):
        monkeypatch.setattr(transfer, name, (value,))
    known = table(device(1))
    few = networks(12, 3)
    ms = measured(table(device(4, parts=0.1)), few, np.random.default_rng(0), 0.02)
    used = np.zeros((12, 25))
    used[:, 0] = 1
    for row, architecture in zip(used, few, strict=True):
        for i, choice in enumerate(CHOICES):
            row[1 + 4 * i + OPTIONS.index(architecture[choice.name])] = 1
    costs = np.concatenate([[0.2], device(1).ravel()])
    mean = np.median(ms / (used @ costs)) * costs
    runs = costs > 0
    typical = np.median(used @ mean)
    start = typical / np.mean(used @ runs)
    kinds = np.array([-1, *np.tile(np.arange(4), 6)])
    same = (kinds[:, None] == kinds) & (kinds >= 0)
    prior = (transfer.FACTOR**2 + 0.3**2 * same) * np.outer(mean, mean)
    prior += 0.4**2 * start**2 * same + 0.1**2 * np.diag(mean**2 + start**2)
    whole = np.zeros((26, 26))
    whole[:25, :25], whole[25, 25] = prior, (transfer.SHIFT * typical) ** 2
    design = np.hstack([used, np.ones((12, 1))])
    precision = np.diag((0.02 * ms) ** -2)
    # (S^-1 + A' P A)^-1 A' P r = S (I + A' P A S)^-1 A' P r, since S may be singular
    rest = ms - used @ mean
    inner = np.eye(26) + design.T @ precision @ design @ whole
    step = whole @ np.linalg.solve(inner, design.T @ precision @ rest)
    expected = (mean + step[:25])[1:].reshape(6, 4)
    least = np.minimum(0.0, expected.min(axis=1, keepdims=True))
    constant, *slots = transferred(known, few, ms).slots
    for slot, own in zip(slots, expected - least, strict=True):
        assert slot.values.tolist() == pytest.approx(list(own), rel=1e-6, abs=1e-9)
    assert float(constant.values) == pytest.approx(mean[0] + step[0] + step[25] + least.sum())


def test_each_prediction_knows_nothing_of_its_own_network():
    known, few = table(device(1)), networks(10, 0)
    ms = measured(table(device(2, kinds=(0.0, 3.0, 1.0, 1.0))), few)
    before = Calibration.told(transferred(known, few, ms).about)
    changed = ms.copy()
    changed[3] *= 5
    after = Calibration.told(transferred(known, few, changed).about)
    assert after.predicted_ms[3] == before.predicted_ms[3]
    assert after.predicted_ms[4] != before.predicted_ms[4]
    assert before.measured_ms == pytest.approx(ms, abs=1e-6)


def test_the_unit_of_the_known_table_does_not_matter():
    few, others = networks(10, 0), networks(20, 1)
    ms = measured(table(device(2)), few)
    in_ms, in_us = table(device(1)), table(1e3 * device(1))
    in_us.slots[0].values.mul_(1e3)
    in_us = CostTable(CHOICES, in_us.slots, unit="us")
    one, other = (measured(transferred(t, few, ms), others) for t in (in_ms, in_us))
    assert other == pytest.approx(one, rel=1e-6)


def test_what_costs_nothing_here_may_cost_there_and_nothing_is_negative():
    known, few, rng = table(device(1)), chosen(table(device(1)), 24), np.random.default_rng(0)
    costs = device(1)
    costs[:, 0] = 0.3
    for ms in (measured(table(costs), few), np.exp(rng.normal(size=24))):
        found = transferred(known, few, ms)
        assert all(float(slot.values.min()) >= 0 for slot in found.slots)
        assert all(found.total_at(a) > 0 for a in networks(50, 1))
    learned = transferred(known, few, measured(table(costs), few))
    assert [float(slot.values[0]) for slot in learned.slots[1:]] == pytest.approx(
        [0.3] * 6, rel=0.2
    )


def left_variance(known, few, others):
    """The mean variance of relative latencies that is left, computed by conditioning at once."""
    both = [*few, *others]
    parts = transfer.Parts.of(known, both)
    prior = transfer._Prior.of(transfer._kinds(known), transfer.Parts.of(known, others), 1.0)
    *scales, noise = transfer.MIDDLE
    blocks = prior.blocks(parts.used / (parts.used @ parts.costs)[:, None])
    blocks[-1] = blocks[-1] / (parts.used @ parts.costs)[:, None]
    covariance = sum(s**2 * b @ b.T for s, b in zip(prior.scales(scales), blocks, strict=True))
    n = len(few)
    inner = covariance[:n, :n] + noise**2 * np.eye(n)
    cross = covariance[n:, :n]
    return np.trace(covariance[n:, n:] - cross @ np.linalg.solve(inner, cross.T))


def test_the_chosen_networks_leave_less_variance_than_random_ones():
    known, pool = table(device(1)), networks(150, 5)
    best = chosen(known, among=pool)
    assert len(set(best)) == 10 and set(best) <= set(pool)
    ours = left_variance(known, best, pool)
    others = [left_variance(known, Random(s).sample(pool, 10), pool) for s in range(30)]
    assert ours < min(others)
    assert chosen(known, among=pool) == best


def test_a_small_space_is_measured_whole():
    few = [a for a in networks(30, 0) if a["edge0"] == "pool"][:4]
    assert set(chosen(table(device(1)), among=few)) == set(few)
    every = [
        dict(zip(("edge0", "edge1"), both, strict=True)) for both in product(OPTIONS, repeat=2)
    ]
    small = CostTable(CHOICES[:2], table(device(1)).slots[:3], unit="ms")
    assert len(chosen(small, 100)) == len(every)


def test_the_origin_is_told():
    known = table(device(1), about={"device": "server", "backend": "torch", "threads": 2, "x": 1})
    few = networks(10, 0)
    before = [slot.values.clone() for slot in known.slots]
    found = transferred(known, few, measured(known, few), about={"device": "board"})
    assert found.about["device"] == "board"
    assert found.about["like"] == {"device": "server", "backend": "torch", "threads": 2}
    assert found.about["correction"] == "transferred" and found.unit == "ms"
    assert Calibration.told(found.about).architectures == 10
    assert all(torch.equal(slot.values, b) for slot, b in zip(known.slots, before, strict=True))


@pytest.mark.parametrize(
    ("ms", "message"),
    [
        ([1.0, 2.0], "at least 3 networks must be measured, got 2"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], "one latency for each of 4 architectures, got shape"),
        ([1.0, 2.0, float("nan"), 3.0], "must be positive and finite, got nan for edge0="),
        ([1.0, 2.0, 0.0, 3.0], "must be positive and finite, got 0.0 for edge0="),
    ],
)
def test_bad_latencies_are_refused(ms, message):
    few = networks(min(4, len(ms)), 0)
    with pytest.raises(ValueError, match=message):
        transferred(table(device(1)), few, ms)


def test_a_table_without_costs_is_refused():
    empty = CostTable(CHOICES, [], unit="ms")
    with pytest.raises(ValueError, match="must give each architecture a positive latency"):
        transferred(empty, networks(4, 0), [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ValueError, match="must give each architecture a positive latency"):
        chosen(empty)


@pytest.mark.parametrize("seed", range(4))
def test_the_file_tells_the_constant_that_the_table_has(seed):
    known, few = table(device(1)), networks(12, seed)
    ms = np.exp(np.random.default_rng(seed).normal(size=12))
    found = transferred(known, few, ms)
    told = Calibration.told(found.about)
    assert told.shift_ms == pytest.approx(float(found.slots[0].values), abs=1e-9) and (
        told.shift_ms >= 0
    )
