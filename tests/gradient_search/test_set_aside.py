"""One option that does not run does not end a search: it is named, left alone, and written down."""

import itertools
import json
import math
from functools import partial
from random import Random, SystemRandom

import pytest
import torch
from torch import nn
from torch.nn import functional

import paretonas.cli.search as command
import paretonas.objectives.latency as latency_module
from paretonas import objectives
from paretonas.cli import run as cli
from paretonas.data import Data, split
from paretonas.devices.timer import Measurement
from paretonas.finalists import train_finalists
from paretonas.gradient_search import Plan
from paretonas.gradient_search.fault import shared_fault
from paretonas.gradient_search.search import search
from paretonas.gradient_search.weights import WeightTraining, trial
from paretonas.nn import BatchNorm1d, Depth, Linear, NetworkSpace, OneOf, Supernet, Width
from paretonas.objectives import CostTable, Memory, Parameters, profile
from paretonas.objectives.trained_metric import TrainedMetric
from paretonas.point import Failure
from paretonas.runs import Run
from paretonas.samplers.base import evaluate
from paretonas.space import Architecture, every, fair_paths
from paretonas.tasks import Classification
from paretonas.training import Recipe

PLAN = Plan(supernet_steps=60, proxy_evaluations=10, finalists=4, recipe=Recipe(1, 20, 0.03))


class DividesByZero(nn.Module):
    def forward(self, x):
        return x / (x - x)


class Raises(nn.Module):
    error: type[Exception] = RuntimeError

    def forward(self, x):
        raise self.error("no kernel for this")


class OutOfMemory(Raises):
    error = torch.OutOfMemoryError


class OutOfHostMemory(Raises):
    error = MemoryError


class NoGradient(nn.Module):
    """A root at 0: the loss is fine, its gradient is not."""

    def forward(self, x):
        return x + (x - x).abs().sqrt()


class OnlyTrains(nn.Module):
    def forward(self, x):
        if not self.training:
            raise RuntimeError("no evaluation mode")
        return x


class Diverges(nn.Module):
    """Works for some steps of training, which it counts in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        self.steps += self.training
        return x / (self.steps < 6)


def rings() -> Data:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 4, generator=generator)
    labels = torch.bucketize(inputs.norm(dim=1), torch.tensor([1.6, 2.2]))
    return split(inputs, labels, valid=40, test=40)


DATA = rings()
TASK = Classification.of(DATA)


class Cells(nn.Module):
    """Three cells that hold the bad option in different places."""

    def __init__(self, bad: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        cells = []
        for place in range(3):
            options = [("relu", nn.ReLU()), ("tanh", nn.Tanh())]
            options.insert(place, ("bad", bad()))
            cells += [OneOf(dict(options)), nn.Linear(6, 6)]
        self.cells = nn.Sequential(*cells)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.cells(self.stem(x)))


class OddWidth(nn.Module):
    """One of three widths does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 3, 4)
        self.stem, self.head = Linear(4, self.width), Linear(self.width, 3)

    def forward(self, x):
        y = self.stem(x)
        if y.shape[1] == 3:
            raise RuntimeError("an even number of channels is needed")
        return self.head(y)


class LastBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.deep = Depth([nn.Linear(4, 4), nn.ReLU(), DividesByZero()], at_least=0)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.deep(x))


class Inner(nn.Module):
    """Two bad options inside an option, the first of its choice among them; another is all bad."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        first = OneOf({"bad": DividesByZero(), "relu": nn.ReLU()})
        last = OneOf({"tanh": nn.Tanh(), "bad": Raises()})
        self.op = OneOf(
            {
                "skip": nn.Identity(),
                "deep": nn.Sequential(first, nn.Linear(6, 6), last),
                "lost": nn.Sequential(OneOf({"bad": DividesByZero(), "worse": Raises()})),
            }
        )
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.op(self.stem(x)))


class Tied(nn.Module):
    """The way back reads the weight of the way there."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.head = Width(2, 4, 6), nn.Linear(4, 3)
        self.stem, self.there = Linear(4, self.width), Linear(self.width, 4)

    def forward(self, x):
        code = self.there(self.stem(x))
        back = functional.linear(code, self.there.weight.t())
        return self.head(code * back.sum(dim=1, keepdim=True))


