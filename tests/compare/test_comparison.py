"""Comparisons as a whole: equal bills, runs that go on, and sums that a plain reading confirms."""

import errno
import json
import shutil
from dataclasses import replace

import moocore
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paretonas._lines import DamagedLineWarning
from paretonas.compare import compare
from paretonas.compare.folder import RunJournal
from paretonas.compare.summary import checkpoints, evaluations_to
from paretonas.point import Point
from paretonas.problem import Problem
from paretonas.samplers import Failure, Ledger
from paretonas.samplers.random import Random
from paretonas.space import every
from paretonas.table import Table

CHOICES = ["op_0_1", "op_0_2", "op_1_2"]


class InOrder:
    """Proposes all architectures in order, the first ones only if told so."""

    def __init__(self, problem, seed, count=None, start=0):
        self.waiting = list(every(problem.choices))[start:][:count]

    def ask(self):
        return [self.waiting.pop(0)] if self.waiting else []

    def tell(self, outcomes):
        pass


class Counting:
    """An objective that counts how often it is asked, and may be interrupted."""

    def __init__(self, objective, stop_at=None):
        self.objective, self.asked, self.stop_at = objective, 0, stop_at

    @property
    def column(self):
        return self.objective.column

    def exact(self, architecture):
        self.asked += 1
        if self.asked == self.stop_at:
            raise KeyboardInterrupt
        return self.objective.exact(architecture)


def values_of(comparison):
    return {(r.method, r.measure, r.evaluations, r.statistic): r.value for r in comparison.summary}


@pytest.fixture(scope="module")
def found(table):
    return compare(table, ["random", "nsga2", "local"], budget=40, seeds=5)


# --- what is scored ------------------------------------------------------------------------------


def test_there_is_a_row_per_method_seed_and_evaluation(found):
    rows = found.anytime()
    columns = ["method", "seed", "evaluations", "hypervolume", "hypervolume_fraction", "igd_plus"]
    assert list(rows.columns) == columns
    assert len(rows) == 3 * 5 * 40
    for _, run in rows.groupby(["method", "seed"]):
        assert run["evaluations"].tolist() == list(range(1, 41))
        assert run["hypervolume"].is_monotonic_increasing


def test_scores_are_those_of_the_tables_rows_that_count(found, table):
    """Scaled over the allowed rows, reference 1, share of the true front: all from scratch."""
    allowed = table.costs[table.allowed]
    low, high = allowed.min(axis=0), allowed.max(axis=0)
    whole = moocore.hypervolume((allowed - low) / (high - low), ref=[1, 1])
    rows = found.anytime().set_index(["method", "seed", "evaluations"])
    for (method, seed), record in found.records.items():
        costs = [
            [o.objectives[c] for c in table.columns]
            for o in record.outcomes
            if isinstance(o, Point)
        ]
        volume = moocore.hypervolume((np.array(costs) - low) / (high - low), ref=[1, 1])
        last = rows.loc[(method, seed, 40)]
        assert last["hypervolume"] == pytest.approx(volume)
        assert last["hypervolume_fraction"] == pytest.approx(volume / whole)


def test_a_row_that_does_not_count_costs_an_evaluation(found, table):
    frame = found.evaluations()
    allowed = {a for a, ok in zip(table.architectures, table.allowed, strict=True) if ok}
    for (method, seed), record in found.records.items():
        failed = [o for o in record.outcomes if isinstance(o, Failure)]
        assert all(o.architecture not in allowed for o in failed)
        assert record.ledger.failures == len(failed)
        assert record.ledger.evaluations == len(record.outcomes) == 40
        rows = frame[(frame["method"] == method) & (frame["seed"] == seed)]
        assert rows["failed"].sum() == len(failed)
        assert rows["error"].isna().equals(rows["failed"])
    assert frame["failed"].any()


def test_logarithms_are_taken_before_scaling(table):
    plain = compare(table, ["random"], budget=20, seeds=1)
    logs = compare(Problem(table, log=["latency_ms"]), ["random"], budget=20, seeds=1)
    costs = table.costs[table.allowed].copy()
    costs[:, 1] = np.log(costs[:, 1])
    scaled = (costs - costs.min(axis=0)) / (costs.max(axis=0) - costs.min(axis=0))
    assert logs.reference.hypervolume == pytest.approx(moocore.hypervolume(scaled, ref=[1, 1]))
    assert plain.reference.hypervolume != logs.reference.hypervolume
    assert plain.records["random", 0].outcomes == logs.records["random", 0].outcomes


