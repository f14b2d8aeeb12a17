"""A checkpoint and a file of weights are whole, or they are refused by name."""

import random

import pytest
import safetensors.torch
import torch

from paretonas._tensor_files import (
    is_whole,
    read_checkpoint,
    read_weights,
    write_checkpoint,
    write_weights,
)

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7)}
KINDS = {
    "checkpoint": (write_checkpoint, read_checkpoint, torch.save),
    "weights": (write_weights, read_weights, safetensors.torch.save_file),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    """How a file is written, how it is read, and how older versions wrote it; and a place."""
    return *KINDS[request.param], tmp_path / "file"


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_was_written_is_read(kind):
    write, read, _, path = kind
    write(path, STATE)
    assert same(read(path), STATE)


def test_other_programs_read_it(tmp_path):
    write_checkpoint(tmp_path / "a.pt", STATE)
    assert same(torch.load(tmp_path / "a.pt", weights_only=True), STATE)
    write_weights(tmp_path / "a.safetensors", STATE)
    assert same(safetensors.torch.load_file(tmp_path / "a.safetensors"), STATE)


def test_files_of_older_versions_are_read(kind):
    _, read, older, path = kind
    older(STATE, path)
    assert same(read(path), STATE)


def test_weights_may_be_none_and_share_memory(tmp_path):
    for state in ({}, {"a": STATE["weight"], "b": STATE["weight"], "c": STATE["weight"].T}):
        write_weights(tmp_path / "file", state)
        assert same(read_weights(tmp_path / "file"), state)


def test_a_flipped_bit_is_seen_wherever_it_is(kind):
    write, read, _, path = kind
    write(path, STATE)
    whole, rng = path.read_bytes(), random.Random(0)
    for place in range(len(whole)):
        for bit in {rng.randrange(8), 5}:  # the fifth changes the case of a letter
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="file is damaged"):
                read(path)


def test_a_file_that_ends_early_or_late_is_seen(kind):
    write, read, _, path = kind
    write(path, STATE)
    whole = path.read_bytes()
    for content in [*(whole[:length] for length in range(len(whole))), whole + b"\0"]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="file is damaged"):
            read(path)


def test_a_damaged_checkpoint_is_not_whole(tmp_path):
    path = tmp_path / "file"
    write_checkpoint(path, STATE)
    assert is_whole(path)
    path.write_bytes(path.read_bytes().replace(b"steps", b"stops"))
    assert not is_whole(path)
    path.write_bytes(b"")
    assert not is_whole(path)