class ReadsTheSum(nn.Module):
    """Each score is changed alike: no loss tells."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.head = Width(2, 4, 6), nn.Linear(4, 3)
        self.there, self.back = Linear(4, self.width), Linear(self.width, 4)

    def forward(self, x):
        return self.head(self.back(self.there(x))) + self.there.weight.square().sum()


def space(network) -> NetworkSpace:
    return NetworkSpace("small", network, lambda: DATA, Recipe(1, 20, 0.03))


def costs(network) -> tuple:
    """Objectives that need no clock, of a network whose options were left out like the search's."""
    supernet = space(network).supernet()
    for failure in trial(space(network).supernet(), TASK, seed=0).options():
        ((choice, option),) = failure.architecture.items()
        supernet.set_aside(choice, option, failure.reason)
    return Parameters.of(supernet, DATA.example), Memory.of(supernet, DATA.example)


def searched(network, folder=None, **given):
    run = Run.create(folder, {}, "cpu", 0) if folder else None
    settings = {"objectives": costs(network), "budget": PLAN, "rays": 3, "run": run, **given}
    return list(search(space(network), **settings)), run


CASES = {
    bad.__name__: (lambda bad=bad: Cells(bad), {f"cells.{i}=bad" for i in (0, 2, 4)})
    for bad in (DividesByZero, Raises, OutOfMemory, OutOfHostMemory, NoGradient, OnlyTrains)
} | {
    "width": (OddWidth, {"width=3"}),
    "depth": (LastBlock, {"deep=3"}),
    "tied weight": (Tied, {"width=2", "width=4"}),
    "sum of a weight": (ReadsTheSum, {"width=2", "width=4"}),
    "inner": (Inner, {"op=lost", "op.options.deep.0=bad", "op.options.deep.2=bad"}),
}


