"""A table by few networks, given that of another device: what is measured, told and refused."""

from importlib import import_module

import pytest
import torch
from torch import nn

from paretonas.cli import run as command
from paretonas.nn import OneOf, Supernet
from paretonas.objectives import CostTable, Slot, profile_like
from paretonas.objectives.tabulate import cost_table
from paretonas.space import every
from search_spaces import toy


@pytest.fixture(scope="module")
def supernet():
    return toy.space.supernet()


@pytest.fixture(scope="module")
def example():
    return toy.space.load_task().example()


@pytest.fixture
def known(supernet, example):
    """A device on which only the number of channels matters."""
    table = cost_table(supernet.choices, lambda a: {"all": float(a["width"])}, unit="ms")
    about = {"device": "server", "backend": "torch", "threads": 1, "input": list(example.shape)}
    return CostTable(table.choices, table.slots, unit="ms", about=about)


def test_few_networks_make_a_table_that_tells_both_devices(supernet, example, known):
    told = []
    found = profile_like(supernet, example, known, networks=5, progress=lambda *s: told.append(s))
    assert told[-1] == (100, 100)
    assert found.about["like"] == {"device": "server", "backend": "torch", "threads": 1}
    assert found.about["torch"] == torch.__version__ and found.about["backend"] == "torch"
    assert found.about["architectures"] == 5 == len(set(found.about["measured_ms"]))
    totals = [found.total_at(a) for a in every(supernet.choices)]
    measured = found.about["measured_ms"]
    assert min(totals) > 0 and max(totals) < 3 * max(measured)


def test_a_table_of_another_input_is_refused(supernet, example, known):
    with pytest.raises(ValueError, match=r"of an input of shape \[1, 1, 8, 8\], and the space has"):
        profile_like(supernet, torch.zeros(1, 1, 16, 16), known)


def test_a_table_of_another_space_is_refused(supernet, example, known):
    fewer = CostTable(known.choices[:1], known.slots, unit="ms")
    with pytest.raises(ValueError, match="known table is of another space"):
        profile_like(supernet, example, fewer)


def test_a_space_of_two_networks_is_refused_before_anything_is_measured(example, monkeypatch):
    module = import_module("paretonas.objectives.profile_like")
    monkeypatch.setattr(module, "measure_together", None)
    small = Supernet(nn.Sequential(OneOf({"1": nn.Conv2d(1, 1, 1), "3": nn.Conv2d(1, 1, 3)})))
    table = cost_table(small.choices, lambda a: {"all": 1.0}, unit="ms")
    with pytest.raises(ValueError, match="at least 3 different networks must be measured, got 2"):
        profile_like(small, example, table)


def test_the_command_reads_the_table_of_the_other_device(known, tmp_path, capsys):
    known.write(tmp_path / "server.json")
    out = tmp_path / "here.json"
    options = ["--like", str(tmp_path / "server.json"), "--networks", "4", "--out", str(out)]
    assert command(["profile", "--space", "toy", *options]) == 0
    assert "over 4 measured networks, each predicted without itself" in capsys.readouterr().out
    found = CostTable.read(out, toy.space.choices)
    assert found.about["like"]["device"] == "server" and found.about["architectures"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--networks", "5"], "--networks is for --like FILE"),
        (["--like", "FILE", "--runner", "board"], "--like"),
        (["--like", "none.json"], "cannot read the cost table none.json"),
        (["--like", "other.json"], "is of another space"),
    ],
)
def test_bad_options_are_refused_in_one_line(
    options, message, known, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    slot = Slot("all", {"width": (("4",), ("8",))}, torch.zeros(2))
    CostTable((type(known.choices[0])("width", ("4", "8")),), [slot], unit="ms").write("other.json")
    known.write("FILE")
    assert command(["profile", "--space", "toy", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "costs.json").exists() and not (tmp_path / "board").exists()
