"""A table of architectures: what a file says is what a sampler is told, and bad files are named."""

import importlib.util
import math
import pickle
import sys

import numpy as np
import pandas as pd
import pytest

from paretonas import Table
from paretonas.objectives import Objective
from paretonas.problem import Problem
from paretonas.samplers.base import Failure, evaluate
from paretonas.space import SearchSpace, every

CHOICES = ("op", "width")
SHAPES = [(op, width) for op in ("conv 3", "None", "NA") for width in (2, 10, 9)]


@pytest.fixture
def frame() -> pd.DataFrame:
    """A complete table of 9 rows; in row 4 nothing could be measured."""
    rows = [
        {
            "op": op,
            "width": width,
            "works": number != 3,
            "latency (ms)": math.nan if number == 3 else 0.1 * number + 0.1,
            "accuracy": math.nan if number == 3 else float(number % 4),
            "same": (number + 1) // 2,
            "note": "x,y",
        }
        for number, (op, width) in enumerate(SHAPES)
    ]
    return pd.DataFrame(rows)


def table_of(frame, **changed) -> Table:
    named = {"minimize": ["latency (ms)"], "maximize": ["accuracy"], "where": "works"}
    return Table.from_pandas(frame, CHOICES, **{**named, **changed})


def read(path, **changed) -> Table:
    named = {"minimize": ["latency (ms)"], "maximize": ["accuracy"], "where": "works"}
    return Table.read(path, CHOICES, **{**named, **changed})


def same(one: Table, other: Table) -> bool:
    return (
        (one.choices, one.columns, one.architectures)
        == (other.choices, other.columns, other.architectures)
        and np.array_equal(one.costs, other.costs, equal_nan=True)
        and np.array_equal(one.allowed, other.allowed)
    )


# --- what a table says ---------------------------------------------------------------------------


def test_every_cell_is_where_the_frame_has_it(frame):
    table = table_of(frame)
    assert isinstance(table, SearchSpace)
    assert [choice.options for choice in table.choices] == [
        ("NA", "None", "conv 3"),
        ("2", "9", "10"),
    ]
    assert table.columns == ("latency (ms)", "accuracy") and table.maximize == ("accuracy",)
    assert table.complete and set(table.architectures) == set(every(table.choices))
    latency, accuracy = table.objectives
    assert isinstance(latency, Objective)
    for number, (op, width) in enumerate(SHAPES):
        architecture = {"op": op, "width": str(width)}
        assert table.allowed[table.row(architecture)] == (number != 3)
        if number != 3:
            assert latency.exact(architecture) == frame["latency (ms)"][number]
            assert accuracy.exact(architecture) == -frame["accuracy"][number]
            row = table.costs[table.row(architecture)]
            assert row.tolist() == [latency.exact(architecture), accuracy.exact(architecture)]
    assert not np.signbit(table.costs[0, 1])  # -0 would be printed


def test_outside_of_where_or_of_the_table_there_is_a_failure(frame):
    table = table_of(frame[:8])
    assert not table.complete
    found = evaluate(table.architectures[3], table.objectives)
    assert isinstance(found, Failure) and "is not allowed" in found.reason
    (absent,) = set(every(table.choices)) - set(table.architectures)
    found = evaluate(absent, table.objectives)
    assert isinstance(found, Failure) and f"no row for {absent}" in found.reason
    with pytest.raises(ValueError, match="choice 'op' has no option 'none'; did you mean 'None'"):
        table.row({"op": "none", "width": "2"})