@pytest.mark.parametrize("log", [[], ["accuracy", "latency_ms"]])
def test_to_maximize_is_to_minimize_the_negative(frame, log):
    """Methods, scores and summaries are the same; only the values have the other sign."""
    turned = frame.assign(accuracy=-frame["accuracy"])
    tables = [
        Table.from_pandas(frame, CHOICES, ["latency_ms"], ["accuracy"], where="ok"),
        Table.from_pandas(turned, CHOICES, ["latency_ms", "accuracy"], where="ok"),
    ]
    methods = ["random", "local", "nsga2", "surgery"]
    up, down = (compare(Problem(t, log=log), methods, budget=14, seeds=2) for t in tables)
    pd.testing.assert_frame_equal(up.anytime(), down.anytime())
    assert len(up.reference.front) == len(down.reference.front) > 3
    ours, theirs = up.evaluations(), down.evaluations()
    assert (ours["accuracy"].dropna() > 0).all() and not ours["accuracy"].isna().all()
    pd.testing.assert_frame_equal(ours.assign(accuracy=-ours["accuracy"]), theirs)
    for method in methods:
        pairs = zip(up.front(method), down.front(method), strict=True)
        assert all(one.architecture == other.architecture for one, other in pairs)


def test_a_logarithm_of_what_is_maximized_speaks_of_its_values(frame):
    table = Table.from_pandas(frame.assign(accuracy=frame.index), CHOICES, ["error"], ["accuracy"])
    with pytest.raises(ValueError, match="but accuracy goes from 0 to 63"):
        compare(Problem(table, log=["accuracy"]), ["random"], budget=8, seeds=1)


def test_a_table_that_is_not_complete_is_scored_by_the_best_of_all(frame):
    table = Table.from_pandas(frame[frame.index % 3 > 0], CHOICES, ["error", "latency_ms"])
    methods = {"all": InOrder, "few": lambda problem, seed: InOrder(problem, seed, 20)}
    found = compare(table, methods, budget=60, seeds=2)
    assert not found.reference.true
    assert found.curves["all", 0].fraction[-1] == 1.0
    assert 0 < found.curves["few", 0].fraction[-1] < 1
    assert any(isinstance(o, Failure) for o in found.records["all", 0].outcomes)


def test_where_no_run_finds_a_row_it_is_told_how_few_there_are(frame):
    table = Table.from_pandas(frame[21::7], CHOICES, ["error", "latency_ms"])
    methods = {"elsewhere": lambda problem, seed: InOrder(problem, seed, 2)}
    found = compare(table, methods, budget=2, seeds=1)
    with pytest.raises(ValueError, match="nothing to compare; table has rows for 7 of 48"):
        assert found.reference


def test_a_run_that_ended_early_keeps_its_last_value(table):
    methods = {"few": lambda problem, seed: InOrder(problem, seed, 7)}
    found = compare(table, methods, budget=30, seeds=1)
    curve = found.curves["few", 0]
    assert found.records["few", 0].ledger.evaluations == 7
    assert (curve.fraction[6:] == curve.fraction[6]).all()
    assert len(found.anytime()) == 30


# --- the summary ---------------------------------------------------------------------------------


def test_the_summary_sums_up_the_rows(found):
    values, rows = values_of(found), found.anytime()
    for (method, at), group in rows.groupby(["method", "evaluations"]):
        if at not in checkpoints(40):
            continue
        share = group["hypervolume_fraction"]
        said = {s: values[method, "hypervolume_fraction", at, s] for s in ("mean", "median", "min")}
        assert said == pytest.approx({s: share.agg(s) for s in said})
        iqm = values[method, "hypervolume_fraction", at, "iqm"]
        assert iqm == pytest.approx(stats.trim_mean(share, 0.25))
        low, high = (
            values[method, "hypervolume_fraction", at, f"iqm_{s}"] for s in ("low", "high")
        )
        assert share.min() <= low <= iqm <= high <= share.max()
        regret = values[method, "hypervolume_regret", at, "max"]
        assert regret == pytest.approx(1 - share.min())
        assert values[method, "igd_plus", at, "mean"] == pytest.approx(group["igd_plus"].mean())


