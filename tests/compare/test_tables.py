"""A comparison keeps the latency tables of other devices, as the folder of a search does."""

import pandas as pd
import pytest
import torch

from paretonas.cli import run
from paretonas.compare import compare
from paretonas.objectives import CostTable, Slot, TableLatency
from paretonas.problem import Problem
from paretonas.runs import keep_tables
from search_spaces import toy

COMMAND = "compare --space toy --methods random --budget 2 --seeds 1 --out out"
WORDS = [*COMMAND.split(), "--minimize", "error,latency@tables/phone"]


def table(factor=1.0) -> CostTable:
    choice = toy.space.choices[0]
    groups = {choice.name: tuple((option,) for option in choice.options)}
    values = factor * torch.arange(1.0, 1 + len(choice.options), dtype=torch.float64)
    return CostTable(toy.space.choices, [Slot("all", groups, values)], unit="ms")


@pytest.fixture
def here(one_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table().write("tables/phone.json")
    return tmp_path


def test_it_goes_on_and_is_drawn_when_the_file_is_gone_or_has_changed(here, capsys):
    assert run(WORDS) == 0
    rows = pd.read_csv("out/evaluations.csv")
    page = (here / "out" / "report.html").read_text()
    table(7.0).write("tables/phone.json")
    capsys.readouterr()
    assert run(WORDS) == 2  # whoever types the name means the file
    (line,) = capsys.readouterr().err.splitlines()
    assert "was begun with another table of phone, which is kept in out/tables/phone.json" in line
    for gone in (False, True):
        if gone:
            (here / "tables" / "phone.json").unlink()
            assert run([*WORDS, "--budget", "3"]) == 0
        budget = "4" if gone else "3"
        assert run(["compare", "--resume", "out", "--budget", budget]) == 0
        now = pd.read_csv("out/evaluations.csv")
        assert len(now) == int(budget)
        pd.testing.assert_frame_equal(now[:2], rows)
        names, phone = [choice.name for choice in toy.space.choices], table()
        costs = [phone.total_at(row) for row in now[names].astype(str).to_dict("records")]
        assert now["latency_phone_ms"].tolist() == costs
    assert run(["report", "out", "--out", "page.html"]) == 0
    assert "latency phone (ms) minimized" in (here / "page.html").read_text()
    assert "latency phone (ms) minimized" in page


def test_from_python_as_well(here):
    phone = TableLatency(table(), name="latency_board")
    problem = Problem(toy.space, [Width(), phone])
    compare(problem, "random", budget=2, seeds=1, folder="mine")
    kept = TableLatency.read("mine/tables/board.json", toy.space)
    assert kept.table.same(phone.table)
    other = Problem(toy.space, [Width(), TableLatency(table(2.0), name="latency_board")])
    with pytest.raises(ValueError, match="another table of board"):
        compare(other, "random", budget=3, seeds=1, folder="mine")
    compare(problem, "random", budget=2, seeds=1, folder="mine")  # nothing has changed


class Width:
    column = "narrowness"

    def exact(self, architecture):
        return 1.0 / (1 + len(str(architecture)))


def test_a_link_that_leads_out_is_not_written_through(here):
    (here / "elsewhere").mkdir()
    (here / "mine").mkdir()
    (here / "mine" / "tables").symlink_to(here / "elsewhere")
    with pytest.raises(ValueError, match="is behind a link that leads out"):
        keep_tables(here / "mine", [TableLatency(table(), name="latency_board")])
    assert not list((here / "elsewhere").iterdir())