@pytest.mark.parametrize(
    "where",
    [
        lambda works: works.astype(int),
        lambda works: works.astype(float),
        lambda works: works.map({True: "TRUE", False: "false"}),
        lambda works: works.astype("category"),
        lambda works: works.astype("boolean"),
    ],
)
def test_truth_is_told_in_many_ways(frame, where):
    assert same(table_of(frame.assign(works=where(frame.works))), table_of(frame))


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.astype({"op": "category", "width": "category"}),
        lambda frame: frame.astype({"width": "Int64", "accuracy": "Float64"}),
        lambda frame: frame.astype({"width": str}),
        lambda frame: frame.astype(object),
        lambda frame: frame.astype({"latency (ms)": str}).replace({"latency (ms)": {"nan": "x"}}),
    ],
)
def test_the_kind_of_a_column_does_not_matter(frame, change):
    assert same(table_of(change(frame)), table_of(frame))


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([True, False, True], ("False", "True")),
        ([10, 9, -1], ("-1", "9", "10")),
        ([0.5, 2.0, 1e-7], ("1e-07", "0.5", "2.0")),
        (["10", "9", "9a"], ("10", "9", "9a")),
        (["1e-3", "0.2", "1"], ("1e-3", "0.2", "1")),
    ],
)
def test_options_are_text_numbers_in_order(values, options):
    frame = pd.DataFrame({"pick": values, "x": [1, 2, 3], "y": [1, 2, 3]})
    frame = frame.drop_duplicates("pick")
    assert Table.from_pandas(frame, ["pick"], ["x", "y"]).choices[0].options == options


SPELLINGS = [
    (["pool", "pool ", " pool", "\u00a0pool\u2003", "pool\u200b", "po\u00adol"], "pool"),
    (["conv 3", "conv\u00a03", "conv  3", "conv\t3"], "conv 3"),
    (["caf\u00e9", "cafe\u0301"], "caf\u00e9"),
    (["8", "8\u200d", "8\u200c", "8\ufe0f", "8\u061c", "8\u180e", "\u202a8", "8\u034f"], "8"),
    (["8", "8.0", "08", "8e0", "+8", "80e-1", "8."], "8"),
    (["0.001", "1e-3", ".001", "1E-03"], ".001"),
    (["0", "-0", "0.0", "00"], "0"),
    (["True", "true", "TRUE "], "TRUE"),
    ([8, 8.0, "8", np.int64(8), np.float32(8)], "8"),
    ([True, "true", np.True_], "True"),
]


@pytest.mark.parametrize(("spellings", "name"), SPELLINGS)
@pytest.mark.parametrize("other", ["word", 9])
def test_spellings_of_one_option_are_one_option(tmp_path, spellings, name, other):
    """In a frame, a CSV and a parquet file, beside a word and beside a number."""
    picks = [*spellings, *[other] * len(spellings)]
    widths = [*range(len(spellings))] * 2
    frame = pd.DataFrame({" pick": picks, "width\u00a0": widths, "ms": widths, "mJ": 1})
    frame[" pick"] = pd.Series(picks, dtype=object)  # True is not 1 in here
    named = (["pick", " width"], ["ms "], ["mJ\u00a0"])
    tables = [Table.from_pandas(frame, *named)]
    frame.to_csv(tmp_path / "mixed.csv", index=False)
    tables.append(Table.read(tmp_path / "mixed.csv", *named))
    if importlib.util.find_spec("pyarrow"):
        frame.map(str).to_parquet(tmp_path / "mixed.parquet")
        tables.append(Table.read(tmp_path / "mixed.parquet", *named))
    for table in tables:
        assert {*table.choices[0].options} == {name, str(other)} and table.complete
        assert [choice.name for choice in table.choices] == ["pick", "width"]


@pytest.mark.parametrize(
    "options",
    [
        ["a", "A"],
        ["conv3", "conv 3"],
        ["x\u00b2", "x2"],
        ["3_3", "33"],
        ["8", "8a", "-8"],
        ["0.1", "0.10000000000000001", "0.1000000000000000055511151231257827"],
        ["9007199254740992", "9007199254740993"],
        ["1e400", "1e401", "1e-400", "0", "1e99999999999999999999"],
        ["nan", "NaN", "inf", "Infinity"],
        ["True", "T", "yes"],
    ],
)
def test_options_that_differ_stay_apart(options):
    frame = pd.DataFrame({"pick": options, "x": 1, "y": 2})
    choice = Table.from_pandas(frame, ["pick"], ["x", "y"]).choices[0]
    assert sorted(choice.options) == sorted(options)


