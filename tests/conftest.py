"""What all tests share."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]

os.environ["XDG_CACHE_HOME"] = str(ROOT / ".pytest_cache" / "cache")
os.environ["OMP_NUM_THREADS"] = "1"  # torch obeys; it is not imported here, for seconds
if sys.dont_write_bytecode:  # each process of a test would compile torch and pandas anew
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(ROOT / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # `python -B` sets none

# The same cases every time, on machines of any speed; three times as many in the deep run.
settings.register_profile("house", deadline=None, derandomize=True)
settings.register_profile("deep", settings.get_profile("house"), max_examples=300)
settings.load_profile("house")


@pytest.fixture
def rng():
    """A source of random numbers that starts anew for every test."""
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture
def quick_processes(monkeypatch):
    """Processes that need not import everything anew, since they are forked."""
    from paretonas import _processes

    monkeypatch.setattr(_processes, "START", "fork")


@pytest.fixture(scope="module")
def experiment() -> Iterator[Callable[[str], ModuleType]]:
    """Import a script of `experiments/` by its place, such as "solvers/toy_problems"."""
    before = list(sys.path)

    def imported(place: str) -> ModuleType:
        folder, name = place.split("/")
        path = str(ROOT / "experiments" / folder)
        if path not in sys.path:  # as python does for a script: those of a folder import each other
            sys.path.insert(0, path)
        return importlib.import_module(name)

    yield imported
    sys.path[:] = before


_SHORT = {
    "paretonas.objectives.latency": {"ALONE_SECONDS": 0.005},
    "paretonas.objectives.profile_like": {"SECONDS": 0.05},
    "paretonas.objectives.energy": {"ALONE_SECONDS": 0.02},
    "paretonas.objectives.part_times": {"SECONDS": 0.05},
    "paretonas.objectives.calibration": {"SECONDS": 0.05, "ARCHITECTURES": 8},
    "paretonas.objectives.node_times": {"NETWORKS": 6, "RUNS": 4},
    "paretonas.gradient_search.results": {"TOGETHER": 0.003},
    "paretonas.devices.backend": {"PREFERRED": "torch"},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU, visibly, on a machine without one."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_runtest_setup() -> None:
    """Measure for moments, in eager torch: most tests need a latency, and not a good one."""
    if "torch" in sys.modules:
        for name, values in _SHORT.items():
            vars(importlib.import_module(name)).update(values)


@pytest.fixture
def one_process(monkeypatch) -> None:
    """All runs of a comparison in this process: another one imports torch for seconds."""
    monkeypatch.setattr("paretonas.cli.compare._processes", lambda *_: None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Where real benchmark tables lie beside the repository; without them the test is skipped."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the benchmark tables are not beside the repository, in ../shared/data")
    pytest.importorskip("pyarrow", reason="the tables are parquet: pip install 'paretonas[bench]'")
    return folder
