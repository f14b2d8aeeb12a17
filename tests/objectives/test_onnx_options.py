"""Options that ONNX cannot hold are named, and only these; checked on all architectures."""

import sys
from random import Random

import pytest
import torch
from torch import nn

from paretonas.cli import run
from paretonas.devices.onnx_session import NotInOnnxError
from paretonas.nn import Depth, OneOf, Supernet
from paretonas.objectives import FileSize, default_objectives, onnx_options, profile
from paretonas.objectives.onnx_options import MOST, check_some, naming_options
from paretonas.space import every

X = torch.zeros(1, 2)


class Eigen(nn.Module):
    """What ONNX has no operation for."""

    def forward(self, x):
        return x * torch.linalg.eigvals(torch.eye(2)).real.sum()


def fine(rng: Random) -> nn.Module:
    return rng.choice([nn.ReLU, nn.Tanh, nn.Identity])()


def nested(seed: int) -> Supernet:
    """Choices, some inside of options or depths; an option in three is one that ONNX has not."""
    rng = Random(seed)

    def leaf() -> nn.Module:
        return Eigen() if rng.random() < 0.3 else fine(rng)

    def choice(depth: int) -> nn.Module:
        options = {f"o{i}": leaf() for i in range(rng.choice([2, 3]))}
        if depth and rng.random() < 0.7:
            options["in"] = nn.Sequential(choice(depth - 1), leaf())
        return OneOf(options)

    deep = Depth([nn.Sequential(fine(rng), choice(0)), leaf()], at_least=0)
    return Supernet(nn.Sequential(choice(1), deep, choice(1)))


@pytest.fixture
def quick(monkeypatch):
    """An export in no time, which fails if the network has what ONNX has not."""
    seen = []

    def exported(network, example, instead="use another backend"):
        seen.append(network)
        if any(isinstance(module, Eigen) for module in network.modules()):
            raise NotInOnnxError("the network", "no eigenvalues", instead)

    monkeypatch.setattr(onnx_options, "exported", exported)
    monkeypatch.setattr(onnx_options, "MOST", 100)
    monkeypatch.setattr(onnx_options, "DRAWS", 60)  # so that it finds what there is
    monkeypatch.setattr(onnx_options, "TRIES", 60)
    return exported


def holds(supernet: Supernet, architecture) -> bool:
    return not any(isinstance(m, Eigen) for m in supernet.extract(architecture).modules())


@pytest.mark.parametrize("seed", range(12))
def test_an_option_is_named_if_and_only_if_no_architecture_with_it_works(quick, seed):
    supernet = nested(seed)
    working = [a for a in map(supernet.canonical, every(supernet.choices)) if holds(supernet, a)]
    innocent = {pick for a in working for pick in supernet.taken(a)}
    guilty = {
        f"{choice.name}={option}"
        for i, choice in enumerate(supernet.choices)
        for j, option in enumerate(choice.options)
        if i in dict(innocent) and (i, j) not in innocent  # not what is inside another guilty one
    }
    with pytest.raises(NotInOnnxError) as caught, naming_options(supernet, X):
        raise NotInOnnxError("the network", "no eigenvalues", "do this")
    told = str(caught.value)
    if not working or not guilty:
        assert told == "ONNX cannot hold the network (no eigenvalues); do this"
        return
    them = "it" if len(guilty) == 1 else "them"
    named, _, rest = told.removeprefix("ONNX cannot hold the option").partition(" (")
    assert set(named.removeprefix("s").strip().split(", ")) == guilty
    assert rest == f"no eigenvalues); leave {them} out, or do this"


def test_what_works_is_not_looked_for_and_other_errors_pass(monkeypatch):
    monkeypatch.setattr(onnx_options, "exported", None)
    with naming_options(nested(0), X):
        pass
    with pytest.raises(KeyError), naming_options(nested(0), X):
        raise KeyError("other")


def test_many_options_are_not_all_tried(quick, monkeypatch):
    monkeypatch.setattr(onnx_options, "MOST", MOST)
    supernet = Supernet(
        nn.Sequential(*(OneOf({"a": nn.ReLU(), "b": Eigen(), "c": Eigen()}) for _ in range(6)))
    )
    with pytest.raises(NotInOnnxError, match="and others") as caught, naming_options(supernet, X):
        raise NotInOnnxError("the network", "no eigenvalues", "do this")
    assert str(caught.value).count("=") == MOST