@pytest.mark.parametrize("name", CASES)
def test_options_that_do_not_run_are_named_before_anything_is_trained(name):
    network, expected = CASES[name]
    supernet = space(network).supernet()
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    state = torch.get_rng_state()
    found = trial(supernet, TASK, seed=0).options()
    assert {str(failure.architecture) for failure in found} == expected
    assert all(torch.equal(before[k], v) for k, v in supernet.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_option_that_computes_something_else_once_it_is_taken_out_says_so():
    (found, _) = trial(space(Tied).supernet(), TASK, seed=0).options()
    assert "computes something else" in found.reason
    assert "reads a weight of an elastic layer" in found.reason


class Resting(nn.Module):
    """An elastic batch norm in evaluation mode, whose statistics are the plain layer's own."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 4, 6)
        self.norm, self.stem = BatchNorm1d(self.width).eval(), Linear(4, self.width)
        self.head = Linear(self.width, 3)

    def forward(self, x):
        return self.head(self.norm(self.stem(x)))


class Unrepeatable(Resting):
    """Draws from a generator that nobody can seed."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = BatchNorm1d(self.width)

    def forward(self, x):
        return super().forward(x) + SystemRandom().random()


class Masked(Unrepeatable):
    """Drops features, and gives one class no chance at all."""

    def forward(self, x):
        scores = functional.dropout(super(Unrepeatable, self).forward(x), 0.2, self.training)
        return torch.cat([scores, torch.full_like(scores[:, :1], -math.inf)], dim=1)


@pytest.mark.parametrize("network", [Resting, Unrepeatable, Masked])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_cannot_be_compared_or_differs_by_rounding_is_no_fault(network, dtype):
    supernet = space(network).supernet().to(dtype)
    assert trial(supernet, TASK, seed=0).options() == []


def test_a_probe_blames_nothing_where_everything_runs(space, supernet):
    assert trial(supernet, space.load_task(), seed=0).options() == []


DEEP = [pytest.param(name, marks=pytest.mark.deep) for name in ("Raises", "depth")]


@pytest.mark.parametrize("name", ["DividesByZero", "width", "inner", *DEEP])
def test_a_search_goes_on_without_what_does_not_run(tmp_path, name):
    network, expected = CASES[name]
    steps, run = searched(network, tmp_path / "run")
    told = [s.message.removeprefix("set aside ") for s in steps if "set aside" in s.message]
    assert {message.partition(": ")[0] for message in told} == expected
    assert told == [str(failure) for failure in run.failures()]
    assert [step.phase for step in steps[: len(told)]] == ["costs"] * len(told)
    assert len(run.evaluations()) == min(PLAN.finalists, len(runs_in(network, expected)))
    assert {p.architecture for p in run.evaluations()} <= runs_in(network, expected)
    assert len(steps[-1].front)


def runs_in(network, bad: set[str]) -> set[Architecture]:
    """The networks of a space that reach nothing bad, one architecture for each."""
    supernet = space(network).supernet()
    for pick in sorted(bad):
        supernet.set_aside(*pick.split("="), "")
    return {supernet.canonical(a) for a in every(supernet.choices)}


def test_an_option_that_diverges_while_weights_are_trained_is_set_aside(tmp_path):
    def network():
        return Cells(Diverges)

    steps, run = searched(network, tmp_path / "run")
    weights = [s for s in steps if s.phase == "weights" and "set aside" in s.message]
    picks = {str(failure.architecture) for failure in run.failures()}
    assert picks == {"cells.0=bad", "cells.2=bad", "cells.4=bad"}
    assert len(weights) == 3
    assert all("bad" not in p.architecture.values() for p in run.evaluations())
    lent = run.weights("supernet")
    assert all(bool(value.isfinite().all()) for value in lent.values())


def training(network, **recipe) -> WeightTraining:
    supernet = space(network).supernet()
    return WeightTraining(
        supernet, TASK, Recipe(1, 20, **{"learning_rate": 0.03, **recipe}), steps=40, seed=0
    )


@pytest.mark.parametrize("stop", [0, 3, 9, 14, 27, 40])
def test_a_training_with_failures_goes_on_bit_for_bit(stop):
    whole, first, rest = (training(lambda: Cells(Diverges)) for _ in range(3))
    losses = list(whole.run())
    assert whole.failures
    head = list(itertools.islice(first.run(), stop))
    rest.resume(first.state())
    again = [*head, *rest.run()]
    assert repr(again) == repr(losses)  # NaN where a path failed
    assert rest.failures == whole.failures
    pairs = zip(rest.supernet.parameters(), whole.supernet.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_what_was_set_aside_is_drawn_no_more_and_the_rest_stays_fair():
    supernet = space(lambda: Cells(nn.Identity)).supernet()
    supernet.set_aside("cells.2", "bad", "")
    paths = fair_paths(supernet.choices, Random(0), supernet.aside)
    taken = [path["cells.2"] for path in itertools.islice(paths, 20)]
    assert sorted(taken) == ["relu"] * 10 + ["tanh"] * 10


class Pair(nn.Module):
    """Two picks that do not go together; each of them works elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.one = OneOf({"tanh": nn.Tanh(), "exp": Exp()})
        self.two = OneOf({"tanh": nn.Tanh(), "exp": Exp()})
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.two(self.one(x + 10)))


class Exp(nn.Module):
    def forward(self, x):
        return x.exp()


def test_where_no_pick_is_to_blame_the_architecture_is_set_aside(tmp_path):
    steps, run = searched(Pair, tmp_path / "run", budget=Plan(30, 3, 3, PLAN.recipe))
    (failure,) = run.failures()
    assert failure.architecture == {"one": "exp", "two": "exp"}
    assert {len(p.architecture) for p in run.evaluations()} == {2}
    assert len(run.evaluations()) == 3
    assert "set aside one=exp two=exp: " in " ".join(step.message for step in steps)


# --- what still ends a search ---------------------------------------------------------------------


def test_a_network_that_never_runs_raises_its_own_error_and_names_an_architecture():
    with pytest.raises(RuntimeError, match="no kernel for this") as caught:
        next(search(space(lambda: nn.Sequential(Raises(), Cells(nn.Identity)))))
    assert "this is of 1.cells.0=bad 1.cells.2=relu" in caught.value.__notes__[0]


def test_a_supernet_that_diverges_whatever_the_path_says_so():
    job = training(lambda: Cells(nn.Identity), learning_rate=1e20)
    with pytest.raises((FloatingPointError, ValueError), match="whatever the path|no option left"):
        list(job.run())


def test_a_choice_without_an_option_left_names_them_all():
    supernet = space(OddWidth).supernet()
    supernet.set_aside("width", "2", "too few")
    supernet.set_aside("width", "4", "too many")
    with pytest.raises(ValueError, match=r"2: too few; 3: odd; 4: too many"):
        supernet.set_aside("width", "3", "odd")


def test_the_last_option_of_an_inner_choice_takes_the_outer_option_with_it():
    supernet = space(Inner).supernet()
    for option in ("bad", "relu"):
        supernet.set_aside("op.options.deep.0", option, "")
    assert all(supernet.canonical(a)["op"] != "deep" for a in every(supernet.choices))


def test_an_interruption_is_not_a_failure():
    class Interrupted(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(search(space(lambda: Cells(Interrupted))))


# --- proxy evaluations and finalists --------------------------------------------------------------


class Picky(nn.Module):
    """Fails where a number of examples is run that only one phase has."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.examples = examples

    def forward(self, x):
        return x / (x - x) if len(x) == self.examples else x


def test_a_look_that_fails_is_billed_and_not_tried_again(tmp_path):
    steps, run = searched(lambda: Cells(lambda: Picky(40)), tmp_path / "run")
    state = torch.load(run.folder / "checkpoint.pt", weights_only=True)["state"]["knowledge"]
    failed = {tuple(picks) for picks, _ in state["failed"]["inherited"]}
    assert failed
    assert len(state["inherited"]) + len(failed) == PLAN.proxy_evaluations
    assert all(
        f.architecture not in {p.architecture for p in run.evaluations()} for f in run.failures()
    )
    assert len(run.evaluations()) + len(state["failed"]["trained"]) == PLAN.finalists
    assert len(steps[-1].front)


def flaky(trainer, bad: str):
    """A trainer in which every architecture with an option fails."""

    def train(supernet, task, recipe, architectures, **settings):
        return [
            Failure(a, "the training loss became nan")
            if bad in a.values()
            else trainer(supernet, task, recipe, [a], **settings)[0]
            for a in architectures
        ]

    return train


def raising(trainer, bad: str):
    """A trainer that ends with the first architecture that has an option."""

    def train(supernet, task, recipe, architectures, **settings):
        if any(bad in a.values() for a in architectures):
            raise FloatingPointError("the training loss became nan")
        return trainer(supernet, task, recipe, architectures, **settings)

    return train


@pytest.mark.parametrize("wrap", [flaky, raising])
def test_a_finalist_that_fails_is_billed_and_the_others_are_kept(tmp_path, trainer, wrap):
    steps, run = searched(
        lambda: Cells(nn.ELU), tmp_path / "run", trainer=wrap(trainer, "bad"), budget=LONG
    )
    failures = run.failures()
    assert failures
    assert len(run.evaluations()) + len(failures) == LONG.finalists
    assert len({o.architecture for o in run.outcomes()}) == LONG.finalists
    told = [step.message for step in steps if "set aside" in step.message]
    assert told == [f"set aside {failure}" for failure in failures]
    assert len(steps[-1].front)
    assert steps[-1].step == steps[-1].steps


LONG = Plan(supernet_steps=30, proxy_evaluations=8, finalists=9, recipe=Recipe(1, 20, 0.03))


@pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.deep)])
def test_a_search_with_failures_goes_on_bit_for_bit(tmp_path, trainer, each):
    def network():
        return Cells(Diverges)

    given = {
        "trainer": flaky(trainer, "tanh"),
        "budget": LONG,
        "objectives": costs(network),
        "rays": 3,
    }

    def history(run):
        return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]

    whole = Run.create(tmp_path / "whole", {}, "cpu", 0)
    steps = list(search(space(network), run=whole, **given))
    assert len({len(f.architecture) for f in whole.failures()}) == 2
    told = [i for i, step in enumerate(steps, start=1) if "set aside" in step.message]
    for stop in (told[-2], told[1], told[-1])[::each]:
        run = Run.create(tmp_path / f"after-{stop}", {}, "cpu", 0)
        begun = search(space(network), run=run, **given)
        list(itertools.islice(begun, stop))
        begun.close()
        rest = list(search(space(network), run=run, **given))
        assert list(rest[-1].front) == list(steps[-1].front), stop
        assert run.outcomes() == whole.outcomes(), stop
        assert history(run) == history(whole), stop


