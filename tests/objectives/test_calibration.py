"""Calibration: what it corrects, how it chooses, and how far its interval reaches."""

from random import Random

import numpy as np
import pytest
import torch
from torch import nn

import paretonas.nn as pn
from paretonas.devices import find_backend
from paretonas.objectives import CostTable, Parameters, Slot, calibration
from paretonas.objectives.calibration import Calibration, Timed, corrected, timed
from paretonas.space import Choice, draw

CHOICES = tuple(Choice(f"c{i}", ("a", "b", "c", "d")) for i in range(6))


def table(rng, wrong=0.0):
    """Costs of six parts, and the same with errors of this size."""
    true = rng.uniform(0.05, 0.2, (6, 4))
    told = true * np.exp(wrong * rng.normal(size=true.shape))
    groups = [tuple((o,) for o in choice.options) for choice in CHOICES]
    tables = [
        CostTable(
            CHOICES,
            [
                Slot(c.name, {c.name: group}, torch.tensor(row))
                for c, group, row in zip(CHOICES, groups, rows, strict=True)
            ],
            unit="ms",
        )
        for rows in (true, told)
    ]
    return tables


def networks(count, seed):
    rng = Random(seed)
    return [draw(CHOICES, rng) for _ in range(count)]


def measured(true, architectures, rng, noise=0.01):
    values = np.array([0.1 + 1.5 * true.total_at(a) for a in architectures])
    return values * np.exp(noise * rng.normal(size=len(values)))


def test_a_right_table_is_scaled_and_shifted_to_the_networks():
    rng = np.random.default_rng(0)
    true, told = table(rng)
    chosen = networks(40, 0)
    found = corrected(told, Timed(chosen, measured(true, chosen, rng, noise=1e-6), 40))
    for a in networks(20, 1):
        assert found.total_at(a) == pytest.approx(0.1 + 1.5 * true.total_at(a), rel=1e-3)
    about = Calibration.told(found.about)
    assert about.factor == pytest.approx(1.5, rel=1e-3)
    assert about.within_10_percent == 1.0
    assert about.rank_correlation > 0.999


def test_wrong_parts_are_corrected_where_that_pays():
    rng = np.random.default_rng(1)
    true, told = table(rng, wrong=0.5)
    chosen, others = networks(60, 0), networks(100, 1)
    found = corrected(told, Timed(chosen, measured(true, chosen, rng), 60))
    assert found.about["correction"] == "parts"
    line = corrected(told, Timed(chosen[:10], measured(true, chosen[:10], rng), 10))
    assert line.about["correction"] == "line"

    def error(one):
        truth = np.array([0.1 + 1.5 * true.total_at(a) for a in others])
        return np.median(np.abs([one.total_at(a) for a in others] / truth - 1))

    assert error(found) < error(line) / 3


def test_a_part_that_seemed_fused_away_is_corrected_and_what_does_not_run_stays_free():
    rng = np.random.default_rng(5)
    true, _ = table(rng)
    first, *rest = true.slots
    free = Slot(first.name, first.groups, torch.tensor([0.0, 0.4, 0.1, 0.2]))
    hidden = Slot(first.name, first.groups, torch.tensor([0.0, 1e-6, 1e-6, 1e-6]))
    true = CostTable(CHOICES, [free, *rest], unit="ms")
    told = CostTable(CHOICES, [hidden, *rest], unit="ms")
    chosen = networks(60, 0)
    found = corrected(told, Timed(chosen, measured(true, chosen, rng, noise=1e-3), 60))
    none, most, *others = found.slots[1].values.tolist()
    assert none == 0
    assert most > max(others)
    assert found.about["within_10_percent"] == 1.0


def test_the_interval_holds_for_other_networks():
    shares = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        true, told = table(rng, wrong=0.3)
        chosen, others = networks(44, seed), networks(100, 100 + seed)
        fresh = 24
        found = corrected(told, Timed(chosen, measured(true, chosen, rng, noise=0.03), fresh))
        truth = measured(true, others, rng, noise=0.03)
        apart = np.abs(np.array([found.total_at(a) for a in others]) / truth - 1)
        shares.append(np.mean(apart <= found.about["interval"]))
    assert 0.85 <= np.mean(shares) <= 0.99


