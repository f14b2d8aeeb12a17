"""The code of docs/adding-an-objective.md runs, and its objective obeys the laws."""

import re
import sys
import types
from pathlib import Path

import torch

from paretonas.graph import record
from paretonas.objectives import CostTable, DifferentiableObjective, Slot
from paretonas.space import Choice, every

PAGE = Path(__file__).parents[2] / "docs" / "adding-an-objective.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_the_example_counts_operations(supernet, example, monkeypatch):
    module = types.ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    exec(compile(BLOCKS[1], str(PAGE), "exec"), module.__dict__)
    operations = module.Operations.of(supernet, example)
    assert isinstance(operations, DifferentiableObjective)
    for architecture in every(supernet.choices):
        recording = record(supernet.extract(architecture), example)
        assert operations.exact(architecture) == len(recording.ops) - 1  # the input is no operation


def test_a_table_of_ones_own_is_read_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = types.SimpleNamespace(choices=(Choice("block1.op", ("skip", "conv3", "conv5")),))
    names = {"space": space, "torch": torch, "Slot": Slot, "CostTable": CostTable}
    exec(BLOCKS[2], names)
    assert names["table"].total_at({"block1.op": "conv5"}) == 2.5
