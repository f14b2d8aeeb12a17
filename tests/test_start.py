"""Weights that a network starts from: what fits is loaded, what does not is named."""

import io
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from torch import nn

from paretonas.nn import Linear, NetworkSpace, OneOf, Width
from paretonas.nn.start import read_state
from search_spaces.images import digits_8x8


class Net(nn.Module):
    """A frozen trunk, and a choice behind it."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6))
        self.trunk.requires_grad_(False)
        self.act = OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()})
        self.width = Width(4, 8)
        self.hidden = Linear(6, self.width)
        self.head = Linear(self.width, 10)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    def forward(self, x):
        return self.head(self.hidden(self.act(self.trunk(x))))


SPACE = NetworkSpace("net", Net, digits_8x8)
SMALL, LARGE = {"act": "tanh", "width": "4"}, {"act": "relu", "width": "8"}


def state(seed=3):
    torch.manual_seed(seed)
    network = Net()
    network.trunk[2].running_mean.normal_()
    return network.state_dict()


def only(prefix):
    return {name: value for name, value in state().items() if name.startswith(prefix)}


# --- what fits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["weights.pt", "weights.safetensors", "in memory"])
def test_every_network_starts_from_the_weights(kind, tmp_path):
    path = tmp_path / kind
    weights = state()
    if kind == "weights.pt":
        torch.save(weights, path)
    elif kind == "weights.safetensors":
        safetensors.torch.save_file(weights, path)
    supernet = SPACE.start_from(weights if kind == "in memory" else path).supernet(seed=5)
    large = supernet.fresh(LARGE, seed=9)
    for network in (supernet.network, large, supernet.extract(LARGE)):
        for name, value in network.state_dict().items():
            assert torch.equal(value, weights[name]), name
    small = supernet.fresh(SMALL, seed=9).state_dict()
    assert torch.equal(small["head.weight"], weights["head.weight"][:, :4])
    assert torch.equal(small["hidden.weight"], weights["hidden.weight"][:4])


def test_what_the_weights_lack_is_as_the_constructor_says():
    plain, started = SPACE.supernet(), SPACE.start_from(only("trunk.")).supernet()
    for architecture in (SMALL, LARGE):
        before = plain.fresh(architecture, seed=4)
        after = started.fresh(architecture, seed=4)
        kept = {name: p for name, p in before.state_dict().items() if not name.startswith("trunk.")}
        assert kept
        for name, value in kept.items():
            assert torch.equal(after.state_dict()[name], value), name
        for name, value in only("trunk.").items():
            assert torch.equal(after.state_dict()[name], value), name
        frozen = {name for name, p in after.named_parameters() if not p.requires_grad}
        assert frozen == {name for name, p in before.named_parameters() if not p.requires_grad}
        assert frozen == {name for name, _ in after.named_parameters() if "trunk" in name}


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_of_a_training_holds_the_weights_under_a_usual_name(key, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, key: only("trunk."), "optimizer": {"state": {}}}, path)
    found = read_state(path)
    assert found.keys() == only("trunk.").keys()
    assert all(torch.equal(found[name], value) for name, value in only("trunk.").items())


def test_the_weights_are_those_of_the_time_of_the_call():
    weights = state()
    space = SPACE.start_from(weights)
    expected = weights["head.weight"].clone()
    weights["head.weight"].zero_()  # as if the other network were trained on
    assert torch.equal(space.supernet().network.head.weight, expected)
    space.supernet().network.head.weight.data.zero_()
    assert torch.equal(space.supernet().network.head.weight, expected)


def test_weights_in_half_precision_are_loaded_in_that_of_the_network():
    space = SPACE.start_from({"head.weight": state()["head.weight"].half()})
    weight = space.supernet().network.head.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state()["head.weight"].half().float())


# --- what does not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"module.head.weight": torch.ones(10, 8)}, "called 'module.head.weight', and the network"),
        ({"head.weights": torch.ones(10, 8)}, "has none; did you mean 'head.weight'"),
        ({"head.weight": torch.ones(10, 4)}, r"shape \(10, 4\) in .*\(10, 8\) in the network, at"),
        ({"head.bias": torch.full((10,), torch.nan)}, "head.bias in .* not finite"),
        ({"trunk.2.running_var": torch.full((6,), torch.inf)}, "running_var in .* not finite"),
        ({"mask": torch.tensor([0.0, torch.nan])}, "mask in .* not finite"),
        ({"head.bias": 3}, "a dict of tensors by name, got int for 'head.bias'"),
        ({}, "a dict of tensors by name, got an empty one"),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        SPACE.start_from(weights)
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=message) as caught:
        SPACE.start_from(tmp_path / "weights.pt")
    assert str(tmp_path / "weights.pt") in str(caught.value)


class Harmful:
    def __reduce__(self):
        return print, ("run!",)


def pickled(path):
    path.write_bytes(pickle.dumps({"head.bias": Harmful()}))


def with_a_module(path):
    torch.save(Net(), path)


def cut_short(path):
    torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:-200])


def damaged(path):
    """A byte of the description of the tensors is another one."""
    whole = io.BytesIO()
    torch.save(state(), whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, b"\xff" + content[1:] if name.endswith("data.pkl") else content)


def text(path):
    path.write_text("weights")


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("write", [pickled, with_a_module, cut_short, damaged, text, empty])
def test_a_file_that_holds_no_weights_is_refused_and_nothing_in_it_is_run(
    write, name, tmp_path, capsys
):
    path = tmp_path / name
    write(path)
    with pytest.raises(ValueError, match=f"{name} is no file of weights .*: give a .safetensors"):
        SPACE.start_from(path)
    assert "run!" not in capsys.readouterr().out


def test_files_that_hold_something_else_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    for content, found in ((torch.ones(3), "Tensor"), ([torch.ones(3)], "list")):
        torch.save(content, path)
        with pytest.raises(ValueError, match=f"a dict of tensors by name, got {found}"):
            SPACE.start_from(path)
    torch.save({1: torch.ones(3)}, path)
    with pytest.raises(ValueError, match="a dict of tensors by name, got Tensor for 1"):
        SPACE.start_from(path)
    with pytest.raises(FileNotFoundError, match="no file of weights .*nowhere"):
        SPACE.start_from(tmp_path / "nowhere.pt")