@pytest.mark.parametrize(
    "options", [["True", "0"], [True, 1], ["true", "False", 1.0], [0, "FALSE"], ["True", "1", "2"]]
)
def test_truth_in_words_beside_bits_is_refused(options):
    frame = pd.DataFrame({"pick": pd.Series(options, dtype=object), "x": 1, "y": 2})
    with pytest.raises(ValueError, match=r"'pick' must spell true and false in one way, found '"):
        Table.from_pandas(frame, ["pick"], ["x", "y"])


def test_two_spellings_of_one_column_are_refused_and_both_named(frame):
    twice = pd.concat([frame, frame[["op"]].rename(columns={"op": " op"})], axis=1)
    with pytest.raises(ValueError, match="2 columns called 'op', spelled ' op' and 'op'"):
        table_of(twice)


def test_one_option_in_two_spellings_with_two_values_is_refused(frame):
    twice = pd.concat([frame, frame[:1].assign(op="conv 3 ", accuracy=7)])
    with pytest.raises(
        ValueError, match=r"both op=conv 3 width=2 \('conv 3' and 'conv 3 ' are one\), but acc"
    ):
        table_of(twice)


def test_csv_and_parquet_say_the_same(frame, tmp_path):
    frame.to_csv(tmp_path / "mine.csv", index=False)
    assert same(read(tmp_path / "mine.csv"), table_of(frame))
    assert read(tmp_path / "mine.csv").name == "mine"
    assert read(tmp_path / "mine.csv", name="yours").name == "yours"
    pytest.importorskip("pyarrow", reason="parquet: pip install 'paretonas[parquet]'")
    frame.astype({"op": "category"}).to_parquet(tmp_path / "mine.parquet")
    assert same(read(tmp_path / "mine.parquet"), table_of(frame))


def test_the_names_of_rows_are_columns(frame, tmp_path):
    pytest.importorskip("pyarrow", reason="parquet: pip install 'paretonas[parquet]'")
    for names in (["op"], [*CHOICES]):
        frame.set_index(names).to_parquet(tmp_path / "mine.parquet")
        assert same(read(tmp_path / "mine.parquet"), table_of(frame))


def test_a_csv_file_from_a_spreadsheet(tmp_path):
    path = tmp_path / "sheet.CSV"
    path.write_bytes("\ufeffop, width,ms , mJ\r\na, 1, 1e1, 2\r\n\r\n'b, 2, 3,4\r\n".encode())
    table = Table.read(path, ["op", "width"], ["ms ", "mJ"])
    assert table.choices[0].options == ("'b", "a") and table.columns == ("ms", "mJ")
    assert table.costs.tolist() == [[10, 2], [3, 4]]


def test_equal_rows_are_one(frame):
    twice = pd.concat([frame, frame], ignore_index=True)
    assert same(table_of(twice), table_of(frame))


def test_cells_of_one_function_share_the_mean(frame):
    plain, shared = table_of(frame), table_of(frame, average="same")
    for group, rows in frame[frame.works].groupby("same"):
        for op, width in zip(rows.op, rows.width, strict=True):
            row = shared.row({"op": op, "width": str(width)})
            means = [rows["latency (ms)"].mean(), -rows["accuracy"].mean()]
            assert shared.costs[row].tolist() == pytest.approx(means), group
    assert shared.architectures == plain.architectures
    assert np.isnan(shared.costs[3]).all() and shared.allowed.tolist() == plain.allowed.tolist()


def test_the_mean_of_equal_values_is_exactly_theirs(frame):
    thrice = frame.assign(**{"latency (ms)": 0.1, "same": 1})
    assert set(table_of(thrice, average="same").costs[:, 0].tolist()) == {0.1}
    assert sum([0.1] * 3) / 3 != 0.1


def test_repeated_measurements_are_averaged_by_a_column_of_their_own(frame):
    again = frame.assign(accuracy=frame.accuracy + 1)
    both = pd.concat([frame, again], ignore_index=True)
    both["cell"] = both.op + both.width.astype(str)
    table = table_of(both, average="cell")
    assert table.costs[0, 1] == -(frame.accuracy[0] + 0.5)


