"""Profiles: structure, agreement of the two forms, the cache, and what timings must show."""

import importlib

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from paretonas.nn import OneOf, Supernet
from paretonas.objectives import CostTable, DifferentiableObjective, Latency, calibration, profile
from paretonas.objectives.calibration import Calibration, fit, rank_correlation
from paretonas.objectives.parts import observer
from paretonas.objectives.tabulate import FEW
from paretonas.space import every, size


class Fast(nn.Module):
    """A large convolution or nothing, and a matrix product in the network's own code."""

    def __init__(self) -> None:
        super().__init__()
        self.op = OneOf({"skip": nn.Identity(), "conv": nn.Conv2d(16, 16, 5, padding=2)})
        self.other = OneOf({"skip": nn.Identity(), "conv": nn.Conv2d(16, 16, 5, padding=2)})
        self.borrowed = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.other(self.op(x)).mean(dim=(2, 3))
        return functional.linear(y, self.borrowed.weight)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def fast() -> tuple[Supernet, torch.Tensor]:
    """For what does not depend on how a space is made."""
    return Supernet(Fast()), torch.zeros(1, 16, 24, 24)


def test_every_part_has_a_cost_and_both_forms_agree(supernet, example):
    latency = Latency.profile(supernet, example)
    assert isinstance(latency, DifferentiableObjective)
    assert latency.column == "latency_ms"
    sizes = [len(choice.options) for choice in supernet.choices]
    for architecture in every(supernet.choices):
        row = torch.cat(
            [
                functional.one_hot(torch.tensor(choice.options.index(architecture[choice.name])), n)
                for choice, n in zip(supernet.choices, sizes, strict=True)
            ]
        ).double()
        exact = latency.exact(architecture)
        assert exact > 0
        assert latency.relaxed(row).item() == pytest.approx(exact, rel=1e-9)
        # What is not reached does not cost.
        assert latency.exact(supernet.canonical(architecture)) == pytest.approx(exact, rel=1e-12)


@pytest.fixture
def by_parts(monkeypatch):
    """As in a space that is too large to measure all of it."""
    monkeypatch.setattr("paretonas.objectives.calibration.FEW", 0)


def test_operations_cost_and_equal_parts_cost_the_same(fast, by_parts):
    supernet, x = fast
    latency = Latency.profile(supernet, x)
    cost = {(a["op"], a["other"]): latency.exact(a) for a in every(latency.table.choices)}
    assert cost["conv", "skip"] == pytest.approx(cost["skip", "conv"])
    assert cost["conv", "conv"] > cost["conv", "skip"] > cost["skip", "skip"] > 0
    names = {slot.name for slot in latency.table.slots}
    assert names == {"constant", "op", "other", "/mean.0", "/mm.0"}
    assert all(slot.values.min() >= 0 for slot in latency.table.slots)


def test_the_table_says_where_it_comes_from(fast, by_parts):
    about = profile(*fast, threads=1).about
    assert about["torch"] == torch.__version__
    assert about["threads"] == 1
    assert about["input"] == [1, 16, 24, 24]
    assert about["device"]
    assert -1 <= about["rank_correlation"] <= 1
    assert about["factor"] > 0
    assert about["shift_ms"] >= 0


def test_where_all_architectures_are_measured_the_table_is_what_was_measured(
    supernet, example, monkeypatch
):
    """Those that run alike are one network, which is timed once."""
    monkeypatch.setattr(calibration, "ARCHITECTURES", 500)
    timed: list[calibration.Timed] = []

    def keep(table, networks):
        timed.append(networks)
        return corrected(table, networks)

    corrected = calibration.corrected
    module = importlib.import_module("paretonas.objectives.profile")
    monkeypatch.setattr(module, "corrected", keep)
    table = profile(supernet, example, cache=False)
    (networks,) = timed
    if networks.runs_as is None:  # there are too many to look at
        assert size(supernet.choices) > FEW
        assert "each predicted without itself" in str(Calibration.told(table.about))
        return
    observe = observer(supernet, example)
    measured = dict(zip(networks.architectures, networks.ms, strict=True))
    for architecture in every(supernet.choices):
        assert table.total_at(architecture) == measured[observe(architecture).architecture]
    told = Calibration.told(table.about)
    assert str(told) == f"all {len(measured)} architectures were measured"
    assert len(measured) == len({observe(a).architecture for a in every(supernet.choices)})


def test_a_profile_is_measured_once(fast, tmp_path):
    supernet, example = fast
    told: list[tuple[int, int]] = []
    first = profile(supernet, example, progress=lambda *step: told.append(step))
    assert told[-1][0] == told[-1][1]
    assert len(list((tmp_path / "cache" / "paretonas").glob("latency-*.json"))) == 1
    told.clear()
    again = profile(supernet, example, progress=lambda *step: told.append(step))
    assert not any(total for _, total in told)  # architectures are seen, and nothing is measured
    for architecture in every(supernet.choices):
        assert again.at(architecture) == first.at(architecture)
    profile(supernet, torch.zeros(1, 16, 7, 7), progress=lambda *step: told.append(step))
    assert any(total for _, total in told)  # another shape


def test_a_written_profile_can_be_read(supernet, example, tmp_path):
    table = profile(supernet, example, cache=False)
    assert not list(tmp_path.glob("cache/*/latency-*"))
    table.write(tmp_path / "costs.json")
    again = CostTable.read(tmp_path / "costs.json", supernet.choices)
    assert again.about == table.about
    assert all(again.at(a) == table.at(a) for a in every(supernet.choices))


def test_measuring_leaves_the_process_as_it_was(fast):
    torch.manual_seed(0)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    profile(*fast, threads=threads + 1, cache=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.is_inference_mode_enabled()


def test_by_default_the_file_is_timed_that_is_exported(fast, monkeypatch):
    monkeypatch.setattr("paretonas.devices.backend.PREFERRED", "onnxruntime")
    assert profile(*fast, cache=False).about["backend"] == "onnxruntime"
    latency = Latency.profile(*fast)
    assert latency.backend == latency.table.about["backend"] == "onnxruntime"
    assert Latency.profile(*fast, backend="torch").table.about["backend"] == "torch"


def test_no_cuda_is_a_clear_refusal(supernet, example):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        profile(supernet, example, device="cuda")


def test_the_calibration_finds_a_line_through_disturbed_points():
    x = np.linspace(1, 4, 12)
    y = 0.3 + 1.7 * x
    y[3] += 20
    y[7] += 5
    factor, shift = fit(x, y)
    assert factor == pytest.approx(1.7)
    assert shift == pytest.approx(0.3)


@pytest.mark.parametrize("measured", [[3.0, 2.0, 1.0], [1.0, 3.0, 5.0], [2.0, 2.0, 2.0]])
def test_the_calibration_never_makes_a_negative_latency(measured):
    factor, shift = fit(np.array([1.0, 2.0, 3.0]), np.array(measured))
    assert factor > 0
    assert shift >= 0


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = rng.integers(0, 5, 9), rng.normal(size=9)
        expected = spearmanr(one, other).statistic
        assert rank_correlation(one, other) == pytest.approx(expected)
    assert np.isnan(rank_correlation([1, 1], [1, 2]))
    assert np.isnan(rank_correlation([], []))
