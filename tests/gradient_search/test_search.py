"""The whole search on a space that trains in milliseconds: repeatable, resumable, honest."""

import itertools
import json
import re
import shutil
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from paretonas._lines import DamagedLineWarning
from paretonas.constraint import Constraint
from paretonas.data import Data, Split
from paretonas.front import Front
from paretonas.gradient_search import Budget, Plan
from paretonas.gradient_search.search import search
from paretonas.names import find_solver
from paretonas.nn import Linear, NetworkSpace, OneOf, Width
from paretonas.objectives import Latency
from paretonas.point import Point
from paretonas.runs import Run
from paretonas.solvers import MGDA, LinearScalarization
from paretonas.solvers.named import solver_classes
from paretonas.space import Architecture, every
from paretonas.training import Recipe

RECIPE = Recipe(epochs=2, batch_size=20, learning_rate=0.03)
PLAN = Plan(supernet_steps=220, proxy_evaluations=14, finalists=7, recipe=RECIPE)
# The plan of most tests: the least of everything.
QUICK = Plan(supernet_steps=30, proxy_evaluations=6, finalists=2, recipe=Recipe(1, 20, 0.03))


@dataclass(frozen=True)
class Outcome:
    """What a search left behind."""

    steps: list
    run: Run

    @property
    def points(self) -> list[tuple]:
        """Everything about the front but the machine's speed."""
        return [
            (str(p.architecture), dict(p.objectives), dict(p.reported), p.id)
            for p in self.steps[-1].front
        ]

    @property
    def knowledge(self) -> dict:
        return self.checkpoint["knowledge"]

    @property
    def checkpoint(self) -> dict:
        """Read without `Run.resume`, which would shorten the history."""
        return torch.load(self.run.folder / "checkpoint.pt", weights_only=True)["state"]

    @property
    def history(self) -> list[dict]:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in self.run.history()]


def searched(folder, space, costs, **settings) -> Outcome:
    run = Run.create(folder, {}, device="cpu", seed=settings.get("seed", 0))
    given = {"budget": PLAN, "rays": 6, **settings}
    return Outcome(list(search(space, objectives=costs, run=run, **given)), run)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, space, costs) -> Outcome:
    """One search that ran to its end; the other tests compare with it."""
    return searched(tmp_path_factory.mktemp("runs") / "whole", space, costs)


# --- what comes out -------------------------------------------------------------------------------


def test_the_front_holds_what_was_measured(whole, space, costs, parameters):
    front = whole.steps[-1].front
    evaluations = {p.architecture: p for p in whole.run.evaluations()}
    assert len(evaluations) == PLAN.finalists
    assert 2 <= len(front) <= PLAN.finalists
    assert front.objectives == ("error_percent", "latency_ms", "memory_kib")
    expected = Front(front.objectives)
    for point in evaluations.values():
        expected.add(point)
    assert list(expected) == list(front)
    for point in front:
        assert point == evaluations[point.architecture]
        assert point.objectives["latency_ms"] == costs[0].exact(point.architecture)
        assert point.objectives["memory_kib"] == costs[1].exact(point.architecture)
        assert point.reported["parameters"] == parameters.exact(point.architecture)
        assert point.reported["origin"] == "search"
        assert 0 <= point.reported["test_error_percent"] <= 100


def test_saved_weights_are_those_that_were_scored(whole, space):
    data = space.task()
    for point in whole.steps[-1].front:
        network = whole.run.network(space, point)
        with torch.no_grad():
            for split, column in ((data.valid, "error_percent"), (data.test, "test_error_percent")):
                wrong = (network(split.inputs).argmax(dim=1) != split.labels).float().mean()
                values = {**point.objectives, **point.reported}
                assert values[column] == pytest.approx(100 * float(wrong))


def test_it_does_not_collapse_into_skips(whole, space):
    best = whole.steps[-1].front.pick("most-accurate")
    assert (best.architecture["op"], best.architecture["late"]) != ("skip", "0")
    cheapest = min(whole.run.evaluations(), key=lambda p: p.objectives["latency_ms"])
    assert best.objectives["error_percent"] < cheapest.objectives["error_percent"] - 5


