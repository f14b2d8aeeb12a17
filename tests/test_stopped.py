"""A command that is stopped, whatever it is in the middle of: its code, its hint, its processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paretonas._lock import held
from paretonas.runs import Run

MY_FILE = """
import os, time
import torch
from torch import nn
from paretonas.data import split
from paretonas.nn import NetworkSpace, OneOf
from paretonas.training import Recipe

def inside():
    with open("inside", "a") as file:
        file.write(f"{os.getpid()} ")

class LongOperation(nn.Module):
    def forward(self, x):
        if os.path.exists("paretonas/history.csv") and not torch.is_inference_mode_enabled():
            inside()
            big = torch.ones(8000, 8000)
            big @ big
        return x

class Net(nn.Module):
    def __init__(self, long=False):
        super().__init__()
        self.stem, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
        self.op = OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh(), "none": nn.Identity()})
        self.long = LongOperation() if long else nn.Identity()

    def forward(self, x):
        return self.head(self.op(self.long(self.stem(x))))

def slow():
    return Net(long=True)

def data():
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    return split(x, (x.norm(dim=1) > 2).long(), valid=40, test=40)

def sleep(*training):
    inside()
    while True:
        time.sleep(1)

class Sleeps:
    column = "sleeps"

    def exact(self, architecture):
        sleep()

space = NetworkSpace("net", slow, data, Recipe(1, batch_size=20))
trains = NetworkSpace("net", Net, data, Recipe(1, batch_size=20, fit=sleep))
"""
CASES = {
    "supernet": "search --space my_file:space --budget 400steps --minimize memory",
    "finalist": "search --space my_file:trains --budget 400steps --minimize memory",
    "workers": "search --space my_file:trains --budget 400steps --minimize memory --workers 2",
    "evaluations": "compare --space toy --minimize memory,my_file:Sleeps --methods random,nsga2 "
    "--budget 4 --seeds 2 --jobs 2",
}
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}


@pytest.mark.deep
@pytest.mark.timeout(400)  # fresh processes import all anew, also on a busy machine
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("case", CASES)
def test_it_ends_with_its_processes_and_can_go_on(tmp_path, case, number):
    (tmp_path / "my_file.py").write_text(MY_FILE)
    words = [*CASES[case].split(), "--out", "paretonas"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from paretonas.cli import main; main()", *words],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        # Whoever runs the tests in the background of a shell has interrupts ignored, children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    inside = tmp_path / "inside"
    while process.poll() is None and not inside.exists():
        time.sleep(0.05)
    time.sleep(0.5)
    (os.kill if number == signal.SIGTERM else os.killpg)(process.pid, number)
    # Ends when nobody holds the other end any more, the workers included.
    _, error = process.communicate(timeout=60)
    assert process.returncode == SIGNALS[number], error
    folder = tmp_path / "paretonas"
    if number == signal.SIGKILL:
        assert error == ""
    else:
        parts = CASES[case].split()
        again = f"paretonas {parts[0]} --resume paretonas "
        assert error.startswith(f"paretonas: stopped; to go on: {again}"), error
        assert len(error.splitlines()) == 1
        assert ("--workers 2" in error) == (case == "workers")
    with held(folder):  # nobody keeps the lock
        pass
    if case != "evaluations":
        assert Run.open(folder).evaluations() == []
