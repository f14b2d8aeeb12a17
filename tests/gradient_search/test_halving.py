"""Finalists that the front cannot need are stopped early; everything else stays as it is."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paretonas.finalists import train_finalists
from paretonas.gradient_search import Plan, SuccessiveHalving, halving
from paretonas.gradient_search.clock import Pace
from paretonas.gradient_search.halving import Bar
from paretonas.gradient_search.search import search
from paretonas.gradient_search.settings import Settings
from paretonas.metric import Metric
from paretonas.nn import Linear, NetworkSpace, OneOf
from paretonas.point import Point, Stopped
from paretonas.runs import Run
from paretonas.space import every
from paretonas.surrogates.quality_model import Coordinate, QualityModel
from paretonas.tasks.task import sized
from paretonas.training import Recipe, evaluate, train

RECIPE = Recipe(epochs=5, batch_size=20, learning_rate=0.03)
EPOCH = 6  # steps


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_between_rungs_a_training_grows_by_the_factor(factor):
    for epochs in range(1, 120):
        rungs = SuccessiveHalving(factor).rungs(epochs)
        assert rungs == tuple(sorted(set(rungs)))
        assert rungs[:1] == ((1,) if epochs > 1 else ())
        for rung, following in itertools.pairwise([*rungs, epochs]):
            assert rung == math.ceil(following / factor)


@pytest.mark.parametrize("text", ["halving", "halving:2", "halving:10"])
def test_words_are_read_and_written_alike(text):
    assert str(SuccessiveHalving.parse(text)) == text


@pytest.mark.parametrize("text", ["", "half", "halving:", "halving:1", "halving:x", "halving:2.5"])
def test_other_words_are_refused(space, text):
    with pytest.raises(ValueError, match=r"halving:FACTOR, got|factor must be 2 or more, got 1"):
        Settings.of(space, early_stopping=text)


# --- training -------------------------------------------------------------------------------------


class Mixed(nn.Module):
    """Options with and without random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = Linear(2, 5), nn.BatchNorm1d(5)
        self.op = OneOf({"relu": nn.ReLU(), "drop": nn.Dropout(0.3), "tanh": nn.Tanh()})
        self.head = Linear(5, 3)

    def forward(self, x):
        return self.head(self.op(self.norm(self.stem(x))))


class Asked:
    """Stops some architectures at epoch 2, and remembers what it was asked."""

    def __init__(self, stopped=()):
        self.stopped, self.asked = set(stopped), {}

    def rungs(self, epochs):
        assert epochs == RECIPE.epochs
        return 1, 2, 4

    def __call__(self, architecture, epoch, scores):
        self.asked.setdefault(architecture, {})[epoch] = scores
        if epoch == 2 and architecture in self.stopped:
            return Stopped(architecture, "it may", 2, 5, {}, {})
        return None


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("inherit", [False, True])
def test_those_that_go_on_end_as_without_it(space, workers, inherit):
    mixed = NetworkSpace("mixed", Mixed, space.task, RECIPE)
    supernet, architectures = mixed.supernet(), list(every(mixed.choices))
    task = sized(space.load_task(), RECIPE.batch_size)

    def trained(stopping):
        return train_finalists(
            supernet,
            task,
            RECIPE,
            architectures,
            seed=3,
            workers=workers,
            inherit=inherit,
            stopping=stopping,
        )

    for stopped in (architectures[:1], architectures[1:2], []):
        asked = Asked(stopped)
        for whole, one in zip(trained(None), trained(asked), strict=True):
            if one.architecture in stopped:
                assert one == Stopped(one.architecture, "it may", 2, 5, {}, {})
                assert asked.asked[one.architecture].keys() == {1, 2}
                continue
            assert one.valid == whole.valid
            assert one.test == whole.test
            assert all(
                torch.equal(a, b)
                for a, b in zip(
                    one.network.state_dict().values(),
                    whole.network.state_dict().values(),
                    strict=True,
                )
            )
            assert not whole.rungs
            assert one.rungs == asked.asked[one.architecture]
            network = (
                supernet.extract(one.architecture)
                if inherit
                else supernet.fresh(one.architecture, seed=3)
            )
            begun = train(network, task, RECIPE, seed=3)
            for epoch in (1, 2, 3, 4):
                next(begun)
                if epoch in one.rungs:
                    assert one.rungs[epoch] == evaluate(network, task, "valid")