def test_where_all_finalists_fail_the_last_message_says_so(tmp_path, trainer):
    def nothing(supernet, data, recipe, architectures, **settings):
        return [Failure(a, "the training loss became nan") for a in architectures]

    steps, run = searched(lambda: Cells(nn.ELU), tmp_path / "run", trainer=nothing)
    assert steps[-1].message == "all finalists failed: the training loss became nan"
    assert not len(steps[-1].front)
    assert len(run.failures()) == PLAN.finalists


def test_finalists_that_fail_are_failures_and_the_others_are_trained(trainer):
    """One raises, one gives NaN only when it is scored; the third is as if trained alone."""

    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            options = {"raises": Raises(), "nan": Picky(40), "good": nn.ReLU()}
            self.op, self.head = OneOf(options), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.op(x))

    supernet = Supernet(Three())
    asked = [Architecture({"op": op}) for op in ("raises", "good", "nan")]
    settings = {"seed": 0, "workers": 2}
    raised, good, scored = trainer(supernet, TASK, PLAN.recipe, asked, **settings)
    assert raised == Failure(asked[0], "RuntimeError: no kernel for this")
    assert scored == Failure(asked[2], "the loss on the valid split is nan")
    (alone,) = trainer(supernet, TASK, PLAN.recipe, asked[1:2], **settings)
    assert good.valid == alone.valid