def test_tests_pair_the_seeds_with_the_first_methods(found):
    values, rows = values_of(found), found.anytime()
    last = rows[rows["evaluations"] == 40].pivot(
        index="seed", columns="method", values="hypervolume_fraction"
    )
    p_values = []
    for method in ("nsga2", "local"):
        differences = last[method] - last["random"]
        expected = stats.wilcoxon(differences, method="exact").pvalue
        assert values[method, "hypervolume_fraction", 40, "p"] == pytest.approx(expected)
        median = values[method, "hypervolume_fraction", 40, "median_difference"]
        assert median == pytest.approx(differences.median())
        p_values.append(expected)
    corrected = [values[m, "hypervolume_fraction", 40, "p_holm"] for m in ("nsga2", "local")]
    assert min(corrected) == pytest.approx(min(1, 2 * min(p_values)))
    assert ("random", "hypervolume_fraction", 40, "p") not in values


def test_targets_are_medians_over_seeds_and_empty_where_half_did_not_get_there(table):
    order = list(every(table.choices))
    truth = compare(table, {"all": InOrder}, budget=64, seeds=1)
    needed = evaluations_to(truth.curves["all", 0].fraction, 90)
    assert truth.curves["all", 0].fraction[int(needed) - 2] < 0.9

    def some(problem, seed):
        return InOrder(problem, seed, None if seed < 2 else 1)

    for seeds, middle in [(3, needed), (4, None)]:
        found = compare(table, {"m": some}, budget=len(order), seeds=seeds)
        values = values_of(found)
        assert values["m", "evaluations_to_90_percent", None, "median"] == middle
        assert values["m", "evaluations_to_90_percent", None, "seeds_reached"] == 2


def test_what_was_found_and_what_by_no_other(table):
    best = {row.tobytes() for row in compare_all(table).reference.front}
    halves = {
        "first": lambda problem, seed: InOrder(problem, seed, 40),
        "second": lambda problem, seed: InOrder(problem, seed, None, start=24),
    }
    found = compare(table, halves, budget=40, seeds=1)
    values = values_of(found)
    counts = {
        name: {
            found.reference.scaled(np.array([[p.objectives[c] for c in table.columns]]))[
                0
            ].tobytes()
            for p in found.records[name, 0].outcomes
            if isinstance(p, Point)
        }
        & best
        for name in halves
    }
    for name, other in [("first", "second"), ("second", "first")]:
        assert values[name, "front_points", None, "found"] == len(counts[name])
        alone = values[name, "front_points", None, "found_alone"]
        assert alone == len(counts[name] - counts[other])
    assert counts["first"] | counts["second"] == best


def compare_all(table):
    return compare(table, {"all": InOrder}, budget=64, seeds=1)


def test_the_front_of_a_method_joins_its_seeds(found, table):
    points = [
        o
        for (method, _), record in found.records.items()
        for o in record.outcomes
        if method == "nsga2" and isinstance(o, Point)
    ]
    costs = np.array([[p.objectives[c] for c in table.columns] for p in points])
    expected = moocore.filter_dominated(np.unique(costs, axis=0))
    front = [[p.objectives[c] for c in table.columns] for p in found.front("nsga2")]
    assert sorted(front) == sorted(expected.tolist())


# --- on disk -------------------------------------------------------------------------------------


