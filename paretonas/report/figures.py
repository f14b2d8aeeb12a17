"""The figures of the report, each a piece of HTML that needs plotly.js on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from paretonas.front import Front
from paretonas.point import Cell, Point
from paretonas.report.words import cell, picks, roles, title

# Told apart by people who do not see all colors (Okabe and Ito 2008).
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GRAY = "#b8bec6"


def front_figure(front: Front, measured: Sequence[Point]) -> str:
    """The front in its first two objectives, the third as color, over all that was measured.

    Args:
        front: at least one point; with one objective only it is drawn against the point's rank.
        measured: every measured point; those that are not on the front become gray dots.
    """
    import plotly.graph_objects as go

    points = list(front)
    vertical, *others = front.objectives
    horizontal = others[0] if others else None
    color = others[1] if len(others) > 1 else None
    called = roles(front)

    def across(each: Sequence[Point]) -> list[float]:
        if horizontal is None:
            return [float(rank) for rank in range(1, len(each) + 1)]
        return [point.objectives[horizontal] for point in each]

    figure = go.Figure()
    dominated = [
        point
        for point in measured
        if point.architecture not in front
        and all(math.isfinite(point.objectives.get(name, math.nan)) for name in front.objectives)
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
            "colorbar": {"title": {"text": title(color), "side": "right"}, "thickness": 14},
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
    figure.update_xaxes(title=title(horizontal) if horizontal else "rank", rangemode="tozero")
    figure.update_yaxes(title=title(vertical))
    return as_html(figure, "front", 520)


def hypervolume_figure(history: Sequence[Mapping[str, Cell]]) -> str | None:
    """The hypervolume over the run's seconds, or its steps; None where it was not logged."""
    import plotly.graph_objects as go

    clock = "seconds" if any("seconds" in row for row in history) else "step"
    x, y = series(history, clock, "hypervolume")
    if not x:
        return None
    figure = go.Figure()
    # The front keeps its volume until a point enters: steps, not slopes.
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": COLORS[1], "width": 2.5, "shape": "hv"}
    )
    figure.update_xaxes(title="seconds since the start" if clock == "seconds" else "step")
    figure.update_yaxes(title="hypervolume")
    figure.update_layout(showlegend=False)
    return as_html(figure, "hypervolume", 340)


def conflict_figure(history: Sequence[Mapping[str, Cell]]) -> str | None:
    """The cosines between the objectives' gradients over the steps; None where none was logged."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for color, name in zip(COLORS, cosine_columns(history), strict=False):
        x, y = series(history, "step", name)
        smooth = _running_mean(y, max(1, len(y) // 30))
        if smooth != y:
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": color, "width": 1},
                opacity=0.25,
                showlegend=False,
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=x,
            y=smooth,
            mode="lines",
            name=between(name),
            line={"color": color, "width": 2.5},
            hovertemplate="step %{x}<br>cosine %{y:.2f}",
        )
    if not figure.data:
        return None
    figure.add_hrect(y0=-1.05, y1=0, fillcolor="#D55E00", opacity=0.06, line_width=0)
    figure.add_hline(y=0, line={"color": "#666", "width": 1})
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="cosine", range=[-1.05, 1.05])
    return as_html(figure, "conflict", 380)


def cosine_columns(history: Sequence[Mapping[str, Cell]]) -> list[str]:
    """The columns that hold cosines and are not empty."""
    names = {name for row in history for name in row if name.startswith("cosine_")}
    return [name for name in sorted(names) if series(history, "step", name)[0]]


def between(column: str) -> str:
    """Which gradients a column compares.

    >>> between("cosine_error_latency")
    'error and latency'
    """
    return " and ".join(cell(word) for word in column.removeprefix("cosine_").split("_"))


def series(
    history: Sequence[Mapping[str, Cell]], across: str, up: str
) -> tuple[list[float], list[float]]:
    """Two columns, in the rows that have both."""
    pairs = [(row.get(across), row.get(up)) for row in history]
    known = [
        (float(x), float(y))
        for x, y in pairs
        if isinstance(x, (int, float)) and isinstance(y, (int, float)) and math.isfinite(y)
    ]
    return [x for x, _ in known], [y for _, y in known]


def _running_mean(values: list[float], window: int) -> list[float]:
    """The mean of each value and those up to ``window - 1`` before it."""
    parts = [values[max(0, end - window) : end] for end in range(1, len(values) + 1)]
    return [sum(part) / len(part) for part in parts]


def _hover(point: Point, called: Sequence[str]) -> str:
    head = f"<b>{cell(point.id) or 'measured'}</b> {', '.join(called)}"
    values = {**point.objectives, **point.reported}
    lines = [f"{title(name)}: {cell(value)}" for name, value in values.items()]
    return "<br>".join([head, *lines, *picks(point.architecture)])


def as_html(figure: Any, name: str, height: int) -> str:
    """A part of a page, in the style of the house; `height` in pixels."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 64, "r": 24, "t": 28, "b": 56},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#24292f"},
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"size": 12}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"responsive": True, "displayModeBar": False},
    )
    return html
