"""Latencies on several devices in one search: by the tables of files, and on this machine."""

import json

import pandas as pd
import pytest
import torch

from paretonas.cli import run as command
from paretonas.constraint import Constraint
from paretonas.gradient_search import Plan
from paretonas.gradient_search.search import search
from paretonas.gradient_search.target import Target
from paretonas.objectives import CostTable, Slot, TableLatency
from paretonas.runs import Run
from paretonas.space import every
from paretonas.training import Recipe
from search_spaces import toy

QUICK = Plan(supernet_steps=30, proxy_evaluations=6, finalists=2, recipe=Recipe(1, 20, 0.03))
PHONE = {"device": "a phone", "backend": "onnxruntime", "threads": 4, "input": [8, 2]}


def scaled(table, factor, about=PHONE):
    slots = [Slot(slot.name, slot.groups, slot.values * factor) for slot in table.slots]
    return CostTable(table.choices, slots, unit="ms", about=about)


@pytest.fixture
def tables(tmp_path, monkeypatch, latency_table):
    """Two files in the current folder."""
    monkeypatch.chdir(tmp_path)
    found = {"phone": latency_table, "a-server.v2": scaled(latency_table, 0.25, {})}
    scaled(latency_table, 1.0).write("phone.json")
    found["a-server.v2"].write("a-server.v2.json")
    return found


def test_points_have_the_latency_of_each_table_and_the_run_says_so(space, tables):
    *_, last = search(
        space, objectives="latency@phone, latency@a-server.v2.json", budget=QUICK, run="run"
    )
    assert list(last.front.objectives) == [
        "error_percent",
        "latency_phone_ms",
        "latency_a_server_v2_ms",
    ]
    points = Run.open("run").evaluations()
    for point in points:
        for name, table in tables.items():
            column = f"latency_{name.replace('-', '_').replace('.', '_')}_ms"
            assert point.objectives[column] == table.total_at(point.architecture)
        assert not any("latency" in name for name in point.reported)
    told = json.loads((Run.open("run").folder / "run.json").read_text())["tables"]
    assert told["latency_phone_ms"] == {**PHONE, "predicted": True}
    assert told["latency_a_server_v2_ms"] == {"predicted": True}


def test_a_run_goes_on_with_the_tables_that_it_has_kept(space, tables, tmp_path):
    given = {"objectives": "latency@phone", "budget": QUICK}
    *_, straight = search(space, **given, run="straight")
    stopped = search(space, **given, run="stopped")
    for step in stopped:
        if step.phase == "weights":
            break
    stopped.close()
    (tmp_path / "phone.json").unlink()
    *_, last = search(space, **given, run="stopped")
    assert [(p.architecture, p.objectives) for p in last.front] == [
        (p.architecture, p.objectives) for p in straight.front
    ]
    scaled(tables["phone"], 7.0).write("phone.json")
    *_, again = search(space, **given, run="stopped")
    assert list(again.front) == list(last.front)
    with pytest.raises(ValueError, match=r"there is no table nowhere/phone\.json"):
        search(space, **given | {"objectives": "latency@nowhere/phone"}, run="new")


def test_a_run_of_the_command_line_does_so_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy_table().write("phone.json")
    options = ["--space", "toy", "--minimize", "latency@phone", "--device", "cpu", "--out", "run"]
    assert command(["search", *options, "--budget", "150steps"]) == 0
    assert (tmp_path / "run" / "tables" / "phone.json").exists()
    (tmp_path / "phone.json").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command(["search", "--resume", "../run"]) == 0


def test_a_kept_table_may_be_a_link_which_is_read_and_not_written_through(space, tables, tmp_path):
    given = {"objectives": "latency@phone", "budget": QUICK, "run": "run"}
    stopped = search(space, **given)
    for step in stopped:
        if step.phase == "weights":
            break
    stopped.close()
    kept, other = tmp_path / "run/tables/phone.json", tmp_path / "other.json"
    kept.rename(other)
    kept.symlink_to(other)
    before = other.read_bytes(), other.stat().st_mtime_ns
    *_, last = search(space, **given)
    assert list(last.front.objectives) == ["error_percent", "latency_phone_ms"]
    assert (other.read_bytes(), other.stat().st_mtime_ns) == before


def toy_table(unit="ms", **about):
    choice = toy.space.choices[0]
    groups = {choice.name: tuple((option,) for option in choice.options)}
    values = torch.arange(1.0, 1 + len(choice.options), dtype=torch.float64)
    return CostTable(toy.space.choices, [Slot("all", groups, values)], unit=unit, about=about)