def test_all_files_are_written_and_say_the_same(found, tmp_path):
    found.write(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    fronts = {f"front-{method}.csv" for method in found.methods}
    assert names == {"anytime.csv", "summary.csv", "evaluations.csv"} | fronts
    read = pd.read_csv(tmp_path / "anytime.csv")
    pd.testing.assert_frame_equal(read, found.anytime(), check_dtype=False, check_exact=True)
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert list(summary.columns) == ["method", "measure", "evaluations", "statistic", "value"]
    assert not summary.duplicated(["method", "measure", "evaluations", "statistic"]).any()


def test_an_interrupted_comparison_goes_on_and_ends_with_the_same(table, tmp_path):
    methods = ["random", "nsga2"]
    whole = compare(table, methods, budget=30, seeds=2)
    error, latency = table.objectives
    stopping = Counting(error, stop_at=75)  # in the midst of the third of four runs
    with pytest.raises(KeyboardInterrupt):
        compare(Problem(table, [stopping, latency]), methods, budget=30, seeds=2, folder=tmp_path)
    kept = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert kept == ["nsga2-0.jsonl", "random-0.jsonl", "random-1.unfinished.jsonl"]
    draft = tmp_path / "runs" / "random-1.unfinished.jsonl"
    draft.write_bytes(draft.read_bytes() + b'{"architecture": {"op_0')  # torn
    counting = Counting(error)
    again = compare(
        Problem(table, [counting, latency]), methods, budget=30, seeds=2, folder=tmp_path
    )
    assert counting.asked == 120 - 74
    pd.testing.assert_frame_equal(again.anytime(), whole.anytime())
    pd.testing.assert_frame_equal(again.evaluations(), whole.evaluations())
    assert not list((tmp_path / "runs").glob("*unfinished*"))


@pytest.mark.parametrize("damage", [b"\0" * 40, b"\xff", b"{}", b"[1]", b'{"architecture": 3}'])
def test_a_run_goes_on_from_what_a_crash_has_left_readable(table, tmp_path, damage):
    error, latency = table.objectives
    stopping, counting = Counting(error, stop_at=20), Counting(error)
    with pytest.raises(KeyboardInterrupt):
        compare(
            Problem(table, [stopping, latency]), ["random"], budget=30, seeds=1, folder=tmp_path
        )
    draft = tmp_path / "runs" / "random-0.unfinished.jsonl"
    lines = draft.read_bytes().splitlines()
    draft.write_bytes(b"\n".join([*lines[:12], damage, *lines[13:], b""]))
    with pytest.warns(DamagedLineWarning, match=r"unfinished\.jsonl, line 13 is damaged"):
        again = compare(
            Problem(table, [counting, latency]), ["random"], budget=30, seeds=1, folder=tmp_path
        )
    assert not again.broken
    assert counting.asked == 30 - 18
    whole = compare(table, ["random"], budget=30, seeds=1)
    pd.testing.assert_frame_equal(again.evaluations(), whole.evaluations())


def test_finished_runs_are_read_not_run(table, tmp_path):
    first = compare(table, ["random"], budget=9, seeds=3, folder=tmp_path)
    counting = [Counting(objective) for objective in table.objectives]
    again = compare(Problem(table, counting), ["random"], budget=9, seeds=3, folder=tmp_path)
    assert [objective.asked for objective in counting] == [0, 0]
    assert again.records == first.records


def test_a_bit_flipped_in_any_line_costs_that_evaluation_alone(table, tmp_path):
    """Also in the bill, and in a number, where JSON would not notice."""
    settings = {"methods": ["random"], "budget": 9, "seeds": 1, "folder": tmp_path}
    whole = compare(table, **settings)
    path = tmp_path / "runs" / "random-0.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        for place in (0, len(line) // 2, line.rindex(b"."), len(line) - 2):
            damaged = bytearray(line)
            damaged[place] ^= 1
            path.write_bytes(b"".join([*lines[:number], damaged, *lines[number + 1 :]]))
            counting = Counting(table.objectives[0])
            with pytest.warns(DamagedLineWarning, match=rf"random-0\.jsonl, line {number + 1} is"):
                again = compare(Problem(table, [counting, table.objectives[1]]), **settings)
            assert counting.asked == (1 if number < 9 else 0), (number, place)
            pd.testing.assert_frame_equal(again.evaluations(), whole.evaluations())
            seconds = again.records["random", 0].ledger.evaluation_seconds
            assert seconds >= sum(json.loads(line)["seconds"] for line in lines[:-1]) / 2


def test_a_run_that_lost_a_line_has_not_ended_for_a_reader(table, tmp_path):
    settings = {"methods": ["random"], "budget": 9, "seeds": 2, "folder": tmp_path}
    compare(table, **settings)
    path = tmp_path / "runs" / "random-1.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]))
    with pytest.warns(DamagedLineWarning, match=r"random-1\.jsonl lacks a line"):
        found = compare(table, **settings, jobs=0)
    assert [*found.records] == [("random", 0)]
    assert path.read_bytes() == b"".join(lines[1:])


def test_records_without_checksums_are_read(table, tmp_path):
    settings = {"methods": ["random"], "budget": 9, "seeds": 1, "folder": tmp_path}
    first = compare(table, **settings)
    path = tmp_path / "runs" / "random-0.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    old = [{k: v for k, v in line.items() if k not in ("crc32", "seconds")} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert compare(table, **settings, jobs=0).records == first.records


def test_what_is_asked_for_without_runs_makes_no_folder(table, tmp_path):
    found = compare(table, ["random"], budget=9, seeds=1, folder=tmp_path / "new", jobs=0)
    assert not found.records
    assert not (tmp_path / "new").exists()


def test_what_a_killed_process_left_does_not_make_a_folder_full(table, tmp_path):
    (tmp_path / ".compare.json-abc_1234").mkdir()
    (tmp_path / ".paretonas.lock").write_text("")
    assert compare(table, ["random"], budget=9, seeds=1, folder=tmp_path).records


def test_runs_do_not_leave_the_folder_through_a_link(table, tmp_path):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    settings = {"methods": ["random"], "budget": 9, "seeds": 1, "folder": folder}
    compare(table, **settings, jobs=0)
    compare(table, **settings)
    shutil.rmtree(folder / "runs")
    (folder / "runs").symlink_to(elsewhere)
    with pytest.raises(ValueError, match=r"random-0\.jsonl is behind a link that leads out of"):
        compare(table, **settings)
    assert not list(elsewhere.iterdir())


def test_a_full_disk_breaks_the_run_and_loses_nothing(table, tmp_path, monkeypatch):
    settings = {"methods": ["random"], "budget": 9, "seeds": 1, "folder": tmp_path}
    error, latency = table.objectives
    with pytest.raises(KeyboardInterrupt):
        compare(Problem(table, [Counting(error, stop_at=6), latency]), **settings)
    draft = tmp_path / "runs" / "random-0.unfinished.jsonl"
    before = draft.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("paretonas._lines.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            RunJournal(tmp_path, "random", 0).finish([], [], Ledger(), 9)
        broken = compare(table, **settings).broken
    assert "No space left" in broken[0].reason
    assert draft.read_bytes() == before
    counting = Counting(error)
    assert compare(Problem(table, [counting, latency]), **settings).records
    assert counting.asked == 9 - 5


def changed(table, change):
    """The problem on a table, with what a change says of it taken out of the change."""
    options = {name: change.pop(name) for name in ("log", "free") if name in change}
    return Problem(table, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["nsga2", "random"]}, r'methods was \["random"\], now \["nsga2", "random"\]'),
        ({"log": ["error"]}, r'log was \[\], now \["error"\]'),
        ({"free": ["latency_ms"]}, r'free was \[\], now \["latency_ms"\]'),
        ({"settings": {"where": "ok"}}, 'where was not given, now "ok"'),
    ],
)
def test_other_settings_are_refused_with_what_differs(table, tmp_path, change, message):
    settings = {"methods": ["random"], "budget": 8, "seeds": 2, "folder": tmp_path}
    compare(table, **settings)
    with pytest.raises(ValueError, match=f"other settings: {message}"):
        compare(changed(table, change), **{**settings, **change})