def test_the_front_is_near_the_best_that_finalists_could_make(whole, space, costs, trainer):
    """Against every network of the space, trained the same way: the truth."""
    supernet, task = space.supernet(), space.load_task()
    supernet.load_state_dict(whole.run.weights("supernet"))
    networks = list(dict.fromkeys(map(supernet.canonical, every(supernet.choices))))
    truth = Front(whole.steps[-1].front.objectives)
    settings = {"seed": 0, "workers": 1, "inherit": True}
    for finalist in trainer(supernet, task, PLAN.recipe, networks, **settings):
        values = [finalist.valid["error_percent"], *(c.exact(finalist.architecture) for c in costs)]
        truth.add(Point(finalist.architecture, dict(zip(truth.objectives, values, strict=True))))
    reference = [70.0, *(max(c.exact(a) for a in networks) for c in costs)]
    reached = whole.steps[-1].front.hypervolume(reference) / truth.hypervolume(reference)
    assert reached <= 1 + 1e-9
    assert reached > 0.85  # of 20 networks, seven were trained


def test_steps_tell_what_happens(whole, space):
    steps = whole.steps
    phases = [key for key, _ in itertools.groupby(step.phase for step in steps)]
    assert phases == ["costs", "weights", "alpha", "finalists", "alpha", "finalists"] or (
        phases[:3] == ["costs", "weights", "alpha"] and phases[-1] == "finalists"
    )
    counted = [step.step for step in steps]
    assert counted == sorted(counted)
    epoch = -(-len(space.task().train) // PLAN.recipe.batch_size)
    total = PLAN.supernet_steps + PLAN.finalists * PLAN.recipe.epochs * epoch
    assert counted[-1] == steps[-1].steps == total
    assert {step.steps for step in steps if step.phase != "costs"} == {total}
    assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)
    driven = [step for step in steps if step.cosines]
    assert driven
    for step in driven:
        pairs = {"error_latency", "error_memory", "latency_memory"}
        assert set(step.cosines) == pairs
        assert all(-1.001 <= cosine <= 1.001 for cosine in step.cosines.values())
        shown = repr(step)
        for name, value in (*step.objectives.items(), ("stationarity gap", step.stationarity_gap)):
            told = re.search(rf"{name} (-?[\d.e+-]+)", shown)
            assert told and float(told[1].rstrip(".")) == pytest.approx(value, rel=0.05), shown
        assert step.stationarity_gap is not None
        assert 0 <= step.stationarity_gap <= 1.001
        assert set(step.objectives) - {"error_percent"} == {"latency_ms", "memory_kib"}
    # Before the first finalist the losses of the supernet are known, and no error.
    assert "error_percent" not in driven[0].objectives
    assert "error_percent" in driven[-1].objectives
    volumes = [step.hypervolume for step in steps if step.hypervolume is not None]
    assert len(volumes) >= PLAN.finalists
    assert volumes == sorted(volumes)
    assert 0 < volumes[-1] < 1
    assert "rank correlation" not in steps[-1].message  # no latency was timed


def test_alpha_steps_show_objectives_within_their_range(whole, costs, space):
    """The mean over rays of expected values lies between the least and the largest there are."""
    for step in whole.steps:
        if step.phase == "alpha" and step.objectives:
            for cost in costs:
                values = [cost.exact(a) for a in every(space.choices)]
                shown = step.objectives[cost.column]
                assert min(values) * 0.9 <= shown <= max(values) * 1.1


def test_the_history_has_the_columns_that_readers_expect(whole):
    rows = whole.run.history()
    header = (whole.run.folder / "history.csv").read_text().splitlines()[0].split(",")
    objectives = ["error_percent", "latency_ms", "memory_kib"]
    cosines = ["cosine_error_latency", "cosine_error_memory", "cosine_latency_memory"]
    assert header[:3] == ["step", "phase", "seconds"]
    assert [name for name in header if name in objectives] == objectives
    assert [name for name in header if name.startswith("cosine_")] == cosines
    assert {"stationarity_gap", "hypervolume"} <= set(header)
    assert {row["phase"] for row in rows} == {"weights", "alpha", "finalists"}
    judged = [row for row in rows if row["phase"] == "finalists" and "error_percent" in row]
    assert len(judged) == PLAN.finalists