# --- the rule -------------------------------------------------------------------------------------

ERROR = Metric("error", unit="percent", best=0.0, resolution=0.5)
GAIN = Metric("gain", maximize=True)


def cost_rows(costs, architectures):
    return [[cost.exact(a) for cost in costs] for a in architectures]


def beats(one, other):
    pairs = list(zip(one, other, strict=True))
    return all(x <= y + 1e-12 for x, y in pairs) and any(x < y - 1e-12 for x, y in pairs)


@given(data=st.data())
def test_a_training_is_stopped_only_if_its_optimistic_end_is_dominated(space, costs, data):
    """Against a plain loop over the finalists, with two metrics in opposite directions."""
    numbers = data.draw(st.integers(0, 2**31))
    generator = np.random.default_rng(numbers)
    supernet = space.supernet()
    pool = list(dict.fromkeys(supernet.canonical(a) for a in every(space.choices)))
    generator.shuffle(pool)
    count = int(generator.integers(1, 9))
    finished, group = pool[:count], pool[count:]
    knowledge = QualityModel(supernet.choices, costs, [ERROR, GAIN])
    points = []
    for a in finished:
        at_end = {"error_percent": generator.uniform(1, 9), "gain": generator.uniform(0, 1)}
        rung = {
            "error_percent_at_epoch_2": at_end["error_percent"] * generator.uniform(0.9, 2),
            "gain_at_epoch_2": at_end["gain"] - generator.uniform(-0.1, 0.3),
        }
        points.append(Point(a, at_end, {**rung, "epochs": 6}))
    knowledge.scales = tuple(
        Coordinate(metric, [p.objectives[metric.column] for p in points])
        for metric in knowledge.metrics
    )
    short = [Point(p.architecture, p.objectives, {**p.reported, "epochs": 4}) for p in points]
    bar = Bar(SuccessiveHalving(), Recipe(6), knowledge, points, points, group)
    deaf = Bar(SuccessiveHalving(), Recipe(6), knowledge, short, points, group)
    free = Bar(SuccessiveHalving(), Recipe(6), knowledge, points, [], group)
    error = knowledge.scales[0]
    ratios = [
        error(p.reported["error_percent_at_epoch_2"]) - error(p.objectives["error_percent"])
        for p in points
    ]
    steps = [p.objectives["gain"] - p.reported["gain_at_epoch_2"] for p in points]
    table = dict(zip(pool, cost_rows(costs, pool), strict=True))

    def ends(point):
        return error(point.objectives["error_percent"]), -point.objectives["gain"]

    idle = [
        Point(
            p.architecture,
            p.objectives,
            {f"{k}_at_epoch_2": v for k, v in p.objectives.items()} | {"epochs": 6},
        )
        for p in points
    ]
    still = Bar(SuccessiveHalving(), Recipe(6), knowledge, idle, idle, finished)
    for p in idle:  # where nothing improves any more, a finalist is stopped for another one only
        hopes = [*ends(p), *table[p.architecture]]
        dominated = any(beats([*ends(q), *table[q.architecture]], hopes) for q in points)
        told = still(p.architecture, 2, dict(p.objectives))
        assert (told is not None) == (dominated and count >= halving.FEWEST)
    for a in group:
        scores = {"error_percent": generator.uniform(1, 20), "gain": generator.uniform(-0.5, 1)}
        told = bar(a, 2, scores)
        hopes = [
            error(scores["error_percent"]) - max(0, *ratios),
            -(scores["gain"] + max(0, *steps)),
            *table[a],
        ]
        dominated = any(beats([*ends(p), *table[p.architecture]], hopes) for p in points)
        assert (told is not None) == (dominated and count >= halving.FEWEST)
        assert deaf(a, 2, scores) is None  # nothing is known of trainings of six epochs
        assert bar(a, 1, scores) is None  # nor of this rung
        assert free(a, 2, scores) is None
        if told is not None:
            assert (told.epochs, told.planned, dict(told.scores)) == (2, 6, scores)
            expected = scores["gain"] + float(np.median(steps))
            assert told.expected["gain"] == pytest.approx(expected, abs=1e-6)


