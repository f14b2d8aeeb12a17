"""What all tests share."""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # (after the line above, which it reads)

torch.set_num_threads(1)
# The same cases every time, on machines of any speed.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture
def rng() -> torch.Generator:
    """A source of random numbers that starts anew for every test."""
    return torch.Generator().manual_seed(0)