def test_the_files_of_the_run_say_the_same(whole):
    front = whole.steps[-1].front
    assert list(whole.run.front()) == list(front)
    assert list(Front.read(whole.run.folder / "front.csv")) == list(front)
    assert whole.run.weights("supernet").keys() == whole.checkpoint["weights"]["supernet"].keys()


# --- repeatable -----------------------------------------------------------------------------------


def test_the_same_seed_repeats_to_the_last_bit(tmp_path, whole, space, costs):
    torch.manual_seed(99)  # what the global generator holds does not matter
    again = searched(tmp_path / "again", space, costs)
    assert again.points == whole.points
    assert again.history == whole.history
    assert again.knowledge["inherited"] == whole.knowledge["inherited"]
    assert again.knowledge["trained"] == whole.knowledge["trained"]
    for point in whole.run.evaluations():
        one, other = whole.run.weights(point.id), again.run.weights(point.id)
        assert all(torch.equal(one[name], other[name]) for name in one)
    one, other = (r.weights("supernet") for r in (whole.run, again.run))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_seed_trains_other_weights(tmp_path, whole, space, costs):
    other = searched(tmp_path / "other", space, costs, seed=1, budget=QUICK)
    assert other.knowledge["inherited"] != whole.knowledge["inherited"]


def test_with_a_given_latency_table_only_the_clock_varies(tmp_path, space, costs, latency_table):
    """Latencies are measured; nothing that the search decides depends on them."""
    given = (Latency(latency_table), costs[1])
    plan = Plan(QUICK.supernet_steps, 8, 3, QUICK.recipe)
    one, other = (searched(tmp_path / n, space, given, budget=plan) for n in ("one", "other"))
    assert one.knowledge["inherited"] == other.knowledge["inherited"]
    assert one.knowledge["trained"] == other.knowledge["trained"]
    first, second = (r.run.evaluations() for r in (one, other))
    assert [p.architecture for p in first] == [p.architecture for p in second]
    for a, b in zip(first, second, strict=True):
        assert a.objectives["error_percent"] == b.objectives["error_percent"]
        assert a.reported["test_error_percent"] == b.reported["test_error_percent"]
        assert a.reported["latency_table_ms"] == latency_table.total_at(a.architecture)
        assert a.objectives["latency_ms"] > 0
        assert a.reported["latency_spread_ms"] >= 0
    assert "rank correlation of table and measured latency" in one.steps[-1].message


# --- resumable ------------------------------------------------------------------------------------


def places(steps) -> list[int]:
    """Where to stop: in each phase, before and after a checkpoint, between two finalists."""
    where = {
        phase: [i for i, step in enumerate(steps, start=1) if step.phase == phase]
        for phase in ("costs", "weights", "alpha", "finalists")
    }
    alpha, fine = where["alpha"], where["finalists"]
    return [where["weights"][-1], alpha[len(alpha) // 3], *fine[:2], fine[-1]]


@pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.deep)])
def test_a_killed_search_ends_with_the_same_front(tmp_path, whole, space, costs, each):
    for stop in places(whole.steps)[::each]:
        folder = tmp_path / f"after-{stop}"
        run = Run.create(folder, {}, device="cpu", seed=0)
        steps = search(space, objectives=costs, run=run, budget=PLAN, rays=6)
        for _ in itertools.islice(steps, stop):
            pass
        steps.close()
        run = Run.open(folder)
        rest = Outcome(list(search(space, objectives=costs, run=run, budget=PLAN, rays=6)), run)
        where = f"stopped after step {stop}, {whole.steps[stop - 1].phase}"
        assert rest.points == whole.points, where
        assert rest.history == whole.history, where
        lines = (folder / "evaluations.jsonl").read_text().splitlines()
        architectures = [json.dumps(json.loads(line)["architecture"]) for line in lines]
        assert len(architectures) == len(set(architectures)) == PLAN.finalists, where
        assert list(run.front()) == list(whole.run.front()), where