def test_a_table_that_has_changed_is_refused(table, tmp_path):
    settings = {"methods": ["random"], "budget": 8, "seeds": 1, "folder": tmp_path}
    compare(table, **settings)
    costs = table.costs.copy()
    costs[3, 0] += 1
    changed = replace(table, costs=costs)
    with pytest.raises(ValueError, match="other settings: content was"):
        compare(changed, **settings)


def test_a_folder_with_something_else_is_refused(table, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    file = tmp_path / "file"
    file.write_text("")
    for folder, message in [
        (tmp_path, "is not empty; a comparison needs a new or empty folder"),
        (file, "is a file; a comparison needs a new or empty folder"),
        (file / "inside", "cannot be written"),
    ]:
        with pytest.raises(ValueError, match=message):
            compare(table, ["random"], budget=8, seeds=1, folder=folder)


def test_a_damaged_record_is_refused_by_name(table, tmp_path):
    compare(table, ["random"], budget=8, seeds=1, folder=tmp_path)
    (tmp_path / "runs" / "random-0.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"random-0\.jsonl is no record of a run"):
        compare(table, ["random"], budget=8, seeds=1, folder=tmp_path)


# --- a failed run --------------------------------------------------------------------------------


def test_a_run_that_raises_is_told_and_the_others_go_on(table, tmp_path):
    told = []

    def fragile(problem, seed):
        if seed == 1:
            raise OSError("no\nluck")
        return Random(problem, seed=seed)

    methods = {"fragile": fragile, "random": lambda problem, seed: Random(problem, seed=seed)}
    found = compare(table, methods, budget=8, seeds=3, folder=tmp_path, watch=told.append)
    assert len(told) == 6
    assert [(b.method, b.seed, b.reason) for b in found.broken] == [
        ("fragile", 1, "OSError: no\nluck")
    ]
    values = values_of(found)
    assert values["fragile", "runs", None, "finished"] == 2
    assert values["fragile", "runs", None, "failed"] == 1
    assert len(found.anytime()) == 5 * 8
    found.write(tmp_path)
    mended = {**methods, "fragile": methods["random"]}
    again = compare(table, mended, budget=8, seeds=3, folder=tmp_path)
    assert not again.broken


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": []}, "no method to compare; there are"),
        ({"methods": ["nsga"]}, "no method is called 'nsga'; did you mean 'nsga"),
        ({"methods": ["random", "random"]}, "method 'random' is named 2 times"),
        ({"methods": {"a/b": InOrder}}, "becomes that of a file, got 'a/b'"),
        ({"budget": 0}, "from 1 to the 64 architectures of the space, got 0"),
        ({"budget": 65}, "from 1 to the 64 architectures of the space, got 65"),
        ({"seeds": 0}, "at least one seed, got 0"),
        ({"log": ["eror"]}, "no objective is called 'eror'; did you mean 'error'"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(table, tmp_path, change, message):
    change = dict(change)
    settings = {"methods": ["random"], "budget": 8, "seeds": 1, "folder": tmp_path / "out"}
    with pytest.raises(ValueError, match=message):
        compare(changed(table, change), **{**settings, **change})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": [Random]}, "methods must be names such as 'surgery', .* the class Random"),
        ({"methods": Random}, "methods must be names, or makers by name, got"),
        ({"methods": {"mine": "random"}}, "'mine' must be what makes a sampler .* got 'random'"),
        ({"jobs": 1.5}, "jobs must be a whole number, got 1.5"),
        ({"settings": 5}, "settings must be plain values by name, got 5"),
        ({"watch": 5}, "watch must be a function of a run, got 5"),
        ({"budget": True}, "budget must be a whole number, got True"),
        ({"problem": type("Mine", (), {})}, "what was given is the class Mine, no space"),
        ({"budget": "8"}, "budget must be a whole number, got '8'"),
        ({"seeds": 1.5}, "seeds must be a whole number, got 1.5"),
    ],
)
def test_arguments_of_another_kind_are_refused_before_anything_runs(table, change, message):
    given = {"problem": table, "methods": ["random"], "budget": 8, "seeds": 1, **change}
    with pytest.raises(TypeError, match=message) as refused:
        compare(**given)
    assert "\n" not in str(refused.value)


def test_names_are_understood_as_on_the_command_line(table):
    """The objectives of a space are its own, methods stand in one text, a space has a name."""
    settings = {"budget": 8, "seeds": 1}
    found = compare(table, methods="random, local", **settings)
    same = compare(table, ["random", "local"], **settings)
    assert found.methods == ("random", "local")
    assert [r.outcomes for r in found.records.values()] == [
        r.outcomes for r in same.records.values()
    ]
    with pytest.raises(ValueError, match="no space is called 'toi'; did you mean 'toy'"):
        compare("toi", **settings)


def test_numbers_of_numpy_are_numbers(table, tmp_path):
    found = compare(table, ["random"], budget=np.int64(4), seeds=np.int64(1), folder=tmp_path)
    assert len(found.anytime()) == 4


def test_one_objective_is_too_few(table):
    with pytest.raises(ValueError, match="at least two objectives, got 'error'"):
        compare(Problem(table, table.objectives[:1]), ["random"], budget=8, seeds=1)


def test_a_logarithm_of_zero_is_refused_before_anything_runs(frame, tmp_path):
    zero = frame.assign(latency_ms=np.arange(64))
    table = Table.from_pandas(zero, CHOICES, ["error", "latency_ms"])
    with pytest.raises(ValueError, match="latency_ms goes from 0 to 63"):
        compare(
            Problem(table, log=["latency_ms"]),
            ["random"],
            budget=8,
            seeds=1,
            folder=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_rows_that_dominate_nothing_are_nothing_to_compare():
    rows = pd.DataFrame({"a": ["x", "y"], "cost": [0, 1], "price": [1, 0]})
    table = Table.from_pandas(rows, ["a"], ["cost", "price"])
    with pytest.raises(ValueError, match="dominate no volume"):
        compare(table, ["random"], budget=2, seeds=1)


def test_the_folder_says_what_was_asked(table, tmp_path):
    compare(table, ["random"], budget=8, seeds=1, folder=tmp_path, settings={"x": (1,)})
    about = json.loads((tmp_path / "compare.json").read_text())
    assert about["asked"] == {"x": [1]}
    assert about["settings"]["objectives"] == ["error", "latency_ms"]
