"""The figure of a record: which pairs conflict, when, in which layers, and which task dominates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from paretonas.conflict import panels

if TYPE_CHECKING:
    from paretonas.conflict.recorder import Recorder

GAP = 84  # pixels between panels, for axis titles and panel titles


def draw(record: Recorder) -> Any:
    """Draw a plotly figure, panel by panel, from top to bottom.

    Raises:
        ValueError: nothing was recorded, or there is only one task.
    """
    from plotly.subplots import make_subplots

    names = record.names or ()
    if not len(record) or len(names) < 2:
        raise ValueError(
            "a picture of conflict needs at least one recorded step and two tasks, "
            f"got {len(record)} steps and {len(names)} tasks"
        )
    stack = _stack(record, len(names))
    inner = sum(panel.height for panel in stack) + GAP * (len(stack) - 1)
    figure = make_subplots(
        rows=len(stack),
        cols=1,
        row_heights=[panel.height for panel in stack],
        vertical_spacing=GAP / inner,
        subplot_titles=[panel.title for panel in stack],
    )
    times = panels.Times(record.steps)
    for row, panel in enumerate(stack, start=1):
        figure.layout.annotations[row - 1].update(x=0, xanchor="left", yshift=6, font_size=15)
        top = figure.layout[panels.nth("yaxis", row)].domain[1]
        # In the order of the picture: lines in their order, areas from the top of the stack.
        order = "normal" if panel.draw is panels.lines else "reversed"
        beside = {"x": 1.01, "y": top, "yanchor": "top", "traceorder": order}
        figure.update_layout({panels.nth("legend", row): beside})
        if panel.draw is not panels.matrix:
            title = {"text": "step", "standoff": 4}
            together = "x" if row > 1 else None
            figure.update_xaxes(title=title, matches=together, row=row, col=1)
        panel.draw(figure, row, record, times)
    figure.update_layout(
        template="plotly_white",
        height=inner + 48 + 56,
        margin={"l": 72, "r": 24, "t": 48, "b": 56},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#24292f"},
        hoverlabel={"bgcolor": "white", "font": {"size": 12}},
    )
    return figure


class _Panel(NamedTuple):
    title: str
    height: int  # pixels
    draw: Callable[[Any, int, Recorder, panels.Times], None]


def _stack(record: Recorder, m: int) -> list[_Panel]:
    layers = 0 if record.layers is None else len(record.layers.names)
    tall = min(max(18 * layers, 70), 460)
    length = "Share of each task in the length of the gradients"
    if m * (m - 1) // 2 <= len(panels.COLORS):
        pairs = "Cosine between the gradients of each pair"
        by_layer = "Cosine in each layer" + (", mean over the pairs" if m > 2 else "")
        return [
            _Panel(pairs, 230, panels.lines),
            *([_Panel(by_layer, tall, panels.layer_cosines)] if layers else []),
            _Panel(length, 170, panels.shares_of_length),
        ]
    by_layer = "Share of the pairs in conflict, by layer"
    who = "Share of the steps in which each pair is in conflict"
    return [
        _Panel("Share of the pairs in each state", 190, panels.states),
        *([_Panel(by_layer, tall, panels.layer_conflicts)] if layers else []),
        _Panel(length, 170, panels.shares_of_length),
        _Panel(who, 15 * max(m, 16), panels.matrix),
    ]