def test_a_folder_is_begun_and_continued_by_the_same_call(whole, space, costs, tmp_path):
    """And again, after a second kill."""
    folder = tmp_path / "run"
    given = {"objectives": costs, "budget": PLAN, "rays": 6, "run": folder}
    with pytest.raises(ValueError, match="rays must be 1 or more"):
        search(space, **given | {"rays": 0})
    assert not folder.exists()
    for count in (12, 20):
        steps = search(space, **given)
        *_, step = itertools.islice(steps, count)
        assert (step.phase, Run.open(folder).evaluations()) == ("alpha", []) or count > 12
        steps.close()
    *_, last = search(space, **given)
    assert Outcome([last], Run.open(folder)).points == whole.points


def test_a_finished_search_has_nothing_left_to_do(whole, space, costs, tmp_path):
    shutil.copytree(whole.run.folder, tmp_path / "copy")
    run = Run.open(tmp_path / "copy")

    def refuse(*_, **__):
        raise AssertionError("nothing is left to train")

    again = list(search(space, objectives=costs, run=run, budget=PLAN, rays=6, trainer=refuse))
    assert Outcome(again, run).points == whole.points
    assert len(run.evaluations()) == PLAN.finalists


@pytest.mark.parametrize("lost", ["the last checkpoint", "each checkpoint"])
def test_what_was_measured_after_an_older_checkpoint_is_not_measured_again(
    whole, space, costs, tmp_path, lost
):
    """Each outcome counts in the batch that it belonged to, so that the end is the same."""
    shutil.copytree(whole.run.folder, tmp_path / "copy")
    run = Run.open(tmp_path / "copy")
    if lost == "each checkpoint":
        for path in run.folder.glob("checkpoint*.pt"):
            path.unlink()
        told = nullcontext()
    else:
        (run.folder / "checkpoint.pt").write_bytes(b"")
        told = pytest.warns(DamagedLineWarning, match="goes on from checkpoint.previous.pt")

    def refuse(*_, **__):
        raise AssertionError("nothing is left to train")

    with told:
        again = list(search(space, objectives=costs, run=run, budget=PLAN, rays=6, trainer=refuse))
    rest = Outcome(again, run)
    assert (rest.points, rest.history) == (whole.points, whole.history)
    assert run.evaluations() == whole.run.evaluations()


@pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.deep)])
def test_a_search_whose_pool_runs_dry_resumes_too(tmp_path, space, costs, each):
    """Fewer feasible architectures than proxy evaluations: none is tried in vain twice."""
    settings = {
        "objectives": costs,
        "constraint": Constraint({"latency_ms": 0.5}),
        "budget": Plan(60, 14, 20, QUICK.recipe),
        "rays": 3,
    }
    run = Run.create(tmp_path / "whole", {}, device="cpu", seed=0)
    whole = Outcome(list(search(space, run=run, **settings)), run)
    affordable = {
        space.supernet().canonical(a) for a in every(space.choices) if costs[0].exact(a) <= 0.5
    }
    assert {p.architecture for p in run.evaluations()} == affordable
    assert len(affordable) < 14
    for stop in places(whole.steps)[1:4:each]:
        run = Run.create(tmp_path / f"after-{stop}", {}, device="cpu", seed=0)
        steps = search(space, run=run, **settings)
        list(itertools.islice(steps, stop))
        steps.close()
        rest = Outcome(list(search(space, run=run, **settings)), run)
        assert rest.points == whole.points
        assert rest.history == whole.history


def test_measurements_that_the_search_would_not_choose_again_are_kept(tmp_path, space, costs):
    """A resumed search may decide otherwise, as on another machine; what was measured counts."""
    settings = {"objectives": costs, "budget": Plan(30, 6, 4, QUICK.recipe), "rays": 3}
    run = Run.create(tmp_path / "run", {}, device="cpu", seed=0)
    steps = search(space, run=run, **settings)
    for step in steps:
        if step.phase == "finalists":
            break
    steps.close()
    (first,) = run.evaluations()
    other = {"width": "8", "op": "relu", "op.options.deep": "1", "late": "1"}
    assert first.architecture != other
    odd = Point(Architecture(other), {**first.objectives, "error_percent": 0.5}, id="a02")
    run.record(odd)
    last = list(search(space, run=run, **settings))[-1]
    assert odd in list(last.front)
    ids = [p.id for p in run.evaluations()]
    assert ids == ["a01", "a02", "a03", "a04"]


