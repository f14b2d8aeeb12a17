"""No text of a CSV file is a formula, and reading brings every text back."""

import csv

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paretonas._spreadsheet import escaped, escaped_frame, plain
from paretonas.compare import compare
from paretonas.conflict import Recorder
from paretonas.front import Front
from paretonas.point import Point, number_or_word
from paretonas.runs import Run
from paretonas.table import Table

FORMULAS = ["=1+1", "@SUM(A1)", "+1+1", "-1+1", "\t=1", "\r=1", "-2+cmd|' /C calc'!A0", "\uff1d1"]
BEGINS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
texts = st.text() | st.text("'=+-@\t\r\n1.e\uff1d ", max_size=6) | st.sampled_from(FORMULAS)


@given(texts)
def test_a_written_text_is_no_formula_and_comes_back(text):
    written = escaped(text)
    assert plain(written) == text
    if written.startswith(BEGINS):
        assert written == text and isinstance(number_or_word(text), int | float)


@given(st.floats() | st.integers() | st.booleans() | st.none())
def test_what_is_no_text_stays(value):
    assert escaped(value) is value
    assert escaped(repr(value)) == repr(value)


def cells(path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [cell for line in csv.reader(file) for cell in line]


def harmless(path) -> bool:
    """Whether each cell is a number, or begins as no formula does."""
    for cell in cells(path):
        if cell.startswith(BEGINS):
            float(cell)
    return True


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_front_and_a_history(formula, tmp_path):
    run = Run.create(tmp_path / "run", {}, "cpu", 0)
    front = Front(["error_percent", "latency_ms"])
    values = {"error_percent": -1.5, "latency_ms": 2.0}
    front.add(Point({formula: formula, "'x": "-8"}, values, {f"{formula}2": formula, "n": -3}))
    run.write_front(front)
    path = run.folder / "front.csv"
    back = Front.read(path)
    assert harmless(path) and "-1.5" in cells(path) and "-8" in cells(path)
    (point,) = back
    assert point == front[0]
    if not set("\r\n") & set(formula):
        run.log({"step": 1, formula: formula, "loss": -2.5})
        run.log({"step": 2, formula: "b", "loss": -3.5})
        assert harmless(run.folder / "history.csv")
        assert [row[formula] for row in run.history()] == [formula, "b"]
        assert [row["loss"] for row in run.history()] == [-2.5, -3.5]


@pytest.mark.parametrize("formula", [f for f in FORMULAS if f.strip() == f])  # names are tidied
def test_a_comparison(formula, tmp_path):
    rows = {formula: [formula, "b", "c", "-4"], "ms": [-1.0, 2, 3, 4], "e@x": [4.0, 3, 2, 1]}
    table = Table.from_pandas(pd.DataFrame(rows), [formula], ["ms", "e@x"], name=formula)
    found = compare(table, ["random"], budget=4, seeds=1)
    found.write(tmp_path)
    paths = sorted(tmp_path.glob("*.csv"))
    assert len(paths) == 4 and all(map(harmless, paths))
    back = Table.read(tmp_path / "evaluations.csv", [formula], ["ms", "e@x"], name=formula)
    assert {a[formula] for a in back.architectures} == {formula, "b", "c", "-4"}


def test_a_record_of_conflicts(tmp_path):
    recorder = Recorder(["=1+1", "@b"])
    recorder.record(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    path = recorder.save(tmp_path / "conflict.csv")
    assert harmless(path) and {"'=1+1", "'@b"} <= {*cells(path)}


def test_cells_of_a_frame_that_are_no_texts_stay():
    frame = pd.DataFrame([[1, None, True, "=a", 2.0]] * 2, columns=["a", "a", "b", "c", "d"])
    frame.isetitem(1, np.array([3, None], dtype=object))
    expected = frame.to_csv(index=False).replace("=a", "'=a")
    assert escaped_frame(frame).to_csv(index=False) == expected
    assert frame["c"].tolist() == ["=a", "=a"]  # the caller's own