def test_the_structure_is_read_off_the_names(frame):
    assert table_of(frame).structure is None
    named = frame.rename(columns={"op": "op_0_1", "width": "op_0_2"})
    named["op_1_2"] = ["none", "skip"] * 4 + ["none"]
    edges = ["op_0_1", "op_0_2", "op_1_2"]
    table = Table.from_pandas(named, edges, ["accuracy", "latency (ms)"], where="works")
    assert Problem(table).structure is table.structure
    assert table.structure is not None and len(table.structure.routes) == 2


def test_a_table_cannot_be_changed_and_travels_between_processes(frame):
    table = table_of(frame)
    with pytest.raises(AttributeError):
        table.name = "other"
    for array in (table.costs, table.allowed):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    copy = pickle.loads(pickle.dumps(table))
    assert same(copy, table)
    assert copy.objectives[0].exact(table.architectures[0]) == table.costs[0, 0]


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"minimize": ["latency (mss)"]},
            r"no column 'latency \(mss\)'; did you mean 'latency \(m",
        ),
        ({"where": "work"}, "no column 'work'; did you mean 'works'"),
        ({"average": "sane"}, "no column 'sane'; did you mean 'same'"),
        ({"minimize": ["op"]}, "'op' is named twice, in choices and in minimize"),
        ({"minimize": ["accuracy"]}, "'accuracy' is named twice, in minimize and in maximize"),
        ({"minimize": []}, "at least two objectives, got accuracy"),
        ({"minimize": [], "maximize": []}, "at least two objectives, got none"),
        ({"minimize": ["id"]}, "'id' cannot be a choice"),
        (
            {"minimize": ["note"]},
            "objective 'note' must be a finite number .* found 'x,y' in row 1",
        ),
        ({"minimize": ["works"]}, "objective 'works' .* found True in row 1 and 7 more"),
        ({"where": None}, "objective 'latency .* found nan in row 4$"),
        (
            {"where": "op"},
            "'op' says which rows are allowed, .* found 'conv 3' in row 1 and 2 more",
        ),
    ],
)
def test_arguments_that_do_not_fit(frame, changed, message):
    with pytest.raises(ValueError, match=message):
        table_of(frame, **changed)


def test_columns_without_names_have_numbers():
    frame = pd.DataFrame([[0, 1.0, 2.0], [1, 2.0, 1.0]])
    assert Table.from_pandas(frame, ["0"], ["1", "2"]).choices[0].options == ("0", "1")
    with pytest.raises(TypeError, match=r"choices must be a sequence of column names, got \[0\]"):
        Table.from_pandas(frame, [0], ["1", "2"])


