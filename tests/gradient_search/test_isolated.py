"""Finalists in processes of their own: the same results, and a fault costs that finalist alone."""

import ctypes
import faulthandler
import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from torch import nn

from paretonas.gradient_search import Plan, results
from paretonas.gradient_search.search import search
from paretonas.nn import NetworkSpace
from paretonas.point import Lost
from paretonas.runs import Run
from paretonas.training import Recipe

from .conftest import Tiny, rings

pytestmark = [
    pytest.mark.usefixtures("quick_processes"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]
PLAN = Plan(supernet_steps=30, proxy_evaluations=6, finalists=7, recipe=Recipe(2, 20, 0.03))


class Drops(Tiny):
    """Draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        return super().forward(self.drop(x))


SPACE = NetworkSpace("tiny", Drops, rings, Recipe(2, batch_size=20, learning_rate=0.03))


@dataclass(frozen=True)
class Ends:
    """Ends the processes that measure some networks, each in another way."""

    main: int
    room: Path
    faults: dict  # by the network, as text
    seen: list = field(default_factory=list)
    column: str = "size"

    def measure(self, network, example):
        self.seen.append(repr(network))
        if os.getpid() != self.main:
            match self.faults.get(repr(network)):
                case "raises":
                    raise OSError("no luck")
                case "exits":
                    os._exit(5)
                case "crashes":
                    faulthandler.disable()
                    ctypes.string_at(0)
                case "hangs":
                    time.sleep(60)
                case "dies once" if not (self.room / "once").exists():
                    (self.room / "once").touch()
                    os._exit(1)
        return float(sum(p.numel() for p in network.parameters()))


def searched(folder, costs, *objectives, **settings):
    run = Run.create(folder, {}, device="cpu", seed=0)
    given = {"budget": PLAN, "rays": 3, "objectives": (*costs, *objectives), **settings}
    return list(search(SPACE, run=run, **given)), run


def left_by(run):
    """All that a run holds, apart from times."""
    weights = {p.name: p.read_bytes() for p in (run.folder / "weights").iterdir()}
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]
    return run.outcomes(), list(run.front()), weights, history


@pytest.fixture(scope="module")
def plain(tmp_path_factory, costs):
    """Without processes, with an objective that ends none of them."""
    room = tmp_path_factory.mktemp("plain")
    ends = Ends(os.getpid(), room, {})
    return searched(room / "run", costs, ends)[1], ends.seen


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_change_no_result(plain, tmp_path, costs, workers):
    _, run = searched(tmp_path / "run", costs, Ends(os.getpid(), tmp_path, {}), workers=workers)
    assert left_by(run) == left_by(plain[0])


def test_nor_do_they_with_fresh_weights_and_early_stopping(tmp_path, costs):
    settings = {"finalists": "fresh", "budget": replace(PLAN, supernet_steps=20)}
    _, one = searched(tmp_path / "one", costs, **settings)
    _, other = searched(tmp_path / "other", costs, **settings, workers=2)
    assert left_by(one) == left_by(other)


def test_each_fault_costs_its_finalist_and_the_search_goes_on(plain, tmp_path, costs, monkeypatch):
    whole, networks = plain
    assert len({*networks}) == PLAN.finalists
    kinds = ["dies once", "raises", "exits", "crashes", "hangs"]
    faults = dict(zip(networks, kinds, strict=False))
    blamed = []
    monkeypatch.setattr(results, "untrained_fault", lambda *a, **k: blamed.append(a[2]) or [])
    ends = Ends(os.getpid(), tmp_path, faults)
    settings = {"workers": 2, "evaluation_timeout": 2}
    steps, run = searched(tmp_path / "run", costs, ends, **settings)
    reasons = {type(f) is Lost: [] for f in run.failures()}
    for failure in run.failures():
        reasons[type(failure) is Lost].append(failure.reason)
    assert reasons == {
        False: ["OSError: no luck"],
        True: [
            "its process ended with exit code 5, twice",
            "its process was ended by SIGSEGV, twice",
            "it took longer than 2 s",
        ],
    }
    points = {point.architecture for point in run.evaluations()}
    assert whole.evaluations()[0].architecture in points  # whose process died once
    assert len(points) == PLAN.finalists - 4  # what fails is billed
    assert blamed == [f.architecture for f in run.failures() if type(f) is not Lost]
    lines = (run.folder / "evaluations.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert sum(entry.get("lost", False) for entry in told) == 3
    assert "set aside" in " ".join(step.message for step in steps)
    # Going on, without processes, tries none of them again.
    again = list(search(SPACE, run=run, budget=PLAN, rays=3, objectives=(*costs, ends)))
    assert list(again[-1].front) == list(steps[-1].front)
    assert ends.seen == []


def test_what_cannot_be_sent_is_refused_before_anything_is_trained(tmp_path, costs):
    local = NetworkSpace("local", lambda: Tiny(), rings)
    steps = search(local, objectives=costs, budget=PLAN, rays=3, workers=2)
    with pytest.raises(ValueError, match=r"cannot be pickled: .*lambda.*top of a file"):
        for step in steps:
            assert step.phase == "costs"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers must be"),
        ({"workers": "two"}, "workers must be"),
        ({"evaluation_timeout": "soon"}, "an evaluation timeout is a time such as"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(costs, settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        search(SPACE, objectives=costs, **settings)
