"""A target: the best metric at one cost, which is a limit that the search keeps near to."""

import itertools
import re

import pytest
import torch

from paretonas.cli import run as command
from paretonas.constraint import Constraint
from paretonas.gradient_search.plan import Plan
from paretonas.gradient_search.search import search
from paretonas.gradient_search.settings import Settings
from paretonas.gradient_search.target import LEAST, Target
from paretonas.relaxation import one_hot_picks, sizes_of
from paretonas.runs import Run
from paretonas.space import encode, every
from paretonas.training import Recipe

COLUMNS = ["error_percent", "latency_ms", "memory_kib"]
QUICK = Plan(60, 10, 6, Recipe(2, batch_size=20, learning_rate=0.03))


@pytest.mark.parametrize(
    "text", ["latency=2ms", "latency_ms = 2", " latency=2000us", "latency=.002s"]
)
def test_it_reads_names_and_units_as_a_constraint_does(text):
    target = Target.parse(text, COLUMNS, COLUMNS[:1])
    assert (target.column, target.value) == ("latency_ms", 2.0)
    assert target.constraint == Constraint.parse("latency<=2ms", COLUMNS)
    assert Target.parse(str(target), COLUMNS, COLUMNS[:1]) == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency<=2ms", "reads NAME=NUMBER[UNIT], as in latency=2ms; 'latency<=2ms' is a limit: "),
        ("latency>2ms", "is a limit: give it as a constraint"),
        ("latency==2ms", "a target reads NAME=NUMBER[UNIT], as in latency=2ms; got 'latency==2ms'"),
        ("latency:2ms", "a target reads NAME=NUMBER[UNIT], as in latency=2ms; got 'latency:2ms'"),
        ("latency=", "a target reads NAME=NUMBER[UNIT]"),
        ("latency=fast", "a target reads NAME=NUMBER[UNIT]"),
        ("latency=2ms,memory=9KiB", "one target, and further limits are constraints"),
        ("speed=2ms", "no objective is called 'speed'; there are error_percent, latency_ms"),
        ("latency=2KiB", "latency_ms is not measured in 'KiB'"),
        ("latency=0", "a target must be above 0, got latency_ms=0"),
        ("error=5%", "a target is a cost; error_percent is what is improved at that cost"),
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused_with_what_is_right(text, message, capsys):
    with pytest.raises(ValueError, match=re.escape(message)):
        Target.parse(text, COLUMNS, COLUMNS[:1])
    assert command(["search", "--space", "toy", "--target", text]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_another_limit_may_be_beside_it_but_not_below_it(space, costs):
    target = Target("latency_ms", 2.0)
    both = target.within(Constraint({"latency_ms": 3.0, "memory_kib": 9.0}))
    assert both == Constraint({"latency_ms": 2.0, "memory_kib": 9.0})
    with pytest.raises(ValueError, match="constraint latency_ms<=1 rules out the target latency_m"):
        search(space, objectives=costs, target="latency=2ms", constraint="latency<=1ms")
    with pytest.raises(TypeError, match="target must be a Target or a text"):
        search(space, objectives=costs, target=2)


def test_rays_share_their_weight_between_the_metric_and_the_target():
    found = Target("latency_ms", 2.0).rays(COLUMNS, 1, 9)
    assert len(found) == 9
    assert torch.allclose(found.sum(1), torch.ones(9))
    assert (found[:, 2] == LEAST).all() and (found > 0).all()
    assert len({tuple(ray) for ray in found.tolist()}) == 9


def test_less_than_nine_tenths_counts_as_nine_tenths(space, costs):
    latency = costs[0]
    (aimed, other) = Target("latency_ms", 0.5).aimed(costs)
    assert other is costs[1]
    for architecture in every(space.choices):
        exact = latency.exact(architecture)
        assert aimed.exact(architecture) == max(exact, 0.45)
        picks = torch.tensor([encode(space.choices, architecture)])
        p = one_hot_picks(picks, sizes_of(space.choices)).float()
        assert float(aimed.relaxed(p)) == pytest.approx(aimed.exact(architecture))


@pytest.fixture(scope="module")
def whole(space, costs, tmp_path_factory):
    run = Run.create(tmp_path_factory.mktemp("target") / "run", {}, device="cpu", seed=0)
    steps = list(search(space, objectives=costs, target="latency=500us", budget=QUICK, run=run))
    return steps, run


def test_the_front_meets_the_target_and_its_best_is_named(whole):
    steps, run = whole
    front = steps[-1].front
    assert len(front)
    assert all(point.objectives["latency_ms"] <= 0.5 for point in front)
    assert all(point.objectives["latency_ms"] <= 0.5 for point in run.evaluations())
    best = min(run.evaluations(), key=lambda point: point.objectives["error_percent"])
    assert (
        front.pick("latency<=500us").objectives["error_percent"] == best.objectives["error_percent"]
    )


@pytest.mark.deep
def test_a_search_with_a_target_resumes_to_the_same_front(whole, space, costs, tmp_path):
    given = {"objectives": costs, "target": "latency=500us", "budget": QUICK}
    for stop in (3, 9, len(whole[0]) - 3):
        run = Run.create(tmp_path / f"{stop}", {}, device="cpu", seed=0)
        steps = search(space, run=run, **given)
        list(itertools.islice(steps, stop))
        steps.close()
        *_, last = search(space, run=run, **given)
        assert [*last.front] == [*whole[0][-1].front]


def test_a_target_below_every_architecture_names_the_least(space, costs):
    with pytest.raises(ValueError, match="no architecture has latency_ms <= 0.1; the least is 0.2"):
        list(search(space, objectives=costs, target="latency=100us", budget=QUICK))


class Measured:
    """Known of trained networks alone."""

    def __init__(self, maximize):
        self.column, self.maximize = "gain_points", maximize

    def measure(self, network, example):
        raise AssertionError("it is refused before")


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("target", ["gain=2", Target("gain_points", 2.0)])
def test_what_is_only_measured_is_no_target(space, costs, tmp_path, maximize, target):
    with pytest.raises(ValueError, match="gain_points is only measured, on trained networks: give"):
        Settings.of(
            space, objectives=(*costs, Measured(maximize)), target=target, run=tmp_path / "run"
        )
    assert not [*tmp_path.iterdir()]


def test_the_command_refuses_it_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--minimize", "latency,training_memory", "--target", "training_memory=2KiB"]
    assert command(["search", "--space", "toy", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a target is a cost with a gradient; training_memory_kib is only measured" in line
    assert not [*tmp_path.iterdir()]
