"""To maximize a value is to minimize its negative, in all that reads points, and nobody sees it."""

import io
import json
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from paretonas.cli.display import front_table, quantity
from paretonas.constraint import Constraint
from paretonas.front import Front, Point, merge, quality, roles
from paretonas.metric import Metric
from paretonas.noise import Measurements

NAMES = ("miou", "latency_ms", "coverage")
UP = ("miou", "coverage")
REFERENCE = (0.5, 7.0, -0.5)

coarse = st.integers(0, 7).map(float)
vectors = st.lists(st.tuples(coarse, coarse, coarse), min_size=1, max_size=12)


def points_of(rows, signs=(1, 1, 1)) -> list[Point]:
    """A point for each row, whose architecture is told by a number."""
    return [
        Point(
            {"op": f"conv{number}"},
            {name: sign * value for name, sign, value in zip(NAMES, signs, row, strict=True)},
        )
        for number, row in enumerate(rows)
    ]


def twins(rows) -> tuple[Front, Front]:
    """A front of which two objectives are maximized, and one of their negatives."""
    up, down = Front(NAMES, maximize=UP), Front(NAMES)
    for one, other in zip(points_of(rows), points_of(rows, (-1, 1, -1)), strict=True):
        assert up.add(one) == down.add(other)
    return up, down


@given(vectors)
def test_a_front_equals_the_front_of_the_negatives(rows):
    up, down = twins(rows)
    assert [p.architecture for p in up] == [p.architecture for p in down]  # also their order
    assert [p.id for p in up] == [p.id for p in down]
    assert up.knee().architecture == down.knee().architecture
    negated = [-REFERENCE[0], REFERENCE[1], -REFERENCE[2]]
    assert up.hypervolume(REFERENCE) == down.hypervolume(negated)
    assert up.hypervolume(dict(zip(NAMES, REFERENCE, strict=True))) == up.hypervolume(REFERENCE)
    for wish in ("miou>=3", "coverage>=2,latency<=4ms"):
        turned = wish.replace("miou>=", "miou<=-").replace("coverage>=", "coverage<=-")
        assert found(up, wish) == found(down, turned)
    assert up.pick("most-accurate").objectives["miou"] == max(row[0] for row in rows)
    assert found(up, "fastest") == found(down, "fastest")


def found(front: Front, wish: str) -> object:
    try:
        return front.pick(wish).architecture
    except ValueError:
        return None


@given(vectors, vectors)
def test_merging_and_replacing_follow_the_direction(rows, others):
    first, second = twins(rows), twins(others)
    merged = [merge(*pair) for pair in zip(first, second, strict=True)]
    assert merged[0].maximize == UP
    assert [p.architecture for p in merged[0]] == [p.architecture for p in merged[1]]
    new = points_of([(3.0, 3.0, 3.0)])[0], points_of([(3.0, 3.0, 3.0)], (-1, 1, -1))[0]
    assert first[0].replace(new[0]) == first[1].replace(new[1])
    assert [p.architecture for p in first[0]] == [p.architecture for p in first[1]]


def test_fronts_of_two_directions_are_not_merged():
    with pytest.raises(ValueError, match="fronts of one direction, got Front.miou maximized.*miou"):
        merge(*twins([(1.0, 1.0, 1.0)]))


@settings(max_examples=30)
@given(vectors)
@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_every_format_brings_the_values_and_the_direction_back(tmp_path_factory, suffix, rows):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("front") / f"front{suffix}"
    front, _ = twins(rows)
    front.write(path)
    told = {"objectives": NAMES, "maximize": UP} if suffix == ".csv" else {}
    back = Front.read(path, **told)
    assert (back.objectives, back.maximize) == (front.objectives, front.maximize)
    assert [*back] == [*front]
    assert (front.to_pandas()[[*NAMES]] >= 0).all(axis=None)