def test_a_front_stays_when_the_search_is_stopped(space, costs):
    steps = search(space, objectives=costs, budget=QUICK, rays=3)
    last = next(step for step in steps if len(step.front))
    steps.close()
    assert all(point.objectives["error_percent"] < 100 for point in last.front)


# --- limits, and what is refused ------------------------------------------------------------------


def test_every_point_on_the_front_meets_the_constraint(tmp_path, space, costs):
    constraint = Constraint({"latency_ms": 0.8, "memory_kib": 0.5})
    plan = Plan(60, 10, 4, QUICK.recipe)
    outcome = searched(tmp_path / "run", space, costs, constraint=constraint, budget=plan)
    assert len(outcome.steps[-1].front)
    for point in outcome.run.evaluations():  # known by the tables: nothing else is even trained
        assert constraint.satisfied(point.objectives)
    for picks, _ in outcome.knowledge["inherited"]:
        names = zip(space.choices, picks, strict=True)
        architecture = Architecture({c.name: c.options[i] for c, i in names})
        assert all(cost.exact(architecture) <= constraint.limits[cost.column] for cost in costs)


def test_a_limit_that_one_architecture_meets_leaves_it_alone(tmp_path, space, costs):
    constraint = Constraint({"latency_ms": 0.21})
    outcome = searched(tmp_path / "run", space, costs, constraint=constraint, budget=QUICK)
    (point,) = outcome.steps[-1].front
    assert point.objectives["latency_ms"] == pytest.approx(0.2)
    shown = [s.objectives for s in outcome.steps if s.phase == "alpha" and s.objectives]
    assert shown
    for values in shown:  # what alpha expects, not what being beyond a limit adds to it
        assert 0.19 <= values["latency_ms"] <= 2.5


def test_a_limit_on_the_error_filters_the_front(tmp_path, space, costs):
    limit = 50.0
    settings = {
        "constraint": Constraint({"error_percent": limit}),
        "budget": Plan(60, 8, 4, RECIPE),
    }
    outcome = searched(tmp_path / "run", space, costs, **settings)
    errors = [p.objectives["error_percent"] for p in outcome.run.evaluations()]
    assert len(errors) == 4 and min(errors) <= limit < max(errors)
    front = outcome.steps[-1].front
    assert len(front) and all(p.objectives["error_percent"] <= limit for p in front)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"latency_ms": 0.1}, r"^no architecture has latency_ms <= 0.1; the least is 0\.2$"),
        ({"memory_kib": 1e-3}, "no architecture has memory_kib <= 0.001; the least is 0.0859"),
        ({"latency_ms": 0.0}, "no architecture has latency_ms <= 0; the least is 0.2"),
        ({"energy_mj": 1.0}, "energy_mj"),
    ],
)
def test_an_impossible_constraint_is_refused_before_anything_is_trained(
    space, costs, limits, message
):
    phases = []
    with pytest.raises(ValueError, match=message):
        for step in search(space, objectives=costs, constraint=Constraint(limits), budget=QUICK):
            phases.append(step.phase)
    assert "weights" not in phases


def test_a_budget_that_makes_no_step_possible_is_refused(space, costs):
    with pytest.raises(ValueError, match="the budget makes no search possible.*got 5$"):
        list(search(space, objectives=costs, budget=Budget(steps=5)))
    with pytest.raises(ValueError, match="a budget of 1e-06 s is too small: .*; give 5s or more$"):
        list(search(space, objectives=costs, budget=Budget(seconds=1e-6)))


def small_space(network, labels: int = 3) -> NetworkSpace:
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randn(12, 2, generator=generator), torch.arange(12) % labels)
    return NetworkSpace("small", network, lambda: Data(split, split, split), Recipe(1, 4))


class Misshapen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.op = OneOf({"narrow": nn.Linear(2, 3), "wide": nn.Linear(2, 4)})

    def forward(self, x):
        return self.op(x)