def test_a_finalist_that_cannot_be_measured_is_a_failure(tmp_path, monkeypatch):
    measured = []

    def measure(loads, **settings):
        if len(loads) > 1:
            raise RuntimeError("all together is another test")
        measured.extend(loads)
        if len(measured) == 2:
            raise RuntimeError("the device is gone")
        return [Measurement(1.0 if len(measured) != 3 else math.nan, 0.1, 5)]

    monkeypatch.setattr(latency_module, "measure_together", measure)

    def network():
        return Cells(nn.ELU)

    table = objectives.Latency(CostTable(space(network).choices, [], unit="ms"))
    steps, run = searched(network, tmp_path / "run", objectives=(table,))
    reasons = [failure.reason for failure in run.failures()]
    assert reasons == ["RuntimeError: the device is gone", "latency_ms is nan"]
    assert len(run.evaluations()) == PLAN.finalists - 2
    assert len(steps[-1].front)


# --- an option that fails in proxy evaluations or finalists only -----------------------------


class FailsOnMany(nn.Module):
    """Raises in evaluation mode, on a number of examples that no trial has."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.examples = examples

    def forward(self, x):
        if not self.training and len(x) == self.examples:
            raise RuntimeError("too many examples")
        return x


class Exits(nn.Module):
    def forward(self, x):
        raise SystemExit("no license")


UNEVEN = split(torch.randn(200, 4), torch.arange(200) % 3, valid=40, test=41)
BAD = {f"cells.{i}=bad" for i in (0, 2, 4)}


@pytest.mark.parametrize("proxy_evaluations", [2, 10])
def test_an_option_that_fails_in_proxy_evaluations_only_is_set_aside_by_name(
    tmp_path, proxy_evaluations
):
    plan = Plan(30, proxy_evaluations, 4, PLAN.recipe)
    steps, run = searched(lambda: Cells(lambda: FailsOnMany(40)), tmp_path / "run", budget=plan)
    state = torch.load(run.folder / "checkpoint.pt", weights_only=True)["state"]["knowledge"]
    options = {str(f.architecture) for f in run.failures() if len(f.architecture) == 1}
    assert options
    assert options <= BAD
    assert len(state["failed"]["inherited"]) <= 3
    assert len(run.evaluations()) + len(state["failed"]["trained"]) == plan.finalists
    assert len(steps[-1].front)


def test_an_option_that_fails_in_evaluating_finalists_only_is_set_aside_by_name(tmp_path):
    bad = partial(Cells, lambda: FailsOnMany(41))
    uneven = NetworkSpace("uneven", bad, lambda: UNEVEN, Recipe(1, 20, 0.03))
    run = Run.create(tmp_path / "run", {}, "cpu", 0)
    steps = list(search(uneven, objectives=costs(bad), budget=LONG, rays=3, run=run))
    options = [f for f in run.failures() if len(f.architecture) == 1]
    assert options
    assert {str(f.architecture) for f in options} <= BAD
    assert len(steps[-1].front)
    again = list(search(uneven, objectives=costs(bad), budget=LONG, rays=3, run=run))
    assert list(again[-1].front) == list(steps[-1].front)


def picked(*picks: str) -> Architecture:
    return Architecture({f"cells.{2 * i}": pick for i, pick in enumerate(picks)})


TRAINED = [picked("relu", "relu", "tanh"), picked("tanh", "tanh", "relu")]
ACCUSING = [("bad", "relu", "tanh"), ("bad", "tanh", "tanh"), ("bad", "relu", "relu")]


@pytest.mark.parametrize(
    ("trained", "failed", "blamed"),
    [
        (TRAINED, ACCUSING, ["cells.0=bad"]),
        (TRAINED, ACCUSING[:2], []),  # too few
        ([], ACCUSING, []),  # others may be to blame
        ([*TRAINED, picked("bad", "tanh", "relu")], ACCUSING, []),  # it works elsewhere
        (TRAINED, [("bad", "relu", x) for x in ("relu", "tanh")], []),
        (TRAINED, [*ACCUSING[:2], ("bad", "bad", "relu")], []),  # another one may be to blame
    ],
)
def test_finalists_accuse_an_option_only_if_nothing_else_is_to_blame(trained, failed, blamed):
    supernet = space(lambda: Cells(nn.ELU)).supernet()
    reasons = {picked(*picks): "worn out" for picks in failed}
    found = shared_fault(supernet, trained, reasons)
    assert [str(failure.architecture) for failure in found] == blamed
    assert shared_fault(supernet, trained, {a: str(a) for a in reasons}) == []  # other reasons


@pytest.mark.parametrize("stops", ["last", pytest.param("all", marks=pytest.mark.deep)])
def test_options_blamed_by_looks_and_finalists_are_kept_bit_for_bit(tmp_path, stops):
    """Stopped after every kind of failure, a search goes on as if it had not been."""

    class Both(Cells):
        def __init__(self) -> None:
            super().__init__(lambda: FailsOnMany(40))
            self.cells[4].options["tanh"] = FailsOnMany(41)

    uneven = NetworkSpace("uneven", Both, lambda: UNEVEN, Recipe(1, 20, 0.03))
    given = {"objectives": costs(Both), "budget": LONG, "rays": 3}
    whole = Run.create(tmp_path / "whole", {}, "cpu", 0)
    steps = list(search(uneven, run=whole, **given))
    told = [i for i, step in enumerate(steps, start=1) if "set aside" in step.message]
    assert {steps[i - 1].phase for i in told} == {"alpha", "finalists"}
    for stop in told if stops == "all" else told[-1:]:
        run = Run.create(tmp_path / f"after-{stop}", {}, "cpu", 0)
        begun = search(uneven, run=run, **given)
        list(itertools.islice(begun, stop))
        begun.close()
        rest = list(search(uneven, run=run, **given))
        assert list(rest[-1].front) == list(steps[-1].front), stop
        assert run.outcomes() == whole.outcomes(), stop


def test_exiting_is_a_failure_of_the_option_that_does(tmp_path):
    steps, run = searched(lambda: Cells(Exits), tmp_path / "run")
    assert {str(f) for f in run.failures()} == {f"{pick}: SystemExit: no license" for pick in BAD}
    assert len(steps[-1].front)
    with pytest.raises(RuntimeError, match="no architecture runs; this is of .*no license"):
        next(search(space(lambda: nn.Sequential(Exits(), Cells(nn.Identity)))))


def test_a_trainer_or_an_objective_that_exits_loses_one_architecture(tmp_path, trainer):
    def exiting(supernet, task, recipe, architectures, **settings):
        if any("bad" in a.values() for a in architectures):
            raise SystemExit(3)
        return trainer(supernet, task, recipe, architectures, **settings)

    steps, run = searched(lambda: Cells(nn.ELU), tmp_path / "run", trainer=exiting, budget=LONG)
    whole = [f for f in run.failures() if len(f.architecture) > 1]
    assert {f.reason for f in whole} == {"SystemExit: 3"}
    assert len(run.evaluations()) + len(whole) == LONG.finalists
    assert len(steps[-1].front)

    class Exit:
        column = "ms"

        def exact(self, architecture):
            raise SystemExit(3)

    architecture = Architecture({"op": "a"})
    assert evaluate(architecture, [Exit()]) == Failure(architecture, "SystemExit: 3")


# --- cost tables ----------------------------------------------------------------------------------


class OddGroups(nn.Module):
    """Channels that groups do not divide: each width and each group works with others."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(4, 6)
        self.stem, self.head = Linear(4, self.width), Linear(self.width, 3)
        self.groups = OneOf({str(count): Groups(count) for count in (1, 3, 4)})

    def forward(self, x):
        return self.head(self.groups(self.stem(x)))