def test_a_file_names_the_direction_only_where_there_is_one(tmp_path):
    up, down = twins([(1.0, 1.0, 1.0)])
    for front, name in ((up, "up"), (down, "down")):
        front.write(tmp_path / f"{name}.json")
    assert json.loads((tmp_path / "up.json").read_text())["maximize"] == [*UP]
    assert list(json.loads((tmp_path / "down.json").read_text())) == [
        "format",
        "objectives",
        "choices",
        "points",
    ]
    some = Front.read(tmp_path / "up.json", objectives=["latency_ms", "miou"])
    assert some.maximize == ("miou",)
    damaged = (tmp_path / "up.json").read_text().replace('"maximize": [', '"maximize": 3, "x": [')
    (tmp_path / "up.json").write_text(damaged)
    with pytest.raises(ValueError, match="maximize must be a list of names, each once: 3"):
        Front.read(tmp_path / "up.json")


def test_a_front_says_what_it_maximizes_and_refuses_what_it_has_not():
    up, _ = twins([(1.0, 2.0, 3.0)])
    assert repr(up) == "Front(miou maximized, latency_ms, coverage maximized: 1 points)"
    assert "-" not in repr(up[0]) and "-1" not in up._repr_html_()
    with pytest.raises(ValueError, match="maximize names 'acc', and the objectives are error"):
        Front(["error"], maximize=["acc"])
    with pytest.raises(TypeError, match="maximize must be a sequence of names, got 'miou'"):
        Front(["miou"], maximize="miou")


@pytest.mark.parametrize(
    ("objectives", "maximize", "expected"),
    [
        (["latency_ms", "miou"], ["miou"], "miou"),
        (
            ["throughput", "accuracy_percent"],
            ["throughput", "accuracy_percent"],
            "accuracy_percent",
        ),
        (["error_percent", "miou"], ["miou"], "error_percent"),
        (["latency_ms", "test_error"], [], "test_error"),
        (["word_rate", "latency_ms", "memory_kib"], [], "word_rate"),
        (["parameters_M", "rmse"], [], "rmse"),
        (["digits", "loops", "latency_ms"], ["digits", "loops"], "digits"),
        (["latency_ms", "memory_kib"], [], None),
        (["a", "b"], [], None),
    ],
)
def test_the_most_accurate_is_the_best_in_the_quality(objectives, maximize, expected):
    assert quality(objectives, maximize) == expected
    front = Front(objectives, maximize)
    front.add(Point({"op": "a"}, dict.fromkeys(objectives, 1.0)))
    assert ("most-accurate" in roles(front)["a01"]) == (expected is not None)


# --- constraints ---------------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_limit_on_what_is_maximized_is_the_least_value(limit, value):
    constraint = Constraint.parse(f"miou>={limit!r}", NAMES, UP)
    assert constraint.limits == {"miou": limit} and constraint.at_least == {"miou"}
    assert constraint.satisfied({"miou": value}) == (value >= limit)


def test_limits_in_both_directions_print_what_they_read():
    constraint = Constraint.parse("miou>=.6, latency<=2000us, miou>=0.7, latency<=3ms", NAMES, UP)
    assert str(constraint) == "miou>=0.7,latency_ms<=2"  # the stricter ones
    assert Constraint.parse(str(constraint), NAMES, UP) == constraint
    assert pickle.loads(pickle.dumps(constraint)) == constraint
    assert constraint.satisfied({"miou": 0.7, "latency_ms": 2.0})
    assert not constraint.satisfied({"miou": 0.69, "latency_ms": 2.0})
    assert not constraint.satisfied({"miou": 0.7, "latency_ms": 2.1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("miou<=0.7", "miou is maximized, so its limit reads miou>=0.7; got 'miou<=0.7'"),
        (
            "latency>=2ms",
            "latency_ms is minimized, so its limit reads latency<=2ms; got 'latency>=",
        ),
        ("miou=>0.7", "or NAME>=NUMBER if NAME is maximized; got 'miou=>0.7'"),
    ],
)
def test_the_wrong_direction_is_refused_with_the_right_one(text, message):
    with pytest.raises(ValueError, match=message):
        Constraint.parse(text, NAMES, UP)
    with pytest.raises(ValueError, match=message):
        twins([(1.0, 1.0, 1.0)])[0].pick(text)


