"""The page shows what the comparison holds."""

import json
import re

import numpy as np
import pytest

from paretonas.compare import compare
from paretonas.problem import Problem
from paretonas.report.comparison import write_comparison
from paretonas.table import Table

CHOICES = ["op_0_1", "op_0_2", "op_1_2"]


def traces(page: str, name: str) -> list[dict]:
    """The data that a figure hands to plotly."""
    start = re.search(rf'Plotly\.newPlot\(\s*"{name}",\s*\[', page).end() - 1
    return json.JSONDecoder().raw_decode(page[start:])[0]


@pytest.fixture(scope="module")
def found(frame):
    """A gain and a cost, both counted by their ratios."""
    table = Table.from_pandas(frame, CHOICES, ["latency_ms"], ["accuracy"], where="ok")
    log = ["latency_ms", "accuracy"]
    return compare(Problem(table, log=log), ["random", "nsga2"], budget=30, seeds=4)


@pytest.fixture(scope="module")
def page(found, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_comparison(found, path, {"where": "<ok>"}).read_text(encoding="utf-8")


def test_the_true_front_is_drawn_in_its_own_units(found, page, frame):
    best, *methods = traces(page, "fronts")
    assert best["name"] == "true front"
    ok = frame[frame["ok"]]
    costs = ok[["latency_ms"]].assign(gain=-ok["accuracy"]).to_numpy()
    expected = {
        (round(row[0], 6), round(-row[1], 6))
        for row in costs
        if not any((other <= row).all() and (other < row).any() for other in costs)
    }
    drawn = {(round(x, 6), round(y, 6)) for x, y in zip(best["x"], best["y"], strict=True)}
    assert drawn == expected  # the gain upright, in its own sign
    for method, trace in zip(found.methods, methods, strict=True):
        front = found.front(method)
        assert trace["name"] == method
        assert trace["x"] == [point.objectives["latency_ms"] for point in front]
        assert trace["y"] == [point.objectives["accuracy"] for point in front]


def words_of(page: str) -> str:
    """The page without plotly's own code."""
    return page.rpartition("<body>")[2].replace("sequentialminus", "")


def test_a_gain_has_its_own_name_everywhere(page):
    assert "minus" not in words_of(page)
    assert "latency (ms) minimized, accuracy maximized" in page
    assert "accuracy, higher is better" in page and "latency (ms), lower is better" in page


@pytest.mark.parametrize(
    ("minimize", "maximize", "quality"),
    [
        (["latency_ms", "params"], ["accuracy"], "accuracy"),
        (["latency_ms", "params", "error"], [], "error"),
        (["latency_ms", "params", "energy_mj"], [], "latency (ms)"),
        (["latency_ms", "params", "rmse"], [], "rmse"),
        (["latency_ms"], ["params", "accuracy"], "accuracy"),
    ],
)
def test_the_quality_is_drawn_against_every_other(frame, tmp_path, minimize, maximize, quality):
    more = frame.assign(
        params=frame.index + 1.0, energy_mj=frame["accuracy"], rmse=frame["accuracy"]
    )
    table = Table.from_pandas(more, CHOICES, minimize, maximize)
    log = [name for name in ("energy_mj", "accuracy") if name in table.columns]
    found = compare(Problem(table, log=log), ["random"], budget=20, seeds=2)
    page = write_comparison(found, tmp_path / "report.html").read_text(encoding="utf-8")
    names = {"latency_ms": "latency (ms)", "energy_mj": "energy (mJ)"}
    named = [names.get(name, name) for name in [*minimize, *maximize]]
    layout = page[page.index("Plotly.newPlot(", page.index('id="fronts"')) :]
    for name in {*named} - {quality}:
        better = "higher" if name in maximize else "lower"
        assert f'"text":"{name}, {better} is better"' in layout.replace('": "', '":"')
    drawn = traces(page, "fronts")
    assert len(drawn) == 2 * (len(named) - 1)
    (column,) = (c for c in table.columns if names.get(c, c) == quality)
    heights = [point.objectives[column] for point in found.front("random")]
    best = more[column].to_numpy()
    for best_front, front in zip(drawn[::2], drawn[1::2], strict=True):
        assert front["y"] == heights
        assert all(np.isclose(best, y).any() for y in best_front["y"])
        assert f"{quality}: " in front["hovertext"][0]


def test_one_statistic_throughout(found, page):
    said = {(r.method, r.measure, r.evaluations, r.statistic): r.value for r in found.summary}
    for method in found.methods:
        now = [curve.fraction[-1] for (name, _), curve in found.curves.items() if name == method]
        low, middle, high = np.percentile(now, [25, 50, 75])
        key = (method, "hypervolume_fraction", found.budget)
        assert [said[*key, name] for name in ("q1", "median", "q3")] == [low, middle, high]
        row = page[page.index(f"<tr><td><b>{method}</b>") :].partition("</tr>")[0]
        assert f">{middle:.4f}<" in row and f">{low:.4f} to {high:.4f}<" in row
    assert "interquartile" not in words_of(page)


def test_curves_are_medians_with_quartiles(found, page):
    rows = found.anytime()
    drawn = traces(page, "regret")
    assert len(drawn) == 3 * len(found.methods)
    for number, method in enumerate(found.methods):
        regret = 1 - rows[rows["method"] == method].pivot(
            index="seed", columns="evaluations", values="hypervolume_fraction"
        )
        low, high, middle = drawn[3 * number : 3 * number + 3]
        for trace, percent in [(low, 25), (middle, 50), (high, 75)]:
            expected = np.percentile(regret, percent, axis=0)
            visible = expected > 1e-9
            assert np.array(trace["y"])[visible] == pytest.approx(expected[visible])
        assert middle["name"] == method
        assert all(y > 0 for y in low["y"])  # the axis is logarithmic


def test_bars_are_the_medians_of_the_summary(found, page):
    said = {(r.method, r.measure, r.statistic): r.value for r in found.summary}
    for trace in traces(page, "targets"):
        expected = [
            said[trace["name"], f"evaluations_to_{percent}_percent", "median"]
            for percent in (90, 95, 97, 99)
        ]
        assert trace["y"] == expected


def test_no_text_is_trusted(page):
    assert "<ok>" not in page
    assert "&lt;ok&gt;" in page


def test_a_comparison_without_a_run_has_no_page(table, tmp_path):
    def never(problem, seed):
        raise OSError("no luck")

    nothing = compare(table, {"never": never}, budget=8, seeds=1)
    with pytest.raises(ValueError, match="no run has ended"):
        write_comparison(nothing, tmp_path / "report.html")


def test_one_method_and_one_seed_have_a_page(table, tmp_path):
    alone = compare(table, ["random"], budget=8, seeds=1)
    page = write_comparison(alone, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "over one seed" in page
    assert "Wilcoxon" not in page