def test_names_are_not_one_name(frame):
    with pytest.raises(TypeError, match="minimize must be a sequence of column names, got 'acc"):
        table_of(frame, minimize="accuracy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[:0], "there are no rows"),
        (lambda f: f.assign(works=False), "no row is allowed: 'works' is false in all 9"),
        (lambda f: f.assign(works=[None, *f.works[1:]]), "'works' has no value in row 1$"),
        (lambda f: f.assign(op="a"), "'op' needs at least two options, every row has 'a'"),
        (lambda f: f.assign(op=["", *f.op[1:]]), "'op' has no value in row 1$"),
        (
            lambda f: f.assign(op=[[op] for op in f.op]),
            "'op' must hold one value per row: unhashable",
        ),
        (lambda f: f.assign(width=[math.nan] * 2 + [1.0] * 7), "'width' has no value in row 1 and"),
        (lambda f: f.assign(accuracy=[*f.accuracy[:-1], math.inf]), "found inf in row 9$"),
        (lambda f: f.assign(accuracy=["1 ms", *f.accuracy[1:]]), "found '1 ms' in row 1$"),
        (lambda f: f.assign(accuracy=["", *f.accuracy[1:]]), "found nothing in row 1$"),
        (lambda f: f.assign(accuracy=[None, *f.accuracy[1:]]), "in row 1$"),
        (lambda f: f.assign(accuracy=pd.array([None] + [1] * 8, "Int64")), "nothing in row 1$"),
        (lambda f: f.assign(accuracy=[False] + [1] * 8), "found False in row 1$"),
        (lambda f: f.assign(accuracy=pd.Timestamp("2026-01-01")), "in row 1 and 7 more$"),
        (lambda f: pd.concat([f, f[["op"]]], axis=1), "there are 2 columns called 'op'"),
        (
            lambda f: pd.concat([f, f[:1].assign(accuracy=7)]),
            "rows 1 and 10 are both op=conv 3 width=2, but accuracy is 0 and 7",
        ),
        (
            lambda f: pd.concat([f, f[:1].assign(works=False)]),
            "rows 1 and 10 are both op=conv 3 width=2, but only one of them is allowed",
        ),
    ],
)
def test_cells_that_do_not_fit(frame, change, message):
    with pytest.raises(ValueError, match=message):
        table_of(change(frame))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "no such file: .*gone.csv"),
        ("rows.txt", b"a,b\n", r"a table is a .csv or .parquet file, got 'rows.txt'"),
        ("rows", b"a,b\n", r"a table is a .csv or .parquet file, got 'rows'"),
        ("rows.csv", b"", "rows.csv is empty"),
        ("rows.csv", b"\n\n", "rows.csv is empty"),
        ("rows.csv", b"\xff\xfe\x00", "rows.csv is not a whole CSV file"),
        ("rows.csv", b'op,width\n"a,1\n', "rows.csv is not a whole CSV file"),
        ("rows.csv", b"op,width\na,1\na\n", "rows.csv, row 2: 2 columns, 1 cells"),
        ("rows.csv", b"op,width,op\na,1,1\n", "rows.csv: there are 2 columns called 'op'"),
        ("rows.parquet", b"PAR1", "rows.parquet is not a whole parquet file"),
    ],
)
def test_files_that_do_not_fit(tmp_path, name, content, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="parquet: pip install 'paretonas[parquet]'")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Table.read(tmp_path / name, CHOICES, ["x", "y"])


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(ValueError, match="no such file"):
        Table.read(tmp_path / "rows.csv", CHOICES, ["x", "y"])


def test_without_pyarrow_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'paretonas\[parquet\]'"):
        Table.read(tmp_path / "rows.parquet", CHOICES, ["x", "y"])


# --- real tables ---------------------------------------------------------------------------------

CELL = ("op_0_1", "op_0_2", "op_1_2", "op_0_3", "op_1_3", "op_2_3")


def test_nas_bench_201(shared_data):
    path = shared_data / "nb201.parquet"
    error, latency = "cifar10_valid_error_200ep", "latency_edgegpu_ms"
    table = Table.read(path, CELL, [error, latency], where="connected")
    assert table.complete and len(table.architectures) == 5**6 and table.allowed.sum() == 15284
    frame = pd.read_parquet(path)
    assert np.array_equal(table.costs, frame[[error, latency]].to_numpy())
    for row in (0, 777, 15624):
        assert dict(table.architectures[row]) == dict(frame.loc[row, list(CELL)])
    assert table.costs[:, 0].min() == pytest.approx(100 - 91.61, abs=0.005)  # as published
    functions = {table.structure.canonical(a) for a in table.architectures}
    assert len(functions) == frame.class_id.nunique()


def test_nasbench_macro(shared_data):
    layers = [f"layer_{number}" for number in range(1, 9)]
    table = Table.read(
        shared_data / "nasbench_macro.parquet", layers, ["test_error", "params", "flops"]
    )
    assert table.complete and table.structure is None
    assert all(choice.options == ("0", "1", "2") for choice in table.choices)
    assert (table.costs > 0).all()


def test_a_cost_is_spelled_as_a_pick_is_and_only_python_reads_1_000():
    frame = pd.DataFrame({"op": ["a", "b"], "x": ["1", " 2\u200b"], "y": ["1", "1000"]})
    assert Table.from_pandas(frame, ["op"], ["x", "y"]).costs.tolist() == [[1, 1], [2, 1000]]
    with pytest.raises(ValueError, match="1_000"):
        Table.from_pandas(frame.assign(y=["1", "1_000"]), ["op"], ["x", "y"])