def test_a_constraint_that_was_made_by_hand_is_checked_too():
    with pytest.raises(
        ValueError, match="miou is maximized, so its limit reads miou>=0.7; got miou<"
    ):
        Constraint.of(Constraint({"miou": 0.7}), NAMES, UP)
    with pytest.raises(
        ValueError, match="latency_ms is minimized.*latency_ms<=2; got latency_ms>=2"
    ):
        Constraint.of(Constraint({"latency_ms": 2.0}, frozenset({"latency_ms"})), NAMES, UP)
    right = Constraint({"miou": 0.7}, frozenset({"miou"}))
    assert Constraint.of(right, NAMES, UP) is right
    with pytest.raises(ValueError, match="maximize names 'miou'"):
        Constraint({"latency_ms": 2.0}, frozenset({"miou"}))


# --- noise ---------------------------------------------------------------------------------------


def test_probabilities_of_being_on_the_front_follow_the_direction():
    rng = np.random.default_rng(0)
    rows = [(0.6, 3.0), (0.7, 4.0), (0.65, 5.0), (0.5, 1.0)]
    spread = {"miou": 0.05}
    up = Measurements(["miou", "latency_ms"], spread, maximize=["miou"])
    down = Measurements(["miou", "latency_ms"], spread)
    for number, row in enumerate(rows * 2):
        miou = row[0] + 0.05 * rng.standard_normal()
        picks = {"op": str(number % 4)}
        up.add(Point(picks, {"miou": miou, "latency_ms": row[1]}))
        down.add(Point(picks, {"miou": -miou, "latency_ms": row[1]}))
    for one, other in zip(up.points(), down.points(), strict=True):
        assert one.reported == other.reported
        assert one.objectives["miou"] == -other.objectives["miou"] > 0
    assert up.front().maximize == ("miou",)
    assert [p.architecture for p in up.front()] == [p.architecture for p in down.front()]


# --- what people see -----------------------------------------------------------------------------


def test_a_figure_shows_values_and_says_which_are_better():
    up, _ = twins([(1.0, 1.0, 2.0), (2.0, 4.0, 1.0)])
    figure = up.plot([*up, points_of([(0.5, 6.0, 0.5)] * 3)[-1]])
    assert figure.layout.yaxis.title.text == "miou, higher is better"
    assert figure.layout.xaxis.title.text == "latency (ms), lower is better"
    dominated, front = figure.data
    assert front.marker.colorbar.title.text == "coverage, higher is better"
    assert [*front.y] == [2.0, 1.0] and [*front.marker.color] == [1.0, 2.0]
    assert [*dominated.y] == [0.5]
    assert "miou: 2<br>" in front.hovertext[0]


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        (Metric("miou", maximize=True), 0.712349, "0.7123"),
        (Metric("rmse", unit="K"), 1.23456, "1.235"),
        (Metric("top1", maximize=True, unit="percent"), 91.4159, "91.42 %"),
        (Metric("energy", unit="mj"), 0.123456, "0.1235 mJ"),
        (Metric("val_miou", maximize=True), 1.0, "1"),
    ],
)
def test_a_number_has_its_unit_if_that_is_known(metric, value, shown):
    assert quantity(metric.column, value) == shown


def test_the_printed_front_has_the_whole_name_of_a_metric():
    front = Front(["val_miou", "latency_ms"], maximize=["val_miou"])
    values = {"val_miou": 0.51239, "latency_ms": 1.0}
    front.add(Point({"op": "a"}, values, {"test_val_miou": 0.25, "parameters": 12345}))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(front_table(front, {}))
    head, row = console.export_text().splitlines()
    assert [word.strip() for word in re.split("  +", head)] == [
        "point",
        "val miou",
        "test val miou",
        "latency",
        "parameters",
        "picks",
    ]
    assert re.split("  +", row.strip()) == ["a01", "0.5124", "0.25", "1.000 ms", "12,345", "op=a"]


def test_pandas_and_html_hold_the_values():
    up, _ = twins([(1.0, 1.0, 2.0), (2.0, 4.0, 1.0)])
    expected = pd.DataFrame({"miou": [2.0, 1.0], "latency_ms": [4.0, 1.0], "coverage": [1.0, 2.0]})
    pd.testing.assert_frame_equal(up.to_pandas()[[*NAMES]], expected)
    assert ">2<" in up._repr_html_() and ">-2<" not in up._repr_html_()
