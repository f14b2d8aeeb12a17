"""How objects look at a prompt and in a notebook: short, and never a tensor or an address."""

import numpy as np
import pandas as pd
import pytest
import torch

import paretonas
from paretonas import Budget, Constraint, Front, Point, Run, solvers
from paretonas.compare import compare
from paretonas.conflict import Recorder
from paretonas.evaluation import Evaluation
from paretonas.gradient_search import Step
from paretonas.multitask import TaskGradients
from paretonas.nn import NetworkSpace
from paretonas.noise import Measurements
from paretonas.objectives import Memory, Parameters, measured
from paretonas.problem import Problem
from paretonas.samplers import (
    Ledger,
    LocalSearch,
    Random,
    Ridge,
    Surgery,
    nsga2,
    tpe,
)
from paretonas.schedules import ConflictAwareLR
from paretonas.solvers import MGDA, EveryKSteps, Preconditioned, SmoothTchebycheff, Weighted
from paretonas.solvers.problem import GradientProblem
from search_spaces import toy

ROWS = [
    {"op": op, "width": width, "ms": width * (2 + i), "error": 9.0 - width - i}
    for i, op in enumerate(("conv", "<pool>", "skip"))
    for width in (1, 2)
]
TABLE = paretonas.Table.from_pandas(pd.DataFrame(ROWS), ["op", "width"], ["error", "ms"])
PROBLEM = Problem(TABLE)


def a_front() -> Front:
    front = Front(["error_percent", "latency_ms"])
    front.add(Point({"op": "conv3"}, {"latency_ms": 3.0, "error_percent": 2.0}))
    front.add(Point({"op": "<pool>"}, {"error_percent": 9.0, "latency_ms": 1.0}, {"size": 12}))
    front.add(Point({"op": "skip"}, {"error_percent": 5.0, "latency_ms": 2.0}, {"note": "new"}))
    return front


@pytest.fixture(scope="module")
def comparison():
    return compare(TABLE, methods=["random", "local"], budget=4, seeds=2)


# --- the representation --------------------------------------------------------------------------


def objects():
    supernet, data = toy.space.supernet(), toy.space.task()
    front = a_front()
    yield from (front, front[0], front[0].architecture, Budget(), Constraint({"latency_ms": 2.0}))
    yield from (toy.space, NetworkSpace("mine", lambda: None, toy.space.task), data, data.train)
    yield from (TABLE, *TABLE.objectives, PROBLEM, Ledger())
    yield compare(TABLE, methods="random", budget=2, seeds=1)
    yield from (Step("weights", 25, 600, front, 1.5), Memory.of(supernet, data.example))
    yield from (Parameters.of(supernet, data.example), *measured(lambda a: 1.0, ["joules"]))
    yield from (kind(PROBLEM) for kind in (Random, LocalSearch, Surgery, Ridge, nsga2, tpe))
    many = torch.ones(28, 3) / 3
    yield from (MGDA(), SmoothTchebycheff(many), Weighted(many, MGDA()), EveryKSteps(MGDA(), 4))
    yield Preconditioned(MGDA(), torch.ones(1000))
    layer = torch.nn.Linear(1000, 1000)
    yield from (Measurements(["error", "ms"]), Recorder(["left", "right"]), Recorder())
    yield from (TaskGradients(layer.parameters()), GradientProblem(torch.eye(1000)))
    yield from (ConflictAwareLR(torch.optim.SGD(layer.parameters())), Evaluation(TABLE.objectives))


def test_what_an_object_looks_like_is_one_short_line():
    for shown in objects():
        text = repr(shown)
        assert text.startswith(type(shown).__name__)
        assert len(text) <= 160, text
        for part in ("\n", " at 0x", "tensor(", "mappingproxy"):
            assert part not in text, text


def test_what_objects_look_like(tmp_path, comparison):
    run = Run.create(tmp_path / "run", {}, device="cpu", seed=0)
    looks = {
        a_front(): "Front(error_percent, latency_ms: 3 points)",
        a_front()[0]: "Point('a01', op=conv3: latency_ms=3, error_percent=2)",
        TABLE: "Table('table': error, ms of 6 of 6 architectures)",
        Random(PROBLEM): "Random(Problem('table': error, ms), 6 left)",
        nsga2(PROBLEM): "Pymoo(Problem('table': error, ms), NSGA2)",
        run: f"Run({str(tmp_path / 'run')!r})",
        comparison: "Comparison(random, local on 'table': 4 of 4 runs of 4 evaluations)",
        SmoothTchebycheff(torch.tensor([0.25, 0.75])): (
            "SmoothTchebycheff(preference=[0.25, 0.75])"
        ),
        Weighted(torch.ones(28, 3) / 3, MGDA()): "Weighted(preference=<(28, 3)>, inner=MGDA())",
    }
    assert [repr(shown) for shown in looks] == list(looks.values())


def test_a_solver_that_shows_itself_in_its_own_way_keeps_it():
    class Loud(solvers.MGDA):
        def __repr__(self):
            return "LOUD"

    class Louder(Loud):
        pass

    assert [repr(Loud()), repr(Louder())] == ["LOUD", "LOUD"]


def test_a_space_is_shown_without_building_its_network():
    def network():
        raise AssertionError

    assert "network" in repr(NetworkSpace("mine", network, network))


# --- a front as a sequence, a table and a picture ------------------------------------------------


def test_a_front_is_indexed_in_the_order_of_iteration():
    front = a_front()
    points = list(front)
    for place in (0, 1, 2, -1, -3, np.int64(1)):
        assert front[place] is points[place]
    assert front[1:] == points[1:] and front[::-1] == points[::-1] and front[7:] == []
    for place in (3, -4):
        with pytest.raises(IndexError, match=f"the front has 3 points, none at place {place}"):
            _ = front[place]
    with pytest.raises(KeyError):
        _ = front["a09"]


def test_pandas_is_told_where_the_names_of_columns_are():
    """It learns them from a dict alone, and would number the columns of anything else."""
    for make in (pd.DataFrame, np.asarray):
        with pytest.raises(TypeError, match=r"a front is no array, .* use front.to_pandas\(\)"):
            make(a_front())


def test_a_front_shows_itself_in_a_notebook_with_names_made_safe(comparison):
    html = a_front()._repr_html_()
    assert "&lt;pool&gt;" in html and "<pool>" not in html and "a03" in html
    assert "0 points" in Front(["ms"])._repr_html_()
    html = comparison._repr_html_()
    assert "random" in html and "median" in html
    (share,) = (
        row.value
        for row in comparison.summary
        if (row.method, row.measure, row.evaluations, row.statistic)
        == ("local", "hypervolume_fraction", 4, "median")
    )
    assert f"{share:.4f}" in html


def test_a_front_is_drawn_with_what_was_measured_beside_it():
    front = a_front()
    beaten = Point({"op": "conv5"}, {"error_percent": 6.0, "latency_ms": 4.0})
    gray, drawn = front.plot([*front, beaten]).data
    assert (gray.x, gray.y) == ((4.0,), (6.0,))
    assert (drawn.x, drawn.y) == ((3.0, 2.0, 1.0), (2.0, 5.0, 9.0))
    assert len(front.plot().data) == len(Front(["ms"]).plot().data) == 1
