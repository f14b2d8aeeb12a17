"""What a front promises: dominance, order, ids, picks, and files that come back exactly."""

import copy
import itertools
import json
import math
import pickle

import moocore
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretonas.front import Front, Point, merge
from paretonas.space import Architecture

NAMES = ["error_percent", "latency_ms", "memory_kib"]
FORMATS = [".json", ".csv", ".parquet"]


def point(number: int, *values: float, **more) -> Point:
    """A point whose architecture is told by a number."""
    names = NAMES if len(values) == 3 else NAMES[: len(values)]
    return Point({"op": f"conv{number}"}, dict(zip(names, values, strict=True)), **more)


def front_of(*vectors: tuple[float, ...]) -> Front:
    front = Front(NAMES[: len(vectors[0])])
    for number, vector in enumerate(vectors):
        front.add(point(number, *vector))
    return front


def vectors_of(front: Front) -> list[tuple[float, ...]]:
    return [tuple(p.objectives.values()) for p in front]


def content(front: Front) -> list[tuple]:
    """Everything a file has to bring back, with the types of the numbers."""
    return [
        (
            p.id,
            p.architecture,
            {k: (type(v), v) for k, v in p.objectives.items()},
            {k: (type(v), v) for k, v in p.reported.items()},
        )
        for p in front
    ]