class Flat(nn.Module):
    """One output, where three classes need three."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 4)
        self.stem, self.head = Linear(2, self.width), Linear(self.width, 1)

    def forward(self, x):
        return self.head(self.stem(x))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Misshapen, r"must give one shape, got narrow \(2, 3\), wide \(2, 4\)"),
        (Flat, r"a score for each of 3 classes, got shape \(2, 1\)"),
        (lambda: nn.Linear(2, 3), "a search space needs a choice"),
    ],
)
def test_a_network_that_cannot_be_searched_is_refused_first(network, message):
    with pytest.raises(ValueError, match=message):
        next(search(small_space(network)))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"space": "toi"}, ValueError, "no space is called 'toi'; did you mean 'toy'"),
        ({"space": "my_file.py:space"}, ValueError, "there is no file"),
        ({"space": NetworkSpace}, TypeError, "what was given is the class NetworkSpace, no space"),
        ({"space": nn.Linear}, TypeError, "what was given is a network, no space: a space also"),
        ({"space": nn.Linear(1, 1)}, TypeError, "what was given is a network, no space: a space"),
        ({"solver": "mdga"}, ValueError, "no solver is called 'mdga'; did you mean 'MGDA'"),
        ({"solver": MGDA}, TypeError, r"solver must be an object, got a class: write MGDA\(\)"),
        ({"solver": 3}, TypeError, r"solver must be one such as MGDA\(\), or a name .* got 3"),
        ({"budget": "90"}, ValueError, "a budget reads 90s, 2m, 1h or 200steps; got '90'"),
        ({"budget": 90}, TypeError, "budget must be a Budget, a Plan, or a text .* got 90"),
        ({"constraint": "latency<2"}, ValueError, "a constraint reads NAME<=NUMBER"),
        ({"constraint": "energy<=2"}, ValueError, "no objective is called 'energy'; there are err"),
        ({"constraint": 3}, TypeError, "constraint must be a Constraint or a text .* got 3"),
        ({"objectives": Latency}, TypeError, "objectives must be a list, .* class Latency"),
        ({"rays": 0}, ValueError, "rays must be 1 or more, got 0"),
        ({"rays": "a"}, TypeError, "rays must be a whole number, got 'a'"),
        ({"threads": 0}, ValueError, "threads must be 1 or more, got 0"),
        ({"seed": -1}, ValueError, "seed must be 0 or more, got -1"),
        ({"trainer": 3}, TypeError, "trainer must be a function such as train_finalists, got 3"),
        ({"objectives": "latency,memroy"}, ValueError, "'memroy'; did you mean 'memory'"),
        ({"objectives": "nowhere.json"}, ValueError, "nowhere.json"),
        (
            {"run": 3},
            TypeError,
            "run must be a folder, or what Run.create or Run.open gives, got 3",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_before_anything_runs(
    space, costs, monkeypatch, given, kind, message
):
    monkeypatch.setattr(sys.modules[search.__module__], "_steps", None)
    with pytest.raises(kind, match=message) as refused:
        search(**{"space": space, "objectives": costs, **given})
    assert "\n" not in str(refused.value)


def test_words_are_understood_as_the_objects_that_they_stand_for(space, costs, tmp_path):
    """Of a budget in steps, all of it: the same points, bit for bit."""
    words = {"solver": "mgda", "constraint": "memory<=1000GB", "budget": "120steps"}
    objects = {
        "solver": MGDA(),
        "constraint": Constraint({"memory_kib": 1e12 / 1024}),
        "budget": Budget(steps=120),
    }
    in_words, as_objects = (
        searched(tmp_path / name, space, costs, **{"rays": 3, **given})
        for name, given in (("words", words), ("objects", objects))
    )
    assert in_words.points == as_objects.points


def test_an_unknown_device_is_refused(space, costs):
    with pytest.raises(ValueError, match="device must be auto, cpu or cuda"):
        next(search(space, objectives=costs, device="tpu"))


@pytest.mark.gpu
def test_it_runs_on_cuda(tmp_path, space, costs):
    outcome = searched(tmp_path / "run", space, costs, device="cuda", budget=QUICK)
    assert len(outcome.steps[-1].front)


# --- parts that can be exchanged ------------------------------------------------------------------


BY_DAY = {"EPO", "GradDrop", "GradNorm", "NashMTL", "SmoothTchebycheff"}  # of each kind one
SOLVER_NAMES = sorted(solver_classes())


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in BY_DAY else pytest.mark.deep) for n in SOLVER_NAMES],
)
def test_every_solver_that_has_a_name_can_search_and_the_seed_rules_it(space, costs, name):
    """Also those that draw numbers of their own."""

    def course():
        steps = list(
            search(space, objectives=costs, solver=find_solver(name), budget=QUICK, rays=3, seed=2)
        )
        assert len(steps[-1].front)
        return [(step.phase, dict(step.objectives)) for step in steps]

    torch.manual_seed(1)
    one = course()
    assert [phase for phase, objectives in one if phase == "alpha" and objectives]
    torch.manual_seed(2)
    assert course() == one


def test_a_preference_of_ones_own_is_kept(space, costs):
    solver = LinearScalarization(torch.tensor([0.98, 0.01, 0.01]))
    steps = list(search(space, objectives=costs, solver=solver, budget=QUICK, rays=3))
    assert len(steps[-1].front)


@pytest.mark.parametrize("count", [0, 1])
def test_one_cost_or_none_beside_the_error_is_enough(space, costs, count):
    steps = list(search(space, objectives=costs[:count], budget=QUICK, rays=4))
    assert len(steps[-1].front.objectives) == 1 + count
    assert len(steps[-1].front)


def test_the_number_of_parameters_can_be_an_objective(space, costs, parameters):
    steps = list(search(space, objectives=(parameters, costs[1]), budget=QUICK, rays=3))
    for point in steps[-1].front:
        assert point.objectives["parameters"] == parameters.exact(point.architecture)


def test_the_trainer_can_be_exchanged(space, costs, trainer):
    calls = []

    def counting(supernet, data, recipe, architectures, *, seed, workers):
        calls.append(list(architectures))
        return trainer(supernet, data, recipe, architectures, seed=seed, workers=workers)

    list(search(space, objectives=costs, budget=QUICK, rays=3, trainer=counting))
    asked = [architecture for call in calls for architecture in call]
    assert len(asked) == len(set(asked)) == QUICK.finalists


def test_the_number_of_threads_is_put_back(space, costs):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for count in (1, 8):  # in the tables, and in the weights
            steps = search(space, objectives=costs, budget=QUICK, rays=3)
            list(itertools.islice(steps, count))
            steps.close()
            assert torch.get_num_threads() == 3
        list(search(space, objectives=costs, budget=QUICK, rays=3))
        assert torch.get_num_threads() == 3
        with pytest.raises(ValueError, match="budget"):
            list(search(space, objectives=costs, budget=Budget(steps=1)))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_budget_in_seconds_is_kept_roughly_and_gives_a_front(space, costs):
    steps = list(search(space, objectives=costs, budget=Budget(seconds=3.0), rays=3))
    assert len(steps[-1].front)
    assert steps[-1].seconds < 9.0  # on a busy machine


def test_the_supernet_loss_falls_and_nothing_is_left_of_the_trials(space, costs):
    """The clock of a budget in seconds trains another supernet than the one that is searched."""
    state = torch.get_rng_state()
    next(search(space, objectives=costs, budget=Budget(seconds=3.0), rays=3))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_goes_on_with_its_own_space_only(space, costs, tmp_path):
    """Also where nothing was measured yet, and where the choices are the same."""
    run = Run.create(tmp_path / "run", {}, "cpu", 0)
    next(search(space, objectives=costs, budget=QUICK, run=run))
    others = {
        "'tiny', not of 'other'": replace(space, name="other"),
        "'tiny', but with other choices": NetworkSpace("tiny", Picky, space.task),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=f"run is a run on the space {message}"):
            next(search(other, objectives=costs, budget=QUICK, run=Run.open(run.folder)))
    *_, last = search(space, objectives=costs, budget=QUICK, run=Run.open(run.folder))
    assert len(last.front)


class Picky(nn.Module):
    def __init__(self):
        super().__init__()
        self.op, self.head = OneOf({"a": nn.ReLU(), "b": nn.Tanh()}), nn.Linear(2, 3)

    def forward(self, x):
        return self.head(self.op(x))