class Groups(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x):
        return x.unflatten(1, (self.count, -1)).sigmoid().flatten(1)


def test_picks_that_do_not_fit_together_end_neither_tables_nor_search(tmp_path):
    supernet = space(OddGroups).supernet()
    with pytest.warns(UserWarning, match="do not run mean nothing"):
        costs = Parameters.of(supernet, DATA.example), Memory.of(supernet, DATA.example)
    assert not supernet.aside
    for width, count in (("4", 4 * 4 + 4 + 4 * 3 + 3), ("6", 4 * 6 + 6 + 6 * 3 + 3)):
        assert costs[0].exact({"width": width, "groups": "1"}) == count
    with pytest.warns(UserWarning, match="do not run mean nothing"):
        _, run = searched(OddGroups, tmp_path / "run", objectives=costs, budget=LONG)
    assert {str(p.architecture) for p in run.evaluations()} == {
        f"width={width} groups={groups}"
        for width, groups in (("4", "1"), ("4", "4"), ("6", "1"), ("6", "3"))
    }
    assert {str(f.architecture) for f in run.failures()} == {"width=4 groups=3", "width=6 groups=4"}


def test_latency_is_profiled_without_what_does_not_run():
    for network, picks in ((lambda: Cells(Raises), 3), (OddGroups, 0)):
        supernet = space(network).supernet()
        with pytest.warns(UserWarning, match="do not run mean nothing|set aside"):
            table = profile(supernet, DATA.example, cache=False)
        assert len(supernet.aside) == picks
        assert all(table.total_at(a) > 0 for a in runs_in(network, set()))


