"""The figure of a front; plotly is imported only when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paretonas._words import axis, cell, picks, title
from paretonas.point import Point

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Colors that color-blind people can distinguish (Okabe and Ito 2008).
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GRAY = "#b8bec6"


def draw(
    objectives: Sequence[str],
    maximize: Sequence[str],
    points: Sequence[Point],
    called: Mapping[str, Sequence[str]],
    measured: Sequence[Point],
) -> go.Figure:
    """Draw a front: the first two objectives are the axes, and the third is the color.

    Args:
        objectives: the names of the objectives; a single one is drawn against the point's rank.
        maximize: those of which larger values are better; each axis says which are.
        points: the points of the front.
        called: for the id of each point, the other names by which it can be picked.
        measured: all measured points; those that are not on the front become gray dots.
    """
    import plotly.graph_objects as go

    vertical, *others = objectives
    horizontal = others[0] if others else None
    color = others[1] if len(others) > 1 else None

    def across(each: Sequence[Point]) -> list[float]:
        if horizontal is None:
            return [float(rank) for rank in range(1, len(each) + 1)]
        return [point.objectives[horizontal] for point in each]

    entered = {point.architecture for point in points}
    figure = go.Figure()
    dominated = [
        point
        for point in measured
        if point.architecture not in entered
        and all(math.isfinite(point.objectives.get(name, math.nan)) for name in objectives)
    ]
    if dominated and horizontal is not None:
        figure.add_scatter(
            x=across(dominated),
            y=[point.objectives[vertical] for point in dominated],
            mode="markers",
            name="measured, dominated",
            marker={"color": GRAY, "size": 6},
            hovertext=[_hover(point, []) for point in dominated],
            hoverinfo="text",
        )
    marker: dict[str, Any] = {
        "size": 13,
        "line": {"color": "white", "width": 1.5},
        "color": COLORS[1],
    }
    if color is not None:
        marker |= {
            "color": [point.objectives[color] for point in points],
            "colorscale": "Viridis",
            "colorbar": {
                "title": {"text": axis(color, color in maximize), "side": "right"},
                "thickness": 14,
            },
        }
    figure.add_scatter(
        x=across(points),
        y=[point.objectives[vertical] for point in points],
        mode="markers+text",
        name="front",
        marker=marker,
        text=["<br>".join(called.get(point.id, [])) for point in points],
        textposition="top center",
        textfont={"size": 12},
        cliponaxis=False,
        hovertext=[_hover(point, called.get(point.id, [])) for point in points],
        hoverinfo="text",
    )
    across_title = axis(horizontal, horizontal in maximize) if horizontal else "rank"
    figure.update_xaxes(title=across_title, rangemode="tozero")
    figure.update_yaxes(title=axis(vertical, vertical in maximize))
    return styled(figure, 520)


def styled(figure: go.Figure, height: int) -> go.Figure:
    """Apply the common style to a figure and return it; `height` is in pixels."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 64, "r": 24, "t": 28, "b": 56},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#24292f"},
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"size": 12}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return figure


def _hover(point: Point, called: Sequence[str]) -> str:
    head = f"<b>{cell(point.id) or 'measured'}</b> {', '.join(called)}"
    values = {**point.objectives, **point.reported}
    lines = [f"{title(name)}: {cell(value)}" for name, value in values.items()]
    return "<br>".join([head, *lines, *picks(point.architecture)])
