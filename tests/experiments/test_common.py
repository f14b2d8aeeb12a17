"""What the experiments on conflict share: command line, rows, processes, figures."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest


@dataclass(frozen=True)
class Settings:
    seeds: int = 5
    csv: Path | None = Path("rows.csv")
    figure: Path | None = Path("figure.svg")


@dataclass(frozen=True)
class Several(Settings):
    processes: int = 2


@pytest.fixture(scope="module")
def common(experiment):
    return experiment("conflict/common")


def test_a_look_writes_nothing_and_shows_nothing(common):
    for words in (["--quick"], ["--quick", "--show"]):
        settings, show = common.read_command("A look.", words, Settings(), {"seeds": 1})
        assert settings == Settings(seeds=1, csv=None, figure=None) and not show


def test_without_a_word_settings_are_as_given(common):
    assert common.read_command("All.", [], Settings(), {"seeds": 1}) == (Settings(), False)
    assert common.read_command("All.", ["--show"], Settings(), {"seeds": 1}) == (Settings(), True)


def test_jobs_are_asked_for_only_where_several_processes_train(common, capsys):
    settings, _ = common.read_command("All.", ["--jobs", "3"], Several(), {})
    assert settings.processes == 3
    settings, _ = common.read_command("A look.", ["--quick", "--jobs", "3"], Several(), {})
    assert settings.processes == 3
    with pytest.raises(SystemExit):
        common.read_command("All.", ["--jobs", "3"], Settings(), {})
    assert "--jobs" in capsys.readouterr().err


def test_what_is_shown_is_what_was_written_digit_by_digit(common, tmp_path):
    file, frame = tmp_path / "rows.csv", pd.DataFrame({"a": [1 / 3, 2.0], "b": ["x", "y"]})
    (first,) = common.written(False, lambda: [frame], file, digits="%.6g")
    before = file.read_bytes()
    (again,) = common.written(True, lambda: pytest.fail("measured"), file)
    pd.testing.assert_frame_equal(first, again)
    assert first["a"].tolist() == [0.333333, 2.0]
    assert file.read_bytes() == before


def test_no_file_no_rows_written(common, tmp_path):
    one, two = pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [2.0]})
    found = common.written(False, lambda: (one, two), None, tmp_path / "two.csv")
    assert found[0] is one and found[1].equals(two)
    assert [path.name for path in tmp_path.iterdir()] == ["two.csv"]


@pytest.mark.parametrize("processes", [1, 2])
def test_answers_keep_their_order_over_processes(common, processes):
    with common.side_by_side(processes) as each:
        assert list(each(pow, [3, 2, 1], [1, 2, 3])) == [3, 4, 1]


def test_the_best_rate_has_the_smallest_errors_relative_to_each_task(common):
    errors = [[1.0, 300.0], [2.0, 100.0], [1.2, 110.0]]  # neither task alone decides
    assert common.best_of((0.1, 0.2, 0.3), errors) == 0.3
    assert common.best_of((0.1,), [[1.0, 1.0]]) == 0.1


def test_delta_m_is_the_mean_excess_over_networks_that_share_nothing(common):
    alone = pd.DataFrame({"p": list("aabb"), "q": 1, "x": [1, 3, 10, 10], "y": [4, 4, 5, np.nan]})
    rows = pd.DataFrame({"p": list("ba"), "q": 1, "x": [11.0, 1.0], "y": [5.0, 6.0]}, [7, 3])
    found = common.delta_m(rows, alone, ["p", "q"], ["x", "y"])
    assert found.to_dict() == pytest.approx({7: 5.0, 3: 0.0})
    assert common.delta_m(rows, alone, ["p"], ["x"]).to_dict() == pytest.approx({7: 10, 3: -50})
    rows.loc[3, "y"] = np.nan  # a task that is not asked
    assert common.delta_m(rows, alone, ["p"], ["x", "y"])[3] == pytest.approx(-50)


def test_a_spread_is_the_median_with_least_and_greatest(common):
    assert common.spread(pd.Series([3.0, 1.0, 2.04])) == "2.0 (1.0 to 3.0)"
    assert common.spread(pd.Series([3.0, 1.0, np.nan]), 2) == "2.00 (1.00 to 3.00)"


def test_the_same_figure_is_the_same_bytes(common, tmp_path):
    for name in ("one.svg", "two.svg"):
        figure, axes = plt.subplots()
        axes.plot([0, 1], [1, 0], "o")
        axes.fill_between([0, 1], [0, 0], [1, 1], hatch="/")
        common.save(figure, tmp_path / name, salt="test")
        assert not plt.fignum_exists(figure.number)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_plain_sum_weighs_alike_and_a_ratio_second_to_first(common):
    jacobian = common.torch.eye(2)
    plain = common.SOLVERS[common.PLAIN](None)(jacobian).weights
    assert plain[0] == plain[1]
    weights = common.weighted(3.0)(None)(jacobian).weights
    assert weights.tolist() == pytest.approx([0.25, 0.75])