def test_limits_and_targets_are_on_a_device(space, tables):
    columns = ["error_percent", "latency_phone_ms", "latency_server_ms"]
    for text in ("latency@phone<=300us", "latency_phone<=0.3", "latency@dir/phone.json <= 0.3ms"):
        assert Constraint.parse(text, columns).limits == {"latency_phone_ms": 0.3}
    assert Target.parse("latency@phone=2ms", columns, columns[:1]).column == "latency_phone_ms"
    with pytest.raises(ValueError, match="may be any of latency_phone_ms, latency_server_ms"):
        Constraint.parse("latency<=2ms", columns)
    with pytest.raises(ValueError, match="no objective is called 'latency_tv'"):
        Constraint.parse("latency@tv<=2ms", columns)
    phone = tables["phone"]
    limit = sorted(map(phone.total_at, every(space.choices)))[8]
    *_, last = search(
        space, objectives="latency@phone", constraint=f"latency@phone<={limit}", budget=QUICK
    )
    assert len(last.front)
    assert all(point.objectives["latency_phone_ms"] <= limit for point in last.front)


def test_a_table_as_such_is_an_objective(space, latency_table):
    objective = TableLatency(latency_table, name="latency_board")
    *_, last = search(space, objectives=[objective], budget=QUICK)
    assert list(last.front.objectives) == ["error_percent", "latency_board_ms"]


def test_a_device_of_this_machine_is_measured(space, tmp_path):
    given = {"objectives": "latency@cpu", "budget": QUICK, "backend": "torch"}
    assert list(search(space, **given, run=tmp_path / "run"))
    run = Run.open(tmp_path / "run")
    assert run.about["tables"]["latency_cpu_ms"]["predicted"] is False
    assert run.about["backend"] == "torch"
    for point in run.evaluations():
        assert point.objectives["latency_cpu_ms"] > 0
        assert point.reported["latency_cpu_backend"] == "torch"
        assert {"latency_cpu_spread_ms", "latency_cpu_table_ms"} <= point.reported.keys()


def test_a_comparison_takes_them_too(tmp_path, monkeypatch, one_process):
    monkeypatch.chdir(tmp_path)
    toy_table().write("phone.json")
    options = ["--minimize", "error,latency@phone", "--methods", "random", "--seeds", "1"]
    assert command(["compare", "--space", "toy", *options, "--budget", "2", "--out", "out"]) == 0
    rows = pd.read_csv("out/evaluations.csv", dtype=str).to_dict("records")
    assert len(rows) == 2
    for row in rows:
        architecture = {choice.name: row[choice.name] for choice in toy.space.choices}
        assert float(row["latency_phone_ms"]) == toy_table().total_at(architecture)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("latency@nofile", "there is no table nofile.json in "),
        ("latency@", "there is no table"),
        (f"latency@{'a' * 300}", "there is no table aaa"),
        ("latency@other", "other.json is of another space"),
        ("latency@bytes", "must be in 'ms'"),
        ("latency@large", "is for inputs of [1, 1, 16, 16]"),
        ("latency@negative", "negative.json: a latency is never negative, got -2.0 in slot 'all'"),
        ("latency --costs negative.json", "negative.json: a latency is never negative"),
        ("latency@broken", "broken.json is no cost table"),
        ("latency@phone,latency@folder/phone", "two objectives are called 'latency_phone_ms'"),
        ("latency@cpu,latency@cpu.json", "two objectives are called 'latency_cpu_ms'"),
        ("latency@spread", "must have the name of a device"),
        ("memory@phone", "no objective is called 'memory@phone'"),
        ("latency@phone --costs imported.json", "--costs is a table of latencies; add latency"),
        ("latency --costs imported.json", "that of a board, where finalists cannot be timed"),
        ("latency --costs large.json", "is for inputs of [1, 1, 16, 16]"),
        ("latency@phone --constraint latency@phone<=1us", "no architecture has latency_phone_ms"),
        ("latency@phone --target latency@tv=1ms", "no objective is called 'latency_tv'"),
        pytest.param(
            "latency@cuda",
            "torch finds no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_bad_tables_are_one_line_before_anything_is_made(
    words, message, tmp_path, monkeypatch, capsys, latency_table
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("phone", "folder/phone", "cpu", "spread"):
        toy_table(input=[4, 1, 8, 8]).write(f"{name}.json")
    latency_table.write("other.json")
    toy_table(unit="kib").write("bytes.json")
    toy_table(input=[1, 1, 16, 16]).write("large.json")
    toy_table(imported=True, device="a board").write("imported.json")
    scaled(toy_table(), -1.0).write("negative.json")
    (tmp_path / "broken.json").write_text('{"format": 1}')
    minimized, *more = words.split()
    arguments = ["search", "--space", "toy", "--minimize", minimized, *more, "--device", "cpu"]
    assert command([*arguments, "--budget", "150steps"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and message in told, told
    assert not list(tmp_path.glob("paretonas-*")), "a refused search leaves no folder"
