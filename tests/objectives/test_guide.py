"""The objective of docs/adding-an-objective.md counts what runs, on every architecture."""

import re
import sys
import types
from pathlib import Path

from paretonas.graph import record
from paretonas.objectives import DifferentiableObjective
from paretonas.space import every

PAGE = Path(__file__).parents[2] / "docs" / "adding-an-objective.md"


def test_the_example_counts_operations(supernet, example, monkeypatch):
    (code,) = re.findall(r"```python run my_objective.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = types.ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    task = types.SimpleNamespace(example=lambda: example)
    space = types.SimpleNamespace(supernet=lambda: supernet, load_task=lambda: task)
    operations = module.operations(space)
    assert isinstance(operations, DifferentiableObjective)
    for architecture in every(supernet.choices):
        recording = record(supernet.extract(architecture), example)
        assert operations.exact(architecture) == len(recording.ops) - 1  # the input is no operation