# --- in a search ----------------------------------------------------------------------------------

PLAN = Plan(200, 12, 8, RECIPE)


def searched(run, space, costs, **settings):
    given = {"budget": PLAN, "rays": 3, "early_stopping": "halving", **settings}
    return search(space, objectives=costs, run=run, **given)


@pytest.fixture(scope="module")
def easily():
    """Two whole trainings are enough, and no improvement is expected: most is stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halving, "FEWEST", 2)
        patch.setattr(
            halving.Bar, "_gains_after", lambda self, rung, finished: np.zeros((len(finished), 1))
        )
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, space, costs, easily):
    run = Run.create(tmp_path_factory.mktemp("runs") / "whole", {}, device="cpu", seed=0)
    return list(searched(run, space, costs)), run


def test_what_is_stopped_is_no_point_and_its_steps_pay_for_others(whole):
    steps, run = whole
    points, stopped = run.evaluations(), run.stopped()
    assert stopped
    assert not run.failures()
    assert len(points) + len(stopped) > PLAN.finalists
    met = [*(p.architecture for p in points), *(s.architecture for s in stopped)]
    assert len(set(met)) == len(met)
    assert not {s.architecture for s in stopped} & {p.architecture for p in run.front()}
    epochs = len(points) * RECIPE.epochs + sum(s.epochs for s in stopped)
    assert steps[-1].step == PLAN.supernet_steps + EPOCH * epochs
    assert PLAN.finalists * RECIPE.epochs - RECIPE.epochs < epochs
    assert epochs <= PLAN.finalists * RECIPE.epochs
    assert run.about["ledger"]["evaluations"] == len(points)
    assert run.about["ledger"]["stopped"] == len(stopped)
    assert f"{len(stopped)} of {len(met)} trainings were stopped early" in steps[-1].message
    assert any(str(stopped[0]) == step.message for step in steps)
    for point in points:
        assert {"error_percent_at_epoch_1", "error_percent_at_epoch_2"} <= {*point.reported}


def test_it_is_in_the_journal_as_not_finished(whole):
    _, run = whole
    lines = (run.folder / "evaluations.jsonl").read_text().splitlines()
    told = [entry for entry in map(json.loads, lines) if "stopped" in entry]
    for entry, stopped in zip(told, run.stopped(), strict=True):
        assert "objectives" not in entry
        assert "failure" not in entry
        assert entry["stopped"]["epochs"] == stopped.epochs < stopped.planned == RECIPE.epochs
        assert 0 <= stopped.scores["error_percent"] <= 100


def left_behind(run):
    """Everything but the machine's speed."""
    lines = (run.folder / "evaluations.jsonl").read_text().splitlines()
    journal = [
        {k: v for k, v in json.loads(line).items() if k not in ("seconds", "crc32")}
        for line in lines
    ]
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]
    return journal, history, list(run.front())


@pytest.mark.parametrize("each", [7, pytest.param(1, marks=pytest.mark.deep)])
def test_a_search_that_was_stopped_ends_with_the_same(tmp_path, whole, space, costs, each):
    """After each line of the journal, which may be in the midst of a group."""
    steps, run = whole
    stops = [i for i, step in enumerate(steps, start=1) if step.phase == "finalists"]
    for stop in stops[1::each]:
        again = Run.create(tmp_path / f"after-{stop}", {}, device="cpu", seed=0)
        begun = searched(again, space, costs)
        list(itertools.islice(begun, stop))
        begun.close()
        again = Run.open(again.folder)
        list(searched(again, space, costs, early_stopping=None))  # as it was begun
        assert left_behind(again) == left_behind(run), f"stopped after step {stop}"