def test_a_cost_table_warns_of_an_option_that_does_not_run_and_goes_on():
    supernet = space(lambda: Cells(Raises)).supernet()
    with pytest.warns(UserWarning, match=r"set aside cells.\d=bad: RuntimeError: no kernel"):
        memory = Memory.of(supernet, DATA.example)
    good = Architecture({"cells.0": "relu", "cells.2": "tanh", "cells.4": "relu"})
    expected = Memory.of(space(lambda: Cells(nn.Identity)).supernet(), DATA.example)
    assert memory.exact(good) == expected.exact(good)
    assert len(supernet.aside) == 3


def test_what_does_not_run_on_the_example_is_set_aside_too(tmp_path):
    with pytest.warns(UserWarning, match="set aside"):
        steps, run = searched(lambda: Cells(lambda: Raising(1)), tmp_path / "run")
    assert {str(f.architecture) for f in run.failures()} == {f"cells.{i}=bad" for i in (0, 2, 4)}
    assert len(steps[-1].front)


class Raising(Picky):
    def forward(self, x):
        if len(x) == self.examples:
            raise RuntimeError("no batch of this size")
        return x


# --- on disk --------------------------------------------------------------------------------------


def test_failures_are_lines_of_the_journal(tmp_path):
    run = Run.create(tmp_path / "run", {}, "cpu", 0)
    failure = Failure(Architecture({"op": "bad"}), "RuntimeError: no")
    run.record(failure)
    written = json.loads((run.folder / "evaluations.jsonl").read_text())
    assert written.pop("crc32")
    assert written == {"architecture": {"op": "bad"}, "failure": "RuntimeError: no"}
    assert run.evaluations() == []
    assert run.failures() == run.outcomes() == [failure]


