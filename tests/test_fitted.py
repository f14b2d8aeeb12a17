"""Tables in a terminal of any width: no number is cut, none is broken, nothing is lost."""

import io
import re
import sys

import numpy as np
import pytest
from rich.console import Console

from paretonas.cli.compare import _show, _Watch
from paretonas.cli.display import _picture, front_table
from paretonas.cli.fitted import FittedTable
from paretonas.compare import compare
from paretonas.front import Front
from paretonas.gradient_search.step import Step
from paretonas.point import Point
from paretonas.samplers.random import Random
from paretonas.table import Table

WIDTHS = [40, 41, 47, 53, 60, 72, 80, 81, 100, 120, 163, 240]


def numbers(text: str) -> set[str]:
    return {*re.findall(r"\d+(?:[.,]\d+)*(?:e-?\d+)?", text)}


def printed(what, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False, emoji=False, highlight=False).print(what)
    return out.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def comparison():
    """Three objectives, methods with long names, one of which never ends a run."""
    import pandas as pd

    rows = [
        {"a": a, "b": b, "error": 90.1 - a - b, "ms": 0.5 + a * b, "kib": 1000 + a - b}
        for a in range(9)
        for b in range(9)
    ]
    table = Table.from_pandas(pd.DataFrame(rows), ["a", "b"], ["error", "ms", "kib"])

    def broken(problem, seed):
        raise OSError("no luck")

    methods = {
        "optuna-nsga2-with-populations-of-128": lambda problem, seed: Random(problem, seed=seed),
        "short": lambda problem, seed: Random(problem, seed=seed + 99),
        "never-ends": broken,
    }
    return compare(table, methods, budget=60, seeds=4)


def big_front() -> Front:
    front = Front(["error_percent", "latency_ms", "memory_kib"])
    for n in range(3):
        picks = {f"block{k}.op": f"conv{k}x{k}_depthwise" for k in range(6)} | {"width": "128 [x]"}
        picks |= {"depth": str(n), "a_choice_with_quite_a_long_name_of_its_own": "option_12345678"}
        reported = {
            "test_error_percent": 12.345 + n,
            "parameters": 1234567890 + n,
            "latency_spread_ms": 0.123,
        }
        objectives = {"error_percent": 9.87 - n, "latency_ms": 1234.567 + n, "memory_kib": 98765.4}
        front.add(Point(picks, objectives, reported))
    return front


@pytest.mark.parametrize("width", WIDTHS)
def test_no_cell_of_a_front_is_cut(width):
    table = front_table(big_front(), {})
    shown = printed(table, width)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width and "\u2026" not in shown
    for row in [table.titles, *table.rows]:
        for cell in row[:-1]:
            assert any(cell in line for line in lines), cell
        for pick in row[-1].split():
            if len(pick) <= 24:
                assert any(pick in line for line in lines), pick
    assert numbers(shown) == numbers(printed(table, 1000))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_very_long_title_is_broken_and_not_cut(width):
    words = "a metric whose name says everything about it that anybody may ever want to know"
    titles = ["point", words, "withoutanybreak" * 6, "latency"]
    rows = [["a01", "1.25", "3.5 %", "1.2 ms"], ["a02", "1.2", "4.5 %", "1.3 ms"]]
    shown = printed(FittedTable(titles, rows), width)
    assert max(map(len, shown.splitlines())) <= width and "\u2026" not in shown
    letters = re.sub(r"point|\s", "", shown)  # the name stands beside each part of a title
    for title in titles[1:]:
        assert title.replace(" ", "") in letters
    assert numbers(shown) == numbers(printed(FittedTable(titles, rows), 1000))
    for name in ("a01", "a02"):
        assert name in shown


@pytest.mark.parametrize("width", WIDTHS)
def test_no_number_of_a_comparison_is_cut(comparison, tmp_path, monkeypatch, width):
    def said(width: int) -> str:
        out = Terminal()
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(width))
            patch.setattr(sys, "stdout", out)
            _show(comparison, tmp_path)
        return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())

    shown = said(width)
    *lines, _ = shown.splitlines()  # the last has a path, which the terminal may break
    assert max(map(len, lines)) <= width and "\u2026" not in shown
    assert numbers(shown) == numbers(said(2000))
    value = {(r.method, r.measure, r.evaluations, r.statistic): r.value for r in comparison.summary}
    middle = value["short", "hypervolume_fraction", 60, "median"]
    first = next(line for line in lines if line.startswith("short"))
    assert f" {middle:.4f}" in first  # the most important number is in the first table


def test_any_table_keeps_its_numbers_at_any_width():
    rng = np.random.default_rng(0)
    for _ in range(100):
        columns, width = int(rng.integers(2, 12)), int(rng.integers(40, 130))
        names = ["m" * int(rng.integers(1, 60)) + "-7" for _ in range(3)]
        cells = [[f"{x:.{int(rng.integers(0, 9))}f}" for x in rng.normal(0, 1e4, columns)]] * 3
        rows = [[name, *row] for name, row in zip(names, cells, strict=True)]
        shown = printed(FittedTable(["name", *["title"] * columns], rows), width)
        assert max(map(len, shown.splitlines())) <= width
        for cell in cells[0]:
            assert re.search(rf"(?<![\d.]){re.escape(cell)}(?![\d.])", shown), (cell, shown)


@pytest.mark.parametrize("width", WIDTHS)
def test_progress_keeps_its_numbers(monkeypatch, width):
    step = Step("finalists", 1234567, 2345678, big_front(), 83.0, hypervolume=0.1234)
    shown = printed(_picture(step), width)
    assert "finalists 1234567/2345678" in shown and "0.1234" in shown
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", str(width))
    watch = _Watch(4000)
    name = "a-method-with-a-long-name-of-128, seed 399"
    watch._bar.update(watch._task, completed=3999, description=name)
    shown = printed(watch._bar.get_renderable(), width)
    assert {"3999", "4000", "399"} <= numbers(shown) and "\u2026" not in shown


def test_a_front_shows_the_picks_of_parts_that_run():
    about = {"conditions": {f"block{k}.op": [{"depth": ["2"]}, {"width": []}] for k in range(6)}}
    rows = front_table(big_front(), about).rows
    assert len(rows) == 3
    for row, whole in zip(rows, front_table(big_front(), {}).rows, strict=True):
        deep = "depth=2" in row[-1]
        assert (row == whole) == deep and ("block" in row[-1]) == deep
        assert row[:-1] == whole[:-1] and "depth=" in row[-1]
