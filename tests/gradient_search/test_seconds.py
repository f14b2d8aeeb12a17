"""A budget in seconds, on a clock that only the search's own work moves."""

import importlib
import math
import time
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from paretonas.finalists import Finalist
from paretonas.gradient_search.clock import CLOSING, Clock
from paretonas.gradient_search.search import search
from paretonas.gradient_search.tables import followed
from paretonas.nn import NetworkSpace, OneOf
from paretonas.objectives import Parameters
from paretonas.objectives.table_objective import TableObjective
from paretonas.runs import Run
from paretonas.training import Recipe, Updates

from .conftest import rings

clock, model, results, settings, weights = (
    importlib.import_module(f"paretonas.gradient_search.{name}")
    for name in ("clock", "model", "results", "settings", "weights")
)
WORKERS = 2


class Net(nn.Module):
    """So many architectures, 4096, that no search runs out of them."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(2, 4), nn.Linear(4, 3)
        self.layers = nn.ModuleList(
            OneOf(
                {
                    "a": nn.Linear(4, 4),
                    "b": nn.Linear(4, 4, bias=False),
                    "c": nn.ReLU(),
                    "d": nn.Tanh(),
                }
            )
            for _ in range(6)
        )

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


@dataclass
class Machine:
    """What each part of a search takes on it, in seconds, and the time that is gone."""

    step: float = 0.03  # of the supernet
    later: float = 1.0  # how many times as long its steps take after the first hundred
    score: float = 0.05
    alpha: float = 0.5
    drift: float = 1.0  # how many times as long as expected a step of a finalist takes
    together: float = 0.0
    time: float = 0.0
    steps: int = 0
    trained: list = field(default_factory=list)

    def differentiate(self, *_):
        self.steps += 1
        self.time += self.step * (self.later if self.steps > 100 else 1)
        return torch.tensor(1.0)

    def inherited_scores(self, supernet, task, architecture):
        self.time += self.score
        return {"loss": 1 + len(set(architecture.values())) / 10}

    def train(self, supernet, task, recipe, architectures, *, seed, workers):
        groups = math.ceil(len(architectures) / workers)
        self.time += groups * recipe.epochs * 6 * self.step * self.drift
        self.trained += [(architecture, recipe.epochs) for architecture in architectures]
        scores = {"loss": 1.0, "error_percent": 30.0}
        return [Finalist(a, supernet.extract(a), scores, scores) for a in architectures]


@pytest.fixture(scope="module")
def wide() -> NetworkSpace:
    data = rings()
    return NetworkSpace("wide", Net, lambda: data, Recipe(8, batch_size=20, learning_rate=0.03))


@pytest.fixture
def on(monkeypatch, wide):
    """Search on a machine."""
    example = wide.load_task().example()
    costs = (Parameters.of(wide.supernet(), example),)
    real = model.optimize_alpha

    def go(machine, budget, run=None, costs=costs, **more):
        def optimize_alpha(*args, **kwargs):
            machine.time += machine.alpha
            return real(*args, **{**kwargs, "steps": 4})

        monkeypatch.setattr(clock, "now", lambda: machine.time)
        monkeypatch.setattr(settings, "cores", lambda: WORKERS)
        monkeypatch.setattr(Updates, "differentiate", lambda _, batch: machine.differentiate())
        monkeypatch.setattr(model, "inherited_scores", machine.inherited_scores)
        monkeypatch.setattr(model, "optimize_alpha", optimize_alpha)
        given = {"objectives": costs, "budget": budget, "rays": 3, "trainer": machine.train}
        return search(wide, run=run, **given, **more)

    return go


@pytest.mark.parametrize(
    "machine",
    [
        Machine(),
        Machine(step=0.2, score=0.5, alpha=1.0),
        Machine(later=3.0),
        Machine(drift=1.7),
        Machine(score=3.0),  # a large validation split
    ],
)
def test_a_search_ends_when_its_seconds_are_over(on, machine):
    """Not later; and not earlier than a group of finalists could be trained for an epoch more."""
    *_, last = on(machine, "30s")
    epoch = 6 * machine.step * machine.drift
    assert last.seconds == machine.time <= 30
    assert machine.time >= 30 - CLOSING - 2 * (machine.alpha + epoch)
    assert len(last.front)
    assert last.step == last.steps


def test_only_the_last_finalists_are_trained_for_fewer_epochs_and_say_so(on, tmp_path):
    machine, run = Machine(), Run.create(tmp_path / "run", {}, "cpu", 0)
    *_, last = on(machine, "30s", run)
    epochs = [epochs for _, epochs in machine.trained]
    assert set(epochs[:-WORKERS]) == {8}
    told = {point.architecture: point.reported["epochs"] for point in run.evaluations()}
    assert told == dict(machine.trained)
    assert "instead of" not in last.message


def test_a_small_budget_says_what_would_train_the_finalists_fully(on):
    """And it is true."""
    *_, last = on(Machine(step=0.05, alpha=0.2), "6s")
    told = last.message.partition("the finalists were trained for ")[2]
    assert "instead of 8; --budget " in told
    budget = told.partition("--budget ")[2].split()[0]
    machine = Machine(step=0.05, alpha=0.2)
    *_, last = on(machine, budget)
    assert "instead of" not in last.message
    assert max(epochs for _, epochs in machine.trained) == 8


@dataclass(frozen=True)
class Timed(TableObjective):
    """A table of parameters; a network takes twice as long, and measuring moves the clock."""

    name: str = "latency"
    unit: str = "ms"
    machine: Machine = None
    loading: float = 0.0  # seconds for each network
    noisy = True

    def measure(self, network, example):
        return 2.0 * sum(p.numel() for p in network.parameters())

    def measure_all(self, networks, example, *, seconds):
        self.machine.together += seconds
        self.machine.time += seconds + self.loading * len(networks)
        return [{"latency_ms": self.measure(network, example)} for network in networks]


@pytest.mark.parametrize("budget", ["9s", "30s", pytest.param("100s", marks=pytest.mark.deep)])
def test_a_limit_on_what_is_measured_costs_no_more_than_the_budget(
    on, wide, tmp_path, monkeypatch, budget
):
    """All are measured together twice: before the last ones are chosen, and at the end."""
    monkeypatch.setattr(results, "TOGETHER", 0.5)  # it is less in other tests
    machine, seconds = Machine(), float(budget[:-1])
    table = Parameters.of(wide.supernet(), wide.load_task().example()).table
    run, latency = Run.create(tmp_path / "run", {}, "cpu", 0), Timed(table, machine=machine)
    *_, last = on(machine, budget, run, (latency,), constraint="latency<=150ms")
    closing = min(CLOSING, seconds / 12)
    assert machine.together == pytest.approx(closing)
    assert seconds - 2 * closing - 2 < machine.time <= seconds
    assert len(run.evaluations()) >= 2 * WORKERS
    assert len(last.front)


@pytest.mark.parametrize("loading", [0.1, 0.6])
@pytest.mark.parametrize("limit", [{}, {"constraint": "latency<=150ms"}])
def test_networks_that_take_long_to_load_are_measured_within_the_budget(on, wide, loading, limit):
    machine = Machine()
    table = Parameters.of(wide.supernet(), wide.load_task().example()).table
    latency = Timed(table, machine=machine, loading=loading)
    *_, last = on(machine, "30s", costs=(latency,), **limit)
    assert 30 - 2 * CLOSING - 2 < machine.time <= 30
    assert {p.objectives["latency_ms"] for p in last.front} == {
        latency.measure(wide.supernet().extract(p.architecture), None) for p in last.front
    }


def test_a_budget_that_is_too_small_is_answered_in_seconds(on):
    with pytest.raises(ValueError, match="^a budget of 1 s is too small: .* give (.*) or more$"):
        list(on(Machine(step=0.1), "1s"))
    with pytest.raises(ValueError) as refused:
        list(on(Machine(step=0.1), "1s"))
    enough = str(refused.value).split("give ")[1].split()[0]
    *_, last = on(Machine(step=0.1), enough)
    assert len(last.front)


def test_a_resumed_search_has_the_seconds_that_were_left(on, tmp_path):
    """The pause between does not count, nor is anything measured once more."""
    machine, run = Machine(), Run.create(tmp_path / "run", {}, "cpu", 0)
    for step in on(machine, "30s", run):
        if step.phase == "finalists":
            break
    machine.time += 1000
    *_, last = on(machine, "30s", Run.open(run.folder))
    assert 30 - 2 * CLOSING - 2 <= last.seconds <= 31
    measured = [point.architecture for point in run.evaluations()]
    assert len(set(measured)) == len(measured) > 5
    trained = len(machine.trained)
    *_, again = on(machine, "30s", Run.open(run.folder))
    assert len(machine.trained) == trained
    assert [*again.front] == [*last.front]


def test_slow_steps_of_the_supernet_are_saved_by_the_clock(on, tmp_path):
    machine, run = Machine(step=1.0), Run.create(tmp_path / "run", {}, "cpu", 0)
    for step in on(machine, "600s", run):
        if step.phase == "weights" and machine.steps > 60:
            break
    again = machine.steps
    for step in on(machine, "600s", Run.open(run.folder)):
        if step.phase == "weights":
            break
    assert machine.steps - again <= 25
    assert step.step >= 75


def test_a_search_goes_on_with_more_seconds(on, tmp_path):
    machine, run = Machine(), Run.create(tmp_path / "run", {}, "cpu", 0)
    list(on(machine, "20s", run))
    steps, trained = machine.steps, len(machine.trained)
    *_, last = on(machine, "40s", Run.open(run.folder))
    assert 34 <= last.seconds <= 40
    assert machine.steps > 1.3 * steps
    assert len(machine.trained) > 1.3 * trained
    assert last.step == last.steps
    with pytest.raises(ValueError, match="the budget of .*run can only grow: 40 seconds before"):
        next(on(machine, "30s", Run.open(run.folder)))
    assert [b["seconds"] for b in Run.open(run.folder).about["budgets"]] == [20, 40]


# --- tables ---------------------------------------------------------------------------------------


@pytest.fixture
def slowly(monkeypatch):
    """Twenty rounds of a second each, after twenty architectures."""
    gone = [0.0]
    monkeypatch.setattr(clock, "now", lambda: gone[0])

    def work(report):
        for total in (0, 20):
            for number in range(1, 21):
                gone[0] += 1
                report(number, total)
                time.sleep(0.02)
        return "table"

    return work


def test_tables_tell_how_far_they_are_and_come_out(slowly):
    told = []
    following = followed(slowly, Clock(60.0), told.append)
    with pytest.raises(StopIteration) as ended:
        while True:
            next(following)
    assert ended.value.value == "table"
    assert told[0].startswith("tables: ") and told[0].endswith(" architectures seen")
    assert told[-1].startswith("tables: ") and told[-1].endswith("%")


def test_tables_that_would_eat_the_budget_are_refused_before_they_are_done(slowly):
    seconds = Clock(30.0)
    with pytest.raises(ValueError, match="a budget of 30 s is too small: the tables alone take 40"):
        list(followed(slowly, seconds, str))
    assert seconds.gone() < 35


def test_what_goes_wrong_with_tables_is_told_as_it_is():
    def broken(report):
        raise ZeroDivisionError("no table")

    with pytest.raises(ZeroDivisionError, match="no table"):
        list(followed(broken, Clock(), str))
