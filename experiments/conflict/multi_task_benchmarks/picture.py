"""Draw the shared parameters of the attention network of NYUv2, for each stage.

    python experiments/conflict/multi_task_benchmarks/picture.py

Writes `docs/where-conflict-appears/benchmarks.svg`. The numbers are counted in the network.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
from networks import WIDTHS, AttentionSegNet
from nyu_v2 import NYU_V2
from torch import nn

matplotlib.use("agg")
import matplotlib.pyplot as plt

TARGET = Path(__file__).parents[3] / "docs" / "where-conflict-appears" / "benchmarks.svg"
COLORS = ("#e69f00", "#009e73", "#cc79a7")  # of the tasks
SHARED = "#0072b2"


def main(target: Path = TARGET) -> None:
    """Draw a cell for each part, with its parameters."""
    tasks = [task.name for task in NYU_V2.tasks]
    network = AttentionSegNet([task.channels for task in NYU_V2.tasks])
    trunk = _stages(network.enter_down, network.rest_down)
    trunk += _stages(network.enter_up, network.rest_up)[::-1]
    between = _stages(network.between_down) + _stages(network.between_up)[::-1]
    rows = [("trunk", trunk, SHARED), ("between the masks", between, SHARED)]
    for name, down, up, color in zip(
        tasks, network.masks_down, network.masks_up, COLORS, strict=True
    ):
        rows.append((f"masks: {name}", _stages(down) + _stages(up)[::-1], color))
    plt.rcParams.update({"svg.hashsalt": "benchmarks", "font.size": 11})
    figure, axes = plt.subplots(figsize=(10, 4.4), layout="constrained")
    for y, (label, counts, color) in enumerate(rows):
        axes.text(-0.65, y, label, ha="right", va="center", color=color, weight="bold")
        for x, count in enumerate(counts):
            _cell(axes, x, y, count, color, 0.15 + 0.75 * (count / max(trunk)) ** 0.5)
    for y, (name, head, color) in enumerate(zip(tasks, network.heads, COLORS, strict=True), 2):
        _cell(axes, 10.6, y, _count(head), color, 0.0)
        axes.text(10.6, y + 0.33, name, ha="center", va="center", size=8, color=color)
    for x, width in enumerate((*WIDTHS, *WIDTHS[::-1])):
        axes.text(x, -0.75, f"{width}", ha="center", color="#555555")
    axes.text(2, -1.2, "down: channels of the stages", ha="center")
    axes.text(7, -1.2, "up", ha="center")
    axes.text(10.6, -0.75, "heads", ha="center")
    shared, total = sum(map(_numel, network.shared_parameters())), _count(network)
    both = sum(trunk) + sum(between)
    axes.text(
        -0.5, 4.95,
        f"Millions of parameters, {total / 1e6:.1f} in all. The solver sees {shared / 1e6:.1f}: in "
        f"{both / 1e6:.1f} (blue) the tasks compete;\nin a task's own masks the other gradients "
        "are 0. Heads get the gradient of their own loss.",
        va="top",
    )  # fmt: skip
    axes.set(xlim=(-3.4, 11.2), ylim=(5.9, -1.5))
    axes.axis("off")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def _cell(axes: plt.Axes, x: float, y: float, count: int, color: str, alpha: float) -> None:
    place = (x - 0.46, y - 0.44)
    axes.add_patch(plt.Rectangle(place, 0.92, 0.88, fc=color, alpha=alpha, lw=0))
    axes.add_patch(plt.Rectangle(place, 0.92, 0.88, fill=False, ec=color, lw=1))
    ink = "white" if alpha > 0.6 else "black"
    axes.text(x, y, f"{count / 1e6:.2f}", ha="center", va="center", color=ink)


def _stages(*parts: nn.ModuleList) -> list[int]:
    return [sum(map(_count, stage)) for stage in zip(*parts, strict=True)]


def _count(module: nn.Module) -> int:
    return sum(map(_numel, module.parameters()))


def _numel(parameter: nn.Parameter) -> int:
    return parameter.numel()


if __name__ == "__main__":
    main()