def test_the_interval_holds_when_another_session_makes_everything_a_little_slower():
    spread, shares = 0.03, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        true, told = table(rng)
        chosen, others = networks(24, seed), networks(100, 100 + seed)
        session = rng.uniform(-spread, spread)  # of all networks alike
        timed = Timed(chosen, measured(true, chosen, rng, noise=0.01), 24, spread=spread)
        found = corrected(told, timed)
        truth = (1 + session) * measured(true, others, rng, noise=0.01)
        apart = np.abs(np.array([found.total_at(a) for a in others]) / truth - 1)
        shares.append(np.mean(apart <= found.about["interval"]))
    assert 0.85 <= np.mean(shares) <= 0.99


def test_no_part_gets_a_negative_cost_and_both_forms_agree():
    rng = np.random.default_rng(3)
    true, told = table(rng, wrong=1.5)
    chosen = networks(40, 0)
    found = corrected(told, Timed(chosen, measured(true, chosen, rng, noise=0.3), 40))
    assert all(float(slot.values.min()) >= 0 for slot in found.slots)
    for a in networks(5, 2):
        row = torch.cat([torch.tensor([float(o == a[c.name]) for o in c.options]) for c in CHOICES])
        assert found.total(row.double()).item() == pytest.approx(found.total_at(a))


def test_few_networks_make_no_interval(tmp_path):
    rng = np.random.default_rng(4)
    true, told = table(rng)
    chosen = networks(3, 0)
    found = corrected(told, Timed(chosen, measured(true, chosen, rng), 3))
    assert found.about["interval"] is None
    found.write(tmp_path / "t.json")
    assert CostTable.read(tmp_path / "t.json", CHOICES).about == found.about
    assert "3 measured networks" in str(Calibration.told(found.about))
    assert Calibration.told({}) is None
    for damage in ({"interval": -1.0}, {"factor": 10**400}, {"measured_ms": [10**400] * 3}):
        assert Calibration.told({**found.about, **damage}) is None


def layer():
    return pn.OneOf({f"w{w}": nn.Sequential(nn.Linear(4, w), nn.Linear(w, 4)) for w in (2, 3, 4)})


class Three(nn.Module):
    """Three layers; where the first two have the width 3, it does not run."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(layer() for _ in range(3))

    def forward(self, x):
        plain = [inner for inner in self.layers if isinstance(inner, nn.Sequential)]
        if [inner[0].out_features for inner in plain[:2]] == [3, 3]:
            raise RuntimeError("two of width 3")
        for inner in self.layers:
            x = inner(x)
        return x


def test_what_does_not_run_is_timed_as_what_runs_near_it():
    supernet, example = pn.Supernet(Three()), torch.zeros(1, 4)
    with pytest.warns(UserWarning, match="do not run mean nothing"):
        costs = Parameters.of(supernet, example).table
        found = timed(costs, supernet, example, backend=find_backend("torch"))
    assert len(found.ms) == len(found.architectures) == found.fresh == len({*found.architectures})
    assert not any(a["layers.0"] == a["layers.1"] == "w3" for a in found.architectures)


def test_no_more_networks_than_needed_are_loaded_if_that_takes_long(monkeypatch):
    monkeypatch.setattr(calibration, "LOADING_SECONDS", 0.0)
    monkeypatch.setattr(calibration, "ARCHITECTURES", 24)
    supernet, example = pn.Supernet(nn.Sequential(*(layer() for _ in range(5)))), torch.zeros(1, 4)
    costs = Parameters.of(supernet, example).table
    found = timed(costs, supernet, example, backend=find_backend("torch"))
    assert len(found.architectures) == calibration.FEWEST
    about = Calibration.told(corrected(costs, found).about)
    assert about.interval is not None