def test_the_page_and_the_command_line_say_what_was_set_aside(tmp_path, monkeypatch, capsys):
    """With a word in the reason that HTML would take for a tag."""

    def run_command(name: str, trainer) -> tuple[int, str, str]:
        searching = partial(search, objectives=costs(OddWidth), rays=3, trainer=trainer)
        monkeypatch.setattr(
            command, "search", lambda run, **_: searching(space(OddWidth), budget=PLAN, run=run)
        )
        code = cli(["search", "--space", "toy", "--out", str(tmp_path / name)])
        return code, *capsys.readouterr()

    def failing(supernet, data, recipe, architectures, **settings):
        return [Failure(a, "ValueError: <b>") for a in architectures]

    code, out, _ = run_command("good", train_finalists)
    assert code == 0
    line = "width=3: RuntimeError: an even number of channels is needed"
    assert out.splitlines().count(f"set aside {line}") == 1
    page = (tmp_path / "good" / "report.html").read_text()
    assert "<td>width=3</td><td>RuntimeError: an even number of channels is needed</td>" in page
    code, out, err = run_command("bad", failing)
    assert code == 1
    assert err.startswith("paretonas: all finalists failed: ValueError: <b>; what was tried is in")
    assert "set aside width=2: ValueError: <b>" in out
    assert (tmp_path / "bad" / "checkpoint.pt").exists()


def test_a_comparison_bills_a_failure_in_the_words_of_the_training():
    error = TrainedMetric(space(lambda: Cells(Raises)))
    bad, good = (Architecture({f"cells.{i}": op for i in (0, 2, 4)}) for op in ("bad", "relu"))
    assert evaluate(bad, [error]) == Failure(bad, "RuntimeError: no kernel for this")
    assert 0 <= evaluate(good, [error]).objectives["error_percent"] <= 100