def test_without_anything_to_stop_it_is_the_same_search(tmp_path, space, costs, monkeypatch):
    monkeypatch.setattr(halving, "FEWEST", 1000)
    runs = []
    small = Plan(30, 6, 4, Recipe(3, batch_size=20))
    for kind in ("none", "halving"):
        run = Run.create(tmp_path / kind, {}, device="cpu", seed=0)
        list(searched(run, space, costs, early_stopping=kind, budget=small))
        runs.append(run)
    points, same = ([(p.architecture, p.objectives) for p in r.evaluations()] for r in runs)
    assert points == same
    assert not any("epoch_" in name for p in runs[0].evaluations() for name in p.reported)
    assert "early_stopping" not in runs[0].about
    assert runs[1].about["early_stopping"] == "halving"


def test_with_longer_trainings_they_may_be_tried_again(tmp_path, space, costs, easily):
    """What they took stays paid; with as many epochs as before, what was stopped stays so."""
    run = Run.create(tmp_path / "run", {}, device="cpu", seed=0)
    plans = [
        Plan(60, 6, n, Recipe(epochs, batch_size=20)) for n, epochs in ((5, 3), (6, 3), (9, 6))
    ]
    for plan in plans:
        *_, last = searched(run, space, costs, budget=plan)
        of_plan = [o for o in run.stopped() if o.planned == plan.recipe.epochs]
        assert of_plan
        assert len({o.architecture for o in of_plan}) == len(of_plan)
        run = Run.open(run.folder)
    short, long = ({o.architecture for o in run.stopped() if o.planned == n} for n in (3, 6))
    trained = {p.architecture for p in run.evaluations() if p.reported["epochs"] == 6}
    assert short & (long | trained)
    took = [o.epochs if isinstance(o, Stopped) else o.reported["epochs"] for o in run.outcomes()]
    assert last.step == 60 + EPOCH * sum(took)


# --- what is asked for ----------------------------------------------------------------------------


def test_none_is_stopped_unless_it_is_said(tmp_path, space):
    def asked(**settings):
        return Settings.of(space, **settings).early_stopping

    assert asked() is None
    assert asked(early_stopping="none") is None
    assert asked(early_stopping="halving") == SuccessiveHalving(3)
    assert asked(early_stopping=SuccessiveHalving(2)) == SuccessiveHalving(2)
    with pytest.raises(TypeError, match="early_stopping must be a text or a SuccessiveHalving"):
        asked(early_stopping=True)
    with pytest.raises(ValueError, match="of a trainer of your own cannot be stopped early"):
        asked(early_stopping="halving", trainer=lambda *_, **__: [])
    run = Run.create(tmp_path / "run", {}, device="cpu", seed=0)
    run.save({})
    run.tell(early_stopping="halving:2", finalists="inherit")
    assert asked(run=run) == asked(run=run, early_stopping="halving:2") == SuccessiveHalving(2)
    with pytest.raises(ValueError, match="begun as 'halving:2', got 'none'"):
        asked(run=run, early_stopping="none")
    once = NetworkSpace("once", space.network, space.task, Recipe(fit=lambda *_: None))
    with pytest.raises(ValueError, match="a recipe with fit trains in one go"):
        Settings.of(once, early_stopping="halving")


@given(epochs=st.lists(st.integers(1, 9), min_size=1, max_size=12), workers=st.integers(1, 4))
def test_the_pace_of_a_batch_is_that_of_whole_trainings(epochs, workers):
    """Workers that take the next finalist when they are free, one second an epoch."""
    free = [0.0] * workers
    for each in epochs:
        free.sort()
        free[0] += each
    pace = Pace(workers, epochs=10, group=1.0)
    pace.see(2.0 * max(free), epochs)
    assert pace.group == pytest.approx(20.0)