def dominates(a, b) -> bool:
    """The definition, as a plain oracle."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


# Few different values, so that ties and dominated points are common.
coarse = st.integers(0, 5).map(float)
sets_of_vectors = st.integers(1, 3).flatmap(
    lambda m: st.lists(st.tuples(*[coarse] * m), min_size=1, max_size=14)
)
any_float = st.floats(allow_nan=False, allow_infinity=False)


class TestDominance:
    @given(sets_of_vectors)
    def test_no_point_dominates_another_and_none_is_lost(self, vectors):
        kept = vectors_of(front_of(*vectors))
        best = {v for v in vectors if not any(dominates(w, v) for w in vectors)}
        assert set(kept) == best
        assert len(kept) == len(best)

    @given(sets_of_vectors)
    def test_equals_the_filter_of_all_points_at_once(self, vectors):
        kept = vectors_of(front_of(*vectors))
        whole = moocore.filter_dominated(np.array(vectors), keep_weakly=False)
        assert kept == sorted(map(tuple, whole.tolist()))

    @given(sets_of_vectors, st.randoms())
    def test_the_order_of_adding_decides_only_ties(self, vectors, rng):
        shuffled = list(vectors)
        rng.shuffle(shuffled)
        assert vectors_of(front_of(*vectors)) == vectors_of(front_of(*shuffled))

    @given(st.lists(st.tuples(any_float, any_float), min_size=1, max_size=8))
    def test_any_finite_values_at_any_scale(self, vectors):
        best = {v for v in vectors if not any(dominates(w, v) for w in vectors)}
        assert set(vectors_of(front_of(*vectors))) == best

    def test_add_says_whether_the_point_entered(self):
        front = Front(NAMES[:2])
        assert front.add(point(0, 2.0, 2.0))
        assert not front.add(point(1, 3.0, 2.0))
        assert front.add(point(2, 1.0, 3.0))
        assert front.add(point(3, 1.0, 1.0))
        assert [p.architecture["op"] for p in front] == ["conv3"]

    def test_of_equal_points_the_first_stays(self):
        front = front_of((1.0, 2.0))
        assert not front.add(point(7, 1.0, 2.0))
        assert [p.architecture["op"] for p in front] == ["conv0"]

    def test_iterates_by_objectives_whatever_the_order_of_adding(self):
        front = front_of((2.0, 2.0, 9.0), (3.0, 1.0, 1.0), (1.0, 3.0, 1.0), (2.0, 1.0, 10.0))
        assert vectors_of(front) == sorted(vectors_of(front))
        assert len(front) == 4


class TestDuplicates:
    def test_the_same_measurement_again_changes_nothing(self):
        front = front_of((1.0, 2.0))
        assert not front.add(point(0, 1.0, 2.0, reported={"origin": "again"}))
        assert front["a01"].reported == {}

    def test_another_measurement_needs_replace(self):
        front = front_of((1.0, 2.0), (2.0, 1.0))
        with pytest.raises(ValueError, match=r"a01 \(op=conv0\) is on the front with.*replace\(\)"):
            front.add(point(0, 0.5, 2.0))
        assert vectors_of(front) == [(1.0, 2.0), (2.0, 1.0)]

    def test_replace_counts_the_new_measurement_and_keeps_the_id(self):
        front = front_of((1.0, 2.0), (2.0, 1.0))
        assert front.replace(point(0, 1.5, 2.5))
        assert front["a01"].objectives == {"error_percent": 1.5, "latency_ms": 2.5}
        assert front.replace(point(0, 0.5, 0.5, id="best"))
        assert [p.id for p in front] == ["best"]

    def test_replace_by_a_worse_measurement_takes_the_point_away(self):
        front = front_of((1.0, 2.0), (2.0, 1.0))
        assert not front.replace(point(0, 3.0, 3.0))
        assert vectors_of(front) == [(2.0, 1.0)]

    def test_replace_adds_what_is_new_and_changes_nothing_when_refused(self):
        front = front_of((1.0, 2.0))
        assert front.replace(point(1, 2.0, 1.0))
        with pytest.raises(ValueError, match="must be finite"):
            front.replace(point(0, math.nan, 2.0))
        assert vectors_of(front) == [(1.0, 2.0), (2.0, 1.0)]


class TestRefusals:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_values_that_are_not_finite_by_name(self, bad):
        front = front_of((1.0, 2.0))
        with pytest.raises(ValueError, match=r"latency_ms of point \(op=conv1\) must be finite"):
            front.add(point(1, 1.0, bad))
        assert len(front) == 1

    @pytest.mark.parametrize(
        ("stranger", "message"),
        [
            (point(1, 1.0), "not error_percent, latency_ms"),
            (point(1, 1.0, 2.0, 3.0), "not error_percent, latency_ms"),
            (
                Point({"op": "a"}, {"error_percent": 1.0, "energy_mj": 2.0}),
                "has the objectives error_percent, energy_mj",
            ),
            (
                Point({"width": "8"}, {"error_percent": 0.0, "latency_ms": 0.0}),
                "other choices than the front's op",
            ),
            (
                Point({"latency_ms": "x"}, {"error_percent": 1.0, "latency_ms": 1.0}),
                "two values called latency_ms",
            ),
        ],
    )
    def test_a_point_that_does_not_fit(self, stranger, message):
        front = front_of((1.0, 2.0))
        with pytest.raises(ValueError, match=message):
            front.add(stranger)
        assert len(front) == 1

    def test_an_id_that_is_taken(self):
        front = front_of((1.0, 2.0))
        with pytest.raises(ValueError, match=r"id of a01 \(op=conv5\) is taken by a01"):
            front.add(point(5, 2.0, 1.0, id="a01"))

    @pytest.mark.parametrize("name", ["knee", "fastest", "a/b", "..", "-x", "a b", "x<=2"])
    def test_an_id_that_is_no_name(self, name):
        with pytest.raises(ValueError, match="an id is made of letters"):
            Front(NAMES[:2]).add(point(1, 1.0, 1.0, id=name))

    @pytest.mark.parametrize("names", [[], ["a", "a"]])
    def test_a_front_without_objectives_or_with_one_twice(self, names):
        with pytest.raises(ValueError, match="at least one objective, each once"):
            Front(names)

    def test_one_string_for_the_objectives(self):
        with pytest.raises(TypeError, match="sequence of names"):
            Front("error_percent")

    def test_objectives_that_are_not_numbers(self):
        with pytest.raises(TypeError, match=r"error of point \(op=a\) must be a number, got '3'"):
            Point({"op": "a"}, {"error": "3"})

    @pytest.mark.parametrize("word", ["", "12", "1e5", "nan", " 7 "])
    def test_reported_words_that_a_csv_file_would_change(self, word):
        with pytest.raises(ValueError, match="must not be empty or read as a number"):
            Point({"op": "a"}, {"error": 1.0}, {"origin": word})

    def test_reported_values_of_other_kinds(self):
        with pytest.raises(ValueError, match=r"spread of point \(op=a\) must be finite, got nan"):
            Point({"op": "a"}, {"error": 1.0}, {"spread": math.nan})
        with pytest.raises(TypeError, match="must be a number or a word, got True"):
            Point({"op": "a"}, {"error": 1.0}, {"good": True})


class TestPoint:
    def test_is_read_only_and_apart_from_what_it_was_made_of(self):
        objectives = {"error": 1.0}
        made = Point({"op": "a"}, objectives)
        objectives["error"] = 2.0
        assert made.objectives == {"error": 1.0}
        for mapping in (made.objectives, made.reported, made.architecture):
            with pytest.raises(TypeError):
                mapping["error"] = 3.0

    def test_plain_numbers_whatever_came_in(self):
        made = Point({"op": "a"}, {"error": np.float32(0.5)}, {"parameters": np.int64(3)})
        assert type(made.objectives["error"]) is float
        assert type(made.reported["parameters"]) is int
        assert isinstance(made.architecture, Architecture)

    def test_copies_pickles_and_hashes(self):
        made = point(1, 1.0, 2.0, reported={"origin": "search"}, id="a01")
        for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert twin == made
            assert hash(twin) == hash(made)


def test_a_copy_of_a_front_is_its_own():
    front = front_of((2.0, 5.0), (5.0, 2.0))
    for twin in (copy.copy(front), copy.deepcopy(front), pickle.loads(pickle.dumps(front))):
        assert twin.add(point(9, 1.0, 1.0))
        assert (len(front), len(twin)) == (2, 1)


class TestIds:
    def test_count_up_in_the_order_of_adding_and_stay(self):
        front = front_of((2.0, 2.0), (5.0, 5.0), (3.0, 1.0), (1.0, 3.0))
        assert {p.id: p.architecture["op"] for p in front} == {
            "a01": "conv0",
            "a02": "conv2",
            "a03": "conv3",
        }
        front.add(point(9, 2.0, 1.5))
        assert "a01" not in front
        assert front["a04"].architecture["op"] == "conv9"

    def test_step_round_names_that_were_given(self):
        front = Front(NAMES[:2])
        front.add(point(0, 1.0, 3.0, id="a01"))
        front.add(point(1, 2.0, 2.0))
        assert [p.id for p in front] == ["a01", "a02"]

    def test_find_points_by_id_and_by_architecture(self):
        front = front_of((1.0, 2.0))
        assert front["a01"] is front[Architecture({"op": "conv0"})]
        assert Architecture({"op": "conv0"}) in front
        assert "a02" not in front
        assert 3 not in front
        with pytest.raises(KeyError):
            front["a02"]


class TestHypervolume:
    @given(st.lists(st.tuples(coarse, coarse), min_size=1, max_size=10))
    def test_equals_the_count_of_unit_squares_below_the_reference(self, vectors):
        squares = sum(
            any(x <= i and y <= j for x, y in vectors)
            for i, j in itertools.product(range(4), repeat=2)
        )
        assert front_of(*vectors).hypervolume([4.0, 4.0]) == pytest.approx(squares)

    def test_takes_the_reference_by_name_in_any_order(self):
        front = front_of((1.0, 2.0), (2.0, 1.0))
        named = front.hypervolume({"latency_ms": 3.0, "error_percent": 5.0})
        assert named == front.hypervolume([5.0, 3.0]) == 7.0

    def test_of_nothing_is_zero(self):
        assert Front(NAMES).hypervolume([1.0, 1.0, 1.0]) == 0.0
        assert front_of((5.0, 5.0)).hypervolume([4.0, 9.0]) == 0.0

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ([1.0], "a finite value for each of error_percent, latency_ms, got"),
            ([1.0, math.nan], "a finite value for each"),
            ({"error_percent": 1.0}, "needs error_percent, latency_ms, got error_percent"),
            ({"error_percent": 1.0, "x": 1.0}, "got error_percent, x"),
        ],
    )
    def test_refuses_another_reference(self, reference, message):
        with pytest.raises(ValueError, match=message):
            front_of((1.0, 2.0)).hypervolume(reference)


class TestKnee:
    def test_is_farthest_below_the_chord(self):
        vectors = [(0.0, 10.0), (1.0, 7.0), (2.0, 2.0), (6.0, 1.5), (10.0, 0.0)]
        start, end = np.array(vectors[0]), np.array(vectors[-1])
        # Independent of the code: distances to the line through the extremes, on scaled axes.
        chord = (end - start) / 10
        below = [
            chord[0] * (start[1] - v[1]) / 10 - chord[1] * (start[0] - v[0]) / 10 for v in vectors
        ]
        assert vectors_of(front_of(*vectors))[int(np.argmax(below))] == (2.0, 2.0)
        knee = front_of(*vectors).knee()
        assert tuple(knee.objectives.values()) == (2.0, 2.0)

    @given(st.lists(st.tuples(coarse, coarse, coarse), min_size=1, max_size=10))
    def test_does_not_depend_on_units(self, vectors):
        scaled = [(v[0] * 8, v[1] / 1024, v[2] * 2**20) for v in vectors]
        assert front_of(*vectors).knee().architecture == front_of(*scaled).knee().architecture

    def test_of_one_or_two_points(self):
        assert front_of((1.0, 2.0)).knee().id == "a01"
        assert front_of((3.0, 1.0), (1.0, 2.0)).knee().objectives["error_percent"] == 1.0

    def test_of_none(self):
        with pytest.raises(ValueError, match="the front is empty"):
            Front(NAMES).knee()


class TestPick:
    @pytest.fixture
    def front(self):
        return front_of((2.0, 3.0, 90.0), (3.0, 1.5, 80.0), (9.0, 1.0, 100.0), (20.0, 2.0, 10.0))

    @pytest.mark.parametrize(
        ("wish", "op"),
        [
            ("most-accurate", "conv0"),
            ("fastest", "conv2"),
            ("smallest", "conv3"),
            ("knee", "conv1"),
            ("a03", "conv2"),
            ("latency<=1.5ms", "conv1"),
            ("latency<=1200us", "conv2"),
            ("error_percent<=50", "conv2"),
            ("error<=3%", "conv1"),
            ("error<=50%,latency<=2.5ms,memory<=95KiB", "conv1"),
            ("latency<=2ms,memory<=40KiB", "conv3"),
        ],
    )
    def test_gives_what_is_asked_for(self, front, wish, op):
        assert front.pick(wish).architecture["op"] == op

    @pytest.mark.parametrize(
        ("wish", "message"),
        [
            ("latency<=0.5ms", "meets latency_ms<=0.5; the front offers latency_ms from 1 to 3$"),
            (
                "latency<=1ms,error<=3%",
                "latency_ms from 1 to 3, error_percent from 2 to 20",
            ),
            ("a77", "'a77'; there are knee, fastest, most-accurate, smallest, a01, a02, a03, a04"),
            ("energy<=1", "no objective is called 'energy'"),
            ("latency<1ms", "reads NAME<=NUMBER"),
        ],
    )
    def test_says_what_the_front_offers(self, front, wish, message):
        with pytest.raises(ValueError, match=message):
            front.pick(wish)

    def test_a_name_whose_objective_is_missing(self):
        with pytest.raises(
            ValueError, match="'smallest' needs one objective called memory or para"
        ):
            front_of((1.0, 2.0)).pick("smallest")

    def test_an_empty_front(self):
        with pytest.raises(ValueError, match="the front is empty"):
            Front(NAMES).pick("knee")

    def test_smallest_may_be_parameters(self):
        front = Front(["error", "parameters"])
        front.add(Point({"op": "a"}, {"error": 1.0, "parameters": 9}))
        front.add(Point({"op": "b"}, {"error": 2.0, "parameters": 5}))
        assert front.pick("smallest").architecture["op"] == "b"


# Picks that CSV has to quote, or that look like numbers.
picks = st.sampled_from(["8", "0.5", "1e3", "", "nan", 'a,"b"', "conv3", " x ", "ä\n"])
reported = st.dictionaries(
    st.sampled_from(["parameters", "origin", "test_error_percent"]),
    st.one_of(st.integers(-(2**60), 2**60), any_float, st.just("näh,'\"er")),
)


@st.composite
def fronts(draw):
    front = Front(NAMES)
    for _ in range(draw(st.integers(0, 5))):
        architecture = Architecture({"op one": draw(picks), "width": draw(picks)})
        values = {name: draw(any_float) for name in NAMES}
        if architecture not in front:
            front.add(Point(architecture, values, draw(reported)))
    return front


class TestFiles:
    @pytest.mark.parametrize("suffix", [".json", ".csv"])
    @settings(max_examples=50)
    @given(front=fronts())
    def test_bring_every_bit_back(self, tmp_path_factory, suffix, front):
        path = tmp_path_factory.mktemp("front") / f"front{suffix}"
        front.write(path)
        back = Front.read(path)
        assert back.objectives == front.objectives
        assert content(back) == content(front)

    def test_parquet_brings_every_bit_back(self, tmp_path):
        front = Front(NAMES)
        front.add(point(0, 0.1, 1 / 3, 5e-324, reported={"parameters": 2**60, "origin": "x"}))
        front.add(point(1, 1e308, -0.0, 0.0, reported={"parameters": 7}))
        front.write(tmp_path / "front.parquet")
        assert content(Front.read(tmp_path / "front.parquet")) == content(front)

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_hold_an_empty_front(self, tmp_path, suffix):
        Front(NAMES).write(tmp_path / f"front{suffix}")
        back = Front.read(tmp_path / f"front{suffix}")
        assert len(back) == 0
        assert back.objectives == tuple(NAMES)

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_keep_picks_by_name_so_options_may_be_reordered(self, tmp_path, suffix):
        from paretonas.space import Choice, decode, encode

        before = [Choice("op", ("conv3", "pool", "skip"))]
        after = [Choice("op", ("new", "skip", "conv3", "pool"))]
        front = Front(NAMES)
        front.add(Point(decode(before, [2]), dict.fromkeys(NAMES, 1.0)))
        front.write(tmp_path / f"front{suffix}")
        (read,) = Front.read(tmp_path / f"front{suffix}")
        assert encode(after, read.architecture) == (1,)
        assert read.architecture["op"] == "skip"

    def test_csv_has_the_columns_of_the_contract(self, tmp_path):
        front = Front(NAMES)
        front.add(
            Point(
                {"op": "conv3", "width": "8"},
                dict.fromkeys(NAMES, 1.5),
                {"test_error_percent": 2.0, "parameters": 99, "origin": "search"},
            )
        )
        front.write(tmp_path / "front.csv")
        assert (tmp_path / "front.csv").read_text().splitlines() == [
            "id,op,width,error_percent,latency_ms,memory_kib,test_error_percent,parameters,origin",
            "a01,conv3,8,1.5,1.5,1.5,2.0,99,search",
        ]

    def test_csv_of_other_objectives_needs_their_names(self, tmp_path):
        front = Front(["loss", "energy_mj"])
        front.add(Point({"op": "8"}, {"loss": 1.0, "energy_mj": 2.0}, {"origin": "x"}))
        path = tmp_path / "front.csv"
        front.write(path)
        with pytest.raises(ValueError, match=r"objectives=\[...\]\), from id, op, loss, energy_mj"):
            Front.read(path)
        assert content(Front.read(path, objectives=["loss", "energy_mj"])) == content(front)

    def test_csv_columns_in_any_order_where_all_are_named(self, tmp_path):
        path = tmp_path / "table.csv"
        path.write_text("loss,note,width,op\n1.0,good,8,conv\n")
        (read,) = Front.read(path, objectives=["loss"], choices=["op", "width"])
        assert read.architecture == {"op": "conv", "width": "8"}
        assert read.reported == {"note": "good"}
        assert read.id == "a01"

    def test_pandas_sees_the_same_table(self, tmp_path):
        front = front_of((1.0, 2.0, 3.0), (0.5, 9.0, 9.0))
        front.write(tmp_path / "front.csv")
        pd.testing.assert_frame_equal(front.to_pandas(), pd.read_csv(tmp_path / "front.csv"))
        assert list(Front(NAMES).to_pandas().columns) == ["id", *NAMES]

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_a_failed_write_leaves_the_old_file(self, tmp_path, suffix, monkeypatch):
        path = tmp_path / f"front{suffix}"
        front = front_of((1.0, 2.0, 3.0))
        front.write(path)
        before = path.read_bytes()

        def fail(*args):
            raise OSError("disk full")

        monkeypatch.setattr("os.replace", fail)
        with pytest.raises(OSError, match="disk full"):
            front_of((0.0, 0.0, 0.0)).write(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_parquet_refuses_a_column_of_words_and_numbers(self, tmp_path):
        front = Front(NAMES)
        front.add(point(0, 1.0, 2.0, 3.0, reported={"origin": "search"}))
        front.add(point(1, 2.0, 1.0, 3.0, reported={"origin": 7}))
        with pytest.raises(ValueError, match="words or numbers in 'origin', not both"):
            front.write(tmp_path / "front.parquet")
        assert not list(tmp_path.iterdir())

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match=r"cannot write .*front\.csv"):
            front_of((1.0,)).write(tmp_path / "file" / "front.csv")
        (tmp_path / "front.csv").mkdir()
        with pytest.raises(ValueError, match="it is a folder"):
            front_of((1.0,)).write(tmp_path / "front.csv")

    def test_another_suffix(self, tmp_path):
        for act in (front_of((1.0,)).write, Front.read):
            with pytest.raises(ValueError, match=r"kept as .json, .csv or .parquet, got 'f.xml'"):
                act(tmp_path / "f.xml")

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_a_missing_file(self, tmp_path, suffix):
        with pytest.raises(FileNotFoundError):
            Front.read(tmp_path / f"front{suffix}")


HEAD = "id,op,error_percent,latency_ms\n"


class TestMalformedFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "does not say which columns are objectives"),
            ("id,op,op,error_percent\n", "two columns of one name"),
            (HEAD + "a01,conv,1.0\n", "line 2: 4 columns, got 3 cells"),
            (HEAD + "a01,conv,1.0,\n", "point 1: no value for latency_ms"),
            (HEAD + "a01,conv,1.0,nan\n", "point 1: latency_ms of a01 .* must be finite, got nan"),
            (HEAD + "a01,conv,1.0,inf\n", "must be finite, got inf"),
            (HEAD + "a01,conv,1.0,fast\n", "latency_ms of a01 .* must be a number, got 'fast'"),
            (HEAD + "a01,a,1.0,2.0\na01,b,2.0,1.0\n", "point 2: the id of .* is taken"),
            (HEAD + "a01,a,1.0,2.0\na02,a,2.0,1.0\n", "point 2: .* is on the front with"),
            (HEAD + "a01,a,1.0,2.0\na02,b,1.0,3.0\n", "point 2: an earlier one is as good"),
            (HEAD + "a01,a,1.0,3.0\na02,b,1.0,2.0\n", "point 1: a later one is better"),
        ],
    )
    def test_csv(self, tmp_path, text, message):
        path = tmp_path / "front.csv"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Front.read(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c[: len(c) // 2], "is not a whole JSON file"),
            (lambda c: "[]", "needs lists of objectives, choices and points"),
            (lambda c: c.replace("1.0", "NaN"), "must be finite, got nan"),
            (lambda c: c.replace("1.0", "1e999"), "must be finite, got inf"),
            (lambda c: c.replace("1.0", "null"), "must be a number, got None"),
            (lambda c: c.replace('"conv0"', "3"), "pick for op must be an option's name, got 3"),
            (lambda c: c.replace('"op": "conv0",', ""), "point 1: no value for op"),
        ],
    )
    def test_json(self, tmp_path, change, message):
        path = tmp_path / "front.json"
        front_of((1.0, 2.0)).write(path)
        path.write_text(change(path.read_text()))
        with pytest.raises(ValueError, match=message):
            Front.read(path)

    def test_json_that_names_a_column_it_does_not_have(self, tmp_path):
        path = tmp_path / "front.json"
        front_of((1.0, 2.0)).write(path)
        with pytest.raises(ValueError, match="has no column 'energy'; it has id, op"):
            Front.read(path, objectives=["energy"])

    def test_parquet(self, tmp_path):
        (tmp_path / "front.parquet").write_bytes(b"PAR1 no")
        with pytest.raises(ValueError, match="is not a whole parquet file"):
            Front.read(tmp_path / "front.parquet")

    def test_json_is_plain_rows(self, tmp_path):
        front_of((1.0, 2.0)).write(tmp_path / "front.json")
        assert json.loads((tmp_path / "front.json").read_text()) == {
            "format": 1,
            "objectives": ["error_percent", "latency_ms"],
            "choices": ["op"],
            "points": [{"id": "a01", "op": "conv0", "error_percent": 1.0, "latency_ms": 2.0}],
        }


class TestMerge:
    @given(
        st.lists(st.tuples(coarse, coarse), min_size=1, max_size=8),
        st.lists(st.tuples(coarse, coarse), min_size=1, max_size=8),
    )
    def test_is_the_front_of_all_points(self, first, second):
        one, two = front_of(*first), Front(NAMES[:2])
        for number, vector in enumerate(second, start=100):
            two.add(point(number, *vector))
        merged = merge(one, two)
        assert vectors_of(merged) == vectors_of(front_of(*first, *second))
        assert len({p.id for p in merged}) == len(merged)

    def test_a_later_measurement_of_an_architecture_counts(self):
        one, two = front_of((1.0, 1.0)), front_of((2.0, 2.0))
        assert vectors_of(merge(one, two)) == [(2.0, 2.0)]
        assert vectors_of(one) == [(1.0, 1.0)]

    def test_needs_fronts_of_the_same_objectives(self):
        with pytest.raises(ValueError, match="at least one front"):
            merge()
        with pytest.raises(ValueError, match="not error_percent"):
            merge(front_of((1.0,)), front_of((1.0, 2.0)))