def test_a_space_without_a_network_that_onnx_can_hold_is_refused(quick):
    check_some(Supernet(nn.Sequential(OneOf({"a": nn.ReLU(), "b": Eigen()}))), X, "do this")
    none = Supernet(nn.Sequential(OneOf({"a": nn.ReLU(), "b": nn.Tanh()}), Eigen()))
    with pytest.raises(NotInOnnxError, match=r"the network \(no eigenvalues\); do this"):
        check_some(none, X, "do this")


FILE = """
import torch
from torch import nn
from paretonas import NetworkSpace
from paretonas.nn import OneOf
from paretonas.training import Recipe
from search_spaces.images import digits_8x8

class Eigen(nn.Module):
    def forward(self, x):
        return x * torch.linalg.eigvals(x.unflatten(1, (2, 2)).detach()).real.sum()

def act():
    return OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh(), "eigen": Eigen()})

class Some(nn.Sequential):
    def __init__(self):
        layers = nn.Linear(64, 4), act(), nn.Linear(4, 4), act(), nn.Linear(4, 10)
        super().__init__(nn.Flatten(), *layers)

class All(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 4), act(), Eigen(), nn.Linear(4, 10))

some = NetworkSpace("some", Some, digits_8x8, Recipe(epochs=1))
none = NetworkSpace("none", All, digits_8x8, Recipe(epochs=1))
"""
NAMED = "ONNX cannot hold the options 2=eigen, 4=eigen (ONNX has no operation for aten.linalg_eig"
LEAVE = "leave them out, or "
TORCH = 'use --backend torch, in Python backend="torch"'


def in_no_time(*_):
    """What the newer exporter says after seconds, where the older one has failed."""
    raise ValueError("ONNX has no operation for aten.linalg_eig; replace it, or use another format")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("paretonas.devices.backend.PREFERRED", "onnxruntime")
    monkeypatch.setattr("paretonas.cli.compare._processes", lambda *_: None)
    monkeypatch.setattr("paretonas.export.onnx_file.write_onnx", in_no_time)
    (tmp_path / "exotic_spaces.py").write_text(FILE)
    monkeypatch.delitem(sys.modules, "exotic_spaces", raising=False)
    return tmp_path


COMMANDS = {
    "search": "--budget 60steps --out out",
    "compare": "--methods random --budget 2 --seeds 1 --out out",
    "profile": "--out costs.json",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_onnx_cannot_hold_is_named_by_every_command(here, command, capsys):
    words = [command, "--space", "exotic_spaces:some", *COMMANDS[command].split()]
    before = {*here.iterdir()}
    assert run([*words, "--backend", "onnxruntime"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert NAMED in line and LEAVE + TORCH in line
    assert {path for path in here.iterdir() if path.name in ("out", "costs.json")} <= before
    assert run(words) == 0  # nobody has named a backend
    said = capsys.readouterr().out
    assert f"latency is measured in eager torch, since {NAMED}" in said
    assert "onnxruntime" not in said.replace(TORCH, "")


@pytest.mark.parametrize(("command", "name"), [("search", "int8_error"), ("compare", "file_size")])
def test_what_needs_a_file_that_cannot_be_is_refused_before_anything_is_trained(
    here, command, name, capsys
):
    words = [command, "--space", "exotic_spaces:none", *COMMANDS[command].split()]
    assert run([*words, "--minimize", f"memory,{name}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "ONNX cannot hold the network (ONNX has no operation for aten.linalg_eig" in line
    assert line.endswith(f"minimize something else than {name}")
    assert not (here / "out").exists()


def test_in_python_the_error_names_the_options_and_the_way_out(here):
    from paretonas.names import find_space

    space = find_space("exotic_spaces:some")
    for make in (
        lambda: profile(space.supernet(), space.load_task().example(), cache=False),
        lambda: default_objectives(space),
    ):
        with pytest.raises(NotInOnnxError) as caught:
            make()
        assert NAMED in str(caught.value) and LEAVE + TORCH in str(caught.value)
    with pytest.raises(NotInOnnxError, match="something else than file_size"):
        FileSize.of(space.supernet(), space.load_task().example())
